// VMSAv8-64 stage 2, with up to 16 start tables side by side. Arm ARM (DDI 0487), D8.2.2 (concatenation), D8.3
// (descriptors), D8.4.2 (permissions), D8.5 (hardware update of access flag and dirty state).
//
//   leaf   54..53 XN  51 DBM  10 AF  9..8 SH  7..6 S2AP: [1] write, [0] read  5..2 MemAttr
//   table  forbids nothing
//
// A writable leaf that records writes has DBM set; it is clean while S2AP[1] is not set. XN as FEAT_XNX has it: 0 all may
// execute, 1 the unprivileged alone, 2 nobody, 3 the privileged alone. Imports layout and the granules.
import { DOMAIN_SET_DIRTY, PERM_CLEAN, PERM_R, PERM_UNUSED, PERM_W, PERM_X } from "../layout";
import { AArch64, ACCESSED, DIRTY_MODIFIER, Granule, INNER_SHAREABLE } from "./aarch64";

const WRITE: u64 = 0x80;
const ACCESS_SHIFT: u64 = 6;
const WRITE_BACK: u64 = 0x3c;
const EXECUTE_NEVER: u64 = 0x0040000000000000;
const EXECUTE_SHIFT: u64 = 53;
const CONCATENATED_LG2: u32 = 4;

@unmanaged
@final
export class AArch64Stage2<G extends Granule> extends AArch64<G> {
  @inline clean(leaf: u64): bool { return (leaf & (DIRTY_MODIFIER | WRITE)) == DIRTY_MODIFIER; }
  @inline cleaned(leaf: u64): u64 {
    return leaf & (DIRTY_MODIFIER | WRITE) ? (leaf | DIRTY_MODIFIER) & ~WRITE : leaf;
  }
  @inline combine(above: u64, _pte: u64): u64 { return above; }
  @inline concatenated(): u32 { return CONCATENATED_LG2; }
  @inline dirty(leaf: u64): bool { return (leaf & (DIRTY_MODIFIER | WRITE)) == (DIRTY_MODIFIER | WRITE); }
  /** Each of read, write, execute with or without the others, but not none. */
  @inline expressible(): u32 { return 0xfe; }
  @inline halves(): bool { return false; }
  /** Write-back, inner shareable. */
  @inline makeLeaf(level: u32, _lg2: u32, hpa: u64, perm: u32): u64 {
    const track = (perm & PERM_CLEAN) != 0;
    const access = <u64>(perm & (track ? PERM_R : PERM_R | PERM_W)) << ACCESS_SHIFT;
    const record = (perm & PERM_UNUSED ? 0 : ACCESSED) | (track && perm & PERM_W ? DIRTY_MODIFIER : 0);
    const never = perm & PERM_X ? 0 : EXECUTE_NEVER;
    return hpa | this.leafType(level) | WRITE_BACK | INNER_SHAREABLE | access | record | never;
  }
  @inline marked(pte: u64, table: bool, written: bool): u64 { return table ? pte : pte | ACCESSED | (written ? WRITE : 0); }
  @inline permissions(_tables: u64, leaf: u64, flags: u32): u32 {
    const records: u64 = flags & DOMAIN_SET_DIRTY && (leaf & DIRTY_MODIFIER) != 0 ? WRITE : 0;
    const access = <u32>((leaf | records) >> ACCESS_SHIFT) & (PERM_R | PERM_W);
    const never = <u32>(leaf >> EXECUTE_SHIFT) & 3;
    const user: u32 = never < 2 ? PERM_X : 0;
    const privileged: u32 = never == 0 || never == 3 ? PERM_X : 0;
    return access | user | ((access | privileged) << 4);
  }
  @inline stage(): u32 { return 2; }
  @inline start(): u64 { return 0; }
  @inline untracked(leaf: u64): u64 { return leaf & DIRTY_MODIFIER ? (leaf & ~DIRTY_MODIFIER) | WRITE : leaf; }
}
