// The leaves of a kernel-owned domain in a range, one after the other; and runs of them, as records. Ranges are first..last,
// inclusive. Imports layout, the format contract; knows no format.
import {
  DOMAIN_FLAGS, DOMAIN_LEVELS, ENGINE_FOUND, ENGINE_SCRATCH, LEAF_BYTES, LEAF_FIRST, LEAF_HPA, LEAF_LAST, LEAF_LG2, LEAF_PERM, PERM_R,
  PERM_W, PERM_X, SCRATCH_BYTES,
} from "../layout";
import { EntryOf, Format, LEAF, lowBits, TABLE } from "../format/format";
import { Operation } from "../format/list";
import { Start } from "./root";

/** What is done with each leaf. */
@unmanaged
export abstract class Visitor {
  /**
   * A leaf of 2^lg2 bytes at `level`; [at..end] of it lies in the range, `entry` is that of `at`. False, with nothing done,
   * if there is no room for what would be answered.
   */
  visit<F extends Format>(_engine: usize, _domain: usize, _entry: usize, _level: u32, _lg2: u32, _at: u64, _end: u64): bool { return false; }
}

/** Last address of [first..last] that was visited below `table`: `last`, unless the visitor had no room for more. */
function visitBelow<F extends Format, V extends Visitor>(
  engine: usize, domain: usize, table: usize, level: u32, first: u64, last: u64,
): u64 {
  const f = changetype<F>(0);
  const span = f.spanLg2(level);
  let at = first;
  while (true) {
    const entry = table + EntryOf.offset<F>(at, level);
    let end = min(at | lowBits(span), last);
    const pte = atomic.load<u64>(entry);
    const kind = f.kind(pte, level);
    if (kind == TABLE) {
      const visited = visitBelow<F, V>(engine, domain, <usize>f.tableAddress(pte), level - 1, at, end);
      if (visited != end) return visited;
    } else if (kind == LEAF) {
      const lg2 = f.leafLg2(pte, level);
      end = min(at | lowBits(lg2), last);
      if (!changetype<V>(0).visit<F>(engine, domain, entry, level, lg2, at, end)) return at - 1;
    }
    if (end == last) return last;
    at = end + 1;
  }
}

/**
 * Visits the leaves of [a..b], ascending. Answers the last address that was visited: b, or where the visitor had no room
 * for more. It has room for one. The domain owns its table and has that range.
 */
@unmanaged
export class VisitLeaves<V extends Visitor> extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, b: u64, _c: u64, _d: u32): u64 {
    store<u32>(engine, 0, ENGINE_FOUND);
    const top = load<u32>(domain, DOMAIN_LEVELS) - 1;
    let at = a;
    while (true) {
      const end = Start.last<F>(domain, at, b);
      const visited = visitBelow<F, V>(engine, domain, Start.table<F>(domain, at), top, at, end);
      if (visited != end || end == b) return visited;
      at = end + 1;
    }
  }
}

/** The entries of the leaf of 2^lg2 bytes that `entry` is one of: the first of them. */
export function leafEntry<F extends Format>(entry: usize, level: u32, lg2: u32): usize {
  return entry & ~(<usize>lowBits(lg2 - changetype<F>(0).spanLg2(level) + 3));
}

/** Writes runs of leaves into the scratch area. */
@unmanaged
@final
export class LeafRuns extends Visitor {
  visit<F extends Format>(engine: usize, domain: usize, entry: usize, level: u32, lg2: u32, at: u64, end: u64): bool {
    const f = changetype<F>(0);
    const pte = load<u64>(entry);
    const hpa = f.leafAddress(pte, level) | (at & lowBits(lg2));
    const perm = f.permissions(f.start(), pte, load<u32>(domain, DOMAIN_FLAGS)) & (PERM_R | PERM_W | PERM_X);
    const found = load<u32>(engine, ENGINE_FOUND);
    const next = <usize>load<u32>(engine, ENGINE_SCRATCH) + found * LEAF_BYTES;
    if (found) {
      const run = next - LEAF_BYTES;
      const offset = at - load<u64>(run, LEAF_FIRST);
      const goesOn = load<u64>(run, LEAF_LAST) + 1 == at && load<u64>(run, LEAF_HPA) + offset == hpa;
      if (goesOn && load<u32>(run, LEAF_LG2) == lg2 && load<u32>(run, LEAF_PERM) == perm) {
        store<u64>(run, end, LEAF_LAST);
        return true;
      }
    }
    if ((found + 1) * LEAF_BYTES > SCRATCH_BYTES) return false;
    store<u64>(next, at, LEAF_FIRST);
    store<u64>(next, end, LEAF_LAST);
    store<u64>(next, hpa, LEAF_HPA);
    store<u32>(next, perm, LEAF_PERM);
    store<u32>(next, lg2, LEAF_LG2);
    store<u32>(engine, found + 1, ENGINE_FOUND);
    return true;
  }
}
