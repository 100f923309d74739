// What the engine reads from random and spoilt entries of PASID tables, against the decoders of src/iommu/structures: a second
// reading of the same manuals. Imports the engine, the fixture and both decoders.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import { contextDescriptor } from "../../src/iommu/structures/smmuv3-cd.js";
import type { Smmuv3Capabilities } from "../../src/iommu/structures/smmuv3-capabilities.js";
import type { Stage } from "../../src/iommu/structures/structure.js";
import { pasidEntry } from "../../src/iommu/structures/vtd-pasid.js";
import { vtdCapabilities } from "../../src/iommu/structures/vtd-capabilities.js";
import { liveDomains } from "../oracle/engine-state.js";
import type { ReferenceDomain } from "../oracle/reference/types.js";
import { CD, guest, KINDS, ROOT, type Guest } from "./pasid-tables.js";

const PASID = 3;
const OUTPUT = 40;
const LEAF = 0x10000n;
const SMMU: Smmuv3Capabilities = {
  stage1: true, stage2: true, twoLevelCd: true, httu: 2, stallModel: 0, abortOnly: false, ttendian: 0, aarch64: true, substreamBits: 9,
  hierarchicalAttributeDisable: true, outputWidth: OUTPUT, granules: [12, 14, 16],
};
const VTD = { ...vtdCapabilities(0n, 0n, OUTPUT), firstStage: true, passThrough: true, levels: [3, 4, 5], fiveLevels: true };

/** A word with some bits of another, or any word. */
const spoilt = (base: bigint): fc.Arbitrary<bigint> => fc.oneof(
  fc.constant(base), fc.array(fc.nat(63), { maxLength: 3 }).map((all) => all.reduce((word, n) => word ^ (1n << BigInt(n)), base)),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
);

/** What the engine makes of the entry now: the domain that its route leads to, or the reason. */
function read(its: Guest): { table: ReferenceDomain | undefined; reason: string; domain: number | undefined } {
  const { engine, port, table, pasid } = its;
  engine.dropPasids(table);
  port.translateHalves(0, 0, pasid(PASID), 0);
  const reason = port.takeFaults().at(-1)?.reason ?? "none";
  const domain = engine.routeDomain(pasid(PASID));
  return { table: liveDomains(engine).find(({ index }) => index === domain)?.table, reason, domain };
}

/** The fields that the two know of one stage. */
function fields({ format, levels, width, rule, outputWidth, accessed, dirty, options }: Stage | ReferenceDomain, root: bigint): object {
  return { format, levels, width, rule, outputWidth, accessed, dirty, options: options ?? 0, root };
}

const words = ({ engine }: Guest) => (gpa: bigint): bigint | undefined => {
  const at = Number(gpa) / 8;
  return gpa < 0x80000n ? new BigUint64Array(engine.memory.buffer, engine.ram.offset, 0x10000)[at] : undefined;
};

describe("random entries", () => {
  it("of context descriptors", async () => {
    const its = await guest(KINDS[1]![1], { httu: 2 });
    const word = words(its);
    const at = ROOT + BigInt(PASID) * 64n;
    const disabled = 0x0000_0202_8080_0010n;
    const first = fc.oneof(spoilt(CD), spoilt(disabled | 0x10_0000n), spoilt(CD & ~0x4000_0000n | 0x99_0000n));
    fc.assert(fc.property(first, spoilt(0x20000n), spoilt(0x30000n), (zero, one, two) => {
      [zero, one, two].forEach((value, n) => its.write(at + BigInt(n) * 8n, value));
      const context = { pointer: ROOT, format: 0, substreamBits: 9, defaultSubstream: 0 };
      const expected = contextDescriptor<never>(context, PASID, SMMU, (gpa) => ({ word: word(gpa)! }), []);
      const { table, reason } = read(its);
      if (!("context" in expected)) {
        expect(reason).toBe(zero >> 31n & 1n ? "pasid-invalid" : "pasid-not-present");
        expect(table).toBeUndefined();
        return;
      }
      const { lower, upper } = expected.context;
      if (lower) expect(fields(table!, table!.root)).toEqual(fields(lower, lower.guestRoot));
      else expect(reason).toBe("address-width");
      if (upper) expect(fields(table!.upper!, table!.upper!.root)).toEqual(fields(upper, upper.guestRoot));
    }), { numRuns: 600 });
  });

  it("of the VT-d directory and table", async () => {
    const its = await guest(KINDS[0]![1], { fiveLevels: true });
    const word = words(its);
    const at = LEAF + BigInt(PASID) * 64n;
    const entry = fc.tuple(fc.oneof(spoilt(0x41n), spoilt(0x10dn)), fc.oneof(fc.constant(0n), spoilt(0n)), spoilt(0x20000n), fc.oneof(fc.constant(0n), spoilt(0n)));
    fc.assert(fc.property(fc.oneof(fc.constant(LEAF | 1n), spoilt(LEAF | 1n)), entry, (directory, [zero, one, two, last]) => {
      its.write(ROOT, directory);
      for (const [n, value] of [[0, zero], [1, one], [2, two], [5, last]] as const) its.write(at + BigInt(n) * 8n, value);
      const expected = pasidEntry({ read64: word }, ROOT, PASID, VTD, []);
      const { table, reason, domain } = read(its);
      if ("reason" in expected) {
        const absent = expected.reason.endsWith("not-present");
        const outside = expected.reason.endsWith("access-error");
        expect([reason, domain]).toEqual([outside ? expect.stringMatching(/^(not-present|address-width)$/) : absent ? "pasid-not-present" : "pasid-invalid", undefined]);
        return;
      }
      if (expected.entry.kind === "pass-through") {
        expect(domain).toBe(its.domain);
        return;
      }
      const { firstLevels, firstTable, writeProtect } = expected.entry;
      expect(fields(table!, table!.root)).toEqual({
        format: L.FORMAT_X86_64, levels: firstLevels, width: 12 + 9 * firstLevels, rule: "sign", outputWidth: OUTPUT, accessed: "set", dirty: "set",
        options: writeProtect ? L.OPTION_WRITE_PROTECT : 0, root: firstTable,
      });
    }), { numRuns: 600 });
  });

  it("of GCR3 tables end in tables or in a refusal", async () => {
    for (const [, kind] of KINDS.slice(4)) {
      const its = await guest(kind);
      fc.assert(fc.property(fc.array(spoilt(LEAF | 1n), { minLength: 4, maxLength: 4 }), ([a, b, c, d]) => {
        [a!, b!].forEach((value, n) => its.write(ROOT + BigInt(n * PASID) * 8n, value));
        [c!, d!].forEach((value, n) => its.write(LEAF + BigInt(n * PASID) * 8n, value));
        const { reason, table } = read(its);
        if (table) expect([table.format, table.levels, table.root & 0xfffn]).toEqual([L.FORMAT_X86_64, 4, 0n]);
        else expect(["pasid-not-present", "pasid-invalid", "not-present", "address-width"]).toContain(reason);
      }), { numRuns: 300 });
    }
  });
});
