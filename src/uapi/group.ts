// An IOMMU group: devices that the hardware cannot tell apart well enough, so that they share one fate. Imports types only.
// RFC section 1: an ioasid takes effect for a group only when all devices of the group are attached to it.

import type { Device } from "./device.js";
import type { Ioasid } from "./ioasid.js";

export class Group {
  /** As in /dev/vfio/<number>. */
  readonly number: number;
  readonly devices: Device[] = [];

  constructor(number: number) {
    this.number = number;
  }

  /** Devices that are not attached to the space. */
  missing(space: Ioasid): Device[] {
    return this.devices.filter((device) => !device.isAttachedTo(space));
  }

  /** Where the group's DMA belongs: the deepest space that all its devices are attached to; undefined: nowhere, it is blocked. */
  target(): Ioasid | undefined {
    return this.devices[0]?.chain.findLast((space) => this.devices.every(({ chain }) => chain.includes(space)));
  }

  /** Leads the DMA of every device there. Precondition: no section is open, each attached device's route is reserved. */
  route(): void {
    const space = this.target();
    for (const device of this.devices) device.route(space);
  }
}
