// IOASID_SET_DIRTY_TRACKING and IOASID_GET_DIRTY_BITMAP. May import what dirty-log.ts may, and arguments, errors, requests.
// Ranges are inclusive, first..last, in pages of 4 KiB.

import { firstByte, hex, show, takeLast, takePages } from "./arguments.js";
import { harvest, harvestAll, tracksDirty } from "./dirty-log.js";
import { takeStep } from "./domain-steps.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import {
  type Call, type DirtyBitmap, type GetDirtyBitmap, IOASID_GET_DIRTY_BITMAP, IOASID_SET_DIRTY_TRACKING, REQUESTS, type SetDirtyTracking,
} from "./requests.js";

const SET = REQUESTS[IOASID_SET_DIRTY_TRACKING];
const GET = REQUESTS[IOASID_GET_DIRTY_BITMAP];
/** Bits of one bitmap: 512 GiB of 4-KiB pages. */
const MOST_BITS = 2 ** 27;

/** Does every device here sit behind an IOMMU that records writes? */
export function canTrack(space: Ioasid): boolean {
  for (const { iommu } of space.devices) if (!iommu.model.dirtyTracking) return false;
  return space.guestTable === undefined;
}

/** Switching on makes everything clean. @throws IoctlError EINVAL, EOPNOTSUPP (an IOMMU cannot; a guest's table), EDEADLK. */
export function setTracking(space: Ioasid, { enable }: SetDirtyTracking): void {
  space.requireReady(SET);
  if (typeof enable !== "boolean") throw bad(SET, "enable", enable, "true switches tracking on, false off");
  requireSupport(SET, space);
  if (space.inSection) throw inSection(SET);
  // What was written so far is not lost for the spaces that this one is nested on.
  harvestAll(space);
  space.dirty.pages.clear();
  if (space.dirty.enabled === enable) return;
  space.context.tracking += enable ? 1 : -1;
  space.dirty.enabled = enable;
  followTracking(space);
}

/** Tells all tables below whether they have to record writes now. */
function followTracking(space: Ioasid): void {
  const { domain } = space;
  if (domain === undefined || space.guestTable !== undefined) return;
  const tracks = tracksDirty(space);
  takeStep(domain, () => void domain.trackDirty(tracks));
  for (const child of space.children) followTracking(child);
}

/**
 * Pages of the range that were written since tracking was switched on or they were last reported with `clear`; holes are clean.
 * @throws IoctlError EINVAL (misaligned, empty, page size), EOVERFLOW, EOPNOTSUPP (not tracking), EDEADLK.
 */
export function dirtyBitmap(space: Ioasid, { iova, size, pageSize, clear = true }: GetDirtyBitmap): DirtyBitmap {
  space.requireReady(GET);
  const first = takePages(GET, "iova", iova);
  const last = takeLast(GET, "iova", first, takePages(GET, "size", size));
  if (typeof clear !== "boolean") throw bad(GET, "clear", clear, "true makes clean what is reported, false leaves it dirty");
  const unit = takeUnit(first, last, pageSize);
  if (!space.dirty.enabled) {
    const hint = "IOASID_SET_DIRTY_TRACKING switches it on";
    throw new IoctlError("EOPNOTSUPP", GET.name, `ioasid ${space.number} does not track dirty pages`, { field: "ioasid", value: space.number, hint });
  }
  if (space.inSection) throw inSection(GET);
  harvest(space, first, last);
  const report = fillBitmap(space, first, last, unit);
  if (clear) space.dirty.pages.remove(first, last);
  return report;
}

/** Pages of 4 KiB that a bit stands for. */
function takeUnit(first: number, last: number, pageSize: number): number {
  const unit = Number.isSafeInteger(pageSize) ? pageSize / 4096 : 0;
  if (unit < 1 || 2 ** Math.round(Math.log2(unit)) !== unit) throw bad(GET, "pageSize", pageSize, "it is a power of two from 4096 up");
  if (first % unit !== 0) throw bad(GET, "iova", firstByte(first), `it is a multiple of pageSize, ${pageSize}`);
  if ((last + 1) % unit !== 0) throw bad(GET, "size", firstByte(last - first + 1), `it is a multiple of pageSize, ${pageSize}`);
  const bits = (last - first + 1) / unit;
  if (bits > MOST_BITS) throw bad(GET, "size", firstByte(last - first + 1), `a bitmap has ${MOST_BITS} bits at most: ask for less at a time, or for larger pages`);
  return unit;
}

function fillBitmap(space: Ioasid, first: number, last: number, unit: number): DirtyBitmap {
  const bitmap = new Uint8Array(Math.ceil((last - first + 1) / unit / 8));
  let dirty = 0;
  for (const run of space.dirty.pages.within(first, last)) {
    const to = Math.floor((run.last - first) / unit);
    for (let bit = Math.floor((run.first - first) / unit); bit <= to; bit++) {
      const mask = 1 << (bit & 7);
      if ((bitmap[bit >>> 3]! & mask) !== 0) continue;
      bitmap[bit >>> 3]! |= mask;
      dirty++;
    }
  }
  return { bitmap, dirty };
}

function requireSupport(call: Call, space: Ioasid): void {
  if (canTrack(space)) return;
  const details = { field: "ioasid", value: space.number };
  if (space.guestTable !== undefined) {
    const reason = `ioasid ${space.number} has the guest's table at ${hex(space.guestTable.addr)}`;
    throw new IoctlError("EOPNOTSUPP", call.name, reason, { ...details, hint: "writes through it are dirty pages of its parent" });
  }
  const device = [...space.devices].find(({ iommu }) => !iommu.model.dirtyTracking)!;
  const conflict = { kind: "device", device: device.name } as const;
  throw new IoctlError("EOPNOTSUPP", call.name, `the IOMMU of ${device.name} does not record writes`, { ...details, conflict, hint: "IOASID_DEVICE_GET_INFO says which devices can" });
}

function bad(call: Call, field: string, value: unknown, hint: string): IoctlError {
  return new IoctlError("EINVAL", call.name, `${field} cannot be ${show(value)}`, { field, value, hint });
}
