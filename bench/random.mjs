// A small seeded generator: every run asks the same questions. Imports nothing.

/** Integers 0..n-1, n at most 2^32. */
export function randomBelow(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) * (n / 4294967296));
  };
}
