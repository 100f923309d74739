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
import { inSection, withErrno } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Group } from "./group.js";
import { IntervalIndex } from "./interval-index.js";
import { attachRefused, cannotTake, noPageRequests, noRoute, otherModel } from "./ioasid-errors.js";
import { type Area, type MapSource, ParentSource, ProcessSource } from "./map-source.js";
import { noDirtyTracking, partlyAttached } from "./nesting-errors.js";
import { noPasid } from "./pasid-errors.js";
import { GlobalPasid } from "./pasid-pool.js";
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

  get kind(): IoasidKind {
    if (this.parent === undefined) return "kernel";
    if (this.pgtable !== undefined) return "hardware-nested";
    return this.areas.size > 0 ? "software-nested" : "child";
  }

  /** Whether DMA here asks for missing pages, if the device can: by default only what a guest's table lacks. */
  get asksForPages(): boolean {
    return this.pageRequests ?? this.pgtable !== undefined;
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
      if (fresh && (dryRun || !routed)) domain.destroy();
      if (!routed) throw noRoute(ATTACH, device.name);
      if (!dryRun) this.domain = domain;
    } catch (error) {
      this.#releasePasid(device, vpasid, requester.pasid);
      throw error;
    }
    if (dryRun) return this.#releasePasid(device, vpasid, requester.pasid);
    this.limits = limits;
    this.#devices.add(device);
    this.#wasAttached = true;
    try {
      if (vpasid !== undefined) return this.#attachPasid(device, vpasid, requester.pasid!);
      device.chain.push(this);
      this.#regroup(device.group);
    } catch (error) {
      this.#forget(device, vpasid);
      throw error;
    }
  }

  /** A route was not changed in time: a port of another thread stalls. As if not attached, so that the same call can be made again. */
  #forget(device: Device, vpasid: number | undefined): void {
    const ppasid = vpasid === undefined ? undefined : device.pasids.get(vpasid)?.ppasid;
    if (vpasid === undefined) device.chain.pop();
    else device.pasids.delete(vpasid);
    if (ppasid !== undefined) this.#releasePasid(device, vpasid, ppasid);
    if (!device.isAttachedTo(this)) this.#devices.delete(device);
  }

  #attachPasid(device: Device, vpasid: number, ppasid: number): void {
    device.pasids.set(vpasid, { space: this, ppasid });
    if (this.domain!.attach(device.rid, ppasid) !== "ok") throw new Error(`the route of ${device.name} was refused`);
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
    if (this.pgtable !== undefined) return createBoundDomain(ATTACH, this, device.iommu, this.pgtable);
    return this.buildShadow(ATTACH, device);
  }

  /** A table with all maps. Nothing leads to it yet, so one that cannot take them all is just dropped. */
  buildShadow(call: Call, { name, iommu }: Device): Domain {
    const domain = withErrno(call, () => iommu.createDomain({ trackDirty: tracksDirty(this), pageRequests: this.pageRequests ?? false }));
    const status = this.source.fillAll(domain, Array.from(this.areas, ({ value }) => value));
    if (status === "ok") return domain;
    domain.destroy();
    throw attachRefused(call, status, this.number, name);
  }

  /**
   * Detaches the device: its DMA without a PASID falls back to the space before, the DMA with the vPASID is blocked. The last
   * device takes the table with it; the maps stay. Precondition: it is not needed by an attachment to a child.
   * @throws IoctlError EDEADLK.
   */
  detach(call: Call, device: Device, vpasid: number | undefined): void {
    if (this.inSection) throw inSection(call);
    if (this.#devices.size === 1) harvestAll(this);
    if (vpasid !== undefined) this.#detachPasid(device, vpasid);
    else this.#leaveChain(device);
    if (!device.isAttachedTo(this)) this.#devices.delete(device);
    this.#regroup(device.group);
    this.limits = limitsOf([...this.#devices]);
    if (this.#devices.size > 0) return;
    const domain = this.domain!;
    this.domain = undefined;
    domain.destroy();
  }

  /** Still attached if the route is not changed in time. */
  #leaveChain(device: Device): void {
    device.chain.pop();
    try {
      device.group.route();
    } catch (error) {
      device.chain.push(this);
      throw error;
    }
  }

  #detachPasid(device: Device, vpasid: number): void {
    const { ppasid } = device.pasids.get(vpasid)!;
    // Two vPASIDs of a device may share the global pPASID of a space.
    const shared = [...device.pasids].some(([pasid, other]) => pasid !== vpasid && other.ppasid === ppasid);
    if (!shared && this.domain!.detach(device.rid, ppasid) !== "ok") throw new Error(`the route of ${device.name} was refused`);
    device.pasids.delete(vpasid);
    this.#releasePasid(device, vpasid, ppasid);
  }

  /** Leads all DMA that comes here to another table of the space. The old one is given back. Precondition: no section is open. */
  replaceDomain(domain: Domain): void {
    const old = this.domain!;
    for (const { requester: { rid, pasid }, routed, pasids } of this.#devices) {
      if (routed === this) domain.attach(rid, pasid);
      for (const { space, ppasid } of pasids.values()) if (space === this) domain.attach(rid, ppasid);
    }
    this.domain = domain;
    old.destroy();
  }

  /** Forgets all maps and gives back their pins. No device may be attached, no child may be left. */
  destroy(): void {
    if (this.dirty.enabled) this.context.tracking--;
    for (const { value: area } of this.areas) this.source.drop(area);
    this.areas.clear();
    const { pins } = this.source;
    if (pins !== undefined && pins !== this.context.pins) this.context.process.dropPins(pins);
    // There without a device only after an attach that a port of another thread held up.
    this.domain?.destroy();
    this.parent?.children.delete(this);
  }
}

function limitsOf(devices: readonly Device[]): AddressLimits {
  const iommus = new Set(devices.map(({ iommu }) => iommu));
  return iommus.size === 0 ? NO_LIMITS : new AddressLimits([...iommus].map(({ model }) => model));
}
