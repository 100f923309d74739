// AMD host page tables. "AMD I/O Virtualization Technology (IOMMU) Specification" 2.2.3.
// Not modelled: U (59) and FC (60), which change no address and neither R nor W.
import { EMPTY, field, isSet, itemLg2, READ, RESERVED, WRITE, type Architecture, type Entry, type ReferenceRules } from "./types.js";

const NEXT_LEVEL_CODED = 7;
/** No page reaches beyond the 52 bits of an address, and the largest code is that of 2^51. */
const MAX_LEAF_LG2 = 51;

/** Page-size encodings: k ones from bit 12 up and then a zero say 2^(13 + k). */
function codedLg2(pte: bigint): number {
  let lg2 = 13;
  while (lg2 <= 52 && isSet(pte, lg2 - 1)) lg2++;
  return lg2;
}

function decodeLeaf(rules: ReferenceRules, pte: bigint, level: number, coded: boolean, perm: number): Entry {
  const own = itemLg2(AMD_V1, level);
  const lg2 = coded ? codedLg2(pte) : own;
  // A level's own size is written as NextLevel 0, and the next level's own size belongs to that level.
  if (coded && (lg2 <= own || lg2 >= own + 9)) return RESERVED;
  if (lg2 > MAX_LEAF_LG2 || (!coded && field(pte, 12, lg2 - 1) !== 0n)) return RESERVED;
  // The ones of a size code are no address bits, so that the whole page is compared with the output width.
  const address = field(pte, lg2, 51);
  const last = address + (1n << BigInt(lg2)) - 1n;
  if (last >> BigInt(rules.outputWidth) !== 0n || (pte & (rules.reservedLeaf ?? 0n)) !== 0n) return RESERVED;
  return { kind: "leaf", address, lg2, perm, accessed: isSet(pte, 5), dirty: isSet(pte, 6) };
}

function decode(rules: ReferenceRules, pte: bigint, level: number): Entry {
  if (!isSet(pte, 0)) return EMPTY;
  if (field(pte, 52, 58) !== 0n) return RESERVED;
  const perm = (isSet(pte, 61) ? READ : 0) | (isSet(pte, 62) ? WRITE : 0);
  const nextLevel = Number(field(pte, 9, 11) >> 9n);
  if (nextLevel === 0 || nextLevel === NEXT_LEVEL_CODED) return decodeLeaf(rules, pte, level, nextLevel !== 0, perm);
  // The manual's level n is our n - 1. A pointer may skip levels; it may not stay at its level or go up.
  // U and FC belong to page entries alone.
  if (nextLevel > level || field(pte, 59, 60) !== 0n || field(pte, rules.outputWidth, 51) !== 0n || (pte & (rules.reservedTable ?? 0n)) !== 0n) return RESERVED;
  return { kind: "table", address: field(pte, 12, 51), level: nextLevel - 1, perm };
}

export const AMD_V1: Architecture = {
  stage: 2,
  pageLg2: 12,
  indexBits: 9,
  // The sixth level decodes bits 63:57 alone.
  inputBits: (levels) => Math.min(64, 12 + 9 * levels),
  decode,
  // A is bit 5 of directory entries too.
  accessedIn: "path",
  setAccessed: (pte) => pte | (1n << 5n),
  setDirty: (pte) => pte | (1n << 6n),
};
