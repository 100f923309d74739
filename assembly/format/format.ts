// The contract of a page-table format: everything that walk, map and unmap need to know, and nothing else.
// A format is a class of @inline methods called on a null receiver (`changetype<F>(0)`): each use is monomorphised.
// Levels count from 0 at the leaf table; sizes are log2; addresses are first..last, inclusive.

/** What an entry is. */
export const EMPTY: u32 = 0;
export const TABLE: u32 = 1;
export const LEAF: u32 = 2;
/** Present, but a reserved encoding or bit. */
export const INVALID: u32 = 3;

@unmanaged
export abstract class Format {
  /** Bits of an entry that are set when the translation was used, and when it was written through. */
  abstract accessedBit(): u64;
  /** The AND over a path starts with this. */
  abstract allPermissions(): u64;
  /** What `pte` leaves of the permissions `above` it, in the format's own bits; `leaf` decodes the result. */
  abstract combine(above: u64, pte: u64): u64;
  abstract dirtyBit(): u64;
  /** Classes of the IOTLB: log2 of the pages that a large entry covers (a block), and of a small one (the granule). */
  abstract largeLg2(): u32;
  abstract smallLg2(): u32;
  /** kind(pte, level) == TABLE, in the fewest operations: the batch walker asks it of every upper entry. level > 0. */
  abstract isTable(pte: u64, level: u32): bool;
  /** EMPTY, TABLE, LEAF or INVALID. Must hold for any 64-bit value: guests own tables too. */
  abstract kind(pte: u64, level: u32): u32;
  /** Log2 size of the leaf that `pte` (a LEAF at `level`) belongs to. */
  abstract leafLg2(pte: u64, level: u32): u32;
  /** First output address of that leaf, of the whole leaf when several entries repeat it. */
  abstract leafAddress(pte: u64, level: u32): u64;
  /** Possible leaf sizes at `level`, as a bit set of log2 sizes; 0 if a leaf may not be there. */
  abstract leafSizes(level: u32): u64;
  /** A leaf of 2^lg2 bytes at `level`; every entry of a leaf that takes several holds this same value. `perm` is PERM_*. */
  abstract makeLeaf(level: u32, lg2: u32, hpa: u64, perm: u32): u64;
  /** A pointer to the table of level - 1 at memory offset `table`, stored at `level`; grants everything. */
  abstract makeTable(level: u32, table: usize): u64;
  /** Most levels that the format has; its smallest number of them. */
  abstract maxLevels(): u32;
  abstract minLevels(): u32;
  /** PERM_* that `combined` grants. */
  abstract permissions(combined: u64): u32;
  /** Permissions that a leaf can express: bit n is set if PERM_* value n has an encoding. */
  abstract expressible(): u32;
  /** Log2 of the span of one entry at `level`. */
  abstract spanLg2(level: u32): u32;
  /** Log2 of the number of entries of a table. */
  abstract tableLg2(): u32;
  /** Address of the next table that `pte` (a TABLE at `level`) names: memory offset or hpa. */
  abstract tableAddress(pte: u64): u64;
}

/** Byte offset in its table of the entry for iova: index * 8, without a separate shift. */
@unmanaged
export abstract class EntryOf {
  @inline static offset<F extends Format>(iova: u64, level: u32): usize {
    const f = changetype<F>(0);
    return <usize>(iova >> (f.spanLg2(level) - 3)) & ((8 << f.tableLg2()) - 8);
  }
}

/** The bits below 2^lg2, for lg2 up to 64. */
export function lowBits(lg2: u32): u64 {
  return lg2 >= 64 ? ~(<u64>0) : (<u64>1 << lg2) - 1;
}
