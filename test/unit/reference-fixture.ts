// Tables of a few words for the reference walker's own tests. Permissions are those of unprivileged requests.
import { decodeReference } from "../oracle/reference/formats.js";
import type { ReferenceDomain, ReferenceRules } from "../oracle/reference/types.js";
import { walkReference } from "../oracle/reference/walk.js";

export const ROOT = 0x10000n;
export const R = 1;
export const W = 2;
export const RW = 3;

/** A table in a memory that is zero but for these words. */
export function tableOf(format: number, levels: number, words: Record<number, bigint>, outputWidth = 52): ReferenceDomain {
  return { format, levels, root: ROOT, outputWidth, read: (address) => words[Number(address)] ?? 0n };
}

/** What one entry means in a table of that level. */
export function entryOf(rules: ReferenceRules, pte: bigint, level: number): unknown {
  const entry = decodeReference(rules, pte, level);
  return "perm" in entry ? { ...entry, perm: entry.perm & 7 } : entry;
}

/** The translation, or why and at which level there is none. */
export function walked(table: ReferenceDomain, iova: bigint): unknown {
  const { reason, level, found } = walkReference(table, iova);
  return found ? { hpa: found.hpa, leafLg2: found.leafLg2, perm: found.perm & 7 } : { reason, level };
}
