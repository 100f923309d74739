// Map: two passes over the range. `plan` refuses overlap and counts the tables that the range needs; `put` writes and
// cannot fail. Each pass works on runs: page size and number of leaves are chosen once per run. Ranges are first..last,
// inclusive. Imports layout, frames, runs and the format contract; knows no format.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_FLAGS, DOMAIN_GUEST, DOMAIN_LEVELS, DOMAIN_OUTPUT_LG2, DOMAIN_BIAS, DOMAIN_HIGH,
  DOMAIN_SET_ACCESSED, DOMAIN_SET_DIRTY, ENGINE_PLANNED, PERM_CLEAN,
  STATUS_ALIGN, STATUS_NO_FRAMES, STATUS_NOT_OWNED, STATUS_OK, STATUS_OVERLAP, STATUS_PERM, STATUS_RANGE,
} from "../layout";
import { EntryOf, EMPTY, Format, lowBits, TABLE } from "../format/format";
import { Operation } from "../format/list";
import { canTake, Frames, takeFrame } from "./frames";
import { Start, tableOrder } from "./root";
import { anyOf, fillRun } from "./runs";

/** `plan` met something that is mapped. */
const OVERLAP: u32 = 0xffffffff;

@unmanaged
abstract class Run {
  /** Log2 of the largest leaf at `level` for [at..last] -> hpa; 0 if none fits and a table is needed. */
  @inline static leafLg2<F extends Format>(level: u32, at: u64, last: u64, hpa: u64): u32 {
    const sizes = changetype<F>(0).leafSizes(level);
    // Sizes allowed by alignment: every bit up to the lowest set bit of either address. By length: up to log2 of it.
    const joint = at | hpa;
    const aligned = joint == 0 ? ~(<u64>0) : joint ^ (joint - 1);
    const length = last - at + 1;
    const fits = length == 0 ? ~(<u64>0) : lowBits(64 - <u32>clz(length));
    const possible = sizes & aligned & fits;
    return possible ? 63 - <u32>clz(possible) : 0;
  }

  /**
   * Last address of the run of leaves of 2^lg2 bytes that begins at `at` -> hpa: to where a larger leaf may start, or `last`.
   * A size to which the two addresses are never aligned together starts nowhere.
   */
  @inline static last<F extends Format>(level: u32, lg2: u32, at: u64, last: u64, hpa: u64): u64 {
    const apart = at - hpa;
    const larger = changetype<F>(0).leafSizes(level) & ~lowBits(lg2 + 1) & (apart == 0 ? ~(<u64>0) : apart ^ (apart - 1));
    const limit = larger ? min(at | lowBits(<u32>ctz(larger)), last) : last;
    // Whole leaves only: the rest is another run.
    const beyond = limit - at + 1;
    return beyond == 0 ? limit : at + (beyond & ~lowBits(lg2)) - 1;
  }
}

/**
 * Tables that mapping [first..last] -> hpa needs under `table` (0: there is none yet), or OVERLAP. Tables that also serve
 * `after`, where a range planned before this one ends, are counted already: two ranges in one entry's span share a table.
 */
function plan<F extends Format>(table: usize, level: u32, first: u64, last: u64, hpa: u64, after: u64): u32 {
  const f = changetype<F>(0);
  const span = f.spanLg2(level);
  let tables: u32 = 0;
  let at = first;
  while (true) {
    const entry = table + EntryOf.offset<F>(at, level);
    const lg2 = Run.leafLg2<F>(level, at, last, hpa);
    let end: u64;
    if (lg2) {
      end = Run.last<F>(level, lg2, at, last, hpa);
      if (table && anyOf(entry, <u32>((end - at) >> span) + 1, ~(<u64>0))) return OVERLAP;
    } else {
      end = min(at | lowBits(span), last);
      const pte = table ? load<u64>(entry) : 0;
      const kind = f.kind(pte, level);
      if (kind != EMPTY && kind != TABLE) return OVERLAP;
      if (kind == EMPTY && (at ^ after) >> span != 0) tables++;
      if (level > 1 || kind == TABLE) {
        const below = plan<F>(kind == TABLE ? <usize>f.tableAddress(pte) : 0, level - 1, at, end, hpa, after);
        if (below == OVERLAP) return OVERLAP;
        tables += below;
      }
    }
    if (end == last) return tables;
    hpa += end - at + 1;
    at = end + 1;
  }
}

/** Writes what `plan` has allowed. A new table is complete before its pointer is stored. */
function put<F extends Format>(
  engine: usize, table: usize, level: u32, first: u64, last: u64, hpa: u64, perm: u32,
): void {
  const f = changetype<F>(0);
  const span = f.spanLg2(level);
  let at = first;
  while (true) {
    const entry = table + EntryOf.offset<F>(at, level);
    const lg2 = Run.leafLg2<F>(level, at, last, hpa);
    let end: u64;
    if (lg2) {
      end = Run.last<F>(level, lg2, at, last, hpa);
      putLeaves<F>(entry, level, lg2, <u32>((end - at) >> lg2) + 1, hpa, perm);
      Frames.addLive(engine, table, <u32>((end - at) >> span) + 1);
    } else {
      end = min(at | lowBits(span), last);
      const pte = load<u64>(entry);
      if (f.kind(pte, level) == TABLE) {
        put<F>(engine, <usize>f.tableAddress(pte), level - 1, at, end, hpa, perm);
      } else {
        const whole = level == 1 && end - at == lowBits(span);
        const child = takeFrame(engine, tableOrder<F>(), !whole);
        put<F>(engine, child, level - 1, at, end, hpa, perm);
        atomic.store<u64>(entry, f.makeTable(level, child));
        Frames.addLive(engine, table, 1);
      }
    }
    if (end == last) return;
    hpa += end - at + 1;
    at = end + 1;
  }
}

/** n leaves of 2^lg2 bytes from `entry` up; a leaf larger than its entry's span repeats its value. */
function putLeaves<F extends Format>(entry: usize, level: u32, lg2: u32, n: u32, hpa: u64, perm: u32): void {
  const f = changetype<F>(0);
  const repeat: u32 = 1 << (lg2 - f.spanLg2(level));
  if (repeat == 1) {
    fillRun(entry, n, f.makeLeaf(level, lg2, hpa, perm), <u64>1 << lg2);
    return;
  }
  for (; n; n--, entry += repeat << 3, hpa += <u64>1 << lg2) fillRun(entry, repeat, f.makeLeaf(level, lg2, hpa, perm), 0);
}

/** Status of a range before any table is looked at. */
function checkRange<F extends Format>(domain: usize, first: u64, last: u64, hpa: u64, perm: u32): u32 {
  const f = changetype<F>(0);
  if (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST) return STATUS_NOT_OWNED;
  if (perm > 7 || !(f.expressible() & (1 << perm))) return STATUS_PERM;
  if (((first | (last + 1) | hpa) & lowBits(f.smallLg2())) != 0 || last < first) return STATUS_ALIGN;
  const bias = load<u64>(domain, DOMAIN_BIAS);
  const high = load<u64>(domain, DOMAIN_HIGH);
  if ((((first + bias) | (last + bias)) & high) != 0) return STATUS_RANGE;
  if ((first & ~load<u64>(domain, DOMAIN_ADDRESS_MASK)) != (last & ~load<u64>(domain, DOMAIN_ADDRESS_MASK))) return STATUS_RANGE;
  const hpaLast = hpa + (last - first);
  return hpaLast < hpa || (hpaLast & ~lowBits(load<u32>(domain, DOMAIN_OUTPUT_LG2))) != 0 ? STATUS_RANGE : STATUS_OK;
}

/** `plan` over the start tables. */
function planFrom<F extends Format>(domain: usize, first: u64, last: u64, hpa: u64, after: u64): u32 {
  const top = load<u32>(domain, DOMAIN_LEVELS) - 1;
  let tables: u32 = 0;
  let at = first;
  while (true) {
    const end = Start.last<F>(domain, at, last);
    const more = plan<F>(Start.table<F>(domain, at), top, at, end, hpa + (at - first), after);
    if (more == OVERLAP) return OVERLAP;
    tables += more;
    if (end == last) return tables;
    at = end + 1;
  }
}

/** `put` over the start tables. */
function putFrom<F extends Format>(engine: usize, domain: usize, first: u64, last: u64, hpa: u64, perm: u32): void {
  const top = load<u32>(domain, DOMAIN_LEVELS) - 1;
  let at = first;
  while (true) {
    const end = Start.last<F>(domain, at, last);
    put<F>(engine, Start.table<F>(domain, at), top, at, end, hpa + (at - first), perm);
    if (end == last) return;
    at = end + 1;
  }
}

/** [a..b] -> hpa c with PERM_* d: a STATUS_*. Nothing is written unless it is STATUS_OK. */
@unmanaged
@final
export class MapRange extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, b: u64, c: u64, d: u32): u64 {
    const status = checkRange<F>(domain, a, b, c, d);
    if (status != STATUS_OK) return status;
    const tables = planFrom<F>(domain, a, b, c, ~a);
    if (tables == OVERLAP) return STATUS_OVERLAP;
    if (!canTake(engine, tableOrder<F>(), tables)) return STATUS_NO_FRAMES;
    const clean = load<u32>(domain, DOMAIN_FLAGS) & (DOMAIN_SET_ACCESSED | DOMAIN_SET_DIRTY) ? PERM_CLEAN : 0;
    putFrom<F>(engine, domain, a, b, c, d | clean);
    return STATUS_OK;
  }
}

/**
 * As MapRange without the writing: answers the tables needed, beyond those that the range up to ENGINE_PLANNED needs too, in
 * the high half and a STATUS_* in the low half.
 */
@unmanaged
@final
export class PlanRange extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, b: u64, c: u64, d: u32): u64 {
    const status = checkRange<F>(domain, a, b, c, d);
    if (status != STATUS_OK) return status;
    const tables = planFrom<F>(domain, a, b, c, load<u64>(engine, ENGINE_PLANNED));
    return tables == OVERLAP ? STATUS_OVERLAP : <u64>tables << 32;
  }
}
