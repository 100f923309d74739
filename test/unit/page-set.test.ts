// Sets of pages, kept as runs, against a plain Set. Runs are inclusive, first..last.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { type PageRun, PageSet } from "../../src/uapi/page-set.js";
import { NO_RANGES } from "./range-steps.js";

/** Runs of the members that are in first..last. */
function runsOf(pages: ReadonlySet<number>, first: number, last: number): PageRun[] {
  const runs: PageRun[] = [];
  for (let page = first; page <= last; page++) {
    if (!pages.has(page)) continue;
    const open = runs.at(-1);
    if (open?.last === page - 1) runs[runs.length - 1] = { first: open.first, last: page };
    else runs.push({ first: page, last: page });
  }
  return runs;
}

const SPACE = 60;
const step = fc.record({
  action: fc.oneof(
    { weight: 50, arbitrary: fc.constant("add" as const) },
    { weight: 40, arbitrary: fc.constant("remove" as const) },
    { weight: 1, arbitrary: fc.constant("clear" as const) },
  ),
  first: fc.nat(SPACE - 1),
  length: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 30 })),
});

describe("PageSet", () => {
  it.each([0, 2 ** 31 - 30, 2 ** 53 - 1 - 2 * SPACE])("agrees with a plain Set after any changes, at page %d", (base) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 30, maxLength: 120, size: "max" }), fc.nat(SPACE), (steps, probe) => {
        const set = new PageSet(4);
        const model = new Set<number>();
        steps.forEach(({ action, first: offset, length }, i) => {
          const first = base + offset;
          const last = first + length - 1;
          if (action === "clear") set.clear();
          else set[action](first, last);
          if (action === "clear") model.clear();
          else for (let page = first; page <= last; page++) model[action === "add" ? "add" : "delete"](page);
          const at = base + ((probe + 7 * i) % SPACE);
          expect(set.within(at, at + 9)).toEqual(runsOf(model, at, at + 9));
          expect(set.pages).toBe(model.size);
        });
        expect(set.within(0, Number.MAX_SAFE_INTEGER)).toEqual(runsOf(model, base, base + 2 * SPACE));
      }),
      { numRuns: 40 },
    );
  });

  it("joins runs that touch", () => {
    const set = new PageSet();
    set.add(10, 11);
    set.add(14, 14);
    set.add(12, 13);
    expect(set.within(0, 99)).toEqual([{ first: 10, last: 14 }]);
    set.add(16, 16);
    expect(set.within(0, 99)).toEqual([{ first: 10, last: 14 }, { first: 16, last: 16 }]);
  });

  it("cuts runs to what is asked for", () => {
    const set = new PageSet();
    set.add(10, 20);
    expect(set.within(12, 13)).toEqual([{ first: 12, last: 13 }]);
    expect(set.within(0, 10)).toEqual([{ first: 10, last: 10 }]);
    expect(set.within(21, 30)).toEqual([]);
  });

  it("holds the lowest and the highest page", () => {
    const set = new PageSet();
    set.add(0, 0);
    set.add(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
    expect(set.pages).toBe(2);
    set.remove(0, Number.MAX_SAFE_INTEGER);
    expect(set.pages).toBe(0);
  });

  it("lets the caller remove what within returned while it reads it", () => {
    const set = new PageSet(4);
    for (let page = 0; page < 100; page += 2) set.add(page, page);
    for (const { first, last } of set.within(10, 89)) set.remove(first, last);
    expect(set.pages).toBe(10);
  });

  it.each(NO_RANGES)("refuses %d..%d, and stays as it was", (first, last) => {
    const set = new PageSet();
    set.add(0, 5);
    expect(() => set.add(first, last)).toThrow("PageSet.add");
    expect(() => set.remove(first, last)).toThrow("PageSet.remove");
    expect(set.within(0, 99)).toEqual([{ first: 0, last: 5 }]);
  });

  it("refuses to look in a range whose first page is above its last", () => {
    expect(() => new PageSet().within(2, 1)).toThrow("first 2 is above last 1");
  });
});
