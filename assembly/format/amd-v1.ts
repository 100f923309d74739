// AMD host tables ("v1"), 1 to 6 levels, 64-bit input. AMD I/O Virtualization Technology Specification, 2.2.3,
// tables "I/O page translation entry (PTE)" and "page directory entry (PDE)".
//
//   63 62 61 60 59 58..52 51            12 11..9      8 7 6 5 4..1 0
//      IW IR FC U         address          NextLevel      D A      PR      FC, U and D: leaves only
//
//   NextLevel 0: leaf of the entry's own span. 7: leaf whose size is in the address: k ones from bit 12 up and a zero mean
//   2^(13 + k) bytes, and as many equal entries as that covers. Else: pointer to a table of that level, counted from 1.
//   A pointer may skip levels; it then serves only iovas whose bits of those levels are zero. Nothing here writes one.
//   2^39 is walked as a leaf size and never written: hardware has an erratum there.
//
// Imports layout, fault and the contract.
import { PERM_R, PERM_W } from "../layout";
import { REASON_RESERVED } from "../fault";
import { EMPTY, Format, INVALID, LEAF, TABLE } from "./format";

const ADDRESS: u64 = 0x000ffffffffff000;
const PRESENT: u64 = 1;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const RESERVED_IN_LEAF: u64 = 0x07f0000000000000; // bits 58..52
const RESERVED_IN_TABLE: u64 = 0x1ff0000000000000; // bits 60..52: a PDE has no U and FC
const READ_WRITE: u64 = 0x6000000000000000;
const PERM_SHIFT: u64 = 61;
const CODED: u32 = 7;
const ERRATUM_LG2: u32 = 39;
/** Leaves reach 2^51: half of the 52-bit output space. */
const LARGEST_LG2: u32 = 51;

@unmanaged
@final
export class AmdV1 extends Format {
  @inline accessed(tables: u64, leaf: u64): bool { return (tables & leaf & ACCESSED) != 0; }
  @inline addressField(): u64 { return ADDRESS; }
  @inline clean(leaf: u64): bool { return !(leaf & DIRTY); }
  @inline cleaned(leaf: u64): u64 { return leaf & ~DIRTY; }
  @inline combine(above: u64, pte: u64): u64 { return above & pte; }
  @inline concatenated(): u32 { return 0; }
  @inline dirty(leaf: u64): bool { return (leaf & DIRTY) != 0; }
  @inline expressible(): u32 { return (1 << PERM_R) | (1 << PERM_W) | (1 << (PERM_R | PERM_W)); }
  @inline halves(): bool { return false; }
  @inline nextLevel(pte: u64): u32 { return <u32>(pte >> 9) & 7; }
  /** A pointer that skips levels is left to the exact walker. */
  @inline isTable(pte: u64, level: u32, reserved: u64): bool {
    return (pte & (0xe01 | reserved)) == ((<u64>level << 9) | PRESENT);
  }
  @inline kind(pte: u64, level: u32): u32 {
    if (!(pte & PRESENT)) return EMPTY;
    const next = this.nextLevel(pte);
    if (next != 0 && next != CODED) return next <= level ? TABLE : INVALID;
    const lg2 = this.leafLg2(pte, level);
    const span = this.spanLg2(level);
    if (lg2 > LARGEST_LG2 || lg2 > span + 8 || (next == CODED && lg2 <= span)) return INVALID;
    return next == 0 && (pte & ADDRESS & ((<u64>1 << span) - 1)) != 0 ? INVALID : LEAF;
  }
  @inline largeLg2(): u32 { return 21; }
  @inline smallLg2(): u32 { return 12; }
  @inline leafLg2(pte: u64, level: u32): u32 {
    return this.nextLevel(pte) == CODED ? 13 + <u32>ctz(~((pte & ADDRESS) >> 12)) : this.spanLg2(level);
  }
  @inline leafAddress(pte: u64, level: u32): u64 {
    return pte & ADDRESS & ~((<u64>1 << this.leafLg2(pte, level)) - 1);
  }
  /** From the entry's own span up to half a table, as far as the output space and the erratum let it. */
  @inline leafSizes(level: u32): u64 {
    if (level > 4) return 0;
    const span = this.spanLg2(level);
    const last = min<u32>(span + 8, LARGEST_LG2);
    return (((<u64>2 << last) - 1) & ~((<u64>1 << span) - 1)) & ~(<u64>1 << ERRATUM_LG2);
  }
  @inline makeLeaf(level: u32, lg2: u32, hpa: u64, perm: u32): u64 {
    const entry = hpa | PRESENT | (<u64>(perm & (PERM_R | PERM_W)) << PERM_SHIFT);
    if (lg2 == this.spanLg2(level)) return entry;
    return entry | (<u64>CODED << 9) | (((<u64>1 << (lg2 - 1)) - 1) & ADDRESS);
  }
  @inline makeTable(level: u32, table: usize): u64 {
    return <u64>table | PRESENT | READ_WRITE | (<u64>level << 9);
  }
  @inline marked(pte: u64, _table: bool, written: bool): u64 { return pte | ACCESSED | (written ? DIRTY : 0); }
  @inline maxLevels(): u32 { return 6; }
  @inline minLevels(): u32 { return 1; }
  @inline permissions(tables: u64, leaf: u64, _flags: u32): u32 {
    return (<u32>((tables & leaf) >> PERM_SHIFT) & (PERM_R | PERM_W)) * 0x11;
  }
  @inline reservedBits(table: bool): u64 { return table ? RESERVED_IN_TABLE : RESERVED_IN_LEAF; }
  @inline reservedReason(): u32 { return REASON_RESERVED; }
  @inline spanLg2(level: u32): u32 { return 12 + 9 * level; }
  @inline start(): u64 { return READ_WRITE | ACCESSED; }
  @inline stage(): u32 { return 2; }
  @inline tableLg2(): u32 { return 9; }
  @inline tableAddress(pte: u64): u64 { return pte & ADDRESS; }
  @inline tableLevel(pte: u64, _level: u32): u32 { return this.nextLevel(pte) - 1; }
  @inline untracked(leaf: u64): u64 { return leaf & ~DIRTY; }
}
