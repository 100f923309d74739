// The refusals that come from nesting, groups, bound tables and dirty tracking. May import what ioasid-errors.ts may.
// Ranges are inclusive, first..last; those of pages are printed as bytes.

import type { GuestTableRefusal } from "../iommu/guest-table.js";
import { firstByte, hex, hexPages, lastByte } from "./arguments.js";
import type { Device } from "./device.js";
import { IoctlError } from "./errno.js";
import type { Group } from "./group.js";
import type { Ioasid } from "./ioasid.js";
import { noPageRequests } from "./ioasid-errors.js";
import type { Call } from "./requests.js";

export function partlyAttached(call: Call, field: string, { number: ioasid }: Ioasid, group: Group): IoctlError {
  return new IoctlError("EDEADLK", call.name, `group ${group.number} is only partly attached to ioasid ${ioasid}`, {
    field, value: ioasid, conflict: { kind: "group", group: group.number },
    hint: "IOASID_GET_GROUP_STATE says which devices are missing: attach them, or detach the others",
  });
}

export function outsideParent(call: Call, first: number, last: number, parent: Ioasid, refusal: string): IoctlError {
  const reason = `ioasid ${parent.number}, the parent, can never map ${hexPages(first, last)}: it ${refusal}`;
  const conflict = { kind: "ioasid", ioasid: parent.number } as const;
  return new IoctlError("EINVAL", call.name, reason, { field: "vaddr", value: firstByte(first), conflict, hint: parent.limits.describe() });
}

/** The guest owns the table. */
export function hasTable(call: Call, { number: ioasid, pgtable }: Ioasid): IoctlError {
  const reason = `ioasid ${ioasid} has the guest's table at ${hex(pgtable!.addr)}`;
  const details = { field: "ioasid", value: ioasid, conflict: { kind: "ioasid", ioasid }, hint: "change that table, or unbind it" } as const;
  return new IoctlError("EBUSY", call.name, reason, details);
}

export function noDirtyTracking(call: Call, ioasid: number, device: string): IoctlError {
  const reason = `the IOMMU of ${device} does not record writes, and ioasid ${ioasid}, or one that it is nested on, tracks them`;
  const conflict = { kind: "device", device } as const;
  const hint = "IOASID_DEVICE_GET_INFO says which devices can; or switch tracking off";
  return new IoctlError("EINVAL", call.name, reason, { field: "ioasid", value: ioasid, conflict, hint });
}

/** The writes through a guest's table are recorded in its parent. */
export function tracksWrites(call: Call, ioasid: number): IoctlError {
  const hint = "IOASID_SET_DIRTY_TRACKING switches it off; writes through a guest's table are dirty pages of the parent";
  const details = { field: "ioasid", value: ioasid, conflict: { kind: "ioasid", ioasid }, hint } as const;
  return new IoctlError("EBUSY", call.name, `ioasid ${ioasid} tracks dirty pages`, details);
}

/** The IOMMU of a new device is not able to walk the bound table. */
export function notWalked(call: Call, ioasid: number, device: string, { field, reason, hint }: GuestTableRefusal): IoctlError {
  const what = `the IOMMU of ${device} cannot walk the table that is bound to ioasid ${ioasid}: ${field} ${reason}`;
  return new IoctlError("EINVAL", call.name, what, { field: "ioasid", value: ioasid, conflict: { kind: "ioasid", ioasid }, hint });
}

/** Nothing can be nested on a space that has a guest's table. */
export function tooDeep(call: Call, parent: Ioasid): IoctlError {
  const reason = `ioasid ${parent.number} has a guest's table: the hardware nests one level`;
  const conflict = { kind: "ioasid", ioasid: parent.number } as const;
  return new IoctlError("ENOSPC", call.name, reason, { field: "parent", value: parent.number, conflict, hint: "nest on its parent" });
}

/** A child's devices are the parent's too: some of them must be able to ask for pages, once there are any. @throws IoctlError EOPNOTSUPP. */
export function requirePageRequests(call: Call, { devices }: Ioasid): void {
  const [first] = devices;
  if (first === undefined || [...devices].some(({ iommu }) => iommu.model.pageRequests)) return;
  throw noPageRequests(call, "pageRequests", true, first);
}

/** A device is attached to a child only while it is attached to the parent. */
export function needsParent(call: Call, device: Device, { number: ioasid, parent }: Ioasid): IoctlError {
  const reason = `ioasid ${ioasid} is nested on ioasid ${parent!.number}, and ${device.name} is not attached to that one`;
  const conflict = { kind: "ioasid", ioasid: parent!.number } as const;
  return new IoctlError("EINVAL", call.name, reason, { field: "ioasid", value: ioasid, conflict, hint: "attach it to the parent first" });
}

/** `value` is the ioasid that the call named. */
export function isAttached(call: Call, { name }: Device, value: number, { number: ioasid }: Ioasid, hint: string): IoctlError {
  const details = { field: "ioasid", value, conflict: { kind: "ioasid", ioasid }, hint } as const;
  const also = value === ioasid ? "" : `, so not to ioasid ${value}`;
  return new IoctlError("EBUSY", call.name, `${name} is attached to ioasid ${ioasid}${also}`, details);
}

/** `attached` is a space, nested on it, that the device is attached to as well. */
export function attachedBelow(call: Call, device: Device, ioasid: number, attached: Ioasid): IoctlError {
  const reason = `${device.name} is attached to ioasid ${attached.number}, which is nested on ioasid ${ioasid}`;
  const conflict = { kind: "ioasid", ioasid: attached.number } as const;
  return new IoctlError("EBUSY", call.name, reason, { field: "ioasid", value: ioasid, conflict, hint: "detach it from there first" });
}

export function notNested(call: Call, ioasid: number): IoctlError {
  const hint = "IOASID_CREATE_NESTING makes a child; only there does the parent keep a guest's table from reaching everything";
  return new IoctlError("EINVAL", call.name, `ioasid ${ioasid} is nested on nothing`, { field: "ioasid", value: ioasid, hint });
}

export function alreadyBound(call: Call, { number: ioasid, pgtable }: Ioasid): IoctlError {
  const reason = `ioasid ${ioasid} has the table at ${hex(pgtable!.addr)} already`;
  const details = { field: "ioasid", value: ioasid, conflict: { kind: "ioasid", ioasid }, hint: "IOASID_UNBIND_PGTABLE takes it away" } as const;
  return new IoctlError("EEXIST", call.name, reason, details);
}

/** A space with devices or children cannot be freed. */
export function stillInUse(call: Call, { number: ioasid, devices, children, kvmUsers }: Ioasid): IoctlError {
  const [device] = devices;
  if (kvmUsers > 0) {
    const hint = "KVM_UNMAP_PASID first";
    return new IoctlError("EBUSY", call.name, `a VM maps a PASID to ioasid ${ioasid}`, { field: "ioasid", value: ioasid, hint });
  }
  if (device === undefined) return hasChild(call, ioasid, [...children][0]!);
  const details = { field: "ioasid", value: ioasid, conflict: { kind: "device", device: device.name }, hint: "detach it first" } as const;
  return new IoctlError("EBUSY", call.name, `${device.name} is attached to ioasid ${ioasid}`, details);
}

function hasChild(call: Call, ioasid: number, child: Ioasid): IoctlError {
  const details = { field: "ioasid", value: ioasid, conflict: { kind: "ioasid", ioasid: child.number }, hint: "free it first" } as const;
  return new IoctlError("EBUSY", call.name, `ioasid ${child.number} is nested on ioasid ${ioasid}`, details);
}

/** A table cannot be bound where there are maps or children. */
export function inUse(call: Call, { number: ioasid, areas, children }: Ioasid): IoctlError {
  const [child] = children;
  if (child !== undefined) return hasChild(call, ioasid, child);
  const [area] = areas;
  const conflict = { kind: "mapping", ioasid, first: firstByte(area!.first), last: lastByte(area!.last) } as const;
  const reason = `ioasid ${ioasid} has maps, the first is ${hexPages(area!.first, area!.last)}`;
  const hint = "a space is mapped or bound, not both: unmap first";
  return new IoctlError("EBUSY", call.name, reason, { field: "ioasid", value: ioasid, conflict, hint });
}

export function notMappedInParent(call: Call, addr: bigint, parent: Ioasid): IoctlError {
  const reason = `ioasid ${parent.number}, the parent, maps nothing at ${hex(addr)}`;
  const conflict = { kind: "ioasid", ioasid: parent.number } as const;
  return new IoctlError("EFAULT", call.name, reason, { field: "addr", value: addr, conflict, hint: "addr is an address in the parent; map it there" });
}

export function notBound(call: Call, errno: "ENOENT" | "EINVAL", { number: ioasid, parent }: Ioasid): IoctlError {
  const hint = parent === undefined ? "a root has maps, which need no invalidation" : "IOASID_BIND_PGTABLE binds one";
  return new IoctlError(errno, call.name, `no table is bound to ioasid ${ioasid}`, { field: "ioasid", value: ioasid, hint });
}
