// The file behind /dev/vfio/devices/<name>: binding a device to an ioasid fd, and routing its DMA to an ioasid.
// May import arguments.ts, errno.ts, ids.ts, ioasid-fd.ts, nesting-errors.ts, open-file.ts, requests.ts. Calls: RFC section 2.2; the label that bind
// answers is what Gunthorpe's review of section 5.6 asks for.

import { checkStruct, show, takeBoolean, takeU64 } from "./arguments.js";
import { attach, detach, detachAll, takeUserPasid } from "./attach.js";
import type { Binding, Device } from "./device.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { Ids } from "./ids.js";
import type { Ioasid } from "./ioasid.js";
import { IoasidFd } from "./ioasid-fd.js";
import { isAttached } from "./nesting-errors.js";
import { type FileTable, OpenFile } from "./open-file.js";
import { pasidsAreReplaced } from "./pasid-errors.js";
import {
  type AttachIoasid, type BindIoasidFd, type Call, type Calls, REQUESTS, type UnbindIoasidFd, VFIO_ATTACH_IOASID,
  VFIO_BIND_IOASID_FD, VFIO_DETACH_IOASID, VFIO_UNBIND_IOASID_FD,
} from "./requests.js";

const BIND = REQUESTS[VFIO_BIND_IOASID_FD];
const UNBIND = REQUESTS[VFIO_UNBIND_IOASID_FD];
const ATTACH = REQUESTS[VFIO_ATTACH_IOASID];
const DETACH = REQUESTS[VFIO_DETACH_IOASID];
const CLOSE: Call = { name: "close", fields: new Set() };

export class VfioDeviceFd extends OpenFile<"device"> implements Calls<"device"> {
  readonly device: Device;
  readonly #files: FileTable;
  readonly #labels: Ids;

  constructor(number: number, files: FileTable, device: Device, labels: Ids) {
    super("device", number, files);
    this.device = device;
    this.#files = files;
    this.#labels = labels;
  }

  /**
   * Gives the device to an ioasid fd, which from here on decides where its DMA goes: nowhere until it is attached.
   * @returns the label that faults of the device carry, 1..2^32-1, never given twice by a host.
   * @throws IoctlError EBADF (either fd is closed), EBADFD (the other fd is no ioasid fd), EBUSY (bound, or a
   * device of its group is bound to another fd), EINVAL (cookie), EOPNOTSUPP (a physical device that takes ENQCMD, while a VM replaces PASIDs for mediated ones).
   */
  bindIoasidFd(arg: BindIoasidFd): number {
    return this.change(BIND, arg, () => this.#bind(arg));
  }

  #bind(arg: BindIoasidFd): number {
    checkStruct(BIND, arg);
    const ioasidFd = this.#takeIoasidFd(BIND, arg.ioasidFd);
    const cookie = arg.cookie === undefined ? 0n : takeU64(BIND, "cookie", arg.cookie);
    const { binding, name, group, kind } = this.device;
    if (binding !== undefined) {
      const reason = `${name} is bound to fd ${binding.ioasidFd.number}, through fd ${binding.owner.number}, so not to fd ${ioasidFd.number}`;
      const hint = binding.owner === this ? "unbind it first" : "attach through that fd: a device has one user at a time";
      const conflict = { kind: "device", device: name } as const;
      throw new IoctlError("EBUSY", BIND.name, reason, { field: "ioasidFd", value: ioasidFd.number, conflict, hint });
    }
    const other = group.devices.find((device) => device.binding !== undefined && device.binding.ioasidFd !== ioasidFd);
    if (other !== undefined) throw this.#groupIsElsewhere(other, ioasidFd);
    if (kind.enqcmd && kind.identical && ioasidFd.translatesPasids) throw pasidsAreReplaced(BIND, this.device);
    const label = this.#labels.take();
    if (label === undefined) throw new IoctlError("ENOSPC", BIND.name, "the host has used up its device labels", { hint: "make a new host" });
    this.device.binding = { ioasidFd, owner: this, label, cookie };
    ioasidFd.devices.add(this.device);
    return label;
  }

  /** The devices of a group cannot be kept from each other, so they have one user. */
  #groupIsElsewhere({ name, binding }: Device, ioasidFd: IoasidFd): IoctlError {
    const { name: own, group } = this.device;
    const reason = `${own} shares group ${group.number} with ${name}, which is bound to fd ${binding!.ioasidFd.number}, not to fd ${ioasidFd.number}`;
    const conflict = { kind: "device", device: name } as const;
    const hint = "bind all devices of a group to one fd";
    return new IoctlError("EBUSY", BIND.name, reason, { field: "ioasidFd", value: ioasidFd.number, conflict, hint });
  }

  /** Ends the binding. @throws IoctlError EBADF, EINVAL (not bound through this fd, or bound to another), EBUSY (attached). */
  unbindIoasidFd(arg: UnbindIoasidFd = {}): void {
    this.change(UNBIND, arg, () => this.#unbind(arg));
  }

  #unbind(arg: UnbindIoasidFd): void {
    checkStruct(UNBIND, arg);
    const { ioasidFd } = this.#binding(UNBIND);
    if (arg.ioasidFd !== undefined && this.#takeIoasidFd(UNBIND, arg.ioasidFd) !== ioasidFd) {
      const reason = `${this.device.name} is bound to fd ${ioasidFd.number}, not to this one`;
      throw new IoctlError("EINVAL", UNBIND.name, reason, { field: "ioasidFd", value: arg.ioasidFd, hint: "leave it out, or pass that fd" });
    }
    const space = this.device.attached ?? [...this.device.pasids.values()][0]?.space;
    if (space !== undefined) throw isAttached(UNBIND, this.device, space.number, space, "detach it first");
    this.#release(ioasidFd);
  }

  /**
   * Routes the DMA of the device to an ioasid of the bound fd, once all devices of its group are attached there. A child takes a
   * device that is attached to its parent, and stays attached there: the deepest counts.
   * @throws IoctlError EBADF, EOPNOTSUPP (flags), EINVAL (not bound through this fd; not attached to the parent; the device's IOMMU
   * is of another model than that of the devices there, or cannot take what is there), ENOENT (no such ioasid), EBUSY (attached,
   * or to another space that is not the parent), ENOMEM, ENOSPC, EDEADLK.
   */
  attachIoasid(arg: AttachIoasid): void {
    this.change(ATTACH, arg, () => {
      const ioasid = this.#takeTarget(ATTACH, arg);
      const [pasid, dryRun] = [takeUserPasid(ATTACH, arg), takeBoolean(ATTACH, "dryRun", arg.dryRun)];
      attach(this.device, ioasid, pasid, dryRun);
    });
  }

  /**
   * The device falls back to the ioasid's parent; without one its DMA is blocked again.
   * @throws IoctlError EBADF, EOPNOTSUPP, EINVAL, ENOENT (not attached there, too), EBUSY (attached to a child of it), EDEADLK.
   */
  detachIoasid(arg: AttachIoasid): void {
    this.change(DETACH, arg, () => {
      const ioasid = this.#takeTarget(DETACH, arg);
      detach(this.device, ioasid, takeUserPasid(DETACH, arg));
    });
  }

  /** Detaches and unbinds what was bound through this fd. @throws IoctlError EBADF, EDEADLK. */
  close(): void {
    this.change(CLOSE, undefined, () => {
      const { binding, iommu } = this.device;
      if (binding?.owner === this) {
        if (iommu.engine.inSection) throw inSection(CLOSE);
        detachAll(this.device);
        this.#release(binding.ioasidFd);
      }
      this.afterwards(() => this.end());
    });
  }

  #release(ioasidFd: IoasidFd): void {
    ioasidFd.devices.delete(this.device);
    this.device.binding = undefined;
  }

  #takeTarget(call: Call, arg: AttachIoasid): Ioasid {
    checkStruct(call, arg);
    return this.#binding(call).ioasidFd.find(call, arg.ioasid);
  }

  #binding(call: Call): Binding {
    const { binding, name } = this.device;
    if (binding?.owner === this) return binding;
    const hint = binding === undefined ? "VFIO_BIND_IOASID_FD binds it" : `it is bound through fd ${binding.owner.number}`;
    const reason = `${name} is not bound through fd ${this.number}`;
    throw new IoctlError("EINVAL", call.name, reason, { field: "fd", value: this.number, hint });
  }

  #takeIoasidFd(call: Call, fd: unknown): IoasidFd {
    const file = this.#files.find(fd);
    if (file instanceof IoasidFd) return file;
    const value = fd instanceof OpenFile ? fd.number : fd;
    const details = { field: "ioasidFd", value, hint: "pass an fd of /dev/ioasid, or its number" };
    if (fd === undefined) throw new IoctlError("EINVAL", call.name, "ioasidFd is missing", details);
    if (file === undefined) throw new IoctlError("EBADF", call.name, `${show(value)} is no open fd of this host`, details);
    throw new IoctlError("EBADFD", call.name, `fd ${file.number} is no fd of /dev/ioasid`, details);
  }
}
