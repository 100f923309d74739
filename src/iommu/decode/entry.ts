// Page-table entries in words, for people: what kind an entry is, where it leads, and the names of its bits as the manuals
// give them. The engine never asks this file; it follows assembly/format/*.
// Imports the engine's layout. Level 0 is the leaf table; bit numbers are those of the 64-bit entry.
import * as L from "../../engine/layout.js";
import { AMD_V1, ARM_STAGE1, ARM_STAGE2, ARM_STAGE2_TABLE, ARM_TABLE, MOCK, VTD_SECOND, X86_64, type BitField } from "./bit-fields.js";

export interface EntryOutput {
  /** First output address: of the page, of all of it when several entries make one; or of the next table. */
  address: bigint;
  /** Log2 of the page's bytes; 0 for a pointer to a table. */
  lg2: number;
}

export interface Entry {
  kind: "empty" | "table" | "leaf";
  output?: EntryOutput;
  /** Names of the bits that are set, and fields with their values. */
  bits: string[];
}

const ADDRESS = 0x000ffffffffff000n;
const ARM_ADDRESS = 0x0000fffffffff000n;
const span = (level: number): number => 12 + 9 * level;

interface ArmGranule {
  lg2: number;
  /** The highest level with blocks. The contiguous bit is a hint: the page is that of the entry alone. */
  highestBlock: number;
}

const GRANULES: Readonly<Record<number, ArmGranule>> = {
  [L.FORMAT_ARM_S1_4K]: { lg2: 12, highestBlock: 2 },
  [L.FORMAT_ARM_S1_16K]: { lg2: 14, highestBlock: 1 },
  [L.FORMAT_ARM_S1_64K]: { lg2: 16, highestBlock: 1 },
  [L.FORMAT_ARM_S2_4K]: { lg2: 12, highestBlock: 2 },
  [L.FORMAT_ARM_S2_16K]: { lg2: 14, highestBlock: 1 },
  [L.FORMAT_ARM_S2_64K]: { lg2: 16, highestBlock: 1 },
};

const leafOf = (pte: bigint, lg2: number, field = ADDRESS): EntryOutput => ({ address: pte & field & -(1n << BigInt(lg2)), lg2 });
const tableOf = (pte: bigint, field = ADDRESS): EntryOutput => ({ address: pte & field, lg2: 0 });

/** x86-64 and VT-d second stage: bit 7 makes a leaf of an entry above level 0. */
function pageSize(level: number, pte: bigint, present: bigint): EntryOutput | undefined {
  if (!(pte & present)) return undefined;
  return level === 0 || pte & 0x80n ? leafOf(pte, span(level)) : tableOf(pte);
}

function amd(level: number, pte: bigint): EntryOutput | undefined {
  if (!(pte & 1n)) return undefined;
  const next = Number((pte >> 9n) & 7n);
  if (next !== 0 && next !== 7) return tableOf(pte);
  if (next === 0) return leafOf(pte, span(level));
  let lg2 = 13;
  while ((pte >> BigInt(lg2 - 1)) & 1n && lg2 < 52) lg2++;
  return leafOf(pte, lg2);
}

function arm({ lg2, highestBlock }: ArmGranule, level: number, pte: bigint): EntryOutput | undefined {
  if (!(pte & 1n)) return undefined;
  const below = -(1n << BigInt(lg2));
  if (pte & 2n && level > 0) return { address: pte & ARM_ADDRESS & below, lg2: 0 };
  if (level > highestBlock || (level === 0) !== ((pte & 2n) !== 0n)) return undefined;
  return leafOf(pte, lg2 + (lg2 - 3) * level, ARM_ADDRESS);
}

function mock(level: number, pte: bigint): EntryOutput | undefined {
  if (!(pte & 1n)) return undefined;
  return pte & 2n ? tableOf(pte) : leafOf(pte, 12 + 4 * level + Number((pte >> 8n) & 15n));
}

/** Where an entry leads; undefined for one that leads nowhere. Reserved bits are not looked at. */
export function entryOutput(format: number, level: number, pte: bigint): EntryOutput | undefined {
  const granule = GRANULES[format];
  if (granule) return arm(granule, level, pte);
  switch (format) {
    case L.FORMAT_VTD_SECOND: return pageSize(level, pte, 3n);
    case L.FORMAT_X86_64: return pageSize(level, pte, 1n);
    case L.FORMAT_AMD_V1: return amd(level, pte);
    default: return mock(level, pte);
  }
}

function fieldsOf(format: number, table: boolean): readonly BitField[] {
  switch (format) {
    case L.FORMAT_VTD_SECOND: return VTD_SECOND;
    case L.FORMAT_X86_64: return X86_64;
    case L.FORMAT_AMD_V1: return AMD_V1;
    case L.FORMAT_MOCK: return MOCK;
    case L.FORMAT_ARM_S1_4K: case L.FORMAT_ARM_S1_16K: case L.FORMAT_ARM_S1_64K: return table ? ARM_TABLE : ARM_STAGE1;
    default: return table ? ARM_STAGE2_TABLE : ARM_STAGE2;
  }
}

/** The fields of a word that are not zero: a name for a single bit, "name value" for wider ones. */
export function nameBits(word: bigint, fields: readonly BitField[]): string[] {
  return fields.flatMap(([name, first, last = first, unit]) => {
    const value = (word >> BigInt(first)) & ((1n << BigInt(last - first + 1)) - 1n);
    if (value === 0n) return [];
    if (unit === "address") return [`${name} 0x${(value << BigInt(first)).toString(16)}`];
    return [first === last ? name : `${name} ${value}`];
  });
}

export function decodeEntry(format: number, level: number, pte: bigint): Entry {
  const output = entryOutput(format, level, pte);
  const table = output?.lg2 === 0;
  const bits = nameBits(pte, fieldsOf(format, table));
  return output ? { kind: table ? "table" : "leaf", output, bits } : { kind: "empty", bits };
}

export const FORMAT_NAMES: readonly string[] = [
  "VT-d second stage", "AMD v1", "x86-64", "Arm stage 1, 4K", "Arm stage 1, 16K", "Arm stage 1, 64K", "Arm stage 2, 4K",
  "Arm stage 2, 16K", "Arm stage 2, 64K", "mock",
];
