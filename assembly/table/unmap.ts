// Unmap: removes exactly the range, frees tables that end up empty, and counts the bytes. Live-entry counts let a whole
// leaf table go without one of its entries being read. Ranges are first..last, inclusive. Imports layout, frames, root, runs,
// the format contract; knows no format. The caller invalidates, waits for readers and releases limbo.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_GUEST, DOMAIN_HIGH, DOMAIN_LEVELS, DOMAIN_ROOT, ENGINE_CLEARED, ENGINE_FRAME_LIVE,
  ENGINE_FRAME_NEXT, ENGINE_FRAMES, FRAME_LG2,
  UNMAP_REFUSED, UNMAP_SPLIT,
} from "../layout";
import { EMPTY, EntryOf, Format, LEAF, lowBits, TABLE } from "../format/format";
import { Operation } from "../format/list";
import { Frames, retireChain, retireFrame } from "./frames";
import { retireRoot, Start, tableOrder } from "./root";
import { takeRun } from "./runs";

/** Records that leaves of 2^lg2 bytes went, so that the caller invalidates the IOTLB classes that could hold them. */
export function noteCleared(engine: usize, lg2: u32): void {
  store<u64>(engine, load<u64>(engine, ENGINE_CLEARED) | (<u64>1 << lg2), ENGINE_CLEARED);
}

@unmanaged
abstract class Retire {
  /**
   * Retires the page tables that n entries of a table of level 1 lead to: bytes that they and the leaves among the entries mapped. Without
   * a call for each of them; leaf entries of page tables are counted, not read. With `empty` the entries are emptied; without, the table goes too, so that
   * from the first on as many are looked at as are live.
   */
  @inline static tables<F extends Format>(engine: usize, table: usize, entry: usize, n: u32, empty: bool): u64 {
    const f = changetype<F>(0);
    const frames = load<u32>(engine, ENGINE_FRAMES);
    const counts = load<u32>(engine, ENGINE_FRAME_LIVE);
    const links = load<u32>(engine, ENGINE_FRAME_NEXT);
    const most = Frames.live(engine, table);
    let chain: u32 = 0;
    let oldest: u32 = 0;
    let leaves: u32 = 0;
    let tables: u32 = 0;
    let pages: u64 = 0;
    for (const end = entry + (n << 3); empty ? entry < end : leaves + tables < most; entry += 8) {
      const pte = load<u64>(entry);
      if (!pte) continue;
      if (empty) store<u64>(entry, 0);
      if (!f.isTable(pte, 1, 0)) {
        leaves++;
        noteCleared(engine, f.leafLg2(pte, 1));
        continue;
      }
      const index = <u32>(<usize>f.tableAddress(pte) - frames) >> FRAME_LG2;
      const live = counts + (index << 1);
      pages += load<u16>(live);
      store<u16>(live, 0);
      store<u32>(links + (index << 2), chain);
      chain = index + 1;
      if (!tables++) oldest = chain;
    }
    if (empty) Frames.addLive(engine, table, -(leaves + tables));
    if (tables) {
      retireChain(engine, chain, oldest, tables, tableOrder<F>());
      // Their leaves may be of any size that a page table allows; the caller only asks which classes were touched.
      noteCleared(engine, f.spanLg2(0));
    }
    return (<u64>leaves << f.spanLg2(1)) + (pages << f.spanLg2(0));
  }
}

/** Bytes mapped by `table` and below it; retires the tables below. */
function dropBelow<F extends Format>(engine: usize, table: usize, level: u32): u64 {
  const f = changetype<F>(0);
  const span = f.spanLg2(level);
  if (level == 1) return Retire.tables<F>(engine, table, table, 1 << f.tableLg2(), false);
  const live = Frames.live(engine, table);
  if (level == 0) {
    noteCleared(engine, span);
    return <u64>live << span;
  }
  let bytes: u64 = 0;
  let seen: u32 = 0;
  for (let entry = table; seen < live; entry += 8) {
    const pte = load<u64>(entry);
    if (!pte) continue;
    seen++;
    if (f.isTable(pte, level, 0)) {
      bytes += drop<F>(engine, <usize>f.tableAddress(pte), level - 1);
    } else {
      bytes += <u64>1 << span;
      noteCleared(engine, f.leafLg2(pte, level));
    }
  }
  return bytes;
}

/** The same for a table that nothing points to any more: it is retired too. */
function drop<F extends Format>(engine: usize, table: usize, level: u32): u64 {
  const bytes = dropBelow<F>(engine, table, level);
  Frames.clearLive(engine, table);
  retireFrame(engine, table, tableOrder<F>());
  return bytes;
}

/** Removes the entries of [first..last] in a leaf table: bytes removed. */
function takeLeaves<F extends Format>(engine: usize, table: usize, first: u64, last: u64): u64 {
  const span = changetype<F>(0).spanLg2(0);
  const n = <u32>((last - first) >> span) + 1;
  const live = takeRun(table + EntryOf.offset<F>(first, 0), n);
  if (!live) return 0;
  Frames.addLive(engine, table, -live);
  noteCleared(engine, span);
  return <u64>live << span;
}

/** Is [first..last], in the span of one entry of 2^spanLg2 bytes, all of it? */
function isWhole(first: u64, last: u64, spanLg2: u32): bool {
  return last - first == lowBits(spanLg2);
}

/**
 * Removes [first..last] below `table`: bytes removed. `unmapRefusal` has made sure that no leaf is cut. Entries are emptied by plain
 * stores, which are whole: the epoch that `settle` advances comes after them all, and nothing they led to is given back before.
 */
export function take<F extends Format>(engine: usize, table: usize, level: u32, first: u64, last: u64): u64 {
  if (level == 0) return takeLeaves<F>(engine, table, first, last);
  const f = changetype<F>(0);
  const span = f.spanLg2(level);
  let bytes: u64 = 0;
  let at = first;
  while (true) {
    const entry = table + EntryOf.offset<F>(at, level);
    if (level == 1 && !(at & lowBits(span)) && last - at >= lowBits(span)) {
      const n = <u32>((last - at + 1) >> span);
      bytes += Retire.tables<F>(engine, table, entry, n, true);
      at += <u64>n << span;
      if (at - 1 == last) return bytes;
      continue;
    }
    const end = min(at | lowBits(span), last);
    const pte = load<u64>(entry);
    const kind = f.kind(pte, level);
    if (kind == LEAF) {
      store<u64>(entry, 0);
      Frames.addLive(engine, table, -1);
      noteCleared(engine, f.leafLg2(pte, level));
      bytes += <u64>1 << span;
    } else if (kind == TABLE) {
      const child = <usize>f.tableAddress(pte);
      const whole = isWhole(at, end, span);
      if (!whole) bytes += take<F>(engine, child, level - 1, at, end);
      if (whole || !Frames.live(engine, child)) {
        store<u64>(entry, 0);
        Frames.addLive(engine, table, -1);
        bytes += drop<F>(engine, child, level - 1);
      }
    }
    if (end == last) return bytes;
    at = end + 1;
  }
}

/** True if the leaf that holds `at` begins before `first` or ends after `last`. */
function cutsLeaf<F extends Format>(domain: usize, at: u64, first: u64, last: u64): bool {
  const f = changetype<F>(0);
  let table = Start.table<F>(domain, at);
  let level = load<u32>(domain, DOMAIN_LEVELS) - 1;
  while (true) {
    const pte = load<u64>(table + EntryOf.offset<F>(at, level));
    const kind = f.kind(pte, level);
    if (kind == EMPTY) return false;
    if (kind == LEAF) {
      const within = lowBits(f.leafLg2(pte, level));
      return (at & ~within) < first || (at | within) > last;
    }
    table = <usize>f.tableAddress(pte);
    level--;
  }
}

/** `take` over the start tables. */
export function takeFrom<F extends Format>(engine: usize, domain: usize, first: u64, last: u64): u64 {
  const top = load<u32>(domain, DOMAIN_LEVELS) - 1;
  let bytes: u64 = 0;
  let at = first;
  while (true) {
    const end = Start.last<F>(domain, at, last);
    bytes += take<F>(engine, Start.table<F>(domain, at), top, at, end);
    if (end == last) return bytes;
    at = end + 1;
  }
}

/**
 * Why [a..b] cannot be removed: UNMAP_SPLIT if it would cut a leaf, UNMAP_REFUSED if it is no range of this space; 0 if it can.
 * `begins`, `ends`: it is known that no leaf lies across its beginning, or its end.
 */
export function unmapRefusal<F extends Format>(domain: usize, a: u64, b: u64, begins: bool, ends: bool): u64 {
  const bias = load<u64>(domain, DOMAIN_BIAS);
  const high = load<u64>(domain, DOMAIN_HIGH);
  const mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
  if (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST) return UNMAP_REFUSED;
  if (b < a || ((a | (b + 1)) & lowBits(changetype<F>(0).smallLg2())) != 0) return UNMAP_REFUSED;
  if ((((a + bias) | (b + bias)) & high) != 0 || (a & ~mask) != (b & ~mask)) return UNMAP_REFUSED;
  return (!begins && cutsLeaf<F>(domain, a, a, b)) || (!ends && cutsLeaf<F>(domain, b, a, b)) ? UNMAP_SPLIT : 0;
}

/** Removes [a..b]: bytes removed, or as `unmapRefusal`. */
@unmanaged
@final
export class UnmapRange extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, b: u64, _c: u64, _d: u32): u64 {
    const refusal = unmapRefusal<F>(domain, a, b, false, false);
    return refusal ? refusal : takeFrom<F>(engine, domain, a, b);
  }
}

/** Retires every table of the domain, the start tables too. */
@unmanaged
@final
export class DropTables extends Operation {
  run<F extends Format>(engine: usize, domain: usize, _a: u64, _b: u64, _c: u64, _d: u32): u64 {
    const root = <usize>load<u64>(domain, DOMAIN_ROOT);
    const size: usize = 8 << changetype<F>(0).tableLg2();
    let bytes: u64 = 0;
    for (let table = root; table < root + (size << Start.countLg2<F>(domain)); table += size) {
      bytes += dropBelow<F>(engine, table, load<u32>(domain, DOMAIN_LEVELS) - 1);
    }
    retireRoot<F>(engine, domain);
    return bytes;
  }
}
