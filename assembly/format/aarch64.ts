// What both stages of VMSAv8-64 share: granules, and descriptors without their permissions. Arm ARM (DDI 0487), D8.2
// (translation process), D8.3 (descriptor formats). 48-bit addresses: neither FEAT_LPA nor FEAT_LPA2.
//
//   63 ... 52 51  50..48 47                  n     11 10 9 8 7 6 5..2 1 0     n: log2 of the granule
//   stage    DBM        address                       AF SH  stage    T V     V: valid. T: table above level 0, page at it;
//                                                                             V without T: block, at some levels
//
// Levels here count from 0 at the pages: level l is Arm's level 3 - l. The contiguous hint (bit 52) lets hardware keep one
// entry for several leaves; it changes neither address nor permission, and is ignored. A block where the granule has none,
// and a page without T, are not valid (D8.3.1). Bits below a block's address are RES0 and ignored.
// Imports layout, fault and the contract.
import { REASON_ADDRESS_SIZE } from "../fault";
import { EMPTY, Format, LEAF, TABLE } from "./format";

export const ACCESSED: u64 = 0x400;
export const DIRTY_MODIFIER: u64 = 0x0008000000000000;
export const INNER_SHAREABLE: u64 = 0x300;
const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
const ADDRESS: u64 = 0x0000fffffffff000;

/** A granule: log2 of the page, the highest level with blocks, and how many levels 25 to 48 bits of input can take. */
@unmanaged
export abstract class Granule {
  abstract lg2(): u32;
  abstract highestBlock(): u32;
  abstract most(): u32;
  abstract fewest(): u32;
}

@unmanaged
@final
export class Granule4K extends Granule {
  @inline lg2(): u32 { return 12; }
  @inline highestBlock(): u32 { return 2; }
  @inline most(): u32 { return 4; }
  @inline fewest(): u32 { return 2; }
}

@unmanaged
@final
export class Granule16K extends Granule {
  @inline lg2(): u32 { return 14; }
  @inline highestBlock(): u32 { return 1; }
  @inline most(): u32 { return 4; }
  @inline fewest(): u32 { return 1; }
}

@unmanaged
@final
export class Granule64K extends Granule {
  @inline lg2(): u32 { return 16; }
  @inline highestBlock(): u32 { return 1; }
  @inline most(): u32 { return 3; }
  @inline fewest(): u32 { return 1; }
}

@unmanaged
export abstract class AArch64<G extends Granule> extends Format {
  @inline accessed(_tables: u64, leaf: u64): bool { return (leaf & ACCESSED) != 0; }
  @inline addressField(): u64 { return ADDRESS & ~((<u64>1 << changetype<G>(0).lg2()) - 1); }
  @inline isTable(pte: u64, _level: u32, reserved: u64): bool {
    return (pte & (VALID | TABLE_OR_PAGE | reserved)) == (VALID | TABLE_OR_PAGE);
  }
  @inline kind(pte: u64, level: u32): u32 {
    if (!(pte & VALID)) return EMPTY;
    if (pte & TABLE_OR_PAGE) return level == 0 ? LEAF : TABLE;
    return level == 0 || level > changetype<G>(0).highestBlock() ? EMPTY : LEAF;
  }
  @inline largeLg2(): u32 { return this.spanLg2(1); }
  @inline smallLg2(): u32 { return changetype<G>(0).lg2(); }
  @inline leafLg2(_pte: u64, level: u32): u32 { return this.spanLg2(level); }
  @inline leafAddress(pte: u64, level: u32): u64 { return pte & ADDRESS & ~((<u64>1 << this.spanLg2(level)) - 1); }
  @inline leafSizes(level: u32): u64 { return level > changetype<G>(0).highestBlock() ? 0 : <u64>1 << this.spanLg2(level); }
  @inline leafType(level: u32): u64 { return level == 0 ? VALID | TABLE_OR_PAGE : VALID; }
  @inline makeTable(_level: u32, table: usize): u64 { return <u64>table | VALID | TABLE_OR_PAGE; }
  @inline maxLevels(): u32 { return changetype<G>(0).most(); }
  @inline minLevels(): u32 { return changetype<G>(0).fewest(); }
  @inline reservedBits(_table: bool): u64 { return 0; }
  /** Nothing is reserved but address bits that the output size lacks (D8.2.8, output address size faults). */
  @inline reservedReason(): u32 { return REASON_ADDRESS_SIZE; }
  @inline spanLg2(level: u32): u32 { return changetype<G>(0).lg2() + this.tableLg2() * level; }
  @inline tableLg2(): u32 { return changetype<G>(0).lg2() - 3; }
  @inline tableAddress(pte: u64): u64 { return pte & this.addressField(); }
  @inline tableLevel(_pte: u64, level: u32): u32 { return level - 1; }
}
