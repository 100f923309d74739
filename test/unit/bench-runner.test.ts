// The benchmark's runner on a clock of the test's own: what it times, and what it refuses to compare.
import { describe, expect, it } from "vitest";
import { measure, quantile, spread, type Variant } from "../../bench/runner.mjs";

/** A clock that only moves when a variant says so. */
class Clock {
  time = 0;
  now(): number {
    return this.time;
  }
}

/** A variant that takes `ns` a call and answers `answer`. */
function variant(clock: Clock, name: string, ns: number, answer = 1, more: Partial<Variant> = {}): Variant {
  const output = new Float64Array(2);
  return {
    name, calls: 3, output, items: 10, ...more,
    run(call) {
      clock.time += ns;
      output.fill(answer + call);
    },
  };
}

describe("measure", () => {
  it("answers the time of an item, and the ratio of the subject's to each", () => {
    const clock = new Clock();
    const { variants } = measure([variant(clock, "ours", 50), variant(clock, "theirs", 200)], 5, clock);
    expect(variants).toEqual([
      { name: "ours", ns: 5, ratio: { median: 1, q1: 1, q3: 1, rounds: [1, 1, 1, 1, 1] } },
      { name: "theirs", ns: 20, ratio: { median: 0.25, q1: 0.25, q3: 0.25, rounds: [0.25, 0.25, 0.25, 0.25, 0.25] } },
    ]);
  });

  it("does not time what comes before a call, and does it before each", () => {
    const clock = new Clock();
    let [before, calls] = [0, 0];
    const prepared = variant(clock, "ours", 50, 1, { before: () => { before++; clock.time += 1000; } });
    const { run } = prepared;
    prepared.run = (call) => {
      expect(before).toBe(++calls);
      run(call);
    };
    const { variants } = measure([prepared, variant(clock, "theirs", 50)], 3, clock);
    expect(variants.map(({ ns }) => ns)).toEqual([5, 5]);
    expect(calls).toBeGreaterThan(3);
  });

  it("takes off what the clock itself costs where single calls are timed", () => {
    const clock = new Clock();
    clock.now = () => (clock.time += 30);
    const { variants } = measure([variant(clock, "ours", 50, 1, { before: () => {} })], 3, clock);
    expect(variants[0]!.ns).toBe(5);
  });

  it("refuses variants with other answers, also when only one call differs", () => {
    const clock = new Clock();
    const wrong = variant(clock, "theirs", 50);
    const { run, output } = wrong;
    wrong.run = (call) => {
      run(call);
      if (call === 2) output[1] = 77;
    };
    expect(() => measure([variant(clock, "ours", 50), wrong], 3, clock)).toThrow(/checksums differ: "theirs"/);
    expect(() => measure([variant(clock, "ours", 50), { ...wrong, answers: "other" }], 3, clock)).not.toThrow();
  });

  it("does not take what an earlier variant left for an answer", () => {
    const clock = new Clock();
    const ours = variant(clock, "ours", 50);
    const idle: Variant = { ...ours, name: "idle", run: () => { clock.time += 1; } };
    expect(() => measure([ours, idle], 3, clock)).toThrow(/checksums differ: "idle"/);
  });
});

it("quantiles lie between the values beside them; rounds are kept in four digits", () => {
  expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
  expect(quantile([5], 0.25)).toBe(5);
  expect(spread([1, 2, 3, 4.000049])).toEqual({ median: 2.5, q1: 1.75, q3: expect.closeTo(3.25), rounds: [1, 2, 3, 4] });
});
