// The ordered range map against a plain array of ranges. Ranges are inclusive, first..last, in pages.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { type Entry, RangeMap } from "../../src/uapi/range-map.js";
import { NO_RANGES, rangeStep, type Step } from "./range-steps.js";

/** The obvious way: an array in ascending order, searched from the start. */
class Model {
  entries: Entry<number>[] = [];

  overlapping(first: number, last: number): Entry<number>[] {
    return this.entries.filter((entry) => entry.first <= last && entry.last >= first);
  }

  insert(first: number, last: number, value: number): void {
    this.entries = [...this.entries, { first, last, value }].sort((a, b) => a.first - b.first);
  }

  remove(first: number): boolean {
    const before = this.entries.length;
    this.entries = this.entries.filter((entry) => entry.first !== first);
    return this.entries.length < before;
  }
}

/** Few pages and chunks of 4: ranges often cross the borders where chunks once began. */
const SPACE = 60;
const step = rangeStep(SPACE, fc.integer({ min: 1, max: 5 }));

/** Applies a step to both; `base` moves the pages to another part of the address space. */
function apply(map: RangeMap<number>, model: Model, { action, first: offset, length }: Step, base: number, value: number): void {
  const first = base + offset;
  const last = first + length - 1;
  if (action === "clear") {
    map.clear();
    model.entries = [];
  } else if (action === "insert" && model.overlapping(first, last).length > 0) {
    expect(() => map.insert(first, last, value)).toThrow(RangeError);
  } else if (action === "insert") {
    map.insert(first, last, value);
    model.insert(first, last, value);
  } else {
    const target = action === "removeAny" ? model.entries[offset % (model.entries.length || 1)]?.first ?? first : first;
    expect(map.remove(target)).toBe(model.remove(target));
  }
}

/** Compares what both say of a page, and of the pages from it on. */
function compareAt(map: RangeMap<number>, model: Model, page: number): void {
  const found = model.overlapping(page, page + 7);
  expect(map.find(page)).toEqual(model.overlapping(page, page)[0]);
  expect(map.firstIn(page, page + 7)).toEqual(found[0]);
  expect(map.overlapping(page, page + 7)).toEqual(found);
}

describe("RangeMap", () => {
  it.each([0, 2 ** 31 - 100, 2 ** 52 - 500])("agrees with a plain array after any changes, at page %d", (base) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 50, maxLength: 200, size: "max" }), fc.nat(SPACE), (steps, probe) => {
        const map = new RangeMap<number>(4);
        const model = new Model();
        steps.forEach((next, i) => {
          apply(map, model, next, base, i);
          compareAt(map, model, base + ((probe + 7 * i) % SPACE));
          expect(map.size).toBe(model.entries.length);
        });
        expect([...map]).toEqual(model.entries);
      }),
      { numRuns: 40 },
    );
  });

  it("keeps order through splits and merges of chunks of the usual size", () => {
    const map = new RangeMap<number>();
    const model = new Map<number, number>();
    const pages = 5003;
    for (let i = 0; i < pages; i++) {
      const page = (i * 1871) % pages;
      map.insert(page * 4, page * 4 + 2, page);
      model.set(page * 4, page);
    }
    for (let i = 0; i < pages; i++) {
      const page = (i * 977) % pages;
      if (page % 5 !== 0) expect(map.remove(page * 4)).toBe(model.delete(page * 4));
    }
    expect([...map].map((entry) => entry.first)).toEqual([...model.keys()].sort((a, b) => a - b));
    for (let page = 0; page < pages; page++) {
      expect(map.find(page * 4 + 1)?.value).toBe(page % 5 === 0 ? page : undefined);
      expect(map.find(page * 4 + 3)).toBeUndefined();
    }
  });

  it.each([
    ["ascending", (i: number) => i],
    ["descending", (i: number) => 999 - i],
  ])("holds %s inserts, and is empty when all are removed", (_name, place) => {
    const map = new RangeMap<number>(4);
    for (let i = 0; i < 1000; i++) map.insert(place(i), place(i), i);
    expect([...map].map((entry) => entry.first)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    for (let i = 0; i < 1000; i++) expect(map.remove(place(i))).toBe(true);
    expect(map.size).toBe(0);
    expect(map.firstIn(0, 2 ** 52)).toBeUndefined();
  });

  it("finds the entry that contains a page, and only that", () => {
    const map = new RangeMap<string>();
    map.insert(10, 19, "a");
    map.insert(20, 20, "b");
    expect(map.find(9)).toBeUndefined();
    expect(map.find(10)?.value).toBe("a");
    expect(map.find(19)?.value).toBe("a");
    expect(map.find(20)?.value).toBe("b");
    expect(map.find(21)).toBeUndefined();
  });

  it("removes only by the first page", () => {
    const map = new RangeMap<string>();
    map.insert(10, 19, "a");
    expect(map.remove(11)).toBe(false);
    expect(map.remove(10)).toBe(true);
    expect(map.remove(10)).toBe(false);
  });

  it("lets the caller remove what overlapping returned while it reads it", () => {
    const map = new RangeMap<number>(4);
    for (let i = 0; i < 50; i++) map.insert(i, i, i);
    for (const { first } of map.overlapping(5, 44)) map.remove(first);
    expect([...map].map((entry) => entry.first)).toEqual([0, 1, 2, 3, 4, 45, 46, 47, 48, 49]);
  });

  it.each([
    [10, 10],
    [5, 10],
    [19, 30],
    [12, 13],
    [0, 100],
  ])("refuses to insert %d..%d over 10..19, and stays as it was", (first, last) => {
    const map = new RangeMap<string>();
    map.insert(10, 19, "a");
    expect(() => map.insert(first, last, "b")).toThrow("overlaps 10..19");
    expect([...map]).toEqual([{ first: 10, last: 19, value: "a" }]);
  });

  it.each(NO_RANGES)("refuses to insert %d..%d", (first, last) => {
    const map = new RangeMap<string>();
    expect(() => map.insert(first, last, "a")).toThrow(RangeError);
    expect(map.size).toBe(0);
  });

  it("refuses to look in a range whose first page is above its last", () => {
    expect(() => new RangeMap().firstIn(2, 1)).toThrow("first 2 is above last 1");
    expect(() => new RangeMap().overlapping(2, 1)).toThrow("first 2 is above last 1");
  });

  it.each([3, 4.5, NaN])("refuses chunks of %d entries", (entries) => {
    expect(() => new RangeMap(entries)).toThrow(RangeError);
  });
});
