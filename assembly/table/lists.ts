// Map and unmap of lists: records in the scratch area, carried out one after the other with the tables of the one before at hand. A list
// is checked whole before anything of it is written. Records that go on in the page table of the one before, and are like it in all
// that can be refused, are most of a list: each pass has a loop of their own. Ranges are first..last, inclusive. Imports layout, cursor,
// frames, root, runs, map, unmap, the format contract; knows no format.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_FLAGS, DOMAIN_GUEST, DOMAIN_OUTPUT_LG2, ENGINE_CURSOR, ENGINE_FRAMES_USED, ENGINE_SCRATCH,
  LEAF_BYTES, LEAF_FIRST, LEAF_HPA, LEAF_LAST, LEAF_LG2, LEAF_PERM, RANGE_BYTES, RANGE_FIRST, RANGE_LAST, STATUS_NOT_OWNED, STATUS_OK, STATUS_OVERLAP,
  UNMAP_REFUSED,
} from "../layout";
import { EntryOf, Format, lowBits } from "../format/format";
import { Operation } from "../format/list";
import { Cursor } from "./cursor";
import { Frames, spendGrant } from "./frames";
import { checkRange, marksLeft, OVERLAP } from "./map";
import { tableOrder } from "./root";
import { anyOf, fillRun, takeRun } from "./runs";
import { noteCleared, unmapRefusal } from "./unmap";

@unmanaged
abstract class Pages {
  /** Are all leaves of a page table of one size? Then none is larger than its entry, and none can be cut. */
  @inline static alike<F extends Format>(): bool {
    const f = changetype<F>(0);
    return f.leafSizes(0) == <u64>1 << f.smallLg2();
  }

  /** Not 0 unless both addresses lie in the page table of `before`: then what else an address is asked holds for them as for that one. */
  @inline static apart<F extends Format>(first: u64, last: u64, before: u64): u64 {
    return ((first ^ before) | (last ^ before)) >> changetype<F>(0).spanLg2(1);
  }

  @inline static count<F extends Format>(first: u64, last: u64): u32 {
    return <u32>((last - first) >> changetype<F>(0).smallLg2()) + 1;
  }

  /** Permissions of the map at `at` and its largest leaf, as one word. */
  @inline static kind(at: usize): u64 { return load<u64>(at, LEAF_PERM); }

  /**
   * Does the map at `at` lie in the page table of one that was allowed and ends at `before`, and behind it, with nothing wrong but
   * perhaps an overlap?
   */
  @inline static goesOn<F extends Format>(at: usize, before: u64, kind: u64, beyond: u64): bool {
    const f = changetype<F>(0);
    const first = load<u64>(at, LEAF_FIRST);
    const last = load<u64>(at, LEAF_LAST);
    const hpa = load<u64>(at, LEAF_HPA);
    const wrong = Pages.apart<F>(first, last, before) | ((hpa | (hpa + (last - first))) & beyond)
      | ((first | (last + 1) | hpa) & lowBits(f.smallLg2())) | (Pages.kind(at) ^ kind);
    return (u32(wrong != 0) | u32(first <= before) | u32(last < first)) == 0;
  }

  /** The page table in which a range goes on that follows one up to `last`; 0 if there is none, or none does. */
  @inline static nextTo<F extends Format>(domain: usize, last: u64, cursor: Cursor): usize {
    return ~last & lowBits(changetype<F>(0).spanLg2(1)) ? cursor.pageTable<F>(domain, last) : 0;
  }
}

/** Plans one map, whatever it is: the tables that it needs in the high half, or a STATUS_*. */
function planMap<F extends Format>(domain: usize, cursor: Cursor, at: usize, mask: u64): u64 {
  const hpa = load<u64>(at, LEAF_HPA);
  const sizes = lowBits(load<u32>(at, LEAF_LG2) + 1);
  let first = load<u64>(at, LEAF_FIRST);
  let last = load<u64>(at, LEAF_LAST);
  const status = checkRange<F>(domain, first, last, hpa, load<u32>(at, LEAF_PERM), sizes);
  if (status != STATUS_OK) return status;
  // Addresses that differ only in what is ignored have one entry.
  first &= mask;
  last &= mask;
  if (!cursor.fresh && first <= cursor.after) return STATUS_OVERLAP;
  const tables = cursor.plan<F>(domain, first, last, hpa, sizes);
  if (tables == OVERLAP) return STATUS_OVERLAP;
  return <u64>tables << 32;
}

/**
 * Tables that the maps at `at` up to `end` need, beyond those of the maps planned before, or a STATUS_*: high and low half. They
 * ascend; what does not counts as overlap.
 */
function planMaps<F extends Format>(domain: usize, cursor: Cursor, at: usize, end: usize): u64 {
  const mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
  const beyond = ~lowBits(load<u32>(domain, DOMAIN_OUTPUT_LG2));
  if (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST) return STATUS_NOT_OWNED;
  let answer: u64 = 0;
  while (at < end) {
    const more = planMap<F>(domain, cursor, at, mask);
    if (<u32>more != STATUS_OK) return more;
    answer += more;
    let before = load<u64>(at, LEAF_LAST);
    const kind = Pages.kind(at);
    const table = Pages.nextTo<F>(domain, before & mask, cursor);
    at += LEAF_BYTES;
    if (table) {
      for (; at < end && Pages.goesOn<F>(at, before, kind, beyond); at += LEAF_BYTES) {
        const first = load<u64>(at, LEAF_FIRST);
        before = load<u64>(at, LEAF_LAST);
        if (anyOf(table + EntryOf.offset<F>(first, 0), Pages.count<F>(first, before))) return STATUS_OVERLAP;
      }
    } else {
      // It is missing, and counted: it takes all that comes into it.
      for (; at < end && Pages.goesOn<F>(at, before, kind, beyond); at += LEAF_BYTES) before = load<u64>(at, LEAF_LAST);
    }
    cursor.after = before & mask;
  }
  return answer;
}

/** Plans d maps of the scratch area; they go on behind those planned before, unless a says that they are the first. */
@unmanaged
@final
export class PlanMaps extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, _b: u64, _c: u64, d: u32): u64 {
    const cursor = changetype<Cursor>(engine + ENGINE_CURSOR);
    if (a) cursor.reset();
    const maps = <usize>load<u32>(engine, ENGINE_SCRATCH);
    return planMaps<F>(domain, cursor, maps, maps + d * LEAF_BYTES);
  }
}

/** Makes the maps at `at` up to `end` that go on in the page table of one before them, up to `before`: where others begin. */
function putBeside<F extends Format>(engine: usize, table: usize, at: usize, end: usize, before: u64, kind: u64, marks: u32): usize {
  const f = changetype<F>(0);
  const page = f.makeLeaf(0, f.smallLg2(), 0, <u32>kind | marks);
  let pages: u32 = 0;
  for (; at < end; at += LEAF_BYTES) {
    const first = load<u64>(at, LEAF_FIRST);
    const last = load<u64>(at, LEAF_LAST);
    if ((Pages.apart<F>(first, last, before) | (Pages.kind(at) ^ kind)) != 0) break;
    const n = Pages.count<F>(first, last);
    const entry = table + EntryOf.offset<F>(first, 0);
    const pte = page | load<u64>(at, LEAF_HPA);
    if (n == 1) store<u64>(entry, pte);
    else fillRun(entry, n, pte, <u64>1 << f.smallLg2());
    pages += n;
  }
  Frames.addLive(engine, table, pages);
  return at;
}

/** Makes d maps of the scratch area, which are planned, and for whose tables there are frames. */
@unmanaged
@final
export class PutMaps extends Operation {
  run<F extends Format>(engine: usize, domain: usize, _a: u64, _b: u64, _c: u64, d: u32): u64 {
    const cursor = changetype<Cursor>(engine + ENGINE_CURSOR);
    const mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
    const marks = marksLeft(domain);
    const used = load<u32>(engine, ENGINE_FRAMES_USED);
    cursor.reset();
    let at = <usize>load<u32>(engine, ENGINE_SCRATCH);
    for (const end = at + d * LEAF_BYTES; at < end; ) {
      const last = load<u64>(at, LEAF_LAST);
      const kind = Pages.kind(at);
      cursor.put<F>(engine, domain, load<u64>(at, LEAF_FIRST) & mask, last & mask, load<u64>(at, LEAF_HPA), <u32>kind | marks,
        lowBits(load<u32>(at, LEAF_LG2) + 1));
      at += LEAF_BYTES;
      const table = Pages.alike<F>() && at < end ? Pages.nextTo<F>(domain, last & mask, cursor) : 0;
      if (table) at = putBeside<F>(engine, table, at, end, last, kind, marks);
    }
    spendGrant(engine, (load<u32>(engine, ENGINE_FRAMES_USED) - used) >> tableOrder<F>());
    return 0;
  }
}

/** Why one of d ranges of the scratch area could not be removed, an UNMAP_*; 0 if all can. */
@unmanaged
@final
export class CheckUnmaps extends Operation {
  run<F extends Format>(engine: usize, domain: usize, _a: u64, _b: u64, _c: u64, d: u32): u64 {
    const f = changetype<F>(0);
    const cursor = changetype<Cursor>(engine + ENGINE_CURSOR);
    const mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
    if (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST) return UNMAP_REFUSED;
    cursor.reset();
    let begins = false;
    let at = <usize>load<u32>(engine, ENGINE_SCRATCH);
    for (const end = at + d * RANGE_BYTES; at < end; ) {
      // What begins where the range before it ends cuts no leaf there.
      const first = load<u64>(at, RANGE_FIRST);
      let before = load<u64>(at, RANGE_LAST);
      // Nor is one cut in a page table whose leaves are pages.
      const whole = Pages.alike<F>() && Pages.apart<F>(first, first, before) == 0 && cursor.pageTable<F>(domain, first & mask) != 0;
      const refusal = unmapRefusal<F>(domain, first, before, begins || whole, whole);
      if (refusal) return refusal;
      at += RANGE_BYTES;
      if (Pages.alike<F>() && at < end && Pages.nextTo<F>(domain, before & mask, cursor)) {
        for (; at < end; at += RANGE_BYTES) {
          const first = load<u64>(at, RANGE_FIRST);
          const last = load<u64>(at, RANGE_LAST);
          if ((Pages.apart<F>(first, last, before) | ((first | (last + 1)) & lowBits(f.smallLg2()))) != 0 || last < first) break;
          before = last;
        }
      }
      begins = at < end && load<u64>(at, RANGE_FIRST) == before + 1;
    }
    return 0;
  }
}

/**
 * Empties the ranges at `at` up to `end` that go on in the page table of one before them, up to `before`: where others begin, or the one
 * with which nothing is left in the table.
 */
function takeBeside<F extends Format>(engine: usize, table: usize, at: usize, end: usize, before: u64): usize {
  let left = Frames.live(engine, table);
  const live = left;
  for (; at < end; at += RANGE_BYTES) {
    const first = load<u64>(at, RANGE_FIRST);
    const last = load<u64>(at, RANGE_LAST);
    if (Pages.apart<F>(first, last, before) != 0) break;
    const n = Pages.count<F>(first, last);
    const entry = table + EntryOf.offset<F>(first, 0);
    if (n == 1) {
      left -= u32(load<u64>(entry) != 0);
      store<u64>(entry, 0);
    } else {
      left -= takeRun(entry, n);
    }
    if (!left) break;
  }
  Frames.addLive(engine, table, left - live);
  return at;
}

/** Removes d ranges of the scratch area, for which CheckUnmaps has answered 0: bytes removed. */
@unmanaged
@final
export class TakeUnmaps extends Operation {
  run<F extends Format>(engine: usize, domain: usize, _a: u64, _b: u64, _c: u64, d: u32): u64 {
    const f = changetype<F>(0);
    const cursor = changetype<Cursor>(engine + ENGINE_CURSOR);
    const mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
    cursor.reset();
    let bytes: u64 = 0;
    let pages: u64 = 0;
    let at = <usize>load<u32>(engine, ENGINE_SCRATCH);
    for (const end = at + d * RANGE_BYTES; at < end; ) {
      const first = load<u64>(at, RANGE_FIRST);
      let last = load<u64>(at, RANGE_LAST);
      at += RANGE_BYTES;
      // Neighbours go together: not the lowest address after the highest.
      for (; at < end && last + 1 != 0 && load<u64>(at, RANGE_FIRST) == last + 1; at += RANGE_BYTES) last = load<u64>(at, RANGE_LAST);
      // An empty table goes too.
      bytes += cursor.take<F>(engine, domain, first, last);
      const table = Pages.alike<F>() && at < end ? Pages.nextTo<F>(domain, last & mask, cursor) : 0;
      if (!table) continue;
      const live = Frames.live(engine, table);
      at = takeBeside<F>(engine, table, at, end, last);
      pages += live - Frames.live(engine, table);
    }
    if (pages) noteCleared(engine, f.smallLg2());
    return bytes + (pages << f.smallLg2());
  }
}
