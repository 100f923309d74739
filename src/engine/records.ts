// Records in the engine's scratch area: runs of leaves and ranges that it answers, areas that it is to merge. Imports layout.
// Ranges are first..last, inclusive.
import * as L from "./layout.js";

export interface Range {
  first: bigint;
  last: bigint;
}

/** Leaves of 2^lg2 bytes one after the other, first..last -> hpa with L.PERM_*. At its ends a leaf may be cut. */
export interface LeafRun extends Range {
  hpa: bigint;
  perm: number;
  lg2: number;
}

/** An area of a child: first..last -> what its parent maps from gpa on, with L.PERM_*. */
export interface MergeArea extends Range {
  gpa: bigint;
  perm: number;
}

/** How many areas, maps and ranges the scratch area holds. */
export const MOST_AREAS = L.SCRATCH_BYTES / L.AREA_BYTES;
export const MOST_MAPS = L.SCRATCH_BYTES / L.LEAF_BYTES;
export const MOST_RANGES = L.SCRATCH_BYTES / L.RANGE_BYTES;

/** Adds a run behind the others; one that goes on where the last ends, with leaves of the same kind, becomes part of it. */
export function appendLeafRun(runs: LeafRun[], run: LeafRun): void {
  const before = runs.at(-1);
  const joins = before && before.last + 1n === run.first && before.hpa + (run.first - before.first) === run.hpa
    && before.perm === run.perm && before.lg2 === run.lg2;
  if (joins) before.last = run.last;
  else runs.push(run);
}

export function readLeafRuns(memory: WebAssembly.Memory, scratch: number, found: number): LeafRun[] {
  const view = new DataView(memory.buffer, scratch, L.SCRATCH_BYTES);
  return Array.from({ length: found }, (_none, n) => {
    const at = n * L.LEAF_BYTES;
    return {
      first: view.getBigUint64(at + L.LEAF_FIRST, true), last: view.getBigUint64(at + L.LEAF_LAST, true),
      hpa: view.getBigUint64(at + L.LEAF_HPA, true), perm: view.getUint32(at + L.LEAF_PERM, true), lg2: view.getUint32(at + L.LEAF_LG2, true),
    };
  });
}

export function readRanges(memory: WebAssembly.Memory, scratch: number, found: number): Range[] {
  const view = new DataView(memory.buffer, scratch, L.SCRATCH_BYTES);
  return Array.from({ length: found }, (_none, n) => ({
    first: view.getBigUint64(n * L.RANGE_BYTES + L.RANGE_FIRST, true), last: view.getBigUint64(n * L.RANGE_BYTES + L.RANGE_LAST, true),
  }));
}

export function writeAreas(memory: WebAssembly.Memory, scratch: number, areas: readonly MergeArea[]): void {
  const view = new DataView(memory.buffer, scratch, L.SCRATCH_BYTES);
  areas.forEach(({ first, last, gpa, perm }, n) => {
    const at = n * L.AREA_BYTES;
    view.setBigUint64(at + L.AREA_FIRST, first, true);
    view.setBigUint64(at + L.AREA_LAST, last, true);
    view.setBigUint64(at + L.AREA_GPA, gpa, true);
    view.setUint32(at + L.AREA_PERM, perm, true);
    view.setUint32(at + L.AREA_AT, 0, true);
  });
}

/** Maps from number `at` on, as many as there is room for: how many. `lg2` is that of the largest leaf that may be used. */
export function writeMaps(memory: WebAssembly.Memory, scratch: number, maps: readonly LeafRun[], at: number): number {
  const view = new DataView(memory.buffer, scratch, L.SCRATCH_BYTES);
  const n = Math.min(maps.length - at, MOST_MAPS);
  for (let i = 0; i < n; i++) {
    const { first, last, hpa, perm, lg2 } = maps[at + i]!;
    const to = i * L.LEAF_BYTES;
    view.setBigUint64(to + L.LEAF_FIRST, first, true);
    view.setBigUint64(to + L.LEAF_LAST, last, true);
    view.setBigUint64(to + L.LEAF_HPA, hpa, true);
    view.setUint32(to + L.LEAF_PERM, perm, true);
    view.setUint32(to + L.LEAF_LG2, lg2, true);
  }
  return n;
}

/** Ranges, in the same way. */
export function writeRanges(memory: WebAssembly.Memory, scratch: number, ranges: readonly Range[], at: number): number {
  const view = new DataView(memory.buffer, scratch, L.SCRATCH_BYTES);
  const n = Math.min(ranges.length - at, MOST_RANGES);
  for (let i = 0; i < n; i++) {
    const { first, last } = ranges[at + i]!;
    view.setBigUint64(i * L.RANGE_BYTES + L.RANGE_FIRST, first, true);
    view.setBigUint64(i * L.RANGE_BYTES + L.RANGE_LAST, last, true);
  }
  return n;
}
