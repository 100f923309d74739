// VT-d second-stage tables, 3 to 5 levels. Intel VT-d Architecture Specification, 3.7 (walk) and 9.8 (entries).
//
//   63 62 61 ... 52 51               12 11 10 9 8 7  6..3 2 1 0
//      TM ignored   address             SNP   D A PS      X W R     R = W = 0: not present; PS: leaf (levels 1 and 2)
//
// Imports layout, fault and the contract. X exists only with execute requests, which no unit here has: data needs R or W.
// SNP is reserved without snoop control: that is the domain's affair (DOMAIN_RESERVED_LEAF). TM, transient
// mapping, is for device TLBs, which no unit here serves.
import { PERM_R, PERM_W } from "../layout";
import { REASON_RESERVED } from "../fault";
import { EMPTY, Format, LEAF, TABLE, INVALID } from "./format";

const ADDRESS: u64 = 0x000ffffffffff000;
const READ_WRITE: u64 = 3;
const PAGE_SIZE: u64 = 0x80;
const ACCESSED: u64 = 0x100;
const DIRTY: u64 = 0x200;
const SNOOP: u64 = 0x800;
const TRANSIENT: u64 = 0x4000000000000000;

@unmanaged
@final
export class VtdSecond extends Format {
  @inline accessed(tables: u64, leaf: u64): bool { return (tables & leaf & ACCESSED) != 0; }
  @inline addressField(): u64 { return ADDRESS; }
  @inline clean(leaf: u64): bool { return !(leaf & DIRTY); }
  @inline cleaned(leaf: u64): u64 { return leaf & ~DIRTY; }
  @inline combine(above: u64, pte: u64): u64 { return above & pte; }
  @inline concatenated(): u32 { return 0; }
  @inline dirty(leaf: u64): bool { return (leaf & DIRTY) != 0; }
  @inline expressible(): u32 { return (1 << PERM_R) | (1 << PERM_W) | (1 << (PERM_R | PERM_W)); }
  @inline halves(): bool { return false; }
  @inline isTable(pte: u64, _level: u32, reserved: u64): bool {
    return (pte & (PAGE_SIZE | READ_WRITE | reserved)) - 1 < 3;
  }
  @inline kind(pte: u64, level: u32): u32 {
    if (!(pte & READ_WRITE)) return EMPTY;
    if (level == 0) return LEAF;
    if (!(pte & PAGE_SIZE)) return TABLE;
    // PS is reserved above 1 GiB, and so are the address bits below a large page (9.8, tables of entries).
    if (level > 2 || (pte & ADDRESS & ((<u64>1 << this.spanLg2(level)) - 1)) != 0) return INVALID;
    return LEAF;
  }
  @inline largeLg2(): u32 { return 21; }
  @inline smallLg2(): u32 { return 12; }
  @inline leafLg2(_pte: u64, level: u32): u32 { return this.spanLg2(level); }
  @inline leafAddress(pte: u64, _level: u32): u64 { return pte & ADDRESS; }
  @inline leafSizes(level: u32): u64 { return level > 2 ? 0 : <u64>1 << this.spanLg2(level); }
  @inline makeLeaf(level: u32, _lg2: u32, hpa: u64, perm: u32): u64 {
    return hpa | <u64>(perm & (PERM_R | PERM_W)) | (level == 0 ? 0 : PAGE_SIZE);
  }
  @inline makeTable(_level: u32, table: usize): u64 { return <u64>table | READ_WRITE; }
  @inline marked(pte: u64, _table: bool, written: bool): u64 { return pte | ACCESSED | (written ? DIRTY : 0); }
  @inline maxLevels(): u32 { return 5; }
  @inline minLevels(): u32 { return 3; }
  /** The privilege of a request means nothing to a second stage: both get the same. */
  @inline permissions(tables: u64, leaf: u64, _flags: u32): u32 { return <u32>(tables & leaf & READ_WRITE) * 0x11; }
  @inline reservedBits(table: bool): u64 { return table ? TRANSIENT | SNOOP : TRANSIENT; }
  @inline reservedReason(): u32 { return REASON_RESERVED; }
  @inline spanLg2(level: u32): u32 { return 12 + 9 * level; }
  @inline start(): u64 { return READ_WRITE | ACCESSED; }
  @inline stage(): u32 { return 2; }
  @inline tableLg2(): u32 { return 9; }
  @inline tableAddress(pte: u64): u64 { return pte & ADDRESS; }
  @inline tableLevel(_pte: u64, level: u32): u32 { return level - 1; }
  @inline untracked(leaf: u64): u64 { return leaf & ~DIRTY; }
}
