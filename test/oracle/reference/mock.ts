// The mock format: tables of 16 entries and up to eight levels, so that tests reach deep tables and runs of equal entries with few words.
//
//   63      52 51            12 11   8  7  6  5  4  3  2    1    0
//   reserved   address          run  -  D  A  X  W  R  table valid
//
// Address bits below a leaf's size are ignored. This drawing is the format's whole manual.
import { ALL, EMPTY, EXECUTE, field, isSet, itemLg2, READ, RESERVED, WRITE, type Architecture, type Entry, type ReferenceRules } from "./types.js";

const TOP_LEAF_LEVEL = 3;
/** log2 of the most equal entries that one leaf may have. */
const MAX_RUN_LG2 = 3;

function decode(rules: ReferenceRules, pte: bigint, level: number): Entry {
  if (!isSet(pte, 0)) return EMPTY;
  const table = isSet(pte, 1);
  const run = Number(field(pte, 8, 11) >> 8n);
  if (isSet(pte, 7) || field(pte, 52, 63) !== 0n || field(pte, rules.outputWidth, 51) !== 0n) return RESERVED;
  if ((pte & ((table ? rules.reservedTable : rules.reservedLeaf) ?? 0n)) !== 0n) return RESERVED;
  if (table) {
    return level === 0 || run !== 0 ? RESERVED : { kind: "table", address: field(pte, 12, 51), level: level - 1, perm: ALL };
  }
  const lg2 = itemLg2(MOCK, level) + run;
  if (level > TOP_LEAF_LEVEL || run > MAX_RUN_LG2) return RESERVED;
  const perm = (isSet(pte, 2) ? READ : 0) | (isSet(pte, 3) ? WRITE : 0) | (isSet(pte, 4) ? EXECUTE : 0);
  return { kind: "leaf", address: field(pte, lg2, 51), lg2, perm, accessed: isSet(pte, 5), dirty: isSet(pte, 6) };
}

export const MOCK: Architecture = {
  stage: 2,
  pageLg2: 12,
  indexBits: 4,
  inputBits: (levels) => 12 + 4 * levels,
  decode,
  accessedIn: "path",
  setAccessed: (pte) => pte | (1n << 5n),
  setDirty: (pte) => pte | (1n << 6n),
};
