// A device of the host: its place on the bus, its group, and to what it is bound and attached. Shared by all fds that open it.
// Imports types, and domain-steps.ts. A pPASID, the one in the device's requests, never leaves this folder but to a device model.

import type { Iommu } from "../iommu/iommu.js";
import type { IommuModel } from "../iommu/model.js";
import type { VfioDeviceFd } from "./device-fd.js";
import type { DeviceKind } from "./device-kind.js";
import { block, lead, takeStep } from "./domain-steps.js";
import type { Group } from "./group.js";
import type { Ioasid } from "./ioasid.js";
import type { IoasidFd } from "./ioasid-fd.js";
import type { PasidPool } from "./pasid-pool.js";

export interface Binding {
  readonly ioasidFd: IoasidFd;
  /** The device fd that was bound: only it may attach and unbind. */
  readonly owner: VfioDeviceFd;
  /** 1..2^32-1, never used again in this host. */
  readonly label: number;
  /** 64 bits of the user's; 0 when none were given. */
  readonly cookie: bigint;
}

/** What a device's requests carry: without a PASID, one with. */
export interface Requester {
  readonly rid: number;
  readonly pasid: number | undefined;
}

/** A space that DMA with one vPASID of a device is led to. */
export interface PasidAttachment {
  readonly space: Ioasid;
  readonly ppasid: number;
}

const NO_PASIDS: ReadonlySet<number> = new Set();

export interface DeviceParts {
  readonly name: string;
  /** Requester id of its DMA: bus, device, function; an mdev's is its parent's. */
  readonly rid: number;
  /** An mdev's own PASID, which its DMA carries when the user names none. */
  readonly ownPasid: number | undefined;
  /** The IOMMU that its DMA goes through. */
  readonly iommu: Iommu;
  readonly group: Group;
  readonly kind: DeviceKind;
  /** It can ask for pages. */
  readonly pageRequests: boolean;
  /** Name of the device that an mdev is a share of. */
  readonly parent: string | undefined;
  /** Where its pPASIDs come from, if they are not its vPASIDs. */
  readonly pool: PasidPool | undefined;
}

export class Device {
  readonly name: string;
  readonly iommu: Iommu;
  readonly group: Group;
  readonly kind: DeviceKind;
  readonly pageRequests: boolean;
  readonly parent: string | undefined;
  readonly pool: PasidPool | undefined;
  /** Of DMA without a PASID of the user's. */
  readonly requester: Requester;
  binding: Binding | undefined;
  /** Takes work that ENQCMD brings: the device model's. False when it has no room. */
  portal: ((descriptor: Uint8Array, ppasid: number) => boolean) | undefined;
  readonly #chain: Ioasid[] = [];
  readonly #pasids = new Map<number, PasidAttachment>();
  /** The vPASIDs that it is attached with to a space, to which it is attached with some. */
  readonly #pasidsOf = new Map<Ioasid, Set<number>>();
  /** Where its DMA is led: what the whole group is attached to. Without one it is blocked. */
  #routed: Ioasid | undefined;

  constructor({ name, rid, ownPasid, iommu, group, kind, pageRequests, parent, pool }: DeviceParts) {
    this.name = name;
    this.requester = { rid, pasid: ownPasid };
    this.iommu = iommu;
    this.group = group;
    this.kind = kind;
    this.pageRequests = pageRequests;
    this.parent = parent;
    this.pool = pool;
    group.devices.push(this);
  }

  /** The spaces that it is attached to without a PASID: each but the first is nested on the one before. The last one counts. */
  get chain(): readonly Ioasid[] {
    return this.#chain;
  }

  /** By vPASID. */
  get pasids(): ReadonlyMap<number, PasidAttachment> {
    return this.#pasids;
  }

  /** The vPASIDs that it is attached to the space with. */
  pasidsOf(space: Ioasid): ReadonlySet<number> {
    return this.#pasidsOf.get(space) ?? NO_PASIDS;
  }

  /** Notes an attachment without a PASID, to a space nested on that of the last one. */
  addSpace(space: Ioasid): void {
    this.#chain.push(space);
  }

  /** The last of them is no more. */
  dropSpace(): void {
    this.#chain.pop();
  }

  addPasid(vpasid: number, attachment: PasidAttachment): void {
    const { space } = attachment;
    this.#pasids.set(vpasid, attachment);
    const others = this.#pasidsOf.get(space);
    if (others === undefined) this.#pasidsOf.set(space, new Set([vpasid]));
    else others.add(vpasid);
  }

  dropPasid(vpasid: number): void {
    const { space } = this.#pasids.get(vpasid)!;
    this.#pasids.delete(vpasid);
    const others = this.#pasidsOf.get(space)!;
    others.delete(vpasid);
    if (others.size === 0) this.#pasidsOf.delete(space);
  }

  get rid(): number {
    return this.requester.rid;
  }

  /** The deepest space of the chain. */
  get attached(): Ioasid | undefined {
    return this.#chain.at(-1);
  }

  get routed(): Ioasid | undefined {
    return this.#routed;
  }

  /** With or without a PASID. */
  isAttachedTo(space: Ioasid): boolean {
    return this.#pasidsOf.has(space) || this.#chain.includes(space);
  }

  /** A space nested on this one that it is attached to, with or without a PASID. */
  attachedBelow(space: Ioasid): Ioasid | undefined {
    for (const child of space.children) if (this.isAttachedTo(child)) return child;
    return undefined;
  }

  /** Leads its DMA without a PASID to a space that has a domain, or blocks it. Precondition: no section is open, the route is reserved. */
  route(space: Ioasid | undefined): void {
    const before = this.#routed;
    if (space === before) return;
    const { rid, pasid } = this.requester;
    this.#routed = space;
    if (space === undefined) block(before!.domain!, rid, pasid);
    else lead(space.domain!, rid, pasid);
    if (before?.pasidTable !== undefined) this.leadPasids();
  }

  /** A guest's PASID table has all its DMA: attachments with a PASID lead nothing, they say who is meant. */
  get hasTable(): boolean {
    return this.#routed?.pasidTable !== undefined;
  }

  /** Leads DMA with a PASID to its space. Precondition: as `route`. */
  leadPasid({ space, ppasid }: PasidAttachment): void {
    if (!this.hasTable) lead(space.domain!, this.rid, ppasid);
  }

  /** The same for all, after a PASID table that had them: what was invalidated meanwhile was invalidated there. */
  leadPasids(): void {
    for (const { domain } of this.#pasidsOf.keys()) takeStep(domain!, () => domain!.invalidate());
    for (const { space, ppasid } of this.#pasids.values()) lead(space.domain!, this.rid, ppasid);
  }

  /** What DMA with a vPASID carries; undefined: the driver path has nothing to put in its place. */
  requesterOf(vpasid: number): Requester | undefined {
    const { rid } = this.requester;
    if (this.kind.identical) return { rid, pasid: vpasid };
    const attachment = this.#pasids.get(vpasid);
    return attachment && { rid, pasid: attachment.ppasid };
  }
}

/** The different models of the IOMMUs before the devices, in their order. */
export function modelsOf(devices: Iterable<Device>): IommuModel[] {
  return [...new Set([...devices].map(({ iommu }) => iommu.model))];
}
