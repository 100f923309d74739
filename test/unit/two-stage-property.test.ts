// Any stage 1 over any stage 2, tables of both good and hostile: the exact walker, the scalar call and the batch against the
// reference, cold and warm.
import fc from "fast-check";
import { describe, it } from "vitest";
import { STAGE1, STAGE2 } from "./geometries.js";
import { asked, NEEDS, runs, withEachHighBit } from "./table-plans.js";
import { stagesPlan, withStages } from "./two-stages.js";
import { expectAnswers, expectWalk, world } from "./walk-checks.js";

const RUNS = runs(2);

describe.each(STAGE1)("%s", (_first, first) => {
  describe.each([["good", 0], ["hostile", 6]])("%s tables", (_kind, most) => {
    it.each(STAGE2)("over %s", async (_second, second) => {
      const its = await world();
      const stages = { first, second };
      fc.assert(fc.property(stagesPlan(stages, most), fc.nat(NEEDS.length - 1), (plan, turn) => {
        withStages(its, stages, plan, (domain, route, above) => {
          const iovas = asked(first, plan.above);
          const needs = [NEEDS[turn]!, NEEDS[(turn + 4) % NEEDS.length]!];
          for (const iova of iovas) for (const need of NEEDS) expectWalk(its.engine, domain, above.reference, iova, need);
          expectAnswers(its, route, iovas, needs);
          const near = withEachHighBit(iovas[turn % iovas.length]!);
          expectAnswers(its, route, [...iovas, ...near], needs);
        });
      }), { numRuns: RUNS });
    });
  });
});
