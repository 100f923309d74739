// Merge: a child's range over what a parent's table maps at other addresses, into the child's own table. Where the parent has
// nothing, or nothing that both permit, the child gets nothing. No leaf of the child spans two of the parent's: pages are
// copied entry by entry, larger leaves become maps capped at their size. Two passes as in map: the first refuses overlap and
// counts tables, the second cannot fail. Ranges are first..last, inclusive. Imports layout, frames, runs, map, the format
// contract; knows no format.
import {
  AREA_AT, AREA_BYTES, AREA_FIRST, AREA_GPA, AREA_LAST, AREA_PERM, DOMAIN_FLAGS, DOMAIN_LEVELS, ENGINE_CURSOR, ENGINE_FRAMES_USED, ENGINE_SCRATCH,
  STATUS_OK, STATUS_OVERLAP, STATUS_RANGE,
} from "../layout";
import { EMPTY, EntryOf, Format, lowBits, TABLE } from "../format/format";
import { Operation } from "../format/list";
import { Frames, spendGrant, takeFrame } from "./frames";
import { checkInput, isInput, marksLeft, OVERLAP, planFrom, putFrom } from "./map";
import { Start, tableOrder } from "./root";
import { anyOf, copyEqualRun, emptyRun } from "./runs";

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

/** The page table that serves iova, 0 if there is none. */
function pageTable<F extends Format>(domain: usize, iova: u64): usize {
  const f = changetype<F>(0);
  let table = Start.table<F>(domain, iova);
  for (let level = load<u32>(domain, DOMAIN_LEVELS) - 1; level; level--) {
    const pte = load<u64>(table + EntryOf.offset<F>(iova, level));
    if (f.kind(pte, level) != TABLE) return 0;
    table = <usize>f.tableAddress(pte);
  }
  return table;
}

/** The table of `level` that serves iova; it and those above are made where they are missing. */
function growTo<F extends Format>(engine: usize, domain: usize, iova: u64, level: u32): usize {
  const f = changetype<F>(0);
  let table = Start.table<F>(domain, iova);
  for (let above = load<u32>(domain, DOMAIN_LEVELS) - 1; above > level; above--) {
    const entry = table + EntryOf.offset<F>(iova, above);
    let pte = load<u64>(entry);
    if (f.kind(pte, above) != TABLE) {
      pte = f.makeTable(above, takeFrame(engine, tableOrder<F>(), true));
      atomic.store<u64>(entry, pte);
      Frames.addLive(engine, table, 1);
    }
    table = <usize>f.tableAddress(pte);
  }
  return table;
}

/**
 * Copies as copyEqualRun does into the page table of `at`, which is missing and complete before its pointer is stored. Answers
 * the table; its live count says how many.
 */
function copyIntoNew<F extends Format>(
  engine: usize, domain: usize, at: u64, from: usize, n: u32, pte: u64, bits: u64,
): usize {
  const f = changetype<F>(0);
  const above = growTo<F>(engine, domain, at, 1);
  const bytes: usize = 8 << f.tableLg2();
  const table = takeFrame(engine, tableOrder<F>(), false);
  const before = EntryOf.offset<F>(at, 0);
  const copied = copyEqualRun(table + before, from, n, pte, f.addressField(), bits);
  const after = before + (copied << 3);
  memory.fill(table, 0, before);
  memory.fill(table + after, 0, bytes - after);
  Frames.addLive(engine, table, copied);
  atomic.store<u64>(above + EntryOf.offset<F>(at, 1), f.makeTable(1, table));
  Frames.addLive(engine, above, 1);
  return table;
}

/**
 * Entries of the run of equal leaves that begins at `entry` (a leaf of 2^lg2 bytes, of which `skipped` entries lie before) and
 * goes on with contiguous outputs, among n.
 */
function leafRun<F extends Format>(entry: usize, n: u32, level: u32, pte: u64, lg2: u32, skipped: u32): u32 {
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

/** What is known from the entry before: the page tables of parent and child, and how far is planned. */
@unmanaged
export class Cursor {
  parentKey: u64;
  childKey: u64;
  /** Where the last piece that was planned ends. */
  after: u64;
  parentTable: usize;
  /** 0: it is missing, and counted. */
  childTable: usize;
  /** Nothing is planned yet: `after` means nothing. */
  fresh: bool;

  /** No page table is known. No address has such a key. */
  @inline reset(): void {
    this.parentKey = ~(<u64>0);
    this.childKey = ~(<u64>0);
    this.fresh = true;
  }

  /** Tables of the child that [at..end] -> hpa needs and no piece before it, or OVERLAP. */
  plan<F extends Format>(child: usize, at: u64, end: u64, hpa: u64, sizes: u64): u32 {
    const tables = planFrom<F>(child, at, end, hpa, sizes, this.fresh ? ~at : this.after);
    this.after = end;
    this.fresh = false;
    return tables;
  }
}

/** Permissions that parent and child both give a page or block of the parent; 0 for an entry that is empty. */
@unmanaged
abstract class Both {
  @inline static of<F extends Format>(pte: u64, level: u32, flags: u32, perm: u32): u32 {
    const f = changetype<F>(0);
    return f.kind(pte, level) == EMPTY ? 0 : f.permissions(f.start(), pte, flags) & perm;
  }
}

/** The child's part [at..end] of a run of leaves of 2^lg2 bytes that leads to hpa: tables that it needs, or OVERLAP. */
function mergeLeaves<F extends Format, P extends Pass>(
  engine: usize, child: usize, at: u64, end: u64, hpa: u64, lg2: u32, perm: u32, cursor: Cursor,
): u32 {
  if (!changetype<P>(0).writes()) return cursor.plan<F>(child, at, end, hpa, lowBits(lg2 + 1));
  putFrom<F>(engine, child, at, end, hpa, perm | marksLeft(child), lowBits(lg2 + 1));
  return 0;
}

/**
 * n entries of a page table of the parent, at `entry`, which lead to [at..] in one page table of the child. The first pass
 * comes here when this table has entries among them: OVERLAP if one of those is wanted.
 */
function mergePages<F extends Format, P extends Pass>(
  engine: usize, child: usize, entry: usize, n: u32, at: u64, from: u64, flags: u32, perm: u32, cursor: Cursor,
): u32 {
  const f = changetype<F>(0);
  const page = f.smallLg2();
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
      const bits = f.makeLeaf(0, page, 0, both | marksLeft(child));
      if (at >> f.spanLg2(1) != cursor.childKey) {
        cursor.childKey = at >> f.spanLg2(1);
        cursor.childTable = pageTable<F>(child, at);
      }
      if (!cursor.childTable) {
        cursor.childTable = copyIntoNew<F>(engine, child, at, entry, n, pte, bits);
        run = Frames.live(engine, cursor.childTable);
      } else {
        const to = cursor.childTable + EntryOf.offset<F>(at, 0);
        if (n == 1) store<u64>(to, (pte & f.addressField()) | bits);
        else run = copyEqualRun(to, entry, n, pte, f.addressField(), bits);
        Frames.addLive(engine, cursor.childTable, run);
      }
    } else if (both && load<u64>(cursor.childTable + EntryOf.offset<F>(at, 0))) {
      return OVERLAP;
    }
    if (run == n) return 0;
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
function planPages<F extends Format>(
  engine: usize, child: usize, entry: usize, n: u32, at: u64, from: u64, flags: u32, perm: u32, cursor: Cursor,
): u32 {
  const f = changetype<F>(0);
  const key = at >> f.spanLg2(1);
  if (key != cursor.childKey) {
    const table = pageTable<F>(child, at);
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
  if (!table || !anyOf(table + EntryOf.offset<F>(at, 0), n, ~(<u64>0))) return 0;
  return mergePages<F, Plan>(engine, child, entry, n, at, from, flags, perm, cursor);
}

/**
 * One pass over [first..last] of the child, at the parent's addresses from gpa, whose entry may be known: the tables that the
 * first pass counts beyond those of the cursor's earlier pieces, or OVERLAP; 0 in the second pass.
 */
export function mergeRange<F extends Format, P extends Pass>(
  engine: usize, child: usize, parent: usize, first: u64, last: u64, gpa: u64, perm: u32, entry: usize, cursor: Cursor,
): u32 {
  const f = changetype<F>(0);
  const flags = load<u32>(parent, DOMAIN_FLAGS);
  let tables: u32 = 0;
  let at = first;
  let from = gpa;
  while (true) {
    let level: u32 = 0;
    if (!entry) {
      let table = cursor.parentTable;
      if (from >> f.spanLg2(1) != cursor.parentKey) {
        level = load<u32>(parent, DOMAIN_LEVELS) - 1;
        table = Start.table<F>(parent, from);
        for (; level; level--) {
          const pointer = load<u64>(table + EntryOf.offset<F>(from, level));
          if (f.kind(pointer, level) != TABLE) break;
          table = <usize>f.tableAddress(pointer);
        }
        if (!level) {
          cursor.parentKey = from >> f.spanLg2(1);
          cursor.parentTable = table;
        }
      }
      entry = table + EntryOf.offset<F>(from, level);
    }
    const span = f.spanLg2(level);
    const within = from & lowBits(span);
    // What follows in this table.
    const follows = min(lowBits(span + f.tableLg2()) - (from & lowBits(span + f.tableLg2())), last - at);
    let end: u64;
    let more: u32 = 0;
    if (!level) {
      // Nor beyond the child's page table.
      end = at + min(follows, lowBits(f.spanLg2(1)) - (at & lowBits(f.spanLg2(1))));
      const n = <u32>((end - at) >> span) + 1;
      more = changetype<P>(0).writes()
        ? mergePages<F, Put>(engine, child, entry, n, at, from, flags, perm, cursor)
        : planPages<F>(engine, child, entry, n, at, from, flags, perm, cursor);
    } else {
      const pte = load<u64>(entry);
      const entries = <u32>((within + follows) >> span) + 1;
      const both = Both.of<F>(pte, level, flags, perm);
      const lg2 = f.kind(pte, level) == EMPTY ? span : f.leafLg2(pte, level);
      const skipped = from & lowBits(lg2);
      const n = f.kind(pte, level) == EMPTY ? emptyRun(entry, entries) : leafRun<F>(entry, entries, level, pte, lg2, <u32>(skipped >> span));
      end = at + min((<u64>n << span) - 1 - within, follows);
      if (both) more = mergeLeaves<F, P>(engine, child, at, end, f.leafAddress(pte, level) + skipped, lg2, both, cursor);
    }
    if (more == OVERLAP) return OVERLAP;
    tables += more;
    if (end == last) return tables;
    from += end - at + 1;
    at = end + 1;
    entry = 0;
  }
}

/** Areas whose parent's entries are read ahead: fewer are not worth the pass. */
const TOUCH_AREAS: u32 = 8;

/**
 * What keeps one of n areas from being merged at all: a STATUS_*. Notes for each the parent's entry of its first page, 0 where
 * there is no page table, and then reads these all before any is used: memory that is far away answers for many at once. The
 * tables above them are few, and near.
 */
function findEntries<F extends Format>(child: usize, parent: usize, areas: usize, n: u32): u32 {
  const f = changetype<F>(0);
  const end = areas + n * AREA_BYTES;
  let key = ~(<u64>0);
  let table: usize = 0;
  for (let area = areas; area < end; area += AREA_BYTES) {
    const first = load<u64>(area, AREA_FIRST);
    const last = load<u64>(area, AREA_LAST);
    const gpa = load<u64>(area, AREA_GPA);
    const status = checkInput<F>(child, first, last, gpa, load<u32>(area, AREA_PERM));
    if (status != STATUS_OK) return status;
    if (!isInput(parent, gpa, gpa + (last - first))) return STATUS_RANGE;
    if (gpa >> f.spanLg2(1) != key) {
      key = gpa >> f.spanLg2(1);
      table = pageTable<F>(parent, gpa);
    }
    store<u32>(area, table ? <u32>(table + EntryOf.offset<F>(gpa, 0)) : 0, AREA_AT);
  }
  if (n < TOUCH_AREAS) return STATUS_OK;
  for (let area = areas; area < end; area += AREA_BYTES) load<u64>(load<u32>(area, AREA_AT));
  return STATUS_OK;
}

/** One pass over n areas in the scratch area; answers as mergeRange does. */
function mergeAreas<F extends Format, P extends Pass>(engine: usize, child: usize, parent: usize, n: u32): u32 {
  const f = changetype<F>(0);
  const cursor = changetype<Cursor>(engine + ENGINE_CURSOR);
  const flags = load<u32>(parent, DOMAIN_FLAGS);
  const tableSpan = f.spanLg2(1);
  let tables: u32 = 0;
  let area = <usize>load<u32>(engine, ENGINE_SCRATCH);
  for (const end = area + n * AREA_BYTES; area < end; area += AREA_BYTES) {
    const first = load<u64>(area, AREA_FIRST);
    const last = load<u64>(area, AREA_LAST);
    const gpa = load<u64>(area, AREA_GPA);
    const entry = <usize>load<u32>(area, AREA_AT);
    const perm = load<u32>(area, AREA_PERM);
    const oneTable = (first ^ last) >> tableSpan == 0;
    let more: u32 = 0;
    if (!changetype<P>(0).writes()) {
      // A page table that is missing, and counted, takes all that comes into it.
      if (oneTable && first >> tableSpan == cursor.childKey && !cursor.childTable) continue;
      more = mergeRange<F, P>(engine, child, parent, first, last, gpa, perm, entry, cursor);
    } else if (entry && oneTable && (gpa ^ (gpa + (last - first))) >> tableSpan == 0) {
      mergePages<F, Put>(engine, child, entry, <u32>((last - first) >> f.smallLg2()) + 1, first, gpa, flags, perm, cursor);
    } else {
      mergeRange<F, P>(engine, child, parent, first, last, gpa, perm, entry, cursor);
    }
    if (more == OVERLAP) return OVERLAP;
    tables += more;
  }
  return tables;
}

/**
 * Plans the merge of d areas in the scratch area, with the parent whose record is at a: the tables needed in the high half
 * and a STATUS_* in the low half. They go on behind those planned before, unless b says that they are the first.
 */
@unmanaged
@final
export class PlanMerge extends Operation {
  run<F extends Format>(engine: usize, child: usize, a: u64, b: u64, _c: u64, d: u32): u64 {
    const parent = <usize>a;
    const status = findEntries<F>(child, parent, load<u32>(engine, ENGINE_SCRATCH), d);
    if (status != STATUS_OK) return status;
    if (b) changetype<Cursor>(engine + ENGINE_CURSOR).reset();
    const tables = mergeAreas<F, Plan>(engine, child, parent, d);
    return tables == OVERLAP ? STATUS_OVERLAP : <u64>tables << 32;
  }
}

/** Merges d areas in the scratch area with the parent whose record is at a, for whose tables there are frames. */
@unmanaged
@final
export class PutMerge extends Operation {
  run<F extends Format>(engine: usize, child: usize, a: u64, _b: u64, _c: u64, d: u32): u64 {
    changetype<Cursor>(engine + ENGINE_CURSOR).reset();
    const used = load<u32>(engine, ENGINE_FRAMES_USED);
    mergeAreas<F, Put>(engine, child, <usize>a, d);
    spendGrant(engine, (load<u32>(engine, ENGINE_FRAMES_USED) - used) >> tableOrder<F>());
    return 0;
  }
}
