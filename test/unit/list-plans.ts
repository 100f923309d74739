// Plans of lists for tests: maps that ascend, with gaps and lengths around the borders of tables, in every format. Ranges are first..last,
// inclusive.
import fc from "fast-check";
import type { DomainOptions, LeafRun } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { R, RW } from "./engine-fixture.js";
import { ALL } from "./geometries.js";

/** A leaf of any size. */
export const ANY = 63;
const PAGE_LG2: Readonly<Record<number, number>> = {
  [L.FORMAT_ARM_S1_16K]: 14, [L.FORMAT_ARM_S2_16K]: 14, [L.FORMAT_ARM_S1_64K]: 16, [L.FORMAT_ARM_S2_64K]: 16,
};

/** Pages of a shape, and its lowest address. */
export function spaceOf({ format, width, rule = "zero" }: DomainOptions): { page: bigint; pages: number; base: bigint } {
  const lg2 = PAGE_LG2[format] ?? 12;
  const base = rule.startsWith("ones") ? (1n << 64n) - (1n << BigInt(width)) : 0n;
  return { page: 1n << BigInt(lg2), pages: Math.min(2 ** 28, 2 ** (width - lg2 - (rule === "sign" ? 1 : 0))), base };
}

export interface Step {
  gap: number;
  pages: number;
  out: number;
  perm: number;
  lg2: number;
}

/** Gaps and lengths that stay in a table, end with it, or go over several. */
export const steps = fc.array(fc.record({
  gap: fc.oneof(fc.constantFrom(0, 0, 1, 2, 511, 512), fc.nat(40), fc.nat(5000)),
  pages: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 20 }) }, { weight: 2, arbitrary: fc.constantFrom(16, 32, 511, 512, 513, 1024) }, fc.nat(3000).map((n) => n + 1)),
  out: fc.oneof(fc.nat(1 << 18), fc.nat(255).map((n) => n * 512), fc.nat(4000).map((n) => n * 16)), perm: fc.constantFrom(R, RW), lg2: fc.constantFrom(ANY, ANY, ANY, 16, 21),
}), { minLength: 1, maxLength: 30 });

/** The maps that these steps make: ascending, as far as there is space. */
export function mapsOf(shape: DomainOptions, plan: readonly Step[], start: number): LeafRun[] {
  const { page, pages, base } = spaceOf(shape);
  const maps: LeafRun[] = [];
  let at = start % pages;
  for (const step of plan) {
    const count = Math.min(step.pages, Math.max(1, pages >> 2));
    at += step.gap;
    if (at + count > pages) break;
    const first = base + BigInt(at) * page;
    maps.push({ first, last: first + BigInt(count) * page - 1n, hpa: BigInt(step.out) * page, perm: step.perm, lg2: Math.max(step.lg2, 16) });
    at += count;
  }
  return maps;
}

/** Leaves of the kernel's need all bits that they have. */
export const OWN = ALL.filter(([, { reservedLeaf = 0n }]) => reservedLeaf >> 63n === 0n);
