// The refusals that come from PASIDs. May import what ioasid-errors.ts may.

import type { FormatRefusal } from "../iommu/format-fields.js";
import { show } from "./arguments.js";
import type { Device } from "./device.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import type { Call } from "./requests.js";

export function badPasid(call: Call, field: string, pasid: number, last: number): IoctlError {
  const reason = `PASID ${show(pasid)} is not in 1..${last}`;
  return new IoctlError("EINVAL", call.name, reason, { field, value: pasid, hint: "IOASID_DEVICE_GET_INFO says how many bits a PASID has" });
}

export function noPasids(call: Call, { name, kind }: Device): IoctlError {
  const conflict = { kind: "device", device: name } as const;
  const hint = kind.pasids === "default" ? "it has one of its own: attach it without" : "IOASID_DEVICE_GET_INFO says which devices have";
  return new IoctlError("EOPNOTSUPP", call.name, `${name} has no PASIDs for user space`, { field: "flags", value: 1, conflict, hint });
}

export function pasidInUse(call: Call, { name }: Device, pasid: number, { number: ioasid }: Ioasid): IoctlError {
  const reason = `PASID ${pasid} of ${name} is attached to ioasid ${ioasid}`;
  const conflict = { kind: "ioasid", ioasid } as const;
  return new IoctlError("EBUSY", call.name, reason, { field: "userPasid", value: pasid, conflict, hint: "detach that first" });
}

/** Devices of a group cannot be told apart, so neither can their PASIDs. */
export function pasidOfGroup(call: Call, { name, group }: Device): IoctlError {
  const reason = `${name} shares group ${group.number} with other devices`;
  const conflict = { kind: "group", group: group.number } as const;
  return new IoctlError("EINVAL", call.name, reason, { field: "flags", value: 1, conflict, hint: "PASIDs are for devices that have a group of their own" });
}

export function pasidNeedsStage1(call: Call, { name, iommu: { model } }: Device, { number: ioasid }: Ioasid): IoctlError {
  const reason = `the IOMMU of ${name} (${model.preset}, stage ${model.stage}) leads from PASIDs to guests' tables only, and ioasid ${ioasid} is for maps`;
  const conflict = { kind: "device", device: name } as const;
  return new IoctlError("EINVAL", call.name, reason, { field: "ioasid", value: ioasid, conflict, hint: "attach a child without maps, and bind a table to it" });
}

export function noPasid(call: Call, device: string): IoctlError {
  return new IoctlError("ENOSPC", call.name, `no PASID is left for ${device}`, { field: "userPasid", hint: "detach others first" });
}

/** One table of the CPU cannot replace PASIDs for some devices only. */
export function pasidsAreReplaced(call: Call, { name }: Device): IoctlError {
  const reason = `${name}, a physical device, takes ENQCMD, and a VM replaces PASIDs for mediated devices of this fd`;
  const hint = "do not expose ENQCMD on physical and mediated devices of one VM";
  return new IoctlError("EOPNOTSUPP", call.name, reason, { field: "ioasidFd", conflict: { kind: "device", device: name }, hint });
}

/** A mediated device shares its requester id, whose PASIDs the table would have all. */
export function pasidTableNeedsPdev(call: Call, ioasid: number, { name }: Device): IoctlError {
  const conflict = { kind: "device", device: name } as const;
  const hint = "PASID tables are for physical devices: attach a child for each PASID";
  return new IoctlError("EINVAL", call.name, `${name} is a mediated device, and ioasid ${ioasid} is for a PASID table`, { field: "ioasid", value: ioasid, conflict, hint });
}

/** What a PASID table leads from is every PASID: it cannot itself be reached with one. */
export function pasidTableWithPasid(call: Call, { number: ioasid }: Ioasid): IoctlError {
  const conflict = { kind: "ioasid", ioasid } as const;
  const hint = "attach without a PASID: the table has them all";
  return new IoctlError("EINVAL", call.name, `ioasid ${ioasid} has a PASID table`, { field: "flags", value: 1, conflict, hint });
}

export function withPasidAttached(call: Call, ioasid: number, { name }: Device, vpasid: number): IoctlError {
  const conflict = { kind: "device", device: name } as const;
  const reason = `${name} is attached to ioasid ${ioasid} with PASID ${vpasid}: a PASID table has all PASIDs`;
  return new IoctlError("EBUSY", call.name, reason, { field: "ioasid", value: ioasid, conflict, hint: "detach that first" });
}

/** The IOMMU of a new device is not able to read the bound table. */
export function notReadable(call: Call, ioasid: number, device: string, { field, reason, hint }: FormatRefusal): IoctlError {
  const what = `the IOMMU of ${device} cannot read the PASID table that is bound to ioasid ${ioasid}: ${field} ${reason}`;
  return new IoctlError("EINVAL", call.name, what, { field: "ioasid", value: ioasid, conflict: { kind: "ioasid", ioasid }, hint });
}

export function noPasidTable(call: Call, errno: "ENOENT" | "EINVAL", { number: ioasid }: Ioasid): IoctlError {
  const hint = "IOASID_BIND_PASID_TABLE binds one to a child";
  return new IoctlError(errno, call.name, `no PASID table is bound to ioasid ${ioasid}`, { field: "ioasid", value: ioasid, hint });
}
