// Accessed and dirty bits in random tables of every format, in one stage and in two: an access changes the words that the
// reference says, before it is answered, and no others. Warm as well: what a port cached must not hide the first write.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DomainOptions } from "../../src/engine/engine.js";
import { PERM_R, PERM_W } from "../../src/engine/layout.js";
import { marksOf } from "../oracle/reference/marks.js";
import type { ReferenceDomain } from "../oracle/reference/types.js";
import { walkReference } from "../oracle/reference/walk.js";
import { askOne } from "./engine-fixture.js";
import { ALL, STAGE1, STAGE2 } from "./geometries.js";
import { GuestTable } from "./guest-tables.js";
import { asked, placed, runs, spoil, spoils } from "./table-plans.js";
import { stagesPlan, withStages } from "./two-stages.js";
import { withRoute, world, type World } from "./walk-checks.js";

const recording = (shape: DomainOptions): DomainOptions => ({ ...shape, accessed: "set", dirty: "set" });
const NEEDS = [PERM_R, PERM_W, PERM_W << 4, PERM_R];

/** Does stage 2 keep an entry of stage 1 that this access marks from being written? */
function isKept(table: ReferenceDomain, iova: bigint, need: number, marks: ReadonlyMap<bigint, bigint>): boolean {
  const { stage2 } = table;
  if (!stage2) return false;
  const written = walkReference(table, iova, need).steps.filter(({ stage, at }) => stage === 1 && marks.has(at));
  return written.some(({ address }) => walkReference(stage2, address, PERM_W).reason !== "none");
}

function expectMarks({ port, ram }: World, table: ReferenceDomain, route: number, iova: bigint, need: number): void {
  const before = ram.snapshot();
  const wanted = marksOf(table, iova, need);
  const { reason, found } = walkReference(table, iova, need);
  const kept = isKept(table, iova, need, wanted);
  const answer = askOne(port, route, iova, need);
  const changes = ram.changes(before);
  const shown = { iova: iova.toString(16), need };
  if (!kept) {
    expect({ ...shown, ...(reason === "none" ? { hpa: answer.hpa } : answer), changes })
      .toEqual({ ...shown, ...(reason === "none" ? { hpa: found!.hpa } : { fault: reason }), changes: wanted });
    return;
  }
  expect(answer.fault).toBeDefined();
  // Entries before the one that could not be written may have been marked already.
  for (const [at, pte] of changes) expect({ ...shown, at, pte }).toEqual({ ...shown, at, pte: wanted.get(at) });
}

describe("in one stage", () => {
  it.each(ALL)("%s", async (_name, plain) => {
    const shape = recording(plain);
    const its = await world();
    fc.assert(fc.property(fc.array(placed(shape), { minLength: 1, maxLength: 6 }), spoils(3), (mappings, bad) => {
      its.ram.clear();
      const table = new GuestTable(its.ram, shape);
      for (const { iova, mapping } of mappings) table.map(iova, mapping);
      spoil(its.ram, [table], bad);
      withRoute(its, table, (_domain, route) => {
        for (const iova of asked(shape, mappings)) for (const need of NEEDS) expectMarks(its, table.reference, route, iova, need);
      });
    }), { numRuns: runs(8) });
  });
});

describe.each(STAGE1)("%s", (_first, above) => {
  it.each(STAGE2)("over %s", async (_second, below) => {
    const stages = { first: recording(above), second: recording(below) };
    const its = await world();
    fc.assert(fc.property(stagesPlan(stages, 0), (plan) => {
      withStages(its, stages, plan, (_domain, route, table) => {
        for (const iova of asked(above, plan.above)) for (const need of NEEDS) expectMarks(its, table.reference, route, iova, need);
      });
    }), { numRuns: runs(2) });
  });
});
