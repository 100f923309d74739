// Golden values for the reference walker: every entry and every index below is worked out by hand from the manual.
// Arm DDI 0487 D8.2 to D8.5. Level 0 is the leaf table, the manual's level 3.
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import { decodeReference } from "../oracle/reference/formats.js";
import { marksOf } from "../oracle/reference/marks.js";
import type { ReferenceDomain, ReferenceRules } from "../oracle/reference/types.js";
import { walkReference } from "../oracle/reference/walk.js";
import { ROOT, tableOf } from "./reference-fixture.js";

type Words = Record<number, bigint>;
const arm = (format: number, levels: number, words: Words, more: Partial<ReferenceDomain> = {}): ReferenceDomain =>
  ({ ...tableOf(format, levels, words, 48), ...more });
const entry = (format: number, pte: bigint, level: number, more: Partial<ReferenceRules> = {}): unknown =>
  decodeReference({ format, outputWidth: 48, ...more }, pte, level);
const AF = 0x400n;
const reads = (table: ReferenceDomain, iova: bigint): unknown => {
  const { reason, level, found } = walkReference(table, iova);
  return found ? [found.hpa, found.leafLg2] : [reason, level];
};

describe("Armv8 granules and levels", () => {
  it("walks 4 KiB, 48 bits", () => {
    // 0x1234_5678_9abc: indices 0x24, 0xd1, 0xb3, 0x189.
    const table = arm(L.FORMAT_ARM_S1_4K, 4, { 0x10120: 0x20003n, 0x20688: 0x30003n, 0x30598: 0x40003n, 0x40c48: 0x5003n }, { width: 48 });
    expect(reads(table, 0x1234_5678_9abcn)).toEqual([0x5abcn, 12]);
  });

  it("walks 16 KiB, 47 bits in three levels below one of 11", () => {
    // 0x1234_5678_9abc: 46:36 = 0x123, 35:25 = 0x22b, 24:14 = 0x1e2, offset 0x1abc.
    const table = arm(L.FORMAT_ARM_S1_16K, 3, { 0x10918: 0x20003n, 0x21158: 0x30003n, 0x30f10: 0x50000n | 3n }, { width: 47 });
    expect(reads(table, 0x1234_5678_9abcn)).toEqual([0x51abcn, 14]);
  });

  it("walks 64 KiB, 48 bits, whose top table has 64 entries", () => {
    // 0x1234_5678_9abc: 47:42 = 4, 41:29 = 0x11a2, 28:16 = 0x1678, offset 0x9abc.
    const table = arm(L.FORMAT_ARM_S1_64K, 3, { 0x10020: 0x20003n, 0x28d10: 0x30003n, 0x3b3c0: 0x70003n }, { width: 48 });
    expect(reads(table, 0x1234_5678_9abcn)).toEqual([0x79abcn, 16]);
  });

  it.each([
    [L.FORMAT_ARM_S1_4K, 1, 21], [L.FORMAT_ARM_S1_4K, 2, 30], [L.FORMAT_ARM_S1_16K, 1, 25], [L.FORMAT_ARM_S1_64K, 1, 29],
    [L.FORMAT_ARM_S2_4K, 1, 21], [L.FORMAT_ARM_S2_4K, 2, 30], [L.FORMAT_ARM_S2_16K, 1, 25], [L.FORMAT_ARM_S2_64K, 1, 29],
  ])("format %i has blocks at level %i of 2^%i", (format, level, lg2) => {
    const address = 3n << BigInt(lg2);
    expect(entry(format, address | 1n, level)).toMatchObject({ kind: "leaf", address, lg2 });
    expect(entry(format, address | (1n << BigInt(lg2 - 1)) | 1n, level)).toMatchObject({ kind: "leaf", address, lg2 });
  });

  it.each([
    [L.FORMAT_ARM_S1_4K, 3], [L.FORMAT_ARM_S1_16K, 2], [L.FORMAT_ARM_S1_16K, 3], [L.FORMAT_ARM_S1_64K, 2], [L.FORMAT_ARM_S1_4K, 0], [L.FORMAT_ARM_S2_64K, 0],
  ])("format %i has none at level %i", (format, level) => expect(entry(format, 1n, level)).toEqual({ kind: "empty" }));

  it("chooses among sixteen start tables of stage 2", () => {
    // 43 bits from level 2 (ours): 42:39 choose the table, 38:30 its entry: 0x7_c0 << 30 is table 3, entry 0x1c0.
    const table = arm(L.FORMAT_ARM_S2_4K, 3, { 0x13e00: 0x4000_0401n | 0xc0n }, { width: 43 });
    expect(reads(table, 0x1f0_1234_5678n)).toEqual([0x5234_5678n, 30]);
    expect(reads(table, 0x7ff_ffff_ffffn)).toEqual(["not-present", 2]);
    expect(reads(table, 0x800_0000_0000n)).toEqual(["address-width", 2]);
  });

  it("tells addresses beyond the output size from absent ones", () => {
    expect(entry(L.FORMAT_ARM_S1_4K, 0x1000_0000_0003n, 0, { outputWidth: 44 })).toEqual({ kind: "address-size" });
    expect(entry(L.FORMAT_ARM_S1_4K, 0x1000_0000_0003n, 2, { outputWidth: 44 })).toEqual({ kind: "address-size" });
    expect(entry(L.FORMAT_ARM_S1_4K, 0x1000_0000_0002n, 2, { outputWidth: 44 })).toEqual({ kind: "empty" });
  });
});

describe("Armv8 halves and ignored top bytes", () => {
  const upper = arm(L.FORMAT_ARM_S1_4K, 3, { 0x50ff8: 0x60003n, 0x60ff8: 0x70003n, 0x70ff8: 0x9003n }, { width: 39, rule: "ones", root: 0x50000n });
  const lower = arm(L.FORMAT_ARM_S1_4K, 3, { 0x10000: 0x20003n, 0x20000: 0x30003n, 0x30000: 0x8003n }, { width: 39, upper });

  it("takes the upper half's table for addresses that are all ones above its width", () => {
    expect(reads(lower, 0x123n)).toEqual([0x8123n, 12]);
    expect(reads(lower, 0xffff_ffff_ffff_f123n)).toEqual([0x9123n, 12]);
    expect(reads(lower, 0xfeff_ffff_ffff_f123n)).toEqual(["address-width", 2]);
    expect(reads(lower, 0xffff_ff7f_ffff_f123n)).toEqual(["address-width", 2]);
    expect(reads(lower, 0x8000_0000_0000_0123n)).toEqual(["address-width", 2]);
  });

  it("ignores bits 63:56 where told to, and chooses by bit 55 all the same", () => {
    const table = { ...lower, rule: "zero-tbi" as const, upper: { ...upper, rule: "ones-tbi" as const } };
    expect(reads(table, 0xab00_0000_0000_0123n)).toEqual([0x8123n, 12]);
    expect(reads(table, 0xabff_ffff_ffff_f123n)).toEqual([0x9123n, 12]);
    expect(reads(table, 0x80_0000_0000_0123n)).toEqual(["address-width", 2]);
  });
});

describe("Armv8 stage 1 permissions", () => {
  const [UXN, PXN] = [1n << 54n, 1n << 53n];
  const path = (table: bigint, leaf: bigint, options = 0): number =>
    walkReference(arm(L.FORMAT_ARM_S1_4K, 2, { 0x10000: 0x20003n | table, 0x20000: 0x7003n | leaf }, { options }), 0n).found!.perm;

  it.each([
    // AP[2:1]: privileged alone, both, privileged read-only, both read-only. What users may write, privileged code may not execute.
    ["00", 0n, 0x74], ["01", 0x40n, 0x37], ["10", 0x80n, 0x54], ["11", 0xc0n, 0x55],
    ["11 UXN", 0xc0n | UXN, 0x51], ["11 PXN", 0xc0n | PXN, 0x15], ["01 PXN", 0x40n | PXN, 0x37], ["00 UXN PXN", UXN | PXN, 0x30],
  ])("AP %s", (_name, leaf, perm) => expect(path(0n, leaf)).toBe(perm));

  it.each([
    ["APTable[0]", 1n << 61n, 0x40n, 0x74], ["APTable[1]", 1n << 62n, 0x40n, 0x55], ["UXNTable", 1n << 60n, 0xc0n, 0x51],
    ["PXNTable", 1n << 59n, 0xc0n, 0x15],
  ])("%s takes away below, unless it is disabled", (_name, table, leaf, perm) => {
    expect(path(table, leaf)).toBe(perm);
    expect(path(table, leaf, L.OPTION_IGNORE_TABLE_PERMISSIONS)).toBe(path(0n, leaf));
  });

  it("gives the access flag priority over permissions, and absence and size over both", () => {
    const table = arm(L.FORMAT_ARM_S1_4K, 1, { 0x10000: 0x7083n, 0x10008: 0x7483n, 0x10010: 0x1000_0000_0003n }, { accessed: "fault", outputWidth: 44 });
    expect(walkReference(table, 0n, L.PERM_W << 4)).toMatchObject({ reason: "access-flag", level: 0 });
    expect(walkReference(table, 0x1000n, L.PERM_W << 4)).toMatchObject({ reason: "write-denied" });
    expect(walkReference(table, 0x1000n, L.PERM_R << 4)).toMatchObject({ reason: "none" });
    expect(walkReference(table, 0x2000n, L.PERM_R << 4)).toMatchObject({ reason: "address-size" });
  });
});

describe("Armv8 stage 2 permissions and dirty state", () => {
  it.each([[0x3n, 0x44], [0x43n, 0x55], [0x83n, 0x66], [0xc3n, 0x77], [0xc3n | (2n << 53n), 0x33], [0xc3n | (1n << 53n), 0x37], [0xc3n | (3n << 53n), 0x73]])("of %s are %s", (pte, perm) => {
    expect(entry(L.FORMAT_ARM_S2_4K, pte, 0)).toMatchObject({ kind: "leaf", perm });
  });

  it("DBM makes a page writable where hardware manages the dirty state, and the write says so in AP[2] or S2AP[1]", () => {
    const DBM = 1n << 51n;
    const managed = { accessed: "set", dirty: "set" } as const;
    const first = arm(L.FORMAT_ARM_S1_4K, 1, { 0x10000: 0x70c3n | DBM }, managed);
    expect([...marksOf(first, 0n, L.PERM_R)]).toEqual([[ROOT, 0x70c3n | DBM | AF]]);
    expect([...marksOf(first, 0n, L.PERM_W)]).toEqual([[ROOT, 0x7043n | DBM | AF]]);
    expect(walkReference(arm(L.FORMAT_ARM_S1_4K, 1, { 0x10000: 0x70c3n | DBM }), 0n, L.PERM_W).reason).toBe("write-denied");
    const second = arm(L.FORMAT_ARM_S2_4K, 2, { 0x10000: 0x20003n, 0x20000: 0x7043n | DBM }, managed);
    expect([...marksOf(second, 0n, L.PERM_W)]).toEqual([[0x20000n, 0x70c3n | DBM | AF]]);
  });
});

describe("two stages", () => {
  // Stage 2 maps 0..0xffff to 0x80_0000 on, page by page: entry n of its leaf table. Stage 1 has its table at 0x1000.
  const stage2 = (words: Words): ReferenceDomain => tableOf(L.FORMAT_VTD_SECOND, 3, { 0x10000: 0x20003n, 0x20000: 0x30003n, ...words });
  const both = (guest: Words, words: Words): ReferenceDomain => ({
    ...tableOf(L.FORMAT_X86_64, 4, guest), rule: "sign", root: 0x1000n, stage2: stage2(words),
  });
  const good: Words = { 0x30008: 0x80_1003n, 0x30010: 0x80_2003n, 0x30018: 0x80_3003n, 0x30020: 0x80_4003n, 0x30028: 0x80_5001n };
  const guest: Words = { 0x80_1000: 0x2007n, 0x80_2000: 0x3007n, 0x80_3000: 0x4007n, 0x80_4000: 0x5007n, 0x80_4008: 0x6007n };

  it("translates the address of every entry and the output", () => {
    const walk = walkReference(both(guest, good), 0x123n, L.PERM_R);
    expect(walk).toMatchObject({ reason: "none", ipa: 0n, found: { hpa: 0x80_5123n, oa: 0x5123n, leafLg2: 12, perm: 0x11 } });
    expect(walk.steps.map(({ stage, level }) => `${stage}.${level}`).join(" ")).toBe(
      "2.2 2.1 2.0 1.3 2.2 2.1 2.0 1.2 2.2 2.1 2.0 1.1 2.2 2.1 2.0 1.0 2.2 2.1 2.0",
    );
    expect(walk.steps.filter(({ stage }) => stage === 1).map(({ address, at }) => [address, at])).toEqual([
      [0x1000n, 0x80_1000n], [0x2000n, 0x80_2000n], [0x3000n, 0x80_3000n], [0x4000n, 0x80_4000n],
    ]);
  });

  it("names the stage that refuses, and what stage 2 was asked", () => {
    expect(walkReference(both(guest, good), 0x123n, L.PERM_W)).toMatchObject({ reason: "write-denied", stage: 2, class: "input", ipa: 0x5123n });
    expect(walkReference(both(guest, good), 0x1123n, L.PERM_R)).toMatchObject({ reason: "not-present", stage: 2, class: "input", level: 0, ipa: 0x6123n });
    expect(walkReference(both(guest, good), 0x2123n, L.PERM_R)).toMatchObject({ reason: "not-present", stage: 1, class: "input", ipa: 0n });
    expect(walkReference(both(guest, { ...good, 0x30018: 0x80_3002n }), 0x123n, L.PERM_R)).toMatchObject({
      reason: "read-denied", stage: 2, class: "table", ipa: 0x3000n,
    });
  });
});
