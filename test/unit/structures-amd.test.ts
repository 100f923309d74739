// AMD device table entries from golden words. AMD I/O Virtualization Technology Specification, 2.2.2.1 (fields), 2.5 (events).
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import { amdCapabilities } from "../../src/iommu/structures/amd-device-table.js";
import { AmdUnit } from "../../src/iommu/units/amd.js";
import { Words } from "./structure-fixture.js";

const BASE = 0x10000n;
const RID = 0x20;
const UNIT = { levels: 6, guestTables: false };
const READ = { rid: RID, iova: 0x1234567n, write: false, privileged: false };
const WRITE = { ...READ, write: true };

function unitOf(...words: bigint[]): AmdUnit {
  return new AmdUnit(new Words().put(BASE + 0x400n, ...words), UNIT, { base: BASE, entries: 256 });
}

const stream = (...words: bigint[]) => unitOf(...words).stream(RID, undefined);

describe("a device table entry", () => {
  it("EFR: HATS 11..10 says 4 to 6 levels, GTSup is bit 4", () => {
    expect(amdCapabilities(0x29d3n)).toEqual({ levels: 6, guestTables: true });
    expect(amdCapabilities(0n)).toEqual({ levels: 4, guestTables: false });
  });

  it("V, TV, Mode 4, IR and IW: four levels from bits 51..12", () => {
    const found = stream(0x6000000012345803n, 0x2an, 0n, 0n);
    expect(found).toMatchObject({
      kind: "translate", domainId: 0x2a, permissions: L.PERM_R | L.PERM_W,
      domain: { format: L.FORMAT_AMD_V1, levels: 4, width: 48, outputWidth: 52, guestRoot: 0x12345000n },
    });
    expect(found.read).toMatchObject([{ structure: "device-table-entry", address: 0x10400n }]);
  });

  it("Mode 6 takes all 64 bits; IR alone lets only reads through", () => {
    expect(stream(0x2000000012345c03n, 0n, 0n, 0n)).toMatchObject({ domain: { levels: 6, width: 64 }, permissions: L.PERM_R });
  });

  it("V clear passes everything, whatever the other fields say", () => {
    expect(stream(0xfffffffffffffffen, ~0n & 0xffffn, 0n, 1n)).toMatchObject({ kind: "identity", width: 64, permissions: 3 });
  });

  it("Mode 0 passes what IR and IW permit; what they deny is a page fault", () => {
    const unit = unitOf(0x2000000000000003n, 0x7n, 0n, 0n);
    const found = unit.stream(RID, undefined);
    expect(found).toMatchObject({ kind: "identity", permissions: L.PERM_R });
    expect(unit.refusal(found, WRITE)).toMatchObject({ name: "IO_PAGE_FAULT", code: 2, reported: true });
  });

  it("TV clear ends requests without an event", () => {
    const unit = unitOf(0x6000000012345801n, 0n, 0n, 0n);
    expect(unit.refusal(unit.stream(RID, undefined), READ)).toEqual({ name: "NO_TRANSLATION", code: undefined, reported: false });
  });

  it.each<[string, bigint[]]>([
    ["bit 2", [0x6000000012345807n, 0n, 0n, 0n]], ["bit 63", [0xe000000012345803n, 0n, 0n, 0n]],
    ["bit 128 + 52", [0x6000000012345803n, 0n, 1n << 52n, 0n]], ["bit 192", [0x6000000012345803n, 0n, 0n, 1n]],
    ["bit 192 + 53", [0x6000000012345803n, 0n, 0n, 1n << 53n]], ["Mode 7", [0x6000000012345e03n, 0n, 0n, 0n]],
    ["GV without guest tables", [0x6080000012345803n, 0n, 0n, 0n]],
  ])("%s is illegal", (_name, words) => {
    const unit = unitOf(...words);
    expect(unit.refusal(unit.stream(RID, undefined), READ)).toMatchObject({ name: "ILLEGAL_DEV_TABLE_ENTRY", code: 1, reported: true });
  });

  it("the event's RZ tells a reserved bit from a value without meaning", () => {
    const record = (word: bigint) => {
      const unit = unitOf(word, 0n, 0n, 0n);
      return unit.refusal(unit.stream(RID, undefined), READ).record;
    };
    expect(record(0x6000000012345807n)).toEqual([0x1080000000000020n, 0x1234567n]);
    expect(record(0x6000000012345e03n)).toEqual([0x1000000000000020n, 0x1234567n]);
  });

  it("outside the table is illegal, outside memory a hardware error", () => {
    const unit = unitOf(0x6000000012345803n, 0n, 0n, 0n);
    expect(unit.refusal(unit.stream(256, undefined), READ)).toMatchObject({ name: "ILLEGAL_DEV_TABLE_ENTRY" });
    expect(unit.refusal(unit.stream(0x21, undefined), READ)).toMatchObject({
      name: "DEV_TAB_HARDWARE_ERROR", code: 3, record: [0x3200000000000020n, 0x10420n],
    });
  });
});

describe("events", () => {
  const refusal = { stage: 2, class: "input", level: 0, ipa: 0n, readable: true } as const;

  it("a denied write to a present page: code 2, PR, RW, PE, DomainID and DeviceID", () => {
    const unit = unitOf(0x6000000012345803n, 0x2an, 0n, 0n);
    const event = unit.fault(unit.stream(RID, undefined), WRITE, { ...refusal, reason: "write-denied" });
    expect(event).toEqual({ name: "IO_PAGE_FAULT", code: 2, reported: true, record: [0x2070002a00000020n, 0x1234567n] });
  });

  it("an absent page has none of them, a reserved bit RZ", () => {
    const unit = unitOf(0x6000000012345803n, 0x2an, 0n, 0n);
    const found = unit.stream(RID, undefined);
    expect(unit.fault(found, READ, { ...refusal, reason: "not-present" }).record).toEqual([0x2000002a00000020n, 0x1234567n]);
    expect(unit.fault(found, READ, { ...refusal, reason: "reserved" }).record).toEqual([0x2090002a00000020n, 0x1234567n]);
  });

  it("SA suppresses page faults and nothing else", () => {
    const unit = unitOf(0x6000000012345803n, 0x40000002an, 0n, 0n);
    const found = unit.stream(RID, undefined);
    expect(unit.fault(found, READ, { ...refusal, reason: "not-present" }).reported).toBe(false);
    expect(unit.fault(found, READ, { ...refusal, reason: "table-outside", class: "table" })).toMatchObject({
      name: "PAGE_TAB_HARDWARE_ERROR", code: 4, reported: true, record: [0x4200002a00000020n, 0n],
    });
  });
});
