// SMMUv3 context descriptors. Arm SMMUv3 architecture specification (IHI 0070), 5.3 (level 1 descriptor), 5.4 (fields and
// ILLEGAL values), 3.3.2 (tables by substream). Imports the shared helpers and the unit's capabilities. ASID, memory
// attributes, PAN and execution are not looked at.
//
//   level 1  L2Ptr 55..12 | 0 | V 0
//   word 0   ASID 63..48 | ASET 47 | A 46 | R 45 | S 44 | HA 43 | HD 42 | AA64 41 | PAN 40 | TBI1 39 | TBI0 38 | UWXN 37 | WXN 36 |
//            AFFD 35 | IPS 34..32 | V 31 | EPD1 30 | TG1 23..22 | T1SZ 21..16 | ENDI 15 | EPD0 14 | TG0 7..6 | T0SZ 5..0
//   word 1   TTB0 51..4 | HAD0 1           word 2   TTB1 51..4 | HAD1 1
import * as L from "../../engine/layout.js";
import { addressSize, type Smmuv3Capabilities } from "./smmuv3-capabilities.js";
import { alignedRoot, type ContextTable } from "./smmuv3-ste.js";
import { bit, bits, mask, type Stage, type StructureRead } from "./structure.js";

/** A word of context descriptors: from memory, or through a stage 2 that may refuse the fetch. R is that refusal. */
export type FetchWord<R> = (address: bigint) => { word: bigint } | { refusal: R };

/** The tables that a context descriptor names. */
export interface Context {
  lower?: Stage;
  upper?: Stage;
  /** CD.R: stage 1 faults are recorded. */
  record: boolean;
}

export type ContextLookup<R> =
  | { context: Context } | { event: "C_BAD_CD" | "C_BAD_SUBSTREAMID" } | { refusal: R };

const CD_BYTES = 64n;
const CD_WORDS = 8;
const L2_POINTER = mask(12, 55);
/** Substream bits that a leaf of S1Fmt 1 or 2 decodes: 64 or 1024 descriptors. */
const LEAF_LG2 = [0, 6, 10];

type AddressLookup<R> = { address: bigint } | { event: "C_BAD_SUBSTREAMID" } | { refusal: R };

function descriptorAddress<R>(table: ContextTable, substream: number, fetch: FetchWord<R>, read: StructureRead[]): AddressLookup<R> {
  const { pointer, format, substreamBits } = table;
  if (substreamBits === 0 || format === 0) return { address: pointer + BigInt(substream) * CD_BYTES };
  const leaf = LEAF_LG2[format]!;
  const address = pointer + BigInt(substream >> leaf) * 8n;
  const got = fetch(address);
  if ("refusal" in got) return got;
  read.push({ structure: "level-1-context-descriptor", address, words: [got.word] });
  if (!bit(got.word, 0)) return { event: "C_BAD_SUBSTREAMID" };
  return { address: (got.word & L2_POINTER) + BigInt(substream % 2 ** leaf) * CD_BYTES };
}

/** The descriptor of a substream below 2^substreamBits; addresses are of memory, or intermediate ones that `fetch` translates. */
export function contextDescriptor<R>(
  table: ContextTable, substream: number, unit: Smmuv3Capabilities, fetch: FetchWord<R>, read: StructureRead[],
): ContextLookup<R> {
  const found = descriptorAddress(table, substream, fetch, read);
  if (!("address" in found)) return found;
  const words: bigint[] = [];
  for (let i = 0; i < CD_WORDS; i++) {
    const got = fetch(found.address + BigInt(i * 8));
    if ("refusal" in got) return got;
    words.push(got.word);
  }
  read.push({ structure: "context-descriptor", address: found.address, words });
  const context = decode(words, unit);
  return context ? { context } : { event: "C_BAD_CD" };
}

/** Undefined: not valid, or a field is ILLEGAL. */
function decode([word = 0n, second = 0n, third = 0n]: readonly bigint[], unit: Smmuv3Capabilities): Context | undefined {
  const [stall, abort, aarch64, hd, ha] = [bit(word, 44), bit(word, 46), bit(word, 41), bit(word, 42), bit(word, 43)];
  if (!bit(word, 31) || !aarch64 || !unit.aarch64) return undefined;
  if ((!abort && unit.abortOnly) || (stall && unit.stallModel === 1) || (!stall && unit.stallModel === 2)) return undefined;
  if ((ha && unit.httu === 0) || (hd && unit.httu < 2)) return undefined;
  if (bit(word, 15) || unit.ttendian === 3) return undefined;
  const outputWidth = Math.min(addressSize(bits(word, 32, 34)), unit.outputWidth);
  const common: Common = {
    outputWidth, unit,
    accessed: ha ? "set" : bit(word, 35) ? "ignore" : "fault", dirty: ha && hd ? "set" : "ignore",
  };
  const lower = half(common, false, word, second);
  const upper = half(common, true, word, third);
  if (lower === "illegal" || upper === "illegal") return undefined;
  return { ...(lower ? { lower } : {}), ...(upper ? { upper } : {}), record: bit(word, 45) };
}

interface Common {
  outputWidth: number;
  unit: Smmuv3Capabilities;
  accessed: "ignore" | "set" | "fault";
  dirty: "ignore" | "set";
}

/** TG0 and TG1 code the granules differently. */
const TG0_LG2 = [12, 16, 14];
const TG1_LG2 = [undefined, 14, 12, 16];
/** Format of stage-1 tables by log2 of the granule. */
export const STAGE1_FORMATS: Readonly<Record<number, number>> = { 12: L.FORMAT_ARM_S1_4K, 14: L.FORMAT_ARM_S1_16K, 16: L.FORMAT_ARM_S1_64K };

/** Levels of a stage-1 table: as few as the width needs (Arm ARM, D8.2). */
export function stage1Levels(width: number, granule: number): number {
  return Math.ceil((width - granule) / (granule - 3));
}

/** The tables of one half; undefined when EPD disables them. */
function half({ outputWidth, unit, accessed, dirty }: Common, upper: boolean, word: bigint, ttb: bigint): Stage | "illegal" | undefined {
  const at = upper ? 16 : 0;
  if (bit(word, at + 14)) return undefined;
  const size = bits(word, at, at + 5);
  const granule = (upper ? TG1_LG2 : TG0_LG2)[bits(word, at + 6, at + 7)];
  if (size < 16 || size > 39 || granule === undefined || !unit.granules.includes(granule)) return "illegal";
  const root = ttb & mask(4, 51);
  if (root >> BigInt(outputWidth)) return "illegal";
  const width = 64 - size;
  const levels = stage1Levels(width, granule);
  const ignored = bit(word, upper ? 39 : 38);
  const disabled = unit.hierarchicalAttributeDisable && bit(ttb, 1);
  return {
    format: STAGE1_FORMATS[granule]!, levels, width, rule: `${upper ? "ones" : "zero"}${ignored ? "-tbi" : ""}`, outputWidth,
    guestRoot: alignedRoot(root, width, levels, granule), accessed, dirty,
    options: disabled ? L.OPTION_IGNORE_TABLE_PERMISSIONS : 0,
  };
}
