// What an entry of VT-d's PASID directory and tables says, read word by word from the manual: Intel VT-d Architecture Specification, 9.5
// (directory entry) and 9.6 (table entry), conditions in the order of 7.1.3. Only what a guest's table may hold that is read above a stage 2
// of the host's: a first stage, or none (pass-through). Imports types.ts.
import { field, isSet, type Memory } from "./types.js";

export type PasidReading =
  | { readonly kind: "stage1"; readonly root: bigint; readonly levels: number }
  | { readonly kind: "pass" }
  | { readonly kind: "refused"; readonly reason: "pasid-not-present" | "pasid-invalid" }
  /** A word of the table is in no memory that the reader has. */
  | { readonly kind: "unread"; readonly address: bigint };

const ABSENT = { kind: "refused", reason: "pasid-not-present" } as const;
const INVALID = { kind: "refused", reason: "pasid-invalid" } as const;
const FIRST_STAGE = 1n;
const PASS_THROUGH = 4n;
const ENTRY_BYTES = 64n;
const ENTRIES = 64n;
/** AW: 48-bit tables have 2, and there are 39, 48 and 57 bits. */
const WIDTHS = [1n, 2n, 3n];

/** `width`: bits of an address; those above it are reserved. */
export function readPasidEntry(read: Memory, directory: bigint, pasid: number, width: number): PasidReading {
  const beyond = (word: bigint): boolean => field(word, width, 63) !== 0n;
  const first = directory + (BigInt(pasid) / ENTRIES) * 8n;
  const pointer = read(first);
  if (pointer === null) return { kind: "unread", address: first };
  if (!isSet(pointer, 0)) return ABSENT;
  if (field(pointer, 2, 11) !== 0n || beyond(pointer)) return INVALID;
  const at = field(pointer, 12, 63) + (BigInt(pasid) % ENTRIES) * ENTRY_BYTES;
  const words = Array.from({ length: 8 }, (_none, n) => read(at + BigInt(n) * 8n));
  if (words.includes(null)) return { kind: "unread", address: at };
  const [zero, one, two, , ...rest] = words as [bigint, bigint, bigint, ...bigint[]];
  if (!isSet(zero, 0)) return ABSENT;
  if (field(zero, 10, 11) !== 0n || beyond(zero) || field(one, 16, 22) !== 0n || field(two, 8, 11) !== 0n || beyond(two)) return INVALID;
  if (rest.some((word) => word !== 0n)) return INVALID;
  const kind = field(zero, 6, 8) >> 6n;
  if (kind === PASS_THROUGH) return WIDTHS.includes(field(zero, 2, 4) >> 2n) ? { kind: "pass" } : INVALID;
  const mode = field(two, 2, 3) >> 2n;
  if (kind !== FIRST_STAGE || mode > 1n) return INVALID;
  return { kind: "stage1", root: field(two, 12, 63), levels: 4 + Number(mode) };
}
