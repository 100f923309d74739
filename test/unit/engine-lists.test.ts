// Lists of maps and unmaps in one call: the same as one after the other, for every kind of table; all of a list or nothing of it;
// what is invalidated and what stays cached. Ranges are first..last, inclusive.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Engine, LeafRun, Range } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { expectNoLeaks } from "../oracle/frame-leaks.js";
import { AMD64, ask, askOne, fixture, R, RW, VTD48, W } from "./engine-fixture.js";
import { ANY, mapsOf, OWN, steps } from "./list-plans.js";
import { runs } from "./table-plans.js";

const leaves = (engine: Engine, domain: number, maps: readonly LeafRun[]): LeafRun[] =>
  (maps.length === 0 ? [] : engine.leafRuns(domain, maps[0]!.first, maps.at(-1)!.last));

describe.each(OWN)("%s", (_name, shape) => {
  it("a list of maps and a list of unmaps make the tables that the same calls one by one make", async () => {
    await fc.assert(fc.asyncProperty(steps, steps, fc.nat(1 << 20), fc.array(fc.boolean(), { minLength: 30, maxLength: 30 }), async (first, second, start, kept) => {
      const { engine, domain } = await fixture(shape);
      const twin = engine.createDomain(shape);
      const bare = engine.framesUsed;
      const all = mapsOf(shape, first, start);
      // What is there before lies among what comes by list.
      const [before, list] = [all.filter((_map, n) => n % 3 === 2), all.filter((_map, n) => n % 3 !== 2)];
      for (const { first, last, hpa, perm, lg2 } of before) {
        for (const each of [domain, twin]) expect(engine.map(each, first, last, hpa, perm, lg2)).toBe(L.STATUS_OK);
      }
      const used = engine.framesUsed;
      expect(engine.mapMany(domain, list)).toBe(L.STATUS_OK);
      const taken = engine.framesUsed - used;
      for (const { first, last, hpa, perm, lg2 } of list) expect(engine.map(twin, first, last, hpa, perm, lg2)).toBe(L.STATUS_OK);
      expect(leaves(engine, domain, all)).toEqual(leaves(engine, twin, all));
      expect(engine.framesUsed - used).toBe(2 * taken);
      expectNoLeaks(engine);
      // Some of the maps, and ranges where nothing is.
      const ranges: Range[] = [...all.filter((_map, n) => !kept[n]), ...mapsOf(shape, second, start + 7)
        .filter((range) => all.every((map) => map.last < range.first || map.first > range.last))].map(({ first, last }) => ({ first, last }));
      const bytes = ranges.map(({ first, last }) => engine.unmap(twin, first, last)).reduce((sum, each) => sum + each, 0n);
      expect(engine.unmapMany(domain, ranges)).toBe(bytes);
      expect(leaves(engine, domain, all)).toEqual(leaves(engine, twin, all));
      expectNoLeaks(engine);
      for (const { first, last } of all) for (const each of [domain, twin]) engine.unmap(each, first, last);
      expect(engine.framesUsed).toBe(bare);
    }), { numRuns: runs(15) });
  });
});

const K4 = 0x1000n;
const map = (page: number, pages = 1, more: Partial<LeafRun> = {}): LeafRun => {
  const first = BigInt(page) * K4;
  return { first, last: first + BigInt(pages) * K4 - 1n, hpa: first + (1n << 36n) + K4, perm: RW, lg2: ANY, ...more };
};
const range = (page: number, pages = 1): Range => ({ first: BigInt(page) * K4, last: BigInt(page + pages) * K4 - 1n });

function everything(engine: Engine, domain: number): unknown {
  expectNoLeaks(engine);
  return [engine.framesUsed, engine.leafRuns(domain, 0n, (1n << 48n) - 1n)];
}

describe("a list of which one map is refused", () => {
  const REFUSED: [why: string, bad: LeafRun, status: number][] = [
    ["overlaps what is there", map(0x300), L.STATUS_OVERLAP],
    ["overlaps a page in the table of the one before", map(0x2f8, 9), L.STATUS_OVERLAP],
    ["overlaps the one before", map(0x21f, 4), L.STATUS_OVERLAP],
    ["does not ascend", map(0x100), L.STATUS_OVERLAP],
    ["is misaligned", map(0x240, 1, { hpa: 0x800n }), L.STATUS_ALIGN],
    ["ends inside a page", { ...map(0x240), last: 0x240_7ffn }, L.STATUS_ALIGN],
    ["begins inside a page", { ...map(0x240), first: 0x240_800n }, L.STATUS_ALIGN],
    ["is empty", { ...map(0x240), last: 0x240_000n - 1n }, L.STATUS_ALIGN],
    ["runs out of the input space", { ...map(0x240), last: (1n << 48n) + 0xfffn }, L.STATUS_RANGE],
    ["runs out of the output space", map(0x240, 2, { hpa: (1n << 52n) - K4 }), L.STATUS_RANGE],
    ["has outputs that wrap", map(0x240, 2, { hpa: (1n << 64n) - K4 }), L.STATUS_RANGE],
    ["has no permission", map(0x240, 1, { perm: 0 }), L.STATUS_PERM],
    ["has a permission that is none", map(0x240, 1, { perm: 8 }), L.STATUS_PERM],
    ["has leaves below the smallest page", map(0x240, 1, { lg2: 11 }), L.STATUS_ALIGN],
  ];

  it.each(REFUSED)("%s: nothing is written", async (_why, bad, status) => {
    const { engine, domain } = await fixture();
    engine.map(domain, 0x300000n, 0x300fffn, 0n, RW);
    const before = everything(engine, domain);
    expect(engine.mapMany(domain, [map(0x200, 32), bad, map(0x1000)])).toBe(status);
    expect(engine.planMany(domain, [map(0x200, 32), bad, map(0x1000)])).toEqual({ status, tables: 0 });
    expect(everything(engine, domain)).toEqual(before);
  });

  it("in the second call's worth of records: nothing is written", async () => {
    const { engine, domain } = await fixture();
    const before = everything(engine, domain);
    const list = Array.from({ length: 300 }, (_none, n) => map(2 * n));
    expect(engine.mapMany(domain, [...list, map(598)])).toBe(L.STATUS_OVERLAP);
    expect(everything(engine, domain)).toEqual(before);
    expect(engine.mapMany(domain, list)).toBe(L.STATUS_OK);
    expect(engine.leafRuns(domain, 0n, 0xffffffn)).toHaveLength(300);
    // As many ranges again, of which the last cuts a leaf.
    engine.map(domain, 0x4000_0000n, 0x4020_0000n - 1n, 0n, RW);
    const ranges = Array.from({ length: 300 }, (_none, n) => range(2 * n));
    const full = everything(engine, domain);
    expect(engine.unmapMany(domain, [...ranges, range(0x40000)])).toBe(L.UNMAP_SPLIT);
    expect(everything(engine, domain)).toEqual(full);
    expect(engine.unmapMany(domain, ranges)).toBe(300n * K4);
  });

  it("a guest's table has no maps of the kernel's", async () => {
    const { engine } = await fixture();
    // A root that is beyond the engine's memory, were it an offset there.
    const guest = engine.createDomain({ ...VTD48, guestRoot: 0x8000_0000n });
    expect(engine.mapMany(guest, [map(1)])).toBe(L.STATUS_NOT_OWNED);
    expect(engine.unmapMany(guest, [range(1)])).toBe(L.UNMAP_REFUSED);
  });

  it("the lowest page does not go on from the highest", async () => {
    const { engine, domain } = await fixture(AMD64);
    const top: Range = { first: (1n << 64n) - K4, last: (1n << 64n) - 1n };
    const bare = engine.framesUsed;
    for (const { first, last } of [top, range(0), range(1)]) expect(engine.map(domain, first, last, 0x5000n, RW)).toBe(L.STATUS_OK);
    expect(engine.unmapMany(domain, [top, range(0)])).toBe(2n * K4);
    expectNoLeaks(engine);
    expect(engine.unmap(domain, K4, 2n * K4 - 1n)).toBe(K4);
    expect(engine.framesUsed).toBe(bare);
  });

  it("addresses that differ in an ignored top byte are the same page", async () => {
    const { engine, domain } = await fixture({ format: L.FORMAT_ARM_S1_4K, levels: 3, width: 39, outputWidth: 44, rule: "zero-tbi", accessed: "ignore" });
    const tagged = (tag: bigint): LeafRun => ({ ...map(5), first: (tag << 56n) | 0x5000n, last: (tag << 56n) | 0x5fffn });
    const before = engine.framesUsed;
    expect(engine.mapMany(domain, [tagged(0n), tagged(1n)])).toBe(L.STATUS_OVERLAP);
    expect(engine.framesUsed).toBe(before);
    expect(engine.mapMany(domain, [tagged(1n)])).toBe(L.STATUS_OK);
  });

  it("there are no frames for all: nothing is written, and as many as there are frames for go in", async () => {
    const { engine, domain } = await fixture(VTD48, { memory: { ram: 0, arena: 1 << 20 } });
    const left = engine.frames - engine.framesUsed;
    const before = everything(engine, domain);
    const list = (tables: number): LeafRun[] => Array.from({ length: 2 * tables }, (_none, n) => map(n * 256));
    // Two levels above the page tables come first.
    expect(engine.mapMany(domain, list(left - 1))).toBe(L.STATUS_NO_FRAMES);
    expect(everything(engine, domain)).toEqual(before);
    expect(engine.mapMany(domain, list(left - 2))).toBe(L.STATUS_OK);
    expect(engine.framesUsed).toBe(engine.frames);
  });

  it("its one reservation fails once", async () => {
    const { engine, domain } = await fixture();
    const list = [map(1), map(0x300), map(0x80000, 600)];
    engine.failAllocation(1);
    expect(engine.mapMany(domain, list)).toBe(L.STATUS_NO_FRAMES);
    engine.failAllocation(2);
    expect(engine.mapMany(domain, list)).toBe(L.STATUS_OK);
    expect(engine.word(L.ENGINE_FAIL_IN)).toBe(1);
    expect(engine.word(L.ENGINE_GRANTED)).toBe(0);
    engine.failAllocation(0);
  });
});

describe("a list of unmaps", () => {
  const BAD: [why: string, bad: Range, answer: bigint][] = [
    ["would cut a 2-MiB leaf", range(0x600, 16), L.UNMAP_SPLIT],
    ["is misaligned", { first: 0x800n, last: 0xfffn }, L.UNMAP_REFUSED],
    ["is empty", { first: 0x1000n, last: 0xfffn }, L.UNMAP_REFUSED],
    ["runs out of the input space", { first: 0x4000n, last: (1n << 48n) + 0xfffn }, L.UNMAP_REFUSED],
  ];

  it.each(BAD)("of which one %s: nothing is removed", async (_why, bad, answer) => {
    const { engine, domain } = await fixture();
    engine.mapMany(domain, [map(0, 8), map(0x600, 512, { hpa: 0n })]);
    const before = everything(engine, domain);
    expect(engine.unmapMany(domain, [range(0, 4), bad])).toBe(answer);
    expect(everything(engine, domain)).toEqual(before);
  });

  it("whose last range in a table leaves nothing there gives the table back, before it goes on", async () => {
    const { engine, domain } = await fixture();
    const bare = engine.framesUsed;
    const pages = [0, 2, 4, 0x200, 0x202, 0x80000];
    expect(engine.mapMany(domain, pages.map((page) => map(page)))).toBe(L.STATUS_OK);
    expect(engine.mapMany(domain, [map(6, 2)])).toBe(L.STATUS_OK);
    expect(engine.unmapMany(domain, [range(0), range(2), range(4), range(6, 2)])).toBe(5n * K4);
    expect(engine.walk(domain, 0n, R).steps.at(-1)?.level).toBe(1);
    expect(engine.unmapMany(domain, [range(0x200), range(0x202), range(0x204), range(0x80000)])).toBe(3n * K4);
    expect(engine.framesUsed).toBe(bare);
  });

  it("of which one begins in the middle of a leaf and ends with another: nothing is removed", async () => {
    const { engine, domain } = await fixture();
    engine.mapMany(domain, [map(0, 8), map(0x600, 512, { hpa: 0n }), map(0x800, 512, { hpa: 0x400000n })]);
    const full = everything(engine, domain);
    expect(engine.unmapMany(domain, [range(0), range(4), range(0x700, 0x300)])).toBe(L.UNMAP_SPLIT);
    expect(everything(engine, domain)).toEqual(full);
  });

  it("a leaf of several entries in a page table is not cut", async () => {
    const { engine, domain } = await fixture(AMD64);
    engine.mapMany(domain, [map(0, 4, { hpa: 0n, lg2: 12 }), map(16, 16, { hpa: 0x10000n }), map(40)]);
    const before = everything(engine, domain);
    expect(engine.unmapMany(domain, [range(0), range(16, 8)])).toBe(L.UNMAP_SPLIT);
    expect(everything(engine, domain)).toEqual(before);
    expect(engine.unmapMany(domain, [range(0), range(16, 16), range(40)])).toBe(18n * K4);
  });

  it("in any order, with overlaps and over nothing: each byte is counted once", async () => {
    const { engine, domain } = await fixture();
    engine.map(domain, 0n, 0x5fffn, K4, RW);
    expect(engine.unmapMany(domain, [range(4, 2), range(5, 3), range(0x80000), range(0, 2), range(4), range(0)])).toBe(4n * K4);
    expect(engine.unmapMany(domain, [range(2, 2), range(2, 2)])).toBe(2n * K4);
    expect(engine.unmapMany(domain, [])).toBe(0n);
    expect(engine.framesUsed).toBe(1);
  });

  it.each([["few ranges", 3], ["more than are dropped one by one", 12]])("%s: nothing translates by what is gone, also of a domain over it", async (_name, n) => {
    const { engine, port, domain, route } = await fixture();
    const guest = engine.createDomain({ ...VTD48, format: L.FORMAT_VTD_SECOND });
    const other = engine.route(0x28);
    engine.attachRoute(other, guest);
    engine.map(guest, 0n, 0x3fffffn, K4, RW);
    engine.map(domain, 0n, 0x3fffffn, K4, RW);
    const pages = Array.from({ length: n }, (_none, i) => 7 * i + 1);
    const iovas = pages.flatMap((page) => [page - 1, page, page + 1]).map((page) => BigInt(page) * K4);
    expect(ask(port, route, iovas, W).every(({ hpa }) => hpa !== undefined)).toBe(true);
    ask(port, other, iovas, W);
    expect(engine.unmapMany(domain, pages.map((page) => range(page)))).toBe(BigInt(n) * K4);
    ask(port, route, iovas, W).forEach((answer, i) => expect(answer.fault).toBe(i % 3 === 1 ? "not-present" : undefined));
    expect(askOne(port, other, iovas[1]!, W).hpa).toBe(iovas[1]! + K4);
  });

  it("stage 2 under other domains: what they have cached goes too", async () => {
    const { engine, port, domain } = await fixture();
    const nested = engine.createDomain({ ...VTD48, stage2: domain, guestRoot: 0x10_0000n, format: L.FORMAT_X86_64, rule: "sign" });
    const route = engine.route(0x30);
    engine.attachRoute(route, nested);
    engine.addSlot(0x20_0000n, 0x20_3fffn, "memory", engine.ram.offset);
    engine.mapMany(domain, [map(0x40, 2), map(0x50), map(0x100, 4, { hpa: 0x20_0000n })]);
    const words = new BigUint64Array(engine.memory.buffer, engine.ram.offset, 4 * 512);
    for (const level of [0, 1, 2]) words[level * 512] = BigInt(0x101 + level) * K4 | 0x27n;
    words[3 * 512] = 0x40_067n;
    words[3 * 512 + 1] = 0x50_067n;
    expect(ask(port, route, [0n, K4], R).map(({ fault }) => fault)).toEqual([undefined, undefined]);
    expect(engine.unmapMany(domain, [range(0x40, 2)])).toBe(2n * K4);
    expect(ask(port, route, [0n, K4], R).map(({ fault }) => fault === undefined)).toEqual([false, true]);
  });

  it("is refused inside a section of this thread, as a list of maps is", async () => {
    const { engine, port, domain } = await fixture();
    engine.map(domain, 0n, 0xfffn, 0n, RW);
    port.batch(() => {
      expect(engine.unmapMany(domain, [range(0)])).toBe(L.UNMAP_IN_SECTION);
      expect(engine.mapMany(domain, [map(1)])).toBe(L.STATUS_IN_SECTION);
    });
    expect(engine.unmapMany(domain, [range(0)])).toBe(K4);
  });
});
