// The short form of npm run stress.
import { expect, it } from "vitest";
import { stress } from "../stress/stress.mjs";

it("readers find no page that was unmapped, whatever is unmapped, moved, flushed and numbered afresh beside them", async () => {
  const run = await stress({ unmaps: 2000, threads: 2, seed: 3 });
  expect(run.stale).toBe(0);
  expect(run.uses).toBeGreaterThan(10_000);
  expect(run.unmaps).toBe(2000);
  expect(run.framesLimbo).toBe(0);
  expect(run.renumbered).toBeGreaterThan(2);
});

it.each(["no-wait", "no-invalidation"] as const)("a reader that breaks the rule (%s) is found out", async (control) => {
  const run = await stress({ unmaps: 200_000, threads: 2, seed: 3, control, enough: 1 });
  expect(run.stale).toBeGreaterThan(0);
});
