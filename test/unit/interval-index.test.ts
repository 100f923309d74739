// The index of overlapping intervals against a plain array. Intervals are inclusive, first..last, in pages.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { type Interval, IntervalIndex } from "../../src/uapi/interval-index.js";
import { NO_RANGES, rangeStep, type Step } from "./range-steps.js";

/** The obvious way: an array in the order of insertion, sorted (which keeps that order among equals) for each answer. */
class Model {
  intervals: Interval<number>[] = [];

  overlapping(first: number, last: number): Interval<number>[] {
    const found = this.intervals.filter((interval) => interval.first <= last && interval.last >= first);
    return found.sort((a, b) => a.first - b.first || a.last - b.last);
  }

  remove(first: number, last: number, value: number): boolean {
    const at = this.intervals.findIndex((interval) => interval.first === first && interval.last === last && interval.value === value);
    if (at >= 0) this.intervals.splice(at, 1);
    return at >= 0;
  }
}

/** Among equal intervals, values in the order of numbers: the index puts equal values side by side, the array does not. */
function byValue(found: readonly Interval<number>[]): Interval<number>[] {
  return [...found].sort((a, b) => a.first - b.first || a.last - b.last || a.value - b.value);
}

/** Few pages and values, lengths from one page to all of them: equal intervals, nested ones and such that only touch are common. */
const SPACE = 40;
const step = rangeStep(SPACE, fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: SPACE })));

function apply(index: IntervalIndex<number>, model: Model, step: Step, base: number): void {
  const first = base + step.first;
  const last = first + step.length - 1;
  if (step.action === "clear") {
    index.clear();
    model.intervals = [];
  } else if (step.action === "insert") {
    index.insert(first, last, step.value);
    model.intervals.push({ first, last, value: step.value });
  } else {
    const any = model.intervals[step.first % (model.intervals.length || 1)];
    const target = step.action === "removeAny" && any !== undefined ? any : { first, last, value: step.value };
    expect(index.remove(target.first, target.last, target.value)).toBe(model.remove(target.first, target.last, target.value));
  }
}

/** A sequence of 0 up to below 2^32 that looks random and is always the same. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state;
  }
}

describe("IntervalIndex", () => {
  it.each([0, 2 ** 31 - 20, 2 ** 53 - 1 - 2 * SPACE])("agrees with a plain array after any changes, at page %d", (base) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 30, maxLength: 200, size: "max" }), fc.nat(SPACE), (steps, probe) => {
        const index = new IntervalIndex<number>();
        const model = new Model();
        steps.forEach((next, i) => {
          apply(index, model, next, base);
          const first = base + ((probe + 7 * i) % SPACE);
          expect(byValue(index.overlapping(first, first + (i % 5)))).toEqual(byValue(model.overlapping(first, first + (i % 5))));
          expect(index.size).toBe(model.intervals.length);
        });
        expect(byValue(index.overlapping(0, Number.MAX_SAFE_INTEGER))).toEqual(byValue(model.overlapping(0, Number.MAX_SAFE_INTEGER)));
      }),
      { numRuns: 40 },
    );
  });

  it("answers ascending by first, then by last, then in the order of insertion", () => {
    const index = new IntervalIndex<string>();
    index.insert(5, 9, "e");
    index.insert(2, 9, "c");
    index.insert(2, 3, "b");
    index.insert(0, 20, "a");
    index.insert(2, 9, "d");
    expect(index.overlapping(3, 6).map(({ value }) => value).join("")).toBe("abcde");
  });

  it("finds an interval from its first to its last page, and not beyond", () => {
    const index = new IntervalIndex<string>();
    index.insert(10, 19, "a");
    expect(index.overlapping(0, 9)).toEqual([]);
    expect(index.overlapping(0, 10)).toEqual([{ first: 10, last: 19, value: "a" }]);
    expect(index.overlapping(19, 30)).toHaveLength(1);
    expect(index.overlapping(12, 13)).toHaveLength(1);
    expect(index.overlapping(20, 30)).toEqual([]);
  });

  it("holds an interval with the same value as often as it was inserted", () => {
    const index = new IntervalIndex<string>();
    for (let i = 0; i < 3; i++) index.insert(1, 2, "a");
    index.insert(1, 2, "b");
    expect(index.size).toBe(4);
    expect(index.remove(1, 2, "a")).toBe(true);
    expect(index.overlapping(0, 5).map(({ value }) => value)).toEqual(["a", "a", "b"]);
    expect([index.remove(1, 2, "a"), index.remove(1, 2, "a"), index.remove(1, 2, "a")]).toEqual([true, true, false]);
    expect(index.overlapping(0, 5).map(({ value }) => value)).toEqual(["b"]);
  });

  it.each([[1, 2, "b"], [1, 3, "a"], [0, 2, "a"]])("does not take %d..%d %s for 1..2 a", (first, last, value) => {
    const index = new IntervalIndex<string>();
    index.insert(1, 2, "a");
    expect(index.remove(first, last, value)).toBe(false);
    expect(index.size).toBe(1);
  });

  it("tells values apart by identity", () => {
    const index = new IntervalIndex<object>();
    const [one, other] = [{}, {}];
    index.insert(1, 2, one);
    index.insert(1, 2, other);
    index.remove(1, 2, one);
    expect(index.overlapping(1, 1)[0]!.value).toBe(other);
  });

  it("lets the caller remove what overlapping returned while it reads it", () => {
    const index = new IntervalIndex<number>();
    for (let i = 0; i < 50; i++) index.insert(i, i + 1, i);
    for (const { first, last, value } of index.overlapping(5, 44)) index.remove(first, last, value);
    expect(index.overlapping(0, 99).map(({ value }) => value)).toEqual([0, 1, 2, 3, 45, 46, 47, 48, 49]);
  });

  it.each([
    ["ascending", (i: number) => [4 * i, 4 * i + 3]],
    ["descending", (i: number) => [4 * (99_999 - i), 4 * (99_999 - i) + 3]],
    ["nested", (i: number) => [i, 400_000 - i]],
    ["over one page", (i: number) => [100_000 - ((i * 7919) % 100_000), 100_000 + i]],
  ] as [string, (i: number) => [number, number]][])("holds 100,000 intervals, %s, and is empty when all are removed", (_name, place) => {
    const index = new IntervalIndex<number>();
    for (let i = 0; i < 100_000; i++) index.insert(...place(i), i);
    const found = index.overlapping(0, 500_000);
    expect(found).toHaveLength(100_000);
    expect(found.every(({ first }, i) => i === 0 || first >= found[i - 1]!.first)).toBe(true);
    for (let i = 0; i < 100_000; i++) if (!index.remove(...place(i), i)) throw new Error(`interval ${i} is missing`);
    expect(index.size).toBe(0);
    expect(index.overlapping(0, 500_000)).toEqual([]);
  });

  it("removes one of 100,000 values of one and the same interval without a search through them", () => {
    const index = new IntervalIndex<number>();
    for (let i = 0; i < 100_000; i++) index.insert(7, 8, i);
    for (let i = 99_999; i >= 0; i--) if (!index.remove(7, 8, i)) throw new Error(`value ${i} is missing`);
    expect(index.overlapping(7, 7)).toEqual([]);
  });

  it.each([
    ["short ones only", 0],
    ["a thousand over all of them inserted and removed again", 1000],
  ])("finds one interval among 100,000 in a few steps: %s", (_name, long) => {
    const index = new IntervalIndex<number>();
    const random = numbers(2);
    for (let i = 0; i < long; i++) index.insert(1600 * i, 2_000_000, i);
    for (let i = 0; i < 100_000; i++) index.insert(16 * ((i * 7919) % 100_000), 16 * ((i * 7919) % 100_000) + 15, i);
    for (let i = 0; i < long; i++) index.remove(1600 * i, 2_000_000, i);
    for (let i = 0; i < 100; i++) {
      const page = random.next().value % 1_600_000;
      let steps = 0;
      // Each node that is visited compares its highest page with the first one.
      const first = { valueOf: () => (steps++, page) } as unknown as number;
      expect(index.overlapping(first, page)).toHaveLength(1);
      expect(steps).toBeLessThan(150);
    }
  });

  it("answers among 100,000 intervals as a plain filter does", () => {
    const index = new IntervalIndex<number>();
    const model = new Model();
    const random = numbers(1);
    for (let i = 0; i < 100_000; i++) {
      const first = random.next().value % 1_000_000;
      const last = first + (random.next().value % (i % 1000 === 0 ? 100_000 : 20));
      index.insert(first, last, i);
      model.intervals.push({ first, last, value: i });
    }
    for (let i = 0; i < 50; i++) {
      const first = random.next().value % 1_000_000;
      expect(byValue(index.overlapping(first, first + i))).toEqual(byValue(model.overlapping(first, first + i)));
    }
  });

  it.each(NO_RANGES)("refuses to insert %d..%d", (first, last) => {
    const index = new IntervalIndex<string>();
    expect(() => index.insert(first, last, "a")).toThrow(RangeError);
    expect(index.size).toBe(0);
  });

  it("refuses to look in a range whose first page is above its last", () => {
    expect(() => new IntervalIndex().overlapping(2, 1)).toThrow("first 2 is above last 1");
  });
});
