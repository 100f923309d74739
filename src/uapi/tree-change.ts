// How a change of a space's table reaches the spaces that are nested on it in software: exactly the pages behind changed pages of
// the parent, found through the parent's index of areas (`dependents`), all the way down. A map is planned for every table before
// the first is written, so that it happens everywhere or nowhere. May import iommu/ and arguments.ts, domain-steps.ts, map-source.ts of this folder.
// Ranges are inclusive, first..last, in pages of 4 KiB.

import type { Domain, MapStatus, Piece, UnmapRefusal } from "../iommu/domain.js";
import { leafRunsOf } from "../iommu/leaf-runs.js";
import { firstByte } from "./arguments.js";
import { takeStep } from "./domain-steps.js";
import type { Ioasid } from "./ioasid.js";
import type { Area } from "./map-source.js";

export interface Pages {
  readonly first: number;
  readonly last: number;
}

/** Part of an area of a child: pages of the child, and the pages of the parent that they stand for. */
interface Part extends Pages {
  readonly area: Area;
  readonly target: number;
}

/** The parts of children's areas that stand for pages first..last of the space. */
export function dependentParts(space: Ioasid, first: number, last: number): Part[] {
  if (space.dependents.size === 0) return [];
  return space.dependents.overlapping(first, last).map(({ first: areaFirst, last: areaLast, value: area }) => {
    const target = Math.max(areaFirst, first);
    const at = area.first + target - areaFirst;
    return { area, first: at, last: at + Math.min(areaLast, last) - target, target };
  });
}

/** The maps that one change makes in one table. */
export interface TableChange {
  readonly domain: Domain;
  readonly pieces: readonly Piece[];
}

/** What follows below a space whose table will hold these pieces, added to `changes`, parents before their children. */
export function changesBelow(space: Ioasid, pieces: readonly Piece[], changes: TableChange[]): void {
  if (space.dependents.size === 0 || space.domain === undefined) return;
  const found = new Map<Ioasid, Piece[]>();
  for (const { first, last, hpa, perm, lg2 } of leafRunsOf(pieces, space.domain.iommu.model.pageSizes)) {
    for (const part of dependentParts(space, Number(first >> 12n), Number(last >> 12n))) {
      const both = perm & part.area.perm;
      if (part.area.space.domain === undefined || both === 0) continue;
      const size = firstByte(part.last - part.first + 1);
      const piece = { iova: firstByte(part.first), hpa: hpa + firstByte(part.target) - first, size, perm: both, cap: lg2 };
      const list = found.get(part.area.space);
      if (list === undefined) found.set(part.area.space, [piece]);
      else list.push(piece);
    }
  }
  for (const [child, list] of found) {
    list.sort((a, b) => (a.iova < b.iova ? -1 : 1));
    changes.push({ domain: child.domain!, pieces: list });
    changesBelow(child, list, changes);
  }
}

/** Could all changes be made? */
export function planChanges(changes: readonly TableChange[]): MapStatus {
  let tables = 0;
  for (const { domain, pieces } of changes) {
    const plan = domain.plan(pieces);
    if (plan.status !== "ok") return plan.status;
    tables += plan.tables;
  }
  const [first] = changes;
  return first === undefined || first.domain.canTake(tables) ? "ok" : "no-frames";
}

/** Makes all changes, or none. */
export function makeChanges(changes: readonly TableChange[]): MapStatus {
  const status = planChanges(changes);
  if (status !== "ok") return status;
  for (const { domain, pieces } of changes) {
    takeStep(domain, () => {
      const made = domain.map(pieces);
      if (made !== "ok") throw new Error(`a planned map failed: ${made}`);
    });
  }
  return "ok";
}

/** Removes pages, ranges that ascend, from a table: bytes removed, or why not. One wait for all of them. */
export function clear(domain: Domain, ranges: readonly Pages[]): bigint | UnmapRefusal {
  const [one] = ranges;
  if (ranges.length === 1 && one !== undefined) return domain.unmap(firstByte(one.first), firstByte(one.last - one.first + 1));
  const joined: { first: number; last: number }[] = [];
  for (const { first, last } of ranges) {
    const before = joined.at(-1);
    if (before !== undefined && before.last + 1 === first) before.last = last;
    else joined.push({ first, last });
  }
  return domain.unmapMany(joined.map(({ first, last }) => ({ iova: firstByte(first), size: firstByte(last - first + 1) })));
}

/** Nothing below the space translates by its pages in these ranges any more. Precondition: no section is open. */
export function clearBelow(space: Ioasid, ranges: readonly Pages[]): void {
  if (space.dependents.size === 0) return;
  const found = new Map<Ioasid, Part[]>();
  for (const { first, last } of ranges) {
    for (const part of dependentParts(space, first, last)) {
      const child = part.area.space;
      if (child.domain === undefined) continue;
      const list = found.get(child);
      if (list === undefined) found.set(child, [part]);
      else list.push(part);
    }
  }
  for (const [child, parts] of found) {
    parts.sort((a, b) => a.first - b.first);
    clearBelow(child, parts);
    const removed = clear(child.domain!, parts);
    if (typeof removed !== "bigint") throw new Error(`ioasid ${child.number}: its shadow could not be cleared: ${removed}`);
  }
}
