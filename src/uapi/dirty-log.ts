// Which pages of a space were written. The hardware's dirty bits are moved ("harvested") into page sets: of the space that the
// table belongs to, and of every ancestor that tracks, in each one's own addresses. So one reader's clearing takes nothing from
// another, and what leaves a table is not forgotten. May import iommu/ (types) and tree-change.ts, arguments.ts, page-set.ts.
// Ranges are inclusive, first..last, in pages of 4 KiB.

import type { Domain } from "../iommu/domain.js";
import { firstByte } from "./arguments.js";
import type { Ioasid } from "./ioasid.js";
import { PageSet } from "./page-set.js";
import { dependentParts } from "./tree-change.js";

/** Pages that were written since they were last reported, for a space that is asked to track. */
export class DirtyLog {
  readonly pages = new PageSet();
  enabled = false;
}

/** Must the tables of the space record writes: for itself, or for a space that it is nested on? */
export function tracksDirty(space: Ioasid): boolean {
  for (let each: Ioasid | undefined = space; each !== undefined; each = each.parent) if (each.dirty.enabled) return true;
  return false;
}

/** Notes pages of a space as written, there and in its ancestors. */
function record(space: Ioasid, first: number, last: number): void {
  if (space.dirty.enabled) space.dirty.pages.add(first, last);
  const { parent } = space;
  if (parent === undefined || !tracksDirty(parent)) return;
  for (const { first: from, last: to, value: area } of space.areas.overlapping(first, last)) {
    const target = area.target - area.first;
    record(parent, Math.max(from, first) + target, Math.min(to, last) + target);
  }
}

/** The leaf in which the page lies, in pages: from where to where. */
function leafAround(domain: Domain, page: number): { first: number; last: number } {
  const [leaf] = domain.leafRuns(firstByte(page), firstByte(1));
  const pages = leaf === undefined ? 1 : 2 ** (leaf.lg2 - 12);
  const first = page - (page % pages);
  return { first, last: first + pages - 1 };
}

/**
 * Moves the dirty bits of the space's own table, for pages first..last, into the logs. A leaf has one bit, so of leaves that reach
 * beyond the range all pages are noted: a part of a leaf cannot be clean.
 */
function harvestOwn(space: Ioasid, first: number, last: number): void {
  const { domain, limits } = space;
  if (domain === undefined || first > limits.lastPage || !tracksDirty(space)) return;
  const from = leafAround(domain, first).first;
  const to = leafAround(domain, Math.min(last, limits.lastPage)).last;
  domain.takeDirty(firstByte(from), firstByte(to - from + 1), (run) => record(space, Number(run.first >> 12n), Number(run.last >> 12n)));
}

/** The same for the space and all tables in which its pages first..last can be written. */
export function harvest(space: Ioasid, first: number, last: number): void {
  if (space.context.tracking === 0) return;
  harvestOwn(space, first, last);
  for (const { area, first: from, last: to } of dependentParts(space, first, last)) harvest(area.space, from, to);
}

/** Everything that is mapped in the space. */
export function harvestAll(space: Ioasid): void {
  for (const { first, last } of space.areas) harvest(space, first, last);
}
