// AMD-Vi guest CR3 tables of one to three levels, each decoding nine bits of a PASID: AMD I/O Virtualization Technology
// Specification, 2.2.6 (GLX; entries of the GCR3 table). Every entry has the same form:
//   0 63..52 | address 51..12, of the next table or of the page table | 0 11..1 | V 0
// Imports layout, fault, memory, entry.
import { PASID_FIVE_LEVELS, PASID_TABLE_FLAGS, PASID_TABLE_LAYOUT, PASID_TABLE_ROOT } from "../layout";
import { REASON_PASID_INVALID, REASON_PASID_NOT_PRESENT } from "../fault";
import { NOWHERE } from "../memory";
import { describeX86, ENTRY_REFUSED, fetch, refuseEntry } from "./entry";

const VALID: u64 = 1;
const ADDRESS: u64 = 0x000ffffffffff000;
const RESERVED: u64 = 0xfff0000000000ffe;
const INDEX_BITS: u32 = 9;

/** The entry of a PASID: an ENTRY_*. */
export function decodeGcr3(engine: usize, port: usize, table: usize, pasid: u32, scratch: usize): u32 {
  let address = load<u64>(table, PASID_TABLE_ROOT);
  for (let level = load<u32>(table, PASID_TABLE_LAYOUT) - 1; ; level--) {
    const index = (pasid >> (INDEX_BITS * level)) & ((1 << INDEX_BITS) - 1);
    const at = fetch(engine, port, table, address + (<u64>index << 3), level);
    if (at == NOWHERE) return ENTRY_REFUSED;
    const word = atomic.load<u64>(at);
    if (!(word & VALID)) return refuseEntry(port, REASON_PASID_NOT_PRESENT, level, word);
    if (word & RESERVED) return refuseEntry(port, REASON_PASID_INVALID, level, word);
    address = word & ADDRESS;
    if (!level) break;
  }
  return describeX86(engine, table, scratch, load<u32>(table, PASID_TABLE_FLAGS) & PASID_FIVE_LEVELS ? 5 : 4, address, 0);
}
