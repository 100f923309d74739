// Shadows: merge of a child with its parent against interval arithmetic on what was mapped, in every format and geometry.
// Ranges are first..last, inclusive.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Engine, LeafRun } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { leafRunsOf } from "../../src/iommu/leaf-runs.js";
import type { Piece } from "../../src/iommu/domain.js";
import { expectNoLeaks } from "../oracle/frame-leaks.js";
import { GEOMETRIES, type Geometry } from "./conformance-geometries.js";
import { askOne, fixture, RW, VTD48, W, type Fixture } from "./engine-fixture.js";
import { runs } from "./table-plans.js";

const bytes = (lg2: number): bigint => 1n << BigInt(lg2);
const lastOf = ({ iova, size }: Piece): bigint => iova + size - 1n;
const pageSizesOf = ({ sizesLg2 }: Geometry): bigint => sizesLg2.reduce((bits, lg2) => bits | bytes(lg2), 0n);

/** The pieces of [iova, iova + size) -> gpa that a parent with such leaves leaves a child, each capped at the parent's leaf. */
function composed(area: Piece, parent: readonly LeafRun[]): Piece[] {
  const gpaLast = area.hpa + area.size - 1n;
  return parent.flatMap((run) => {
    const first = run.first > area.hpa ? run.first : area.hpa;
    const last = run.last < gpaLast ? run.last : gpaLast;
    const perm = run.perm & area.perm;
    if (first > last || perm === 0) return [];
    return [{ iova: area.iova + (first - area.hpa), hpa: run.hpa + (first - run.first), size: last - first + 1n, perm, cap: run.lg2 }];
  });
}

const overlaps = (a: Piece, b: Piece): boolean => a.iova <= lastOf(b) && b.iova <= lastOf(a);

/** Ranges of whole pages around the borders of tables and of leaves, near the beginning and the end of a region. */
function ranges(geometry: Geometry): fc.Arbitrary<Piece> {
  const { pageLg2, tableLg2, sizesLg2, regions, perms, options } = geometry;
  const page = bytes(pageLg2);
  const spans = [pageLg2, pageLg2 + tableLg2, ...sizesLg2].filter((lg2) => lg2 < options.width && lg2 < options.outputWidth);
  const size = fc.tuple(fc.constantFrom(...spans), fc.integer({ min: 1, max: 3 }), fc.integer({ min: -2, max: 2 }))
    .map(([lg2, n, more]) => BigInt(n) * bytes(lg2) + BigInt(more) * page).filter((n) => n > 0n);
  const distance = fc.tuple(fc.constantFrom(...spans), fc.nat(3), fc.integer({ min: 0, max: 2 })).map(([lg2, n, more]) => BigInt(n) * bytes(lg2) + BigInt(more) * page);
  const output = fc.tuple(fc.constantFrom(...spans), fc.nat(3), fc.nat(2)).map(([lg2, n, more]) => BigInt(n) * bytes(lg2) + BigInt(more) * page);
  return fc.record({ region: fc.constantFrom(...regions), fromEnd: fc.boolean(), distance, size, hpa: output, perm: fc.constantFrom(...perms) })
    .map(({ region, fromEnd, distance: far, size: n, hpa, perm }) =>
      ({ iova: fromEnd ? region.last + 1n - far - n : region.first + far, size: n, hpa, perm, region }))
    .filter(({ iova, size: n, hpa, region }) => iova >= region.first && iova + n - 1n <= region.last && hpa + n <= bytes(options.outputWidth))
    .map(({ iova, size: n, hpa, perm }) => ({ iova, size: n, hpa, perm }));
}

/** The same with another address, a range of the parent's input, in place of hpa. */
function areas(geometry: Geometry): fc.Arbitrary<Piece> {
  return fc.tuple(ranges(geometry), ranges(geometry)).map(([child, parent]) => {
    const size = child.size < parent.size ? child.size : parent.size;
    return { iova: child.iova, hpa: parent.iova, size, perm: child.perm };
  });
}

/** Pages and blocks that a map of this piece writes; more than a few tables of them only make tests slow. */
function isSmall(pieces: readonly Piece[], { tableLg2 }: Geometry, sizes: bigint): boolean {
  const leaves = leafRunsOf(pieces, sizes).reduce((sum, run) => sum + ((run.last - run.first + 1n) >> BigInt(run.lg2)), 0n);
  return leaves <= 8n << BigInt(tableLg2);
}

const inOrder = (pieces: readonly Piece[]): Piece[] => [...pieces].sort((a, b) => (a.iova < b.iova ? -1 : 1));

type Step = { kind: "map"; piece: Piece } | { kind: "merge"; piece: Piece } | { kind: "write"; piece: Piece }
  | { kind: "unmap" | "drop" | "track"; which: number };

const plans = (geometry: Geometry): fc.Arbitrary<Step[]> => fc.array(fc.oneof(
  fc.record({ kind: fc.constant("map" as const), piece: ranges(geometry) }),
  fc.record({ kind: fc.constant("merge" as const), piece: areas(geometry) }),
  fc.record({ kind: fc.constant("write" as const), piece: ranges(geometry) }),
  fc.record({ kind: fc.constantFrom("unmap" as const, "drop" as const, "track" as const), which: fc.nat() }),
), { maxLength: 14 });

/** A parent and a child in one engine, and what both must hold. */
class Tree {
  private mapped: Piece[] = [];
  private shadows: Piece[][] = [];
  private tracked = false;
  private readonly sizes: bigint;
  private readonly engine: Engine;
  private readonly parent: number;
  private readonly child: number;
  /** Gets by map, at the end, what the child has got by merge. */
  private readonly twin: number;
  private readonly frames: number;

  constructor(private readonly its: Fixture, private readonly geometry: Geometry) {
    this.engine = its.engine;
    this.sizes = pageSizesOf(geometry);
    this.parent = its.domain;
    this.child = this.engine.createDomain(geometry.options);
    this.twin = this.engine.createDomain(geometry.options);
    this.frames = this.engine.framesUsed;
  }

  clear(): void {
    [this.mapped, this.shadows, this.tracked] = [[], [], false];
    for (const domain of [this.parent, this.child, this.twin]) {
      this.empty(domain);
      this.engine.trackDirty(domain, false);
    }
    expect(this.engine.framesUsed).toBe(this.frames);
  }

  run(step: Step): void {
    if (step.kind === "map") this.map(step.piece);
    else if (step.kind === "merge") this.merge(step.piece);
    else if (step.kind === "write") askOne(this.its.port, this.its.route, step.piece.iova, W);
    else if (step.kind === "track") this.track(step.which % 2 === 0, step.which % 3 > 0);
    else if (step.kind === "unmap") this.remove(this.parent, step.which);
    else this.remove(this.child, step.which);
  }

  private track(child: boolean, on: boolean): void {
    if (child) this.tracked = on;
    expect(this.engine.trackDirty(child ? this.child : this.parent, on)).toBe(L.STATUS_OK);
  }

  private map(piece: Piece): void {
    if (!isSmall([piece], this.geometry, this.sizes)) return;
    const clash = this.mapped.some((other) => overlaps(other, piece));
    expect(this.engine.map(this.parent, piece.iova, lastOf(piece), piece.hpa, piece.perm)).toBe(clash ? L.STATUS_OVERLAP : L.STATUS_OK);
    if (!clash) this.mapped.push(piece);
  }

  private merge(area: Piece): void {
    const pieces = composed(area, leafRunsOf(inOrder(this.mapped), this.sizes));
    if (!isSmall(pieces, this.geometry, this.sizes)) return;
    const clash = pieces.some((piece) => this.shadows.flat().some((taken) => overlaps(piece, taken)));
    const status = this.engine.merge(this.child, this.parent, area.iova, lastOf(area), area.hpa, area.perm);
    expect(status).toBe(clash ? L.STATUS_OVERLAP : L.STATUS_OK);
    if (!clash) this.shadows.push(pieces);
  }

  private remove(domain: number, which: number): void {
    const lists = domain === this.child ? this.shadows : this.mapped.map((piece) => [piece]);
    const at = which % Math.max(1, lists.length);
    for (const piece of lists[at] ?? []) expect(this.engine.unmap(domain, piece.iova, lastOf(piece))).toBe(piece.size);
    (domain === this.child ? this.shadows : this.mapped).splice(at, 1);
  }

  check(): void {
    expect(this.leaves(this.parent)).toEqual(leafRunsOf(inOrder(this.mapped), this.sizes));
    expect(this.leaves(this.child)).toEqual(leafRunsOf(inOrder(this.shadows.flat()), this.sizes));
  }

  /** The child's table is, entry for entry and frame for frame, what map makes of the same pieces. */
  checkTwin(): void {
    const { engine, child, twin } = this;
    const before = engine.framesUsed;
    expect(engine.trackDirty(twin, this.tracked)).toBe(L.STATUS_OK);
    const pieces = inOrder(this.shadows.flat());
    for (const { iova, hpa, size, perm, cap } of pieces) expect(engine.map(twin, iova, iova + size - 1n, hpa, perm, cap)).toBe(L.STATUS_OK);
    const found = this.leaves(twin);
    expect(found).toEqual(this.leaves(child));
    for (const at of found.flatMap(({ first, last }) => [first, last])) {
      const [ours, theirs] = [child, twin].map((domain) => engine.walk(domain, at, 0).steps.at(-1)!.pte);
      expect(ours).toBe(theirs);
    }
    // As many frames go with the child's leaves as the twin has taken.
    this.empty(child);
    expect(engine.framesUsed).toBe(before);
  }

  private empty(domain: number): void {
    for (const { first, last } of this.geometry.regions) this.engine.unmap(domain, first, last);
  }

  private leaves(domain: number): LeafRun[] {
    return this.geometry.regions.flatMap(({ first, last }) => this.engine.leafRuns(domain, first, last));
  }
}

/** Of Arm's many sizes the smallest and the largest input. */
const DIVERSE = GEOMETRIES.filter(({ family, options }) => !family.startsWith("Arm") || (options.outputWidth === 48 && [32, 48].includes(options.width)));

describe.each(DIVERSE.map((geometry) => [geometry.name, geometry] as const))("%s", (_name, geometry) => {
  it("a shadow has what both permit, in the largest leaves that lie in one leaf of the parent", async () => {
    const its = await fixture(geometry.options, { memory: { ram: 0, arena: 32 << 20 } });
    const tree = new Tree(its, geometry);
    fc.assert(fc.property(plans(geometry), (plan) => {
      tree.clear();
      for (const step of plan) {
        tree.run(step);
        tree.check();
      }
      expectNoLeaks(its.engine);
      tree.checkTwin();
    }), { numRuns: runs(20) });
  });
});

describe("neighbouring leaves of the parent", () => {
  it("do not make a larger one of the child, though its addresses would allow it", async () => {
    const { engine, domain: parent } = await fixture();
    const [mib2, gib] = [bytes(21), bytes(30)];
    // The parent's input is 2 MiB off, so its gigabyte is 512 leaves; the child's input and the output are both aligned to it.
    expect(engine.map(parent, mib2, mib2 + gib - 1n, gib, RW)).toBe(L.STATUS_OK);
    const child = engine.createDomain(VTD48);
    expect(engine.merge(child, parent, gib, 2n * gib - 1n, mib2, RW)).toBe(L.STATUS_OK);
    expect(engine.leafRuns(child, gib, 2n * gib - 1n)).toEqual([{ first: gib, last: 2n * gib - 1n, hpa: gib, perm: RW, lg2: 21 }]);
  });

  it.each(DIVERSE.map((geometry) => [geometry.name, geometry] as const))("%s: whose outputs do not follow each other, entered at any point", async (_name, geometry) => {
    const { engine, domain: parent } = await fixture(geometry.options, { memory: { ram: 0, arena: 32 << 20 } });
    const child = engine.createDomain(geometry.options);
    const [page, sizes] = [bytes(geometry.pageLg2), pageSizesOf(geometry)];
    const perm = geometry.perms.at(-1)!;
    for (const lg2 of geometry.sizesLg2) {
      const size = bytes(lg2);
      if (lg2 + 3 > Math.min(geometry.options.width, geometry.options.outputWidth) || 4n * size - 1n > geometry.regions[0]!.last) continue;
      const pieces = [{ iova: size, hpa: 4n * size, size, perm }, { iova: 2n * size, hpa: 2n * size, size, perm }];
      for (const { iova, hpa } of pieces) expect(engine.map(parent, iova, iova + size - 1n, hpa, perm)).toBe(L.STATUS_OK);
      for (const skipped of [0n, size / 2n, size - page].map((n) => n - (n % page))) {
        const area = { iova: skipped, hpa: size + skipped, size: 2n * size - skipped, perm };
        const wanted = composed(area, leafRunsOf(pieces, sizes));
        if (!isSmall(wanted, geometry, sizes)) continue;
        expect(engine.merge(child, parent, area.iova, lastOf(area), area.hpa, perm)).toBe(L.STATUS_OK);
        expect(engine.leafRuns(child, 0n, 4n * size - 1n)).toEqual(leafRunsOf(wanted, sizes));
        expect(engine.unmap(child, 0n, 4n * size - 1n)).toBe(area.size);
      }
      engine.unmap(parent, 0n, 4n * size - 1n);
    }
  });
});

describe("leafRunsOf says what map writes, whatever the cap", () => {
  it.each(GEOMETRIES.map((geometry) => [geometry.name, geometry] as const))("%s", async (_name, geometry) => {
    const { engine, domain } = await fixture(geometry.options, { memory: { ram: 0, arena: 32 << 20 } });
    const sizes = pageSizesOf(geometry);
    fc.assert(fc.property(ranges(geometry), fc.constantFrom(...geometry.sizesLg2, undefined), (range, cap) => {
      const piece = cap === undefined ? range : { ...range, cap };
      if (!isSmall([piece], geometry, sizes)) return;
      expect(engine.map(domain, piece.iova, lastOf(piece), piece.hpa, piece.perm, cap)).toBe(L.STATUS_OK);
      try {
        expect(engine.leafRuns(domain, piece.iova, lastOf(piece))).toEqual(leafRunsOf([piece], sizes));
      } finally {
        engine.unmap(domain, piece.iova, lastOf(piece));
      }
    }), { numRuns: runs(10) });
  });
});
