// A format for tests, with small tables: few mappings reach every level, the end of a table is never far, and the bits sit
// where no other format has them.
//
//   63..52  51            12  11..8 7 6 5 4 3 2 1 0
//   0       address           N     0 D A X W R T V     V: valid. T: pointer to a table (N is 0, R, W and X mean nothing).
//                                                       Else a leaf, at levels 0 to 3: 2^N equal entries, N up to 3
//
// Every table has 16 entries. Address bits below a leaf's size are ignored. Imports layout, fault and the contract.
import { PERM_CLEAN, PERM_R, PERM_UNUSED, PERM_W, PERM_X } from "../layout";
import { REASON_RESERVED } from "../fault";
import { EMPTY, Format, INVALID, LEAF, TABLE } from "./format";

const ADDRESS: u64 = 0x000ffffffffff000;
const VALID: u64 = 1;
const POINTER: u64 = 2;
const PERM_SHIFT: u64 = 2;
const PERMS: u64 = 7;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const RESERVED: u64 = 0xfff0000000000080;
const COUNT: u64 = 0xf00;
const COUNT_SHIFT: u64 = 8;
const MOST_EQUAL_LG2: u32 = 3;
const HIGHEST_LEAF: u32 = 3;

@unmanaged
@final
export class Mock extends Format {
  @inline accessed(tables: u64, leaf: u64): bool { return (tables & leaf & ACCESSED) != 0; }
  @inline addressField(): u64 { return ADDRESS; }
  @inline clean(leaf: u64): bool { return !(leaf & DIRTY); }
  @inline cleaned(leaf: u64): u64 { return leaf & ~DIRTY; }
  @inline combine(above: u64, pte: u64): u64 { return above & pte; }
  @inline concatenated(): u32 { return 0; }
  @inline dirty(leaf: u64): bool { return (leaf & DIRTY) != 0; }
  @inline equalLg2(leaf: u64): u32 { return <u32>(leaf >> COUNT_SHIFT) & 15; }
  @inline expressible(): u32 { return 0xfe; }
  @inline halves(): bool { return false; }
  @inline isTable(pte: u64, _level: u32, reserved: u64): bool {
    return (pte & (VALID | POINTER | reserved)) == (VALID | POINTER);
  }
  @inline kind(pte: u64, level: u32): u32 {
    if (!(pte & VALID)) return EMPTY;
    if (pte & POINTER) return level == 0 ? INVALID : TABLE;
    return level > HIGHEST_LEAF || this.equalLg2(pte) > MOST_EQUAL_LG2 ? INVALID : LEAF;
  }
  @inline largeLg2(): u32 { return 16; }
  @inline smallLg2(): u32 { return 12; }
  @inline leafLg2(pte: u64, level: u32): u32 { return this.spanLg2(level) + this.equalLg2(pte); }
  @inline leafAddress(pte: u64, level: u32): u64 { return pte & ADDRESS & ~((<u64>1 << this.leafLg2(pte, level)) - 1); }
  @inline leafSizes(level: u32): u64 { return level > HIGHEST_LEAF ? 0 : <u64>15 << this.spanLg2(level); }
  @inline makeLeaf(level: u32, lg2: u32, hpa: u64, perm: u32): u64 {
    const equal = <u64>(lg2 - this.spanLg2(level)) << COUNT_SHIFT;
    const used = (perm & PERM_UNUSED ? 0 : ACCESSED) | ((perm & (PERM_W | PERM_CLEAN)) == PERM_W ? DIRTY : 0);
    return hpa | VALID | (<u64>(perm & (PERM_R | PERM_W | PERM_X)) << PERM_SHIFT) | used | equal;
  }
  @inline makeTable(_level: u32, table: usize): u64 { return <u64>table | VALID | POINTER | ACCESSED; }
  @inline marked(pte: u64, _table: bool, written: bool): u64 { return pte | ACCESSED | (written ? DIRTY : 0); }
  @inline maxLevels(): u32 { return 6; }
  @inline minLevels(): u32 { return 1; }
  @inline permissions(_tables: u64, leaf: u64, _flags: u32): u32 { return (<u32>(leaf >> PERM_SHIFT) & <u32>PERMS) * 0x11; }
  @inline reservedBits(table: bool): u64 { return table ? RESERVED | COUNT : RESERVED; }
  @inline reservedReason(): u32 { return REASON_RESERVED; }
  @inline spanLg2(level: u32): u32 { return 12 + 4 * level; }
  @inline stage(): u32 { return 2; }
  @inline start(): u64 { return ACCESSED; }
  @inline tableLg2(): u32 { return 4; }
  @inline tableAddress(pte: u64): u64 { return pte & ADDRESS; }
  @inline tableLevel(_pte: u64, level: u32): u32 { return level - 1; }
  @inline untracked(leaf: u64): u64 { return leaf & (<u64>PERM_W << PERM_SHIFT) ? leaf | DIRTY : leaf & ~DIRTY; }
}
