// The reference walker against answers that somebody else computed: a share of every vector file (test/vectors/README.md).
// test/long has all of them.
import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { compareCase, compareFile, type Comparison } from "../oracle/vectors/compare.js";
import { loadVectors } from "../oracle/vectors/file.js";
import { markDifferences } from "../oracle/vectors/marks.js";

const FOLDER = new URL("../vectors/", import.meta.url);
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith(".json.gz"));
/** Every so many cases of a file. */
const SHARE = 8;

describe("answers computed elsewhere", () => {
  it("has the sixteen families and six images of Linux tables", () => {
    expect(FILES.filter((name) => name.startsWith("image-"))).toHaveLength(6);
    expect(FILES.filter((name) => !name.startsWith("image-"))).toHaveLength(16);
  });

  it.each(FILES)("%s: no difference", (name) => {
    const file = loadVectors(new URL(name, FOLDER));
    const { different, queries, skipped, equal } = compareFile(file, SHARE);
    expect(different).toEqual([]);
    expect(equal).toBe(queries - skipped);
    expect(equal).toBeGreaterThan(100);
  });

  it("sees accessed bits of first-stage tables as they were left", () => {
    const { unit, cases } = loadVectors(new URL("vtd-scalable-fs.json.gz", FOLDER));
    expect(cases.flatMap((one) => markDifferences(unit, one))).toEqual([]);
    expect(cases.reduce((sum, one) => sum + one.memory_after!.length, 0)).toBeGreaterThan(10_000);
  });
});

describe("a difference", () => {
  const { unit, cases } = loadVectors(new URL("smmuv3-nested-4k.json.gz", FOLDER));

  function compareAltered(change: (expected: Record<string, unknown>) => void, wanted: (expected: Record<string, unknown>) => boolean): string[] {
    for (const one of cases) {
      const at = one.queries.findIndex((query) => query.quirk === undefined && wanted({ ...query.expect }));
      if (at < 0) continue;
      const queries = one.queries.map((query, n) => {
        const expected: Record<string, unknown> = { ...query.expect };
        if (n === at) change(expected);
        return { ...query, expect: expected };
      });
      const sum: Comparison = { queries: 0, equal: 0, skipped: 0, different: [] };
      compareCase(unit, { ...one, queries }, sum);
      expect(sum.equal + sum.skipped).toBe(sum.queries - 1);
      return sum.different;
    }
    throw new Error("no case has such a query");
  }

  it.each([
    ["pa", "0x1000"], ["size", 1], ["perm", ""], ["ipa", "0x0"], ["s1_size", 2],
  ])("of %s is one, and names its query", (field, value) => {
    const different = compareAltered((expected) => (expected[field] = value), (expected) => expected["ipa"] !== undefined);
    expect(different).toHaveLength(1);
    expect(different[0]).toMatch(new RegExp(`^case \\d+ rid \\d+ .* [rw]: ${field}: `));
  });

  it.each([["fault", "F_ACCESS"], ["stage", 1], ["class", "TT"], ["reported", false]])("of a refusal's %s is one", (field, value) => {
    const different = compareAltered((expected) => (expected[field] = value), ({ fault, stage, event }) => fault === "F_PERMISSION" && stage === 2 && event !== undefined);
    expect(different[0]).toMatch(new RegExp(`: ${field}: `));
  });

  it.each([0, 1, 2, 3])("of event word %i is one", (word) => {
    const flip = (expected: Record<string, unknown>): void => {
      const event = [...(expected["event"] as string[])];
      event[word] = `0x${(BigInt(event[word]!) ^ (1n << 39n)).toString(16)}`;
      expected["event"] = event;
    };
    expect(compareAltered(flip, ({ event, stage }) => event !== undefined && stage === 2)[0]).toMatch(new RegExp(`event word ${word}: `));
  });
});
