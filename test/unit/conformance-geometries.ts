// Every format in every geometry that the conformance suite runs, with what the manuals say of it: page, bits a level, leaf
// sizes, permissions. Nothing here asks the engine. Ranges are first..last, inclusive.
import type { DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";

export interface Geometry {
  readonly name: string;
  /** The row of the conformance table. */
  readonly family: string;
  readonly options: DomainOptions;
  /** Log2 of the page, of the entries of a table, and of every leaf size, ascending. */
  readonly pageLg2: number;
  readonly tableLg2: number;
  readonly sizesLg2: readonly number[];
  /** What a leaf can say: L.PERM_*. */
  readonly perms: readonly number[];
  /** Where iovas may lie. */
  readonly regions: readonly { first: bigint; last: bigint }[];
}

const { PERM_R: R, PERM_W: W, PERM_X: X } = L;
const READABLE = [R, R | W, R | X, R | W | X];
const ANY_DATA = [R, W, R | W];
const ANY = [R, W, X, R | W, R | X, W | X, R | W | X];

/** 0..2^width - 1, or its two canonical halves. */
function regions({ width, rule }: DomainOptions): Geometry["regions"] {
  if (rule !== "sign") return [{ first: 0n, last: (1n << BigInt(width)) - 1n }];
  const half = 1n << BigInt(width - 1);
  return [{ first: 0n, last: half - 1n }, { first: (1n << 64n) - half, last: (1n << 64n) - 1n }];
}

function intel(family: string, format: number, perms: readonly number[], shapes: readonly Partial<DomainOptions>[]): Geometry[] {
  return shapes.map((shape) => {
    const options: DomainOptions = { format, levels: 4, width: 48, outputWidth: 52, ...shape };
    const signed = options.rule === "sign" ? " signed" : "";
    return {
      name: `${family}, ${options.levels} levels, ${options.width}${signed} bits to ${options.outputWidth}`, family, options,
      pageLg2: 12, tableLg2: 9, sizesLg2: [12, 21, 30], perms, regions: regions(options),
    };
  });
}

/** Powers of two from a page up: what a table of `levels` can hold half of, at most 2^51, never 2^39 (an erratum). */
function amd(levels: number, width: number): Geometry {
  const most = Math.min(12 + 9 * levels - 1, 51, width - 1);
  const sizesLg2 = Array.from({ length: most - 11 }, (_, i) => i + 12).filter((lg2) => lg2 !== 39);
  const options: DomainOptions = { format: L.FORMAT_AMD_V1, levels, width, outputWidth: 52 };
  return { name: `AMD v1, ${levels} levels, ${width} bits`, family: "AMD v1", options, pageLg2: 12, tableLg2: 9, sizesLg2, perms: ANY_DATA, regions: regions(options) };
}

/** 16 entries a table; leaves of 1, 2, 4 or 8 entries at levels 0 to 3. */
function mock(levels: number): Geometry {
  const width = 12 + 4 * levels;
  const sizesLg2 = Array.from({ length: 4 * Math.min(levels, 4) }, (_, i) => 12 + i);
  const options: DomainOptions = { format: L.FORMAT_MOCK, levels, width, outputWidth: 40 };
  return { name: `mock, ${levels} levels`, family: "mock", options, pageLg2: 12, tableLg2: 4, sizesLg2, perms: ANY, regions: regions(options) };
}

const GRANULES = [
  { name: "4K", lg2: 12, sizesLg2: [12, 21, 30], formats: [L.FORMAT_ARM_S1_4K, L.FORMAT_ARM_S2_4K] },
  { name: "16K", lg2: 14, sizesLg2: [14, 25], formats: [L.FORMAT_ARM_S1_16K, L.FORMAT_ARM_S2_16K] },
  { name: "64K", lg2: 16, sizesLg2: [16, 29], formats: [L.FORMAT_ARM_S1_64K, L.FORMAT_ARM_S2_64K] },
];

/** Input and output widths of the kernel's own Arm self-test: each pair with input <= output. */
const WIDTHS = [32, 36, 40, 42, 44, 48];

function arm(stage: 1 | 2): Geometry[] {
  return GRANULES.flatMap(({ name, lg2, sizesLg2, formats }) => WIDTHS.flatMap((width) => WIDTHS.filter((out) => out >= width).map((outputWidth) => {
    // Up to 16 start tables side by side in stage 2 (Arm ARM D8.2.2).
    const levels = Math.ceil((width - lg2 - (stage === 2 ? 4 : 0)) / (lg2 - 3));
    const options: DomainOptions = { format: formats[stage - 1]!, levels, width, outputWidth };
    const family = `Arm stage ${stage}, ${name}`;
    return {
      name: `${family}, ${levels} levels, ${width} bits to ${outputWidth}`, family, options, pageLg2: lg2, tableLg2: lg2 - 3,
      // A block needs a table above the pages, and an input space to lie in.
      sizesLg2: sizesLg2.filter((size, i) => i < levels && size < width), perms: stage === 1 ? READABLE : ANY, regions: regions(options),
    };
  })));
}

export const GEOMETRIES: readonly Geometry[] = [
  ...intel("VT-d second stage", L.FORMAT_VTD_SECOND, ANY_DATA, [
    { levels: 3, width: 39 }, { levels: 4, width: 48 }, { levels: 5, width: 57 }, { levels: 4, width: 46, outputWidth: 46 },
  ]),
  ...intel("x86-64", L.FORMAT_X86_64, READABLE, [
    { rule: "sign" }, { rule: "sign", levels: 5, width: 57 }, { width: 47 }, { levels: 5, width: 56 }, { outputWidth: 46 },
  ]),
  ...[21, 30, 39, 48, 57, 64].map((width, i) => amd(i + 1, width)), amd(3, 32),
  ...arm(1), ...arm(2),
  ...[1, 2, 3, 4, 5, 6].map(mock),
];
