// VT-d root table: one 128-bit entry a bus. Intel VT-d Architecture Specification, 9.1 (legacy) and 9.2 (scalable mode).
// Imports the shared helpers and the fault names.
//
//   legacy    word 0  CTP 63..12 | 0 | P 0          word 1  reserved
//   scalable  word 0  LCTP 63..12 | 0 | LP 0        word 1  UCTP 63..12 | 0 | UP 0       lower: devfn 0..127, upper: 128..255
import type { VtdMode, VtdReason } from "../faults/vtd.js";
import { bit, mask, readWords, type StructureRead, type TableMemory } from "./structure.js";

const POINTER = mask(12, 63);

export type RootLookup = { contextTable: bigint } | { reason: VtdReason };

/** The context table of a bus (scalable mode: of that half of a bus); conditions in the order of 7.1.2 and 7.1.3. */
export function rootEntry(memory: TableMemory, root: bigint, rid: number, mode: VtdMode, haw: number, read: StructureRead[]): RootLookup {
  const address = root + BigInt(rid >> 8) * 16n;
  const words = readWords(memory, address, 2);
  if (!words) return { reason: "root-table-access-error" };
  const [low = 0n, high = 0n] = words;
  const scalable = mode === "scalable";
  read.push({ structure: scalable ? "scalable-root-entry" : "root-entry", address, words });
  const pointer = scalable && rid & 0x80 ? high : low;
  if (!bit(pointer, 0)) return { reason: "root-entry-not-present" };
  const reserved = mask(1, 11) | mask(haw, 63);
  if (pointer & reserved || (!scalable && high !== 0n)) return { reason: "root-entry-reserved-bit" };
  return { contextTable: pointer & POINTER };
}
