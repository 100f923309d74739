// A device of the host: its place on the bus, and to what it is bound and attached. Shared by all fds that open it.
// Imports types only.

import type { Iommu } from "../iommu/iommu.js";
import type { VfioDeviceFd } from "./device-fd.js";
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
  binding: Binding | undefined;
  /** The ioasid that its DMA is routed to; without one it is blocked. */
  attached: Ioasid | undefined;

  constructor(name: string, rid: number, iommu: Iommu) {
    this.name = name;
    this.rid = rid;
    this.iommu = iommu;
  }
}
