// AMD device table: one 256-bit entry a DeviceID. AMD I/O Virtualization Technology Specification, 2.2.2.1 (device table entry
// and its reserved fields). Imports the shared helpers.
//
//   word 0  0 63 | IW 62 | IR 61 | GCR3 60..58 | GLX 57..56 | GV 55 | GIoV 54 | GPRP 53 | PPR 52 | Root 51..12 | Mode 11..9 |
//           HAD 8..7 | 0 6..2 | TV 1 | V 0
//   word 1  GCR3 63..43 | SATS 42 | SysMgt 41..40 | EX 39 | SD 38 | Cache 37 | IoCtl 36..35 | SA 34 | SE 33 | I 32 | GCR3 31..16 |
//           DomainID 15..0
//   word 2  interrupts: IntCtl 61..60, Lint1 63, Lint0 62, NMI 58, EInt 57, Init 56, root 51..6, IG 5, IntTabLen 4..1, IV 0
//   word 3  snoop attributes 63..56 | Mode0FC 55 | AttrV 54 | 0 53..0
import { bit, bits, mask, readWords, type StructureRead, type TableMemory } from "./structure.js";

/** What the unit can do: the extended feature register (3.4.11), as far as device table entries depend on it. */
export interface AmdCapabilities {
  /** EFR.HATS: most levels of host tables, 4 to 6. */
  levels: number;
  /** EFR.GTSup: guest tables. None are modelled: an entry with GV is refused by a unit without them. */
  guestTables: boolean;
}

export function amdCapabilities(efr: bigint): AmdCapabilities {
  return { levels: bits(efr, 10, 11) + 4, guestTables: bit(efr, 4) };
}

export interface DeviceTable {
  base: bigint;
  entries: number;
}

export type DeviceEntry =
  /** V = 0: everything passes untranslated (table 7). */
  | { kind: "pass-through" }
  /** TV = 0: there is nothing to translate by, and no event. */
  | { kind: "no-translation" }
  /** Mode 0: not translated, but for what IR and IW refuse. */
  | { kind: "untranslated"; readable: boolean; writable: boolean; suppress: boolean }
  | { kind: "tables"; levels: number; root: bigint; readable: boolean; writable: boolean; domainId: number; suppress: boolean }
  /** `reserved`: for a reserved bit, not for a value without meaning (the event's RZ flag). */
  | { kind: "fault"; event: "ILLEGAL_DEV_TABLE_ENTRY" | "DEV_TAB_HARDWARE_ERROR"; reserved: boolean; address: bigint };

const ROOT = mask(12, 51);
/** Fields that are reserved in a valid entry of a unit without virtualised IOMMUs, which would have some of word 3. */
const RESERVED = [mask(2, 6) | mask(63, 63), 0n, mask(52, 55), mask(0, 53)] as const;
const MODE_RESERVED = 7;

export function deviceEntry(memory: TableMemory, table: DeviceTable, deviceId: number, unit: AmdCapabilities, read: StructureRead[]): DeviceEntry {
  const address = table.base + BigInt(deviceId) * 32n;
  const illegal = (reserved: boolean): DeviceEntry => ({ kind: "fault", event: "ILLEGAL_DEV_TABLE_ENTRY", reserved, address });
  // A DeviceID beyond the table's size (2.2.2).
  if (deviceId >= table.entries) return illegal(false);
  const words = readWords(memory, address, 4);
  if (!words) return { kind: "fault", event: "DEV_TAB_HARDWARE_ERROR", reserved: false, address };
  read.push({ structure: "device-table-entry", address, words });
  const [first = 0n, second = 0n] = words;
  if (!bit(first, 0)) return { kind: "pass-through" };
  if (words.some((word, i) => word & RESERVED[i]!)) return illegal(true);
  if (!bit(first, 1)) return { kind: "no-translation" };
  const levels = bits(first, 9, 11);
  // An unsupported Mode, and guest tables where there are none (2.2.2.1).
  if (levels === MODE_RESERVED || levels > unit.levels || bit(first, 55)) return illegal(false);
  const common = { readable: bit(first, 61), writable: bit(first, 62), suppress: bit(second, 34) };
  if (levels === 0) return { kind: "untranslated", ...common };
  return { kind: "tables", levels, root: first & ROOT, domainId: bits(second, 0, 15), ...common };
}
