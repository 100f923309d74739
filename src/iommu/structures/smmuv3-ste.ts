// SMMUv3 stream table entries. Arm SMMUv3 architecture specification (IHI 0070), 5.2 (fields and ILLEGAL values), 3.4 (address
// sizes). Imports the shared helpers and the unit's capabilities. Attributes of memory, VMID and ATS are not looked at.
//
//   word 0  S1CDMax 63..59 | S1ContextPtr 55..6 | S1Fmt 5..4 | Config 3..1 | V 0
//   word 1  STRW 31..30 | EATS 29..28 | S1STALLD 27 | S1DSS 1..0
//   word 2  S2R 58 | S2S 57 | S2HA 56 | S2HD 55 | S2PTW 54 | S2AFFD 53 | S2ENDI 52 | S2AA64 51 | S2PS 50..48 | S2TG 47..46 |
//           S2SL0 39..38 | S2T0SZ 37..32 | S2VMID 15..0
//   word 3  S2TTB 51..4
import * as L from "../../engine/layout.js";
import { addressSize, type Smmuv3Capabilities } from "./smmuv3-capabilities.js";
import { STE_BYTES } from "./smmuv3-stream-table.js";
import { bit, bits, mask, readWords, type Stage, type StructureRead, type TableMemory } from "./structure.js";

const STAGE1 = 1;
const STAGE2 = 2;
const TRANSLATES = 4;
const CONTEXT_POINTER = mask(6, 55);

/** Where context descriptors are, and for which substreams. */
export interface ContextTable {
  pointer: bigint;
  /** S1CDMax: bits of a substream; 0: one descriptor. */
  substreamBits: number;
  /** S1Fmt: 0 linear, 1 two levels with leaves of 4 KiB, 2 of 64 KiB. */
  format: number;
  /** S1DSS: what becomes of a request without substream: 0 terminated, 1 stage 1 bypassed, 2 substream 0. */
  defaultSubstream: number;
}

export type StreamEntry =
  | { kind: "fault"; event: "F_STE_FETCH"; fetch: bigint }
  | { kind: "fault"; event: "C_BAD_STE" }
  | { kind: "abort" }
  | { kind: "translate"; context?: ContextTable; stage2?: Stage; recordStage2: boolean };

export function readStreamEntry(memory: TableMemory, address: bigint, unit: Smmuv3Capabilities, read: StructureRead[]): StreamEntry {
  const words = readWords(memory, address, Number(STE_BYTES) / 8);
  if (!words) return { kind: "fault", event: "F_STE_FETCH", fetch: address };
  read.push({ structure: "stream-table-entry", address, words });
  const [first = 0n, second = 0n] = words;
  const bad = { kind: "fault", event: "C_BAD_STE" } as const;
  if (!bit(first, 0)) return bad;
  const config = bits(first, 1, 3);
  if (!(config & TRANSLATES)) return { kind: "abort" };
  const recordStage2 = bit(words[2]!, 58);
  const context = config & STAGE1 ? contextTable(first, second, unit) : undefined;
  const stage2 = config & STAGE2 ? stage2Of(words[2]!, words[3]!, unit) : undefined;
  if (context === "illegal" || stage2 === "illegal") return bad;
  return { kind: "translate", ...(context ? { context } : {}), ...(stage2 ? { stage2 } : {}), recordStage2 };
}

function contextTable(first: bigint, second: bigint, unit: Smmuv3Capabilities): ContextTable | "illegal" {
  const substreamBits = bits(first, 59, 63);
  const format = bits(first, 4, 5);
  const stalls = bit(second, 27);
  if (!unit.stage1 || substreamBits > unit.substreamBits) return "illegal";
  // S1STALLD only where stalling is a choice.
  if (stalls && unit.stallModel !== 0) return "illegal";
  if (substreamBits > 0 && (format === 3 || (format !== 0 && !unit.twoLevelCd))) return "illegal";
  return { pointer: first & CONTEXT_POINTER, substreamBits, format, defaultSubstream: bits(second, 0, 1) };
}

/** S2TG: 0, 1, 2 (5.2). */
const GRANULE_LG2 = [12, 16, 14];
const FORMATS: Readonly<Record<number, number>> = { 12: L.FORMAT_ARM_S2_4K, 14: L.FORMAT_ARM_S2_16K, 16: L.FORMAT_ARM_S2_64K };
const MOST_LEVELS = 4;
const CONCATENATED_LG2 = 4;

function stage2Of(word: bigint, ttb: bigint, unit: Smmuv3Capabilities): Stage | "illegal" {
  const granule = GRANULE_LG2[bits(word, 46, 47)];
  const [hd, ha, stall, aarch64, bigEndian] = [bit(word, 55), bit(word, 56), bit(word, 57), bit(word, 51), bit(word, 52)];
  if (!unit.stage2 || !aarch64 || !unit.aarch64 || granule === undefined || !unit.granules.includes(granule)) return "illegal";
  if (bigEndian || unit.ttendian === 3) return "illegal";
  if ((stall && unit.stallModel === 1) || (!stall && unit.stallModel === 2)) return "illegal";
  if ((ha && unit.httu === 0) || (hd && unit.httu < 2)) return "illegal";
  const width = 64 - bits(word, 32, 37);
  const levels = startLevels(bits(word, 38, 39), granule);
  if (!fits(width, levels, granule, unit)) return "illegal";
  const outputWidth = Math.min(addressSize(bits(word, 48, 50)), unit.outputWidth);
  const root = ttb & mask(4, 51);
  if (root >> BigInt(outputWidth)) return "illegal";
  const affd = bit(word, 53);
  return {
    format: FORMATS[granule]!, levels, width, outputWidth, guestRoot: alignedRoot(root, width, levels, granule),
    accessed: ha ? "set" : affd ? "ignore" : "fault", dirty: ha && hd ? "set" : "ignore",
  };
}

/** Levels below and with the start table; 0 for a code without meaning. S2SL0 counts from 2 (4 KiB) or 3 (others) down. */
function startLevels(sl0: number, granule: number): number {
  if (sl0 === 3) return 0;
  return granule === 12 ? sl0 + 2 : sl0 + 1;
}

/** S2T0SZ in range, and the start tables no more than 16 side by side, nor less than one entry (Arm ARM, D8.2.2). */
function fits(width: number, levels: number, granule: number, unit: Smmuv3Capabilities): boolean {
  if (width < 25 || width > Math.min(unit.outputWidth, 48) || levels === 0 || levels > MOST_LEVELS) return false;
  const below = granule + (levels - 1) * (granule - 3);
  return width > below && width <= below + granule - 3 + CONCATENATED_LG2;
}

/** A start table is aligned to its size: lower address bits are taken as zero. */
export function alignedRoot(root: bigint, width: number, levels: number, granule: number): bigint {
  const lg2 = startTableLg2(width, levels, granule);
  return (root >> BigInt(lg2)) << BigInt(lg2);
}

/** log2 of the bytes of a start table (Arm ARM, D8.2), and of its alignment. The engine wants 64 bytes at least. */
export function startTableLg2(width: number, levels: number, granule: number): number {
  return Math.max(6, width - (granule + (levels - 1) * (granule - 3)) + 3);
}
