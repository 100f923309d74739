// VT-d PASID directory and PASID table. Intel VT-d Architecture Specification, 9.5 (directory entry, 64 bits) and 9.6 (table
// entry, 512 bits; words 4 to 7 reserved). Imports the shared helpers, the unit's capabilities and the fault names.
//
//   directory entry  SMPTBLPTR 63..12 | 0 | FPD 1 | P 0
//   table entry      word 0  SSPTPTR 63..12 | 0 11..10 | SSADE 9 | PGTT 8..6 | SSEE 5 | AW 4..2 | FPD 1 | P 0
//                    word 1  PAT 63..32 | ... | CD 25 | PGSNP 24 | PWSNP 23 | 0 | DID 15..0
//                    word 2  FSPTPTR 63..12 | 0 11..8 | EAFE 7 | SMEP 6 | NXE 5 | WPE 4 | FSPM 3..2 | ERE 1 | SRE 0
import type { VtdReason } from "../faults/vtd.js";
import { bit, bits, mask, readWords, type StructureRead, type TableMemory } from "./structure.js";
import type { VtdCapabilities } from "./vtd-capabilities.js";

const POINTER = mask(12, 63);
/** PGTT. */
const FIRST_STAGE = 1;
const SECOND_STAGE = 2;
const NESTED = 3;
const PASS_THROUGH = 4;

export interface PasidEntry {
  kind: "first" | "second" | "nested" | "pass-through";
  domainId: number;
  /** Levels and table of the first stage; 0 where there is none. */
  firstLevels: number;
  firstTable: bigint;
  writeProtect: boolean;
  noExecuteEnable: boolean;
  secondLevels: number;
  secondTable: bigint;
  secondAccessedDirty: boolean;
}

export type PasidLookup = { entry: PasidEntry; fpd: boolean } | { reason: VtdReason; fpd: boolean };

const KINDS = new Map<number, PasidEntry["kind"]>([
  [FIRST_STAGE, "first"], [SECOND_STAGE, "second"], [NESTED, "nested"], [PASS_THROUGH, "pass-through"],
]);

function supported(kind: PasidEntry["kind"], unit: VtdCapabilities): boolean {
  if (kind === "first") return unit.firstStage;
  if (kind === "second") return unit.secondStage;
  return kind === "nested" ? unit.nested && unit.firstStage && unit.secondStage : unit.passThrough;
}

/** The entry of a PASID; the first condition of 7.1.3 that fails ends the search. */
export function pasidEntry(
  memory: TableMemory, directory: bigint, pasid: number, unit: VtdCapabilities, read: StructureRead[],
): PasidLookup {
  const at = directory + BigInt(pasid >> 6) * 8n;
  const pointer = memory.read64(at);
  if (pointer === undefined) return { reason: "pasid-dir-access-error", fpd: false };
  read.push({ structure: "pasid-directory-entry", address: at, words: [pointer] });
  const directoryFpd = bit(pointer, 1);
  if (!bit(pointer, 0)) return { reason: "pasid-dir-entry-not-present", fpd: directoryFpd };
  if (pointer & (mask(2, 11) | mask(unit.haw, 63))) return { reason: "pasid-dir-entry-reserved-bit", fpd: directoryFpd };
  const address = (pointer & POINTER) + BigInt(pasid & 63) * 64n;
  const words = readWords(memory, address, 8);
  if (!words) return { reason: "pasid-table-access-error", fpd: directoryFpd };
  read.push({ structure: "pasid-table-entry", address, words });
  const fpd = directoryFpd || bit(words[0]!, 1);
  const reason = defect(words, unit);
  return reason ? { reason, fpd } : { entry: decode(words), fpd };
}

/** Absent, reserved, invalid: in this order. */
function defect(words: readonly bigint[], unit: VtdCapabilities): VtdReason | undefined {
  const [first = 0n, second = 0n, third = 0n, ...rest] = words;
  if (!bit(first, 0)) return "pasid-entry-not-present";
  const beyond = mask(unit.haw, 63);
  if (first & (mask(10, 11) | beyond) || second & mask(16, 22) || third & (mask(8, 11) | beyond) || rest.slice(1).some(Boolean)) {
    return "pasid-entry-reserved-bit";
  }
  const kind = KINDS.get(bits(first, 6, 8));
  if (kind === undefined || !supported(kind, unit)) return "pasid-entry-invalid";
  if (kind !== "first" && !unit.levels.includes(bits(first, 2, 4) + 2)) return "pasid-entry-invalid";
  const fspm = bits(third, 2, 3);
  if ((kind === "first" || kind === "nested") && fspm !== 0 && !(fspm === 1 && unit.fiveLevels)) return "pasid-entry-invalid";
  return undefined;
}

function decode([first = 0n, second = 0n, third = 0n]: readonly bigint[]): PasidEntry {
  const kind = KINDS.get(bits(first, 6, 8))!;
  return {
    kind,
    domainId: bits(second, 0, 15),
    firstLevels: bits(third, 2, 3) + 4,
    firstTable: third & POINTER,
    writeProtect: bit(third, 4),
    noExecuteEnable: bit(third, 5),
    secondLevels: bits(first, 2, 4) + 2,
    secondTable: first & POINTER,
    secondAccessedDirty: bit(first, 9),
  };
}
