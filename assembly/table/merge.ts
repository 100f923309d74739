// Merge: a child's ranges over what a parent's table maps at other addresses, into the child's own table. Where the parent has
// nothing, or nothing that both permit, the child gets nothing. Two passes as in map: the first refuses overlap and counts
// tables, the second cannot fail. Ranges are first..last, inclusive. Imports layout, cursor, frames, root, runs, map, the
// pieces, the format contract; knows no format.
import {
  AREA_AT, AREA_BYTES, AREA_FIRST, AREA_GPA, AREA_LAST, AREA_PERM, DOMAIN_ADDRESS_MASK, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_HIGH,
  ENGINE_CURSOR, ENGINE_FRAMES_USED, ENGINE_SCRATCH, STATUS_OK, STATUS_OVERLAP, STATUS_RANGE,
} from "../layout";
import { EMPTY, EntryOf, Format, lowBits } from "../format/format";
import { Operation } from "../format/list";
import { aboveLg2, Cursor, tableAt } from "./cursor";
import { Frames, spendGrant } from "./frames";
import { Check, marksLeft, OVERLAP } from "./map";
import { beginsTable, Both, fillTable, findEntry, leafRun, mergeLeaves, mergePages, Pass, Plan, planPages, Put } from "./merge-pages";
import { tableOrder } from "./root";
import { Copy, emptyRun } from "./runs";

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
    if (!changetype<P>(0).writes() && at >> f.spanLg2(1) == cursor.childKey && !cursor.childTable) {
      // A page table that is missing, and counted, takes all that comes into it.
      const end = min(at | lowBits(f.spanLg2(1)), last);
      if (end == last) return tables;
      from += end - at + 1;
      at = end + 1;
      entry = 0;
    }
    const known = entry != 0;
    if (!known) entry = findEntry<F>(parent, from, cursor);
    const level = known ? 0 : cursor.level;
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
      if (!changetype<P>(0).writes()) {
        more = planPages<F>(engine, child, entry, n, at, from, flags, perm, cursor);
      } else if (beginsTable<F>(child, at, load<u64>(entry), flags, perm, cursor)) {
        end = fillTable<F>(engine, child, parent, entry, at, min(last, at | lowBits(f.spanLg2(1))), from, flags, perm, cursor);
      } else {
        end = at + ((<u64>mergePages<F, Put>(engine, child, entry, n, at, from, flags, perm, cursor) << span) - 1);
      }
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
  const bias = load<u64>(child, DOMAIN_BIAS);
  const same = load<u64>(parent, DOMAIN_BIAS) == bias && load<u64>(parent, DOMAIN_HIGH) == load<u64>(child, DOMAIN_HIGH);
  const high = same ? load<u64>(child, DOMAIN_HIGH) : ~(<u64>0);
  const halves = ~(load<u64>(child, DOMAIN_ADDRESS_MASK) & load<u64>(parent, DOMAIN_ADDRESS_MASK));
  let allowed = ~(<u32>0);
  // The parent's table of level 1 for the area before.
  let aboveKey = ~(<u64>0);
  let above: usize = 0;
  for (let area = areas; area < end; area += AREA_BYTES) {
    const first = load<u64>(area, AREA_FIRST);
    const last = load<u64>(area, AREA_LAST);
    const gpa = load<u64>(area, AREA_GPA);
    const perm = load<u32>(area, AREA_PERM);
    const gpaLast = gpa + (last - first);
    // What is certainly no refusal, in few steps; else it is asked which one it is.
    const wrong = (((first + bias) | (last + bias) | (gpa + bias) | (gpaLast + bias)) & high) | (((first ^ last) | (gpa ^ gpaLast)) & halves)
      | ((first | (last + 1) | gpa) & lowBits(f.smallLg2())) | (perm ^ allowed);
    if ((u32(wrong != 0) | u32(last < first) | u32(gpaLast < gpa)) != 0) {
      const status = Check.input<F>(child, first, last, gpa, perm);
      if (status != STATUS_OK) return status;
      if (!Check.isInput(parent, gpa, gpaLast)) return STATUS_RANGE;
      allowed = perm;
    }
    if (gpa >> aboveLg2<F>() != aboveKey) {
      aboveKey = gpa >> aboveLg2<F>();
      above = tableAt<F>(parent, gpa, 1);
    }
    const pte = above ? load<u64>(above + EntryOf.offset<F>(gpa, 1)) : 0;
    store<u32>(area, above && f.isTable(pte, 1, 0) ? <u32>(<usize>f.tableAddress(pte) + EntryOf.offset<F>(gpa, 0)) : 0, AREA_AT);
  }
  if (n < TOUCH_AREAS) return STATUS_OK;
  for (let area = areas; area < end; area += AREA_BYTES) load<u64>(load<u32>(area, AREA_AT));
  return STATUS_OK;
}

/** The first pass over n areas in the scratch area; answers as mergeRange does. */
function planAreas<F extends Format>(engine: usize, child: usize, parent: usize, n: u32): u32 {
  const cursor = changetype<Cursor>(engine + ENGINE_CURSOR);
  const tableSpan = changetype<F>(0).spanLg2(1);
  let tables: u32 = 0;
  let area = <usize>load<u32>(engine, ENGINE_SCRATCH);
  for (const end = area + n * AREA_BYTES; area < end; area += AREA_BYTES) {
    const first = load<u64>(area, AREA_FIRST);
    const last = load<u64>(area, AREA_LAST);
    // As mergeRange would answer, without a call for it.
    if ((first ^ last) >> tableSpan == 0 && first >> tableSpan == cursor.childKey && !cursor.childTable) continue;
    const more = mergeRange<F, Plan>(engine, child, parent, first, last, load<u64>(area, AREA_GPA), load<u32>(area, AREA_PERM), load<u32>(area, AREA_AT), cursor);
    if (more == OVERLAP) return OVERLAP;
    tables += more;
  }
  return tables;
}

@unmanaged
abstract class Area {
  /** The first so many pages of the area are done. */
  @inline static skip(area: usize, pages: u32, pageLg2: u32): void {
    const done = <u64>pages << pageLg2;
    store<u64>(area, load<u64>(area, AREA_FIRST) + done, AREA_FIRST);
    store<u64>(area, load<u64>(area, AREA_GPA) + done, AREA_GPA);
    store<u32>(area, load<u32>(area, AREA_AT) + (pages << 3), AREA_AT);
  }
}

/**
 * Copies the areas at `area` up to `end` that go on in the page table of the child that serves `before`, from pages like `like`, which get
 * `bits` in the child: where others begin. Of an area that turns out to be another one in its middle the rest stays in its record: what
 * is written may be in use, and marked, and is not written again.
 */
function copyBeside<F extends Format>(
  engine: usize, table: usize, area: usize, end: usize, before: u64, like: u64, perm: u32, bits: u64,
): usize {
  const f = changetype<F>(0);
  const bytes: usize = 8 << f.tableLg2();
  const kept = f.addressField();
  const wanted = Copy.wanted(like);
  const compared = Copy.compared(kept);
  const changed = Copy.changed(like, kept, bits);
  let pages: u32 = 0;
  for (; area < end; area += AREA_BYTES) {
    const first = load<u64>(area, AREA_FIRST);
    const last = load<u64>(area, AREA_LAST);
    const entry = <usize>load<u32>(area, AREA_AT);
    const n = <u32>((last - first) >> f.smallLg2()) + 1;
    const beyond = (entry & (bytes - 1)) + (n << 3) > bytes;
    const apart = ((first ^ before) | (last ^ before)) >> f.spanLg2(1);
    if ((u32(apart != 0) | u32(!entry) | u32(beyond) | (load<u32>(area, AREA_PERM) ^ perm)) != 0) break;
    const to = table + EntryOf.offset<F>(first, 0);
    if (n == 1) {
      const pte = load<u64>(entry);
      if (((pte ^ like) & ~kept) != 0) break;
      store<u64>(to, (pte & kept) | bits);
    } else {
      const copied = Copy.run(to, entry, n, wanted, compared, changed);
      if (copied != n) {
        pages += copied;
        Area.skip(area, copied, f.smallLg2());
        break;
      }
    }
    pages += n;
  }
  Frames.addLive(engine, table, pages);
  return area;
}

/** The second pass. Areas that go on in the page table of the one before, from pages like those, are most of a list. */
function putAreas<F extends Format>(engine: usize, child: usize, parent: usize, n: u32): void {
  const f = changetype<F>(0);
  const cursor = changetype<Cursor>(engine + ENGINE_CURSOR);
  const flags = load<u32>(parent, DOMAIN_FLAGS);
  let area = <usize>load<u32>(engine, ENGINE_SCRATCH);
  for (const end = area + n * AREA_BYTES; area < end; ) {
    const first = load<u64>(area, AREA_FIRST);
    const last = load<u64>(area, AREA_LAST);
    const entry = <usize>load<u32>(area, AREA_AT);
    const perm = load<u32>(area, AREA_PERM);
    mergeRange<F, Put>(engine, child, parent, first, last, load<u64>(area, AREA_GPA), perm, entry, cursor);
    area += AREA_BYTES;
    if (area == end || !entry || last >> f.spanLg2(1) != cursor.childKey || !cursor.childTable) continue;
    const pte = load<u64>(entry);
    const both = Both.isPage<F>(pte) ? Both.of<F>(pte, 0, flags, perm) : 0;
    if (!both) continue;
    const bits = f.makeLeaf(0, f.smallLg2(), 0, both | marksLeft(child));
    area = copyBeside<F>(engine, cursor.childTable, area, end, last, pte, perm, bits);
  }
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
    const tables = planAreas<F>(engine, child, parent, d);
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
    putAreas<F>(engine, child, <usize>a, d);
    spendGrant(engine, (load<u32>(engine, ENGINE_FRAMES_USED) - used) >> tableOrder<F>());
    return 0;
  }
}
