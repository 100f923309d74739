// Random histories of a tree of spaces, as fast-check plans, and the machines on which they are played. A step names spaces and
// addresses by place, so that every plan, and every part of one, can be played. Sizes and addresses are in 4-KiB pages.
import fc from "fast-check";
import { PERM_R, PERM_W } from "../../src/engine/layout.js";
import type { GuestTableFormat } from "../../src/iommu/guest-table.js";
import type { IommuOptions } from "../../src/iommu/model.js";

export interface Machine {
  readonly name: string;
  readonly iommu: IommuOptions;
  /** Pages of the smallest page and of a large leaf. */
  readonly unit: number;
  readonly large: number;
  /** A guest's table of 4 levels and 4-KiB pages; whether this IOMMU walks it. */
  readonly guest: GuestTableFormat;
  readonly nests: boolean;
  readonly tracks: boolean;
  readonly writeOnly: boolean;
}

const X86: GuestTableFormat = { kind: "x86-64", levels: 4 };
const ARM: GuestTableFormat = { kind: "aarch64-stage1", granule: 4096, inputWidth: 48 };
const SMALL = { unit: 1, large: 512 };

export const MACHINES: readonly Machine[] = [
  { name: "VT-d, legacy", iommu: { preset: "vtd" }, ...SMALL, guest: X86, nests: false, tracks: false, writeOnly: true },
  { name: "VT-d, second stage", iommu: { preset: "vtd-scalable", stage: 2 }, ...SMALL, guest: X86, nests: true, tracks: true, writeOnly: true },
  { name: "VT-d, first stage", iommu: { preset: "vtd-scalable", stage: 1 }, ...SMALL, guest: X86, nests: false, tracks: true, writeOnly: false },
  { name: "SMMUv3, stage 2, 4 KiB", iommu: { preset: "smmuv3", stage: 2 }, ...SMALL, guest: ARM, nests: true, tracks: true, writeOnly: true },
  {
    name: "SMMUv3, stage 2, 16 KiB", iommu: { preset: "smmuv3", stage: 2, granule: 16384 }, unit: 4, large: 8192, guest: ARM, nests: true,
    tracks: true, writeOnly: true,
  },
  { name: "AMD-Vi", iommu: { preset: "amd" }, ...SMALL, guest: X86, nests: true, tracks: true, writeOnly: true },
];

/** Which of a list that is only known when the step is played; `wild`: of everything, not only of what would make sense. */
interface Pick {
  readonly pick: number;
  readonly wild: boolean;
}

interface Span {
  /** Index into `spots` and `sizes`. */
  readonly at: number;
  readonly size: number;
}

/** What follows a guest's change of its table. */
export type Told = "nothing" | "range" | "all";

export type Step =
  | { readonly kind: "alloc"; readonly parent: number; readonly dry: boolean }
  | { readonly kind: "free"; readonly space: number }
  | { readonly kind: "map"; readonly space: number; readonly to: number; readonly perm: number; readonly dry: boolean } & Span
  | { readonly kind: "map-tables"; readonly space: number }
  | { readonly kind: "unmap"; readonly space: number; readonly which: number; readonly how: "area" | "span" | "all" } & Span
  | { readonly kind: "remap"; readonly space: number; readonly which: number; readonly perm: number }
  | { readonly kind: "attach" | "detach"; readonly device: number; readonly dry: boolean } & Pick
  | { readonly kind: "bind"; readonly dry: boolean } & Pick
  | { readonly kind: "unbind" } & Pick
  | { readonly kind: "guest"; readonly slot: number; readonly to: number; readonly perm: number; readonly told: Told } & Pick
  | { readonly kind: "track"; readonly space: number; readonly on: boolean }
  | { readonly kind: "dirty"; readonly clear: boolean } & Pick & Span
  | { readonly kind: "write"; readonly device: number; readonly pick: number };

export interface Plan {
  /** Depth of a chain of spaces that is there before the first step, each mapped whole to the one above; 0: none. */
  readonly depth: number;
  /**
   * Perm of each map of the chain, where it begins, and by how much its two addresses differ: one way in a parent and the other
   * way in its child, so that leaves could be large below that are small above.
   */
  readonly chain: readonly { readonly perm: number; readonly shift: number; readonly skew: number; readonly size: number }[];
  /** Bit n: the nth of them tracks writes. */
  readonly tracked: number;
  /** Whether the last one has a child with a guest's table, to which the devices are attached too. */
  readonly bound: boolean;
  readonly steps: readonly Step[];
}

/** Where things are in a space: at its beginning, and around the borders of large leaves. Guests' tables are at TABLES_AT. */
export function spots({ unit, large }: Machine): number[] {
  return [0, 1, 2, 3].map((n) => n * unit).concat([large - unit, large, large + unit, 2 * large - unit, 2 * large, 3 * large]);
}

export function sizes({ unit, large }: Machine): number[] {
  return [unit, unit, 2 * unit, 3 * unit, large - unit, large, large + unit, 2 * large];
}

export const TABLES_AT = 64;
export const TABLE_PAGES = 8;

const RW = PERM_R | PERM_W;
const nat = fc.nat(23);
const perm = fc.constantFrom(RW, RW, RW, PERM_R, PERM_R, PERM_W);
const dry = fc.nat(4).map((n) => n === 0);
const span = { at: fc.nat(9), size: fc.nat(7) };
const pick = { pick: nat, wild: fc.nat(5).map((n) => n === 0) };
const kind = <K extends Step["kind"]>(...kinds: K[]): fc.Arbitrary<K> => fc.constantFrom(...kinds);

function step({ nests, tracks }: Machine): fc.Arbitrary<Step> {
  const bound: fc.WeightedArbitrary<Step>[] = [
    { weight: 3, arbitrary: fc.record({ kind: kind("map-tables"), space: nat }) },
    { weight: 3, arbitrary: fc.record({ kind: kind("bind"), ...pick, dry }) },
    { weight: 1, arbitrary: fc.record({ kind: kind("unbind"), ...pick }) },
    {
      weight: 6,
      arbitrary: fc.record({ kind: kind("guest"), slot: fc.nat(8), to: fc.nat(9), perm: fc.constantFrom(RW, RW, PERM_R, 0), told: fc.constantFrom<Told>("nothing", "range", "all"), ...pick }),
    },
  ];
  const dirty: fc.WeightedArbitrary<Step>[] = [
    { weight: 2, arbitrary: fc.record({ kind: kind("track"), space: nat, on: fc.nat(2).map((n) => n > 0) }) },
    { weight: 5, arbitrary: fc.record({ kind: kind("dirty"), ...pick, ...span, clear: fc.boolean() }) },
    { weight: 8, arbitrary: fc.record({ kind: kind("write"), device: nat, pick: fc.nat() }) },
  ];
  return fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: kind("alloc"), parent: nat, dry }) },
    { weight: 1, arbitrary: fc.record({ kind: kind("free"), space: nat }) },
    { weight: 9, arbitrary: fc.record({ kind: kind("map"), space: nat, ...span, to: fc.nat(13), perm, dry }) },
    { weight: 5, arbitrary: fc.record({ kind: kind("unmap"), space: nat, which: nat, how: fc.nat(9).map((n) => (n < 7 ? "area" : n < 9 ? "span" : "all")), ...span }) },
    { weight: 4, arbitrary: fc.record({ kind: kind("remap"), space: nat, which: nat, perm }) },
    { weight: 6, arbitrary: fc.record({ kind: kind("attach"), device: nat, ...pick, dry }) },
    { weight: 3, arbitrary: fc.record({ kind: kind("detach"), device: nat, ...pick, dry: fc.constant(false) }) },
    // What this IOMMU has not is asked for too, but seldom.
    ...(nests ? bound : bound.slice(1, 2).map((one) => ({ ...one, weight: 1 }))),
    ...(tracks ? dirty : dirty.slice(0, 1).map((one) => ({ ...one, weight: 1 }))),
  );
}

export function plans(machine: Machine): fc.Arbitrary<Plan> {
  return fc.record({
    depth: fc.nat(4),
    chain: fc.array(fc.record({ perm: fc.constantFrom(RW, RW, RW, PERM_R), shift: fc.constantFrom(0, 0, 1, 2), skew: fc.constantFrom(0, 0, 1), size: fc.nat(3) }), { minLength: 4, maxLength: 4 }),
    tracked: fc.oneof(fc.constant(0), fc.nat(15)), bound: fc.boolean(), steps: fc.array(step(machine), { maxLength: 40, size: "max" }),
  });
}
