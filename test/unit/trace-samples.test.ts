// The recorded traces: counts of events as their README gives them, every line given back, and the look-ahead.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";

import { readTrace } from "../../src/trace/read-node.js";
import { planSegments } from "../../src/trace/segments.js";
import * as T from "../../src/trace/trace.js";

const BUNDLED = "vtd-legacy-strict-nvme";

/** dma, translated, refused, stale, map, inv: the table of test/traces/README.md. */
const TABLE: [string, ...number[]][] = [
  ["amdvi-strict", 34382, 33789, 593, 0, 6924, 12182],
  ["smmuv3-16k-strict", 36802, 36271, 531, 0, 7030, 5274],
  ["smmuv3-4k-lazy-high-iova", 43476, 42943, 309, 224, 5756, 219],
  ["smmuv3-4k-strict", 43660, 43144, 516, 0, 5808, 6359],
  ["virtio-iommu-9p-ide-seq", 299193, 299193, 0, 0, 37761, 0],
  ["virtio-iommu-mixed-late", 174146, 169673, 4473, 0, 23023, 0],
  ["vtd-legacy-lazy", 42177, 41360, 353, 464, 5962, 283],
  ["vtd-legacy-strict-7.3", 90755, 90141, 614, 0, 7271, 5891],
  ["vtd-legacy-strict-net-nvme", 87184, 86538, 646, 0, 18823, 17816],
  [BUNDLED, 77200, 77200, 0, 0, 9241, 4945],
  ["vtd-legacy39-strict-high-iova", 189853, 189384, 469, 0, 10792, 9508],
  ["vtd-scalable-fs-strict", 67010, 66555, 455, 0, 5830, 4935],
];

const path = (name: string) =>
  new URL(`../../${name === BUNDLED ? "traces" : "test/traces"}/${name}.trace.gz`, import.meta.url).pathname;

function counts(trace: T.Trace): number[] {
  const byOp = new Array<number>(6).fill(0);
  let refused = 0;
  let stale = 0;
  for (let row = 0; row < trace.length; row++) {
    byOp[trace.ops[row]!]!++;
    if (trace.flags[row]! & T.FLAG_FAULT) refused++;
    if (trace.flags[row]! & T.FLAG_STALE) stale++;
  }
  const dma = byOp[T.OP_DMA]!;
  return [dma, dma - refused - stale, refused, stale, byOp[T.OP_MAP]!, byOp[T.OP_INVALIDATE]!];
}

/** First line that `describe` does not give back. */
function firstDifference(trace: T.Trace, text: string): string | undefined {
  const lines = text.split("\n");
  for (let row = 0; row < trace.length; row++) {
    const given = lines[trace.line[row]! - 1];
    if (trace.describe(row) !== given) return `${trace.describe(row)} is not ${given}`;
  }
  return undefined;
}

describe("the recorded trace", () => {
  it.each(TABLE)("%s is read in full", async (name, ...expected) => {
    const trace = await readTrace(path(name));
    const text = gunzipSync(readFileSync(path(name))).toString();
    expect(counts(trace)).toEqual(expected);
    expect(trace.length + trace.header.size + 1).toBe(text.split("\n").length - 1);
    expect(firstDifference(trace, text)).toBeUndefined();
  }, 30_000);

  it.each(TABLE.filter(([name]) => name !== "amdvi-strict"))("%s never takes a map apart", async (name) => {
    const trace = await readTrace(path(name));
    expect(planSegments(trace)).toBe(trace);
  }, 30_000);

  it("amdvi-strict takes two maps apart, and no other", async () => {
    const trace = await readTrace(path("amdvi-strict"));
    const planned = planSegments(trace);
    const pieces = new Map<number, number>();
    for (let row = 0; row < planned.length; row++) {
      if (planned.ops[row] === T.OP_MAP) pieces.set(planned.line[row]!, (pieces.get(planned.line[row]!) ?? 0) + 1);
    }
    const cut = [...pieces].filter(([, count]) => count > 1);
    expect(cut).toHaveLength(2);
    expect(planned.length - trace.length).toBe(cut.reduce((sum, [, count]) => sum + count - 1, 0));
    for (const [line] of cut) expect(size(planned, line)).toBe(size(trace, line));
    expect(planSegments(planned)).toBe(planned);
  });
});

/** Bytes of all events of a line. */
function size(trace: T.Trace, line: number): bigint {
  let sum = 0n;
  for (let row = 0; row < trace.length; row++) if (trace.line[row] === line) sum += trace.size(row);
  return sum;
}
