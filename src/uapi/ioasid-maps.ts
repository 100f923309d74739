// Map and unmap of a space, root or child: VFIO type1 v2 under the names of the RFC (section 2.1), and what follows from it in
// the spaces nested on it. May import iommu/ and, of this folder, all but the open files and the host.
// Ranges are inclusive, first..last, in pages of 4 KiB.

import type { MapStatus } from "../iommu/domain.js";
import { firstByte, show, takeLast, takePages, takeU32, takeU64, toBigint } from "./arguments.js";
import { harvest } from "./dirty-log.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { mapRefused, notPermitted, overlaps, splits } from "./ioasid-errors.js";
import type { Area } from "./map-source.js";
import { hasTable } from "./nesting-errors.js";
import { pasidNeedsStage1 } from "./pasid-errors.js";
import type { Entry } from "./range-map.js";
import {
  type Call, type DmaMap, type DmaUnmap, IOASID_DMA_MAP, IOASID_DMA_MAP_FLAG_READ, IOASID_DMA_MAP_FLAG_WRITE, IOASID_DMA_UNMAP,
  IOASID_DMA_UNMAP_FLAG_ALL, REQUESTS, type U64,
} from "./requests.js";
import { changesBelow, clearBelow, makeChanges, planChanges, type TableChange } from "./tree-change.js";

const MAP = REQUESTS[IOASID_DMA_MAP];
const UNMAP = REQUESTS[IOASID_DMA_UNMAP];
const PERM_W = 2;
/** The flags of a map are the engine's PERM_R and PERM_W. */
const MAP_FLAGS = IOASID_DMA_MAP_FLAG_READ | IOASID_DMA_MAP_FLAG_WRITE;

/** The rights that a map gives. @throws IoctlError EINVAL. */
export function takeMapFlags(call: Call, arg: DmaMap): number {
  const flags = arg.flags === undefined ? MAP_FLAGS : takeU32(call, "flags", arg.flags);
  if (flags === 0 || flags > MAP_FLAGS) throw badFlags(call, flags, "READ (1), WRITE (2) or both; without flags a map has both");
  return flags;
}

/** Whether every map is to be removed. @throws IoctlError EINVAL. */
export function takeUnmapAll(call: Call, arg: DmaUnmap): boolean {
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

function badFlags(call: Call, flags: number, known: string): IoctlError {
  const reason = `flags 0x${flags.toString(16)} are not known`;
  return new IoctlError("EINVAL", call.name, reason, { field: "flags", value: flags, hint: `flags are ${known}` });
}

/** Maps `size` bytes from `vaddr` on to `iova`. `perm` is PERM_R, PERM_W or both. Errors: `IoasidFd.dmaMap`. */
export function map(space: Ioasid, { iova, vaddr, size, dryRun = false }: DmaMap, perm: number): void {
  requireMappable(MAP, space);
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
  const status = fillTables(space, area, dryRun);
  if (status !== "ok") throw mapRefused(status, { iova: toBigint(iova), vaddr: toBigint(vaddr), size: toBigint(size), flags: perm });
  if (dryRun) return;
  space.source.keep(area);
  space.areas.insert(first, last, area);
}

/** Where guests' tables lead from PASIDs to tables of theirs, a space that is attached to a PASID is for such a table only. */
function requireNoGuestPasids(space: Ioasid): void {
  for (const device of space.devices) {
    if (device.iommu.model.pasidTable !== "guest") continue;
    for (const { space: other } of device.pasids.values()) if (other === space) throw pasidNeedsStage1(MAP, device, space);
  }
}

/** Maps the area in the space's table, if it has one, and what follows in the tables below: everywhere or nowhere. */
function fillTables(space: Ioasid, area: Area, dryRun: boolean): MapStatus {
  const { domain } = space;
  if (domain === undefined) return "ok";
  // A child's part that its parent does not map yet is in no table, so no table would refuse it.
  if (area.perm === PERM_W && !domain.iommu.model.writeOnly) return "perm";
  if (!dryRun && space.dependents.size === 0) return space.source.fill(domain, area);
  if (domain.inSection) return "in-section";
  const pieces = space.source.pieces(area);
  const changes: TableChange[] = [{ domain, pieces }];
  changesBelow(space, pieces, changes);
  return dryRun ? planChanges(changes) : makeChanges(changes);
}

/** Removes the maps that lie in the range, and answers their bytes; 0 when there are none. */
export function unmap(space: Ioasid, iova: U64 | undefined, size: U64 | undefined): bigint {
  requireMappable(UNMAP, space);
  const first = takePages(UNMAP, "iova", iova);
  const last = takeLast(UNMAP, "iova", first, takePages(UNMAP, "size", size));
  const area = space.areas.firstIn(first, last);
  if (area === undefined) return 0n;
  if (area.first === first && area.last === last) return remove(space, [area], toBigint(size!));
  const areas = space.areas.overlapping(first, last);
  const cut = area.first < first ? area : areas.at(-1)!;
  if (cut.first < first || cut.last > last) throw splits(first, last, cut, space.number);
  return remove(space, areas, bytesOf(areas));
}

/** Removes every map, and answers their bytes. */
export function unmapAll(space: Ioasid): bigint {
  requireMappable(UNMAP, space);
  if (space.areas.size === 0) return 0n;
  const areas = [...space.areas];
  return remove(space, areas, bytesOf(areas));
}

function requireMappable(call: Call, space: Ioasid): void {
  space.requireReady(call);
  if (space.pgtable !== undefined) throw hasTable(call, space);
}

function remove(space: Ioasid, areas: readonly Entry<Area>[], bytes: bigint): bigint {
  if (space.domain !== undefined) {
    if (space.domain.inSection) throw inSection(UNMAP);
    clearTables(space, areas, bytes);
  }
  for (const { first, last, value: area } of areas) {
    space.areas.remove(first);
    space.source.drop(area);
    if (space.dirty.enabled) space.dirty.pages.remove(first, last);
  }
  return bytes;
}

function clearTables(space: Ioasid, areas: readonly Entry<Area>[], bytes: bigint): void {
  for (const { first, last } of areas) {
    harvest(space, first, last);
    clearBelow(space, first, last);
  }
  const first = firstByte(areas[0]!.first);
  const removed = space.domain!.unmap(first, areas.length === 1 ? bytes : firstByte(areas.at(-1)!.last + 1) - first);
  // Of a child only what its parent maps is in the table.
  if (removed === bytes || (space.parent !== undefined && typeof removed === "bigint" && removed < bytes)) return;
  throw new Error(`ioasid ${space.number}: the table lost ${removed} of ${bytes} bytes`);
}

function bytesOf(areas: readonly Entry<Area>[]): bigint {
  let pages = 0;
  for (const { first, last } of areas) pages += last - first + 1;
  return firstByte(pages);
}
