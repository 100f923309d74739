// A device of the host: its place on the bus, its group, and to what it is bound and attached. Shared by all fds that open it.
// Imports types only.

import type { Iommu } from "../iommu/iommu.js";
import type { IommuModel } from "../iommu/model.js";
import type { VfioDeviceFd } from "./device-fd.js";
import type { Group } from "./group.js";
import type { Ioasid } from "./ioasid.js";
import type { IoasidFd } from "./ioasid-fd.js";

export interface Binding {
  readonly ioasidFd: IoasidFd;
  /** The device fd that was bound: only it may attach and unbind. */
  readonly owner: VfioDeviceFd;
  /** 1..2^32-1, never used again in this host. */
  readonly label: number;
  /** 64 bits of the user's; 0 when none were given. */
  readonly cookie: bigint;
}

export class Device {
  readonly name: string;
  /** Requester id of its DMA: bus, device, function. */
  readonly rid: number;
  /** The IOMMU that its DMA goes through. */
  readonly iommu: Iommu;
  readonly group: Group;
  binding: Binding | undefined;
  /**
   * The deepest space that it is attached to without a PASID. It is attached to that one's parent too, and so on up to the root:
   * the parent is what detaching falls back to.
   */
  attached: Ioasid | undefined;
  /** Where its DMA is led: what the whole group is attached to. Without one it is blocked. */
  #routed: Ioasid | undefined;

  constructor(name: string, rid: number, iommu: Iommu, group: Group) {
    this.name = name;
    this.rid = rid;
    this.iommu = iommu;
    this.group = group;
    group.devices.push(this);
  }

  get routed(): Ioasid | undefined {
    return this.#routed;
  }

  isAttachedTo(space: Ioasid): boolean {
    for (let each = this.attached; each !== undefined; each = each.parent) if (each === space) return true;
    return false;
  }

  /** Leads its DMA to a space that has a table, or blocks it. Precondition: no section is open, the route is reserved. */
  route(space: Ioasid | undefined): void {
    if (space === this.#routed) return;
    const status = space === undefined ? this.#routed!.domain!.detach(this.rid) : space.domain!.attach(this.rid);
    if (status !== "ok") throw new Error(`the route of ${this.name} was refused: ${status}`);
    this.#routed = space;
  }
}

/** The different models of the IOMMUs before the devices, in their order. */
export function modelsOf(devices: Iterable<Device>): IommuModel[] {
  return [...new Set([...devices].map(({ iommu }) => iommu.model))];
}
