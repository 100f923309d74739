// VT-d scalable mode: PASID directory and PASID table. Intel VT-d Architecture Specification, 9.5 and 9.6; conditions in the
// order of 7.1.3. A guest has first stages and pass-through: second stages, and nesting, are the host's.
//   directory entry  SMPTBLPTR 63..12 | 0 | FPD 1 | P 0
//   table entry      word 0  0 11..10 | PGTT 8..6 | AW 4..2 | P 0      word 2  FSPTPTR 63..12 | 0 11..8 | WPE 4 | FSPM 3..2
//                    word 1  0 22..16                                  words 4..7  0
// Imports layout, fault, memory, entry. Execute requests are not taken: XD is ignored (9.7).
import { OPTION_WRITE_PROTECT, PASID_FIVE_LEVELS, PASID_TABLE_FLAGS, PASID_TABLE_OUTPUT_LG2, PASID_TABLE_ROOT } from "../layout";
import { REASON_PASID_INVALID, REASON_PASID_NOT_PRESENT } from "../fault";
import { lowBits } from "../format/format";
import { NOWHERE } from "../memory";
import { describeX86, ENTRY_PASS, ENTRY_REFUSED, fetch, refuseEntry } from "./entry";

const PRESENT: u64 = 1;
const POINTER: u64 = 0xfffffffffffff000;
const DIRECTORY_RESERVED: u64 = 0xffc;
const FIRST_RESERVED: u64 = 0xc00;
const SECOND_RESERVED: u64 = 0x7f0000;
const THIRD_RESERVED: u64 = 0xf00;
const FIRST_STAGE: u64 = 1;
const PASS_THROUGH: u64 = 4;
const WRITE_PROTECT: u64 = 0x10;
const TABLE_LG2: u32 = 6;
const ENTRY_LG2: u64 = 6;

/** The entry of a PASID: an ENTRY_*. */
export function decodeVtd(engine: usize, port: usize, table: usize, pasid: u32, scratch: usize): u32 {
  const beyond = ~lowBits(load<u32>(table, PASID_TABLE_OUTPUT_LG2));
  let at = fetch(engine, port, table, load<u64>(table, PASID_TABLE_ROOT) + (<u64>(pasid >> TABLE_LG2) << 3), 1);
  if (at == NOWHERE) return ENTRY_REFUSED;
  const pointer = atomic.load<u64>(at);
  if (!(pointer & PRESENT)) return refuseEntry(port, REASON_PASID_NOT_PRESENT, 1, pointer);
  if (pointer & (DIRECTORY_RESERVED | beyond)) return refuseEntry(port, REASON_PASID_INVALID, 1, pointer);
  at = fetch(engine, port, table, (pointer & POINTER) + (<u64>(pasid & ((1 << TABLE_LG2) - 1)) << ENTRY_LG2), 0);
  if (at == NOWHERE) return ENTRY_REFUSED;
  const first = atomic.load<u64>(at);
  const third = atomic.load<u64>(at, 16);
  if (!(first & PRESENT)) return refuseEntry(port, REASON_PASID_NOT_PRESENT, 0, first);
  const last = atomic.load<u64>(at, 32) | atomic.load<u64>(at, 40) | atomic.load<u64>(at, 48) | atomic.load<u64>(at, 56);
  if (first & (FIRST_RESERVED | beyond) || atomic.load<u64>(at, 8) & SECOND_RESERVED || third & (THIRD_RESERVED | beyond) || last) {
    return refuseEntry(port, REASON_PASID_INVALID, 0, first);
  }
  const kind = first >> 6 & 7;
  if (kind == PASS_THROUGH) {
    // AW: 3, 4 or 5 levels, though there are none.
    const width = first >> 2 & 7;
    return width < 1 || width > 3 ? refuseEntry(port, REASON_PASID_INVALID, 0, first) : ENTRY_PASS;
  }
  const levels: u32 = 4 + <u32>(third >> 2 & 3);
  const five = (load<u32>(table, PASID_TABLE_FLAGS) & PASID_FIVE_LEVELS) != 0;
  if (kind != FIRST_STAGE || levels > 5 || (levels == 5 && !five)) return refuseEntry(port, REASON_PASID_INVALID, 0, first);
  return describeX86(engine, table, scratch, levels, third & POINTER, third & WRITE_PROTECT ? OPTION_WRITE_PROTECT : 0);
}
