// Numbers from a seed (xorshift). Imports nothing.

/** A function that answers integers 0..n - 1. */
export function randomBelow(seed) {
  let state = (seed * 2654435761) | 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}
