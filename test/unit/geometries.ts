// Shapes of domains that the property tests of walks go through: every format, its levels and widths.
import type { DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";

export type Geometry = readonly [name: string, shape: DomainOptions];

const shape = (format: number, levels: number, width: number, more: Partial<DomainOptions> = {}): DomainOptions =>
  ({ format, levels, width, outputWidth: 52, ...more });

export const VTD: readonly Geometry[] = [
  ["VT-d second stage, 39 bits", shape(L.FORMAT_VTD_SECOND, 3, 39, { outputWidth: 39, reservedLeaf: 0x800n })],
  ["VT-d second stage, 48 bits", shape(L.FORMAT_VTD_SECOND, 4, 48, { outputWidth: 46 })],
  ["VT-d second stage, 57 bits", shape(L.FORMAT_VTD_SECOND, 5, 57)],
  ["VT-d second stage, 45 bits of 48", shape(L.FORMAT_VTD_SECOND, 4, 45)],
];

const XD = 1n << 63n;
export const X86: readonly Geometry[] = [
  ["x86-64, 48 bits", shape(L.FORMAT_X86_64, 4, 48, { rule: "sign" })],
  ["x86-64, 57 bits, write protect", shape(L.FORMAT_X86_64, 5, 57, { rule: "sign", options: L.OPTION_WRITE_PROTECT, outputWidth: 46 })],
  ["x86-64, 48 bits, execute-disable off", shape(L.FORMAT_X86_64, 4, 48, { rule: "sign", reservedLeaf: XD, reservedTable: XD })],
  ["x86-64, 47 bits without sign", shape(L.FORMAT_X86_64, 4, 47)],
];

export const AMD: readonly Geometry[] = [1, 2, 3, 4, 5, 6].map((levels) =>
  [`AMD v1, ${levels} levels`, shape(L.FORMAT_AMD_V1, levels, Math.min(64, 12 + 9 * levels), levels === 4 ? { outputWidth: 48 } : {})] as const);

const arm = (format: number, levels: number, width: number, more: Partial<DomainOptions> = {}): DomainOptions =>
  shape(format, levels, width, { outputWidth: 44, accessed: "fault", ...more });
export const ARM_S1: readonly Geometry[] = [
  ["Arm stage 1, 4 KiB, 48 bits", arm(L.FORMAT_ARM_S1_4K, 4, 48, { outputWidth: 48 })],
  ["Arm stage 1, 4 KiB, 39 bits, upper half", arm(L.FORMAT_ARM_S1_4K, 3, 39, { rule: "ones" })],
  ["Arm stage 1, 4 KiB, 33 bits, top byte ignored", arm(L.FORMAT_ARM_S1_4K, 3, 33, { rule: "zero-tbi", accessed: "ignore" })],
  ["Arm stage 1, 16 KiB, 48 bits", arm(L.FORMAT_ARM_S1_16K, 4, 48)],
  ["Arm stage 1, 16 KiB, 36 bits, upper half, top byte ignored", arm(L.FORMAT_ARM_S1_16K, 2, 36, { rule: "ones-tbi" })],
  ["Arm stage 1, 64 KiB, 48 bits", arm(L.FORMAT_ARM_S1_64K, 3, 48, { options: L.OPTION_IGNORE_TABLE_PERMISSIONS })],
  ["Arm stage 1, 64 KiB, 42 bits", arm(L.FORMAT_ARM_S1_64K, 2, 42, { outputWidth: 40 })],
];

export const ARM_S2: readonly Geometry[] = [
  ["Arm stage 2, 4 KiB, 44 bits", arm(L.FORMAT_ARM_S2_4K, 4, 44)],
  ["Arm stage 2, 4 KiB, 40 bits, two start tables", arm(L.FORMAT_ARM_S2_4K, 3, 40)],
  ["Arm stage 2, 4 KiB, 43 bits, sixteen start tables", arm(L.FORMAT_ARM_S2_4K, 3, 43, { accessed: "ignore" })],
  ["Arm stage 2, 16 KiB, 40 bits, sixteen start tables", arm(L.FORMAT_ARM_S2_16K, 2, 40)],
  ["Arm stage 2, 16 KiB, 44 bits", arm(L.FORMAT_ARM_S2_16K, 3, 44, { outputWidth: 40 })],
  ["Arm stage 2, 64 KiB, 44 bits", arm(L.FORMAT_ARM_S2_64K, 3, 44)],
];

export const MOCK: readonly Geometry[] = [
  ["mock, 1 level", shape(L.FORMAT_MOCK, 1, 16)],
  ["mock, 4 levels", shape(L.FORMAT_MOCK, 4, 28, { outputWidth: 40 })],
  ["mock, 6 levels", shape(L.FORMAT_MOCK, 6, 36)],
];

export const STAGE1: readonly Geometry[] = [...X86, ...ARM_S1];
export const STAGE2: readonly Geometry[] = [...VTD, ...AMD.slice(2), ...ARM_S2, ...MOCK.slice(1)];
export const ALL: readonly Geometry[] = [...VTD, ...X86, ...AMD, ...ARM_S1, ...ARM_S2, ...MOCK];
