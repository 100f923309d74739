// The pieces of a merge, in its two passes: n entries of one page table of the parent over one page table of the child, and runs
// of larger leaves. Pages are copied entry by entry, larger leaves become maps capped at their size, so that no leaf of the child
// spans two of the parent's. Ranges are first..last, inclusive. Imports layout, cursor, frames, root, runs, map, the format
// contract.
import { DOMAIN_LEVELS } from "../layout";
import { EMPTY, EntryOf, Format, LEAF, lowBits } from "../format/format";
import { aboveLg2, Cursor, tableAt } from "./cursor";
import { Frames, takeFrame } from "./frames";
import { marksLeft, OVERLAP } from "./map";
import { Start, tableOrder } from "./root";
import { anyOf, copyAll, copyEqualRun, emptyRun } from "./runs";

/** Which of the two passes; asked at compile time. */
@unmanaged
export abstract class Pass {
  abstract writes(): bool;
}

@unmanaged
@final
export class Plan extends Pass {
  @inline writes(): bool { return false; }
}

@unmanaged
@final
export class Put extends Pass {
  @inline writes(): bool { return true; }
}

/**
 * Entries of the run of equal leaves that begins at `entry` (a leaf of 2^lg2 bytes, of which `skipped` entries lie before) and
 * goes on with contiguous outputs, among n.
 */
export function leafRun<F extends Format>(entry: usize, n: u32, level: u32, pte: u64, lg2: u32, skipped: u32): u32 {
  const f = changetype<F>(0);
  const each: u32 = 1 << (lg2 - f.spanLg2(level));
  const kept = ~f.addressField();
  let count = each - skipped;
  for (let output = f.leafAddress(pte, level); count < n; count += each) {
    const next = load<u64>(entry + (count << 3));
    output += <u64>1 << lg2;
    if (((next ^ pte) & kept) != 0 || f.leafLg2(next, level) != lg2 || f.leafAddress(next, level) != output) break;
  }
  return min(count, n);
}

/** The parent's entry that ends the walk for gpa, a leaf or empty; the cursor has its level. */
export function findEntry<F extends Format>(parent: usize, gpa: u64, cursor: Cursor): usize {
  const f = changetype<F>(0);
  if (gpa >> f.spanLg2(1) != cursor.parentKey) {
    if (gpa >> aboveLg2<F>() != cursor.parentAboveKey) {
      cursor.parentAboveKey = gpa >> aboveLg2<F>();
      cursor.parentAbove = tableAt<F>(parent, gpa, 1);
    }
    const above = cursor.parentAbove;
    if (!above) return findFromStart<F>(parent, gpa, cursor);
    const entry = above + EntryOf.offset<F>(gpa, 1);
    const pte = load<u64>(entry);
    if (!f.isTable(pte, 1, 0)) {
      cursor.level = 1;
      return entry;
    }
    cursor.parentKey = gpa >> f.spanLg2(1);
    cursor.parentTable = <usize>f.tableAddress(pte);
  }
  cursor.level = 0;
  return cursor.parentTable + EntryOf.offset<F>(gpa, 0);
}

/** The same where no table of level 1 serves gpa. */
function findFromStart<F extends Format>(parent: usize, gpa: u64, cursor: Cursor): usize {
  const f = changetype<F>(0);
  let level = load<u32>(parent, DOMAIN_LEVELS) - 1;
  let table = Start.table<F>(parent, gpa);
  for (; level; level--) {
    const pte = load<u64>(table + EntryOf.offset<F>(gpa, level));
    if (!f.isTable(pte, level, 0)) break;
    table = <usize>f.tableAddress(pte);
  }
  cursor.level = level;
  return table + EntryOf.offset<F>(gpa, level);
}

@unmanaged
export abstract class Both {
  /** Is the entry of a page table a leaf that is no larger than itself? */
  @inline static isPage<F extends Format>(pte: u64): bool {
    const f = changetype<F>(0);
    return f.kind(pte, 0) == LEAF && f.leafLg2(pte, 0) == f.smallLg2();
  }

  /** Permissions that parent and child both give a page or block of the parent; 0 for an entry that is empty. */
  @inline static of<F extends Format>(pte: u64, level: u32, flags: u32, perm: u32): u32 {
    const f = changetype<F>(0);
    return f.kind(pte, level) == EMPTY ? 0 : f.permissions(f.start(), pte, flags) & perm;
  }
}

/** The child's part [at..end] of a run of leaves of 2^lg2 bytes that leads to hpa: tables that it needs, or OVERLAP. */
export function mergeLeaves<F extends Format, P extends Pass>(
  engine: usize, child: usize, at: u64, end: u64, hpa: u64, lg2: u32, perm: u32, cursor: Cursor,
): u32 {
  if (!changetype<P>(0).writes()) return cursor.plan<F>(child, at, end, hpa, lowBits(lg2 + 1));
  cursor.put<F>(engine, child, at, end, hpa, perm | marksLeft(child), lowBits(lg2 + 1));
  return 0;
}

/** Is `pte` a page that both permit, and the child's page table for `at` missing? If not, the cursor has that table. */
export function beginsTable<F extends Format>(child: usize, at: u64, pte: u64, flags: u32, perm: u32, cursor: Cursor): bool {
  const f = changetype<F>(0);
  // One that was missing may have been made for a larger leaf.
  if (at >> f.spanLg2(1) != cursor.childKey || !cursor.childTable) {
    cursor.childKey = at >> f.spanLg2(1);
    cursor.childTable = cursor.pageTable<F>(child, at);
  }
  return !cursor.childTable && Both.isPage<F>(pte) && Both.of<F>(pte, 0, flags, perm) != 0;
}

/** Copies those of n entries that are pages, and like the first, to a table that nobody reads yet: how many, from the first on. */
function copyPages<F extends Format>(child: usize, to: usize, entry: usize, n: u32, flags: u32, perm: u32): u32 {
  const f = changetype<F>(0);
  const pte = load<u64>(entry);
  const both = Both.of<F>(pte, 0, flags, perm);
  if (!both || !Both.isPage<F>(pte)) return 0;
  const bits = f.makeLeaf(0, f.smallLg2(), 0, both | marksLeft(child));
  return copyAll(to, entry, n, pte, f.addressField(), bits) ? n : copyEqualRun(to, entry, n, pte, f.addressField(), bits);
}

/**
 * Makes the child's page table that `beginsTable` has found missing, from pages of the parent: its entries [at..end] as far as those are
 * alike, the one at `entry` first. It is complete before its pointer is stored. Answers the last address for which it has one.
 */
export function fillTable<F extends Format>(
  engine: usize, child: usize, parent: usize, entry: usize, at: u64, end: u64, from: u64, flags: u32, perm: u32, cursor: Cursor,
): u64 {
  const f = changetype<F>(0);
  const bytes: usize = 8 << f.tableLg2();
  const above = cursor.growAbove<F>(engine, child, at);
  const table = takeFrame(engine, tableOrder<F>(), false);
  const before = EntryOf.offset<F>(at, 0);
  const stop = table + EntryOf.offset<F>(end, 0) + 8;
  if (before) memory.fill(table, 0, before);
  let to = table + before;
  while (true) {
    const n = <u32>(min(stop - to, bytes - (entry & (bytes - 1))) >> 3);
    const copied = copyPages<F>(child, to, entry, n, flags, perm);
    to += copied << 3;
    from += <u64>copied << f.smallLg2();
    if (copied < n || to == stop) break;
    entry = findEntry<F>(parent, from, cursor);
    if (cursor.level) break;
  }
  const after = to - table;
  if (after < bytes) memory.fill(to, 0, bytes - after);
  const live = <u32>(after - before) >> 3;
  Frames.addLive(engine, table, live);
  atomic.store<u64>(above + EntryOf.offset<F>(at, 1), f.makeTable(1, table));
  Frames.addLive(engine, above, 1);
  cursor.childTable = table;
  return at + ((<u64>live << f.smallLg2()) - 1);
}

/**
 * n entries of a page table of the parent, at `entry`, which lead to [at..] in one page table of the child. The first pass
 * comes here when this table has entries among them: OVERLAP if one of those is wanted. The second answers how many are done: up to
 * the first for which `beginsTable` holds.
 */
export function mergePages<F extends Format, P extends Pass>(
  engine: usize, child: usize, entry: usize, n: u32, at: u64, from: u64, flags: u32, perm: u32, cursor: Cursor,
): u32 {
  const f = changetype<F>(0);
  const page = f.smallLg2();
  const most = n;
  while (true) {
    const pte = load<u64>(entry);
    const both = Both.of<F>(pte, 0, flags, perm);
    let run: u32 = 1;
    if (f.kind(pte, 0) == EMPTY) {
      run = emptyRun(entry, n);
    } else if (f.leafLg2(pte, 0) != page) {
      const skipped = from & lowBits(f.leafLg2(pte, 0));
      run = leafRun<F>(entry, n, 0, pte, f.leafLg2(pte, 0), <u32>(skipped >> page));
      const end = at + ((<u64>run << page) - 1);
      if (both && mergeLeaves<F, P>(engine, child, at, end, f.leafAddress(pte, 0) + skipped, f.leafLg2(pte, 0), both, cursor) == OVERLAP) {
        return OVERLAP;
      }
    } else if (both && changetype<P>(0).writes()) {
      if (beginsTable<F>(child, at, pte, flags, perm, cursor)) return most - n;
      const bits = f.makeLeaf(0, page, 0, both | marksLeft(child));
      const to = cursor.childTable + EntryOf.offset<F>(at, 0);
      if (n == 1) store<u64>(to, (pte & f.addressField()) | bits);
      else run = copyEqualRun(to, entry, n, pte, f.addressField(), bits);
      Frames.addLive(engine, cursor.childTable, run);
    } else if (both && load<u64>(cursor.childTable + EntryOf.offset<F>(at, 0))) {
      return OVERLAP;
    }
    if (run == n) return changetype<P>(0).writes() ? most : 0;
    n -= run;
    entry += run << 3;
    at += <u64>run << page;
    from += <u64>run << page;
  }
}

/** Index of the first of n entries of a page table that both permit something of; n if there is none. */
function firstWanted<F extends Format>(entry: usize, n: u32, flags: u32, perm: u32): u32 {
  let i: u32 = 0;
  while (i < n && !Both.of<F>(load<u64>(entry + (i << 3)), 0, flags, perm)) i++;
  return i;
}

/**
 * The first pass over such entries: tables that they need, or OVERLAP. Where the child has no page table yet one entry that is
 * wanted says all; where it has one, nothing is read of the parent while the child's entries are empty.
 */
export function planPages<F extends Format>(
  engine: usize, child: usize, entry: usize, n: u32, at: u64, from: u64, flags: u32, perm: u32, cursor: Cursor,
): u32 {
  const f = changetype<F>(0);
  const key = at >> f.spanLg2(1);
  if (key != cursor.childKey) {
    const table = cursor.pageTable<F>(child, at);
    let tables: u32 = 0;
    if (!table) {
      const skipped = firstWanted<F>(entry, n, flags, perm);
      if (skipped == n) return 0;
      const page = at + (<u64>skipped << f.smallLg2());
      tables = cursor.plan<F>(child, page, page + lowBits(f.smallLg2()), 0, lowBits(f.smallLg2() + 1));
    }
    cursor.childKey = key;
    cursor.childTable = table;
    if (!table) return tables;
  }
  const table = cursor.childTable;
  if (!table || !anyOf(table + EntryOf.offset<F>(at, 0), n)) return 0;
  return mergePages<F, Plan>(engine, child, entry, n, at, from, flags, perm, cursor);
}
