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
import { anyOf, copyRun, equalRun } from "./runs";

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

/** Copies n entries as `copyRun` does into the missing page table of `at`, which is complete before its pointer is stored. Answers it. */
function copyIntoNew<F extends Format>(engine: usize, domain: usize, at: u64, from: usize, n: u32, kept: u64, bits: u64): usize {
  const f = changetype<F>(0);
  const above = growTo<F>(engine, domain, at, 1);
  const table = takeFrame(engine, tableOrder<F>(), n >> f.tableLg2() == 0);
  copyRun(table + EntryOf.offset<F>(at, 0), from, n, kept, bits);
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

/** Tables known from the piece before: the page tables of the last entry of parent and child, and how far is planned. */
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
  @inline plan<F extends Format>(child: usize, at: u64, end: u64, hpa: u64, sizes: u64): u32 {
    return planFrom<F>(child, at, end, hpa, sizes, this.fresh ? ~at : this.after);
  }

  @inline planned(end: u64): void {
    this.after = end;
    this.fresh = false;
  }
}

@unmanaged
abstract class Piece {
  /** The child's part [at..end] of a run of pages that begins at `entry`, all with that permission: tables that it needs, or OVERLAP. */
  @inline static pages<F extends Format, P extends Pass>(
    engine: usize, child: usize, at: u64, end: u64, entry: usize, perm: u32, cursor: Cursor,
  ): u32 {
    const f = changetype<F>(0);
    const page = f.smallLg2();
    const n = <u32>((end - at) >> page) + 1;
    let tables: u32 = 0;
    if (at >> f.spanLg2(1) != cursor.childKey) {
      cursor.childKey = at >> f.spanLg2(1);
      cursor.childTable = pageTable<F>(child, at);
      if (!changetype<P>(0).writes() && !cursor.childTable) tables = cursor.plan<F>(child, at, end, 0, lowBits(page + 1));
    }
    const table = cursor.childTable;
    const to = table + EntryOf.offset<F>(at, 0);
    if (!changetype<P>(0).writes()) {
      cursor.planned(end);
      return table && anyOf(to, n, ~(<u64>0)) ? OVERLAP : tables;
    }
    const bits = f.makeLeaf(0, page, 0, perm);
    if (table) copyRun(to, entry, n, f.addressField(), bits);
    else cursor.childTable = copyIntoNew<F>(engine, child, at, entry, n, f.addressField(), bits);
    Frames.addLive(engine, cursor.childTable, n);
    return 0;
  }

  /** The same for a run of leaves of 2^lg2 bytes that leads to hpa. */
  @inline static leaves<F extends Format, P extends Pass>(
    engine: usize, child: usize, at: u64, end: u64, hpa: u64, lg2: u32, perm: u32, cursor: Cursor,
  ): u32 {
    if (changetype<P>(0).writes()) {
      putFrom<F>(engine, child, at, end, hpa, perm, lowBits(lg2 + 1));
      return 0;
    }
    const tables = cursor.plan<F>(child, at, end, hpa, lowBits(lg2 + 1));
    cursor.planned(end);
    return tables;
  }
}

/**
 * One pass over [first..last] of the child, at the parent's addresses from gpa: the tables that the first pass counts beyond
 * those of the cursor's earlier pieces, or OVERLAP; 0 in the second pass.
 */
export function mergeRange<F extends Format, P extends Pass>(
  engine: usize, child: usize, parent: usize, first: u64, last: u64, gpa: u64, perm: u32, cursor: Cursor,
): u32 {
  const f = changetype<F>(0);
  const flags = load<u32>(parent, DOMAIN_FLAGS);
  const marks = marksLeft(child);
  let tables: u32 = 0;
  let at = first;
  let from = gpa;
  while (true) {
    let level: u32 = 0;
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
    const span = f.spanLg2(level);
    const entry = table + EntryOf.offset<F>(from, level);
    const pte = load<u64>(entry);
    const within = from & lowBits(span);
    // What follows in this table, and in how many of its entries.
    const follows = min(lowBits(span + f.tableLg2()) - (from & lowBits(span + f.tableLg2())), last - at);
    let n = <u32>((within + follows) >> span) + 1;
    let end: u64;
    let more: u32 = 0;
    if (f.kind(pte, level) == EMPTY) {
      n = equalRun(entry, n, 0, ~(<u64>0));
      end = at + min((<u64>n << span) - 1 - within, follows);
    } else {
      const lg2 = f.leafLg2(pte, level);
      const both = f.permissions(f.start(), pte, flags) & perm;
      if (lg2 == f.smallLg2()) {
        // Nor beyond the child's page table.
        n = min(n, <u32>((lowBits(f.spanLg2(1)) - (at & lowBits(f.spanLg2(1)))) >> span) + 1);
        end = at + ((<u64>equalRun(entry, n, pte, ~f.addressField()) << span) - 1);
        if (both) more = Piece.pages<F, P>(engine, child, at, end, entry, both | marks, cursor);
      } else {
        const skipped = from & lowBits(lg2);
        n = leafRun<F>(entry, n, level, pte, lg2, <u32>(skipped >> span));
        end = at + min((<u64>n << span) - 1 - within, follows);
        if (both) more = Piece.leaves<F, P>(engine, child, at, end, f.leafAddress(pte, level) + skipped, lg2, both | marks, cursor);
      }
    }
    if (more == OVERLAP) return OVERLAP;
    tables += more;
    if (end == last) return tables;
    from += end - at + 1;
    at = end + 1;
  }
}

/** Areas whose parent's entries are read ahead: fewer are not worth the pass. */
const TOUCH_AREAS: u32 = 8;

/**
 * Reads the parent's entry of each area's beginning, all before any is used: memory that is far away answers for many at
 * once. The tables above them are few, and near.
 */
function touch<F extends Format>(parent: usize, areas: usize, n: u32): void {
  const f = changetype<F>(0);
  const end = areas + n * AREA_BYTES;
  const top = load<u32>(parent, DOMAIN_LEVELS) - 1;
  let key = ~(<u64>0);
  let table: usize = 0;
  for (let area = areas; area < end; area += AREA_BYTES) {
    const gpa = load<u64>(area, AREA_GPA);
    let level: u32 = 0;
    if (gpa >> f.spanLg2(1) != key) {
      table = Start.table<F>(parent, gpa);
      for (level = top; level; level--) {
        const pte = load<u64>(table + EntryOf.offset<F>(gpa, level));
        if (f.kind(pte, level) != TABLE) break;
        table = <usize>f.tableAddress(pte);
      }
      key = level ? ~(<u64>0) : gpa >> f.spanLg2(1);
    }
    store<u32>(area, <u32>(table + EntryOf.offset<F>(gpa, level)), AREA_AT);
  }
  for (let area = areas; area < end; area += AREA_BYTES) load<u64>(load<u32>(area, AREA_AT));
}

/** One pass over n areas in the scratch area; answers as mergeRange does. */
function mergeAreas<F extends Format, P extends Pass>(engine: usize, child: usize, parent: usize, n: u32): u32 {
  const cursor = changetype<Cursor>(engine + ENGINE_CURSOR);
  let tables: u32 = 0;
  let area = <usize>load<u32>(engine, ENGINE_SCRATCH);
  for (const end = area + n * AREA_BYTES; area < end; area += AREA_BYTES) {
    const more = mergeRange<F, P>(engine, child, parent, load<u64>(area, AREA_FIRST), load<u64>(area, AREA_LAST),
      load<u64>(area, AREA_GPA), load<u32>(area, AREA_PERM), cursor);
    if (more == OVERLAP) return OVERLAP;
    tables += more;
  }
  return tables;
}

/** What keeps an area from being merged at all, and not in part: a STATUS_*. */
function checkArea<F extends Format>(child: usize, parent: usize, area: usize): u32 {
  const first = load<u64>(area, AREA_FIRST);
  const last = load<u64>(area, AREA_LAST);
  const gpa = load<u64>(area, AREA_GPA);
  const status = checkInput<F>(child, first, last, gpa, load<u32>(area, AREA_PERM));
  if (status != STATUS_OK) return status;
  return isInput(parent, gpa, gpa + (last - first)) ? STATUS_OK : STATUS_RANGE;
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
    const areas = <usize>load<u32>(engine, ENGINE_SCRATCH);
    for (let n: u32 = 0; n < d; n++) {
      const status = checkArea<F>(child, parent, areas + n * AREA_BYTES);
      if (status != STATUS_OK) return status;
    }
    if (b) changetype<Cursor>(engine + ENGINE_CURSOR).reset();
    if (d >= TOUCH_AREAS) touch<F>(parent, areas, d);
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
