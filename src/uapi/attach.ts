// What VFIO_ATTACH_IOASID and VFIO_DETACH_IOASID check before a space takes or loses a device, with and without a PASID.
// May import device.ts, engine-errno.ts, ioasid.ts, pasid-argument.ts, pasid-table.ts, their errors, arguments.ts, errno.ts, requests.ts. RFC sections 2.2 and 4.

import { takeU32 } from "./arguments.js";
import type { Device } from "./device.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { attachedBelow, isAttached, needsParent } from "./nesting-errors.js";
import { requireCarried, takePasid } from "./pasid-argument.js";
import { noPasids, pasidInUse, pasidNeedsStage1, pasidOfGroup, pasidTableWithPasid } from "./pasid-errors.js";
import { requireTableServes } from "./pasid-table.js";
import {
  type AttachIoasid, type Call, IOASID_ATTACH_USER_PASID, REQUESTS, VFIO_ATTACH_IOASID, VFIO_DETACH_IOASID,
} from "./requests.js";

const ATTACH = REQUESTS[VFIO_ATTACH_IOASID];
const DETACH = REQUESTS[VFIO_DETACH_IOASID];

/** The vPASID that the arguments name, if any. @throws IoctlError EOPNOTSUPP (flags), EINVAL (a PASID that is none, or without the flag). */
export function takeUserPasid(call: Call, { flags, userPasid }: AttachIoasid): number | undefined {
  const known = flags === undefined ? 0 : takeU32(call, "flags", flags);
  if ((known & ~IOASID_ATTACH_USER_PASID) !== 0) {
    const hint = "the only flag is IOASID_ATTACH_USER_PASID (1)";
    throw new IoctlError("EOPNOTSUPP", call.name, `flags 0x${known.toString(16)} are not supported`, { field: "flags", value: flags, hint });
  }
  if (known === 0) {
    if (userPasid === undefined) return undefined;
    const hint = "set the flag IOASID_ATTACH_USER_PASID (1), or leave userPasid out";
    throw new IoctlError("EINVAL", call.name, "userPasid is given without its flag", { field: "userPasid", value: userPasid, hint });
  }
  return takePasid(call, "userPasid", userPasid);
}

/** @throws IoctlError EBUSY (attached already), EINVAL (not attached to the parent, PASID), EOPNOTSUPP (no PASIDs), and as `Ioasid.attach`. */
export function attach(device: Device, space: Ioasid, vpasid: number | undefined, dryRun: boolean): void {
  if (vpasid === undefined) checkChain(device, space);
  else checkPasid(device, space, vpasid);
  requireTableServes(space, device);
  space.attach(device, vpasid, dryRun);
}

/** Without a PASID the spaces of a device make a chain of nested ones, and the deepest counts. */
function checkChain(device: Device, space: Ioasid): void {
  const { attached, chain } = device;
  if (chain.includes(space)) throw isAttached(ATTACH, device, space.number, space, "it is there already");
  const { parent } = space;
  if (parent !== undefined && !device.isAttachedTo(parent)) throw needsParent(ATTACH, device, space);
  if (attached === undefined || attached === parent) return;
  throw isAttached(ATTACH, device, space.number, attached, "a device has one address space, or a chain of nested ones: detach it first");
}

function checkPasid(device: Device, space: Ioasid, vpasid: number): void {
  const { kind, group, pasids } = device;
  if (space.pasidTable !== undefined) throw pasidTableWithPasid(ATTACH, space);
  const taken = pasids.get(vpasid);
  if (taken !== undefined) throw pasidInUse(ATTACH, device, vpasid, taken.space);
  if (kind.pasids !== "user") throw noPasids(ATTACH, device);
  requireCarried(ATTACH, "userPasid", device, vpasid);
  if (group.devices.length > 1) throw pasidOfGroup(ATTACH, device);
  if (space.parent !== undefined && !device.isAttachedTo(space.parent)) throw needsParent(ATTACH, device, space);
  if (!canHavePasid(device, space)) throw pasidNeedsStage1(ATTACH, device, space);
}

/** Where a guest's table leads from PASIDs to tables, it leads to stage 1 only: kernel-managed tables of stage 2 cannot be named there. */
export function canHavePasid({ iommu: { model } }: Device, space: Ioasid): boolean {
  return model.pasidTable === "host" || (space.parent !== undefined && space.areas.size === 0);
}

/** @throws IoctlError EINVAL (a PASID that the device has not), ENOENT (not attached there), EBUSY (attached to a child, which needs it), EDEADLK. */
export function detach(device: Device, space: Ioasid, vpasid: number | undefined): void {
  if (vpasid !== undefined && device.kind.pasids === "user") requireCarried(DETACH, "userPasid", device, vpasid);
  const there = vpasid === undefined ? device.chain.includes(space) : device.pasids.get(vpasid)?.space === space;
  if (!there) throw notAttached(device, space, vpasid);
  if (vpasid === undefined && device.attached !== space) throw attachedBelow(DETACH, device, space.number, device.attached!);
  const child = isOnlyAttachment(device, space) ? device.attachedBelow(space) : undefined;
  if (child !== undefined) throw attachedBelow(DETACH, device, space.number, child);
  if (device.iommu.engine.inSection) throw inSection(DETACH);
  space.detach(device, vpasid);
  device.binding!.ioasidFd.answerMoved(device.group.devices);
}

function isOnlyAttachment(device: Device, space: Ioasid): boolean {
  return device.pasidsOf(space).size + (device.chain.includes(space) ? 1 : 0) === 1;
}

function notAttached(device: Device, space: Ioasid, vpasid: number | undefined): IoctlError {
  const how = vpasid === undefined ? "" : ` with PASID ${vpasid}`;
  const where = vpasid === undefined ? device.attached : device.pasids.get(vpasid)?.space;
  const hint = where === undefined ? `it is attached to none${how}` : `it is attached to ioasid ${where.number}${how}`;
  const reason = `${device.name} is not attached to ioasid ${space.number}${how}`;
  return new IoctlError("ENOENT", DETACH.name, reason, { field: "ioasid", value: space.number, hint });
}

/** Detaches the device from everything, children before their parents. Precondition: no section is open. */
export function detachAll(device: Device): void {
  const depth = (space: Ioasid): number => (space.parent === undefined ? 0 : depth(space.parent) + 1);
  const attachments = [
    ...device.chain.map((space) => ({ space, vpasid: undefined })),
    ...[...device.pasids].map(([vpasid, { space }]) => ({ space, vpasid })),
  ];
  attachments.sort((a, b) => depth(b.space) - depth(a.space));
  for (const { space, vpasid } of attachments) space.detach(device, vpasid);
  if (attachments.length > 0) device.binding!.ioasidFd.answerMoved(device.group.devices);
}
