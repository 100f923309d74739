// Looks ahead in a trace: checks that maps and unmaps agree, and cuts each map where a later unmap ends inside it, because
// an I/O address space unmaps whole mappings only. Imports the rest of this folder and uapi/range-map.ts.
// Ranges are inclusive, first..last, in 4-KiB pages.

import { type Entry, RangeMap } from "../uapi/range-map.js";
import { OP_MAP, OP_UNMAP, Trace } from "./trace.js";
import { TraceError } from "./trace-error.js";

/** By row of a map: the pages at which a piece begins, apart from its first page. */
type Cuts = Map<number, number[]>;

const PAGES_PER_HALF = 0x100000;

const ascending = (a: number, b: number): number => a - b;

/**
 * Returns the trace, the same object, when every unmap ends whole maps; else a copy in which each map that later unmaps
 * take apart is replaced, in its place and with its line, by the pieces that they take.
 * Throws TraceError for a map over a mapped page and an unmap of a page that is not mapped, in one domain.
 */
export function planSegments(trace: Trace): Trace {
  const cuts: Cuts = new Map();
  const areas = new Map<number, RangeMap<number>>();
  for (let row = 0; row < trace.length; row++) {
    const op = trace.ops[row];
    if (op !== OP_MAP && op !== OP_UNMAP) continue;
    const domain = trace.subject[row]!;
    let mapped = areas.get(domain);
    if (mapped === undefined) areas.set(domain, (mapped = new RangeMap()));
    if (op === OP_MAP) map(trace, row, mapped);
    else unmap(trace, row, mapped, cuts);
  }
  return cuts.size === 0 ? trace : cutMaps(trace, cuts);
}

function map(trace: Trace, row: number, mapped: RangeMap<number>): void {
  const first = trace.firstPage(row);
  const last = trace.lastPage(row);
  const other = mapped.firstIn(first, last);
  if (other !== undefined) {
    const area = `${span(other.first, other.last)} is mapped since line ${trace.line[other.value]}`;
    throw new TraceError(trace.line[row]!, `${trace.describe(row)}: ${area}`);
  }
  mapped.insert(first, last, row);
}

function unmap(trace: Trace, row: number, mapped: RangeMap<number>, cuts: Cuts): void {
  const first = trace.firstPage(row);
  const last = trace.lastPage(row);
  const entries = mapped.overlapping(first, last);
  refuseHoles(trace, row, entries);
  for (const { first: from, last: to, value: source } of entries) {
    mapped.remove(from);
    if (from < first) {
      mapped.insert(from, first - 1, source);
      addCut(cuts, source, first);
    }
    if (to > last) {
      mapped.insert(last + 1, to, source);
      addCut(cuts, source, last + 1);
    }
  }
}

function refuseHoles(trace: Trace, row: number, entries: readonly Entry<number>[]): void {
  const last = trace.lastPage(row);
  const refuse = (what: string): never => {
    throw new TraceError(trace.line[row]!, `${trace.describe(row)}: ${what}`);
  };
  if (entries.length === 0) refuse("nothing is mapped there");
  let next = trace.firstPage(row);
  for (const entry of entries) {
    if (entry.first > next) refuse(`${span(next, entry.first - 1)} is not mapped`);
    next = entry.last + 1;
  }
  if (next <= last) refuse(`${span(next, last)} is not mapped`);
}

function addCut(cuts: Cuts, row: number, page: number): void {
  const pages = cuts.get(row);
  if (pages === undefined) cuts.set(row, [page]);
  else pages.push(page);
}

function cutMaps(trace: Trace, cuts: Cuts): Trace {
  let length = trace.length;
  for (const pages of cuts.values()) length += pages.length;
  const result = new Trace(length, trace.header, trace.reasons);
  let from = 0;
  let at = 0;
  for (const row of [...cuts.keys()].sort(ascending)) {
    result.copyRows(at, trace, from, row - 1);
    at += row - from;
    at = writePieces(result, at, trace, row, cuts.get(row)!.sort(ascending));
    from = row + 1;
  }
  result.copyRows(at, trace, from, trace.length - 1);
  return result;
}

/** Writes the pieces of a map to the rows from `at` on, and returns the row behind them. */
function writePieces(result: Trace, at: number, trace: Trace, row: number, starts: readonly number[]): number {
  const first = trace.firstPage(row);
  let from = first;
  for (const next of [...starts, trace.lastPage(row) + 1]) {
    result.copyRows(at, trace, row, row);
    setPages(result.iovaLo, result.iovaHi, at, from);
    setPages(result.sizeLo, result.sizeHi, at, next - from);
    setPages(result.outLo, result.outHi, at, trace.outPage(row) + from - first);
    from = next;
    at++;
  }
  return at;
}

/** Writes a number of pages as bytes, in two halves. */
function setPages(lo: Uint32Array, hi: Uint32Array, row: number, pages: number): void {
  lo[row] = (pages % PAGES_PER_HALF) * 4096;
  hi[row] = Math.floor(pages / PAGES_PER_HALF);
}

function span(first: number, last: number): string {
  return `0x${(BigInt(first) << 12n).toString(16)}..0x${((BigInt(last) << 12n) | 0xfffn).toString(16)}`;
}
