// SMMUv3 stream table: where the stream table entry of a StreamID is. Arm SMMUv3 architecture specification (IHI 0070), 3.3.1
// (linear and two-level tables), 5.1 (level 1 descriptor), 6.3.24 and 6.3.25 (STRTAB_BASE, STRTAB_BASE_CFG).
// Imports the shared helpers.
//
//   level 1 descriptor  L2Ptr 55..6 | 0 | Span 4..0       Span 0: no level 2 table; n: 2^(n-1) entries
import { bits, mask, type StructureRead, type TableMemory } from "./structure.js";

export interface StreamTable {
  base: bigint;
  /** LOG2SIZE: bits of a StreamID. */
  log2size: number;
  /** SPLIT: bits that level 2 decodes; undefined for a linear table. */
  split?: number | undefined;
}

export const STE_BYTES = 64n;
const STE_LG2 = 6;
const L1_LG2 = 3;
const L2_POINTER = mask(6, 55);

/** Address of the entry; or no entry for that StreamID; or an external abort, and where. */
export type StreamLookup = { ste: bigint } | { event: "C_BAD_STREAMID" } | { event: "F_STE_FETCH"; fetch: bigint };

const alignDown = (address: bigint, lg2: number): bigint => (address >> BigInt(lg2)) << BigInt(lg2);

export function streamEntry(memory: TableMemory, table: StreamTable, streamId: number, read: StructureRead[]): StreamLookup {
  const { base, log2size, split } = table;
  if (streamId >= 2 ** log2size) return { event: "C_BAD_STREAMID" };
  // Address bits below the table's size are taken as zero (6.3.24).
  if (split === undefined) return { ste: alignDown(base, log2size + STE_LG2) + BigInt(streamId) * STE_BYTES };
  const level1 = alignDown(base, Math.max(5, log2size - split - 1 + L1_LG2));
  const address = level1 + (BigInt(streamId) >> BigInt(split)) * 8n;
  const word = memory.read64(address);
  if (word === undefined) return { event: "F_STE_FETCH", fetch: address };
  read.push({ structure: "level-1-stream-table-descriptor", address, words: [word] });
  const span = bits(word, 0, 4);
  const index = streamId % 2 ** split;
  // A span that is reserved or wider than SPLIT is treated as none (5.1).
  if (span === 0 || span > split + 1 || index >= 2 ** (span - 1)) return { event: "C_BAD_STREAMID" };
  return { ste: alignDown(word & L2_POINTER, span - 1 + STE_LG2) + BigInt(index) * STE_BYTES };
}
