// A guest's PASID table bound to a child: all DMA of the devices there, with any PASID and without, goes where the guest's table says,
// in the parent's addresses (RFC section 5.7; the ioasid of all PASIDs that its review asks for). May import engine/ (types), iommu/
// and, of this folder, all but the open files and the host.

import type { PasidTableOptions } from "../engine/engine.js";
import { readFormat, type FormatRefusal } from "../iommu/format-fields.js";
import { badPasidFormat, guestPasidTable } from "../iommu/guest-pasid-table.js";
import type { Iommu } from "../iommu/iommu.js";
import type { PasidDomain } from "../iommu/pasid-domain.js";
import { takeU64 } from "./arguments.js";
import { leaveTable, refusedTable, requireEmpty } from "./bound-table.js";
import { type Device, modelsOf } from "./device.js";
import { discard } from "./domain-steps.js";
import { inSection, withErrno } from "./engine-errno.js";
import type { Ioasid } from "./ioasid.js";
import { notMappedInParent } from "./nesting-errors.js";
import { noPasidTable, notReadable, pasidTableNeedsPdev, withPasidAttached } from "./pasid-errors.js";
import {
  type Call, IOASID_UNBIND_PASID_TABLE, type PasidTableFormat, REQUESTS, type U64, VFIO_ATTACH_IOASID,
} from "./requests.js";

const UNBIND = REQUESTS[IOASID_UNBIND_PASID_TABLE];
const ATTACH = REQUESTS[VFIO_ATTACH_IOASID];
const MOST_PASID_BITS = 20;

export interface BoundPasidTable {
  /** Address of the table, or of its directory, in the parent. */
  readonly addr: bigint;
  readonly format: PasidTableFormat;
}

export interface PasidTableArguments {
  readonly addr: U64;
  readonly format: PasidTableFormat;
}

/**
 * Binds a guest's PASID table to a child that has neither maps, nor children, nor attachments with a PASID. With `dryRun` it only
 * checks. @throws IoctlError as `bindTable`, and EBUSY (attached with a PASID), EINVAL (a mediated device is attached).
 */
export function bindPasidTable(call: Call, space: Ioasid, arg: PasidTableArguments, dryRun: boolean): void {
  const table = takePasidTable(call, requireEmpty(call, space), arg);
  for (const device of space.devices) {
    requireOwnRid(call, space.number, device);
    for (const vpasid of device.pasidsOf(space)) throw withPasidAttached(call, space.number, device, vpasid);
  }
  const [refusal] = refusalsOf(table, space.devices);
  if (refusal !== undefined) throw refusedTable(call, refusal, table);
  const [device] = space.devices;
  if (device === undefined) {
    if (!dryRun) space.pasidTable = table;
    return;
  }
  if (space.inSection) throw inSection(call);
  const domain = createPasidDomain(call, space, device.iommu, table);
  if (dryRun) return discard(domain);
  space.replaceDomain(domain);
  space.pasidTable = table;
}

/** The table that the arguments describe, as `takeTable` does for a page table. */
export function takePasidTable(call: Call, parent: Ioasid, { addr, format }: PasidTableArguments): BoundPasidTable {
  const table = { addr: takeU64(call, "addr", addr), format: readFormat(format) };
  const bad = badPasidFormat(table.format);
  if (bad !== undefined) throw refusedTable(call, bad, table);
  const refusals = refusalsOf(table, parent.devices);
  if (refusals.length > 0 && refusals.length === modelsOf(parent.devices).length) throw refusedTable(call, refusals[0]!, table);
  if (parent.areas.find(Number(table.addr >> 12n)) === undefined) throw notMappedInParent(call, table.addr, parent);
  return table;
}

function refusalsOf({ addr, format }: BoundPasidTable, devices: Iterable<Device>): FormatRefusal[] {
  return modelsOf(devices).map((model) => guestPasidTable(model, format, addr)).filter((answer) => "reason" in answer);
}

/** What the IOMMU reads for a bound table, which it can. @throws IoctlError ENOSPC. */
export function createPasidDomain(call: Call, space: Ioasid, iommu: Iommu, { addr, format }: BoundPasidTable): PasidDomain {
  const options = guestPasidTable(iommu.model, format, addr) as Omit<PasidTableOptions, "stage2" | "cache">;
  const pageRequests = options.pageRequests === true && (space.pageRequests ?? true);
  return withErrno(call, () => iommu.createPasidDomain({ ...options, pageRequests, stage2: space.parent!.domain!.index }));
}

/** At an attach: the device's IOMMU must read the table that is bound, and take it for this device. @throws IoctlError EINVAL, EBUSY. */
export function requireTableServes(space: Ioasid, device: Device): void {
  if (space.pasidTable === undefined) return;
  requireOwnRid(ATTACH, space.number, device);
  const [refusal] = refusalsOf(space.pasidTable, [device]);
  if (refusal !== undefined) throw notReadable(ATTACH, space.number, device.name, refusal);
}

/** The table has all PASIDs of the requester id, of which a mediated device is a share. */
function requireOwnRid(call: Call, ioasid: number, device: Device): void {
  if (device.kind.kind !== "pdev") throw pasidTableNeedsPdev(call, ioasid, device);
}

/** Takes the table away: nothing is mapped then, and attachments with a PASID lead DMA again. @throws IoctlError ENOENT (none), ENOMEM, ENOSPC, EDEADLK. */
export function unbindPasidTable(space: Ioasid): void {
  space.requireReady(UNBIND);
  if (space.pasidTable === undefined) throw noPasidTable(UNBIND, "ENOENT", space);
  leaveTable(UNBIND, space);
  space.pasidTable = undefined;
}

/** Bits of a PASID that the IOMMUs before the space, or else before its parent, have; what PCI has while no device is there. */
export function bitsOfPasid({ devices, parent }: Ioasid): number {
  const models = modelsOf(devices.size > 0 ? devices : parent!.devices);
  return Math.min(MOST_PASID_BITS, ...models.map(({ pasidBits }) => pasidBits));
}
