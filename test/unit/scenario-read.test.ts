// What the reader of scenarios refuses: each error names the step, the place in the file, and the reason.
import { describe, expect, it } from "vitest";
import { checkScenario, parseScenario } from "../../src/scenario/read.js";
import { ScenarioError } from "../../src/scenario/scenario-error.js";

const BIND = [
  { open: "/dev/ioasid", as: "fd" },
  { ioctl: "IOASID_ALLOC", fd: "$fd", as: "gpa" },
];

function refusal(json: unknown): ScenarioError {
  try {
    checkScenario(json);
  } catch (error) {
    if (error instanceof ScenarioError) return error;
    throw error;
  }
  throw new Error("the scenario was not refused");
}

const scenario = (...steps: unknown[]): unknown => ({ scenario: 1, name: "test", steps });

describe("a step that is wrong is named with its place", () => {
  it.each<[string, object, string, string]>([
    ["no verb", { note: "hello" }, "", "must be one of { open }, { ioctl, fd }"],
    ["two verbs", { open: "/dev/ioasid", close: "$fd" }, "", '"close" is unknown'],
    ["an unknown key", { ioctl: "IOASID_FREE", fd: "$fd", args: "$gpa" }, "", '"args" is unknown: known are ioctl, fd, note, arg, as, expect'],
    ["a missing key", { ioctl: "IOASID_FREE" }, "", '"fd" is missing'],
    ["an unknown request", { ioctl: "IOASID_JUMP", fd: "$fd" }, ".ioctl", 'there is no request "IOASID_JUMP"'],
    ["a constant that is no request", { ioctl: "IOASID_CACHE_IOTLB", fd: "$fd" }, ".ioctl", "there is no request"],
    ["a name that nothing bound", { ioctl: "IOASID_FREE", fd: "$fd", arg: { ioasid: "$gpb" } }, ".arg.ioasid", 'no earlier step is called "gpb"'],
    ["a name inside a list", { ioctl: "IOASID_FREE", fd: "$fd", arg: { entries: [{ iova: "$x" }] } }, ".arg.entries[0].iova", '"x"'],
    ["a name in an expectation", { ioctl: "IOASID_GET_INFO", fd: "$fd", arg: "$gpa", expect: { parent: "$up" } }, ".expect.parent", '"up"'],
    ["a name that is a constant's", { open: "/dev/ioasid", as: "IOASID_ALLOC" }, ".as", "is a constant of the uAPI"],
    ["an unknown device", { dma: "dev2", read: "0x0" }, ".dma", 'the host has no device "dev2", but dev1'],
    ["no device to translate for", { translate: "devx", read: 0, expect: { hpa: 0 } }, ".translate", "devx"],
    ["a PASID and the work that has one", { dma: "dev1", read: 0, pasid: 3, work: "$fd" }, ".work", "the work says which PASID it is"],
    ["no device to send work to", { enqcmd: "dev2", vm: "$fd", pasid: 1, descriptor: { fill: 0, length: 64 } }, ".enqcmd", 'the host has no device "dev2"'],
    ["work that no step is called", { dma: "dev1", read: 0, work: "$work" }, ".work", '"work"'],
    ["pending DMA that nobody waits for", { dma: "dev1", read: 0, pending: "read1" }, ".pending", 'no later step waits for "read1"'],
    ["pending DMA that says what it ends with", { dma: "dev1", read: 0, pending: "read1", expect: { bytes: "00" } }, ".expect", "the step that waits"],
    ["a time to wait without waiting", { dma: "dev1", read: 0, timeout: 5 }, ".timeout", "only pending DMA waits"],
    ["a time to wait for a device's own work", { dma: "dev1", read: 0, pending: "read1", timeout: 5, work: "$fd" }, ".timeout", "is the device's"],
    ["waiting for what no step is called", { wait: "$read1" }, ".wait", '"read1"'],
    ["a name of pending DMA that is a constant's", { dma: "dev1", read: 0, pending: "IOASID_ALLOC" }, ".pending", "no later step"],
    ["a number beyond 64 bits", { dma: "dev1", read: "0x10000000000000000" }, ".read", "is not what it must be"],
    ["a number with a sign", { dma: "dev1", read: -1 }, ".read", "must be 0 or more, not -1"],
    ["half a byte", { put: [{ at: 0, bytes: "123" }] }, ".put[0].bytes", "Bytes in hexadecimal"],
    ["words and bytes at once", { put: [{ at: 0, bytes: "12", words: [1] }] }, ".put[0]", "is unknown"],
    ["nothing to write", { dma: "dev1", write: 0 }, "", '"bytes" is missing'],
    ["too long a DMA", { dma: "dev1", read: 0, length: 2 ** 24 + 1 }, ".length", "must be 16777216 or less"],
    ["an unknown errno", { ioctl: "IOASID_ALLOC", fd: "$fd", expect: { errno: "EWHAT" } }, ".expect.errno", "must be one of"],
    ["an unknown reason", { dma: "dev1", read: 0, expect: { fault: { reason: "gone" } } }, ".expect.fault.reason", "must be one of"],
    ["a refusal of DMA, which has faults", { dma: "dev1", read: 0, expect: { errno: "EBUSY" } }, ".expect", "must be one of"],
    ["a charge of an ioasid without its fd", { charge: "$gpa", expect: 0 }, "", '"fd" is missing'],
  ])("%s", (_name, step, path, reason) => {
    const error = refusal(scenario(...BIND, step));
    expect(error.step).toBe(3);
    expect(error.path).toBe(`$.steps[2]${path}`);
    expect(error.message).toContain(reason);
    expect(error.message.startsWith(`step 3: $.steps[2]${path}: `)).toBe(true);
  });

  it("a name is known from the step after the one that binds it", () => {
    expect(refusal(scenario({ ioctl: "IOASID_ALLOC", fd: "$a", as: "a" })).path).toBe("$.steps[0].fd");
    expect(() => checkScenario(scenario(...BIND, { ioctl: "IOASID_FREE", fd: "$fd", arg: "$gpa" }))).not.toThrow();
  });
});

describe("a file that is wrong as a whole", () => {
  it.each<[string, unknown, string, string]>([
    ["a list", [], "$", "must be an object"],
    ["no version", { name: "x", steps: BIND }, "$", '"scenario" is missing'],
    ["another version", { scenario: 2, name: "x", steps: BIND }, "$.scenario", "must be 1, not 2"],
    ["no steps", { scenario: 1, name: "x", steps: [] }, "$.steps", "at least 1 element"],
    ["an unknown option of the host", { scenario: 1, name: "x", host: { cpus: 4 }, steps: BIND }, "$.host", '"cpus" is unknown'],
    ["an unknown preset", { scenario: 1, name: "x", host: { iommus: [{ preset: "via" }] }, steps: BIND }, "$.host.iommus[0].preset", '"vtd"'],
    ["a device without a name", { scenario: 1, name: "x", host: { devices: [{ rid: 1 }] }, steps: BIND }, "$.host.devices[0]", '"name" is missing'],
  ])("%s", (_name, json, path, reason) => {
    const error = refusal(json);
    expect(error.step).toBeUndefined();
    expect(error.path).toBe(path);
    expect(error.message).toContain(reason);
  });

  it("text that is no JSON is refused, with the place if it is known", () => {
    expect(() => parseScenario('{ "scenario": 1,\n  "name": "x" "about": "y" }')).toThrow(/is no JSON: .* in line 2, column 15/);
    expect(() => parseScenario("")).toThrow(/is no JSON/);
  });
});
