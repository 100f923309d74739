// The refusals of an ioasid: each names the range, what is in its way, and what the caller can do.
// May import iommu/ (types), and address-limits.ts, arguments.ts, engine-errno.ts, errno.ts, pins.ts, requests.ts of this folder.
// Ranges are inclusive, first..last; those of pages are printed as bytes.

import type { MapStatus } from "../iommu/domain.js";
import type { AddressLimits } from "./address-limits.js";
import { firstByte, hex, hexPages, lastByte } from "./arguments.js";
import type { Device } from "./device.js";
import { inSection } from "./engine-errno.js";
import { type Conflict, type ErrnoName, IoctlError } from "./errno.js";
import type { LockAccount } from "./pins.js";
import { type Call, IOASID_DMA_MAP, IOASID_DMA_UNMAP, REQUESTS } from "./requests.js";

const MAP = REQUESTS[IOASID_DMA_MAP].name;
const UNMAP = REQUESTS[IOASID_DMA_UNMAP].name;

interface Pages {
  readonly first: number;
  readonly last: number;
}

export interface MapArguments {
  readonly iova: bigint;
  readonly vaddr: bigint;
  readonly size: bigint;
  readonly flags: number;
}

type MapRefusal = Exclude<MapStatus, "ok">;

function mapping(ioasid: number, { first, last }: Pages): Conflict {
  return { kind: "mapping", ioasid, first: firstByte(first), last: lastByte(last) };
}

/** The IOMMU cannot translate these addresses. */
export function notPermitted(first: number, last: number, refusal: string, limits: AddressLimits): IoctlError {
  const reserved = limits.findReserved(first, last);
  const conflict = reserved && ({ kind: "reserved", first: firstByte(reserved.first), last: lastByte(reserved.last) } as const);
  const details = { field: "iova", value: firstByte(first), hint: limits.describe(), ...(conflict && { conflict }) };
  return new IoctlError("EINVAL", MAP, `iova ${hexPages(first, last)} ${refusal}`, details);
}

export function overlaps(first: number, last: number, other: Pages, ioasid: number): IoctlError {
  const reason = `iova ${hexPages(first, last)} overlaps the mapping ${hexPages(other.first, other.last)} of ioasid ${ioasid}`;
  const details = { field: "iova", value: firstByte(first), conflict: mapping(ioasid, other), hint: "unmap that mapping first" };
  return new IoctlError("EEXIST", MAP, reason, details);
}

/** `page` is the first page of the process, from `hva` on, that is missing, or `mapped` without the permission. */
export function notAccessible(call: Call, hva: number, page: number, mapped: boolean): IoctlError {
  const reason = `the process's memory at ${hex(firstByte(page))} ${mapped ? "does not permit this access" : "is not mapped"}`;
  const hint = mapped ? "map with the flags that its protection allows" : "mmap it first";
  return new IoctlError("EFAULT", call.name, reason, { field: "vaddr", value: firstByte(hva), hint });
}

export function exceedsLimit(call: Call, account: LockAccount, pages: number): IoctlError {
  const [more, locked] = [firstByte(pages), firstByte(account.pages)];
  const reason = `${more} bytes more would exceed the lock limit of ${account.limit} (${locked} are locked)`;
  const hint = "unmap something, or raise lockLimit of the host";
  return new IoctlError("ENOMEM", call.name, reason, { field: "size", value: more, hint });
}

/** Type1 v2 and its successors remove whole mappings only. */
export function splits(first: number, last: number, cut: Pages, ioasid: number): IoctlError {
  const reason = `iova ${hexPages(first, last)} ends inside the mapping ${hexPages(cut.first, cut.last)} of ioasid ${ioasid}`;
  const details = { field: "iova", value: firstByte(first), conflict: mapping(ioasid, cut), hint: "unmap whole mappings" };
  return new IoctlError("EINVAL", UNMAP, reason, details);
}

/** Field, reason and hint of a map that the table refuses; the ones of `iova` are checked before and cannot come from there. */
const MAP_REFUSALS: Readonly<Record<Exclude<MapRefusal, "in-section">, readonly [ErrnoName, keyof MapArguments, string, string]>> = {
  "overlap": ["EEXIST", "iova", "something is mapped there", "unmap it first"],
  "no-frames": ["ENOMEM", "size", "no memory is left for page tables", "unmap something, or make the host with a larger memory.arena"],
  "range": ["EINVAL", "vaddr", "its host-physical addresses are wider than the IOMMU can put out", "back it with memory at lower addresses"],
  "align": [
    "EINVAL", "vaddr", "its host-physical addresses are no multiples of the IOMMU's page size", "back it with memory that is aligned to `alignment`",
  ],
  "not-owned": ["EBUSY", "iova", "the table is the guest's", "change that table, or unbind it"],
  "perm": ["EOPNOTSUPP", "flags", "the page-table format has no such permission", "make it readable too: IOASID_GET_INFO has `writeOnly`"],
};

export function mapRefused(status: MapRefusal, args: MapArguments): IoctlError {
  if (status === "in-section") return inSection(REQUESTS[IOASID_DMA_MAP]);
  const [errno, field, reason, hint] = MAP_REFUSALS[status];
  const what = `mapping ${hex(args.size)} bytes of ${hex(args.vaddr)} at iova ${hex(args.iova)} with flags ${args.flags}`;
  return new IoctlError(errno, MAP, `${what}: ${reason}`, { field, value: args[field], hint });
}

/** One table cannot serve both devices. */
export function otherModel(call: Call, ioasid: number, device: Device, resident: Device): IoctlError {
  const describe = ({ name, iommu: { model } }: Device): string => `${name} (${model.formatName}, ${model.addressWidth} bits)`;
  const reason = `the IOMMU of ${describe(device)} is of another model than that of ${describe(resident)}`;
  const conflict = { kind: "device", device: resident.name } as const;
  const hint = "attach it to an ioasid of its own";
  return new IoctlError("EINVAL", call.name, reason, { field: "ioasid", value: ioasid, conflict, hint });
}

/** A map that is there does not fit the IOMMU of the new device. */
export function cannotTake(call: Call, ioasid: number, device: string, pages: Pages, refusal: string, limits: AddressLimits): IoctlError {
  const reason = `${device} cannot use the mapping ${hexPages(pages.first, pages.last)} of ioasid ${ioasid}: it ${refusal}`;
  const conflict = mapping(ioasid, pages);
  return new IoctlError("EINVAL", call.name, reason, { field: "ioasid", value: ioasid, conflict, hint: limits.describe() });
}

/** Missing pages are to be asked for, and the hardware cannot. */
export function noPageRequests(call: Call, field: string, value: unknown, { name, iommu: { model } }: Device): IoctlError {
  const conflict = { kind: "device", device: name } as const;
  const hint = "IOASID_DEVICE_GET_INFO says which devices can; or make the ioasid without `pageRequests`";
  return new IoctlError("EOPNOTSUPP", call.name, `the IOMMU of ${name} (${model.preset}) makes no page requests`, { field, value, conflict, hint });
}

export function noRoute(call: Call, device: string): IoctlError {
  return new IoctlError("ENOSPC", call.name, `no route is free for ${device}`, { hint: "make the host with more routes" });
}

/** Attaching failed below: what a map would refuse is an IOMMU that does not fit, the rest has run out. */
export function attachRefused(call: Call, status: MapRefusal, ioasid: number, device: string): IoctlError {
  if (status === "in-section") return inSection(call);
  const [errno, , reason, hint] = MAP_REFUSALS[status];
  const details = { field: "ioasid", value: ioasid, conflict: { kind: "ioasid", ioasid }, hint } as const;
  if (errno === "ENOMEM") return new IoctlError(errno, call.name, `${reason} with the maps of ioasid ${ioasid}`, details);
  return new IoctlError("EINVAL", call.name, `the IOMMU of ${device} cannot take a map of ioasid ${ioasid}: ${reason}`, details);
}
