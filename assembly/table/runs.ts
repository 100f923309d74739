// Runs of equal or stepping entries, eight at a time: fill, clear, and the question whether anything is there.
// Knows no format. Imports nothing.

/** Is any of n entries from `entry` up not empty? */
export function anyOf(entry: usize, n: u32): bool {
  let p = entry;
  const end = entry + (n << 3);
  let found: u64 = 0;
  if (n >= 8) {
    let all = i64x2.splat(0);
    const lastEight = end - 64;
    do {
      all = v128.or(all, v128.or(v128.or(v128.load(p), v128.load(p, 16)), v128.or(v128.load(p, 32), v128.load(p, 48))));
      p += 64;
    } while (p <= lastEight);
    found = <u64>(i64x2.extract_lane(all, 0) | i64x2.extract_lane(all, 1));
  }
  for (; p < end; p += 8) found |= load<u64>(p);
  return found != 0;
}

/** Empties n entries from `entry` up: how many were not empty. */
export function takeRun(entry: usize, n: u32): u32 {
  let p = entry;
  const end = entry + (n << 3);
  const zero = i64x2.splat(0);
  // Entries that are empty already compare as -1.
  let counts = i64x2.splat(0);
  for (; p + 64 <= end; p += 64) {
    const low = i64x2.add(i64x2.eq(v128.load(p), zero), i64x2.eq(v128.load(p, 16), zero));
    const high = i64x2.add(i64x2.eq(v128.load(p, 32), zero), i64x2.eq(v128.load(p, 48), zero));
    counts = i64x2.add(counts, i64x2.add(low, high));
    v128.store(p, zero);
    v128.store(p, zero, 16);
    v128.store(p, zero, 32);
    v128.store(p, zero, 48);
  }
  for (; p + 16 <= end; p += 16) {
    counts = i64x2.add(counts, i64x2.eq(v128.load(p), zero));
    v128.store(p, zero);
  }
  let taken = n + <u32>(i64x2.extract_lane(counts, 0) + i64x2.extract_lane(counts, 1));
  if (p < end) {
    taken -= u32(load<u64>(p) == 0);
    store<u64>(p, 0);
  }
  return taken;
}

/** Stores n entries: pte, pte + step, pte + 2 * step, ... */
export function fillRun(entry: usize, n: u32, pte: u64, step: u64): void {
  let p = entry;
  const end = entry + (n << 3);
  if (n >= 8) {
    const two = i64x2.splat(<i64>(step << 1));
    const eight = i64x2.splat(<i64>(step << 3));
    let a = i64x2.add(i64x2.splat(<i64>pte), i64x2.replace_lane(i64x2.splat(0), 1, <i64>step));
    let b = i64x2.add(a, two);
    let c = i64x2.add(b, two);
    let d = i64x2.add(c, two);
    // Sixteen at a time: the loop itself costs as much as four stores.
    for (; p + 128 <= end; p += 128) {
      v128.store(p, a);
      v128.store(p, b, 16);
      v128.store(p, c, 32);
      v128.store(p, d, 48);
      a = i64x2.add(a, eight);
      b = i64x2.add(b, eight);
      c = i64x2.add(c, eight);
      d = i64x2.add(d, eight);
      v128.store(p, a, 64);
      v128.store(p, b, 80);
      v128.store(p, c, 96);
      v128.store(p, d, 112);
      a = i64x2.add(a, eight);
      b = i64x2.add(b, eight);
      c = i64x2.add(c, eight);
      d = i64x2.add(d, eight);
    }
    if (p + 64 <= end) {
      v128.store(p, a);
      v128.store(p, b, 16);
      v128.store(p, c, 32);
      v128.store(p, d, 48);
      p += 64;
    }
    pte += step * <u64>((p - entry) >> 3);
  }
  for (; p < end; p += 8, pte += step) store<u64>(p, pte);
}

/** How many of n entries from `entry` up are 0, before the first that is not. */
export function emptyRun(entry: usize, n: u32): u32 {
  let p = entry;
  const end = entry + (n << 3);
  for (; p + 64 <= end; p += 64) {
    const low = v128.or(v128.load(p), v128.load(p, 16));
    const high = v128.or(v128.load(p, 32), v128.load(p, 48));
    if (v128.any_true(v128.or(low, high))) break;
  }
  while (p < end && !load<u64>(p)) p += 8;
  return <u32>(p - entry) >> 3;
}

/** What a copy asks of an entry and makes of it: bits that `pte` has and others must have too, those that stay, those that come. */
@unmanaged
export abstract class Copy {
  /** In both lanes. */
  @inline static wanted(pte: u64): v128 { return i64x2.splat(<i64>pte); }
  @inline static compared(kept: u64): v128 { return i64x2.splat(<i64>~kept); }
  /** Of an entry that is like pte only kept bits differ: with these changed it is the entry of the copy. */
  @inline static changed(pte: u64, kept: u64, bits: u64): v128 { return i64x2.splat(<i64>((pte & ~kept) ^ bits)); }

  /** Is an entry another than pte? `found` is their XOR, of one vector or of several joined by OR. */
  @inline static differs(found: v128, compared: v128): bool { return v128.any_true(v128.and(found, compared)); }

  /** See copyEqualRun. */
  @inline static run(to: usize, from: usize, n: u32, wanted: v128, compared: v128, changed: v128): u32 {
    let p = from;
    const end = from + (n << 3);
    for (; p + 64 <= end; p += 64, to += 64) {
      const a = v128.load(p);
      const b = v128.load(p, 16);
      const c = v128.load(p, 32);
      const d = v128.load(p, 48);
      const low = v128.or(v128.xor(a, wanted), v128.xor(b, wanted));
      const high = v128.or(v128.xor(c, wanted), v128.xor(d, wanted));
      if (Copy.differs(v128.or(low, high), compared)) break;
      v128.store(to, v128.xor(a, changed));
      v128.store(to, v128.xor(b, changed), 16);
      v128.store(to, v128.xor(c, changed), 32);
      v128.store(to, v128.xor(d, changed), 48);
    }
    for (; p + 16 <= end; p += 16, to += 16) {
      const two = v128.load(p);
      if (Copy.differs(v128.xor(two, wanted), compared)) break;
      v128.store(to, v128.xor(two, changed));
    }
    for (; p < end; p += 8, to += 8) {
      const entry = load<u64>(p);
      if ((entry ^ i64x2.extract_lane(wanted, 0)) & i64x2.extract_lane(compared, 0)) break;
      store<u64>(to, entry ^ i64x2.extract_lane(changed, 0));
    }
    return <u32>(p - from) >> 3;
  }

  /** An entry of the copy; `same`: it changes nothing. */
  @inline static entry(pte: v128, changed: v128, same: bool): v128 { return same ? pte : v128.xor(pte, changed); }

  /** Copies groups of sixteen entries up to `end`, whatever they are: what `differs` is asked of. */
  @inline static sixteens(to: usize, from: usize, end: usize, wanted: v128, changed: v128, same: bool): v128 {
    let found = i64x2.splat(0);
    let other = found;
    for (let p = from; p < end; p += 128, to += 128) {
      const a = v128.load(p);
      const b = v128.load(p, 16);
      const c = v128.load(p, 32);
      const d = v128.load(p, 48);
      found = v128.or(found, v128.or(v128.xor(a, wanted), v128.xor(b, wanted)));
      v128.store(to, Copy.entry(a, changed, same));
      v128.store(to, Copy.entry(b, changed, same), 16);
      other = v128.or(other, v128.or(v128.xor(c, wanted), v128.xor(d, wanted)));
      v128.store(to, Copy.entry(c, changed, same), 32);
      v128.store(to, Copy.entry(d, changed, same), 48);
      const e = v128.load(p, 64);
      const f = v128.load(p, 80);
      const g = v128.load(p, 96);
      const h = v128.load(p, 112);
      found = v128.or(found, v128.or(v128.xor(e, wanted), v128.xor(f, wanted)));
      v128.store(to, Copy.entry(e, changed, same), 64);
      v128.store(to, Copy.entry(f, changed, same), 80);
      other = v128.or(other, v128.or(v128.xor(g, wanted), v128.xor(h, wanted)));
      v128.store(to, Copy.entry(g, changed, same), 96);
      v128.store(to, Copy.entry(h, changed, same), 112);
    }
    return v128.or(found, other);
  }
}

/**
 * Copies entries from `from` to `to` as long as they equal `pte` in all bits but those of `kept`: only these stay, with `bits`
 * added (they are no kept ones). How many of n there were. Nothing else is ever stored: others may be reading.
 */
export function copyEqualRun(to: usize, from: usize, n: u32, pte: u64, kept: u64, bits: u64): u32 {
  const wanted = Copy.wanted(pte);
  const compared = Copy.compared(kept);
  const changed = Copy.changed(pte, kept, bits);
  return Copy.run(to, from, n, wanted, compared, changed);
}

/** Copies n entries, changed as copyEqualRun does, whatever they are: are all like `pte`? For a table that nobody reads yet. */
export function copyAll(to: usize, from: usize, n: u32, pte: u64, kept: u64, bits: u64): bool {
  const wanted = Copy.wanted(pte);
  const compared = Copy.compared(kept);
  const changed = Copy.changed(pte, kept, bits);
  const bytes: usize = (n & ~15) << 3;
  // A child that permits what its parent does has the parent's entries.
  const found = v128.any_true(changed)
    ? Copy.sixteens(to, from, from + bytes, wanted, changed, false)
    : Copy.sixteens(to, from, from + bytes, wanted, changed, true);
  const rest = n & 15;
  return Copy.run(to + bytes, from + bytes, rest, wanted, compared, changed) == rest && !Copy.differs(found, compared);
}
