// Trees of spaces up to depth 4, several children each, three devices of which two share a group: after every step of a random
// history all tables, all DMA, routes, charges and dirty pages are what the model says, and refused calls have changed nothing.
import fc from "fast-check";
import { describe, it } from "vitest";
import { MACHINES, plans } from "./space-tree-plans.js";
import { TreeWorld } from "./space-tree-world.js";
import { runs } from "./table-plans.js";

describe.each(MACHINES.map((machine) => [machine.name, machine] as const))("%s", (_name, machine) => {
  it("translates for every space and device as the two maps, one after the other, do", async () => {
    await fc.assert(fc.asyncProperty(plans(machine), async (plan) => {
      const world = await TreeWorld.create(machine);
      world.play(plan);
    }), { numRuns: runs(12) });
  });
});
