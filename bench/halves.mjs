// Times calls that come in pairs, one taking back what the other made, each by itself: rows of the two halves of a pair. As in
// runner.mjs variants alternate, in an order that reverses every round, and what counts is the median of per-round ratios.
import { quantile } from "./runner.mjs";

const ROUNDS = 61;
/** Pairs of a round: enough that reading the clock does not show. */
const ROUND_NANOSECONDS = 400_000;

/** Nanoseconds of `pairs` pairs, [made, taken back]. */
function timed({ make, undo }, pairs, clock) {
  const sums = [0, 0];
  for (let left = pairs; left > 0; left--) {
    const start = clock.now();
    make();
    const middle = clock.now();
    undo();
    sums[0] += middle - start;
    sums[1] += clock.now() - middle;
  }
  return sums;
}

/**
 * Variants [{ name, make(), undo(), items }], the subject first; `half` is 0 for what `make` takes and 1 for `undo`. Answers as
 * measure() in runner.mjs does. `make` and `undo` check what they answer themselves.
 */
export function measureHalf(variants, half, clock) {
  const pairs = variants.map((variant) => {
    for (let left = 50; left > 0; left--) timed(variant, 1, clock);
    const [made, undone] = timed(variant, 5, clock);
    return Math.max(1, Math.round((5 * ROUND_NANOSECONDS) / (made + undone)));
  });
  const times = variants.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (let n = 0; n < variants.length; n++) {
      const i = round % 2 ? variants.length - 1 - n : n;
      times[i].push(timed(variants[i], pairs[i], clock)[half] / (pairs[i] * variants[i].items));
    }
  }
  return {
    variants: variants.map(({ name }, i) => {
      const ratios = times[i].map((time, round) => times[0][round] / time);
      return { name, ns: quantile(times[i], 0.5), ratio: { median: quantile(ratios, 0.5), q1: quantile(ratios, 0.25), q3: quantile(ratios, 0.75) } };
    }),
  };
}
