// VT-d second-stage tables, 3 to 5 levels. Intel VT-d Architecture Specification, 3.7 (walk) and 9.8 (entries).
//
//   63 62 ... 52 51               12 11 10 9 8 7  6..3 2 1 0
//   ignored      address             SNP   D A PS      X W R     R = W = 0: not present; PS: leaf (levels 1 and 2)
//
// Imports layout and the contract. X exists only with execute requests, which no unit here has: data needs R or W.
import { PERM_R, PERM_W } from "../layout";
import { EMPTY, Format, LEAF, TABLE, INVALID } from "./format";

const ADDRESS: u64 = 0x000ffffffffff000;
const READ_WRITE: u64 = 3;
const PAGE_SIZE: u64 = 0x80;

@unmanaged
@final
export class VtdSecond extends Format {
  @inline accessedBit(): u64 { return 0x100; }
  @inline allPermissions(): u64 { return READ_WRITE; }
  @inline combine(above: u64, pte: u64): u64 { return above & pte; }
  @inline dirtyBit(): u64 { return 0x200; }
  @inline largeLg2(): u32 { return 21; }
  @inline smallLg2(): u32 { return 12; }
  @inline isTable(pte: u64, _level: u32): bool { return <u32>((pte & (PAGE_SIZE | READ_WRITE)) - 1) < 3; }
  @inline kind(pte: u64, level: u32): u32 {
    if (!(pte & READ_WRITE)) return EMPTY;
    if (level == 0) return LEAF;
    if (!(pte & PAGE_SIZE)) return TABLE;
    // PS is reserved above 1 GiB, and so are the address bits below a large page (9.8, tables of entries).
    if (level > 2 || (pte & ADDRESS & ((<u64>1 << this.spanLg2(level)) - 1)) != 0) return INVALID;
    return LEAF;
  }
  @inline leafLg2(_pte: u64, level: u32): u32 { return this.spanLg2(level); }
  @inline leafAddress(pte: u64, _level: u32): u64 { return pte & ADDRESS; }
  @inline leafSizes(level: u32): u64 { return level > 2 ? 0 : <u64>1 << this.spanLg2(level); }
  @inline makeLeaf(level: u32, _lg2: u32, hpa: u64, perm: u32): u64 {
    return hpa | <u64>(perm & (PERM_R | PERM_W)) | (level == 0 ? 0 : PAGE_SIZE);
  }
  @inline makeTable(_level: u32, table: usize): u64 { return <u64>table | READ_WRITE; }
  @inline maxLevels(): u32 { return 5; }
  @inline minLevels(): u32 { return 3; }
  @inline permissions(combined: u64): u32 { return <u32>(combined & READ_WRITE); }
  @inline expressible(): u32 { return (1 << PERM_R) | (1 << PERM_W) | (1 << (PERM_R | PERM_W)); }
  @inline spanLg2(level: u32): u32 { return 12 + 9 * level; }
  @inline tableLg2(): u32 { return 9; }
  @inline tableAddress(pte: u64): u64 { return pte & ADDRESS; }
}
