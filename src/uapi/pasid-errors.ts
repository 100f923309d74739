// The refusals that come from PASIDs. May import what ioasid-errors.ts may.

import { show } from "./arguments.js";
import type { Device } from "./device.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import type { Call } from "./requests.js";

export function badPasid(call: Call, pasid: number, last: number): IoctlError {
  const reason = `PASID ${show(pasid)} is not in 1..${last}`;
  return new IoctlError("EINVAL", call.name, reason, { field: "userPasid", value: pasid, hint: "IOASID_DEVICE_GET_INFO says how many bits a PASID has" });
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
