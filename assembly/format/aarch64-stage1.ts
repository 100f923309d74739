// VMSAv8-64 stage 1 of a regime with two privileges (EL1&0). Arm ARM (DDI 0487), D8.3 (descriptors), D8.4 (permissions),
// D8.5 (hardware update of access flag and dirty state).
//
//   leaf   54 UXN  53 PXN  51 DBM  11 nG  10 AF  9..8 SH  7 AP[2]: read-only  6 AP[1]: unprivileged too  4..2 AttrIndx
//   table  62..61 APTable: [1] read-only below, [0] nothing unprivileged below  60 UXNTable  59 PXNTable
//
// A writable leaf that records writes has DBM set; it is clean while AP[2] is. Imports layout and the granules.
import { DOMAIN_SET_DIRTY, OPTION_IGNORE_TABLE_PERMISSIONS, PERM_CLEAN, PERM_R, PERM_UNUSED, PERM_W, PERM_X } from "../layout";
import { AArch64, ACCESSED, DIRTY_MODIFIER, Granule, INNER_SHAREABLE } from "./aarch64";

const UNPRIVILEGED: u64 = 0x40;
const READ_ONLY: u64 = 0x80;
const NOT_GLOBAL: u64 = 0x800;
const PRIVILEGED_EXECUTE_NEVER: u64 = 0x0020000000000000;
const EXECUTE_NEVER: u64 = 0x0040000000000000;

/** `combine` gathers what tables forbid: their bits 62..59, moved down. */
const TABLE_SHIFT: u64 = 59;
const TABLE_PXN: u64 = 1;
const TABLE_UXN: u64 = 2;
const TABLE_PRIVILEGED: u64 = 4;
const TABLE_READ_ONLY: u64 = 8;
const TABLE_BITS: u64 = 15;

@unmanaged
@final
export class AArch64Stage1<G extends Granule> extends AArch64<G> {
  @inline clean(leaf: u64): bool { return (leaf & (DIRTY_MODIFIER | READ_ONLY)) == (DIRTY_MODIFIER | READ_ONLY); }
  @inline cleaned(leaf: u64): u64 {
    return (leaf & (DIRTY_MODIFIER | READ_ONLY)) == READ_ONLY ? leaf : leaf | DIRTY_MODIFIER | READ_ONLY;
  }
  @inline combine(above: u64, pte: u64): u64 { return above | ((pte >> TABLE_SHIFT) & TABLE_BITS); }
  @inline concatenated(): u32 { return 0; }
  @inline dirty(leaf: u64): bool { return (leaf & (DIRTY_MODIFIER | READ_ONLY)) == DIRTY_MODIFIER; }
  /** Every page can be read. */
  @inline expressible(): u32 {
    return (1 << PERM_R) | (1 << (PERM_R | PERM_W)) | (1 << (PERM_R | PERM_X)) | (1 << (PERM_R | PERM_W | PERM_X));
  }
  @inline halves(): bool { return true; }
  /** Attribute index 0, for both privileges, inner shareable. */
  @inline makeLeaf(level: u32, _lg2: u32, hpa: u64, perm: u32): u64 {
    const leaf = hpa | this.leafType(level) | UNPRIVILEGED | INNER_SHAREABLE | NOT_GLOBAL;
    const never = perm & PERM_X ? 0 : EXECUTE_NEVER | PRIVILEGED_EXECUTE_NEVER;
    const accessed = perm & PERM_UNUSED ? 0 : ACCESSED;
    const write = !(perm & PERM_W) ? READ_ONLY : perm & PERM_CLEAN ? DIRTY_MODIFIER | READ_ONLY : 0;
    return leaf | never | accessed | write;
  }
  @inline marked(pte: u64, table: bool, written: bool): u64 {
    return table ? pte : (pte | ACCESSED) & ~(written ? READ_ONLY : 0);
  }
  @inline permissions(tables: u64, leaf: u64, flags: u32): u32 {
    const denied = flags & OPTION_IGNORE_TABLE_PERMISSIONS ? 0 : tables;
    const records = flags & DOMAIN_SET_DIRTY && (leaf & DIRTY_MODIFIER) != 0;
    const write: u32 = (records || !(leaf & READ_ONLY)) && !(denied & TABLE_READ_ONLY) ? PERM_W : 0;
    const open = (leaf & UNPRIVILEGED) != 0 && !(denied & TABLE_PRIVILEGED);
    // Execution asks for no right to read (D8.4.1); what the unprivileged may write the privileged never execute.
    const user = (open ? PERM_R | write : 0) | (leaf & EXECUTE_NEVER || denied & TABLE_UXN ? 0 : PERM_X);
    const pxn = (leaf & PRIVILEGED_EXECUTE_NEVER) != 0 || (denied & TABLE_PXN) != 0 || (open && write != 0);
    return user | ((PERM_R | write | (pxn ? 0 : PERM_X)) << 4);
  }
  @inline stage(): u32 { return 1; }
  @inline start(): u64 { return 0; }
  @inline untracked(leaf: u64): u64 { return leaf & DIRTY_MODIFIER ? leaf & ~(DIRTY_MODIFIER | READ_ONLY) : leaf; }
}
