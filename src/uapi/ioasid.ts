// An I/O address space: a node of the tree of spaces, the devices attached to it, and the table that the IOMMU walks.
// May import iommu/ and, of this folder, all but the open files and the host. Ranges are inclusive, first..last, in pages of
// 4 KiB. Maps live here; the table is made from them when the first device attaches, and goes when the last one leaves.
// What is done to a space beside attaching is in ioasid-maps.ts, bound-table.ts and dirty-calls.ts.

import type { Domain } from "../iommu/domain.js";
import { compatible } from "../iommu/model.js";
import { AddressLimits, NO_LIMITS } from "./address-limits.js";
import { type BoundTable, createBoundDomain, requireWalked } from "./bound-table.js";
import type { Device, Requester } from "./device.js";
import { DirtyLog, harvestAll, tracksDirty } from "./dirty-log.js";
import { block, discard, lead, takeStep } from "./domain-steps.js";
import { inSection, withErrno } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Group } from "./group.js";
import { IntervalIndex } from "./interval-index.js";
import { attachRefused, cannotTake, noPageRequests, noRoute, otherModel } from "./ioasid-errors.js";
import { type Area, type MapSource, ParentSource, ProcessSource } from "./map-source.js";
import { noDirtyTracking, partlyAttached } from "./nesting-errors.js";
import { noPasid } from "./pasid-errors.js";
import { GlobalPasid } from "./pasid-pool.js";
import { type BoundPasidTable, createPasidDomain } from "./pasid-table.js";
import type { Pins } from "./pins.js";
import type { Process } from "./process.js";
import { RangeMap } from "./range-map.js";
import type { RegisteredMemory } from "./registered-memory.js";
import { type Call, type IoasidKind, REQUESTS, VFIO_ATTACH_IOASID } from "./requests.js";

const ATTACH = REQUESTS[VFIO_ATTACH_IOASID];
const PERM_W = 2;

/** What all spaces of an fd share. */
export interface IoasidContext {
  readonly process: Process;
  readonly registered: RegisteredMemory;
  /** Pins that all spaces share, so that they charge a page once together; undefined: each has its own. */
  readonly pins: Pins | undefined;
  /** Refuse maps, unmaps and questions until a device has been attached once (ENODEV). */
  readonly strictAttach: boolean;
  /** Number of spaces that track dirty pages. */
  tracking: number;
}

export class Ioasid {
  readonly number: number;
  readonly context: IoasidContext;
  readonly parent: Ioasid | undefined;
  /** Whether DMA here asks for missing pages, if the user said so. */
  readonly pageRequests: boolean | undefined;
  readonly children = new Set<Ioasid>();
  readonly source: MapSource;
  readonly areas = new RangeMap<Area>();
  /** Areas of children, by the pages of this space that they stand for. */
  readonly dependents = new IntervalIndex<Area>();
  readonly dirty = new DirtyLog();
  /** A guest's table in place of maps. */
  pgtable: BoundTable | undefined;
  /** Or a guest's table of PASIDs, which has all DMA that comes here. */
  pasidTable: BoundPasidTable | undefined;
  /** They end with the space. */
  readonly watches = new Set<{ close(): void }>();
  /** Entries of VMs' tables of PASIDs that stand for this space. */
  kvmUsers = 0;
  /** There while a device is attached. */
  domain: Domain | undefined;
  limits = NO_LIMITS;
  readonly #devices = new Set<Device>();
  #wasAttached = false;
  /** A group of which some devices are attached here and some are not. */
  #partial: Group | undefined;
  #global: GlobalPasid | undefined;

  constructor(number: number, context: IoasidContext, parent?: Ioasid, pageRequests?: boolean) {
    this.number = number;
    this.context = context;
    this.parent = parent;
    this.pageRequests = pageRequests;
    this.source = parent === undefined ? this.#processSource() : new ParentSource(parent);
    parent?.children.add(this);
  }

  #processSource(): ProcessSource {
    const { process, registered, pins } = this.context;
    return new ProcessSource(process, registered, pins ?? process.addPins({ name: `maps of ioasid ${this.number}`, ioasid: this.number }));
  }

  get devices(): ReadonlySet<Device> {
    return this.#devices;
  }

  /** What the guest owns in place of maps. */
  get guestTable(): BoundTable | BoundPasidTable | undefined {
    return this.pgtable ?? this.pasidTable;
  }

  get kind(): IoasidKind {
    if (this.parent === undefined) return "kernel";
    if (this.pasidTable !== undefined) return "pasid-table";
    if (this.pgtable !== undefined) return "hardware-nested";
    return this.areas.size > 0 ? "software-nested" : "child";
  }

  /** Whether DMA here asks for missing pages, if the device can: by default only what a guest's table lacks. */
  get asksForPages(): boolean {
    return this.pageRequests ?? this.guestTable !== undefined;
  }

  /** Whether a change would have to wait for a section of this very thread. */
  get inSection(): boolean {
    return this.domain?.inSection ?? false;
  }

  /**
   * `field` is the call's name for the space.
   * @throws IoctlError ENODEV (never attached, with `strictAttach`), EDEADLK (a group is only partly attached).
   */
  requireReady(call: Call, field = "ioasid"): void {
    if (this.#partial !== undefined) throw partlyAttached(call, field, this, this.#partial);
    if (!this.context.strictAttach || this.#wasAttached) return;
    const hint = "attach a device first, or make the host without strictAttach";
    const details = { field, value: this.number, hint };
    throw new IoctlError("ENODEV", call.name, `ioasid ${this.number} was never attached`, details);
  }

  /**
   * Attaches the device: its DMA is led here once its whole group is attached; with a vPASID, the DMA that carries it. The first
   * device brings the table. Precondition: it is attached to the parent, or to nothing when there is no parent.
   * @throws IoctlError EINVAL when its IOMMU is of another model than that here or cannot take what is here, ENOMEM, ENOSPC, EDEADLK.
   */
  attach(device: Device, vpasid: number | undefined, dryRun: boolean): void {
    if (device.iommu.engine.inSection) throw inSection(ATTACH);
    const limits = this.#limitsWith(device);
    const requester = vpasid === undefined ? device.requester : this.#requesterFor(device, vpasid);
    const fresh = this.domain === undefined;
    try {
      const domain = this.domain ?? this.#build(device);
      const routed = device.iommu.reserveRoute(requester.rid, requester.pasid);
      if (fresh && (dryRun || !routed)) discard(domain);
      if (!routed) throw noRoute(ATTACH, device.name);
      // While PASID tables had all DMA that came here, the guest may have told them alone of its changes.
      if (!dryRun && !fresh && this.pgtable !== undefined && !this.#leadsDma) domain.invalidate();
      if (!dryRun) this.domain = domain;
    } catch (error) {
      this.#releasePasid(device, vpasid, requester.pasid);
      throw error;
    }
    if (dryRun) return this.#releasePasid(device, vpasid, requester.pasid);
    this.limits = limits;
    this.#devices.add(device);
    this.#wasAttached = true;
    if (vpasid !== undefined) return this.#attachPasid(device, vpasid, requester.pasid!);
    device.addSpace(this);
    this.#regroup(device.group);
  }

  /** Does a route lead here, not only what a PASID table reads? */
  get #leadsDma(): boolean {
    return [...this.#devices].some((device) => device.routed === this || (!device.hasTable && device.pasidsOf(this).size > 0));
  }

  #attachPasid(device: Device, vpasid: number, ppasid: number): void {
    const attachment = { space: this, ppasid };
    device.addPasid(vpasid, attachment);
    device.leadPasid(attachment);
  }

  /** What DMA with the vPASID will carry. What it takes from a pool, `#releasePasid` gives back. */
  #requesterFor(device: Device, vpasid: number): Requester {
    const { rid } = device.requester;
    if (device.kind.identical) return { rid, pasid: vpasid };
    const pasid = device.kind.pool === "global" ? (this.#global ??= new GlobalPasid(device.pool!)).use() : device.pool!.take();
    if (pasid === undefined) throw noPasid(ATTACH, device.name);
    return { rid, pasid };
  }

  #releasePasid({ kind, pool }: Device, vpasid: number | undefined, ppasid: number | undefined): void {
    if (vpasid === undefined || kind.identical) return;
    if (kind.pool === "global") this.#global!.release();
    else pool!.release(ppasid!);
  }

  /** The pPASID that devices which take ENQCMD share here; undefined while none is attached. */
  get globalPasid(): number | undefined {
    return this.#global?.value;
  }

  #regroup(group: Group): void {
    group.route();
    this.#partial = undefined;
    for (const { group } of this.#devices) if (group.missing(this).length > 0) this.#partial = group;
  }

  /** The limits once the device is here, everything here checked against them. */
  #limitsWith(device: Device): AddressLimits {
    const { model } = device.iommu;
    const [resident] = this.#devices;
    if (resident !== undefined && !compatible(resident.iommu.model, model)) throw otherModel(ATTACH, this.number, device, resident);
    if (!model.dirtyTracking && tracksDirty(this)) throw noDirtyTracking(ATTACH, this.number, device.name);
    if (this.pageRequests === true && !model.pageRequests) throw noPageRequests(ATTACH, "ioasid", this.number, device);
    for (const each of this.#devices) if (each.iommu === device.iommu) return this.limits;
    requireWalked(ATTACH, this, device);
    const limits = limitsOf([...this.#devices, device]);
    for (const area of this.areas) {
      const refusal = limits.refusal(area.first, area.last) ?? this.#targetRefusal(area.value);
      if (refusal !== undefined) throw cannotTake(ATTACH, this.number, device.name, area, refusal, limits);
      if (area.value.perm === PERM_W && !model.writeOnly) throw attachRefused(ATTACH, "perm", this.number, device.name);
    }
    return limits;
  }

  /** Why the parent can never map what an area stands for. */
  #targetRefusal({ first, last, target }: Area): string | undefined {
    const refusal = this.parent?.limits.refusal(target, target + last - first);
    return refusal && `stands for addresses of ioasid ${this.parent!.number} that ioasid ${this.parent!.number} cannot map: it ${refusal}`;
  }

  #build(device: Device): Domain {
    if (this.pasidTable !== undefined) return createPasidDomain(ATTACH, this, device.iommu, this.pasidTable);
    if (this.pgtable !== undefined) return createBoundDomain(ATTACH, this, device.iommu, this.pgtable);
    return this.buildShadow(ATTACH, device);
  }

  /** A table with all maps. Nothing leads to it yet, so one that cannot take them all is just dropped. */
  buildShadow(call: Call, { name, iommu }: Device): Domain {
    const domain = withErrno(call, () => iommu.createDomain({ trackDirty: tracksDirty(this), pageRequests: this.pageRequests ?? false }));
    try {
      const status = this.source.fillAll(domain, Array.from(this.areas, ({ value }) => value));
      if (status === "ok") return domain;
      throw attachRefused(call, status, this.number, name);
    } catch (error) {
      discard(domain);
      throw error;
    }
  }

  /**
   * Detaches the device: its DMA without a PASID falls back to the space before, the DMA with the vPASID is blocked. The last
   * device takes the table with it; the maps stay. Precondition: no section is open, and no attachment to a child needs this one.
   */
  detach(device: Device, vpasid: number | undefined): void {
    if (vpasid === undefined) device.dropSpace();
    else this.#detachPasid(device, vpasid);
    if (!device.isAttachedTo(this)) this.#devices.delete(device);
    this.#regroup(device.group);
    if (this.#devices.size > 0) this.limits = limitsOf([...this.#devices]);
    else this.#dropDomain(this.domain!);
  }

  /** Once no DMA comes here any more; what it has written is noted. */
  #dropDomain(domain: Domain): void {
    takeStep(domain, () => harvestAll(this));
    takeStep(domain, () => {
      domain.destroy();
      this.domain = undefined;
      this.limits = NO_LIMITS;
    });
  }

  #detachPasid(device: Device, vpasid: number): void {
    const { ppasid } = device.pasids.get(vpasid)!;
    device.dropPasid(vpasid);
    // All vPASIDs of a device may share the global pPASID of a space.
    const shared = device.kind.pool === "global" && device.pasidsOf(this).size > 0;
    if (!shared && !device.hasTable) block(this.domain!, device.rid, ppasid);
    this.#releasePasid(device, vpasid, ppasid);
  }

  /** Leads all DMA that comes here to another table of the space. The old one is given back. Precondition: no section is open. */
  replaceDomain(domain: Domain): void {
    const old = this.domain!;
    for (const device of this.#devices) {
      const { requester: { rid, pasid }, routed, pasids, hasTable } = device;
      if (routed === this) lead(domain, rid, pasid);
      if (!hasTable) for (const vpasid of device.pasidsOf(this)) lead(domain, rid, pasids.get(vpasid)!.ppasid);
    }
    // The table that goes had all PASIDs of the devices.
    if (this.pasidTable !== undefined) for (const device of this.#devices) if (device.routed === this) device.leadPasids();
    this.domain = domain;
    discard(old);
  }

  /** Forgets all maps and gives back their pins. No device may be attached, no child may be left. */
  destroy(): void {
    if (this.dirty.enabled) this.context.tracking--;
    for (const { value: area } of this.areas) this.source.drop(area);
    this.areas.clear();
    for (const watch of this.watches) watch.close();
    const { pins } = this.source;
    if (pins !== undefined && pins !== this.context.pins) this.context.process.dropPins(pins);
    this.parent?.children.delete(this);
  }
}

function limitsOf(devices: readonly Device[]): AddressLimits {
  const iommus = new Set(devices.map(({ iommu }) => iommu));
  return iommus.size === 0 ? NO_LIMITS : new AddressLimits([...iommus].map(({ model }) => model));
}
