// From the engine's reasons to the faults of each architecture: numbers and records worked out by hand from the manuals.
// VT-d 7.1.2, 7.1.3, 11.4.14; SMMUv3 (IHI 0070) 7.3, 3.12. AMD's are beside its structures.
import { describe, expect, it } from "vitest";
import type { EngineRefusal } from "../../src/iommu/faults/fault.js";
import { translationEvent, translationEventName } from "../../src/iommu/faults/smmuv3.js";
import { vtdFault, vtdOutputReason, vtdReason, type VtdMode, type VtdReason, type VtdWalkContext } from "../../src/iommu/faults/vtd.js";

const REQUEST = { rid: 0x0219, iova: 0x1234567n, write: false, privileged: false };

function refusal(reason: EngineRefusal["reason"], stage = 2, level = 0, more: Partial<EngineRefusal> = {}): EngineRefusal {
  return { reason, stage, class: "input", level, ipa: 0n, readable: true, ...more };
}

describe("VT-d", () => {
  it.each<[VtdReason, number | undefined, number | undefined]>([
    ["root-entry-not-present", 0x1, 0x39], ["context-entry-not-present", 0x2, 0x41], ["context-entry-invalid", 0x3, 0x43],
    ["address-beyond-width", 0x4, 0x83], ["write-not-permitted", 0x5, 0x85], ["read-not-permitted", 0x6, 0x86],
    ["ss-entry-access-error", 0x7, 0x78], ["root-table-access-error", 0x8, 0x38], ["context-table-access-error", 0x9, 0x40],
    ["root-entry-reserved-bit", 0xa, 0x3a], ["context-entry-reserved-bit", 0xb, 0x42], ["ss-entry-reserved-bit", 0xc, 0x7a],
    ["output-in-interrupt-range", 0xe, undefined], ["sm-output-in-interrupt-range", undefined, 0x87],
    ["ss-root-access-error", 0x3, 0x7b], ["pasid-dir-access-error", undefined, 0x50], ["pasid-dir-entry-not-present", undefined, 0x51],
    ["pasid-table-access-error", undefined, 0x58], ["pasid-entry-not-present", undefined, 0x59], ["pasid-entry-invalid", undefined, 0x5b],
    ["fs-entry-access-error", undefined, 0x70], ["fs-entry-not-present", undefined, 0x71], ["fs-entry-reserved-bit", undefined, 0x72],
    ["fs-root-access-error", undefined, 0x73], ["address-not-canonical", undefined, 0x80], ["fs-user-bit-clear", undefined, 0x81],
    ["fs-write-not-permitted", undefined, 0x85],
  ])("%s: %i in legacy mode, %i in scalable mode", (reason, legacy, scalable) => {
    const code = (mode: VtdMode): number | undefined => vtdFault(reason, { mode, fpd: false }, REQUEST).code;
    if (legacy === undefined) expect(() => code("legacy")).toThrow("does not exist");
    else expect(code("legacy")).toBe(legacy);
    if (scalable === undefined) expect(() => code("scalable")).toThrow("does not exist");
    else expect(code("scalable")).toBe(scalable);
  });

  it("a fault recording register: page, F, T1 of a read, FR and SID; PP and PASID of a request with one", () => {
    const context = { mode: "scalable", fpd: false } as const;
    expect(vtdFault("read-not-permitted", context, REQUEST).record).toEqual([0x1234000n, 0xc000008600000219n]);
    expect(vtdFault("write-not-permitted", context, { ...REQUEST, write: true, pasid: 0xabcde }).record).toEqual([0x1234000n, 0x8abcde8580000219n]);
    expect(vtdFault("write-not-permitted", context, { ...REQUEST, write: true, pasid: 0, privileged: true }).record).toEqual([0x1234000n, 0x80000085a0000219n]);
  });

  it("FPD silences what is qualified, and nothing else", () => {
    const reported = (reason: VtdReason): boolean => vtdFault(reason, { mode: "scalable", fpd: true }, REQUEST).reported;
    for (const reason of ["read-not-permitted", "ss-entry-reserved-bit", "context-entry-not-present", "pasid-entry-invalid", "sm-output-in-interrupt-range"] as const) {
      expect(reported(reason), reason).toBe(false);
    }
    for (const reason of ["root-entry-not-present", "context-entry-reserved-bit", "pasid-dir-access-error"] as const) expect(reported(reason), reason).toBe(true);
  });

  const context = (stages: VtdWalkContext["stages"], mode: VtdMode = "scalable"): VtdWalkContext => ({ mode, fpd: false, stages, topLevel: 3 });
  it.each<[string, EngineRefusal, VtdWalkContext, boolean, VtdReason]>([
    ["an absent second-stage entry, read", refusal("not-present"), context("second"), false, "read-not-permitted"],
    ["the same, written", refusal("not-present"), context("second"), true, "write-not-permitted"],
    ["the start table unreadable", refusal("table-outside", 2, 3), context("second"), false, "ss-root-access-error"],
    ["the same in legacy mode", refusal("table-outside", 2, 3), context("second", "legacy"), false, "context-entry-invalid"],
    ["a table below it", refusal("table-outside", 2, 2), context("second"), false, "ss-entry-access-error"],
    ["beyond the width", refusal("address-width", 2, 3), context("second"), false, "address-beyond-width"],
    ["not canonical", refusal("address-width", 1, 3), context("first"), false, "address-not-canonical"],
    ["absent in the first stage", refusal("not-present", 1), context("first"), false, "fs-entry-not-present"],
    ["a supervisor page, read", refusal("read-denied", 1, 0, { readable: false }), context("first"), false, "fs-user-bit-clear"],
    ["a supervisor page, written", refusal("write-denied", 1, 0, { readable: false }), context("first"), true, "fs-user-bit-clear"],
    ["a read-only page", refusal("write-denied", 1), context("first"), true, "fs-write-not-permitted"],
    ["the first stage's root", refusal("table-outside", 1, 3), context("first"), false, "fs-root-access-error"],
    ["nested: a first-stage table beyond the second stage", refusal("address-width", 2, 3, { class: "table" }), context("nested"), false, "fs-entry-beyond-width"],
    ["nested: an output beyond it", refusal("address-width", 2, 3), context("nested"), false, "fs-output-beyond-width"],
    ["nested: a first-stage table that may not be read", refusal("not-present", 2, 0, { class: "table" }), context("nested"), true, "fs-entry-not-readable"],
    ["nested: an accessed bit that may not be set", refusal("write-denied", 2, 0, { class: "table" }), context("nested"), false, "fs-entry-not-writable"],
    ["nested: an output that may not be written", refusal("write-denied"), context("nested"), true, "write-not-permitted"],
  ])("%s", (_name, engine, where, write, expected) => {
    expect(vtdReason(engine, where, write)).toBe(expected);
  });

  it("outputs among interrupt messages", () => {
    expect(vtdOutputReason("legacy", 0xfee00000n)).toBe("output-in-interrupt-range");
    expect(vtdOutputReason("scalable", 0xfeefffffn)).toBe("sm-output-in-interrupt-range");
    expect([vtdOutputReason("legacy", 0xfedfffffn), vtdOutputReason("legacy", 0xfef00000n)]).toEqual([undefined, undefined]);
  });
});

describe("SMMUv3", () => {
  const request = { rid: 0x20, iova: 0xfffff000n, write: false, privileged: false };

  it("reasons and their events", () => {
    const names = (["not-present", "address-width", "address-size", "access-flag", "read-denied", "write-denied", "table-outside"] as const).map(translationEventName);
    expect(names).toEqual(["F_TRANSLATION", "F_TRANSLATION", "F_ADDR_SIZE", "F_ACCESS", "F_PERMISSION", "F_PERMISSION", "F_WALK_EABT"]);
  });

  it("stage 1, input, read: CLASS 2, RnW", () => {
    expect(translationEvent({ event: "F_TRANSLATION", stage: 1, class: "IN", ipa: 0n }, request, true)).toMatchObject({
      code: 0x10, reported: true, record: [0x2000000010n, 0x20800000000n, 0xfffff000n, 0n],
    });
  });

  it("stage 2, input, privileged write with a substream: S2, PnU, SSV and the IPA's page", () => {
    const write = { ...request, write: true, privileged: true, pasid: 5 };
    expect(translationEvent({ event: "F_PERMISSION", stage: 2, class: "IN", ipa: 0x12345678n }, write, false)).toMatchObject({
      code: 0x13, reported: false, record: [0x2000005813n, 0x28200000000n, 0xfffff000n, 0x12345000n],
    });
  });

  it("stage 2 on behalf of a stage-1 table reads, and an external abort is always recorded", () => {
    expect(translationEvent({ event: "F_WALK_EABT", stage: 2, class: "TT", ipa: 0x12345678n }, { ...request, write: true }, false)).toMatchObject({
      code: 0x0b, reported: true, record: [0x200000000bn, 0x18800000000n, 0xfffff000n, 0n],
    });
  });
});
