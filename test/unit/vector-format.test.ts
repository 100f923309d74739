// The reader of `iommu-vectors/1`: what it makes of a file, and how it names what is wrong in one.
import { describe, expect, it } from "vitest";
import { parseVectors } from "../../src/vectors/read.js";
import { shuffled } from "../../src/vectors/shuffle.js";
import { UnsupportedUnit } from "../../src/vectors/vectors.js";

type Json = Record<string, unknown>;

const query = (): Json => ({ rid: 8, iova: "0x1000", access: "w", expect: { pa: "0x5000", size: 4096, perm: "rw" } });
const unit = (): Json => ({ kind: "vtd", mode: "legacy", cap: "0x80d2008c222f0606", ecap: "0xf00f4a", haw: 48, ram: [["0x100000000", "0x1000"]] });
const file = (over: Json = {}): Json => ({
  format: "iommu-vectors/1", family: "f", source: "s", unit: unit(),
  cases: [{ id: 7, style: "walk", root: "0x100000000", memory: [{ gpa: "0x100000008", q: ["0xffffffffffffffff", "0x1"] }], queries: [query()] }], ...over,
});
const parse = (value: Json) => parseVectors(JSON.stringify(value));
/** A file with one thing changed in its case, its query or the query's answer. */
const withCase = (over: Json): Json => file({ cases: [{ ...(file()["cases"] as Json[])[0], ...over }] });
const withQuery = (over: Json): Json => withCase({ queries: [query(), { ...query(), ...over }] });

describe("a file", () => {
  it("becomes numbers, ranges and words", () => {
    expect(parse(file())).toEqual({
      family: "f", source: "s",
      unit: { kind: "vtd", mode: "legacy", cap: 0x80d2008c222f0606n, ecap: 0xf00f4an, haw: 48, ram: [{ first: 0x100000000n, length: 0x1000n }] },
      cases: [{
        id: 7, style: "walk", top: { kind: "vtd", root: 0x100000000n },
        memory: [{ gpa: 0x100000008n, words: BigUint64Array.of(0xffffffffffffffffn, 1n) }],
        queries: [{ rid: 8, iova: 0x1000n, write: true, expect: { pa: 0x5000n, size: 4096n, perm: "rw" } }],
      }],
    });
  });

  it("may have the other units, faults with records, PASIDs and quirks", () => {
    const smmu = { kind: "smmuv3", idr: ["0xd44101b", "0x2730010", "0x0", "0x1414", "0x0", "0x74"], ram: [["0x0", "0x1000"]] };
    const expect_ = { fault: "F_TRANSLATION", code: 16, stage: 2, class: "TT", level: 3, event: ["0x10", "0x0", "0x1", "0x2"], reported: true };
    const strtab = { base: "0x0", log2size: 10, fmt: "2level", split: 6 };
    const parsed = parse({ ...withCase({ strtab, queries: [{ ...query(), pasid: 3, expect: expect_, quirk: "order" }] }), unit: smmu });
    expect(parsed.cases[0]).toMatchObject({
      top: { kind: "smmuv3", base: 0n, log2size: 10, split: 6 },
      queries: [{ pasid: 3, quirk: "order", expect: { fault: "F_TRANSLATION", stage: 2, class: "TT", event: [16n, 0n, 1n, 2n] } }],
    });
    const amd = parse({ ...withCase({ devtab: { base: "0x0", entries: 256 } }), unit: { kind: "amdvi", efr: "0x29d3", ram: [["0x0", "0x1000"]] } });
    expect(amd).toMatchObject({ unit: { efr: 0x29d3n }, cases: [{ top: { kind: "amdvi", entries: 256 } }] });
  });

  it.each<[string, Json, string]>([
    ["format", file({ format: "iommu-vectors/2" }), "format: must be \"iommu-vectors/1\", not \"iommu-vectors/2\""],
    ["no format", {}, "format: must be \"iommu-vectors/1\", not \"none\""],
    ["cases", file({ cases: 3 }), "cases: must be a list, not 3"],
    ["unit", file({ unit: { ...unit(), haw: 60 } }), "unit: haw: must be an integer in 32..52, not 60"],
    ["RAM", file({ unit: { ...unit(), ram: [["0x1", "0x1000"]] } }), "unit: ram[0]: must be whole 4-KiB pages below 2^52"],
    ["RAM twice", file({ unit: { ...unit(), ram: [["0x2000", "0x1000"], ["0x1000", "0x2000"]] } }), "unit: ram: has ranges that overlap"],
    ["top structure", withCase({ root: 5 }), "case 7: root: must be a hexadecimal string of at most 64 bits, not 5"],
    ["memory", withCase({ memory: [{ gpa: "0x100000004", q: [] }] }), "case 7, memory[0]: gpa: must be a multiple of 8"],
    ["a word", withCase({ memory: [{ gpa: "0x0", q: ["0x0", "12"] }] }), "case 7, memory[0]: q[1]: must be a hexadecimal string, not \"12\""],
    ["65 bits", withQuery({ iova: "0x10000000000000000" }), "case 7, query 1: iova: must be a hexadecimal string of at most 64 bits"],
    ["rid", withQuery({ rid: -1 }), "case 7, query 1: rid: must be an integer in 0..16777215, not -1"],
    ["pasid", withQuery({ pasid: 1 << 20 }), "case 7, query 1: pasid: must be an integer in 0..1048575"],
    ["access", withQuery({ access: "x" }), "case 7, query 1: access: must be r or w, not \"x\""],
    ["no answer", withQuery({ expect: undefined }), "case 7, query 1: expect: must be an object"],
    ["answer without address", withQuery({ expect: {} }), "case 7, query 1: expect: pa: must be a hexadecimal string of at most 64 bits, not absent"],
    ["event of three words", withQuery({ expect: { fault: "x", event: ["0x0", "0x0", "0x0"] } }), "case 7, query 1: expect: event: must have 4 numbers, not 3"],
    ["changed words", withCase({ memory_after: [["0x0"]] }), "case 7: memory_after[0]: must be two hexadecimal strings"],
  ])("that breaks the format says where: %s", (_name, value, message) => {
    expect(() => parse(value)).toThrow(message);
  });

  it("of an IOMMU that is not modelled is refused as such; what is no JSON too", () => {
    expect(() => parse(file({ unit: { kind: "riscv", ram: [] } }))).toThrow(UnsupportedUnit);
    expect(() => parseVectors("hello")).toThrow("no JSON");
  });
});

describe("the shuffled order", () => {
  it("is a permutation, the same for the same seed, another for another", () => {
    const list = Array.from({ length: 100 }, (_, i) => i);
    const one = shuffled(list, 1);
    expect([...one].sort((a, b) => a - b)).toEqual(list);
    expect(one).not.toEqual(list);
    expect(shuffled(list, 1)).toEqual(one);
    expect(shuffled(list, 2)).not.toEqual(one);
    expect(shuffled([], 1)).toEqual([]);
  });
});
