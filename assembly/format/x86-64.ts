// x86-64 tables as a first stage, 4 and 5 levels. Intel SDM volume 3, 4.5 (4-level and 5-level paging); Intel VT-d
// Architecture Specification, 3.6 (first-stage translation) and 9.7 (entries).
//
//   63 62 ... 52 51               13 12  11 ... 8 7  6 5 4 3 2  1  0
//   XD ignored   address             PAT ignored  PS D A     US RW P     PAT: bit 12 of large pages, else an address bit;
//                                                                        bit 7 of a 4 KiB leaf is PAT too
// Reading cannot be denied but by US. XD is reserved where execute-disable is off: the domain's affair (DOMAIN_RESERVED_*).
// Imports layout, fault and the contract.
import { OPTION_WRITE_PROTECT, PERM_CLEAN, PERM_R, PERM_UNUSED, PERM_W, PERM_X } from "../layout";
import { REASON_RESERVED } from "../fault";
import { EMPTY, Format, INVALID, LEAF, TABLE } from "./format";

const ADDRESS: u64 = 0x000ffffffffff000;
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const PAGE_SIZE: u64 = 0x80;
/** Address bits below a large page are reserved, but for bit 12. */
const LARGE_PAT: u64 = 0x1000;
const EXECUTE_DISABLE: u64 = 0x8000000000000000;

@unmanaged
@final
export class X86 extends Format {
  @inline accessed(tables: u64, leaf: u64): bool { return (tables & leaf & ACCESSED) != 0; }
  @inline addressField(): u64 { return ADDRESS; }
  @inline clean(leaf: u64): bool { return !(leaf & DIRTY); }
  @inline cleaned(leaf: u64): u64 { return leaf & ~DIRTY; }
  /** XD counts when it is set anywhere, the others when they are set everywhere: inverted it is one AND. */
  @inline combine(above: u64, pte: u64): u64 { return above & (pte ^ EXECUTE_DISABLE); }
  @inline concatenated(): u32 { return 0; }
  /** Every page can be read. */
  @inline dirty(leaf: u64): bool { return (leaf & DIRTY) != 0; }
  @inline expressible(): u32 {
    return (1 << PERM_R) | (1 << (PERM_R | PERM_W)) | (1 << (PERM_R | PERM_X)) | (1 << (PERM_R | PERM_W | PERM_X));
  }
  @inline halves(): bool { return false; }
  @inline isTable(pte: u64, _level: u32, reserved: u64): bool { return (pte & (PRESENT | PAGE_SIZE | reserved)) == PRESENT; }
  @inline kind(pte: u64, level: u32): u32 {
    if (!(pte & PRESENT)) return EMPTY;
    if (level == 0) return LEAF;
    if (!(pte & PAGE_SIZE)) return TABLE;
    if (level > 2 || (pte & ADDRESS & ~LARGE_PAT & ((<u64>1 << this.spanLg2(level)) - 1)) != 0) return INVALID;
    return LEAF;
  }
  @inline largeLg2(): u32 { return 21; }
  @inline smallLg2(): u32 { return 12; }
  @inline leafLg2(_pte: u64, level: u32): u32 { return this.spanLg2(level); }
  @inline leafAddress(pte: u64, level: u32): u64 { return pte & (level == 0 ? ADDRESS : ADDRESS & ~LARGE_PAT); }
  @inline leafSizes(level: u32): u64 { return level > 2 ? 0 : <u64>1 << this.spanLg2(level); }
  /** Accessed, and dirty where writable, in advance: hardware then never has to write, unless somebody collects the bits. */
  @inline makeLeaf(level: u32, _lg2: u32, hpa: u64, perm: u32): u64 {
    const write = perm & PERM_W ? WRITE : 0;
    const used = (perm & PERM_UNUSED ? 0 : ACCESSED) | ((perm & (PERM_W | PERM_CLEAN)) == PERM_W ? DIRTY : 0);
    return hpa | PRESENT | USER | write | used | (perm & PERM_X ? 0 : EXECUTE_DISABLE) | (level == 0 ? 0 : PAGE_SIZE);
  }
  @inline makeTable(_level: u32, table: usize): u64 { return <u64>table | PRESENT | WRITE | USER | ACCESSED; }
  @inline marked(pte: u64, _table: bool, written: bool): u64 { return pte | ACCESSED | (written ? DIRTY : 0); }
  @inline maxLevels(): u32 { return 5; }
  @inline minLevels(): u32 { return 4; }
  @inline permissions(tables: u64, leaf: u64, flags: u32): u32 {
    const granted = this.combine(tables, leaf);
    const write = <u32>(granted & WRITE);
    const execute = <u32>(granted >> 61) & PERM_X;
    const user = granted & USER ? PERM_R | write | execute : 0;
    // Without write protection a supervisor writes wherever it reads (SDM 4.6.1).
    const supervisor = PERM_R | (flags & OPTION_WRITE_PROTECT ? write : PERM_W) | execute;
    return user | (supervisor << 4);
  }
  @inline reservedBits(_table: bool): u64 { return 0; }
  @inline reservedReason(): u32 { return REASON_RESERVED; }
  @inline spanLg2(level: u32): u32 { return 12 + 9 * level; }
  @inline start(): u64 { return EXECUTE_DISABLE | WRITE | USER | ACCESSED; }
  @inline stage(): u32 { return 1; }
  @inline tableLg2(): u32 { return 9; }
  @inline tableAddress(pte: u64): u64 { return pte & ADDRESS; }
  @inline tableLevel(_pte: u64, level: u32): u32 { return level - 1; }
  @inline untracked(leaf: u64): u64 { return leaf & WRITE ? leaf | DIRTY : leaf & ~DIRTY; }
}
