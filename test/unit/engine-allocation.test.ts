// What happens when the n-th reservation fails, for every n: the call fails, nothing has changed, and the next one goes through.
// Ranges are first..last, inclusive.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DomainOptions, Engine } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { Iommu } from "../../src/iommu/iommu.js";
import { modelOf } from "../../src/iommu/model.js";
import { expectNoLeaks } from "../oracle/frame-leaks.js";
import { AMD64, fixture, R, RW, VTD48, W } from "./engine-fixture.js";
import { runs } from "./table-plans.js";

const SPACE = (1n << 48n) - 1n;

/** All that a refused call could have changed. */
function state(engine: Engine, domains: readonly number[]): unknown {
  expectNoLeaks(engine);
  return [engine.framesUsed, engine.word(L.ENGINE_ROUTE_COUNT), domains.map((domain) => engine.leafRuns(domain, 0n, SPACE))];
}

/** Fails every reservation of `call` in turn; how many it makes. `undo` takes back a call that went through. */
function failEach<T>(engine: Engine, domains: readonly number[], call: () => T, failed: (answer: T) => boolean, undo: () => void): number {
  const before = state(engine, domains);
  for (let n = 1; ; n++) {
    engine.failAllocation(n);
    const answer = call();
    const spent = engine.word(L.ENGINE_FAIL_IN) === 0;
    expect(failed(answer)).toBe(spent);
    engine.failAllocation(0);
    if (!spent) {
      undo();
      expect(state(engine, domains)).toEqual(before);
      return n - 1;
    }
    expect(state(engine, domains)).toEqual(before);
  }
}

const noFrames = (status: number | string): boolean => status === L.STATUS_NO_FRAMES || status === "no-frames";

describe("one reservation a call", () => {
  it.each([["VT-d", VTD48], ["AMD v1", { ...AMD64, levels: 4, width: 48 }]] as const)("%s: map, merge", async (_name, geometry) => {
    const { engine, domain: parent } = await fixture(geometry);
    const child = engine.createDomain(geometry);
    const map = () => engine.map(parent, 0x1ff000n, 0x600fffn, 0x5000n, RW);
    expect(failEach(engine, [parent, child], map, noFrames, () => engine.unmap(parent, 0n, SPACE))).toBe(1);
    map();
    const merge = () => engine.merge(child, parent, 0x40000000n, 0x40ffffffn, 0x1000n, R);
    expect(failEach(engine, [parent, child], merge, noFrames, () => engine.unmap(child, 0n, SPACE))).toBe(1);
    expect(engine.failAllocation(1)).toBeUndefined();
    // Needs no table: there is nothing that could fail.
    expect(engine.map(parent, 0x1fe000n, 0x1fefffn, 0n, R)).toBe(L.STATUS_OK);
    engine.failAllocation(0);
  });

  it("a domain needs a record and its start table, a new route a place, a known one nothing", async () => {
    const { engine, domain } = await fixture();
    const made: number[] = [];
    const create = (): number | string => {
      try {
        return made.push(engine.createDomain(VTD48));
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    const codes: unknown[] = [];
    const refused = (answer: number | string): boolean => typeof answer === "string" && codes.push(answer) > 0;
    expect(failEach(engine, [domain], create, refused, () => engine.destroyDomain(made.pop()!))).toBe(2);
    expect(codes).toEqual(["NO_DOMAINS", "NO_FRAMES"]);
    engine.failAllocation(1);
    expect(engine.route(0x20)).not.toBe(L.ROUTE_NONE);
    expect(engine.route(0x28)).toBe(L.ROUTE_NONE);
    expect(engine.route(0x28)).not.toBe(L.ROUTE_NONE);
  });

  it("maps of several pieces, in one domain or several, are one reservation: what is granted does not fail later", async () => {
    const { engine, domain: index } = await fixture();
    const iommu = new Iommu(engine, "iommu0", modelOf());
    const [domain, other] = [iommu.createDomain(), iommu.createDomain()];
    const pieces = [0x1000n, 0x40000000n, 0x8000000000n].map((iova) => ({ iova, hpa: 0x7000n, size: 0x2000n, perm: W }));
    const indexes = [index, domain.index, other.index];
    const undo = (): void => indexes.forEach((one) => engine.unmap(one, 0n, SPACE));
    expect(failEach(engine, indexes, () => domain.map(pieces), noFrames, undo)).toBe(1);
    const both = () => {
      const plans = [domain, other].map((one) => one.plan(pieces));
      if (!domain.canTake(plans[0]!.tables + plans[1]!.tables)) return "no-frames";
      for (const one of [domain, other]) {
        for (const { iova, hpa, size, perm } of pieces) expect(engine.map(one.index, iova, iova + size - 1n, hpa, perm)).toBe(L.STATUS_OK);
      }
      return "ok";
    };
    expect(failEach(engine, indexes, both, noFrames, undo)).toBe(1);
  });
});

describe("merge is refused", () => {
  it("between tables of different shape, with a guest's, with itself, and beyond the parent's or the child's space", async () => {
    const { engine, domain: parent } = await fixture();
    const child = engine.createDomain(VTD48);
    engine.map(parent, 0n, 0xfffffn, 0x100000n, RW);
    const others = [{ ...VTD48, levels: 3, width: 39 }, { ...VTD48, levels: 5, width: 57 }, { ...VTD48, outputWidth: 46 }, AMD64];
    for (const other of others) expect(engine.merge(engine.createDomain(other), parent, 0n, 0xfffn, 0n, R)).toBe(L.STATUS_MISMATCH);
    expect(engine.merge(parent, parent, 0x100000n, 0x100fffn, 0n, R)).toBe(L.STATUS_MISMATCH);
    const guest = engine.createDomain({ ...VTD48, guestRoot: 0n });
    expect([engine.merge(guest, parent, 0n, 0xfffn, 0n, R), engine.merge(child, guest, 0n, 0xfffn, 0n, R)]).toEqual([L.STATUS_NOT_OWNED, L.STATUS_NOT_OWNED]);
    expect(engine.merge(child, parent, SPACE - 0xfffn, SPACE + 0x1000n, 0n, R)).toBe(L.STATUS_RANGE);
    expect(engine.merge(child, parent, 0n, 0x1fffn, SPACE - 0xfffn, R)).toBe(L.STATUS_RANGE);
    expect(engine.merge(child, parent, 0n, 0x1fffn, (1n << 64n) - 0x1000n, R)).toBe(L.STATUS_RANGE);
    for (const [first, last, gpa] of [[1n, 0xfffn, 0n], [0n, 0xffen, 0n], [0n, 0xfffn, 1n], [0x1000n, 0xfffn, 0n]] as const) {
      expect(engine.merge(child, parent, first, last, gpa, R)).toBe(L.STATUS_ALIGN);
    }
    for (const perm of [0, 4, 8, 0x100, 0x101]) expect(engine.merge(child, parent, 0n, 0xfffn, 0n, perm)).toBe(L.STATUS_PERM);
    expect(engine.leafRuns(child, 0n, SPACE)).toEqual([]);
  });

  it("inside a section", async () => {
    const { engine, domain: parent, port } = await fixture();
    const child = engine.createDomain(VTD48);
    engine.map(parent, 0n, 0xfffn, 0n, RW);
    port.batch(() => expect(engine.merge(child, parent, 0n, 0xfffn, 0n, R)).toBe(L.STATUS_IN_SECTION));
    expect(engine.merge(child, parent, 0n, 0xfffn, 0n, R)).toBe(L.STATUS_OK);
  });
});

it("merge finds what a parent has at the very top of a 64-bit space, and only there", async () => {
  const { engine, domain: parent } = await fixture(AMD64);
  const child = engine.createDomain(AMD64);
  const top = (1n << 64n) - 1n;
  engine.map(parent, top - 0x1fffn, top, 0x5000n, RW);
  const used = engine.framesUsed;
  expect(engine.merge(child, parent, 0n, top, 0n, RW)).toBe(L.STATUS_OK);
  expect(engine.framesUsed - used).toBe(5);
  expect(engine.leafRuns(child, 0n, top)).toEqual([{ first: top - 0x1fffn, last: top, hpa: 0x5000n, perm: RW, lg2: 12 }]);
});

describe("merge counts its tables exactly", () => {
  const page = (n: number): bigint => BigInt(n) << 12n;

  /** `merge` fills the empty child; as many tables of an empty filler are made that it goes through by one frame, or does not. */
  function expectExact(engine: Engine, child: number, filler: number, merge: () => number): void {
    const before = engine.framesUsed;
    expect(merge()).toBe(L.STATUS_OK);
    const needed = engine.framesUsed - before;
    engine.unmap(child, 0n, SPACE);
    expect(engine.framesUsed).toBe(before);
    // One page table each, behind the first.
    let at = 0;
    while (engine.frames - engine.framesUsed >= needed) expect(engine.map(filler, page(512 * at), page(512 * at++ + 1) - 1n, 0n, R)).toBe(L.STATUS_OK);
    expect(merge()).toBe(needed === 0 ? L.STATUS_OK : L.STATUS_NO_FRAMES);
    expect(engine.leafRuns(child, 0n, SPACE)).toEqual([]);
    if (at > 0) engine.unmap(filler, page(512 * (at - 1)), page(512 * at) - 1n);
    expect(merge()).toBe(L.STATUS_OK);
  }

  /** Any page, or the beginning of a block: of those that become blocks of the parent a shadow that lies askew needs a table. */
  const place = (most: number) => fc.oneof(fc.nat(most), fc.nat(most >> 9).map((n) => n << 9));
  const pages = fc.array(fc.record({ at: place(0x3fff), n: fc.constantFrom(1, 2, 16, 512, 700, 1024), hpa: place(0xffff) }), { minLength: 1, maxLength: 12 });

  it.each([["VT-d", VTD48], ["AMD v1", AMD64]] as const)("%s: it goes through with just as many frames, and not with one less", async (_name, geometry) => {
    const { engine, domain: parent } = await fixture(geometry, { memory: { ram: 0, arena: 2 << 20 } });
    const [child, filler] = [engine.createDomain(geometry), engine.createDomain(geometry)];
    fc.assert(fc.property(pages, place(0xfff), (mapped, offset) => {
      for (const domain of [parent, child, filler]) engine.unmap(domain, 0n, SPACE);
      for (const { at, n, hpa } of mapped) engine.map(parent, page(at), page(at + n) - 1n, page(hpa), R);
      expectExact(engine, child, filler, () => engine.merge(child, parent, page(offset), page(offset + 0x4800) - 1n, 0n, R));
    }), { numRuns: runs(30) });
  });

  it.each([["1 MiB", 0x100000n], ["512 MiB", 0x20000000n]])("two leaves of the parent, %s, that could be one are not one of the shadow, and need their table", async (_name, half) => {
    const { engine, domain: parent } = await fixture(AMD64, { memory: { ram: 0, arena: 2 << 20 } });
    const [child, filler] = [engine.createDomain(AMD64), engine.createDomain(AMD64)];
    for (const first of [0n, half]) engine.map(parent, first, first + half - 1n, 2n * half + first, R);
    expectExact(engine, child, filler, () => engine.merge(child, parent, 0n, 2n * half - 1n, 0n, R));
  });
});

describe("merge of a list of areas", () => {
  /** 300 areas that ascend, more than one answer of the scratch area; pages and blocks, with holes in between. */
  const areas = Array.from({ length: 300 }, (_none, n) => {
    const size = n % 7 === 0 ? 0x200000n : BigInt(1 + (n % 5)) << 12n;
    const first = BigInt(n) << 22n;
    return { first, last: first + size - 1n, gpa: (BigInt((n * 37) % 300) << 21n) + (n % 3 === 0 ? 0x1000n : 0n), perm: n % 2 ? R : RW };
  });

  async function tree(geometry: DomainOptions) {
    const { engine, domain: parent } = await fixture(geometry, { memory: { ram: 0, arena: 32 << 20 } });
    const [child, twin] = [engine.createDomain(geometry), engine.createDomain(geometry)];
    for (let n = 0n; n < 300n; n++) engine.map(parent, n << 21n, (n << 21n) + (n % 4n === 0n ? 0x1fffffn : 0xffffn), n << 22n, n % 5n === 0n ? R : RW);
    return { engine, parent, child, twin };
  }

  it.each([["VT-d", VTD48], ["AMD v1", AMD64]] as const)("%s: is the merges of each, and as many frames", async (_name, geometry) => {
    const { engine, parent, child, twin } = await tree(geometry);
    const before = engine.framesUsed;
    expect(engine.mergeAll(child, parent, areas)).toBe(L.STATUS_OK);
    const taken = engine.framesUsed - before;
    for (const { first, last, gpa, perm } of areas) expect(engine.merge(twin, parent, first, last, gpa, perm)).toBe(L.STATUS_OK);
    expect(engine.leafRuns(child, 0n, SPACE)).toEqual(engine.leafRuns(twin, 0n, SPACE));
    expect(engine.framesUsed - before).toBe(2 * taken);
  });

  it("is all or nothing: when frames run out, and when only the last area overlaps", async () => {
    const { engine, parent, child } = await tree(VTD48);
    const merge = () => engine.mergeAll(child, parent, areas);
    expect(failEach(engine, [parent, child], merge, noFrames, () => engine.unmap(child, 0n, SPACE))).toBe(1);
    const last = areas.at(-1)!;
    engine.map(child, last.first, last.first + 0xfffn, 0n, R);
    const before = state(engine, [parent, child]);
    expect(merge()).toBe(L.STATUS_OVERLAP);
    expect(state(engine, [parent, child])).toEqual(before);
    expect(engine.mergeAll(child, parent, [])).toBe(L.STATUS_OK);
  });
});

it("a map whose cap is below the smallest page is refused", async () => {
  const { engine, domain } = await fixture();
  expect(engine.map(domain, 0n, 0xfffn, 0n, R, 11)).toBe(L.STATUS_ALIGN);
  expect(engine.planMany(domain, [{ first: 0n, last: 0xfffn, hpa: 0n, perm: R, lg2: 11 }]).status).toBe(L.STATUS_ALIGN);
  expect(engine.map(domain, 0n, 0xfffn, 0n, R, 12)).toBe(L.STATUS_OK);
});
