// A guest's page table bound to a child: the IOMMU walks it in the parent's addresses, and the parent's table as second stage
// (RFC section 5.4). May import engine/ (types), iommu/ and, of this folder, all but the open files
// and the host. Ranges are inclusive, first..last.

import type { DomainOptions } from "../engine/engine.js";
import type { Domain } from "../iommu/domain.js";
import { type FormatRefusal, readFormat } from "../iommu/format-fields.js";
import { badFormat, guestTable, type GuestTableRefusal } from "../iommu/guest-table.js";
import type { Iommu } from "../iommu/iommu.js";
import { takeU64 } from "./arguments.js";
import { type Device, modelsOf } from "./device.js";
import { discard } from "./domain-steps.js";
import { inSection, withErrno } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { alreadyBound, inUse, notBound, notMappedInParent, notNested, notWalked, tracksWrites } from "./nesting-errors.js";
import { type Call, IOASID_UNBIND_PGTABLE, type PgtableFormat, REQUESTS, type U64 } from "./requests.js";

const UNBIND = REQUESTS[IOASID_UNBIND_PGTABLE];

export interface BoundTable {
  /** Address of the root in the parent. */
  readonly addr: bigint;
  readonly format: PgtableFormat;
}

export interface BindArguments {
  readonly addr: U64;
  readonly format: PgtableFormat;
}

/**
 * Binds a guest's table to a child that has neither maps nor children. With `dryRun` it only checks.
 * @throws IoctlError EINVAL (no child, format), EOPNOTSUPP (an IOMMU has no such tables), EBUSY (has maps or children, tracks dirty
 * pages), EEXIST (has a table), EFAULT (the parent does not map addr), ENOSPC, EDEADLK, and what `requireReady` throws.
 */
export function bindTable(call: Call, space: Ioasid, arg: BindArguments, dryRun: boolean): void {
  const table = takeTable(call, requireEmpty(call, space), arg);
  const [refusal] = refusalsOf(table, space.devices);
  if (refusal !== undefined) throw refusedTable(call, refusal, table);
  // Not the IOMMU that the present domain was made for: its devices may have left.
  const [device] = space.devices;
  if (device === undefined) {
    if (!dryRun) space.pgtable = table;
    return;
  }
  if (space.inSection) throw inSection(call);
  const domain = createBoundDomain(call, space, device.iommu, table);
  if (dryRun) return discard(domain);
  space.replaceDomain(domain);
  space.pgtable = table;
}

/** The parent of a child that has no maps, no children and no table, so that it can get one of a guest. @throws IoctlError as `bindTable`. */
export function requireEmpty(call: Call, space: Ioasid): Ioasid {
  space.requireReady(call);
  const { parent } = space;
  if (parent === undefined) throw notNested(call, space.number);
  if (space.guestTable !== undefined) throw alreadyBound(call, space);
  if (space.areas.size > 0 || space.children.size > 0) throw inUse(call, space);
  if (space.dirty.enabled) throw tracksWrites(call, space.number);
  return parent;
}

/** The table that the arguments describe, in addresses of `parent`. What no IOMMU there walks is refused; without one, attach does. */
export function takeTable(call: Call, parent: Ioasid, { addr, format }: BindArguments): BoundTable {
  const table = { addr: takeU64(call, "addr", addr), format: readFormat(format) };
  const bad = badFormat(table.format);
  if (bad !== undefined) throw refusedTable(call, bad, table);
  const refusals = refusalsOf(table, parent.devices);
  if (refusals.length > 0 && refusals.length === modelsOf(parent.devices).length) throw refusedTable(call, refusals[0]!, table);
  if (parent.areas.find(Number(table.addr >> 12n)) === undefined) throw notMappedInParent(call, table.addr, parent);
  return table;
}

/** Of the models before these devices, those that do not walk the table: why not. */
function refusalsOf({ addr, format }: BoundTable, devices: Iterable<Device>): GuestTableRefusal[] {
  return modelsOf(devices).map((model) => guestTable(model, format, addr)).filter((answer) => "reason" in answer);
}

/** Of a page table, or of a table of PASIDs. */
export function refusedTable(call: Call, { kind, field, reason, hint }: FormatRefusal, { addr, format }: { addr: bigint; format: object }): IoctlError {
  const value = field === "addr" ? addr : field === "format" ? format : (format as Record<string, unknown>)[field.slice("format.".length)];
  return new IoctlError(kind === "unsupported" ? "EOPNOTSUPP" : "EINVAL", call.name, `${field} ${reason}`, { field, value, hint });
}

/** At an attach: the device's IOMMU must walk the table that is bound. @throws IoctlError EINVAL. */
export function requireWalked(call: Call, space: Ioasid, device: Device): void {
  const [refusal] = space.pgtable === undefined ? [] : refusalsOf(space.pgtable, [device]);
  if (refusal !== undefined) throw notWalked(call, space.number, device.name, refusal);
}

/** What the IOMMU walks for a bound table, which it can. @throws IoctlError ENOSPC. */
export function createBoundDomain(call: Call, space: Ioasid, iommu: Iommu, { addr, format }: BoundTable): Domain {
  const options = guestTable(iommu.model, format, addr) as DomainOptions;
  return withErrno(call, () => iommu.createGuestDomain({ ...options, stage2: space.parent!.domain!.index, pageRequests: space.pageRequests ?? true }));
}

/** Takes the table away: nothing is mapped then. @throws IoctlError ENOENT (none is bound), ENOMEM, ENOSPC, EDEADLK. */
export function unbindTable(space: Ioasid): void {
  space.requireReady(UNBIND);
  if (space.pgtable === undefined) throw notBound(UNBIND, "ENOENT", space);
  leaveTable(UNBIND, space);
  space.pgtable = undefined;
}

/** Leads the DMA that comes to a space to an empty table, in place of a guest's. @throws IoctlError ENOMEM, ENOSPC, EDEADLK. */
export function leaveTable(call: Call, space: Ioasid): void {
  if (space.inSection) throw inSection(call);
  const [device] = space.devices;
  if (device !== undefined) space.replaceDomain(space.buildShadow(call, device));
}
