// Dirty leaves of a kernel-owned domain: collected for a range, and made to record or not to. Ranges are first..last,
// inclusive. Imports layout, the visits of leaves, the format contract; knows no format.
import { ENGINE_FOUND, ENGINE_SCRATCH, RANGE_BYTES, RANGE_FIRST, RANGE_LAST, SCRATCH_BYTES } from "../layout";
import { Format, lowBits } from "../format/format";
import { leafEntry, Visitor } from "./leaves";

/** Is one of the entries of a leaf dirty? With `clear` all are clean afterwards. */
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

/** Writes [at..end] into the scratch area, or joins it to the range before; false if there is no room. */
function noteRange(engine: usize, at: u64, end: u64): bool {
  const found = load<u32>(engine, ENGINE_FOUND);
  const next = <usize>load<u32>(engine, ENGINE_SCRATCH) + found * RANGE_BYTES;
  if (found && load<u64>(next - RANGE_BYTES, RANGE_LAST) + 1 == at) {
    store<u64>(next - RANGE_BYTES, end, RANGE_LAST);
    return true;
  }
  if ((found + 1) * RANGE_BYTES > SCRATCH_BYTES) return false;
  store<u64>(next, at, RANGE_FIRST);
  store<u64>(next, end, RANGE_LAST);
  store<u32>(engine, found + 1, ENGINE_FOUND);
  return true;
}

/** Writes the ranges of dirty leaves into the scratch area, joined where they touch. A leaf of several entries is dirty if one is. */
@unmanaged
@final
export class DirtyLeaves extends Visitor {
  visit<F extends Format>(engine: usize, _domain: usize, entry: usize, level: u32, lg2: u32, at: u64, end: u64): bool {
    const entries: u32 = 1 << (lg2 - changetype<F>(0).spanLg2(level));
    return !leafDirty<F>(leafEntry<F>(entry, level, lg2), entries, false) || noteRange(engine, at, end);
  }
}

/**
 * The same, and the leaves that lie in the range whole are cleaned. One that does not keeps its bit, which says of the rest
 * too that it may have been written.
 */
@unmanaged
@final
export class CleanLeaves extends Visitor {
  visit<F extends Format>(engine: usize, domain: usize, entry: usize, level: u32, lg2: u32, at: u64, end: u64): bool {
    const first = leafEntry<F>(entry, level, lg2);
    const entries: u32 = 1 << (lg2 - changetype<F>(0).spanLg2(level));
    if (!leafDirty<F>(first, entries, false)) return true;
    if (!noteRange(engine, at, end)) return false;
    if (end - at == lowBits(lg2)) leafDirty<F>(first, entries, true);
    return true;
  }
}

/** Rewrites each entry of a leaf, of which `entry` is one, for a domain that tracks writes, or for one that does not. */
function rewrite<F extends Format>(entry: usize, level: u32, lg2: u32, track: bool): void {
  const f = changetype<F>(0);
  let at = leafEntry<F>(entry, level, lg2);
  for (let entries: u32 = 1 << (lg2 - f.spanLg2(level)); entries; entries--, at += 8) {
    while (true) {
      const pte = atomic.load<u64>(at);
      const wanted = track ? f.cleaned(pte) : f.untracked(pte);
      if (wanted == pte || atomic.cmpxchg<u64>(at, pte, wanted) == pte) break;
    }
  }
}

/** Makes every leaf clean and able to record. */
@unmanaged
@final
export class TrackLeaves extends Visitor {
  visit<F extends Format>(_engine: usize, _domain: usize, entry: usize, level: u32, lg2: u32, _at: u64, _end: u64): bool {
    rewrite<F>(entry, level, lg2, true);
    return true;
  }
}

/** Makes every leaf what map writes for a domain that records nothing. */
@unmanaged
@final
export class UntrackLeaves extends Visitor {
  visit<F extends Format>(_engine: usize, _domain: usize, entry: usize, level: u32, lg2: u32, _at: u64, _end: u64): bool {
    rewrite<F>(entry, level, lg2, false);
    return true;
  }
}
