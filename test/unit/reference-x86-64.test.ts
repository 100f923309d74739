// Golden values for the reference walker: every entry and every index below is worked out by hand from the manual.
// Intel SDM volume 3, 4-level and 5-level paging; VT-d 3.6 and 9.7. Level 0 is the leaf table.
import { describe, expect, it } from "vitest";
import { FORMAT_X86_64, OPTION_WRITE_PROTECT } from "../../src/engine/layout.js";
import { decodeReference } from "../oracle/reference/formats.js";
import { marksOf } from "../oracle/reference/marks.js";
import type { ReferenceDomain, ReferenceRules } from "../oracle/reference/types.js";
import { walkReference } from "../oracle/reference/walk.js";
import { tableOf, walked } from "./reference-fixture.js";

const x86 = (levels: number, words: Record<number, bigint>, more: Partial<ReferenceDomain> = {}): ReferenceDomain =>
  ({ ...tableOf(FORMAT_X86_64, levels, words), rule: "sign", ...more });
const entry = (pte: bigint, level: number, more: Partial<ReferenceRules> = {}): unknown =>
  decodeReference({ format: FORMAT_X86_64, outputWidth: 52, ...more }, pte, level);
const XD = 1n << 63n;

describe("x86-64 levels and addresses", () => {
  it("walks four levels, in both halves of the space", () => {
    // 0x1234_5678_9abc: indices 0x24, 0xd1, 0xb3, 0x189. 0xffff_8000_0020_1000: 0x100, 0, 1, 1.
    const table = x86(4, {
      0x10120: 0x20007n, 0x20688: 0x30007n, 0x30598: 0x40007n, 0x40c48: 0x5007n,
      0x10800: 0x21007n, 0x21000: 0x31007n, 0x31008: 0x41007n, 0x41008: 0x6007n,
    });
    expect(walked(table, 0x1234_5678_9abcn)).toEqual({ hpa: 0x5abcn, leafLg2: 12, perm: 7 });
    expect(walked(table, 0xffff_8000_0020_1fffn)).toMatchObject({ hpa: 0x6fffn });
    expect(walked(table, 0x8000_0020_1fffn)).toEqual({ reason: "address-width", level: 3 });
    expect(walked(table, 0x7fff_8000_0020_1fffn)).toEqual({ reason: "address-width", level: 3 });
  });

  it("walks five levels, canonical by bit 56", () => {
    // 0x80_0000_0000_0000: index 0x80 at the top, 0 below.
    const table = x86(5, { 0x10400: 0x20007n, 0x20000: 0x30007n, 0x30000: 0x40007n, 0x40000: 0x50007n, 0x50000: 0x6007n });
    expect(walked(table, 0x80_0000_0000_0123n)).toMatchObject({ hpa: 0x6123n });
    expect(walked(table, 0x180_0000_0000_0123n)).toEqual({ reason: "address-width", level: 4 });
    expect(walked(table, 0xff80_0000_0000_0123n)).toEqual({ reason: "not-present", level: 4 });
  });

  it("takes pages of 2 MiB and 1 GiB, whose bit 12 is PAT and whose lower address bits are reserved", () => {
    expect(entry(0x40_1087n, 1)).toMatchObject({ kind: "leaf", address: 0x40_0000n, lg2: 21 });
    expect(entry(0x40_2087n, 1)).toEqual({ kind: "reserved" });
    expect(entry(0x8000_1087n, 2)).toMatchObject({ kind: "leaf", address: 0x8000_0000n, lg2: 30 });
    expect(entry(0x8020_0087n, 2)).toEqual({ kind: "reserved" });
    expect(entry(0x1087n, 3)).toEqual({ kind: "reserved" });
    expect(entry(0x1087n, 0)).toMatchObject({ kind: "leaf", address: 0x1000n, lg2: 12 });
  });

  it("reserves addresses beyond the width and, where the domain says so, XD", () => {
    expect(entry(0x1_0000_0000_1007n, 0, { outputWidth: 48 })).toEqual({ kind: "reserved" });
    expect(entry(0x1_0000_0000_1007n, 1, { outputWidth: 48 })).toEqual({ kind: "reserved" });
    expect(entry(XD | 0x1007n, 0, { reservedLeaf: XD })).toEqual({ kind: "reserved" });
    expect(entry(XD | 0x1007n, 1, { reservedTable: XD })).toEqual({ kind: "reserved" });
    expect(entry(XD | 0x1006n, 0, { reservedLeaf: XD })).toEqual({ kind: "empty" });
  });
});

describe("x86-64 access rights", () => {
  it.each([
    [0x1007n, 0x77, 0x77], [0x1005n, 0x75, 0x55], [0x1003n, 0x70, 0x70], [0x1001n, 0x70, 0x50], [XD | 0x1007n, 0x33, 0x33],
    [XD | 0x1001n, 0x30, 0x10],
  ])("of entry %s are %s, and %s under write protection", (pte, perm, protectedPerm) => {
    expect(entry(pte, 0)).toMatchObject({ perm });
    expect(entry(pte, 0, { options: OPTION_WRITE_PROTECT })).toMatchObject({ perm: protectedPerm });
    expect(entry(pte, 1)).toMatchObject({ perm });
  });

  it("are those that every entry on the path leaves, and absence comes before them", () => {
    const table = x86(4, { 0x10000: 0x20007n, 0x20000: 0x30005n, 0x30000: XD | 0x40003n, 0x40000: 0x7007n });
    expect(walkReference(table, 0n).found).toMatchObject({ perm: 0x30 });
    expect(walkReference(table, 0n, 1).reason).toBe("read-denied");
    expect(walkReference(table, 0n, 0x20).reason).toBe("none");
    expect(walkReference(table, 0n, 0x40).reason).toBe("execute-denied");
    expect(walkReference(table, 0x1000n, 1).reason).toBe("not-present");
  });
});

describe("x86-64 accessed and dirty bits", () => {
  const words = { 0x10000: 0x20007n, 0x20000: 0x30007n, 0x30000: 0x40027n, 0x40000: 0x7005n, 0x40008: 0x8007n };
  const table = x86(4, words, { accessed: "set", dirty: "set" });

  it("are set in every entry of an allowed access, dirty in the leaf of a write", () => {
    expect([...marksOf(table, 0n, 1)]).toEqual([[0x10000n, 0x20027n], [0x20000n, 0x30027n], [0x40000n, 0x7025n]]);
    expect([...marksOf(table, 0x1000n, 2)]).toEqual([[0x10000n, 0x20027n], [0x20000n, 0x30027n], [0x40008n, 0x8067n]]);
    expect([...marksOf(table, 0n, 2)]).toEqual([]);
    expect([...marksOf(table, 0x2000n, 1)]).toEqual([]);
  });

  it("are left alone in a domain that does not manage them", () => {
    expect([...marksOf(x86(4, words), 0x1000n, 2)]).toEqual([]);
  });
});
