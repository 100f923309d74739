// The look-ahead: which maps are cut where, and which sequences of maps and unmaps are refused.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { TraceParser } from "../../src/trace/parse.js";
import { planSegments } from "../../src/trace/segments.js";
import { OP_MAP, OP_UNMAP, type Trace } from "../../src/trace/trace.js";

function parse(...lines: string[]): Trace {
  const parser = new TraceParser();
  parser.push(new TextEncoder().encode(["# ioasid-trace 1", "# key: value", ...lines, ""].join("\n")));
  return parser.end();
}

const page = (n: number) => `0x${n.toString(16)}${n === 0 ? "" : "000"}`;
/** Pages first..last. */
const map = (first: number, last: number, out: number, domain = 1) =>
  `map\t${domain}\t${page(first)}\t${page(out)}\t${page(last - first + 1)}\trw`;
const unmap = (first: number, last: number, domain = 1) => `unmap\t${domain}\t${page(first)}\t${page(last - first + 1)}`;
const lines = (trace: Trace) => Array.from(trace.line, (_, row) => trace.describe(row));

describe("planSegments", () => {
  it("returns the same object when every unmap ends whole maps", () => {
    const trace = parse(map(1, 4, 100), map(5, 9, 200), unmap(1, 9), map(2, 3, 100), unmap(2, 3), map(2, 9, 100));
    expect(planSegments(trace)).toBe(trace);
  });

  it("returns the same object for a trace without maps", () => {
    const trace = parse("attach\t1\t0x20", "inv\t*\tall");
    expect(planSegments(trace)).toBe(trace);
  });

  it("keeps domains apart", () => {
    const trace = parse(map(1, 4, 100, 1), map(1, 4, 100, 2), unmap(1, 4, 2), unmap(1, 4, 1));
    expect(planSegments(trace)).toBe(trace);
  });

  it.each([
    ["its end", [unmap(13, 15)], [[10, 12], [13, 15]]],
    ["its beginning", [unmap(10, 10)], [[10, 10], [11, 15]]],
    ["its middle", [unmap(12, 13)], [[10, 11], [12, 13], [14, 15]]],
    ["a piece of a piece", [unmap(10, 12), unmap(14, 14)], [[10, 12], [13, 13], [14, 14], [15, 15]]],
    ["single pages from the top", [15, 14, 13, 12, 11, 10].map((n) => unmap(n, n)), [10, 11, 12, 13, 14, 15].map((n) => [n, n])],
    ["both sides of a piece that stays", [unmap(10, 11), unmap(14, 15)], [[10, 11], [12, 13], [14, 15]]],
  ])("cuts a map where unmaps take %s", (_what, unmaps, pieces) => {
    const before = ["attach\t1\t0x20", map(1, 2, 50)];
    const after = [...unmaps, "inv\t1\tall"];
    const trace = parse(...before, map(10, 15, 0x7fff0), ...after);
    const untouched = lines(trace);
    const planned = planSegments(trace);
    const expected = pieces.map(([first, last]) => map(first!, last!, 0x7fff0 + first! - 10));
    expect(lines(planned)).toEqual([...before, ...expected, ...after]);
    expect([...planned.line]).toEqual([3, 4, ...expected.map(() => 5), ...after.map((_, i) => 6 + i)]);
    expect(planned.header).toBe(trace.header);
    expect(lines(trace)).toEqual(untouched);
    expect(planSegments(planned)).toBe(planned);
  });

  it("cuts several maps, one unmap across the border of two among them", () => {
    const trace = parse(map(0, 9, 100), map(10, 19, 300), unmap(5, 14), unmap(0, 4), map(5, 6, 7), unmap(15, 19), unmap(5, 6));
    expect(lines(planSegments(trace))).toEqual([
      map(0, 4, 100), map(5, 9, 105), map(10, 14, 300), map(15, 19, 305),
      unmap(5, 14), unmap(0, 4), map(5, 6, 7), unmap(15, 19), unmap(5, 6),
    ]);
  });

  it("is exact at the end of the address space", () => {
    const top = 2 ** 52 - 1;
    const trace = parse(map(top - 3, top, 2 ** 52 - 4), unmap(top, top));
    expect(lines(planSegments(trace))).toEqual([map(top - 3, top - 1, 2 ** 52 - 4), map(top, top, top), unmap(top, top)]);
  });

  it.each([
    ["a map over a mapped page", [map(10, 19, 1), map(19, 25, 1)], 4, "\trw: 0xa000..0x13fff is mapped since line 3"],
    ["a map over a piece that stayed", [map(10, 19, 1), unmap(10, 14), map(15, 15, 1)], 5, "0xf000..0x13fff is mapped since"],
    ["an unmap of nothing", [unmap(1, 2)], 3, `${unmap(1, 2)}: nothing is mapped there`],
    ["an unmap in another domain", [map(1, 2, 1), unmap(1, 2, 2)], 4, "nothing is mapped there"],
    ["a second unmap", [map(1, 2, 1), unmap(1, 2), unmap(1, 2)], 5, "nothing is mapped there"],
    ["an unmap that begins too low", [map(1, 2, 1), unmap(0, 2)], 4, "0x0..0xfff is not mapped"],
    ["an unmap that ends too high", [map(1, 2, 1), unmap(1, 4)], 4, "0x3000..0x4fff is not mapped"],
    ["an unmap across a hole", [map(1, 2, 1), map(5, 6, 1), unmap(1, 6)], 5, "0x3000..0x4fff is not mapped"],
  ])("refuses %s", (_what, events, line, reason) => {
    const act = () => planSegments(parse(...events));
    expect(act).toThrow(expect.objectContaining({ name: "TraceError", line }));
    expect(act).toThrow(reason);
  });

  it("leaves a trace whose unmaps end whole maps, and which maps the same pages at every moment", () => {
    // Random maps of free pages and unmaps of mapped runs, over 24 pages.
    const choice = fc.tuple(fc.nat(23), fc.nat(6));
    fc.assert(fc.property(fc.array(choice, { maxLength: 40 }), (choices) => {
      const events: string[] = [];
      const used = new Array<boolean>(24).fill(false);
      for (const [first, extra] of choices) {
        let last = first;
        while (last < first + extra && last < 23 && used[last + 1] === used[first]) last++;
        events.push(used[first] ? unmap(first, last) : map(first, last, 1000 + first + 31 * events.length));
        used.fill(!used[first], first, last + 1);
      }
      const trace = parse(...events);
      const planned = planSegments(trace);
      expect(snapshots(planned, true)).toEqual(snapshots(trace, false));
    }));
  });
});

/** What every page maps to after each line; with `whole`, an unmap has to be made of whole maps. */
function snapshots(trace: Trace, whole: boolean): Map<number, string> {
  const pages = new Map<number, { row: number; out: number }>();
  const states = new Map<number, string>();
  for (let row = 0; row < trace.length; row++) {
    const first = trace.firstPage(row);
    const last = trace.lastPage(row);
    if (trace.ops[row] === OP_MAP) for (let p = first; p <= last; p++) pages.set(p, { row, out: trace.outPage(row) + p - first });
    if (trace.ops[row] === OP_UNMAP) {
      for (let p = first; p <= last; p++) {
        const source = pages.get(p)!.row;
        if (whole) expect(trace.firstPage(source) >= first && trace.lastPage(source) <= last).toBe(true);
      }
      for (let p = first; p <= last; p++) pages.delete(p);
    }
    states.set(trace.line[row]!, JSON.stringify([...pages].map(([p, { out }]) => [p, out]).sort((a, b) => a[0]! - b[0]!)));
  }
  return states;
}
