// VT-d second-stage entries. "Intel Virtualization Technology for Directed I/O" 3.7 and 9.8.
// Not modelled: execute (bit 2) and memory type (bits 6:3), which change no address and neither R nor W.
import { EMPTY, field, isSet, itemLg2, READ, RESERVED, WRITE, type Architecture, type Entry, type ReferenceRules } from "./types.js";

const TOP_LEAF_LEVEL = 2;

function decode(rules: ReferenceRules, pte: bigint, level: number): Entry {
  const perm = (isSet(pte, 0) ? READ : 0) | (isSet(pte, 1) ? WRITE : 0);
  // There is no present bit: an entry that permits nothing is absent (3.7).
  if (perm === 0) return EMPTY;
  // Bit 7 is ignored in an SS-PTE, the page size in an SS-PDE and an SS-PDPE, and reserved above.
  const pageSize = isSet(pte, 7);
  if (pageSize && level > TOP_LEAF_LEVEL) return RESERVED;
  const leaf = level === 0 || pageSize;
  // Bit 62 marks transient mappings of device TLBs, which a unit without them reserves.
  if (isSet(pte, 62) || field(pte, rules.outputWidth, 51) !== 0n) return RESERVED;
  // Bit 11 is the snoop bit of a leaf; a unit without snoop control says so in reservedLeaf.
  if (isSet(pte, 11) && !leaf) return RESERVED;
  if ((pte & ((leaf ? rules.reservedLeaf : rules.reservedTable) ?? 0n)) !== 0n) return RESERVED;
  if (!leaf) return { kind: "table", address: field(pte, 12, 51), level: level - 1, perm };
  const lg2 = itemLg2(VTD_SECOND, level);
  if (field(pte, 12, lg2 - 1) !== 0n) return RESERVED;
  return { kind: "leaf", address: field(pte, lg2, 51), lg2, perm, accessed: isSet(pte, 8), dirty: isSet(pte, 9) };
}

export const VTD_SECOND: Architecture = {
  stage: 2,
  pageLg2: 12,
  indexBits: 9,
  inputBits: (levels) => 12 + 9 * levels,
  decode,
  // 3.7.2: A (8) in every entry that a translation used, D (9) in the leaf.
  accessedIn: "path",
  setAccessed: (pte) => pte | (1n << 8n),
  setDirty: (pte) => pte | (1n << 9n),
};
