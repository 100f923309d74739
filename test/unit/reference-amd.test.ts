// Golden values for the reference walker: every entry and every index below is worked out by hand from the manual.
// AMD IOMMU 2.2.3 (host tables). Level 0 is the leaf table.
import { describe, expect, it } from "vitest";
import { FORMAT_AMD_V1 } from "../../src/engine/layout.js";
import { decodeReference } from "../oracle/reference/formats.js";
import { leafIsDirty } from "../oracle/reference/marks.js";
import type { ReferenceDomain } from "../oracle/reference/types.js";
import { entryOf, R, RW, tableOf, W, walked } from "./reference-fixture.js";

const amd = (levels: number, words: Record<number, bigint>): ReferenceDomain => tableOf(FORMAT_AMD_V1, levels, words);
const amdEntry = (pte: bigint, level: number, outputWidth = 52): unknown => entryOf({ format: FORMAT_AMD_V1, outputWidth }, pte, level);

const AMD_RW = 0x6000_0000_0000_0001n;

describe("AMD host tables, 2.2.3: levels", () => {
  it("walks one level", () => {
    const table = amd(1, { 0x10ff8: AMD_RW | 0xa_bcde_f012_3000n });
    expect(walked(table, 0x1f_f456n)).toEqual({
      hpa: 0xa_bcde_f012_3456n, leafLg2: 12, perm: RW,
    });
  });

  it("walks four levels, each entry naming the next", () => {
    // 0x1234_5678_9abc: indices 0x24, 0xd1, 0xb3, 0x189; NextLevel 3, 2, 1.
    const table = amd(4, {
      0x10120: AMD_RW | 0x20600n, 0x20688: AMD_RW | 0x30400n, 0x30598: AMD_RW | 0x40200n, 0x40c48: AMD_RW | 0x5000n,
    });
    expect(walked(table, 0x1234_5678_9abcn)).toMatchObject({ hpa: 0x5abcn, leafLg2: 12, perm: RW });
  });

  it("walks six levels, the top one by bits 63:57", () => {
    // 0xfedc_ba98_7654_3210: indices 0x7f, 0xdc, 0x175, 0x61, 0x1b2, 0x143; NextLevel 5, 4, 3, 2, 1.
    const table = amd(6, {
      0x103f8: AMD_RW | 0x20a00n, 0x206e0: AMD_RW | 0x30800n, 0x30ba8: AMD_RW | 0x40600n,
      0x40308: AMD_RW | 0x50400n, 0x50d90: AMD_RW | 0x60200n, 0x60a18: AMD_RW | 0x7000n,
    });
    expect(walked(table, 0xfedc_ba98_7654_3210n)).toMatchObject({ hpa: 0x7210n, leafLg2: 12 });
  });

  it.each([[1, 21n], [2, 30n], [3, 39n], [4, 48n], [5, 57n]])("refuses addresses beyond %i levels", (levels, width) => {
    expect(walked(amd(levels, {}), (1n << width) - 1n)).toEqual({ reason: "not-present", level: levels - 1 });
    expect(walked(amd(levels, {}), 1n << width)).toEqual({ reason: "address-width", level: levels - 1 });
  });

  it("takes all 64 bits with six levels", () => {
    expect(walked(amd(6, {}), (1n << 64n) - 1n)).toEqual({ reason: "not-present", level: 5 });
  });

  it("lets an entry skip levels for addresses whose skipped bits are zero", () => {
    // The entry of level 4 (ours 3) names level 1: bits 38:21 of the address must be zero.
    const table = amd(4, { 0x10008: AMD_RW | 0x20200n, 0x20018: AMD_RW | 0x9000n });
    expect(walked(table, 0x80_0000_3456n)).toMatchObject({ hpa: 0x9456n, leafLg2: 12 });
    expect(walked(table, 0x80_0020_3456n)).toEqual({ reason: "not-present", level: 3 });
    expect(walked(table, 0xc0_0000_3456n)).toEqual({ reason: "not-present", level: 3 });
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
    expect(amdEntry(AMD_RW | code, level)).toEqual({ kind: "leaf", address: 0n, lg2, perm: RW, accessed: false, dirty: false });
    if (lg2 < 51) {
      const address = 1n << BigInt(lg2);
      expect(amdEntry(AMD_RW | code | address, level)).toMatchObject({ kind: "leaf", address, lg2 });
    }
  });

  it.each([[0, 12], [1, 21], [2, 30], [4, 48]])("gives level %i its own size with NextLevel 0", (level, lg2) => {
    const address = 1n << BigInt(lg2);
    expect(amdEntry(AMD_RW | address, level)).toEqual({ kind: "leaf", address, lg2, perm: RW, accessed: false, dirty: false });
  });

  it("codes every size at exactly one level, and none that is a level's own", () => {
    for (let lg2 = 13; lg2 <= 51; lg2++) {
      const code = 0xe00n + ((1n << BigInt(lg2 - 1)) - 0x1000n);
      const kinds = [0, 1, 2, 3, 4, 5].map((level) => (amdEntry(AMD_RW | code, level) as { kind: string }).kind);
      const home = (lg2 - 12) % 9 === 0 ? -1 : Math.floor((lg2 - 12) / 9);
      expect(kinds).toEqual(kinds.map((_kind, level) => (level === home ? "leaf" : "reserved")));
    }
  });

  it("takes 512 GiB, which Linux leaves out for hardware that does not", () => {
    expect(amdEntry(AMD_RW | 0x80_0000_0000n, 3)).toMatchObject({ kind: "leaf", address: 0x80_0000_0000n, lg2: 39 });
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
    expect(walked(amd(1, words), 0xfedcn)).toEqual({
      hpa: 0x1238_7edcn, leafLg2: 15, perm: RW,
    });
    expect(walked(amd(1, words), 0x7fffn)).toEqual({ reason: "not-present", level: 0 });
    expect(walked(amd(1, words), 0x1_0000n)).toEqual({ reason: "not-present", level: 0 });
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
      walked(amd(2, { 0x10000: top | 0x20200n, 0x20000: leaf | 0x7000n }), 0n);
    expect(walk(AMD_RW, ir)).toMatchObject({ perm: R });
    expect(walk(iw, AMD_RW)).toMatchObject({ perm: W });
    expect(walk(ir, iw)).toEqual({ hpa: 0x7000n, leafLg2: 12, perm: 0 });
    expect(walk(AMD_RW, 1n)).toMatchObject({ perm: 0 });
  });

  it("reserves 52..60 in a pointer, which has no U and no FC", () => {
    for (let position = 52n; position <= 60n; position++) {
      expect(amdEntry(AMD_RW | 0x20200n | (1n << position), 1)).toEqual({ kind: "reserved" });
    }
  });

  it("reserves 52..58, and ignores 1..4, 7, 8 and 63; U, FC and A change no translation", () => {
    for (let position = 52n; position <= 58n; position++) {
      expect(amdEntry(AMD_RW | 0x1000n | (1n << position), 0)).toEqual({ kind: "reserved" });
    }
    expect(amdEntry(0xf800_0000_0000_11bfn, 0)).toEqual({
      kind: "leaf", address: 0x1000n, lg2: 12, perm: RW, accessed: true, dirty: false,
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
  expect(() => decodeReference({ format: 99, outputWidth: 52 }, 0n, 0)).toThrow(RangeError);
});
