// Dirty leaves of a kernel-owned domain, read or cleared for a range. Ranges are first..last, inclusive.
// Imports layout and the format contract; knows no format.
import { DOMAIN_LEVELS } from "../layout";
import { EntryOf, Format, LEAF, lowBits, TABLE } from "../format/format";
import { Operation } from "../format/list";
import { Start } from "./root";

/**
 * Bytes of dirty leaves in [first..last]. With `clear` the leaves that lie in the range whole are cleaned; one that does not
 * keeps its bit, which says of the rest too that it may have been written. A leaf of several entries is dirty if one is.
 */
function collect<F extends Format>(table: usize, level: u32, first: u64, last: u64, clear: bool): u64 {
  const f = changetype<F>(0);
  const span = f.spanLg2(level);
  let bytes: u64 = 0;
  let at = first;
  while (true) {
    const entry = table + EntryOf.offset<F>(at, level);
    let end = min(at | lowBits(span), last);
    const pte = atomic.load<u64>(entry);
    const kind = f.kind(pte, level);
    if (kind == TABLE) {
      bytes += collect<F>(<usize>f.tableAddress(pte), level - 1, at, end, clear);
    } else if (kind == LEAF) {
      const lg2 = f.leafLg2(pte, level);
      end = min(at | lowBits(lg2), last);
      const whole = end - at == lowBits(lg2);
      if (leafDirty<F>(entry & ~(<usize>lowBits(lg2 - span + 3)), 1 << (lg2 - span), clear && whole)) bytes += end - at + 1;
    }
    if (end == last) return bytes;
    at = end + 1;
  }
}

function leafDirty<F extends Format>(first: usize, entries: u32, clear: bool): bool {
  const f = changetype<F>(0);
  let found = false;
  for (let entry = first; entries; entries--, entry += 8) {
    let pte = atomic.load<u64>(entry);
    if (!f.dirty(pte)) continue;
    found = true;
    while (clear && f.dirty(pte)) {
      const held = atomic.cmpxchg<u64>(entry, pte, f.cleaned(pte));
      if (held == pte) break;
      pte = held;
    }
  }
  return found;
}

/** Bytes of [a..b] that lie in dirty leaves; with d those in it whole are cleaned. The caller invalidates. */
@unmanaged
@final
export class CollectDirty extends Operation {
  run<F extends Format>(_engine: usize, domain: usize, a: u64, b: u64, _c: u64, d: u32): u64 {
    const top = load<u32>(domain, DOMAIN_LEVELS) - 1;
    let bytes: u64 = 0;
    let at = a;
    while (true) {
      const end = Start.last<F>(domain, at, b);
      bytes += collect<F>(Start.table<F>(domain, at), top, at, end, d != 0);
      if (end == b) return bytes;
      at = end + 1;
    }
  }
}
