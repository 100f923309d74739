// VT-d structures from golden words, bit by bit from the tables of Intel's VT-d specification: 9.1 to 9.6 (entries), 7.1.2 and
// 7.1.3 (fault conditions, and which of them FPD silences). Imports the unit and its capabilities.
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import type { VtdMode } from "../../src/iommu/faults/vtd.js";
import { vtdCapabilities, type VtdCapabilities } from "../../src/iommu/structures/vtd-capabilities.js";
import { VtdUnit } from "../../src/iommu/units/vtd.js";
import { Words } from "./structure-fixture.js";

const UNIT: VtdCapabilities = {
  haw: 48, mgaw: 48, levels: [3, 4], fiveLevels: false, snoopControl: false, deviceTlb: false, pageRequests: false, passThrough: true,
  executeRequests: false, firstStage: true, secondStage: true, nested: true, secondStageAccessedDirty: false, pasidBits: 20,
};
const ROOT = 0x1000n;
const CONTEXT = 0x2000n;
const DIRECTORY = 0x3000n;
const PASIDS = 0x4000n;
/** 02:03.1 */
const RID = 0x0219;
const REQUEST = { rid: RID, iova: 0x1234567n, write: true, privileged: false };

function stream(memory: Words, mode: VtdMode, pasid?: number, unit = UNIT, rid = RID) {
  return new VtdUnit(memory, unit, { root: ROOT, mode }).stream(rid, pasid);
}

function fault(memory: Words, mode: VtdMode, pasid?: number, unit = UNIT) {
  const vtd = new VtdUnit(memory, unit, { root: ROOT, mode });
  const { name, code, reported } = vtd.refusal(vtd.stream(RID, pasid), REQUEST);
  return [name, code, reported];
}

describe("capability registers (11.4.2, 11.4.3)", () => {
  it("SAGAW 12..8, MGAW 21..16, FS5LP 60; DT 2, PT 6, SC 7, NEST 26, PASID 40, PSS 39..35, SSADS 45, SSTS 46, FSTS 47", () => {
    expect(vtdCapabilities(0x80d2008c222f0606n, 0xf00f4an, 48)).toMatchObject({
      haw: 48, mgaw: 48, levels: [3, 4], fiveLevels: false, snoopControl: false, passThrough: true, firstStage: false, pasidBits: 0,
    });
    expect(vtdCapabilities(0n, 0x893800f00f4an, 48)).toMatchObject({ firstStage: true, secondStage: false, nested: false, executeRequests: false });
    expect(vtdCapabilities(0x10000000_00380600n, (1n << 40n) | (19n << 35n) | (1n << 26n) | 0x84n, 52)).toMatchObject({
      mgaw: 57, levels: [3, 4], fiveLevels: true, pasidBits: 20, nested: true, snoopControl: true, deviceTlb: true,
    });
  });
});

/** Root entry of bus 2, context entry of devfn 0x19 (16 bytes each). */
function legacy(root: readonly bigint[] = [CONTEXT | 1n, 0n], context: readonly bigint[] = [0x40000001n, 0x502n]): Words {
  return new Words().put(ROOT + 0x20n, ...root).put(CONTEXT + 0x190n, ...context);
}

describe("legacy mode (9.1, 9.3)", () => {
  it("an entry with SSPTPTR 0x40000000 and AW 2 is a table of 4 levels for 48 bits", () => {
    const found = stream(legacy(), "legacy");
    expect(found).toMatchObject({
      kind: "translate", stages: "second", fpd: false,
      domain: { format: L.FORMAT_VTD_SECOND, levels: 4, width: 48, outputWidth: 48, guestRoot: 0x40000000n, reservedLeaf: 0x800n, accessed: "ignore" },
    });
    expect(found.read.map((each) => [each.structure, each.address])).toEqual([["root-entry", 0x1020n], ["context-entry", 0x2190n]]);
  });

  it("AW 1 is 3 levels for 39 bits, no wider than MGAW; bit 11 of a leaf is legal with snoop control", () => {
    expect(stream(legacy(undefined, [0x40000001n, 0x501n]), "legacy")).toMatchObject({ domain: { levels: 3, width: 39 } });
    const small = { ...UNIT, mgaw: 36, snoopControl: true };
    expect(stream(legacy(undefined, [0x40000001n, 0x501n]), "legacy", undefined, small)).toMatchObject({ domain: { width: 36, reservedLeaf: 0n } });
  });

  it("TT 2 passes through, up to MGAW; FPD goes with it", () => {
    expect(stream(legacy(undefined, [0xbn, 0x502n]), "legacy")).toMatchObject({ kind: "identity", width: 48, fpd: true });
  });

  it.each<[string, Words, [string, number, boolean], Partial<VtdCapabilities>?]>([
    ["no root table", new Words(), ["root-table-access-error", 8, true]],
    ["root P = 0, whatever else is set", legacy([CONTEXT | 2n, 5n]), ["root-entry-not-present", 1, true]],
    ["root bit 1", legacy([CONTEXT | 3n, 0n]), ["root-entry-reserved-bit", 0xa, true]],
    ["root bit 48 of a 48-bit host", legacy([CONTEXT | 1n | (1n << 48n), 0n]), ["root-entry-reserved-bit", 0xa, true]],
    ["root's second word", legacy([CONTEXT | 1n, 1n << 63n]), ["root-entry-reserved-bit", 0xa, true]],
    ["no context table", new Words().put(ROOT + 0x20n, 0x9001n, 0n), ["context-table-access-error", 9, true]],
    ["context P = 0", legacy(undefined, [0n, 0n]), ["context-entry-not-present", 2, true]],
    ["context P = 0, FPD", legacy(undefined, [2n, 0n]), ["context-entry-not-present", 2, false]],
    ["context bit 4", legacy(undefined, [0x40000011n, 0x502n]), ["context-entry-reserved-bit", 0xb, true]],
    ["context bit 11, FPD: not qualified", legacy(undefined, [0x40000803n, 0x502n]), ["context-entry-reserved-bit", 0xb, true]],
    ["context bit 64 + 7", legacy(undefined, [0x40000001n, 0x582n]), ["context-entry-reserved-bit", 0xb, true]],
    ["context bit 64 + 24", legacy(undefined, [0x40000001n, 0x1000502n]), ["context-entry-reserved-bit", 0xb, true]],
    ["reserved before invalid", legacy(undefined, [0x40000011n, 0x507n]), ["context-entry-reserved-bit", 0xb, true]],
    ["AW 3, five levels that the unit lacks", legacy(undefined, [0x40000001n, 0x503n]), ["context-entry-invalid", 3, true]],
    ["AW 3, FPD", legacy(undefined, [0x40000003n, 0x503n]), ["context-entry-invalid", 3, false]],
    ["TT 1 without device TLBs", legacy(undefined, [0x40000005n, 0x502n]), ["context-entry-invalid", 3, true]],
    ["TT 2 without pass-through", legacy(undefined, [0x40000009n, 0x502n]), ["context-entry-invalid", 3, true], { passThrough: false }],
    ["TT 3", legacy(undefined, [0x4000000dn, 0x502n]), ["context-entry-invalid", 3, true]],
  ])("%s", (_name, memory, expected, unit = {}) => {
    expect(fault(memory, "legacy", undefined, { ...UNIT, ...unit })).toEqual(expected);
  });
});

const FIRST_STAGE = [0x41n, 0x7n, 0x50000010n, 0n, 0n, 0n, 0n, 0n];

/** Context entry of devfn 0x19 (32 bytes each), PASID 0x85: directory entry 2, table entry 5. */
function scalable(entry: readonly bigint[] = FIRST_STAGE, context: readonly bigint[] = [DIRECTORY | 9n, 0n, 0n, 0n], directory = PASIDS | 1n): Words {
  return new Words().put(ROOT + 0x20n, CONTEXT | 1n, 0n).put(CONTEXT + 0x320n, ...context).put(DIRECTORY + 0x10n, directory)
    .put(PASIDS + 0x140n, ...entry);
}

describe("scalable mode (9.2, 9.4 to 9.6)", () => {
  it("PGTT 1, FSPM 0, WPE: four levels of x86-64 for canonical addresses, accessed and dirty bits set", () => {
    const found = stream(scalable(), "scalable", 0x85);
    expect(found).toMatchObject({
      stages: "first", domain: {
        format: L.FORMAT_X86_64, levels: 4, width: 48, rule: "sign", guestRoot: 0x50000000n, accessed: "set", dirty: "set",
        options: L.OPTION_WRITE_PROTECT, reservedLeaf: 0n,
      },
    });
    expect(found.read.map((each) => each.structure)).toEqual(["scalable-root-entry", "scalable-context-entry", "pasid-directory-entry", "pasid-table-entry"]);
    expect(found.read.map((each) => each.address)).toEqual([0x1020n, 0x2320n, 0x3010n, 0x4140n]);
  });

  it("XD is reserved on a unit with execute requests while NXE is clear", () => {
    const unit = { ...UNIT, executeRequests: true };
    expect(stream(scalable(), "scalable", 0x85, unit)).toMatchObject({ domain: { reservedTable: 1n << 63n, reservedLeaf: 1n << 63n } });
    const enabled = [0x41n, 7n, 0x50000020n, 0n, 0n, 0n, 0n, 0n];
    expect(stream(scalable(enabled), "scalable", 0x85, unit)).toMatchObject({ domain: { reservedLeaf: 0n } });
  });

  it("PGTT 2, AW 1 and SSADE: a second stage of three levels", () => {
    const unit = { ...UNIT, secondStageAccessedDirty: true };
    expect(stream(scalable([0x60000285n, 7n, 0n, 0n, 0n, 0n, 0n, 0n]), "scalable", 0x85, unit)).toMatchObject({
      stages: "second", domain: { format: L.FORMAT_VTD_SECOND, levels: 3, width: 39, guestRoot: 0x60000000n, accessed: "set", dirty: "set" },
    });
  });

  it("PGTT 3: the first stage over the second; PGTT 4: nothing", () => {
    expect(stream(scalable([0x600000c9n, 7n, 0x50000000n, 0n, 0n, 0n, 0n, 0n]), "scalable", 0x85)).toMatchObject({
      stages: "nested", domain: { guestRoot: 0x50000000n, nested: { format: L.FORMAT_VTD_SECOND, levels: 4, guestRoot: 0x60000000n } },
    });
    expect(stream(scalable([0x109n, 7n, 0n, 0n, 0n, 0n, 0n, 0n]), "scalable", 0x85)).toMatchObject({ kind: "identity", width: 48 });
  });

  it("devfn 0x80 and above is in the upper half of the root entry", () => {
    const memory = new Words().put(ROOT + 0x20n, 0n, CONTEXT | 1n).put(CONTEXT + 0x320n, DIRECTORY | 1n, 0n, 0n, 0n)
      .put(DIRECTORY, PASIDS | 1n).put(PASIDS, ...FIRST_STAGE);
    expect(stream(memory, "scalable", undefined, UNIT, 0x0299)).toMatchObject({ kind: "translate" });
    expect(fault(memory, "scalable")).toEqual(["root-entry-not-present", 0x39, true]);
  });

  it("a request without PASID uses RID_PASID", () => {
    expect(stream(scalable(undefined, [DIRECTORY | 1n, 0x85n, 0n, 0n]), "scalable")).toMatchObject({ kind: "translate" });
  });

  const entry = (first: bigint, third = 0x50000000n, rest: bigint[] = [0n, 0n, 0n, 0n, 0n]): Words => scalable([first, 7n, third, ...rest]);
  const context = (...words: bigint[]): Words => scalable(undefined, words);
  it.each<[string, Words, [string, number, boolean], Partial<VtdCapabilities>?]>([
    ["no root table", new Words(), ["root-table-access-error", 0x38, true]],
    ["root reserved", new Words().put(ROOT + 0x20n, CONTEXT | 0x801n, 0n), ["root-entry-reserved-bit", 0x3a, true]],
    ["no context table", new Words().put(ROOT + 0x20n, CONTEXT | 1n, 0n), ["context-table-access-error", 0x40, true]],
    ["context P = 0", context(0n, 0n, 0n, 0n), ["context-entry-not-present", 0x41, true]],
    ["context P = 0, FPD", context(2n, 0n, 0n, 0n), ["context-entry-not-present", 0x41, false]],
    ["context bit 5", context(DIRECTORY | 0x29n, 0n, 0n, 0n), ["context-entry-reserved-bit", 0x42, true]],
    ["DTE without device TLBs", context(DIRECTORY | 0xdn, 0n, 0n, 0n), ["context-entry-reserved-bit", 0x42, true]],
    ["PRE without page requests", context(DIRECTORY | 0x19n, 0n, 0n, 0n), ["context-entry-reserved-bit", 0x42, true]],
    ["context bit 64 + 21", context(DIRECTORY | 9n, 0x200000n, 0n, 0n), ["context-entry-reserved-bit", 0x42, true]],
    ["context's last word", context(DIRECTORY | 9n, 0n, 0n, 1n), ["context-entry-reserved-bit", 0x42, true]],
    ["PASIDE clear", context(DIRECTORY | 1n, 0n, 0n, 0n), ["pasid-disabled", 0x45, true]],
    ["no directory", context(0x7777000n | 9n, 0n, 0n, 0n), ["pasid-dir-access-error", 0x50, true]],
    ["directory P = 0", scalable(undefined, undefined, 0n), ["pasid-dir-entry-not-present", 0x51, true]],
    ["directory P = 0, FPD", scalable(undefined, undefined, 2n), ["pasid-dir-entry-not-present", 0x51, false]],
    ["directory bit 2", scalable(undefined, undefined, PASIDS | 5n), ["pasid-dir-entry-reserved-bit", 0x52, true]],
    ["no PASID table", scalable(undefined, undefined, 0x7777001n), ["pasid-table-access-error", 0x58, true]],
    ["entry P = 0", entry(0x40n), ["pasid-entry-not-present", 0x59, true]],
    ["entry P = 0, FPD", entry(0x42n), ["pasid-entry-not-present", 0x59, false]],
    ["entry P = 0, FPD in the context entry", scalable([0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n], [DIRECTORY | 0xbn, 0n, 0n, 0n]), ["pasid-entry-not-present", 0x59, false]],
    ["entry bit 10", entry(0x441n), ["pasid-entry-reserved-bit", 0x5a, true]],
    ["entry's last word", entry(0x41n, 0x50000000n, [0n, 0n, 0n, 0n, 1n]), ["pasid-entry-reserved-bit", 0x5a, true]],
    ["FSPTPTR beyond the host's width", entry(0x41n, 1n << 48n), ["pasid-entry-reserved-bit", 0x5a, true]],
    ["PGTT 0", entry(1n), ["pasid-entry-invalid", 0x5b, true]],
    ["PGTT 5", entry(0x141n), ["pasid-entry-invalid", 0x5b, true]],
    ["PGTT 1 without first stage", entry(0x41n), ["pasid-entry-invalid", 0x5b, true], { firstStage: false }],
    ["PGTT 2 with AW 3", entry(0x8dn), ["pasid-entry-invalid", 0x5b, true]],
    ["PGTT 4 without pass-through", entry(0x109n), ["pasid-entry-invalid", 0x5b, true], { passThrough: false }],
    ["FSPM 1 without five levels", entry(0x41n, 0x50000004n), ["pasid-entry-invalid", 0x5b, true]],
    ["FSPM 2", entry(0x41n, 0x50000008n), ["pasid-entry-invalid", 0x5b, true], { fiveLevels: true }],
  ])("%s", (_name, memory, expected, unit = {}) => {
    expect(fault(memory, "scalable", 0x85, { ...UNIT, ...unit })).toEqual(expected);
  });

  it("PDTS says how many PASIDs the directory holds: 2^(PDTS + 13)", () => {
    expect(fault(scalable(), "scalable", 0x2000)).toEqual(["pasid-beyond-directory", 0x46, true]);
    expect(fault(scalable(undefined, [DIRECTORY | 0x209n, 0n, 0n, 0n]), "scalable", 0x2000)).toEqual(["pasid-dir-access-error", 0x50, true]);
    expect(fault(scalable(undefined, [DIRECTORY | 1n, 0x2000n, 0n, 0n]), "scalable")).toEqual(["rid-pasid-invalid", 0x48, true]);
  });
});
