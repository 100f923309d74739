// Golden values for the reference walker: every entry and every index below is worked out by hand from the manuals.
// VT-d 3.7 and 9.8 (second-stage entries); AMD IOMMU 2.2.3 (host tables). Level 0 is the leaf table.
import { describe, expect, it } from "vitest";
import { FORMAT_AMD_V1, FORMAT_VTD_SECOND } from "../../src/engine/layout.js";
import { decodeReference, leafIsDirty, walkReference, walkSteps, type ReferenceTable } from "../oracle/reference.js";

const ROOT = 0x10000n;
const R = 1;
const W = 2;
const RW = 3;

/** A table in a memory that is zero but for these words. */
function tableOf(format: number, levels: number, words: Record<number, bigint>, outputLg2 = 52): ReferenceTable {
  return { format, levels, root: ROOT, outputLg2, read: (address) => words[Number(address)] ?? 0n };
}

const vtd = (levels: number, words: Record<number, bigint>, outputLg2 = 52): ReferenceTable =>
  tableOf(FORMAT_VTD_SECOND, levels, words, outputLg2);
const amd = (levels: number, words: Record<number, bigint>, outputLg2 = 52): ReferenceTable =>
  tableOf(FORMAT_AMD_V1, levels, words, outputLg2);

/** What one entry means in a table of that level. */
const vtdEntry = (pte: bigint, level: number, outputLg2 = 52): unknown =>
  decodeReference({ format: FORMAT_VTD_SECOND, outputLg2 }, pte, level);
const amdEntry = (pte: bigint, level: number, outputLg2 = 52): unknown =>
  decodeReference({ format: FORMAT_AMD_V1, outputLg2 }, pte, level);

describe("VT-d second stage, 3.7: levels", () => {
  it("walks three levels to a 4 KiB page", () => {
    // 0x12_3456_7abc: indices 0x48, 0x1a2, 0x167, offset 0xabc.
    const table = vtd(3, { 0x10240: 0x20003n, 0x20d10: 0x30003n, 0x30b38: 0x8_7654_3003n });
    expect(walkReference(table, 0x12_3456_7abcn)).toEqual({
      outcome: "translated", hpa: 0x8_7654_3abcn, leafLg2: 12, perm: RW,
    });
    expect(walkSteps(table, 0x12_3456_7abcn).steps.map((step) => [step.level, step.address])).toEqual([
      [2, 0x10240n], [1, 0x20d10n], [0, 0x30b38n],
    ]);
  });

  it("walks four levels", () => {
    // 0x1234_5678_9abc: indices 0x24, 0xd1, 0xb3, 0x189.
    const table = vtd(4, { 0x10120: 0x20003n, 0x20688: 0x30003n, 0x30598: 0x40003n, 0x40c48: 0x5003n });
    expect(walkReference(table, 0x1234_5678_9abcn)).toMatchObject({ hpa: 0x5abcn, leafLg2: 12 });
  });

  it("walks five levels", () => {
    // 0xfe_dcba_9876_5432: indices 0xfe, 0x1b9, 0xea, 0xc3, 0x165.
    const table = vtd(5, {
      0x107f0: 0x20003n, 0x20dc8: 0x30003n, 0x30750: 0x40003n, 0x40618: 0x50003n, 0x50b28: 0xf_ffff_ffff_f003n,
    });
    expect(walkReference(table, 0xfe_dcba_9876_5432n)).toMatchObject({ hpa: 0xf_ffff_ffff_f432n, leafLg2: 12 });
  });

  it.each([[3, 39n], [4, 48n], [5, 57n]])("refuses addresses beyond %i levels", (levels, width) => {
    expect(walkReference(vtd(levels, {}), (1n << width) - 1n)).toEqual({ outcome: "not-present", level: levels - 1 });
    expect(walkReference(vtd(levels, {}), 1n << width)).toEqual({ outcome: "address-width", level: levels - 1 });
    expect(walkReference(vtd(levels, {}), (1n << 64n) - 1n)).toEqual({ outcome: "address-width", level: levels - 1 });
  });

  it("refuses addresses beyond a unit's own width", () => {
    const narrow = { ...vtd(3, {}), inputLg2: 32 };
    expect(walkReference(narrow, 0xffff_ffffn)).toEqual({ outcome: "not-present", level: 2 });
    expect(walkReference(narrow, 0x1_0000_0000n)).toEqual({ outcome: "address-width", level: 2 });
  });

  it("tells the level at which nothing is present", () => {
    const table = vtd(3, { 0x10000: 0x20003n, 0x20000: 0x30003n });
    expect(walkReference(table, 0n)).toEqual({ outcome: "not-present", level: 0 });
    expect(walkReference(table, 0x20_0000n)).toEqual({ outcome: "not-present", level: 1 });
    expect(walkReference(table, 0x4000_0000n)).toEqual({ outcome: "not-present", level: 2 });
  });
});

describe("VT-d second stage, 9.8: large pages", () => {
  it("takes a 2 MiB page from an SS-PDE with bit 7", () => {
    const table = vtd(3, { 0x10000: 0x20003n, 0x20008: 0x1_4020_0083n });
    expect(walkReference(table, 0x3f_edcbn)).toEqual({ outcome: "translated", hpa: 0x1_403f_edcbn, leafLg2: 21, perm: RW });
  });

  it("takes a 1 GiB page from an SS-PDPE with bit 7", () => {
    const table = vtd(3, { 0x10008: 0x2_4000_0083n });
    expect(walkReference(table, 0x7edc_ba98n)).toEqual({
      outcome: "translated", hpa: 0x2_7edc_ba98n, leafLg2: 30, perm: RW,
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
    expect(vtdEntry(pte, 0)).toEqual({ kind: "leaf", address: 0x1000n, lg2: 12, perm, dirty: false });
  });

  it("ANDs permissions down the walk", () => {
    const walk = (top: bigint, middle: bigint, leaf: bigint): unknown =>
      walkReference(vtd(3, { 0x10000: 0x20000n | top, 0x20000: 0x30000n | middle, 0x30000: 0x7000n | leaf }), 0n);
    expect(walk(3n, 3n, 3n)).toMatchObject({ perm: RW });
    expect(walk(1n, 3n, 3n)).toMatchObject({ perm: R });
    expect(walk(3n, 2n, 3n)).toMatchObject({ perm: W });
    expect(walk(3n, 3n, 1n)).toMatchObject({ perm: R });
    expect(walk(1n, 3n, 2n)).toEqual({ outcome: "translated", hpa: 0x7000n, leafLg2: 12, perm: 0 });
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
    const without = { format: FORMAT_VTD_SECOND, outputLg2: 52, snoopControl: false };
    expect(decodeReference(without, 0x1803n, 0)).toEqual({ kind: "reserved" });
  });

  it("reserves bit 62 and ignores 2..6, 8, 10, 52..61 and 63", () => {
    expect(vtdEntry(0x4000_0000_0000_1003n, 0)).toEqual({ kind: "reserved" });
    expect(vtdEntry(0xbff0_0000_0000_157fn, 0)).toEqual({
      kind: "leaf", address: 0x1000n, lg2: 12, perm: RW, dirty: false,
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

const AMD_RW = 0x6000_0000_0000_0001n;

describe("AMD host tables, 2.2.3: levels", () => {
  it("walks one level", () => {
    const table = amd(1, { 0x10ff8: AMD_RW | 0xa_bcde_f012_3000n });
    expect(walkReference(table, 0x1f_f456n)).toEqual({
      outcome: "translated", hpa: 0xa_bcde_f012_3456n, leafLg2: 12, perm: RW,
    });
  });

  it("walks four levels, each entry naming the next", () => {
    // 0x1234_5678_9abc: indices 0x24, 0xd1, 0xb3, 0x189; NextLevel 3, 2, 1.
    const table = amd(4, {
      0x10120: AMD_RW | 0x20600n, 0x20688: AMD_RW | 0x30400n, 0x30598: AMD_RW | 0x40200n, 0x40c48: AMD_RW | 0x5000n,
    });
    expect(walkReference(table, 0x1234_5678_9abcn)).toMatchObject({ hpa: 0x5abcn, leafLg2: 12, perm: RW });
  });

  it("walks six levels, the top one by bits 63:57", () => {
    // 0xfedc_ba98_7654_3210: indices 0x7f, 0xdc, 0x175, 0x61, 0x1b2, 0x143; NextLevel 5, 4, 3, 2, 1.
    const table = amd(6, {
      0x103f8: AMD_RW | 0x20a00n, 0x206e0: AMD_RW | 0x30800n, 0x30ba8: AMD_RW | 0x40600n,
      0x40308: AMD_RW | 0x50400n, 0x50d90: AMD_RW | 0x60200n, 0x60a18: AMD_RW | 0x7000n,
    });
    expect(walkReference(table, 0xfedc_ba98_7654_3210n)).toMatchObject({ hpa: 0x7210n, leafLg2: 12 });
  });

  it.each([[1, 21n], [2, 30n], [3, 39n], [4, 48n], [5, 57n]])("refuses addresses beyond %i levels", (levels, width) => {
    expect(walkReference(amd(levels, {}), (1n << width) - 1n)).toEqual({ outcome: "not-present", level: levels - 1 });
    expect(walkReference(amd(levels, {}), 1n << width)).toEqual({ outcome: "address-width", level: levels - 1 });
  });

  it("takes all 64 bits with six levels", () => {
    expect(walkReference(amd(6, {}), (1n << 64n) - 1n)).toEqual({ outcome: "not-present", level: 5 });
  });

  it("lets an entry skip levels for addresses whose skipped bits are zero", () => {
    // The entry of level 4 (ours 3) names level 1: bits 38:21 of the address must be zero.
    const table = amd(4, { 0x10008: AMD_RW | 0x20200n, 0x20018: AMD_RW | 0x9000n });
    expect(walkReference(table, 0x80_0000_3456n)).toMatchObject({ outcome: "translated", hpa: 0x9456n, leafLg2: 12 });
    expect(walkReference(table, 0x80_0020_3456n)).toEqual({ outcome: "not-present", level: 3 });
    expect(walkReference(table, 0xc0_0000_3456n)).toEqual({ outcome: "not-present", level: 3 });
  });

  it("refuses an entry that names its own level or a higher one", () => {
    expect(amdEntry(AMD_RW | 0x20600n, 3)).toMatchObject({ kind: "table", level: 2 });
    expect(amdEntry(AMD_RW | 0x20800n, 3)).toEqual({ kind: "reserved" });
    expect(amdEntry(AMD_RW | 0x20a00n, 3)).toEqual({ kind: "reserved" });
    expect(amdEntry(AMD_RW | 0x20200n, 0)).toEqual({ kind: "reserved" });
  });
});

describe("AMD host tables, 2.2.3: page sizes", () => {
  // NextLevel 7 (0xe00); the ones from bit 12 up, then a zero, give the size; bits above are the address.
  it.each([
    ["8 KiB", 0, 13, 0xe00n],
    ["16 KiB", 0, 14, 0x1e00n],
    ["32 KiB", 0, 15, 0x3e00n],
    ["64 KiB", 0, 16, 0x7e00n],
    ["1 MiB", 0, 20, 0x7_fe00n],
    ["4 MiB", 1, 22, 0x1f_fe00n],
    ["2 GiB", 2, 31, 0x3fff_fe00n],
    ["4 GiB", 2, 32, 0x7fff_fe00n],
    ["256 GiB", 2, 38, 0x1f_ffff_fe00n],
    ["1 TiB", 3, 40, 0x7f_ffff_fe00n],
    ["2 PiB", 4, 51, 0x3_ffff_ffff_fe00n],
  ])("codes %s", (_name, level, lg2, code) => {
    expect(amdEntry(AMD_RW | code, level)).toEqual({ kind: "leaf", address: 0n, lg2, perm: RW, dirty: false });
    if (lg2 < 51) {
      const address = 1n << BigInt(lg2);
      expect(amdEntry(AMD_RW | code | address, level)).toMatchObject({ kind: "leaf", address, lg2 });
    }
  });

  it.each([[0, 12], [1, 21], [2, 30], [4, 48]])("gives level %i its own size with NextLevel 0", (level, lg2) => {
    const address = 1n << BigInt(lg2);
    expect(amdEntry(AMD_RW | address, level)).toEqual({ kind: "leaf", address, lg2, perm: RW, dirty: false });
  });

  it("codes every size at exactly one level, and none that is a level's own", () => {
    for (let lg2 = 13; lg2 <= 51; lg2++) {
      const code = 0xe00n + ((1n << BigInt(lg2 - 1)) - 0x1000n);
      const kinds = [0, 1, 2, 3, 4, 5].map((level) => (amdEntry(AMD_RW | code, level) as { kind: string }).kind);
      const home = (lg2 - 12) % 9 === 0 ? -1 : Math.floor((lg2 - 12) / 9);
      expect(kinds).toEqual(kinds.map((_kind, level) => (level === home ? "leaf" : "reserved")));
    }
  });

  it("refuses 512 GiB unless told that the unit takes it", () => {
    const pte = AMD_RW | 0x80_0000_0000n;
    expect(amdEntry(pte, 3)).toEqual({ kind: "reserved" });
    expect(decodeReference({ format: FORMAT_AMD_V1, outputLg2: 52, amdLeaf512G: true }, pte, 3)).toMatchObject({
      kind: "leaf", address: 0x80_0000_0000n, lg2: 39,
    });
  });

  it("refuses sizes that no output address can hold", () => {
    expect(amdEntry(AMD_RW | 0x7_ffff_ffff_fe00n, 4)).toEqual({ kind: "reserved" });
    expect(amdEntry(AMD_RW, 5)).toEqual({ kind: "reserved" });
    expect(amdEntry(AMD_RW | 0xf_ffff_ffff_fe00n, 0)).toEqual({ kind: "reserved" });
  });

  it("adds the offset inside a coded page", () => {
    // 32 KiB at 0x1238_0000 for 0x8000..0xffff: entries 8..15 are equal.
    const words: Record<number, bigint> = {};
    for (let index = 8; index < 16; index++) words[0x10000 + index * 8] = AMD_RW | 0x1238_3e00n;
    expect(walkReference(amd(1, words), 0xfedcn)).toEqual({
      outcome: "translated", hpa: 0x1238_7edcn, leafLg2: 15, perm: RW,
    });
    expect(walkReference(amd(1, words), 0x7fffn)).toEqual({ outcome: "not-present", level: 0 });
    expect(walkReference(amd(1, words), 0x1_0000n)).toEqual({ outcome: "not-present", level: 0 });
  });
});

describe("AMD host tables, 2.2.3: bits", () => {
  it("needs PR to be present, whatever else is set", () => {
    expect(amdEntry(0xffff_ffff_ffff_fffen, 2)).toEqual({ kind: "empty" });
  });

  it("ANDs IR and IW down the walk", () => {
    const ir = 0x2000_0000_0000_0001n;
    const iw = 0x4000_0000_0000_0001n;
    const walk = (top: bigint, leaf: bigint): unknown =>
      walkReference(amd(2, { 0x10000: top | 0x20200n, 0x20000: leaf | 0x7000n }), 0n);
    expect(walk(AMD_RW, ir)).toMatchObject({ perm: R });
    expect(walk(iw, AMD_RW)).toMatchObject({ perm: W });
    expect(walk(ir, iw)).toEqual({ outcome: "translated", hpa: 0x7000n, leafLg2: 12, perm: 0 });
    expect(walk(AMD_RW, 1n)).toMatchObject({ outcome: "translated", perm: 0 });
  });

  it("reserves 52..58, and ignores 1..4, 7, 8 and 63; U, FC and A change no translation", () => {
    for (let position = 52n; position <= 58n; position++) {
      expect(amdEntry(AMD_RW | 0x1000n | (1n << position), 0)).toEqual({ kind: "reserved" });
    }
    expect(amdEntry(0xf800_0000_0000_11bfn, 0)).toEqual({
      kind: "leaf", address: 0x1000n, lg2: 12, perm: RW, dirty: false,
    });
  });

  it("reserves addresses beyond the output width", () => {
    expect(amdEntry(AMD_RW | 0x1_0000_0000_0000n, 0, 48)).toEqual({ kind: "reserved" });
    expect(amdEntry(AMD_RW | 0x1_0000_0000_0200n, 1, 48)).toEqual({ kind: "reserved" });
    expect(amdEntry(AMD_RW | 0x8000_0000_0000n, 0, 48)).toMatchObject({ kind: "leaf", address: 0x8000_0000_0000n });
    // The code of 4 GiB has ones up to bit 30: they are not address bits, but the page ends beyond 2^31.
    expect(amdEntry(AMD_RW | 0x7fff_fe00n, 2, 32)).toMatchObject({ kind: "leaf", address: 0n, lg2: 32 });
    expect(amdEntry(AMD_RW | 0x7fff_fe00n, 2, 31)).toEqual({ kind: "reserved" });
  });

  it("takes the dirty bit, 6, of any copy of a coded leaf", () => {
    const words: Record<number, bigint> = {};
    for (let index = 0; index < 16; index++) words[0x10000 + index * 8] = AMD_RW | (index < 8 ? 0x3e00n : 0xbe00n);
    expect(leafIsDirty(amd(1, words), 0n)).toBe(false);
    words[0x10000 + 13 * 8] = AMD_RW | 0xbe40n;
    expect(leafIsDirty(amd(1, words), 0x8000n)).toBe(true);
    expect(leafIsDirty(amd(1, words), 0xffffn)).toBe(true);
    expect(leafIsDirty(amd(1, words), 0x7fffn)).toBe(false);
  });
});

it("refuses a format without a reference", () => {
  expect(() => decodeReference({ format: 99, outputLg2: 52 }, 0n, 0)).toThrow(RangeError);
});
