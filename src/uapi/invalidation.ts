// IOASID_INVALIDATE_CACHE: a guest that changed its bound table says what must not be used any more. All entries are checked
// before the first is carried out. May import arguments.ts, engine-errno.ts, errno.ts, ioasid.ts, nesting-errors.ts, requests.ts.

import { checkStruct, firstByte, show, takeLast, takePages, takeU32 } from "./arguments.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { notBound } from "./nesting-errors.js";
import {
  type Call, IOASID_CACHE_DEVICE_TLB, IOASID_CACHE_IOTLB, IOASID_INVALIDATE_ALL, IOASID_INVALIDATE_CACHE, IOASID_INVALIDATE_RANGE,
  type Invalidation, type InvalidateCache, REQUESTS,
} from "./requests.js";

const INVALIDATE = REQUESTS[IOASID_INVALIDATE_CACHE];
const CACHES = IOASID_CACHE_IOTLB | IOASID_CACHE_DEVICE_TLB;
const ENTRY_FIELDS = ["granularity", "iova", "size", "device", "caches", "leaf"] as const;
const ENTRY: Call = { name: INVALIDATE.name, fields: new Set(ENTRY_FIELDS) };

/** Bytes; undefined: everything. */
type Target = { readonly iova: bigint; readonly size: bigint } | undefined;

/**
 * Carries out all entries, and answers how many there were.
 * @throws IoctlError EINVAL (no table is bound, misaligned, device not attached), EOPNOTSUPP (granularity, caches), EOVERFLOW,
 * EDEADLK; then none was carried out. Fields are named `entries[n].field`.
 */
export function invalidate(space: Ioasid, arg: InvalidateCache): number {
  space.requireReady(INVALIDATE);
  if (space.pgtable === undefined) throw notBound(INVALIDATE, "EINVAL", space);
  const targets = takeEntries(arg).map(({ entry, at }) => takeEntry(space, entry, at));
  if (space.inSection) throw inSection(INVALIDATE);
  for (const target of targets) space.domain?.invalidate(target?.iova, target?.size);
  return targets.length;
}

function takeEntries(arg: InvalidateCache): { entry: Invalidation; at: string }[] {
  if (!("entries" in arg) || arg.entries === undefined) return [{ entry: arg as Invalidation, at: "" }];
  for (const field of ENTRY_FIELDS) {
    if (!(field in arg)) continue;
    throw refused("EINVAL", field, "entries have fields of their own", (arg as Invalidation)[field], "move it into the entries");
  }
  if (!Array.isArray(arg.entries)) throw refused("EINVAL", "entries", `must be an array, not ${show(arg.entries)}`, arg.entries, "or leave it out");
  // A hole of the array is a missing entry.
  return Array.from(arg.entries, (entry: Invalidation, n) => {
    checkStruct(ENTRY, entry);
    return { entry, at: `entries[${n}].` };
  });
}

function takeEntry(space: Ioasid, entry: Invalidation, at: string): Target {
  const { granularity = IOASID_INVALIDATE_ALL, caches = CACHES, leaf = false, device } = entry;
  if (typeof leaf !== "boolean") throw refused("EINVAL", `${at}leaf`, `must be a boolean, not ${show(leaf)}`, leaf, "leave it out for everything");
  const wanted = takeU32(ENTRY, `${at}caches`, caches);
  if (wanted === 0 || (wanted & ~CACHES) !== 0) {
    throw refused("EOPNOTSUPP", `${at}caches`, `${show(caches)} is not IOTLB (1), DEVICE_TLB (2) or both`, caches, "leave it out for both");
  }
  if (device !== undefined) checkDevice(space, `${at}device`, takeU32(ENTRY, `${at}device`, device));
  switch (takeU32(ENTRY, `${at}granularity`, granularity)) {
    case IOASID_INVALIDATE_ALL:
      for (const field of ["iova", "size"] as const) {
        if (entry[field] !== undefined) throw refused("EINVAL", at + field, "belongs to the granularity RANGE (1)", entry[field], "set granularity, or leave it out");
      }
      return undefined;
    case IOASID_INVALIDATE_RANGE: {
      const first = takePages(ENTRY, `${at}iova`, entry.iova);
      const last = takeLast(ENTRY, `${at}iova`, first, takePages(ENTRY, `${at}size`, entry.size), `${at}size`);
      return { iova: firstByte(first), size: firstByte(last - first + 1) };
    }
    default:
      throw refused("EOPNOTSUPP", `${at}granularity`, `${show(granularity)} is neither ALL (0) nor RANGE (1)`, granularity, "leave it out for ALL");
  }
}

/** The IOTLB is shared by the devices of a space, so one device's entries are dropped with those of the others. */
function checkDevice(space: Ioasid, field: string, label: number): void {
  const devices = [...space.devices];
  if (devices.some(({ binding }) => binding?.label === label)) return;
  const labels = devices.map(({ name, binding }) => `${binding?.label} (${name})`).join(", ");
  throw refused("EINVAL", field, `no device with label ${label} is attached to ioasid ${space.number}`, label, `attached are ${labels || "none"}`);
}

function refused(errno: "EINVAL" | "EOPNOTSUPP", field: string, reason: string, value: unknown, hint: string): IoctlError {
  return new IoctlError(errno, INVALIDATE.name, `${field}: ${reason}`, { field, value, hint });
}
