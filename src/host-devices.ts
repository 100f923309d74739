// The devices that a host is made with: their options, checked. Imports engine (errors), iommu, uapi (types).
import { EngineError, integerIn } from "./engine/errors.js";
import type { Iommu } from "./iommu/iommu.js";
import { deviceKind, type PasidUse } from "./uapi/device-kind.js";
import type { DeviceSpec } from "./uapi/host.js";

const LAST_RID = 0xffff;
const LAST_GROUP = 2 ** 31 - 1;

export interface DeviceOptions {
  /** As in /dev/vfio/devices/<name>. */
  name: string;
  /** Requester id of a physical device: bus << 8 | device << 3 | function. A mediated one has its parent's. */
  rid?: number;
  /** Name of its IOMMU. Default: the first. A mediated one has its parent's. */
  iommu?: string;
  /** Number of its IOMMU group, 0..2^31-1; devices of one number share the group, and its IOMMU. Default: a group of its own. */
  group?: number;
  /** A mediated device: the physical one, earlier in the list, that it is a share of. That one is the host's own from then on. */
  parent?: string;
  /**
   * "user": spaces can be attached to PASIDs of the device; "default": a mediated device has one PASID of its own, and no others;
   * "none". Default: "user" where the IOMMU has PASIDs, else "none".
   */
  pasids?: PasidUse;
  /** It takes work by ENQCMD; needs "user". Default false. */
  enqcmd?: boolean;
  /** It asks for missing pages, where the space permits it, and waits. Default: whether its IOMMU can pass that on. */
  pageRequests?: boolean;
}

function bad(field: string, reason: string, value: unknown): EngineError {
  return new EngineError("BAD_OPTION", reason, `devices.${field}`, value);
}

/** Throws EngineError BAD_OPTION naming the field. */
export function deviceSpecs(options: readonly DeviceOptions[], iommus: ReadonlyMap<string, Iommu>): DeviceSpec[] {
  const groups = chooseGroups(options);
  const specs: DeviceSpec[] = [];
  options.forEach((each, index) => {
    checkName(each.name, specs);
    const place = each.parent === undefined ? placePhysical(each, specs, iommus) : placeMediated(each, specs);
    const iommu = iommus.get(place.iommu)!;
    const [kind, pageRequests] = [kindOf(each, iommu), asksForPages(each, iommu)];
    specs.push({ name: each.name, ...place, group: groups[index]!, kind, pageRequests, parent: each.parent });
  });
  return specs.map(oneIommuAGroup);
}

function checkName(name: unknown, specs: readonly DeviceSpec[]): void {
  if (typeof name === "string" && /^[\w.:-]+$/.test(name) && !specs.some((other) => other.name === name)) return;
  throw bad("name", `must be a new name of letters, digits and ._:-, not ${String(name)}`, name);
}

type Place = Pick<DeviceSpec, "rid" | "iommu">;

function placePhysical({ rid, iommu }: DeviceOptions, specs: readonly DeviceSpec[], iommus: ReadonlyMap<string, Iommu>): Place {
  const [first = ""] = iommus.keys();
  const own = integerIn("devices.rid", rid, 0, LAST_RID);
  if (specs.some((other) => other.parent === undefined && other.rid === own)) {
    throw bad("rid", `two devices have the requester id 0x${own.toString(16)}`, rid);
  }
  if (!iommus.has(iommu ?? first)) throw bad("iommu", `no IOMMU "${iommu}"; there are ${[...iommus.keys()].join(", ")}`, iommu);
  return { rid: own, iommu: iommu ?? first };
}

function placeMediated({ name, rid, iommu, parent }: DeviceOptions, specs: readonly DeviceSpec[]): Place {
  if (rid !== undefined) throw bad("rid", `${name} has that of its parent`, rid);
  if (iommu !== undefined) throw bad("iommu", `${name} has that of its parent`, iommu);
  const found = specs.find((other) => other.name === parent && other.parent === undefined);
  if (found === undefined) throw bad("parent", `${String(parent)} is no physical device before ${name} in the list`, parent);
  return { rid: found.rid, iommu: found.iommu };
}

function kindOf({ name, parent, pasids, enqcmd = false }: DeviceOptions, { model, name: iommu }: Iommu): DeviceSpec["kind"] {
  const use = pasids ?? (model.pasidBits > 0 ? "user" : "none");
  if (use !== "none" && use !== "default" && use !== "user") throw bad("pasids", `must be "none", "default" or "user", not ${String(use)}`, use);
  if (typeof enqcmd !== "boolean") throw bad("enqcmd", `must be a boolean, not ${String(enqcmd)}`, enqcmd);
  const kind = deviceKind(parent === undefined ? "pdev" : "mdev", use, enqcmd, model);
  if (kind !== undefined) return kind;
  if (model.pasidBits === 0) throw bad("pasids", `${iommu}, the IOMMU of ${name}, has no PASIDs`, pasids);
  if (enqcmd) throw bad("enqcmd", `${name} has no PASIDs for the user to name`, enqcmd);
  throw bad("pasids", `"default" is for mediated devices, and ${name} has no parent`, pasids);
}

function asksForPages({ name, pageRequests }: DeviceOptions, { model, name: iommu }: Iommu): boolean {
  const asks = pageRequests ?? model.pageRequests;
  if (typeof asks !== "boolean") throw bad("pageRequests", `must be a boolean, not ${String(asks)}`, asks);
  if (asks && !model.pageRequests) throw bad("pageRequests", `${iommu}, the IOMMU of ${name}, passes no page requests on`, asks);
  return asks;
}

/** Groups without a number get the lowest ones that are free, from 1 up. */
function chooseGroups(options: readonly DeviceOptions[]): number[] {
  const given = new Set(options.map(({ group }) => group));
  let next = 1;
  return options.map(({ group }) => {
    if (group !== undefined) return integerIn("devices.group", group, 0, LAST_GROUP);
    while (given.has(next)) next++;
    return next++;
  });
}

function oneIommuAGroup(device: DeviceSpec, _index: number, devices: readonly DeviceSpec[]): DeviceSpec {
  const other = devices.find(({ group, iommu }) => group === device.group && iommu !== device.iommu);
  if (other === undefined) return device;
  throw bad("group", `${device.name} and ${other.name} share group ${device.group} behind two IOMMUs`, device.group);
}
