// The file behind /dev/vfio/<group>, VFIO's older way to a device: it leads to the same device fds, and they fit /dev/ioasid.
// Gunthorpe's review of the RFC's section 5 wants that kept. May import arguments.ts, errno.ts, open-file.ts, requests.ts.

import { checkStruct, show } from "./arguments.js";
import type { Device } from "./device.js";
import type { VfioDeviceFd } from "./device-fd.js";
import { IoctlError } from "./errno.js";
import type { Group } from "./group.js";
import { type FileTable, OpenFile } from "./open-file.js";
import { type Call, type Calls, type GroupGetDeviceFd, REQUESTS, VFIO_GROUP_GET_DEVICE_FD } from "./requests.js";

const GET_DEVICE_FD = REQUESTS[VFIO_GROUP_GET_DEVICE_FD];
const CLOSE: Call = { name: "close", fields: new Set() };

export class VfioGroupFd extends OpenFile<"group"> implements Calls<"group"> {
  readonly group: Group;
  readonly #openDevice: (device: Device) => VfioDeviceFd;

  constructor(number: number, files: FileTable, group: Group, openDevice: (device: Device) => VfioDeviceFd) {
    super("group", number, files);
    this.group = group;
    this.#openDevice = openDevice;
  }

  /** A new fd of a device of the group, as opening its own file makes. @throws IoctlError EBADF, EINVAL, ENODEV (not in the group), EBUSY (the host's driver has it). */
  getDeviceFd(arg: GroupGetDeviceFd): VfioDeviceFd {
    this.use(GET_DEVICE_FD);
    checkStruct(GET_DEVICE_FD, arg);
    const device = this.group.devices.find(({ name }) => name === arg.name);
    if (device !== undefined) return this.#openDevice(device);
    const hint = `the group has ${this.group.devices.map(({ name }) => name).join(", ")}`;
    const details = { field: "name", value: arg.name, conflict: { kind: "group", group: this.group.number }, hint } as const;
    if (typeof arg.name !== "string") throw new IoctlError("EINVAL", GET_DEVICE_FD.name, `name must be a string, not ${show(arg.name)}`, details);
    throw new IoctlError("ENODEV", GET_DEVICE_FD.name, `group ${this.group.number} has no device ${show(arg.name)}`, details);
  }

  /** Device fds that came from here stay. @throws IoctlError EBADF. */
  close(): void {
    this.use(CLOSE);
    this.end();
  }
}
