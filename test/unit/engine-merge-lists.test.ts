// Lists of merges in one call: the same as one after the other, for every kind of table, whatever lies behind them in the parent; all of a
// list or nothing of it. Ranges are first..last, inclusive.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DomainOptions, Engine } from "../../src/engine/engine.js";
import type { MergeArea } from "../../src/engine/records.js";
import * as L from "../../src/engine/layout.js";
import { expectNoLeaks } from "../oracle/frame-leaks.js";
import { fixture, R, RW } from "./engine-fixture.js";
import { mapsOf, OWN, spaceOf, steps, type Step } from "./list-plans.js";
import { runs } from "./table-plans.js";

/** The areas that these steps make: ascending in the child, and anywhere among `around` pages of the parent from page `start` on. */
function areasOf(shape: DomainOptions, plan: readonly Step[], start: number, around: number): MergeArea[] {
  const { page, pages, base } = spaceOf(shape);
  return mapsOf(shape, plan, 3).map(({ first, last, hpa, perm }) => {
    const length = Number((last - first + 1n) / page);
    const behind = (start + Number(hpa / page) % around) % (pages - length);
    return { first, last, gpa: base + BigInt(behind) * page, perm };
  });
}

const everything = (engine: Engine, domain: number, areas: readonly MergeArea[]): unknown =>
  [engine.framesUsed, areas.map(({ first, last }) => engine.leafRuns(domain, first, last))];

describe.each(OWN)("%s", (_name, shape) => {
  it("a list of merges makes the tables that the same merges one by one make, and one that overlaps makes none", async () => {
    await fc.assert(fc.asyncProperty(steps, steps, fc.nat(1 << 20), fc.nat(29), async (mapped, merged, start, again) => {
      const { engine, domain: parent } = await fixture(shape);
      const [child, twin] = [engine.createDomain(shape), engine.createDomain(shape)];
      // Tables of the parent lie in another order than what they map.
      const maps = mapsOf(shape, mapped, start).reverse();
      for (const { first, last, hpa, perm, lg2 } of maps) expect(engine.map(parent, first, last, hpa, perm, lg2)).toBe(L.STATUS_OK);
      const areas = areasOf(shape, merged, start % spaceOf(shape).pages, 6000);
      const bare = engine.framesUsed;
      expect(engine.mergeAll(child, parent, areas)).toBe(L.STATUS_OK);
      const taken = engine.framesUsed - bare;
      for (const { first, last, gpa, perm } of areas) expect(engine.merge(twin, parent, first, last, gpa, perm)).toBe(L.STATUS_OK);
      expect(everything(engine, child, areas)).toEqual(everything(engine, twin, areas));
      expect(engine.framesUsed - bare).toBe(2 * taken);
      expectNoLeaks(engine);
      // The same once more from one on overlaps what that has, if it has anything.
      const full = areas.findIndex((area, n) => n >= again && engine.leafRuns(child, area.first, area.last).length > 0);
      const before = everything(engine, child, areas);
      if (full >= 0) expect(engine.mergeAll(child, parent, areas.slice(full))).toBe(L.STATUS_OVERLAP);
      expect(everything(engine, child, areas)).toEqual(before);
      for (const { first, last } of areas) for (const each of [child, twin]) engine.unmap(each, first, last);
      expect(engine.framesUsed).toBe(bare);
    }), { numRuns: runs(15) });
  });
});

describe("areas beside each other in a page table of the child", () => {
  const K4 = 0x1000n;
  const area = (page: number, pages: number, behind: number, perm = RW): MergeArea =>
    ({ first: BigInt(page) * K4, last: BigInt(page + pages) * K4 - 1n, gpa: BigInt(behind) * K4, perm });
  const hpaOf = (page: number): bigint => BigInt(0x10001 + page * 3) * K4;

  /** A parent of single pages 0..0x3ff, the page table of the upper half in memory before that of the lower; page 0x1f0 is read-only. */
  async function world() {
    const { engine, domain: parent } = await fixture();
    for (const from of [0x200, 0]) {
      for (let page = from; page < from + 0x200; page++) {
        engine.map(parent, BigInt(page) * K4, BigInt(page + 1) * K4 - 1n, hpaOf(page), page === 0x1f0 ? R : RW, 12);
      }
    }
    return { engine, parent, child: engine.createDomain({ format: L.FORMAT_VTD_SECOND, levels: 4, width: 48, outputWidth: 52 }) };
  }

  it.each([15, 16, 33, 128])("%i pages that make a page table grant what both do", async (pages) => {
    const { engine, parent, child } = await world();
    for (const [start, perm] of [[0, RW], [0x200, R]] as const) {
      const { first, last, gpa } = area(start + 3, pages, 0x40);
      expect(engine.merge(child, parent, first, last, gpa, perm)).toBe(L.STATUS_OK);
      const there = engine.leafRuns(child, BigInt(start) * K4, BigInt(start + 0x200) * K4 - 1n).map((run) => [run.first, run.hpa, run.perm]);
      expect(there).toEqual(Array.from({ length: pages }, (_none, n) => [first + BigInt(n) * K4, hpaOf(0x40 + n), perm]));
    }
  });

  const ODD: [what: string, odd: MergeArea][] = [
    ["goes over two page tables of the parent", area(8, 16, 0x1f8)],
    ["has a page in its middle that the parent grants less", area(8, 16, 0x1e8)],
    ["ends with such a page", area(8, 9, 0x1e8)],
    ["is such a page", area(8, 1, 0x1f0)],
    ["grants less itself", area(8, 16, 0x40, R)],
    ["begins beyond what the parent has", area(8, 4, 0x400)],
    ["ends beyond what the parent has", area(8, 16, 0x3f8)],
  ];
  it.each(ODD)("one that %s", async (_what, odd) => {
    const { engine, parent, child } = await world();
    const areas = [area(0, 4, 0x20), area(4, 2, 0x60), odd, area(0x40, 1, 0x7), area(0x42, 8, 0x300)];
    expect(engine.mergeAll(child, parent, areas)).toBe(L.STATUS_OK);
    for (const { first, last, gpa, perm } of areas) {
      for (let at = first; at < last; at += K4) {
        const behind = Number((gpa + at - first) / K4);
        const granted = behind > 0x3ff ? 0 : behind === 0x1f0 ? perm & R : perm;
        const runsThere = engine.leafRuns(child, at, at + K4 - 1n).map((run) => [run.hpa, run.perm]);
        expect(runsThere, `page 0x${behind.toString(16)}`).toEqual(granted ? [[hpaOf(behind), granted]] : []);
      }
    }
    expectNoLeaks(engine);
  });
});
