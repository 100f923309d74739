// Two roots: bit 55 of an address chooses between two tables of a guest, each with its own granule, width and options
// (DDI 0487 D8.2). Every way of asking against the reference, cold and warm.
import fc from "fast-check";
import { describe, it } from "vitest";
import type { DomainOptions } from "../../src/engine/engine.js";
import { ARM_S1 } from "./geometries.js";
import { GuestTable } from "./guest-tables.js";
import { asked, NEEDS, placed, runs, spoil, spoils, withEachHighBit } from "./table-plans.js";
import { expectAnswers, expectWalk, withRoute, world } from "./walk-checks.js";

const RUNS = runs(4);
const BIT_55 = 1n << 55n;

const asHalf = (shape: DomainOptions, half: "zero" | "ones"): DomainOptions =>
  ({ ...shape, accessed: "ignore", rule: shape.rule?.endsWith("tbi") ? `${half}-tbi` : half });

describe.each(ARM_S1)("below: %s", (_lower, below) => {
  it.each(ARM_S1)("above: %s", async (_upper, above) => {
    const [low, high] = [asHalf(below, "zero"), asHalf(above, "ones")];
    const its = await world();
    const { engine, ram } = its;
    const plans = fc.tuple(...[low, high].map((shape) => fc.array(placed(shape), { minLength: 1, maxLength: 3 })));
    fc.assert(fc.property(plans, spoils(3), fc.nat(NEEDS.length - 1), ([lower, upper], bad, turn) => {
      ram.clear();
      const [first, second] = [new GuestTable(ram, low), new GuestTable(ram, high)];
      for (const { iova, mapping } of lower!) first.map(iova, mapping);
      for (const { iova, mapping } of upper!) second.map(iova, mapping);
      spoil(ram, [first, second], bad);
      withRoute(its, second, (index) => {
        withRoute(its, { options: { ...first.options, upper: index } }, (domain, route) => {
          const reference = { ...first.reference, upper: second.reference };
          const mapped = [...asked(low, lower!), ...asked(high, upper!)];
          const iovas = mapped.flatMap((iova) => [iova, iova ^ BIT_55]);
          const needs = [NEEDS[turn]!, NEEDS[(turn + 4) % NEEDS.length]!];
          for (const iova of iovas) for (const need of needs) expectWalk(engine, domain, reference, iova, need);
          expectAnswers(its, route, iovas, needs);
          expectAnswers(its, route, [...mapped, ...withEachHighBit(mapped[turn % mapped.length]!)], needs);
        });
      });
    }), { numRuns: RUNS });
  });
});
