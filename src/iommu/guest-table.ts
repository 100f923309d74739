// A guest's own page table, as it says that it is, checked against what an IOMMU can walk above kernel-managed tables: the
// options of its domain, or why not. VT-d 3.6, 3.8, 9.6; AMD-Vi 2.2.6; SMMUv3 3.4, 5.4; Arm ARM D8.2.
// Imports the engine's layout and types, the model's types, and structures/ for the geometry of Arm tables.
import type { DomainOptions } from "../engine/engine.js";
import * as L from "../engine/layout.js";
import type { IommuModel } from "./model.js";
import { STAGE1_FORMATS, stage1Levels } from "./structures/smmuv3-cd.js";
import { startTableLg2 } from "./structures/smmuv3-ste.js";

/** x86-64 paging, as the first stage of VT-d and the guest tables of AMD-Vi have it. */
export interface X86GuestTable {
  readonly kind: "x86-64";
  readonly levels: 4 | 5;
  /** A privileged write needs the R/W bit too (WPE). Default false. */
  readonly writeProtect?: boolean;
}

/** VMSAv8-64 stage 1, the table of TTB0; what TTB1 would serve is refused. */
export interface ArmGuestTable {
  readonly kind: "aarch64-stage1";
  /** Bytes of the smallest page; need not be that of stage 2. */
  readonly granule: 4096 | 16384 | 65536;
  /** Bits of an input address: 64 - T0SZ. */
  readonly inputWidth: number;
  /** Bits of an output address (IPS). Default: what the parent's addresses have. */
  readonly outputWidth?: number;
  /** The IOMMU sets access flags (HA). Default false: a clear one is a fault. */
  readonly hardwareAccessed?: boolean;
  /** The IOMMU sets dirty state (HD); needs `hardwareAccessed`. Default false. */
  readonly hardwareDirty?: boolean;
}

export type GuestTableFormat = X86GuestTable | ArmGuestTable;
export type GuestTableKind = GuestTableFormat["kind"];

export interface GuestTableRefusal {
  /** "invalid": no IOMMU takes this. "unsupported": this one, as it is set up, does not. */
  readonly kind: "unsupported" | "invalid";
  /** "format", "format.<field>" or "addr". */
  readonly field: string;
  readonly reason: string;
  readonly hint: string;
}

/** What a field must be. An optional one may be absent or undefined. */
interface Rule {
  readonly optional: boolean;
  readonly must: string;
  readonly holds: (value: unknown) => boolean;
}

const oneOf = (values: readonly unknown[], optional = false): Rule =>
  ({ optional, must: `one of ${values.join(", ")}`, holds: (value) => values.includes(value) });
const FLAG = oneOf([true, false], true);
/** T0SZ 16 to 39 (SMMUv3 5.4, without small tables and 52-bit addresses). */
const INPUT_WIDTH: Rule = {
  optional: false, must: "an integer in 25..48", holds: (value) => Number.isInteger(value) && Number(value) >= 25 && Number(value) <= 48,
};
/** IPS (5.4); 52 bits need larger descriptors. */
const OUTPUT_WIDTHS = [32, 36, 40, 42, 44, 48];

const FIELDS: Readonly<Record<GuestTableKind, Readonly<Record<string, Rule>>>> = {
  "x86-64": { levels: oneOf([4, 5]), writeProtect: FLAG },
  "aarch64-stage1": {
    granule: oneOf([4096, 16384, 65536]), inputWidth: INPUT_WIDTH, outputWidth: oneOf(OUTPUT_WIDTHS, true), hardwareAccessed: FLAG,
    hardwareDirty: FLAG,
  },
};
const KINDS = Object.keys(FIELDS).join(", ");

/**
 * Options of a domain that walks the table at `addr` of the parent's address space; the caller adds `stage2`, the parent's
 * domain. Or a refusal; nothing about `format` is taken for granted.
 */
export function guestTable(model: IommuModel, format: GuestTableFormat, addr: bigint): DomainOptions | GuestTableRefusal {
  const given = readFormat(format);
  const refusal = badFormat(given) ?? notWalked(model, given.kind);
  if (refusal !== undefined) return refusal;
  return given.kind === "x86-64" ? x86Table(model, given, addr) : armTable(model, given, addr);
}

/** A copy of what may be a format: an object of the caller's may answer otherwise the next time. Anything else stays as it is. */
export function readFormat(format: GuestTableFormat): GuestTableFormat {
  return typeof format === "object" && format !== null && !Array.isArray(format) ? { ...format } : format;
}

/** Why no IOMMU takes the format; undefined when some does. */
export function badFormat(format: GuestTableFormat): GuestTableRefusal | undefined {
  if (typeof format !== "object" || format === null || Array.isArray(format)) {
    return refuse("invalid", "format", `must be an object, not ${show(format)}`, `it has a kind, one of ${KINDS}`);
  }
  return badKind(format.kind) ?? badFields(FIELDS[format.kind], format);
}

function refuse(kind: GuestTableRefusal["kind"], field: string, reason: string, hint: string): GuestTableRefusal {
  return { kind, field, reason, hint };
}

/** Any value, short enough for a message. */
function show(value: unknown): string {
  if (value === undefined) return "absent";
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return typeof value === "function" ? "a function" : String(value).slice(0, 40);
}

function badKind(kind: unknown): GuestTableRefusal | undefined {
  const field = "format.kind";
  if (typeof kind !== "string") return refuse("invalid", field, `must be a string, not ${show(kind)}`, `kinds are ${KINDS}`);
  return Object.hasOwn(FIELDS, kind) ? undefined : refuse("unsupported", field, `"${show(kind)}" is not known`, `kinds are ${KINDS}`);
}

function notWalked({ preset, stage, nesting: { hardware } }: IommuModel, kind: GuestTableKind): GuestTableRefusal | undefined {
  if (hardware.includes(kind)) return undefined;
  const walks = hardware.length > 0 ? `it walks ${hardware.join(", ")}` : "nest in software instead: map the child";
  const reason = `${preset} with kernel-managed tables of stage ${stage} does not walk guests' ${kind} tables`;
  return refuse("unsupported", "format.kind", reason, walks);
}

function badFields(rules: Readonly<Record<string, Rule>>, given: GuestTableFormat): GuestTableRefusal | undefined {
  const hint = `${given.kind} has ${Object.keys(rules).join(", ")}`;
  for (const [name, value] of Object.entries(given)) {
    if (name === "kind" || (Object.hasOwn(rules, name) && value === undefined)) continue;
    if (!Object.hasOwn(rules, name)) return refuse("invalid", `format.${name}`, `is no field of ${given.kind}`, hint);
    if (!rules[name]!.holds(value)) return refuse("invalid", `format.${name}`, `must be ${rules[name]!.must}, not ${show(value)}`, hint);
  }
  const missing = Object.keys(rules).find((name) => !rules[name]!.optional && given[name as keyof GuestTableFormat] === undefined);
  return missing === undefined ? undefined : refuse("invalid", `format.${missing}`, `is missing: ${rules[missing]!.must}`, hint);
}

/** The start table lies at a multiple of 2^lg2, below 2^width. */
function badAddress(addr: bigint, lg2: number, width: number): GuestTableRefusal | undefined {
  if (addr >> BigInt(width) !== 0n) {
    return refuse("invalid", "addr", `must be below 2^${width}, not 0x${addr.toString(16)}`, "it is an address in the parent");
  }
  if (BigInt.asUintN(lg2, addr) === 0n) return undefined;
  return refuse("invalid", "addr", `must be a multiple of ${2 ** lg2}, not 0x${addr.toString(16)}`, "a table is aligned to its size");
}

/**
 * Input is canonical, accessed and dirty bits are always set, and address bits from the host's width up are reserved (VT-d 3.6).
 * XD is ignored, as by units without execute requests (9.7).
 */
function x86Table(model: IommuModel, { levels, writeProtect = false }: X86GuestTable, addr: bigint): DomainOptions | GuestTableRefusal {
  const { addressWidth, outputWidth } = model;
  return badAddress(addr, 12, Math.min(addressWidth, outputWidth)) ?? {
    format: L.FORMAT_X86_64, levels, width: 12 + 9 * levels, rule: "sign", outputWidth, accessed: "set", dirty: "set", guestRoot: addr,
    options: writeProtect ? L.OPTION_WRITE_PROTECT : 0,
  };
}

/** What leaves stage 1 is checked against IPS, TTB0 too (SMMUv3 3.4, 5.4); no more bits than the parent's addresses have. */
function armTable(model: IommuModel, table: ArmGuestTable, addr: bigint): DomainOptions | GuestTableRefusal {
  const most = Math.min(model.addressWidth, model.outputWidth);
  const { granule, inputWidth: width, outputWidth = most, hardwareAccessed = false, hardwareDirty = false } = table;
  if (outputWidth > most) {
    return refuse("unsupported", "format.outputWidth", `must be at most ${most}, not ${outputWidth}`, "the parent's addresses have no more");
  }
  if (hardwareDirty && !hardwareAccessed) {
    return refuse("invalid", "format.hardwareDirty", "needs hardwareAccessed", "HD without HA is reserved (SMMUv3 5.4)");
  }
  // HD is ILLEGAL where HTTU is less than 2 (5.4).
  if (hardwareDirty && !model.dirtyTracking) {
    return refuse("unsupported", "format.hardwareDirty", "this IOMMU does not set dirty state", "switched off by its option `dirtyTracking`");
  }
  const lg2 = Math.log2(granule);
  const levels = stage1Levels(width, lg2);
  return badAddress(addr, startTableLg2(width, levels, lg2), outputWidth) ?? {
    format: STAGE1_FORMATS[lg2]!, levels, width, rule: "zero", outputWidth, guestRoot: addr,
    accessed: hardwareAccessed ? "set" : "fault", dirty: hardwareDirty ? "set" : "ignore",
  };
}
