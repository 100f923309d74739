// The contract of a page-table format: everything that walk, map and unmap need to know, and nothing else.
// A format is a class of @inline methods called on a null receiver (`changetype<F>(0)`): each use is monomorphised.
// Levels count from 0 at the leaf table; sizes are log2; addresses are first..last, inclusive.
// Imports layout only.
import { DOMAIN_INPUT_MASK, DOMAIN_TOP_SHIFT } from "../layout";

/** What an entry is. */
export const EMPTY: u32 = 0;
export const TABLE: u32 = 1;
export const LEAF: u32 = 2;
/** Present, but a reserved encoding or bit. */
export const INVALID: u32 = 3;

@unmanaged
export abstract class Format {
  /** Was the translation used before? `tables` is what `combine` made of the pointers on the path. */
  abstract accessed(tables: u64, leaf: u64): bool;
  /** The address field of an entry: bits of it above the output width make the entry refuse. */
  abstract addressField(): u64;
  /** True if a write through this leaf still has to mark it dirty. Only asked of leaves that may be written through. */
  abstract clean(leaf: u64): bool;
  /** Was the leaf written through since its dirtiness was collected? False for a leaf that does not record it. */
  abstract dirty(leaf: u64): bool;
  /** What a pointer to a table leaves of what the pointers above it left; begins with `start`, ends in `permissions`. */
  abstract combine(above: u64, pte: u64): u64;
  /** Log2 of the most start tables that may stand side by side. */
  abstract concatenated(): u32;
  /** The leaf of a domain that tracks writes, without one: one that may be written through will record the next. */
  abstract cleaned(leaf: u64): u64;
  /** Permissions that a leaf can express: bit n is set if PERM_* value n has an encoding. */
  abstract expressible(): u32;
  /** May a domain have a second root, for iovas with HALF_BIT set? */
  abstract halves(): bool;
  /** kind(pte, level) == TABLE without a bit of `reserved`, in the fewest operations: for who only follows the tables. level > 0. */
  abstract isTable(pte: u64, level: u32, reserved: u64): bool;
  /** EMPTY, TABLE, LEAF or INVALID. Must hold for any 64-bit value: guests own tables too. */
  abstract kind(pte: u64, level: u32): u32;
  /** Classes of the IOTLB: log2 of the pages that a large entry covers (a block), and of a small one (the granule). */
  abstract largeLg2(): u32;
  abstract smallLg2(): u32;
  /** Log2 size of the leaf that `pte` (a LEAF at `level`) belongs to. */
  abstract leafLg2(pte: u64, level: u32): u32;
  /** First output address of that leaf, of the whole leaf when several entries repeat it. */
  abstract leafAddress(pte: u64, level: u32): u64;
  /** Leaf sizes that map may write at `level`, as a bit set of log2 sizes; 0 if none. */
  abstract leafSizes(level: u32): u64;
  /**
   * A leaf of 2^lg2 bytes at `level`; every entry of a leaf that takes several holds this same value. `perm` is PERM_*,
   * with PERM_UNUSED and PERM_CLEAN where the walk is to set the accessed and the dirty bit.
   */
  abstract makeLeaf(level: u32, lg2: u32, hpa: u64, perm: u32): u64;
  /** A pointer to the table of level - 1 at memory offset `table`, stored at `level`; grants everything. */
  abstract makeTable(level: u32, table: usize): u64;
  /** The entry as the walk leaves it: accessed; `written`: and dirty. */
  abstract marked(pte: u64, table: bool, written: bool): u64;
  /** Most levels that the format has; its smallest number of them. */
  abstract maxLevels(): u32;
  abstract minLevels(): u32;
  /** PERM_* and privileged PERM_* of a leaf below such pointers; `flags` are the domain's. */
  abstract permissions(tables: u64, leaf: u64, flags: u32): u32;
  /** Bits that every unit reserves in a pointer to a table, or in a leaf. */
  abstract reservedBits(table: bool): u64;
  /** REASON_* of an entry with a reserved bit, or an address beyond the output width. */
  abstract reservedReason(): u32;
  /** Log2 of the span of one entry at `level`. */
  abstract spanLg2(level: u32): u32;
  /** What `combine` begins with. */
  abstract start(): u64;
  /** 1 or 2: which of two stages these tables serve. */
  abstract stage(): u32;
  /** Log2 of the number of entries of a table. */
  abstract tableLg2(): u32;
  /** Address of the next table that `pte` (a TABLE at `level`) names: memory offset, hpa or gpa; and its level. */
  abstract tableAddress(pte: u64): u64;
  abstract tableLevel(pte: u64, level: u32): u32;
  /** The leaf of a domain that tracks no writes: as makeLeaf without PERM_CLEAN has it, but for the accessed bit. */
  abstract untracked(leaf: u64): u64;
}

/** Byte offset in its table of the entry for iova: index * 8, without a separate shift. */
@unmanaged
export abstract class EntryOf {
  /** Below the start level. */
  @inline static offset<F extends Format>(iova: u64, level: u32): usize {
    const f = changetype<F>(0);
    return <usize>(iova >> (f.spanLg2(level) - 3)) & ((8 << f.tableLg2()) - 8);
  }

  /** At the start level, whose index takes all bits that are left: fewer than a table has, or more when tables stand side by side. */
  @inline static start(domain: usize, iova: u64): usize {
    return <usize>((iova & load<u64>(domain, DOMAIN_INPUT_MASK)) >> load<u32>(domain, DOMAIN_TOP_SHIFT)) & ~7;
  }
}

/** The bits below 2^lg2, for lg2 up to 64. */
export function lowBits(lg2: u32): u64 {
  return lg2 >= 64 ? ~(<u64>0) : (<u64>1 << lg2) - 1;
}
