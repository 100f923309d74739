// IOASID_INVALIDATE_CACHE: a guest that changed its bound table, or its PASID table, says what must not be used any more. All entries
// are checked before the first is carried out. May import iommu/ and, of this folder, arguments.ts, domain-steps.ts, engine-errno.ts,
// errno.ts, ioasid.ts, nesting-errors.ts, pasid-table.ts, requests.ts.

import { pasidTableShape } from "../iommu/guest-pasid-table.js";
import type { PasidDomain } from "../iommu/pasid-domain.js";
import { checkStruct, firstByte, show, takeLast, takePages, takeU32 } from "./arguments.js";
import { takeStep } from "./domain-steps.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { notBound } from "./nesting-errors.js";
import { bitsOfPasid } from "./pasid-table.js";
import {
  type Call, IOASID_CACHE_DEVICE_TLB, IOASID_CACHE_IOTLB, IOASID_CACHE_PASID, IOASID_INVALIDATE_ALL, IOASID_INVALIDATE_CACHE,
  IOASID_INVALIDATE_PASID, IOASID_INVALIDATE_RANGE, type Invalidation, type InvalidateCache, REQUESTS,
} from "./requests.js";

const INVALIDATE = REQUESTS[IOASID_INVALIDATE_CACHE];
const TLBS = IOASID_CACHE_IOTLB | IOASID_CACHE_DEVICE_TLB;
const CACHES = TLBS | IOASID_CACHE_PASID;
const ENTRY_FIELDS = ["granularity", "iova", "size", "pasid", "device", "caches", "leaf"] as const;
const ENTRY: Call = { name: INVALIDATE.name, fields: new Set(ENTRY_FIELDS) };

interface Target {
  /** Bytes; undefined: everything. */
  readonly range: { readonly iova: bigint; readonly size: bigint } | undefined;
  /** undefined: every one. */
  readonly pasid: number | undefined;
  /** What leads from the PASID to a page table has changed too. */
  readonly entry: boolean;
}

/** A PASID table, and one PASID of it. */
interface Tracked {
  readonly table: PasidDomain;
  readonly pasid: number;
}

/**
 * Carries out all entries, and answers how many there were.
 * @throws IoctlError EINVAL (no table is bound, misaligned, device or PASID not attached), EOPNOTSUPP (granularity, caches),
 * EOVERFLOW, EDEADLK; then none was carried out. Fields are named `entries[n].field`.
 */
export function invalidate(space: Ioasid, arg: InvalidateCache): number {
  space.requireReady(INVALIDATE);
  if (space.guestTable === undefined && tracked(space, undefined).length === 0) throw notBound(INVALIDATE, "EINVAL", space);
  const targets = takeEntries(arg).map(({ entry, at }) => takeEntry(space, entry, at));
  if (space.inSection) throw inSection(INVALIDATE);
  for (const target of targets) carryOut(space, target);
  return targets.length;
}

/** The IOTLB is shared by the devices of a space, so one device's entries are dropped with those of the others. */
function carryOut(space: Ioasid, { range, pasid, entry }: Target): void {
  if (space.pasidTable !== undefined) {
    const table = space.domain as PasidDomain | undefined;
    return table && invalidatePasid(table, pasid, range, entry);
  }
  const { domain } = space;
  // A space without a table of its own says whose PASID of a table is meant.
  if (space.pgtable !== undefined && domain !== undefined) takeStep(domain, () => domain.invalidate(range?.iova, range?.size));
  for (const each of tracked(space, pasid)) invalidatePasid(each.table, each.pasid, range, entry);
}

function invalidatePasid(table: PasidDomain, pasid: number | undefined, range: Target["range"], entry: boolean): void {
  takeStep(table, () => {
    if (entry || pasid === undefined) table.dropPasids(pasid);
    else table.invalidatePasid(pasid, range?.iova, range?.size);
  });
}

/** The PASIDs that the space is attached with where a guest's PASID table has the DMA. */
function tracked(space: Ioasid, pasid: number | undefined): Tracked[] {
  const found: Tracked[] = [];
  for (const device of space.devices) {
    if (!device.hasTable) continue;
    const table = device.routed!.domain as PasidDomain;
    const there = device.pasidsOf(space);
    for (const vpasid of pasid === undefined ? there : [pasid]) if (there.has(vpasid)) found.push({ table, pasid: vpasid });
  }
  return found;
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
  const { granularity = IOASID_INVALIDATE_ALL, caches, leaf = false, device } = entry;
  if (typeof leaf !== "boolean") throw refused("EINVAL", `${at}leaf`, `must be a boolean, not ${show(leaf)}`, leaf, "leave it out for everything");
  const wanted = caches === undefined ? undefined : takeU32(ENTRY, `${at}caches`, caches);
  if (wanted === 0 || ((wanted ?? 0) & ~CACHES) !== 0) {
    throw refused("EOPNOTSUPP", `${at}caches`, `${show(caches)} is none of IOTLB (1), DEVICE_TLB (2), PASID (4)`, caches, "leave it out for all of them");
  }
  if (device !== undefined) checkDevice(space, `${at}device`, takeU32(ENTRY, `${at}device`, device));
  switch (takeU32(ENTRY, `${at}granularity`, granularity)) {
    case IOASID_INVALIDATE_ALL:
      refuseFields(entry, at, ["iova", "size"], "RANGE (1)");
      refuseFields(entry, at, ["pasid"], "PASID (2), or RANGE (1)");
      return { range: undefined, pasid: undefined, entry: true };
    case IOASID_INVALIDATE_RANGE: {
      const first = takePages(ENTRY, `${at}iova`, entry.iova);
      const last = takeLast(ENTRY, `${at}iova`, first, takePages(ENTRY, `${at}size`, entry.size), `${at}size`);
      const range = { iova: firstByte(first), size: firstByte(last - first + 1) };
      const needed = space.pasidTable !== undefined || entry.pasid !== undefined;
      return { range, pasid: needed ? takePasid(space, entry, at) : undefined, entry: ((wanted ?? TLBS) & IOASID_CACHE_PASID) !== 0 };
    }
    case IOASID_INVALIDATE_PASID:
      refuseFields(entry, at, ["iova", "size"], "RANGE (1)");
      return { range: undefined, pasid: takePasid(space, entry, at), entry: ((wanted ?? CACHES) & IOASID_CACHE_PASID) !== 0 };
    default:
      throw refused("EOPNOTSUPP", `${at}granularity`, `${show(granularity)} is not ALL (0), RANGE (1) or PASID (2)`, granularity, "leave it out for ALL");
  }
}

function refuseFields(entry: Invalidation, at: string, fields: readonly ("iova" | "size" | "pasid")[], granularity: string): void {
  const field = fields.find((each) => entry[each] !== undefined);
  if (field === undefined) return;
  throw refused("EINVAL", at + field, `belongs to the granularity ${granularity}`, entry[field], "set granularity, or leave it out");
}

/** Any PASID of a table; or one that the space is attached with. */
function takePasid(space: Ioasid, { pasid }: Invalidation, at: string): number {
  const value = takeU32(ENTRY, `${at}pasid`, pasid);
  if (space.pasidTable !== undefined) {
    const { pasidBits } = pasidTableShape(space.pasidTable.format, bitsOfPasid(space));
    if (value < 2 ** pasidBits) return value;
    throw refused("EINVAL", `${at}pasid`, `${value} is beyond the table of ioasid ${space.number}`, value, `it has PASIDs of ${pasidBits} bits`);
  }
  const devices = [...space.devices];
  if (devices.some((device) => device.pasidsOf(space).has(value))) return value;
  const attached = devices.flatMap((device) => [...device.pasidsOf(space)]);
  const hint = attached.length === 0 ? "it is attached with none" : `it is attached with ${attached.join(", ")}`;
  throw refused("EINVAL", `${at}pasid`, `ioasid ${space.number} is not attached with PASID ${value}`, value, hint);
}

function checkDevice(space: Ioasid, field: string, label: number): void {
  const devices = [...space.devices];
  if (devices.some(({ binding }) => binding?.label === label)) return;
  const labels = devices.map(({ name, binding }) => `${binding?.label} (${name})`).join(", ");
  throw refused("EINVAL", field, `no device with label ${label} is attached to ioasid ${space.number}`, label, `attached are ${labels || "none"}`);
}

function refused(errno: "EINVAL" | "EOPNOTSUPP", field: string, reason: string, value: unknown, hint: string): IoctlError {
  return new IoctlError(errno, INVALIDATE.name, `${field}: ${reason}`, { field, value, hint });
}
