// What IOASID_GET_INFO, IOASID_DEVICE_GET_INFO and IOASID_GET_GROUP_STATE answer: copies, which the caller may change.
// May import iommu/ (the model, the format) and, of this folder, what a space is made of.

import { readFormat } from "../iommu/guest-table.js";
import type { IommuModel } from "../iommu/model.js";
import { AddressLimits } from "./address-limits.js";
import { firstByte, takeU32 } from "./arguments.js";
import type { BoundTable } from "./bound-table.js";
import { type Device, modelsOf } from "./device.js";
import { canTrack } from "./dirty-calls.js";
import { IoctlError } from "./errno.js";
import type { Group } from "./group.js";
import type { Ioasid } from "./ioasid.js";
import type { AddressRange, Call, DeviceInfo, GroupMember, GroupState, IoasidInfo, NestingInfo } from "./requests.js";

interface AddressInfo {
  readonly addressWidth: number;
  readonly permitted: readonly AddressRange[];
  readonly reserved: readonly (AddressRange & { readonly why: string })[];
  readonly alignment: number;
}

function addressInfo(limits: AddressLimits): AddressInfo {
  return {
    addressWidth: limits.width,
    permitted: limits.permitted(),
    reserved: limits.reserved.map(({ first, last, why }) => ({ first, last, why })),
    alignment: limits.granulePages * 4096,
  };
}

/** A guest's table has its own width, and takes no maps. */
function ofTable({ format }: BoundTable): Pick<AddressInfo, "addressWidth" | "permitted"> {
  return { addressWidth: format.kind === "x86-64" ? 12 + 9 * format.levels : format.inputWidth, permitted: [] };
}

/** What can be nested on a space before IOMMUs of these models: what one of them can; on one with a guest's table nothing. */
function nestingInfo(space: Ioasid, models: readonly IommuModel[]): IoasidInfo["nesting"] {
  const hardware = [...new Set(models.flatMap(({ nesting }) => nesting.hardware))];
  if (space.pgtable !== undefined) return { software: false, hardware: [], softwareDepth: 0, hardwareDepth: 0 };
  return { software: true, hardware, softwareDepth: "unlimited", hardwareDepth: hardware.length > 0 ? 1 : 0 };
}

export function ioasidInfo(space: Ioasid): IoasidInfo {
  const models = modelsOf(space.devices);
  const [model] = models;
  const { process, registered } = space.context;
  const { pgtable, dirty } = space;
  return {
    ioasid: space.number,
    kind: space.kind,
    parent: space.parent?.number ?? null,
    children: [...space.children].map(({ number }) => number),
    devices: [...space.devices].map(({ name }) => name),
    format: pgtable?.format.kind ?? model?.formatName ?? null,
    ...addressInfo(space.limits),
    ...(pgtable && ofTable(pgtable)),
    pageSizes: model?.pageSizes ?? 0n,
    writeOnly: model?.writeOnly ?? false,
    nesting: nestingInfo(space, models),
    pgtable: pgtable === undefined ? null : { addr: pgtable.addr, format: readFormat(pgtable.format) },
    dirtyTracking: { supported: model !== undefined && canTrack(space), enabled: dirty.enabled },
    pageRequests: model !== undefined && space.asksForPages && models.every((each) => each.pageRequests),
    pasidBits: model === undefined ? 0 : Math.min(...models.map((each) => each.pasidBits)),
    mappings: space.areas.size,
    locked: firstByte(space.source.charged),
    lockedRegistered: firstByte(registered.charged),
    lockedTotal: process.locked,
    lockLimit: process.account.limit,
  };
}

/** @throws IoctlError EINVAL, ENOENT when none of these devices, bound to that fd, has the label. */
export function findLabelled(call: Call, fd: number, devices: ReadonlySet<Device>, wanted: number): Device {
  const label = takeU32(call, "label", wanted);
  for (const device of devices) if (device.binding?.label === label) return device;
  const known = [...devices].map(({ binding, name }) => `${binding?.label} (${name})`).join(", ");
  const hint = known === "" ? "no device is bound to it" : `bound are ${known}`;
  throw new IoctlError("ENOENT", call.name, `fd ${fd} has no device with label ${label}`, { field: "label", value: label, hint });
}

export function deviceInfo({ name, iommu, binding, group, kind, pageRequests, parent }: Device): DeviceInfo {
  const { model } = iommu;
  const nesting: NestingInfo = { software: model.nesting.software, hardware: [...model.nesting.hardware] };
  return {
    label: binding!.label,
    name,
    kind: kind.kind,
    type: kind.type,
    parent: parent ?? null,
    group: group.number,
    iommu: iommu.name,
    preset: model.preset,
    format: model.formatName,
    outputWidth: model.outputWidth,
    ...addressInfo(new AddressLimits([model])),
    pageSizes: model.pageSizes,
    writeOnly: model.writeOnly,
    nesting,
    dirtyTracking: model.dirtyTracking,
    pageRequests,
    pasidBits: kind.pasids === "user" ? model.pasidBits : 0,
    pasids: { delegated: kind.delegated, cpu: kind.enqcmd, cpuTranslated: kind.enqcmd && !kind.identical },
    pasidTable: model.pasidTable,
  };
}

export function groupState(space: Ioasid): GroupState {
  const groups = new Set<Group>([...space.devices].map(({ group }) => group));
  const member = ({ name, binding }: Device): GroupMember => ({ name, label: binding?.label ?? null });
  return {
    groups: [...groups].map((group) => {
      const missing = group.missing(space);
      const attached = group.devices.filter((device) => !missing.includes(device));
      return { group: group.number, attached: attached.map(member), missing: missing.map(member) };
    }),
  };
}
