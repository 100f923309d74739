// A guest's own page table, as it says that it is, checked against what an IOMMU can walk above kernel-managed tables: the
// options of its domain, or why not. VT-d 3.6, 3.8, 9.6; AMD-Vi 2.2.6; SMMUv3 3.4, 5.4; Arm ARM D8.2.
// Imports the engine's layout and types, the model's types, the checks of fields, and structures/ for the geometry of Arm tables.
import type { DomainOptions } from "../engine/engine.js";
import * as L from "../engine/layout.js";
import {
  badAddress, checkFormat, integerRule, oneOf, readFormat, refuse, type FormatRefusal, type FormatRules,
} from "./format-fields.js";
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

export type GuestTableRefusal = FormatRefusal;

const FLAG = oneOf([true, false], true);
/** T0SZ 16 to 39 (SMMUv3 5.4, without small tables and 52-bit addresses). */
const INPUT_WIDTH = integerRule(25, 48);
/** IPS (5.4); 52 bits need larger descriptors. */
const OUTPUT_WIDTHS = [32, 36, 40, 42, 44, 48];

const FIELDS: FormatRules<GuestTableKind> = {
  "x86-64": { levels: oneOf([4, 5]), writeProtect: FLAG },
  "aarch64-stage1": {
    granule: oneOf([4096, 16384, 65536]), inputWidth: INPUT_WIDTH, outputWidth: oneOf(OUTPUT_WIDTHS, true), hardwareAccessed: FLAG,
    hardwareDirty: FLAG,
  },
};

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

/** Why no IOMMU takes the format; undefined when some does. */
export function badFormat(format: GuestTableFormat): GuestTableRefusal | undefined {
  return checkFormat(FIELDS, format);
}

function notWalked({ preset, stage, nesting: { hardware } }: IommuModel, kind: GuestTableKind): GuestTableRefusal | undefined {
  if (hardware.includes(kind)) return undefined;
  const walks = hardware.length > 0 ? `it walks ${hardware.join(", ")}` : "nest in software instead: map the child";
  const reason = `${preset} with kernel-managed tables of stage ${stage} does not walk guests' ${kind} tables`;
  return refuse("unsupported", "format.kind", reason, walks);
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
