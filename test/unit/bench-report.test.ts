// The benchmark's verdicts: what a gate is compared with, what fails --check, and what the page and README's table show of it.
import { describe, expect, it } from "vitest";
import { htmlReport } from "../../bench/html-report.mjs";
import { checkTargets, failedRow, failures, isGated, markdown, rowResult, table, type Result } from "../../bench/report.mjs";
import { ROWS } from "../../bench/rows.mjs";

const L1 = { name: "iotlb-hit-l1", about: "all hits", unit: "translation", baselines: ["native C", "Map<number>"] };
const ABOUT = { node: "v20", v8: "11", cpu: "A <fast> & \"good\" one", arch: "x64", compiler: "cc", clock: "thread CPU time" };

const ratio = (median: number) => ({ median, q1: median * 0.9, q3: median * 1.1, rounds: [median] });

/** The result of a row whose gates are 1.15 (native C) and 8 times faster (Map<number>). */
function resultOf(native: number | undefined, map: number): Result {
  const variants = [
    { name: "ioasid", ns: 2.5 }, ...(native === undefined ? [] : [{ name: "native C", ns: 2, ratio: ratio(native) }]),
    { name: "Map<number>", ns: 30, ratio: ratio(map) },
  ];
  return rowResult(L1, { variants }, ["a note"], "no C compiler: cc does not run");
}

describe("gates", () => {
  it("a limit is met when the median is at it, and missed above it", () => {
    const verdicts = (result: Result) => result.baselines.map(({ met }) => met);
    expect(verdicts(resultOf(1.15, 1 / 8))).toEqual([true, true]);
    expect(verdicts(resultOf(1.151, 0.126))).toEqual([false, false]);
  });

  it("what is missed, missing or broken fails the check, each named with its figures", () => {
    expect(failures([resultOf(1, 0.1)])).toEqual([]);
    expect(failures([resultOf(1.3, 0.1)])).toEqual(["iotlb-hit-l1, native C: ratio 1.300, gate <= 1.15"]);
    expect(failures([resultOf(undefined, 0.1)])).toEqual(["iotlb-hit-l1, native C: no C compiler: cc does not run"]);
    expect(failures([failedRow(L1, new Error("checksums differ"))])).toEqual(["iotlb-hit-l1: checksums differ"]);
  });

  it("every gate names a row and a baseline of it, and has a limit", () => {
    expect(() => checkTargets(ROWS)).not.toThrow();
    expect(() => checkTargets([L1], { "iotlb-hit-l9": { "native C": { ratioAtMost: 1 } } })).toThrow("iotlb-hit-l9, native C");
    expect(() => checkTargets([L1], { "iotlb-hit-l1": { Map: { ratioAtMost: 1 } } })).toThrow("iotlb-hit-l1, Map");
    expect(() => checkTargets([L1], { "iotlb-hit-l1": { "native C": {} } })).toThrow("no limit");
  });

  it("names of rows are different, and those without gates are not checked", () => {
    expect(new Set(ROWS.map(({ name }) => name)).size).toBe(ROWS.length);
    expect(isGated(L1)).toBe(true);
    expect(isGated({ ...L1, name: "latency-anchor-4m" })).toBe(false);
  });
});

describe("what is shown", () => {
  it("the table and README's lines have ratio, quartiles, gate and verdict", () => {
    expect(table([resultOf(1.3, 0.1)])).toMatch(/native C.*1\.300.*1\.170 \.\. 1\.430.*<= 1\.15.*MISSED/);
    expect(markdown([resultOf(1.3, 0.1)]).split("\n").slice(2)).toEqual([
      "| `iotlb-hit-l1` | 2.50 | native C | 1.300 | 1.170 .. 1.430 | <= 1.15, missed |", "| | | Map<number> | 0.100 | 0.0900 .. 0.110 | <= 1/8 |",
    ]);
  });

  it("README's lines tell all baselines of a row that has a gate for one, and leave out rows without, unless they are only reported", () => {
    const also = { variants: [{ name: "ioasid", ns: 2.5 }, { name: "native C", ns: 2, ratio: ratio(1) }, { name: "C, in groups", ns: 2, ratio: ratio(1.2) }] };
    expect(markdown([rowResult({ ...L1, baselines: ["native C", "C, in groups"] }, also, [], null)])).toContain("| | | C, in groups | 1.200 | 1.080 .. 1.320 | |");
    const row = { ...L1, name: "latency-anchor-4m", baselines: ["native C"] };
    const measured = { variants: [{ name: "ioasid", ns: 0.25 }, { name: "native C", ns: 2, ratio: ratio(1.2) }] };
    expect(markdown([rowResult(row, measured, [], null)]).split("\n")).toHaveLength(2);
    expect(markdown([rowResult({ ...row, reported: true }, measured, [], null)])).toContain("| native C | 1.200 |");
    expect(markdown([rowResult({ ...row, baselines: [], reported: true }, measured, [], null)])).toContain("| `latency-anchor-4m` | 0.2500 | | | | |");
    expect(markdown([resultOf(undefined, 0.1)])).toContain("| native C | not run | | <= 1.15 |");
    expect(markdown([failedRow(row, new Error("x"))])).toContain("| `latency-anchor-4m` | | | not run | | |");
  });

  it("the page asks nothing of a network, and escapes what it is given", () => {
    const page = htmlReport([resultOf(1.3, 0.1), failedRow({ ...L1, name: "broken" }, new Error("a < b"))], ABOUT, 21);
    expect(page).not.toMatch(/https?:|<script|<link|<img|url\(|@import/);
    expect(page).toContain("A &lt;fast&gt; &amp; &quot;good&quot; one");
    expect(page).toContain("not run: a &lt; b");
    expect(page).toContain("Map&lt;number&gt;");
    expect(page).toContain("1 of 2 gates met; 2 missed or not run");
  });

  it("a bar reaches from 1 to the median, beside the mark of its gate, on one logarithmic axis", () => {
    // All lies in 0.1 to 10, two decades, so that 1 is in the middle.
    const page = htmlReport([resultOf(9, 0.12)], ABOUT, 21);
    expect(page).toContain('<i class="bar is-missed" style="left:50%;width:47.71%"></i>');
    expect(page).toContain('<i class="gate" style="left:53.03%"></i>');
    expect(htmlReport([resultOf(1, 0.012)], ABOUT, 21)).toContain('<i class="bar is-met" style="left:2.64%;width:64.03%"></i>');
  });
});
