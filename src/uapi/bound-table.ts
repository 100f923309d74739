// A guest's page table bound to a child: the IOMMU walks it in the parent's addresses, and the parent's table as second stage
// (RFC section 5.4), and what the guest then asks to be invalidated. May import iommu/ and, of this folder, all but the open files
// and the host. Ranges are inclusive, first..last.

import type { Domain } from "../iommu/domain.js";
import { badFormat, guestTable, type GuestTableRefusal, readFormat } from "../iommu/guest-table.js";
import type { Iommu } from "../iommu/iommu.js";
import { takeU64 } from "./arguments.js";
import { inSection, withErrno } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { alreadyBound, inUse, notBound, notMappedInParent, notNested } from "./nesting-errors.js";
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
 * Binds a guest's table to a child that has neither maps nor children. Without `dryRun` false only checks.
 * @throws IoctlError EINVAL (no child, format), EOPNOTSUPP (the IOMMU has no such tables), EBUSY (has maps or children), EEXIST
 * (has a table), EFAULT (the parent does not map addr), ENOSPC, EDEADLK, and what `requireReady` throws.
 */
export function bindTable(call: Call, space: Ioasid, arg: BindArguments, dryRun: boolean): void {
  space.requireReady(call);
  const { parent } = space;
  if (parent === undefined) throw notNested(call, space.number);
  if (space.pgtable !== undefined) throw alreadyBound(call, space);
  if (space.areas.size > 0 || space.children.size > 0) throw inUse(call, space);
  const table = takeTable(call, parent, arg);
  const resident = space.domain;
  if (resident === undefined) {
    if (!dryRun) space.pgtable = table;
    return;
  }
  if (resident.inSection) throw inSection(call);
  const domain = createBoundDomain(call, space, resident.iommu, table);
  if (dryRun) return void domain.destroy();
  space.pgtable = table;
  space.replaceDomain(domain);
}

/** The table that the arguments describe; `parent` is the space whose addresses it is in. What IOMMUs can is checked when one is there. */
export function takeTable(call: Call, parent: Ioasid, { addr, format }: BindArguments): BoundTable {
  const table = { addr: takeU64(call, "addr", addr), format: readFormat(format) };
  const model = parent.domain?.iommu.model;
  const answer = model === undefined ? badFormat(table.format) : guestTable(model, table.format, table.addr);
  if (answer !== undefined && "reason" in answer) throw refusedTable(call, answer);
  if (parent.areas.find(Number(table.addr >> 12n)) === undefined) throw notMappedInParent(call, table.addr, parent);
  return table;
}

function refusedTable(call: Call, { kind, field, reason, hint }: GuestTableRefusal): IoctlError {
  return new IoctlError(kind === "unsupported" ? "EOPNOTSUPP" : "EINVAL", call.name, `${field} ${reason}`, { field, hint });
}

/** What the IOMMU walks for a bound table. @throws IoctlError EINVAL, EOPNOTSUPP (this IOMMU cannot), ENOSPC. */
export function createBoundDomain(call: Call, space: Ioasid, iommu: Iommu, { addr, format }: BoundTable): Domain {
  const options = guestTable(iommu.model, format, addr);
  if ("reason" in options) throw refusedTable(call, options);
  return withErrno(call, () => iommu.createGuestDomain({ ...options, stage2: space.parent!.domain!.index }));
}

/** Takes the table away: nothing is mapped then. @throws IoctlError ENOENT (none is bound), ENOMEM, EDEADLK. */
export function unbindTable(space: Ioasid): void {
  space.requireReady(UNBIND);
  const { pgtable, domain } = space;
  if (pgtable === undefined) throw notBound(UNBIND, "ENOENT", space);
  if (domain?.inSection) throw inSection(UNBIND);
  const [device] = space.devices;
  const empty = device && space.buildShadow(UNBIND, device);
  space.pgtable = undefined;
  if (empty !== undefined) space.replaceDomain(empty);
}
