// VT-d context entries. Intel VT-d Architecture Specification, 9.3 (legacy, 128 bits) and 9.4 (scalable mode, 256 bits).
// Imports the shared helpers, the unit's capabilities and the fault names.
//
//   legacy    word 0  SSPTPTR 63..12 | 0 | TT 3..2 | FPD 1 | P 0
//             word 1  0 | DID 23..8 | 0 7 | ignored 6..3 | AW 2..0
//   scalable  word 0  PASIDDIRPTR 63..12 | PDTS 11..9 | 0 8..5 | PRE 4 | PASIDE 3 | DTE 2 | FPD 1 | P 0
//             word 1  0 | RID_PRIV 20 | RID_PASID 19..0            words 2, 3  reserved
import type { VtdReason } from "../faults/vtd.js";
import { bit, bits, mask, readWords, type StructureRead, type TableMemory } from "./structure.js";
import type { VtdCapabilities } from "./vtd-capabilities.js";

const POINTER = mask(12, 63);
/** TT (9.3). */
const UNTRANSLATED = 0;
const WITH_DEVICE_TLB = 1;
const PASS_THROUGH = 2;

export interface LegacyContext {
  passThrough: boolean;
  secondStageTable: bigint;
  levels: number;
  domainId: number;
}

export interface ScalableContext {
  directory: bigint;
  /** PASIDs below this have a directory entry. */
  pasids: number;
  pasidEnable: boolean;
  ridPasid: number;
}

/** `fpd` holds for every fault from here on, whether the entry is present or not (9.3). */
export type ContextLookup<C> = { context: C; fpd: boolean } | { reason: VtdReason; fpd: boolean };

export function legacyContext(
  memory: TableMemory, table: bigint, devfn: number, unit: VtdCapabilities, read: StructureRead[],
): ContextLookup<LegacyContext> {
  const address = table + BigInt(devfn) * 16n;
  const words = readWords(memory, address, 2);
  if (!words) return { reason: "context-table-access-error", fpd: false };
  const [low = 0n, high = 0n] = words;
  read.push({ structure: "context-entry", address, words });
  const fpd = bit(low, 1);
  if (!bit(low, 0)) return { reason: "context-entry-not-present", fpd };
  if (low & (mask(4, 11) | mask(unit.haw, 63)) || high & (mask(7, 7) | mask(24, 63))) return { reason: "context-entry-reserved-bit", fpd };
  const levels = bits(high, 0, 2) + 2;
  const type = bits(low, 2, 3);
  const known = type === UNTRANSLATED || (type === WITH_DEVICE_TLB && unit.deviceTlb) || (type === PASS_THROUGH && unit.passThrough);
  if (!known || !unit.levels.includes(levels)) return { reason: "context-entry-invalid", fpd };
  return { context: { passThrough: type === PASS_THROUGH, secondStageTable: low & POINTER, levels, domainId: bits(high, 8, 23) }, fpd };
}

export function scalableContext(
  memory: TableMemory, table: bigint, devfn: number, unit: VtdCapabilities, read: StructureRead[],
): ContextLookup<ScalableContext> {
  const address = table + BigInt(devfn & 0x7f) * 32n;
  const words = readWords(memory, address, 4);
  if (!words) return { reason: "context-table-access-error", fpd: false };
  const [low = 0n, second = 0n, third = 0n, fourth = 0n] = words;
  read.push({ structure: "scalable-context-entry", address, words });
  const fpd = bit(low, 1);
  if (!bit(low, 0)) return { reason: "context-entry-not-present", fpd };
  // DTE and PRE are reserved on units without device TLBs and page requests.
  const reserved = mask(5, 8) | mask(unit.haw, 63) | (unit.deviceTlb ? 0n : mask(2, 2)) | (unit.pageRequests ? 0n : mask(4, 4));
  if (low & reserved || second & mask(21, 63) || third | fourth) return { reason: "context-entry-reserved-bit", fpd };
  const context = { directory: low & POINTER, pasids: 2 ** (bits(low, 9, 11) + 13), pasidEnable: bit(low, 3), ridPasid: bits(second, 0, 19) };
  return { context, fpd };
}
