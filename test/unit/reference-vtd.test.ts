// Golden values for the reference walker: every entry and every index below is worked out by hand from the manual.
// VT-d 3.7 and 9.8 (second-stage entries). Level 0 is the leaf table.
import { describe, expect, it } from "vitest";
import { FORMAT_VTD_SECOND } from "../../src/engine/layout.js";
import { decodeReference } from "../oracle/reference/formats.js";
import { leafIsDirty } from "../oracle/reference/marks.js";
import type { ReferenceDomain } from "../oracle/reference/types.js";
import { walkReference } from "../oracle/reference/walk.js";
import { entryOf, R, RW, tableOf, W, walked } from "./reference-fixture.js";

const vtd = (levels: number, words: Record<number, bigint>): ReferenceDomain => tableOf(FORMAT_VTD_SECOND, levels, words);
const vtdEntry = (pte: bigint, level: number, outputWidth = 52): unknown => entryOf({ format: FORMAT_VTD_SECOND, outputWidth }, pte, level);

describe("VT-d second stage, 3.7: levels", () => {
  it("walks three levels to a 4 KiB page", () => {
    // 0x12_3456_7abc: indices 0x48, 0x1a2, 0x167, offset 0xabc.
    const table = vtd(3, { 0x10240: 0x20003n, 0x20d10: 0x30003n, 0x30b38: 0x8_7654_3003n });
    expect(walked(table, 0x12_3456_7abcn)).toEqual({
      hpa: 0x8_7654_3abcn, leafLg2: 12, perm: RW,
    });
    expect(walkReference(table, 0x12_3456_7abcn).steps.map((step) => [step.level, step.address])).toEqual([
      [2, 0x10240n], [1, 0x20d10n], [0, 0x30b38n],
    ]);
  });

  it("walks four levels", () => {
    // 0x1234_5678_9abc: indices 0x24, 0xd1, 0xb3, 0x189.
    const table = vtd(4, { 0x10120: 0x20003n, 0x20688: 0x30003n, 0x30598: 0x40003n, 0x40c48: 0x5003n });
    expect(walked(table, 0x1234_5678_9abcn)).toMatchObject({ hpa: 0x5abcn, leafLg2: 12 });
  });

  it("walks five levels", () => {
    // 0xfe_dcba_9876_5432: indices 0xfe, 0x1b9, 0xea, 0xc3, 0x165.
    const table = vtd(5, {
      0x107f0: 0x20003n, 0x20dc8: 0x30003n, 0x30750: 0x40003n, 0x40618: 0x50003n, 0x50b28: 0xf_ffff_ffff_f003n,
    });
    expect(walked(table, 0xfe_dcba_9876_5432n)).toMatchObject({ hpa: 0xf_ffff_ffff_f432n, leafLg2: 12 });
  });

  it.each([[3, 39n], [4, 48n], [5, 57n]])("refuses addresses beyond %i levels", (levels, width) => {
    expect(walked(vtd(levels, {}), (1n << width) - 1n)).toEqual({ reason: "not-present", level: levels - 1 });
    expect(walked(vtd(levels, {}), 1n << width)).toEqual({ reason: "address-width", level: levels - 1 });
    expect(walked(vtd(levels, {}), (1n << 64n) - 1n)).toEqual({ reason: "address-width", level: levels - 1 });
  });

  it("refuses addresses beyond a unit's own width", () => {
    const narrow = { ...vtd(3, {}), width: 32 };
    expect(walked(narrow, 0xffff_ffffn)).toEqual({ reason: "not-present", level: 2 });
    expect(walked(narrow, 0x1_0000_0000n)).toEqual({ reason: "address-width", level: 2 });
  });

  it("tells the level at which nothing is present", () => {
    const table = vtd(3, { 0x10000: 0x20003n, 0x20000: 0x30003n });
    expect(walked(table, 0n)).toEqual({ reason: "not-present", level: 0 });
    expect(walked(table, 0x20_0000n)).toEqual({ reason: "not-present", level: 1 });
    expect(walked(table, 0x4000_0000n)).toEqual({ reason: "not-present", level: 2 });
  });
});

describe("VT-d second stage, 9.8: large pages", () => {
  it("takes a 2 MiB page from an SS-PDE with bit 7", () => {
    const table = vtd(3, { 0x10000: 0x20003n, 0x20008: 0x1_4020_0083n });
    expect(walked(table, 0x3f_edcbn)).toEqual({ hpa: 0x1_403f_edcbn, leafLg2: 21, perm: RW });
  });

  it("takes a 1 GiB page from an SS-PDPE with bit 7", () => {
    const table = vtd(3, { 0x10008: 0x2_4000_0083n });
    expect(walked(table, 0x7edc_ba98n)).toEqual({
      hpa: 0x2_7edc_ba98n, leafLg2: 30, perm: RW,
    });
  });

  it("reserves bit 7 above SS-PDPE and ignores it in an SS-PTE", () => {
    expect(vtdEntry(0x83n, 3)).toEqual({ kind: "reserved" });
    expect(vtdEntry(0x83n, 4)).toEqual({ kind: "reserved" });
    expect(vtdEntry(0x1083n, 0)).toMatchObject({ kind: "leaf", address: 0x1000n, lg2: 12 });
  });

  it("reserves the address bits below a large page", () => {
    expect(vtdEntry(0x1_4020_1083n, 1)).toEqual({ kind: "reserved" });
    expect(vtdEntry(0x1_4030_0083n, 1)).toEqual({ kind: "reserved" });
    expect(vtdEntry(0x2_4020_0083n, 2)).toEqual({ kind: "reserved" });
    expect(vtdEntry(0x2_6000_0083n, 2)).toEqual({ kind: "reserved" });
  });
});

describe("VT-d second stage, 9.8: bits", () => {
  it("needs R or W to be present, whatever else is set", () => {
    expect(vtdEntry(0n, 0)).toEqual({ kind: "empty" });
    expect(vtdEntry(0xffff_ffff_ffff_fffcn, 1)).toEqual({ kind: "empty" });
  });

  it.each([[0x1001n, R], [0x1002n, W], [0x1003n, RW]])("reads R and W from bits 0 and 1 (%s)", (pte, perm) => {
    expect(vtdEntry(pte, 0)).toEqual({ kind: "leaf", address: 0x1000n, lg2: 12, perm, accessed: false, dirty: false });
  });

  it("ANDs permissions down the walk", () => {
    const walk = (top: bigint, middle: bigint, leaf: bigint): unknown =>
      walked(vtd(3, { 0x10000: 0x20000n | top, 0x20000: 0x30000n | middle, 0x30000: 0x7000n | leaf }), 0n);
    expect(walk(3n, 3n, 3n)).toMatchObject({ perm: RW });
    expect(walk(1n, 3n, 3n)).toMatchObject({ perm: R });
    expect(walk(3n, 2n, 3n)).toMatchObject({ perm: W });
    expect(walk(3n, 3n, 1n)).toMatchObject({ perm: R });
    expect(walk(1n, 3n, 2n)).toEqual({ hpa: 0x7000n, leafLg2: 12, perm: 0 });
  });

  it("reserves address bits above the host address width, in tables and leaves", () => {
    for (const pte of [0x80_0000_0003n, 0x8_0000_0000_0003n]) {
      expect(vtdEntry(pte, 0, 39)).toEqual({ kind: "reserved" });
      expect(vtdEntry(pte, 1, 39)).toEqual({ kind: "reserved" });
      expect(vtdEntry(pte, 0, 52)).toMatchObject({ kind: "leaf", address: pte - 3n });
    }
    expect(vtdEntry(0x40_0000_0003n, 0, 39)).toMatchObject({ kind: "leaf", address: 0x40_0000_0000n });
  });

  it("defines bit 11 in leaves of units with snoop control alone", () => {
    expect(vtdEntry(0x1803n, 0)).toMatchObject({ kind: "leaf", address: 0x1000n });
    expect(vtdEntry(0x20_0883n, 1)).toMatchObject({ kind: "leaf", address: 0x20_0000n });
    expect(vtdEntry(0x1803n, 1)).toEqual({ kind: "reserved" });
    const without = { format: FORMAT_VTD_SECOND, outputWidth: 52, reservedLeaf: 0x800n };
    expect(decodeReference(without, 0x1803n, 0)).toEqual({ kind: "reserved" });
  });

  it("reserves bit 62 and ignores 2..6, 8, 10, 52..61 and 63", () => {
    expect(vtdEntry(0x4000_0000_0000_1003n, 0)).toEqual({ kind: "reserved" });
    expect(vtdEntry(0xbff0_0000_0000_157fn, 0)).toEqual({
      kind: "leaf", address: 0x1000n, lg2: 12, perm: RW, accessed: true, dirty: false,
    });
    expect(vtdEntry(0xbff0_0000_0000_157fn, 3)).toEqual({ kind: "table", address: 0x1000n, level: 2, perm: RW });
  });

  it("reads the dirty bit, 9, of the leaf", () => {
    const table = vtd(3, { 0x10000: 0x20203n, 0x20000: 0x30003n, 0x30000: 0x7103n, 0x30008: 0x8203n });
    expect(leafIsDirty(table, 0n)).toBe(false);
    expect(leafIsDirty(table, 0x1fffn)).toBe(true);
    expect(leafIsDirty(table, 0x2000n)).toBe(false);
  });
});
