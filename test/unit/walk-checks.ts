// The exact walk against the reference, field by field.
import { expect } from "vitest";
import type { Engine } from "../../src/engine/engine.js";
import type { ReferenceDomain } from "../oracle/reference/types.js";
import { walkReference } from "../oracle/reference/walk.js";

/** Reason, stage, class, level and ipa always; address, size and permissions where a translation exists; every step. */
export function expectWalk(engine: Engine, domain: number, table: ReferenceDomain, iova: bigint, need: number): void {
  const walk = engine.walk(domain, iova, need);
  const wanted = walkReference(table, iova, need);
  const { found } = wanted;
  const shown = {
    iova: iova.toString(16), need, reason: walk.reason, stage: walk.stage, class: walk.class, level: walk.level, ipa: walk.ipa,
    steps: walk.steps.map(({ stage, level, address, pte }) => ({ stage, level, address, pte })),
    ...(found ? { hpa: walk.hpa, leafLg2: walk.leafLg2, perm: walk.perm } : {}),
  };
  expect(shown).toEqual({
    iova: iova.toString(16), need, reason: wanted.reason, stage: wanted.stage, class: wanted.class, level: wanted.level, ipa: wanted.ipa,
    steps: wanted.steps.map(({ stage, level, address, pte }) => ({ stage, level, address, pte })),
    ...(found ? { hpa: found.hpa, leafLg2: found.leafLg2, perm: found.perm } : {}),
  });
}
