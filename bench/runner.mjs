// Runs the variants of a row. benchmark.js defines each and calibrates how many calls make a sample; then short rounds of all
// variants alternate, in an order that reverses every round, on processor time. What counts is the median of per-round ratios,
// which a machine that slows down for everybody does not change.
import Benchmark from "benchmark";
import { BATCH } from "./pool.mjs";

const SAMPLE_SECONDS = 0.003;

/** Takes one u32 into a checksum. The shift carries high bits down: without it the same mistake in every lane can cancel out. */
function mix(hash, word) {
  const mixed = Math.imul(hash ^ word, 0x01000193);
  return mixed ^ (mixed >>> 15);
}

const MOST_OF_ONE_SAMPLE = 256;

/** Calls of run(i) that take about one sample. Throws what run() throws: benchmark.js alone would only note it. */
function calibrate({ name, calls, before, run }) {
  let call = 0;
  const next = () => {
    before?.(call);
    run(call);
    call = call + 1 === calls ? 0 : call + 1;
  };
  const bench = new Benchmark(name, next, { minTime: SAMPLE_SECONDS, maxTime: 0.02, minSamples: 2 });
  bench.run();
  if (bench.error) throw bench.error;
  return Math.max(1, Math.min(bench.count, before ? MOST_OF_ONE_SAMPLE : Infinity));
}

/** Calls before anything is timed, at most: until then code may not be compiled for good. */
const WARM_CALLS = 20000;
const WARM_NS = 5e7;

function warmUp({ calls, before, run }, clock) {
  const end = clock.now() + WARM_NS;
  for (let call = 0; call < WARM_CALLS && clock.now() < end; call++) {
    before?.(call % calls);
    run(call % calls);
  }
}

/** What reading the clock twice takes by itself. */
function clockCost(clock) {
  const costs = Array.from({ length: 501 }, () => {
    const start = clock.now();
    return clock.now() - start;
  });
  return quantile(costs, 0.5);
}

/** Time of `count` calls from the one at `at` on. With `before` each is timed by itself, `cost` for the clock taken off. */
function sampleTime({ calls, before, run }, at, count, clock, cost) {
  if (!before) {
    const start = clock.now();
    for (let left = count; left > 0; left--) {
      run(at);
      at = at + 1 === calls ? 0 : at + 1;
    }
    return clock.now() - start;
  }
  let time = 0;
  for (let left = count; left > 0; left--) {
    before(at);
    const start = clock.now();
    run(at);
    time += clock.now() - start - cost;
    at = at + 1 === calls ? 0 : at + 1;
  }
  return time;
}

/** Addresses in an output, -1 for a refusal. u32 words are results (assembly/layout.ts); other arrays hold addresses. */
function* addresses(output) {
  if (!(output instanceof Uint32Array)) {
    for (const address of output) yield Number(address);
    return;
  }
  for (let i = 0; i < output.length; i += 2) yield output[i + 1] >>> 31 ? -1 : (output[i + 1] & 0xffffff) * 2 ** 32 + output[i];
}

/** Checksums over the outputs of every call, in order: of addresses, which all variants have, and of whole result words. */
function answersOf({ calls, output, before, run }) {
  let sum = 1;
  let words = 1;
  for (let call = 0; call < calls; call++) {
    // What an earlier variant left must not pass for this one's answer. A chain goes on from its last output.
    if (output.length > 1) output.fill(output instanceof BigInt64Array ? 7n : 7);
    before?.(call);
    run(call);
    for (const address of addresses(output)) sum = mix(mix(sum, address >>> 0), Math.floor(address / 2 ** 32));
    if (output instanceof Uint32Array) for (const word of output) words = mix(words, word);
  }
  return { sum, words: output instanceof Uint32Array ? words : null };
}

/** Variants of a row whose `answers` are the same answer alike, or the row fails: a fast wrong answer is no result. */
function compareAnswers(variants) {
  const results = variants.map((variant) => ({ name: variant.name, answers: variant.answers, ...answersOf(variant) }));
  for (const { name, answers, sum, words } of results) {
    const first = results.find((other) => other.answers === answers);
    if (sum !== first.sum || (words !== null && first.words !== null && words !== first.words)) {
      throw new Error(`checksums differ: "${name}" ${sum} ${words}, "${first.name}" ${first.sum} ${first.words}`);
    }
  }
}

export function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  return sorted[low] + ((sorted[low + 1] ?? sorted[low]) - sorted[low]) * (at - low);
}

/** A ratio as { median, q1, q3, rounds }: over the rounds, and those themselves, in four digits. */
export function spread(ratios) {
  const rounds = ratios.map((ratio) => Number(ratio.toPrecision(4)));
  return { median: quantile(ratios, 0.5), q1: quantile(ratios, 0.25), q3: quantile(ratios, 0.75), rounds };
}

/**
 * Times variants [{ name, calls, output, run(call), items?, before?(call) }], the subject first: nanoseconds an item (median), of
 * which a call does `items`, a batch if not said; what `before` does before each call is not timed. For the others the ratio
 * subject / variant (see `spread`). Throws if checksums differ, before or after.
 */
export function measure(variants, rounds, clock) {
  compareAnswers(variants);
  for (const variant of variants) warmUp(variant, clock);
  const samples = variants.map(calibrate);
  const times = variants.map(() => []);
  const at = variants.map(() => 0);
  const cost = clockCost(clock);
  for (let round = 0; round < rounds; round++) {
    for (let n = 0; n < variants.length; n++) {
      const i = round % 2 ? variants.length - 1 - n : n;
      times[i].push(sampleTime(variants[i], at[i], samples[i], clock, cost) / (samples[i] * (variants[i].items ?? BATCH)));
      at[i] = (at[i] + samples[i]) % variants[i].calls;
    }
  }
  compareAnswers(variants);
  return {
    variants: variants.map(({ name }, i) => ({
      name, ns: quantile(times[i], 0.5), ratio: spread(times[i].map((time, round) => times[0][round] / time)),
    })),
  };
}
