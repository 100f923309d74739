// One suite for every format in every geometry: what page-table suites of others test, through map, walk, translate and
// unmap. The oracles of test/setup.ts recount frames and compare every answer with the reference walker beside it.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import { askOne, dirtyBytes, fixture, type Fixture } from "./engine-fixture.js";
import { GEOMETRIES, type Geometry } from "./conformance-geometries.js";

const { PERM_R: R, PERM_W: W, PERM_X: X } = L;
/** An output address without a pattern that a wrong mask would keep. */
const ODD_OUTPUT = 0x5a5a_5a5a_5a5a_5000n;

const bytes = (lg2: number): bigint => 1n << BigInt(lg2);

interface Case extends Fixture {
  geometry: Geometry;
  perm: number;
}

function map({ engine, domain, perm }: Case, first: bigint, size: bigint, hpa: bigint): number {
  return engine.map(domain, first, first + size - 1n, hpa, perm);
}

function unmap({ engine, domain }: Case, first: bigint, size: bigint): bigint {
  return engine.unmap(domain, first, first + size - 1n);
}

/** Sizes of the leaves of [first, first + size), from the walk of each. */
function leaves({ engine, domain }: Case, first: bigint, size: bigint): number[] {
  const found: number[] = [];
  for (let at = first; at < first + size; at += bytes(found.at(-1) ?? 0)) found.push(engine.walk(domain, at, 0).leafLg2);
  return found;
}

/** Output addresses of 2^lg2 bytes: the lowest, the highest and an odd one. */
function outputs({ options }: Geometry, lg2: number): bigint[] {
  const last = bytes(options.outputWidth) - bytes(lg2);
  return [0n, last, ODD_OUTPUT & last];
}

/** The outputs [hpa, hpa + size) can be mapped with leaves of `lg2` and no larger ones only at such an address. */
const misaligned = (lg2: number): bigint => bytes(lg2);

function emptyTable(its: Case): void {
  for (const iova of [42n, bytes(30) + 42n, bytes(31) + 42n]) {
    const inside = its.geometry.regions.some(({ first, last }) => iova >= first && iova <= last);
    expect(askOne(its.port, its.route, iova, R).fault).toBe(inside ? "not-present" : "address-width");
  }
}

/** A page at the end of each region has an entry at every level; each level decodes the bits above the level below. */
function radix(its: Case): void {
  const { geometry: { pageLg2, tableLg2, regions, options }, engine, domain } = its;
  for (const { first, last } of regions) {
    for (const iova of [first, (first + last + 1n) / 2n, last]) {
      const page = iova & ~(bytes(pageLg2) - 1n);
      expect(map(its, page, bytes(pageLg2), 0n)).toBe(L.STATUS_OK);
      const { steps } = engine.walk(domain, iova, 0);
      expect(steps.map(({ level }) => level)).toEqual(Array.from({ length: options.levels }, (_, i) => options.levels - 1 - i));
      const top = steps[0]!.level;
      for (const { level, address } of steps) {
        const above = BigInt.asUintN(options.width, iova) >> BigInt(pageLg2 + tableLg2 * level);
        // Start tables side by side are one large table; it is aligned as one.
        const index = level === top ? above : above & (bytes(tableLg2) - 1n);
        const entries = level === top ? bytes(Math.max(tableLg2, options.width - pageLg2 - tableLg2 * level)) : bytes(tableLg2);
        expect((address % (entries * 8n)) / 8n, `level ${level}`).toBe(index);
      }
      expect(unmap(its, page, bytes(pageLg2))).toBe(bytes(pageLg2));
    }
  }
}

/** Every leaf size, at the ends of every region, to every kind of output: exact at its first, last and a middle byte. */
function sizesAndOutputs(its: Case): void {
  const { geometry: { sizesLg2, regions }, geometry, engine, domain, port, route } = its;
  const before = engine.framesUsed;
  for (const lg2 of sizesLg2) {
    for (const hpa of outputs(geometry, lg2)) {
      for (const { first, last } of regions) {
        for (const iova of [first, last - bytes(lg2) + 1n]) {
          expect(map(its, iova, bytes(lg2), hpa)).toBe(L.STATUS_OK);
          expect(map(its, iova, bytes(lg2), hpa)).toBe(L.STATUS_OVERLAP);
          for (const at of [0n, bytes(lg2) - 1n, ODD_OUTPUT & (bytes(lg2) - 1n)]) {
            expect(askOne(port, route, iova + at, its.perm)).toEqual({ hpa: hpa + at, runLg2: lg2 });
            expect(engine.walk(domain, iova + at, its.perm)).toMatchObject({ reason: "none", hpa: hpa + at, leafLg2: lg2 });
          }
          expect(unmap(its, iova, bytes(lg2))).toBe(bytes(lg2));
          expect(askOne(port, route, iova, its.perm).fault).toBe("not-present");
        }
      }
    }
  }
  expect(engine.framesUsed).toBe(before);
}

/** A leaf grants what it was made with, and nothing that it was not; what has no encoding is refused. */
function permissions(its: Case): void {
  const { geometry: { sizesLg2, perms }, engine, domain, port, route } = its;
  for (const lg2 of sizesLg2) {
    for (let perm = 0; perm < 8; perm++) {
      const status = engine.map(domain, 0n, bytes(lg2) - 1n, 0n, perm);
      expect(status, `perm ${perm}`).toBe(perms.includes(perm) ? L.STATUS_OK : L.STATUS_PERM);
      if (status !== L.STATUS_OK) continue;
      for (const need of [R, W, X, R | W]) {
        const granted = (need & ~perm) === 0;
        const reason = need & ~perm & R ? "read-denied" : need & ~perm & W ? "write-denied" : "execute-denied";
        expect(askOne(port, route, 0n, need), `${need} of ${perm}`).toEqual(granted ? { hpa: 0n, runLg2: lg2 } : { fault: reason });
      }
      expect(unmap(its, 0n, bytes(lg2))).toBe(bytes(lg2));
    }
  }
}

/** One mapping of every size beside each other: one leaf each; they go and come back one by one. */
function simple(its: Case): void {
  const { geometry: { sizesLg2, regions: [region] }, engine } = its;
  const before = engine.framesUsed;
  const fit = sizesLg2.filter((lg2) => bytes(lg2 + 1) <= region!.last - region!.first + 1n);
  // Each size at its own alignment: [2^lg2, 2^(lg2 + 1)).
  for (const lg2 of fit) expect(map(its, bytes(lg2), bytes(lg2), 0n)).toBe(L.STATUS_OK);
  for (const lg2 of fit) expect(leaves(its, bytes(lg2), bytes(lg2))).toEqual([lg2]);
  for (const lg2 of fit) {
    expect(unmap(its, bytes(lg2), bytes(lg2))).toBe(bytes(lg2));
    expect(unmap(its, bytes(lg2), bytes(lg2))).toBe(0n);
    expect(map(its, bytes(lg2), bytes(lg2), 0n)).toBe(L.STATUS_OK);
  }
  expect(unmap(its, region!.first, region!.last - region!.first + 1n)).toBe(fit.reduce((sum, lg2) => sum + bytes(lg2), 0n));
  expect(engine.framesUsed).toBe(before);
}

/** The span of each size in leaves of the size below, by misaligned outputs; then the leaf itself, in place of the tables. */
function tableToLeaf(its: Case): void {
  const { geometry: { sizesLg2, options }, engine } = its;
  const before = engine.framesUsed;
  sizesLg2.slice(1).forEach((large, i) => {
    const small = sizesLg2[i]!;
    if (large - small > 11 || large + 1 > options.outputWidth || large + 1 > options.width) return;
    const count = 2 ** (large - small);
    const [first, size] = [bytes(large), bytes(large)];
    expect(map(its, first, size, misaligned(small))).toBe(L.STATUS_OK);
    expect(leaves(its, first, size)).toEqual(Array.from({ length: count }, () => small));
    expect(unmap(its, first, size / 2n)).toBe(size / 2n);
    for (let at = first + size / 2n; at < first + size; at += bytes(small)) expect(unmap(its, at, bytes(small))).toBe(bytes(small));
    expect(map(its, first, size, 0n)).toBe(L.STATUS_OK);
    expect(leaves(its, first, size)).toEqual([large]);
    expect(unmap(its, first, size)).toBe(size);
    expect(engine.framesUsed).toBe(before);
  });
}

/** The largest leaf of each piece that the alignment of both addresses and what is left allow. */
function largest({ geometry: { sizesLg2 } }: Case, first: bigint, size: bigint, hpa: bigint): number[] {
  const found: number[] = [];
  for (let done = 0n; done < size; done += bytes(found.at(-1)!)) {
    const aligned = (lg2: number): boolean => ((first + done) | (hpa + done)) % bytes(lg2) === 0n;
    found.push(sizesLg2.findLast((lg2) => aligned(lg2) && bytes(lg2) <= size - done)!);
  }
  return found;
}

/** Ranges with ragged ends around every size, to outputs that are aligned with them to every size. */
function bestSizes(its: Case): void {
  const { geometry: { pageLg2, sizesLg2, regions: [region], options } } = its;
  const fits = (lg2: number): boolean => bytes(lg2 + 3) <= region!.last - region!.first + 1n && lg2 + 3 <= options.outputWidth;
  const room = (span: number): number[] => sizesLg2.filter((lg2) => lg2 > span && fits(lg2));
  // At most 2 * 512 leaves in the middle.
  const shape = fc.constantFrom(...room(0)).chain((lg2) => fc.tuple(fc.constant(lg2), fc.constantFrom(...room(lg2 - 10))));
  fc.assert(fc.property(shape, fc.nat(3), fc.nat(3), fc.integer({ min: 1, max: 2 }), fc.nat(1), ([lg2, apart], before, after, n, m) => {
    const first = bytes(lg2) - BigInt(before % 2 ** Math.min(2, lg2 - pageLg2)) * bytes(pageLg2);
    const size = bytes(lg2) * BigInt(n) + (bytes(lg2) - first) + BigInt(after) * bytes(pageLg2);
    const hpa = first + BigInt(m) * bytes(apart);
    expect(map(its, first, size, hpa)).toBe(L.STATUS_OK);
    const found = leaves(its, first, size);
    expect(unmap(its, first, size)).toBe(size);
    expect(found).toEqual(largest(its, first, size, hpa));
  }), { numRuns: 20 });
}

/** Unmap never removes more than asked: part of a leaf is refused and nothing changes, its neighbours included. */
function noSplit(its: Case): void {
  const { geometry: { sizesLg2, options }, port, route } = its;
  for (const large of sizesLg2) {
    if (large + 1 >= options.width || large + 1 >= options.outputWidth) continue;
    expect(map(its, bytes(large), bytes(large), 0n)).toBe(L.STATUS_OK);
    for (const small of sizesLg2.filter((lg2) => lg2 < large)) {
      expect(unmap(its, bytes(large), bytes(small))).toBe(L.UNMAP_SPLIT);
      expect(unmap(its, bytes(large + 1) - bytes(small), bytes(small))).toBe(L.UNMAP_SPLIT);
    }
    expect(askOne(port, route, bytes(large + 1) - 1n, its.perm).hpa).toBe(bytes(large) - 1n);
    expect(unmap(its, 0n, bytes(large + 1))).toBe(bytes(large));
  }
}

/** Nothing beyond the input or the output width, nothing unaligned, nothing empty. */
function limits(its: Case): void {
  const { geometry: { pageLg2, regions, options }, engine, domain } = its;
  const [page, before] = [bytes(pageLg2), engine.framesUsed];
  for (const { first, last } of regions) {
    if (last < bytes(64) - 1n) {
      expect(map(its, last + 1n, page, 0n)).toBe(L.STATUS_RANGE);
      expect(map(its, last - page + 1n, 2n * page, 0n)).toBe(L.STATUS_RANGE);
      expect(engine.unmap(domain, last + 1n, last + page)).toBe(L.UNMAP_REFUSED);
    }
    expect(map(its, first, page, bytes(options.outputWidth))).toBe(L.STATUS_RANGE);
    expect(map(its, first, 2n * page, bytes(options.outputWidth) - page)).toBe(L.STATUS_RANGE);
    for (const [at, size, hpa] of [[page / 2n, page, 0n], [0n, page / 2n, 0n], [0n, page, page / 2n], [page, 0n, 0n]] as const) {
      expect(map(its, first + at, size, hpa)).toBe(L.STATUS_ALIGN);
    }
  }
  expect(engine.framesUsed).toBe(before);
}

/** A tracked leaf of every size: clean until written, and clean again once collected. */
async function dirtyBits(geometry: Geometry): Promise<void> {
  const options = { ...geometry.options, accessed: "set", dirty: "set" } as const;
  const its = { ...(await fixture(options)), geometry, perm: R | W };
  for (const lg2 of geometry.sizesLg2) {
    const dirty = (clear: boolean): bigint => dirtyBytes(its.engine, its.domain, 0n, bytes(lg2) - 1n, clear);
    expect(map(its, 0n, bytes(lg2), 0n)).toBe(L.STATUS_OK);
    askOne(its.port, its.route, 0n, R);
    expect(dirty(false)).toBe(0n);
    // At its beginning, at its end, and at both: a leaf of several entries may be marked in any of them.
    for (const written of [[0n], [bytes(lg2) - 1n], [0n, bytes(lg2) - 1n]]) {
      for (const at of written) expect(askOne(its.port, its.route, at, W).hpa).toBe(at);
      expect([dirty(false), dirty(true), dirty(false)]).toEqual([bytes(lg2), bytes(lg2), 0n]);
    }
    expect(unmap(its, 0n, bytes(lg2))).toBe(bytes(lg2));
  }
}

const CASES: readonly [string, (its: Case) => void][] = [
  ["empty", emptyTable], ["radix", radix], ["sizes and outputs", sizesAndOutputs], ["permissions", permissions], ["simple", simple],
  ["table to leaf", tableToLeaf], ["best sizes", bestSizes], ["no split", noSplit], ["limits", limits],
];

describe.each(GEOMETRIES.map((geometry) => [geometry.name, geometry] as const))("%s", (_name, geometry) => {
  const perm = geometry.perms.includes(R | W) ? R | W : R;
  it.each(CASES)("%s", async (_case, run) => run({ ...(await fixture(geometry.options)), geometry, perm }));
  it("dirty", () => dirtyBits(geometry));
});

describe("past bugs of others, where pages are 4 KiB, 2 MiB and 1 GiB", () => {
  const plain = GEOMETRIES.filter(({ sizesLg2, options }) => sizesLg2.join() === "12,21,30" && options.width >= 39 && options.outputWidth >= 39);
  it.each(plain.map((geometry) => [geometry.name, geometry] as const))("%s", async (_name, geometry) => {
    const its = { ...(await fixture(geometry.options)), geometry, perm: R | W };
    expect(map(its, 0xfef80000n, 0x20000n, 0x208b95d000n)).toBe(L.STATUS_OK);
    expect(leaves(its, 0xfef80000n, 0x20000n)).toHaveLength(32);
    // 14 of 2 MiB up to 1 GiB, three of 1 GiB, three of 2 MiB.
    expect(map(its, 0x3fe400000n, 0x4c0600000n - 0x3fe400000n, 0x3fe400000n)).toBe(L.STATUS_OK);
    const found = leaves(its, 0x3fe400000n, 0x4c0600000n - 0x3fe400000n);
    expect([found.length, found.filter((lg2) => lg2 === 30).length]).toEqual([20, 3]);
    expect(its.engine.walk(its.domain, 0x4c05fffffn, R).hpa).toBe(0x4c05fffffn);
  });
});
