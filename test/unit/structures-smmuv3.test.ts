// SMMUv3 structures from golden words. Arm SMMUv3 architecture specification (IHI 0070), 5.1 to 5.4 (structures), 3.3
// (tables), 3.4 (sizes), 7.3 (events). Imports the unit and its capabilities.
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import { smmuv3Capabilities, type Smmuv3Capabilities } from "../../src/iommu/structures/smmuv3-capabilities.js";
import type { StreamTable } from "../../src/iommu/structures/smmuv3-stream-table.js";
import type { StructureSpace } from "../../src/iommu/units/unit.js";
import { Smmuv3Unit } from "../../src/iommu/units/smmuv3.js";
import { Words } from "./structure-fixture.js";

/** S1P, S2P, AArch64, CD2L, stalls never, aborts only, little-endian, 44 bits, all granules, 8 bits of substream. */
const UNIT: Smmuv3Capabilities = {
  stage1: true, stage2: true, twoLevelCd: true, httu: 0, stallModel: 1, abortOnly: true, ttendian: 2, aarch64: true,
  substreamBits: 8, hierarchicalAttributeDisable: true, outputWidth: 44, granules: [12, 14, 16],
};
const TABLE: StreamTable = { base: 0x10000n, log2size: 8 };
const SID = 5;
const STE = 0x10140n;
const CD = 0x20000n;
const REQUEST = { rid: SID, iova: 0xabc123n, write: true, privileged: true };
const zeros = (n: number): bigint[] => Array.from({ length: n }, () => 0n);

/** Words with a stage 2 that maps every intermediate address 0x1000000 higher, or refuses. */
class Space extends Words implements StructureSpace {
  refuse?: "not-present";
  walk(_stage: unknown, ipa: bigint): ReturnType<StructureSpace["walk"]> {
    const common = { stage: 2, class: "input", level: 0, ipa: 0n, perm: 0x33, leafLg2: 12, steps: [] } as const;
    return { ...common, steps: [], reason: this.refuse ?? "none", hpa: ipa + 0x1000000n };
  }
}

function unitOf(space: StructureSpace, unit: Partial<Smmuv3Capabilities> = {}, table = TABLE): Smmuv3Unit {
  return new Smmuv3Unit(space, { ...UNIT, ...unit }, table);
}

function refused(space: StructureSpace, pasid?: number, unit: Partial<Smmuv3Capabilities> = {}, rid = SID, table = TABLE) {
  const smmu = unitOf(space, unit, table);
  const { name, code, reported, record } = smmu.refusal(smmu.stream(rid, pasid), { ...REQUEST, rid, pasid });
  return { name, code, reported, record };
}

describe("identification registers (6.3)", () => {
  it("as QEMU's unit has them", () => {
    expect(smmuv3Capabilities([0xd44101b, 0x2730010, 0, 0x1414, 0, 0x74])).toEqual({
      stage1: true, stage2: true, twoLevelCd: false, httu: 0, stallModel: 1, abortOnly: true, ttendian: 2, aarch64: true,
      substreamBits: 0, hierarchicalAttributeDisable: true, outputWidth: 44, granules: [12, 14, 16],
    });
  });
});

describe("stream table (3.3.1, 5.1)", () => {
  it("linear: 64 bytes a StreamID, the base aligned down to the table's size", () => {
    const smmu = unitOf(new Space().put(STE, 9n, ...zeros(7)), {}, { base: 0x11fc0n, log2size: 8 });
    expect(smmu.stream(SID, undefined)).toMatchObject({ kind: "identity", read: [{ structure: "stream-table-entry", address: STE }] });
    expect(refused(new Space(), undefined, {}, 256)).toMatchObject({ name: "C_BAD_STREAMID", code: 2, reported: true, record: [0x10000000002n, 0n, 0n, 0n] });
    expect(refused(new Space())).toMatchObject({ name: "F_STE_FETCH", code: 3, record: [0x500000003n, 0n, 0n, STE] });
  });

  it("two levels: SPLIT bits in level 2, of which Span gives 2^(n-1) entries", () => {
    const table = { base: 0x10000n, log2size: 10, split: 6 };
    const level1 = (word: bigint): Space => new Space().put(0x10010n, word).put(0x30000n + 5n * 64n, 9n, ...zeros(7));
    const smmu = unitOf(level1(0x30000n | 4n), {}, table);
    expect(smmu.stream(0x85, undefined)).toMatchObject({
      kind: "identity", read: [{ structure: "level-1-stream-table-descriptor", address: 0x10010n }, { address: 0x30140n }],
    });
    for (const [word, sid] of [[0x30000n, 0x85], [0x30003n, 0x85], [0x30004n, 0x88], [0x30008n, 0x85], [0x3001fn, 0x85]] as const) {
      expect(refused(level1(word), undefined, {}, sid, table), `span ${word & 31n}`).toMatchObject({ name: "C_BAD_STREAMID" });
    }
    expect(refused(new Space(), undefined, {}, 0x85, table)).toMatchObject({ name: "F_STE_FETCH", record: [0x8500000003n, 0n, 0n, 0x10010n] });
  });
});

/** V, stage 2 alone, with this word 2. */
function stage2(word: bigint, ttb = 0x40000000n, config = 0xdn): Space {
  return new Space().put(STE, config, 0n, word, ttb, ...zeros(4));
}
/** S2AA64 and S2PS 4 with these. */
const word = (t0sz: bigint, sl0: bigint, tg: bigint, more = 0n): bigint => (1n << 51n) | (4n << 48n) | (tg << 46n) | (sl0 << 38n) | (t0sz << 32n) | more;

describe("stream table entries (5.2)", () => {
  it.each([0n, 2n, 4n, 6n])("Config %i / 2 aborts without an event", (config) => {
    expect(refused(new Space().put(STE, 1n | config, ...zeros(7)))).toEqual({ name: "ABORT", code: undefined, reported: false, record: undefined });
  });

  it("V clear is C_BAD_STE", () => {
    expect(refused(new Space().put(STE, 8n, ...zeros(7)))).toMatchObject({ name: "C_BAD_STE", code: 4, record: [0x500000004n, 0n, 0n, 0n] });
  });

  it("stage 2: granule, levels from S2SL0, input from S2T0SZ, output from S2PS, the root aligned to the tables' size", () => {
    const found = unitOf(stage2(word(24n, 1n, 0n, 1n << 58n), 0x40003000n)).stream(SID, undefined);
    expect(found).toMatchObject({
      kind: "translate", stage1: false, stage2: true, recordStage2: true,
      domain: { format: L.FORMAT_ARM_S2_4K, levels: 3, width: 40, outputWidth: 44, guestRoot: 0x40002000n, accessed: "fault", dirty: "ignore" },
    });
  });

  it.each<[string, bigint, object]>([
    ["4 KiB, level 2 to 0 of ours", word(25n, 1n, 0n), { format: L.FORMAT_ARM_S2_4K, levels: 3, width: 39 }],
    ["16 KiB", word(24n, 1n, 2n), { format: L.FORMAT_ARM_S2_16K, levels: 2, width: 40 }],
    ["64 KiB", word(22n, 1n, 1n), { format: L.FORMAT_ARM_S2_64K, levels: 2, width: 42 }],
    ["S2AFFD", word(25n, 1n, 0n, 1n << 53n), { accessed: "ignore" }],
  ])("%s", (_name, bits, domain) => {
    expect(unitOf(stage2(bits)).stream(SID, undefined)).toMatchObject({ domain });
  });

  it.each<[string, Space, Partial<Smmuv3Capabilities>?]>([
    ["S2TG 3", stage2(word(25n, 1n, 3n))], ["a granule that is not there", stage2(word(24n, 1n, 2n)), { granules: [12] }],
    ["S2SL0 3", stage2(word(25n, 3n, 0n))], ["S2T0SZ beyond the sizes", stage2(word(19n, 2n, 0n))], ["S2T0SZ 40", stage2(word(40n, 0n, 0n))],
    ["a start level with no bit left to decode", stage2(word(34n, 1n, 0n))], ["more than 16 start tables", stage2(word(20n, 0n, 0n))],
    ["AArch32", stage2(word(25n, 1n, 0n) & ~(1n << 51n))], ["big-endian", stage2(word(25n, 1n, 0n, 1n << 52n))],
    ["S2HA without HTTU", stage2(word(25n, 1n, 0n, 1n << 56n))], ["S2S without stalls", stage2(word(25n, 1n, 0n, 1n << 57n))],
    ["S2TTB beyond S2PS", stage2(word(25n, 1n, 0n), 1n << 44n)], ["no stage 2", stage2(word(25n, 1n, 0n)), { stage2: false }],
    ["no stage 1", new Space().put(STE, 0xbn | CD, ...zeros(7)), { stage1: false }],
    ["S1CDMax beyond SSIDSIZE", new Space().put(STE, 0xbn | CD | (9n << 59n), ...zeros(7))],
    ["S1Fmt 3", new Space().put(STE, 0x3bn | CD | (1n << 59n), ...zeros(7))],
    ["S1Fmt 1 without CD2L", new Space().put(STE, 0x1bn | CD | (1n << 59n), ...zeros(7)), { twoLevelCd: false }],
    ["S1STALLD without a choice", new Space().put(STE, 0xbn | CD, 1n << 27n, ...zeros(6))],
  ])("%s is C_BAD_STE", (_name, space, unit) => {
    expect(refused(space, undefined, unit)).toMatchObject({ name: "C_BAD_STE" });
  });
});

/** V, AA64, A, IPS 4; T0SZ 16 and TG0 4 KiB; EPD1. */
const CD_WORD = (1n << 31n) | (1n << 41n) | (1n << 46n) | (4n << 32n) | (1n << 30n) | 16n;
const stage1 = (word: bigint, ttb0 = 0x50000000n, ttb1 = 0n): Space =>
  new Space().put(STE, 0xbn | CD, ...zeros(7)).put(CD, word, ttb0, ttb1, ...zeros(5));
const change = (clear: bigint, set: bigint): bigint => (CD_WORD & ~clear) | set;

describe("context descriptors (5.4)", () => {
  it("the lower half: 48 bits by 4 KiB, output of IPS, CD.R", () => {
    expect(unitOf(stage1(CD_WORD | (1n << 45n))).stream(SID, undefined)).toMatchObject({
      kind: "translate", stage1: true, recordStage1: true,
      domain: { format: L.FORMAT_ARM_S1_4K, levels: 4, width: 48, rule: "zero", outputWidth: 44, guestRoot: 0x50000000n, accessed: "fault", options: 0 },
    });
  });

  it("both halves, with granules, sizes, TBI and HAD of their own; TG1 is coded otherwise", () => {
    const upper = (25n << 16n) | (1n << 22n) | (1n << 39n) | (1n << 35n);
    const found = unitOf(stage1(change(1n << 30n, upper), 0x50000000n, 0x60000002n)).stream(SID, undefined);
    expect(found).toMatchObject({ domain: {
      rule: "zero", accessed: "ignore",
      upperHalf: { format: L.FORMAT_ARM_S1_16K, levels: 3, width: 39, rule: "ones-tbi", guestRoot: 0x60000000n, options: L.OPTION_IGNORE_TABLE_PERMISSIONS },
    } });
  });

  it("disabled halves obey no rule", () => {
    const both = unitOf(stage1(change(0n, 1n << 14n))).stream(SID, undefined);
    expect(both).toMatchObject({ domain: { rule: "ones", upperHalf: { rule: "zero" } } });
    const upper = unitOf(stage1(change(1n << 30n, (1n << 14n) | (16n << 16n) | (2n << 22n)))).stream(SID, undefined);
    expect(upper).toMatchObject({ domain: { rule: "ones", format: L.FORMAT_ARM_S1_4K, upperHalf: { rule: "ones" } } });
  });

  it.each<[string, Space, Partial<Smmuv3Capabilities>?]>([
    ["V clear", stage1(change(1n << 31n, 0n))], ["AArch32", stage1(change(1n << 41n, 0n))], ["A clear where faults must abort", stage1(change(1n << 46n, 0n))],
    ["S without stalls", stage1(change(0n, 1n << 44n))], ["HA without HTTU", stage1(change(0n, 1n << 43n))], ["HD with HTTU 1", stage1(change(0n, 3n << 42n)), { httu: 1 }],
    ["big-endian", stage1(change(0n, 1n << 15n))], ["T0SZ 15", stage1(change(0x3fn, 15n))], ["T0SZ 40", stage1(change(0x3fn, 40n))],
    ["TG0 3", stage1(change(0n, 3n << 6n))], ["TG1 0", stage1(change(1n << 30n, 16n << 16n))], ["TTB0 beyond IPS", stage1(change(7n << 32n, 0n), 1n << 32n)],
  ])("%s is C_BAD_CD", (_name, space, unit) => {
    expect(refused(space, undefined, unit)).toMatchObject({ name: "C_BAD_CD", code: 0xa, reported: true, record: [0x50000000an, 0n, 0n, 0n] });
  });

  it("HTTU 2 with HA and HD: hardware sets accessed flags and dirty state", () => {
    expect(unitOf(stage1(change(0n, 3n << 42n)), { httu: 2 }).stream(SID, undefined)).toMatchObject({ domain: { accessed: "set", dirty: "set" } });
  });

  it("outside memory is F_CD_FETCH with its address", () => {
    expect(refused(new Space().put(STE, 0xbn | CD, ...zeros(7)))).toMatchObject({ name: "F_CD_FETCH", code: 9, record: [0x500000009n, 0n, 0n, CD] });
  });
});

describe("substreams (3.3.2, 5.2 S1DSS)", () => {
  const table = (format: bigint, s1dss: bigint): Space => new Space().put(STE, 0xbn | CD | (format << 4n) | (8n << 59n), s1dss, ...zeros(6));
  const words = [CD_WORD, 0x50000000n, ...zeros(6)];

  it("linear: 64 bytes a substream", () => {
    expect(unitOf(table(0n, 0n).put(CD + 7n * 64n, ...words)).stream(SID, 7)).toMatchObject({ kind: "translate" });
  });

  it.each([[1n, 0x43, 8n, 3n], [2n, 0xc3, 0n, 0xc3n]])("two levels, S1Fmt %i", (format, pasid, offset, index) => {
    const space = table(format, 0n).put(CD + offset, 0x80001n).put(0x80000n + index * 64n, ...words);
    const found = unitOf(space).stream(SID, pasid);
    expect(found).toMatchObject({ kind: "translate" });
    expect(found.read.map((each) => each.structure)).toEqual(["stream-table-entry", "level-1-context-descriptor", "context-descriptor"]);
    expect(refused(table(format, 0n).put(CD + offset, 0x80000n), pasid)).toMatchObject({ name: "C_BAD_SUBSTREAMID", code: 8 });
  });

  it("without a substream: terminated, past stage 1, or by substream 0, which then is nobody else's", () => {
    expect(refused(table(0n, 0n))).toMatchObject({ name: "F_STREAM_DISABLED", code: 6 });
    expect(unitOf(table(0n, 1n)).stream(SID, undefined)).toMatchObject({ kind: "identity" });
    expect(unitOf(table(0n, 2n).put(CD, ...words)).stream(SID, undefined)).toMatchObject({ kind: "translate" });
    expect(refused(table(0n, 2n).put(CD, ...words), 0)).toMatchObject({ name: "C_BAD_SUBSTREAMID" });
  });

  it("a substream beyond S1CDMax, or where there are none", () => {
    expect(refused(table(0n, 0n), 256)).toMatchObject({ name: "C_BAD_SUBSTREAMID", record: [0x500100808n, 0n, 0n, 0n] });
    expect(refused(stage1(CD_WORD), 1)).toMatchObject({ name: "C_BAD_SUBSTREAMID" });
    expect(refused(new Space().put(STE, 9n, ...zeros(7)), 1)).toMatchObject({ name: "C_BAD_SUBSTREAMID" });
  });
});

describe("nested streams", () => {
  const ste = (): Space => new Space().put(STE, 0xfn | CD, 0n, (1n << 58n) | (1n << 51n) | (4n << 48n) | (1n << 38n) | (25n << 32n), 0x40000000n, ...zeros(4));

  it("read the context descriptor through stage 2, and walk stage 1 over it", () => {
    const space = ste().put(CD + 0x1000000n, CD_WORD, 0x50000000n, ...zeros(6));
    expect(unitOf(space).stream(SID, undefined)).toMatchObject({
      stage1: true, stage2: true, domain: { format: L.FORMAT_ARM_S1_4K, nested: { format: L.FORMAT_ARM_S2_4K, guestRoot: 0x40000000n } },
    });
  });

  it("a refusal of stage 2 is of class CD, with the descriptor's address, recorded as S2R says", () => {
    const space = ste();
    space.refuse = "not-present";
    const smmu = unitOf(space);
    expect(smmu.refusal(smmu.stream(SID, undefined), REQUEST)).toEqual({
      name: "F_TRANSLATION", code: 0x10, reported: true, stage: 2, class: "CD", record: [0x500000010n, 0x8a00000000n, 0xabc123n, CD],
    });
  });
});
