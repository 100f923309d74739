// Map and unmap of lists: records in the scratch area, carried out one after the other with the page table of the one before at
// hand. A list is checked whole before anything of it is written. Ranges are first..last, inclusive. Imports layout, frames, runs,
// map, unmap, the cursor of merge, the format contract; knows no format.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_GUEST, DOMAIN_HIGH, DOMAIN_OUTPUT_LG2, ENGINE_CURSOR, ENGINE_FRAMES_USED, ENGINE_SCRATCH,
  LEAF_BYTES, LEAF_FIRST, LEAF_HPA, LEAF_LAST, LEAF_LG2, LEAF_PERM, RANGE_BYTES, RANGE_FIRST, RANGE_LAST, STATUS_NOT_OWNED, STATUS_OK, STATUS_OVERLAP,
} from "../layout";
import { EntryOf, Format, lowBits } from "../format/format";
import { Operation } from "../format/list";
import { Frames, spendGrant } from "./frames";
import { checkRange, marksLeft, OVERLAP, put, putFrom } from "./map";
import { Cursor, pageTable } from "./merge-pages";
import { tableOrder } from "./root";
import { anyOf, fillRun, takeRun } from "./runs";
import { isWhole, noteCleared, takeFrom, unmapRefusal } from "./unmap";

@unmanaged
abstract class Pages {
  /** Are all leaves of a page table of one size? Then none is larger than its entry, and none can be cut. */
  @inline static alike<F extends Format>(): bool {
    const f = changetype<F>(0);
    return f.leafSizes(0) == <u64>1 << f.smallLg2();
  }

  /** The page table in which a range goes on that follows one up to `last`; 0 if there is none, or none does. */
  @inline static nextTo<F extends Format>(domain: usize, last: u64): usize {
    return ~last & lowBits(changetype<F>(0).spanLg2(1)) ? pageTable<F>(domain, last) : 0;
  }
}

/**
 * Tables that the maps at `at` up to `end` need, beyond those of the maps planned before, or a STATUS_*: high and low half. They
 * ascend; what does not counts as overlap.
 */
function planMaps<F extends Format>(domain: usize, cursor: Cursor, at: usize, end: usize): u64 {
  const f = changetype<F>(0);
  const tableSpan = f.spanLg2(1);
  const bias = load<u64>(domain, DOMAIN_BIAS);
  const high = load<u64>(domain, DOMAIN_HIGH);
  const mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
  const beyond = ~lowBits(load<u32>(domain, DOMAIN_OUTPUT_LG2));
  if (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST) return STATUS_NOT_OWNED;
  let tables: u64 = 0;
  for (; at < end; at += LEAF_BYTES) {
    let first = load<u64>(at, LEAF_FIRST);
    let last = load<u64>(at, LEAF_LAST);
    const hpa = load<u64>(at, LEAF_HPA);
    const perm = load<u32>(at, LEAF_PERM);
    const size = load<u32>(at, LEAF_LG2);
    // What is certainly no refusal, in few steps; checkRange knows what it is else.
    const wrong = (((first + bias) | (last + bias)) & high) | ((first ^ last) & ~mask) | ((hpa | (last - first) | (hpa + (last - first))) & beyond)
      | ((first | (last + 1) | hpa) & lowBits(f.smallLg2()));
    if (wrong != 0 || last < first || perm > 7 || !(f.expressible() & (1 << perm)) || size < f.smallLg2()) {
      const status = checkRange<F>(domain, first, last, hpa, perm, lowBits(size + 1));
      if (status != STATUS_OK) return status;
    }
    // Addresses that differ only in what is ignored have one entry.
    first &= mask;
    last &= mask;
    if (!cursor.fresh && first <= cursor.after) return STATUS_OVERLAP;
    const key = cursor.childKey;
    if (first >> tableSpan == key && last >> tableSpan == key) {
      // A table that is missing is counted, and takes all that comes into it: whole ones come with another key.
      const table = cursor.childTable;
      if (table && anyOf(table + EntryOf.offset<F>(first, 0), <u32>((last - first) >> f.smallLg2()) + 1, ~(<u64>0))) return STATUS_OVERLAP;
      cursor.after = last;
      continue;
    }
    const more = cursor.plan<F>(domain, first, last, hpa, lowBits(size + 1));
    if (more == OVERLAP) return STATUS_OVERLAP;
    tables += more;
    cursor.childKey = last >> tableSpan;
    cursor.childTable = Pages.nextTo<F>(domain, last);
  }
  return tables << 32;
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

/** Makes d maps of the scratch area, which are planned, and for whose tables there are frames. */
@unmanaged
@final
export class PutMaps extends Operation {
  run<F extends Format>(engine: usize, domain: usize, _a: u64, _b: u64, _c: u64, d: u32): u64 {
    const f = changetype<F>(0);
    const tableSpan = f.spanLg2(1);
    const mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
    const marks = marksLeft(domain);
    const used = load<u32>(engine, ENGINE_FRAMES_USED);
    let key = ~(<u64>0);
    let table: usize = 0;
    let live: usize = 0;
    let at = <usize>load<u32>(engine, ENGINE_SCRATCH);
    for (const end = at + d * LEAF_BYTES; at < end; at += LEAF_BYTES) {
      const first = load<u64>(at, LEAF_FIRST) & mask;
      const last = load<u64>(at, LEAF_LAST) & mask;
      const hpa = load<u64>(at, LEAF_HPA);
      const perm = load<u32>(at, LEAF_PERM) | marks;
      if (first >> tableSpan != key || last >> tableSpan != key) {
        putFrom<F>(engine, domain, first, last, hpa, perm, lowBits(load<u32>(at, LEAF_LG2) + 1));
        table = Pages.nextTo<F>(domain, last);
        key = table ? last >> tableSpan : ~(<u64>0);
        if (table) live = Frames.liveAddress(engine, Frames.index(engine, table));
      } else if (Pages.alike<F>()) {
        const entry = table + EntryOf.offset<F>(first, 0);
        const n = <u32>((last - first) >> f.smallLg2()) + 1;
        const pte = f.makeLeaf(0, f.smallLg2(), hpa, perm);
        if (n == 1) store<u64>(entry, pte);
        else fillRun(entry, n, pte, <u64>1 << f.smallLg2());
        store<u16>(live, <u16>(load<u16>(live) + n));
      } else {
        put<F>(engine, table, 0, first, last, hpa, perm, lowBits(load<u32>(at, LEAF_LG2) + 1));
      }
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
    const tableSpan = f.spanLg2(1);
    const bias = load<u64>(domain, DOMAIN_BIAS);
    const high = load<u64>(domain, DOMAIN_HIGH);
    const halves = ~load<u64>(domain, DOMAIN_ADDRESS_MASK);
    const ranges = <usize>load<u32>(engine, ENGINE_SCRATCH);
    let key = ~(<u64>0);
    let after: u64 = 0;
    for (let at = ranges; at < ranges + d * RANGE_BYTES; at += RANGE_BYTES) {
      const first = load<u64>(at, RANGE_FIRST);
      const last = load<u64>(at, RANGE_LAST);
      const wrong = (((first + bias) | (last + bias)) & high) | ((first ^ last) & halves) | ((first | (last + 1)) & lowBits(f.smallLg2()));
      if (Pages.alike<F>() && !wrong && last >= first && first >> tableSpan == key && last >> tableSpan == key) {
        after = last;
        continue;
      }
      // What ends where the range before it does begins no leaf inside.
      const refusal = unmapRefusal<F>(domain, first, last, first == after + 1 && at != ranges);
      if (refusal) return refusal;
      after = last;
      if (Pages.alike<F>()) key = Pages.nextTo<F>(domain, last) ? last >> tableSpan : ~(<u64>0);
    }
    return 0;
  }
}

/** Removes d ranges of the scratch area, for which CheckUnmaps has answered 0: bytes removed. */
@unmanaged
@final
export class TakeUnmaps extends Operation {
  run<F extends Format>(engine: usize, domain: usize, _a: u64, _b: u64, _c: u64, d: u32): u64 {
    const f = changetype<F>(0);
    const tableSpan = f.spanLg2(1);
    let bytes: u64 = 0;
    let pages: u64 = 0;
    let key = ~(<u64>0);
    let table: usize = 0;
    let live: usize = 0;
    let at = <usize>load<u32>(engine, ENGINE_SCRATCH);
    for (const end = at + d * RANGE_BYTES; at < end; at += RANGE_BYTES) {
      const first = load<u64>(at, RANGE_FIRST);
      let last = load<u64>(at, RANGE_LAST);
      // Neighbours go together.
      for (; at + RANGE_BYTES < end && load<u64>(at, RANGE_BYTES + RANGE_FIRST) == last + 1; at += RANGE_BYTES) last = load<u64>(at, RANGE_BYTES + RANGE_LAST);
      if (first >> tableSpan == key && last >> tableSpan == key && !isWhole(first, last, tableSpan)) {
        const entry = table + EntryOf.offset<F>(first, 0);
        const n = <u32>((last - first) >> f.smallLg2()) + 1;
        let taken: u32;
        if (n == 1) {
          taken = u32(load<u64>(entry) != 0);
          store<u64>(entry, 0);
        } else {
          taken = takeRun(entry, n);
        }
        const left = <u32>load<u16>(live) - taken;
        store<u16>(live, <u16>left);
        pages += taken;
        if (left) continue;
      }
      // An empty table goes too.
      bytes += takeFrom<F>(engine, domain, first, last);
      table = Pages.nextTo<F>(domain, last);
      key = table ? last >> tableSpan : ~(<u64>0);
      if (table) live = Frames.liveAddress(engine, Frames.index(engine, table));
    }
    if (pages) noteCleared(engine, f.smallLg2());
    return bytes + (pages << f.smallLg2());
  }
}
