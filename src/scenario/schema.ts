// The format of scenario files as a JSON Schema (draft 7): the reader checks files with it, and docs/scenario.schema.json is a copy for
// editors, written by the build. Imports names of the layers below. Of the keywords, only those that validate.ts knows are used.
import { REASON_NAMES } from "../engine/layout.js";
import { ERRNO } from "../uapi/errno.js";
import type { Schema } from "./validate.js";

const HEX = "0x[0-9a-fA-F]{1,16}";
const NAME = "[A-Za-z_][A-Za-z0-9_]*";
const LAST_SAFE = Number.MAX_SAFE_INTEGER;
/** Why an access may fail whose translation the IOMMU did not refuse, or whose page nobody provided. */
const REASONS_OF_VIEWS = [
  "dropped", "no-memory", "device-memory", "zero-memory", "page-request-invalid", "page-request-failed", "page-request-timeout",
  "page-request-retries",
];
/** Bytes that one step may move. */
const MOST_BYTES = 1 << 24;

const number: Schema = {
  type: ["integer", "string"], minimum: 0, maximum: LAST_SAFE, pattern: `^${HEX}$`,
  description: "A number from 0 on, or hexadecimal text such as \"0x40000000\", of at most 64 bits.",
};
const value: Schema = {
  type: ["integer", "string"], minimum: 0, maximum: LAST_SAFE, pattern: `^(${HEX}|\\$${NAME}(\\.${NAME})*)$`,
  description: "A number, hexadecimal text, or \"$name\" or \"$name.field\" of an earlier step's `as`, or of a constant of the uAPI.",
};
const length: Schema = {
  ...number, minimum: 1, maximum: MOST_BYTES, pattern: "^0x[0-9a-fA-F]{1,6}$", description: `Bytes, at most ${MOST_BYTES}.`,
};
const text: Schema = { type: "string", minLength: 1 };
const name: Schema = { type: "string", pattern: `^${NAME}$`, description: "The name that later steps use for what this one answers." };
const flag: Schema = { type: "boolean" };
const anything: Schema = { description: "Any JSON. Texts that begin with 0x are numbers, those that begin with $ are names." };

const ref = (definition: string): Schema => ({ $ref: `#/definitions/${definition}` });

/** An object with these properties and no others. */
function object(required: Readonly<Record<string, Schema>>, optional: Readonly<Record<string, Schema>> = {}, description?: string): Schema {
  return {
    ...(description === undefined ? {} : { description }),
    type: "object", properties: { ...required, ...optional }, required: Object.keys(required), additionalProperties: false,
  };
}

const list = (items: Schema, minItems = 0): Schema => ({ type: "array", items, minItems });

/** The ways to write bytes, as properties. */
const CONTENTS: readonly Readonly<Record<string, Schema>>[] = [
  { bytes: { type: "string", pattern: "^([0-9a-fA-F]{2} ?)+$", description: "Bytes in hexadecimal, with or without spaces." } },
  { words: { ...list(ref("number"), 1), description: "64-bit words, each in little-endian order." } },
  { fill: { ...number, maximum: 255, pattern: "^0x[0-9a-fA-F]{1,2}$", description: "One byte, again and again." }, length },
];
const contents = CONTENTS.map((content) => object(content));

const refusal = object(
  { errno: { enum: Object.keys(ERRNO) } },
  { field: text, value: anything, conflict: anything },
  "The call must be refused, with this errno; `field`, `value` and `conflict` are those of its error.",
);
const fault = object({
  fault: object(
    { reason: { enum: [...REASON_NAMES.slice(1), ...REASONS_OF_VIEWS] } },
    {
      iova: ref("value"), access: { enum: ["r", "w"] }, device: text, label: ref("value"), cookie: ref("value"), level: { type: "integer" },
      stage: { type: "integer", minimum: 0, maximum: 2 }, pte: ref("value"), pasid: ref("value"),
    },
  ),
}, {}, "The access must be refused, by a fault with these fields.");

/** A result, or a refusal: an object with `errno` is one. */
const answer: Schema = {
  description: "What the call must answer: of a structure the fields that are named, of a list all. With `errno`: how it must be refused.",
  if: { type: "object", required: ["errno"] }, then: ref("refusal"),
};

const note: Schema = { ...text, description: "Shown before the step." };
const access = { read: { ...ref("value") }, write: { ...ref("value") } };
/** With neither, DMA has no PASID. */
const route = { pasid: ref("value"), work: { ...ref("value") } };
/** DMA that may wait for pages. */
const waiting = {
  pending: { ...name, description: "The access waits for missing pages while the scenario goes on; a later step waits for it by this name." },
  timeout: { ...number, maximum: 60_000, pattern: "^0x[0-9a-fA-F]{1,4}$", description: "With `pending`: milliseconds, at most 60000, until it gives up." },
};

function step(description: string, required: Readonly<Record<string, Schema>>, optional: Readonly<Record<string, Schema>> = {}): Schema {
  return object(required, { note, ...optional }, description);
}

const steps: readonly Schema[] = [
  step("Opens a file: /dev/ioasid, /dev/vfio/devices/<name>, /dev/vfio/<group>, /dev/kvm.", { open: { type: "string" } },
    { mode: ref("number"), as: name, expect: ref("refusal") }),
  step("A call on an fd.", {
    ioctl: { type: "string", pattern: `^(${HEX}|[A-Z][A-Z0-9_]*)$`, description: "Name of the request, or its number." },
    fd: ref("value"),
  }, { arg: anything, as: name, expect: answer }),
  step("Closes an fd.", { close: ref("value") }, { expect: ref("refusal") }),
  step("Backs host virtual addresses of the process.", {
    mmap: object({ hva: ref("value"), size: ref("value") }, {
      prot: { enum: ["r", "w", "rw"] },
      backing: {
        oneOf: [{ enum: ["ram", "zero"] }, object({ device: ref("value") })], description: "RAM (default), a window of zeros, or device memory.",
      },
    }),
  }, { as: name, expect: answer }),
  step("Takes back one mmap.", { munmap: object({ hva: ref("value"), size: ref("value") }) }, { expect: ref("refusal") }),
  step("Writes to the memory of the process, which is the guest's RAM.", {
    put: list({ oneOf: CONTENTS.map((content) => object({ at: ref("value"), ...content })) }, 1),
  }, { expect: ref("refusal") }),
  step("Reads the memory of the process, from this host virtual address on.",
    { get: ref("value"), expect: { oneOf: [...contents, ref("refusal")] } }),
  step("Work for a device: the guest's CPU sends 64 bytes to its portal, with its PASID.", {
    enqcmd: text, vm: ref("value"), pasid: ref("value"), descriptor: { oneOf: contents },
  }, { room: { ...flag, description: "Whether the device has room for it; default true." }, as: name, expect: answer }),
  step("DMA of a device: it reads from this iova.", { dma: text, read: access.read },
    { length, ...route, ...waiting, expect: { oneOf: [...contents, ref("fault")] } }),
  ...CONTENTS.map((content) => step("DMA of a device: it writes to this iova.",
    { dma: text, write: access.write, ...content }, { ...route, ...waiting, expect: ref("fault") })),
  step("Waits until DMA that is pending has ended.", { wait: ref("value") }, { expect: { oneOf: [...contents, ref("fault")] } }),
  step("Takes the next record of the fault queue of an fd of /dev/ioasid; null: there is none.", { fault: ref("value") }, { as: name, expect: anything }),
  ...(["read", "write"] as const).map((way) => step(`Where a ${way} of a device would go.`, {
    translate: text, [way]: access[way], expect: { oneOf: [object({ hpa: ref("value") }), object({ hva: ref("value") }), ref("fault")] },
  }, route)),
  step("Bytes charged to the lock limit: by the process, or by an ioasid of `fd`.", { charge: { const: "process" }, expect: ref("value") }),
  step("Bytes charged to the lock limit by an ioasid.", { charge: ref("value"), fd: ref("value"), expect: ref("value") }),
];

const iommu = object({}, {
  name: text, preset: { enum: ["vtd", "vtd-scalable", "smmuv3", "amd"] }, stage: { enum: [1, 2] }, granule: ref("number"),
  addressWidth: ref("number"), outputWidth: ref("number"),
  reserved: list(object({ first: ref("number"), last: ref("number"), why: text })),
  nesting: flag, pageRequests: flag, dirtyTracking: flag, pasidBits: ref("number"),
});

const device = object({ name: text }, {
  rid: ref("number"), iommu: text, group: ref("number"), parent: text, pasids: { enum: ["none", "default", "user"] }, enqcmd: flag, pageRequests: flag,
});

const host = object({}, {
  memory: object({}, { ram: ref("number"), arena: ref("number"), shared: flag }),
  iommus: list(iommu, 1), devices: list(device), lockLimit: ref("number"), strictAttach: flag,
  accounting: { enum: ["ioasid", "fd"] },
  slots: ref("number"), routes: ref("number"), domains: ref("number"), pasidTables: ref("number"),
  faultQueue: object({}, { records: ref("number"), stalls: ref("number"), depth: ref("number") }),
  ports: object({}, { count: ref("number"), iotlbSets: ref("number"), lanes: ref("number"), faults: ref("number") }),
}, "The simulated machine, with the options of createHost.");

export const SCHEMA: Schema = {
  $schema: "http://json-schema.org/draft-07/schema#",
  title: "ioasid scenario",
  ...object({
    scenario: { const: 1, description: "The version of the format." },
    name: text,
    steps: list(ref("step"), 1),
  }, { $schema: { type: "string" }, about: text, host }, "Calls of the /dev/ioasid uAPI and DMA of devices, with what they must answer."),
  definitions: { number, value, refusal, fault, step: { oneOf: steps } },
};
