// Map and unmap of every format and depth against a plain map of pages; frames; refusals.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { expectNoLeaks } from "../oracle/frame-leaks.js";
import { AMD64, ask, askOne, fixture, R, RW, VTD48, W } from "./engine-fixture.js";

const GEOMETRIES: [string, DomainOptions][] = [
  ["VT-d, 3 levels", { ...VTD48, levels: 3, width: 39 }],
  ["VT-d, 4 levels", VTD48],
  ["VT-d, 5 levels", { ...VTD48, levels: 5, width: 57 }],
  ["AMD v1, 3 levels", { ...AMD64, levels: 3, width: 39 }],
  ["AMD v1, 6 levels", AMD64],
];
const PAGE = 4096n;

describe.each(GEOMETRIES)("%s", (_name, geometry) => {
  const top = (1n << BigInt(geometry.width)) - 1n;

  it("holds every leaf size at the bottom and at the very top of the space", async () => {
    const { engine, port, domain, route } = await fixture(geometry);
    const before = engine.framesUsed;
    for (const lg2 of [12n, 21n, 30n]) {
      const size = 1n << lg2;
      for (const first of [0n, top - size + 1n]) {
        expect(engine.map(domain, first, first + size - 1n, size, RW)).toBe(L.STATUS_OK);
        expect(askOne(port, route, first + size - 1n, W)).toEqual({ hpa: 2n * size - 1n, runLg2: Number(lg2) });
        expect(engine.unmap(domain, first, first + size - 1n)).toBe(size);
        expect(askOne(port, route, first, R).fault).toBe("not-present");
      }
    }
    expect(engine.framesUsed).toBe(before);
  });

  it("agrees with a plain map of pages after any sequence of maps and unmaps", async () => {
    const { engine, port, domain, route } = await fixture(geometry);
    // 64 MiB at the end of a 1 GiB boundary: every level has its edges inside.
    const base = (1n << 30n) - (32n << 20n);
    const step = fc.record({
      page: fc.nat(16383), pages: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(512, 1024, 513, 4096)),
      out: fc.oneof(fc.nat(1 << 20), fc.nat(2047).map((n) => n * 512)), perm: fc.constantFrom(R, W, RW),
    });
    fc.assert(fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const pages = new Map<bigint, { hpa: bigint; perm: number }>();
      const areas: [bigint, bigint][] = [];
      for (const { page, pages: n, out, perm } of steps) {
        const first = base + BigInt(page) * PAGE;
        const last = first + BigInt(n) * PAGE - 1n;
        const clash = areas.some(([a, b]) => a <= last && b >= first);
        expect(engine.map(domain, first, last, BigInt(out) * PAGE, perm)).toBe(clash ? L.STATUS_OVERLAP : L.STATUS_OK);
        if (clash) continue;
        areas.push([first, last]);
        for (let i = 0n; i < BigInt(n); i++) pages.set(first + i * PAGE, { hpa: (BigInt(out) + i) * PAGE, perm });
      }
      const asked = steps.flatMap(({ page, pages: n }) => [page - 1, page, page + n - 1, page + n])
        .map((page) => base + BigInt(page) * PAGE + 5n).filter((iova) => iova >= base);
      for (const round of ["cold", "warm"]) {
        ask(port, route, asked, R).forEach((answer, i) => {
          const page = pages.get((asked[i] ?? 0n) - 5n);
          if (!page) expect(answer.fault, round).toBe("not-present");
          else if (page.perm === W) expect(answer.fault, round).toBe("read-denied");
          else expect(answer.hpa, round).toBe(page.hpa + 5n);
        });
      }
      for (const [first, last] of areas.splice(0)) expect(engine.unmap(domain, first, last)).toBe(last - first + 1n);
      expectNoLeaks(engine);
      expect(engine.framesUsed).toBe(1);
    }), { numRuns: 40 });
  });

  it("counts bytes exactly when a range over holes, leaves and whole tables goes at once", async () => {
    const { engine, domain } = await fixture(geometry);
    const parts: [bigint, bigint][] = [[0x1000n, 0x3fffn], [0x200000n, 0x5fffffn], [0x40000000n, 0x7fffffffn], [0x80000000n, 0x80000fffn]];
    let bytes = 0n;
    for (const [first, last] of parts) {
      expect(engine.map(domain, first, last, first + (1n << 37n), RW)).toBe(L.STATUS_OK);
      bytes += last - first + 1n;
    }
    expect(engine.unmap(domain, 0n, top)).toBe(bytes);
    expect(engine.unmap(domain, 0n, top)).toBe(0n);
    expect(engine.framesUsed).toBe(1);
  });

  it("refuses what it cannot map, and changes nothing", async () => {
    const { engine, domain } = await fixture(geometry);
    const used = engine.framesUsed;
    expect(engine.map(domain, 0n, 0x7ffn, 0n, RW)).toBe(L.STATUS_ALIGN);
    expect(engine.map(domain, 0n, 0xfffn, 0x800n, RW)).toBe(L.STATUS_ALIGN);
    expect(engine.map(domain, 0x1000n, 0xfffn, 0n, RW)).toBe(L.STATUS_ALIGN);
    expect(engine.map(domain, 0n, 0xfffn, 1n << 52n, RW)).toBe(L.STATUS_RANGE);
    expect(engine.map(domain, 0n, 0xfffn, 0n, 0)).toBe(L.STATUS_PERM);
    expect(engine.map(domain, 0n, 0xfffn, 0n, 7)).toBe(L.STATUS_PERM);
    if (geometry.width < 64) expect(engine.map(domain, top + 1n, top + PAGE, 0n, RW)).toBe(L.STATUS_RANGE);
    expect(engine.framesUsed).toBe(used);
  });

  it("will not cut a leaf", async () => {
    const { engine, port, domain, route } = await fixture(geometry);
    engine.map(domain, 0x200000n, 0x3fffffn, 0x40000000n, RW);
    expect(engine.unmap(domain, 0x200000n, 0x2fffffn)).toBe(L.UNMAP_SPLIT);
    expect(engine.unmap(domain, 0x300000n, 0x4fffffn)).toBe(L.UNMAP_SPLIT);
    expect(askOne(port, route, 0x200000n, R).hpa).toBe(0x40000000n);
    expect(engine.unmap(domain, 0x1000n, 0x5fffffn)).toBe(0x200000n);
  });
});

it("writes nothing when the frames run out", async () => {
  const { engine, domain, port, route } = await fixture(VTD48, { memory: { ram: 0, arena: 512 << 10 } });
  const free = engine.frames - engine.framesUsed;
  const size = BigInt(free) << 21n;
  const used = engine.framesUsed;
  expect(engine.map(domain, 0n, size - 1n, 0x1000n, RW)).toBe(L.STATUS_NO_FRAMES);
  expect(engine.framesUsed).toBe(used);
  expect(askOne(port, route, 0n, R).fault).toBe("not-present");
  expectNoLeaks(engine);
  expect(engine.map(domain, 0n, 0xfffn, 0x1000n, RW)).toBe(L.STATUS_OK);
});

it("uses every size of AMD's, and not 512 GiB", async () => {
  const { engine, domain } = await fixture(AMD64);
  for (let lg2 = 12n; lg2 <= 51n; lg2++) {
    const size = 1n << lg2;
    expect(engine.map(domain, size, 2n * size - 1n, 0n, R)).toBe(L.STATUS_OK);
    expect(engine.walk(domain, size + 1n, R)).toMatchObject({ reason: "none", hpa: 1n, leafLg2: lg2 === 39n ? 38 : Number(lg2) });
    expect(engine.unmap(domain, size, 2n * size - 1n)).toBe(size);
  }
  expect(engine.framesUsed).toBe(1);
});
