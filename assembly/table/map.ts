// Map: two passes over the range. `plan` refuses overlap and counts the tables that the range needs; `put` writes and
// cannot fail. Each pass works on runs: page size and number of leaves are chosen once per run. Ranges are first..last,
// inclusive. Imports layout, frames, runs and the format contract; knows no format.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_FLAGS, DOMAIN_GUEST, DOMAIN_LEVELS, DOMAIN_OUTPUT_LG2, DOMAIN_BIAS, DOMAIN_HIGH,
  DOMAIN_SET_ACCESSED, DOMAIN_SET_DIRTY, PERM_CLEAN, PERM_UNUSED,
  STATUS_ALIGN, STATUS_NO_FRAMES, STATUS_NOT_OWNED, STATUS_OK, STATUS_OVERLAP, STATUS_PERM, STATUS_RANGE,
} from "../layout";
import { EntryOf, EMPTY, Format, lowBits, TABLE } from "../format/format";
import { Operation } from "../format/list";
import { canTake, Frames, takeFrame } from "./frames";
import { Start, tableOrder } from "./root";
import { anyOf, fillRun } from "./runs";

/** `plan` met something that is mapped. */
export const OVERLAP: u32 = 0xffffffff;

@unmanaged
abstract class Run {
  /** Log2 of the largest leaf at `level` for [at..last] -> hpa among `sizes`; 0 if none fits and a table is needed. */
  @inline static leafLg2<F extends Format>(level: u32, at: u64, last: u64, hpa: u64, sizes: u64): u32 {
    // Sizes allowed by alignment: every bit up to the lowest set bit of either address. By length: up to log2 of it.
    const joint = at | hpa;
    const aligned = joint == 0 ? ~(<u64>0) : joint ^ (joint - 1);
    const length = last - at + 1;
    const fits = length == 0 ? ~(<u64>0) : lowBits(64 - <u32>clz(length));
    const possible = changetype<F>(0).leafSizes(level) & sizes & aligned & fits;
    return possible ? 63 - <u32>clz(possible) : 0;
  }

  /**
   * Last address of the run of leaves of 2^lg2 bytes that begins at `at` -> hpa: to where a larger leaf may start, or `last`.
   * A size to which the two addresses are never aligned together starts nowhere.
   */
  @inline static last<F extends Format>(level: u32, lg2: u32, at: u64, last: u64, hpa: u64, sizes: u64): u64 {
    const apart = at - hpa;
    const larger = changetype<F>(0).leafSizes(level) & sizes & ~lowBits(lg2 + 1) & (apart == 0 ? ~(<u64>0) : apart ^ (apart - 1));
    const limit = larger ? min(at | lowBits(<u32>ctz(larger)), last) : last;
    // Whole leaves only: the rest is another run.
    const beyond = limit - at + 1;
    return beyond == 0 ? limit : at + (beyond & ~lowBits(lg2)) - 1;
  }
}

/**
 * Tables that mapping [first..last] -> hpa with leaves of `sizes` (a bit set of log2) needs under `table` (0: there is none
 * yet), or OVERLAP. Tables that also serve `after`, where a range planned before this one ends, are counted already: two
 * ranges in one entry's span share a table.
 */
export function plan<F extends Format>(table: usize, level: u32, first: u64, last: u64, hpa: u64, sizes: u64, after: u64): u32 {
  const f = changetype<F>(0);
  const span = f.spanLg2(level);
  let tables: u32 = 0;
  let at = first;
  while (true) {
    const entry = table + EntryOf.offset<F>(at, level);
    const lg2 = Run.leafLg2<F>(level, at, last, hpa, sizes);
    let end: u64;
    if (lg2) {
      end = Run.last<F>(level, lg2, at, last, hpa, sizes);
      if (table && anyOf(entry, <u32>((end - at) >> span) + 1)) return OVERLAP;
    } else {
      end = min(at | lowBits(span), last);
      const pte = table ? load<u64>(entry) : 0;
      const kind = f.kind(pte, level);
      if (kind != EMPTY && kind != TABLE) return OVERLAP;
      if (kind == EMPTY && (at ^ after) >> span != 0) tables++;
      if (level > 1 || kind == TABLE) {
        const below = plan<F>(kind == TABLE ? <usize>f.tableAddress(pte) : 0, level - 1, at, end, hpa, sizes, after);
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
export function put<F extends Format>(
  engine: usize, table: usize, level: u32, first: u64, last: u64, hpa: u64, perm: u32, sizes: u64,
): void {
  const f = changetype<F>(0);
  const span = f.spanLg2(level);
  let at = first;
  while (true) {
    const entry = table + EntryOf.offset<F>(at, level);
    const lg2 = Run.leafLg2<F>(level, at, last, hpa, sizes);
    let end: u64;
    if (lg2) {
      end = Run.last<F>(level, lg2, at, last, hpa, sizes);
      putLeaves<F>(entry, level, lg2, <u32>((end - at) >> lg2) + 1, hpa, perm);
      Frames.addLive(engine, table, <u32>((end - at) >> span) + 1);
    } else {
      end = min(at | lowBits(span), last);
      const pte = load<u64>(entry);
      if (f.isTable(pte, level, 0)) {
        put<F>(engine, <usize>f.tableAddress(pte), level - 1, at, end, hpa, perm, sizes);
      } else {
        const whole = level == 1 && end - at == lowBits(span);
        const child = takeFrame(engine, tableOrder<F>(), !whole);
        put<F>(engine, child, level - 1, at, end, hpa, perm, sizes);
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

@unmanaged
export abstract class Check {
  /** Does [first..last] lie in the input space of the domain, in one half of it? */
  @inline static isInput(domain: usize, first: u64, last: u64): bool {
    const bias = load<u64>(domain, DOMAIN_BIAS);
    const beyond = ((first + bias) | (last + bias)) & load<u64>(domain, DOMAIN_HIGH);
    return first <= last && (beyond | ((first ^ last) & ~load<u64>(domain, DOMAIN_ADDRESS_MASK))) == 0;
  }

  /** Status of a map from [first..last] to what begins at `output`, before any table is looked at. The domain owns its table. */
  @inline static input<F extends Format>(domain: usize, first: u64, last: u64, output: u64, perm: u32): u32 {
    const f = changetype<F>(0);
    if (perm > 7 || !(f.expressible() & (1 << perm))) return STATUS_PERM;
    if (((first | (last + 1) | output) & ((<u64>1 << f.smallLg2()) - 1)) != 0 || last < first) return STATUS_ALIGN;
    return Check.isInput(domain, first, last) ? STATUS_OK : STATUS_RANGE;
  }
}

/** The same for any domain, outputs that are hpa, and leaves of `sizes`. */
export function checkRange<F extends Format>(domain: usize, first: u64, last: u64, hpa: u64, perm: u32, sizes: u64): u32 {
  if (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST) return STATUS_NOT_OWNED;
  const status = Check.input<F>(domain, first, last, hpa, perm);
  if (status != STATUS_OK) return status;
  if (!((sizes >> changetype<F>(0).smallLg2()) & 1)) return STATUS_ALIGN;
  const hpaLast = hpa + (last - first);
  return hpaLast < hpa || (hpaLast & ~lowBits(load<u32>(domain, DOMAIN_OUTPUT_LG2))) != 0 ? STATUS_RANGE : STATUS_OK;
}

/** `plan` over the start tables. */
export function planFrom<F extends Format>(domain: usize, first: u64, last: u64, hpa: u64, sizes: u64, after: u64): u32 {
  const top = load<u32>(domain, DOMAIN_LEVELS) - 1;
  let tables: u32 = 0;
  let at = first;
  while (true) {
    const end = Start.last<F>(domain, at, last);
    const more = plan<F>(Start.table<F>(domain, at), top, at, end, hpa + (at - first), sizes, after);
    if (more == OVERLAP) return OVERLAP;
    tables += more;
    if (end == last) return tables;
    at = end + 1;
  }
}

/** `put` over the start tables. */
export function putFrom<F extends Format>(
  engine: usize, domain: usize, first: u64, last: u64, hpa: u64, perm: u32, sizes: u64,
): void {
  const top = load<u32>(domain, DOMAIN_LEVELS) - 1;
  let at = first;
  while (true) {
    const end = Start.last<F>(domain, at, last);
    put<F>(engine, Start.table<F>(domain, at), top, at, end, hpa + (at - first), perm, sizes);
    if (end == last) return;
    at = end + 1;
  }
}

/** For makeLeaf, beside PERM_*: which bits the walks of this domain will set themselves. */
export function marksLeft(domain: usize): u32 {
  const flags = load<u32>(domain, DOMAIN_FLAGS);
  return (flags & DOMAIN_SET_ACCESSED ? PERM_UNUSED : 0) | (flags & DOMAIN_SET_DIRTY ? PERM_CLEAN : 0);
}

/** PERM_* and log2 of the largest leaf, as one argument of an operation: perm | cap << CAP_SHIFT. */
export const CAP_SHIFT: u32 = 8;
export const PERM_BITS: u32 = 0xff;

/** What is no permission stays none. */
export function permAndCap(perm: u32, cap: u32): u32 {
  return min(perm, PERM_BITS) | (cap << CAP_SHIFT);
}

/** [a..b] -> hpa c with PERM_* and cap d: a STATUS_*. Nothing is written unless it is STATUS_OK. */
@unmanaged
@final
export class MapRange extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, b: u64, c: u64, d: u32): u64 {
    const perm = d & PERM_BITS;
    const sizes = lowBits((d >> CAP_SHIFT) + 1);
    const status = checkRange<F>(domain, a, b, c, perm, sizes);
    if (status != STATUS_OK) return status;
    const tables = planFrom<F>(domain, a, b, c, sizes, ~a);
    if (tables == OVERLAP) return STATUS_OVERLAP;
    if (!canTake(engine, tableOrder<F>(), tables)) return STATUS_NO_FRAMES;
    putFrom<F>(engine, domain, a, b, c, perm | marksLeft(domain), sizes);
    return STATUS_OK;
  }
}
