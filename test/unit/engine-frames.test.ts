// What maps of many pieces need of the pool, and dirty bits of leaves that a range cuts. Ranges are first..last, inclusive.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import { AMD64, askOne, dirtyBytes, fixture, R, RW, VTD48, W } from "./engine-fixture.js";

describe("planning ranges one after the other", () => {
  const K4 = 0x1000n;

  /** Pages in order, without neighbours that touch, spread so that they share tables of every level. */
  const pages = fc.uniqueArray(fc.oneof(fc.integer({ min: 0, max: 4095 }), fc.integer({ min: 0, max: 0xffffff })), { minLength: 1, maxLength: 40 })
    .map((numbers) => numbers.sort((a, b) => a - b).map((n) => BigInt(n) * K4));

  it.each([["VT-d", VTD48], ["AMD v1", AMD64]] as const)("%s: counts each table that the maps will take once", async (_name, geometry) => {
    await fc.assert(fc.asyncProperty(pages, fc.array(fc.integer({ min: 0, max: 0xffffff }), { maxLength: 5 }), async (iovas, before) => {
      const { engine, domain } = await fixture(geometry);
      for (const n of before) if (!iovas.includes(BigInt(n) * K4)) engine.map(domain, BigInt(n) * K4, BigInt(n) * K4 + 0xfffn, 0n, R);
      const plan = engine.planMany(domain, iovas.map((iova) => ({ first: iova, last: iova + 0xfffn, hpa: 0n, perm: R, lg2: 63 })));
      expect(plan.status).toBe(L.STATUS_OK);
      const used = engine.framesUsed;
      for (const iova of iovas) expect(engine.map(domain, iova, iova + 0xfffn, 0n, R)).toBe(L.STATUS_OK);
      expect(engine.framesUsed - used).toBe(plan.tables);
    }), { numRuns: 40 });
  });

  it("knows how many tables there are frames for", async () => {
    const { engine, domain } = await fixture();
    const left = engine.frames - engine.framesUsed;
    expect(engine.canTakeTables(domain, left)).toBe(true);
    expect(engine.canTakeTables(domain, left + 1)).toBe(false);
  });
});

describe("clearing dirty bits of a range that cuts a leaf", () => {
  it.each([["VT-d, 2 MiB", VTD48, 0x200000n], ["AMD v1, 64 KiB in 16 entries", AMD64, 0x10000n]] as const)(
    "%s: counts the part and leaves the leaf dirty; the whole leaf is counted and cleaned", async (_name, geometry, size) => {
      const { engine, port, domain, route } = await fixture({ ...geometry, accessed: "set", dirty: "set" });
      engine.map(domain, size, 2n * size - 1n, 0n, RW);
      askOne(port, route, size + 0x3000n, W);
      const dirty = (first: bigint, last: bigint, clear: boolean): bigint => dirtyBytes(engine, domain, first, last, clear);
      expect(dirty(size + 0x1000n, size + 0x2fffn, true)).toBe(0x2000n);
      expect(dirty(0n, size + 0xfffn, true)).toBe(0x1000n);
      expect(dirty(0n, 4n * size - 1n, false)).toBe(size);
      expect(dirty(size, 2n * size - 1n, true)).toBe(size);
      expect(dirty(0n, 4n * size - 1n, false)).toBe(0n);
      askOne(port, route, size, W);
      expect(dirty(0n, 4n * size - 1n, false)).toBe(size);
    });
});
