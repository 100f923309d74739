// Dirty tracking of live domains: switched on and off under mappings that are in use, in one stage and below a guest's.
// Ranges are first..last, inclusive.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { GEOMETRIES, type Geometry } from "./conformance-geometries.js";
import { AMD64, askOne, fixture, R, RW, VTD48, W } from "./engine-fixture.js";
import { runs } from "./table-plans.js";

const bytes = (lg2: number): bigint => 1n << BigInt(lg2);
/** Accessed bits that map leaves clear: a write sets them together with the dirty bit. */
const ACCESSED: Readonly<Record<number, bigint>> = { [L.FORMAT_VTD_SECOND]: 0x100n, [L.FORMAT_AMD_V1]: 0x20n };

/** The smallest and the largest input of each family. */
const FAMILIES = [...new Set(GEOMETRIES.map(({ family }) => family))]
  .flatMap((family) => [GEOMETRIES.find((one) => one.family === family)!, GEOMETRIES.findLast((one) => one.family === family)!]);

/** A domain with one leaf of each size and permission that fits, each at a place of its own, all read and written where that is allowed. */
async function used(geometry: Geometry, more: Partial<DomainOptions> = {}) {
  const its = await fixture({ ...geometry.options, ...more }, { memory: { ram: 0, arena: 32 << 20 } });
  const { engine, domain, port, route } = its;
  const leaves: { first: bigint; size: bigint; perm: number }[] = [];
  for (const lg2 of geometry.sizesLg2) {
    for (const perm of geometry.perms) {
      const size = bytes(lg2);
      const first = [...leaves.map((leaf) => leaf.first + leaf.size), 0n].reduce((a, b) => (a > b ? a : b));
      const at = ((first + size - 1n) / size) * size;
      if (at + size - 1n > geometry.regions[0]!.last) continue;
      expect(engine.map(domain, at, at + size - 1n, 0n, perm)).toBe(L.STATUS_OK);
      leaves.push({ first: at, size, perm });
    }
  }
  const use = (need: number): void => {
    for (const { first, size, perm } of leaves) if (perm & need) expect(askOne(port, route, first + size - 1n, need).hpa).toBe(size - 1n);
  };
  const everything = { first: geometry.regions[0]!.first, last: geometry.regions[0]!.last };
  const dirty = (clear: boolean) => engine.collectDirty(domain, everything.first, everything.last, clear);
  const entries = (): bigint[] => leaves.flatMap(({ first, size }) => [first, first + size - 1n].map((iova) => engine.walk(domain, iova, 0).steps.at(-1)!.pte | (ACCESSED[geometry.options.format] ?? 0n)));
  return { ...its, leaves, use, dirty, entries, everything };
}

describe.each(FAMILIES.map((geometry) => [geometry.name, geometry] as const))("%s", (_name, geometry) => {
  it("on: nothing counts as written before, every write does after, and nothing is denied; off: entries are as map made them", async () => {
    const { engine, domain, leaves, use, dirty, entries, everything } = await used(geometry);
    use(R);
    use(W);
    const [before, reported] = [entries(), engine.leafRuns(domain, everything.first, everything.last)];
    for (let round = 0; round < 2; round++) {
      expect(engine.trackDirty(domain, true)).toBe(L.STATUS_OK);
      expect(engine.leafRuns(domain, everything.first, everything.last)).toEqual(reported);
      expect(dirty(false)).toEqual([]);
      use(R);
      expect(dirty(false)).toEqual([]);
      use(W);
      const written = leaves.filter(({ perm }) => perm & W);
      expect(dirty(false).reduce((sum, { first, last }) => sum + last - first + 1n, 0n)).toBe(written.reduce((sum, { size }) => sum + size, 0n));
      expect(dirty(true)).toHaveLength(dirtyRuns(written));
      expect(dirty(false)).toEqual([]);
      use(W);
      expect(engine.trackDirty(domain, false)).toBe(L.STATUS_OK);
      expect(entries()).toEqual(before);
      expect(engine.leafRuns(domain, everything.first, everything.last)).toEqual(reported);
      use(W);
      use(R);
      expect(entries()).toEqual(before);
    }
  });

  it("what is mapped while writes are tracked begins clean", async () => {
    const { engine, domain, port, route } = await fixture(geometry.options);
    expect(engine.trackDirty(domain, true)).toBe(L.STATUS_OK);
    const page = bytes(geometry.pageLg2);
    const perm = geometry.perms.includes(RW) ? RW : W;
    engine.map(domain, page, 2n * page - 1n, 0n, perm);
    expect(engine.collectDirty(domain, 0n, 4n * page - 1n, false)).toEqual([]);
    expect(askOne(port, route, page + 5n, W).hpa).toBe(5n);
    expect(engine.collectDirty(domain, 0n, 4n * page - 1n, false)).toEqual([{ first: page, last: 2n * page - 1n }]);
  });
});

/** Ranges that these leaves are, joined where they touch. */
function dirtyRuns(leaves: readonly { first: bigint; size: bigint }[]): number {
  return leaves.filter(({ first }, n) => n === 0 || leaves[n - 1]!.first + leaves[n - 1]!.size !== first).length;
}

describe("an entry that was cached before", () => {
  it.each([["VT-d", VTD48], ["AMD v1", AMD64]] as const)("%s: writes through it are seen once they are tracked", async (_name, geometry) => {
    const { engine, domain, port, route } = await fixture(geometry);
    engine.map(domain, 0n, 0x1fffn, 0x5000n, RW);
    askOne(port, route, 0n, W);
    engine.trackDirty(domain, true);
    askOne(port, route, 0n, W);
    expect(engine.collectDirty(domain, 0n, 0x1fffn, false)).toEqual([{ first: 0n, last: 0xfffn }]);
  });

  it("Arm: a leaf whose access flag would fault is made accessed, tracked or not", async () => {
    const shape = { format: L.FORMAT_ARM_S2_4K, levels: 3, width: 40, outputWidth: 44, accessed: "fault" } as const;
    const { engine, domain, port, route } = await fixture(shape);
    engine.trackDirty(domain, true);
    engine.map(domain, 0n, 0xfffn, 0x5000n, RW);
    expect(askOne(port, route, 1n, R).hpa).toBe(0x5001n);
    expect(engine.collectDirty(domain, 0n, 0xfffn, false)).toEqual([]);
    expect(askOne(port, route, 1n, W).hpa).toBe(0x5001n);
    expect(engine.collectDirty(domain, 0n, 0xfffn, false)).toEqual([{ first: 0n, last: 0xfffn }]);
  });
});

describe("refusals", () => {
  it("a change inside a section is refused and changes nothing; so is clearing, and reading is not", async () => {
    const { engine, domain, port } = await fixture();
    engine.map(domain, 0n, 0xfffn, 0x5000n, RW);
    port.batch(() => {
      expect(engine.trackDirty(domain, true)).toBe(L.STATUS_IN_SECTION);
      expect(() => engine.collectDirty(domain, 0n, 0xfffn, true)).toThrow(expect.objectContaining({ code: "IN_SECTION" }));
      expect(engine.collectDirty(domain, 0n, 0xfffn, false)).toEqual([]);
    });
    expect(engine.trackDirty(domain, true)).toBe(L.STATUS_OK);
  });

  it("a guest's table is the guest's: it is not tracked, and has no runs to tell", async () => {
    const { engine } = await fixture();
    const guest = engine.createDomain({ ...VTD48, guestRoot: 0n });
    expect(engine.trackDirty(guest, true)).toBe(L.STATUS_NOT_OWNED);
    for (const ask of [() => engine.leafRuns(guest, 0n, 0xfffn), () => engine.collectDirty(guest, 0n, 0xfffn, false)]) {
      expect(ask).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT" }));
    }
  });

  it("a range outside the space is an error, not an answer about other addresses", async () => {
    const { engine, domain } = await fixture();
    expect(() => engine.leafRuns(domain, 0n, 1n << 48n)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT" }));
    expect(() => engine.collectDirty(domain, 0x1000n, 0xfffn, false)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT" }));
  });
});

it("more ranges than one answer holds come whole, ascending, and are cleared once", async () => {
  const { engine, domain, port, route } = await fixture({ ...VTD48, dirty: "set" });
  engine.map(domain, 0n, (1n << 22n) - 1n, 0x1000n, RW);
  fc.assert(fc.property(fc.uniqueArray(fc.nat(1023), { minLength: 1, maxLength: 900 }), (pages) => {
    for (const page of pages) askOne(port, route, BigInt(page) << 12n, W);
    const sorted = [...pages].sort((a, b) => a - b);
    const expected: { first: bigint; last: bigint }[] = [];
    for (const page of sorted) {
      const first = BigInt(page) << 12n;
      const before = expected.at(-1);
      if (before && before.last + 1n === first) before.last = first + 0xfffn;
      else expected.push({ first, last: first + 0xfffn });
    }
    expect(engine.collectDirty(domain, 0n, (1n << 22n) - 1n, false)).toEqual(expected);
    expect(engine.collectDirty(domain, 0n, (1n << 22n) - 1n, true)).toEqual(expected);
    expect(engine.collectDirty(domain, 0n, (1n << 22n) - 1n, true)).toEqual([]);
  }), { numRuns: runs(5) });
});
