// x86-64 first-stage entries, 4 and 5 levels. Intel SDM volume 3, "4-Level Paging and 5-Level Paging" and "Access Rights";
// VT-d 3.6 (first-stage translation) and 9.7 (its entries).
import { OPTION_WRITE_PROTECT } from "../../../src/engine/layout.js";
import {
  ALL, EMPTY, EXECUTE, field, isSet, itemLg2, PRIVILEGED, RESERVED, USER, WRITE, type Architecture, type Entry, type ReferenceRules,
} from "./types.js";

const TOP_LEAF_LEVEL = 2;

/**
 * Nothing takes reading away from a supervisor. R/W = 0 takes writing from users, and from supervisors where write protection
 * is on (CR0.WP; WPE of a PASID entry). U/S = 0 takes everything from users. XD takes execution from both.
 */
function permissions(rules: ReferenceRules, pte: bigint): number {
  let perm = ALL;
  const writeProtect = ((rules.options ?? 0) & OPTION_WRITE_PROTECT) !== 0;
  if (!isSet(pte, 1)) perm &= ~(writeProtect ? WRITE : WRITE & USER);
  if (!isSet(pte, 2)) perm &= PRIVILEGED;
  if (isSet(pte, 63)) perm &= ~EXECUTE;
  return perm;
}

function decode(rules: ReferenceRules, pte: bigint, level: number): Entry {
  if (!isSet(pte, 0)) return EMPTY;
  // Bit 7 is PAT in a PTE, the page size in a PDE and a PDPTE, and reserved above.
  const pageSize = isSet(pte, 7);
  if (pageSize && level > TOP_LEAF_LEVEL) return RESERVED;
  const leaf = level === 0 || pageSize;
  if (field(pte, rules.outputWidth, 51) !== 0n) return RESERVED;
  // XD is a reserved bit where execute-disable is off; the domain says so here.
  if ((pte & ((leaf ? rules.reservedLeaf : rules.reservedTable) ?? 0n)) !== 0n) return RESERVED;
  const perm = permissions(rules, pte);
  if (!leaf) return { kind: "table", address: field(pte, 12, 51), level: level - 1, perm };
  // Bit 12 of a large page is PAT; the address bits above it and below the page must be zero.
  const lg2 = itemLg2(X86_64, level);
  if (field(pte, 13, lg2 - 1) !== 0n) return RESERVED;
  return { kind: "leaf", address: field(pte, lg2, 51), lg2, perm, accessed: isSet(pte, 5), dirty: isSet(pte, 6) };
}

export const X86_64: Architecture = {
  stage: 1,
  pageLg2: 12,
  indexBits: 9,
  inputBits: (levels) => 12 + 9 * levels,
  decode,
  // "Accessed and Dirty Flags": A (5) in every entry that a translation used, D (6) in the leaf.
  accessedIn: "path",
  setAccessed: (pte) => pte | (1n << 5n),
  setDirty: (pte) => pte | (1n << 6n),
};
