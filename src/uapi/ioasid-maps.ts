// Map and unmap of a space, root or child: VFIO type1 v2 under the names of the RFC (section 2.1), and what follows from it in
// the spaces nested on it. May import iommu/ and, of this folder, all but the open files and the host.
// Ranges are inclusive, first..last, in pages of 4 KiB.

import type { MapStatus } from "../iommu/domain.js";
import { firstByte, show, takeLast, takePages, takeU32, takeU64 } from "./arguments.js";
import { harvest } from "./dirty-log.js";
import { takeStep } from "./domain-steps.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { mapRefused, notPermitted, overlaps, splits } from "./ioasid-errors.js";
import type { Area } from "./map-source.js";
import { hasTable } from "./nesting-errors.js";
import { pasidNeedsStage1 } from "./pasid-errors.js";
import type { Entry } from "./range-map.js";
import {
  type Call, IOASID_DMA_MAP, IOASID_DMA_MAP_FLAG_READ, IOASID_DMA_MAP_FLAG_WRITE, IOASID_DMA_UNMAP, IOASID_DMA_UNMAP_FLAG_ALL,
  type MapEntry, REQUESTS, type U64, type UnmapRange,
} from "./requests.js";
import { changesBelow, clear, clearBelow, makeChanges, type Pages, planChanges, type TableChange } from "./tree-change.js";

const MAP = REQUESTS[IOASID_DMA_MAP];
const UNMAP = REQUESTS[IOASID_DMA_UNMAP];
const PERM_W = 2;
/** The flags of a map are the engine's PERM_R and PERM_W. */
const MAP_FLAGS = IOASID_DMA_MAP_FLAG_READ | IOASID_DMA_MAP_FLAG_WRITE;

/** PERM_* of a map with these flags. @throws IoctlError EINVAL. */
export function takeMapFlags(call: Call, given: number | undefined): number {
  if (given === undefined) return MAP_FLAGS;
  const flags = takeU32(call, "flags", given);
  if (flags === 0 || flags > MAP_FLAGS) throw badFlags(call, flags, "READ (1), WRITE (2) or both; without flags a map has both");
  return flags;
}

/** Whether every map is to be removed. @throws IoctlError EINVAL. */
export function takeUnmapAll(call: Call, arg: UnmapRange): boolean {
  const flags = arg.flags === undefined ? 0 : takeU32(call, "flags", arg.flags);
  if (flags === 0) return false;
  if (flags !== IOASID_DMA_UNMAP_FLAG_ALL) throw badFlags(call, flags, "ALL (2)");
  for (const field of ["iova", "size"] as const) {
    const value = takeU64(call, field, arg[field] ?? 0n);
    if (value === 0n) continue;
    throw new IoctlError("EINVAL", call.name, `${field} must be 0 with the flag ALL, not ${show(value)}`, { field, value, hint: "leave it out" });
  }
  return true;
}

/** Maps `size` bytes from `vaddr` on to `iova`. `perm` is PERM_R, PERM_W or both. Errors: `IoasidFd.dmaMap`. */
export function map(space: Ioasid, entry: MapEntry, perm: number, dryRun: boolean): void {
  requireMappable(MAP, space);
  const area = takeArea(space, entry, perm);
  const status = fillTable(space, area, dryRun);
  if (status !== "ok") throw mapRefused(status, area);
  if (!dryRun) keep(area);
}

/** The area that a map asks for, checked against all but the tables. */
export function takeArea(space: Ioasid, { iova, vaddr, size }: MapEntry, perm: number): Area {
  const first = takePages(MAP, "iova", iova);
  const target = takePages(MAP, "vaddr", vaddr);
  const pages = takePages(MAP, "size", size);
  const last = takeLast(MAP, "iova", first, pages);
  takeLast(MAP, "vaddr", target, pages);
  const refusal = space.limits.refusal(first, last);
  if (refusal !== undefined) throw notPermitted(first, last, refusal, space.limits);
  const other = space.areas.firstIn(first, last);
  if (other !== undefined) throw overlaps(first, last, other, space.number);
  if (space.areas.size === 0) requireNoGuestPasids(space);
  const area = { space, first, last, target, perm };
  space.source.admit(area);
  return area;
}

/** Takes the area into the books of its space. */
export function keep(area: Area): void {
  area.space.source.keep(area);
  area.space.areas.insert(area.first, area.last, area);
}

/** Takes it out of them. */
export function forget(area: Area): void {
  area.space.areas.remove(area.first);
  area.space.source.drop(area);
}

/** Where guests' tables lead from PASIDs to tables of theirs, a space that is attached to a PASID is for such a table only. */
function requireNoGuestPasids(space: Ioasid): void {
  for (const device of space.devices) {
    if (device.iommu.model.pasidTable === "guest" && device.pasidsOf(space).size > 0) throw pasidNeedsStage1(MAP, device, space);
  }
}

/** `fillTables` of one area; the map of a space that has no table below it takes no list. */
function fillTable(space: Ioasid, area: Area, dryRun: boolean): MapStatus {
  const { domain } = space;
  if (domain === undefined || dryRun || space.dependents.size > 0) return fillTables(space, [area], dryRun);
  return area.perm === PERM_W && !domain.iommu.model.writeOnly ? "perm" : space.source.fill(domain, area);
}

/** Maps areas, ascending, in the space's table, if it has one, and what follows in the tables below: everywhere or nowhere. */
export function fillTables(space: Ioasid, areas: readonly Area[], dryRun: boolean): MapStatus {
  const { domain } = space;
  if (domain === undefined) return "ok";
  // A child's part that its parent does not map yet is in no table, so no table would refuse it.
  if (!domain.iommu.model.writeOnly && areas.some(({ perm }) => perm === PERM_W)) return "perm";
  if (!dryRun && space.dependents.size === 0) return space.source.fillAll(domain, areas);
  if (domain.inSection) return "in-section";
  const pieces = areas.flatMap((area) => space.source.pieces(area));
  const changes: TableChange[] = [{ domain, pieces }];
  changesBelow(space, pieces, changes);
  return dryRun ? planChanges(changes) : makeChanges(changes);
}

/** Removes the maps that lie in the range, and answers their bytes; 0 when there are none. */
export function unmap(space: Ioasid, iova: U64 | undefined, size: U64 | undefined): bigint {
  requireMappable(UNMAP, space);
  const areas = wholeAreas(space, { iova, size });
  return areas.length === 0 ? 0n : remove(space, areas, [fromTo(areas)]);
}

/** The maps that lie in the range, ascending, but for those that are gone. @throws IoctlError EINVAL when one lies across an end. */
export function wholeAreas(
  space: Ioasid, { iova, size }: { readonly iova: U64 | undefined; readonly size: U64 | undefined }, gone?: ReadonlySet<Entry<Area>>,
): readonly Entry<Area>[] {
  const first = takePages(UNMAP, "iova", iova);
  const last = takeLast(UNMAP, "iova", first, takePages(UNMAP, "size", size));
  const lowest = space.areas.firstIn(first, last);
  if (lowest === undefined) return [];
  const single = lowest.first === first && lowest.last === last;
  const there = single ? [lowest] : space.areas.overlapping(first, last);
  const areas = gone === undefined ? there : there.filter((area) => !gone.has(area));
  for (const area of single ? [] : [areas[0], areas.at(-1)]) {
    if (area !== undefined && (area.first < first || area.last > last)) throw splits(first, last, area, space.number);
  }
  return areas;
}

/** Removes every map, and answers their bytes. */
export function unmapAll(space: Ioasid): bigint {
  requireMappable(UNMAP, space);
  if (space.areas.size === 0) return 0n;
  const areas = [...space.areas];
  return remove(space, areas, [fromTo(areas)]);
}

function fromTo(areas: readonly Pages[]): Pages {
  return { first: areas[0]!.first, last: areas.at(-1)!.last };
}

export function requireMappable(call: Call, space: Ioasid): void {
  space.requireReady(call);
  if (space.guestTable !== undefined) throw hasTable(call, space);
}

/** Removes these maps, all that the space has in `ranges`; both ascend. Answers their bytes. @throws IoctlError EDEADLK. */
export function remove(space: Ioasid, areas: readonly Entry<Area>[], ranges: readonly Pages[]): bigint {
  const bytes = bytesOf(areas);
  const { domain } = space;
  if (domain === undefined) {
    forgetAll(space, areas);
    return bytes;
  }
  if (domain.inSection) throw inSection(UNMAP);
  // One step: the memory stays pinned until no DMA reaches it.
  takeStep(domain, () => {
    clearTables(space, areas, ranges, bytes);
    forgetAll(space, areas);
  });
  return bytes;
}

function forgetAll(space: Ioasid, areas: readonly Entry<Area>[]): void {
  for (const { first, last, value: area } of areas) {
    forget(area);
    if (space.dirty.enabled) space.dirty.pages.remove(first, last);
  }
}

function clearTables(space: Ioasid, areas: readonly Pages[], ranges: readonly Pages[], bytes: bigint): void {
  for (const { first, last } of areas) harvest(space, first, last);
  clearBelow(space, ranges);
  const removed = clear(space.domain!, ranges);
  // Of a child only what its parent maps is in the table.
  if (removed === bytes || (space.parent !== undefined && typeof removed === "bigint" && removed < bytes)) return;
  throw new Error(`ioasid ${space.number}: the table lost ${removed} of ${bytes} bytes`);
}

function bytesOf(areas: readonly Pages[]): bigint {
  let pages = 0;
  for (const { first, last } of areas) pages += last - first + 1;
  return firstByte(pages);
}

function badFlags(call: Call, flags: number, known: string): IoctlError {
  const reason = `flags 0x${flags.toString(16)} are not known`;
  return new IoctlError("EINVAL", call.name, reason, { field: "flags", value: flags, hint: `flags are ${known}` });
}
