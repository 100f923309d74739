// The simulated machine as its user process sees it: paths to open, fds, the process, and the labels that faults carry.
// May import engine/, iommu/, and everything of this folder.

import type { Engine } from "../engine/engine.js";
import type { Iommu } from "../iommu/iommu.js";
import { show } from "./arguments.js";
import { Changes } from "./changes.js";
import { Device } from "./device.js";
import type { DeviceKind } from "./device-kind.js";
import { VfioDeviceFd } from "./device-fd.js";
import { IoctlError } from "./errno.js";
import { type FaultCounters, FaultDispatch, type FaultParts } from "./fault-dispatch.js";
import { Group } from "./group.js";
import { VfioGroupFd } from "./group-fd.js";
import { Ids } from "./ids.js";
import { type Accounting, IoasidFd } from "./ioasid-fd.js";
import { KvmFd } from "./kvm-fd.js";
import { FileTable, OpenFile } from "./open-file.js";
import { Process } from "./process.js";
import { RequesterIds } from "./requester-ids.js";
import type { RamRange } from "./hpa-space.js";
import type { FdArgument, IoctlArgs, IoctlResult, RequestNumber } from "./requests.js";

export interface HostParts {
  readonly engine: Engine;
  readonly iommus: ReadonlyMap<string, Iommu>;
  /** Names are unique, and the rids of those without a parent; parents come first; devices of one group have one IOMMU. */
  readonly devices: readonly DeviceSpec[];
  /** RAM that the process can get by `mmap`; its slots exist already. */
  readonly ram: readonly RamRange[];
  /** Bytes that maps of the process may pin. */
  readonly lockLimit: bigint;
  /** Refuse what is asked of an ioasid before its first attach, as the RFC does. */
  readonly strictAttach: boolean;
  readonly accounting: Accounting;
  readonly faults: FaultParts;
}

/** A device as the host is given it. */
export interface DeviceSpec {
  readonly name: string;
  /** An mdev has its parent's. */
  readonly rid: number;
  /** A key of `iommus`. */
  readonly iommu: string;
  readonly group: number;
  readonly kind: DeviceKind;
  readonly pageRequests: boolean;
  readonly parent: string | undefined;
}

/** What a fault report says about the device. */
export interface DeviceLabel {
  readonly label: number;
  readonly cookie: bigint;
  readonly name: string;
}

/** `open` for reading and writing: these files can be opened in no other mode. */
export const O_RDWR = 2;
const ACCESS_MODE = 3;
const DEVICES = "/dev/vfio/devices/";
const GROUPS = "/dev/vfio/";
const LAST_LABEL = 2 ** 32 - 1;
const GET_DEVICE_FD = "VFIO_GROUP_GET_DEVICE_FD";
/** Host-physical addresses end here when no IOMMU narrows them. */
const HPA_WIDTH = 56;

/** `open`, `ioctl` and `close` may be taken off the object: `const { open, ioctl } = host`. */
export class Host {
  readonly process: Process;
  readonly #rules: Pick<HostParts, "strictAttach" | "accounting">;
  readonly #files: FileTable;
  readonly #faults: FaultDispatch;
  readonly #labels = new Ids(LAST_LABEL);
  readonly #byName = new Map<string, Device>();
  readonly #groups = new Map<string, Group>();

  constructor({ engine, iommus, devices, ram, lockLimit, strictAttach, accounting, faults }: HostParts) {
    const changes = new Changes(engine);
    this.#files = new FileTable(changes, () => this.#faults.drain());
    const identities = new RequesterIds(iommus);
    for (const spec of devices) {
      const group = this.#groups.get(String(spec.group)) ?? new Group(spec.group);
      this.#groups.set(String(spec.group), group);
      const device = new Device({ ...spec, ...identities.of(spec), iommu: iommus.get(spec.iommu)!, group });
      this.#byName.set(spec.name, device);
    }
    const widths = [...iommus.values()].map(({ model }) => model.outputWidth);
    this.process = new Process(engine, changes, ram, Math.min(HPA_WIDTH, ...widths), lockLimit);
    this.#rules = { strictAttach, accounting };
    this.#faults = new FaultDispatch(faults, this.devices());
  }

  /**
   * Opens `/dev/ioasid`, `/dev/kvm`, `/dev/vfio/devices/<name>` or `/dev/vfio/<group>`. Every open makes a new file, numbered from 3 up.
   * @throws IoctlError ENOENT when the path is unknown, EINVAL when the mode is not O_RDWR, EBUSY when the group is open,
   * or the device belongs to the host's driver.
   */
  readonly open = <P extends string>(path: P, mode: number = O_RDWR): OpenedBy<P> => {
    if (!Number.isInteger(mode) || (mode & ACCESS_MODE) !== O_RDWR) {
      const hint = "open it with O_RDWR (2)";
      throw new IoctlError("EINVAL", "open", `mode ${show(mode)} of ${show(path)}`, { field: "mode", value: mode, hint });
    }
    return this.#open(path) as OpenedBy<P>;
  };

  #open(path: unknown): OpenFile {
    if (path === "/dev/ioasid") {
      const options = { process: this.process, faults: this.#faults, ...this.#rules };
      return this.#files.add((number) => new IoasidFd(number, this.#files, options));
    }
    if (path === "/dev/kvm") return this.#files.add((number) => new KvmFd(number, this.#files, (name) => this.#byName.get(name)));
    const device = this.#byName.get(partAfter(DEVICES, path));
    if (device !== undefined) return this.#openDevice(this.#requireOwn("open", "path", path, device));
    const group = this.#groups.get(partAfter(GROUPS, path));
    if (group !== undefined) return this.#openGroup(group);
    const names = [...this.#byName.keys()].map((name) => DEVICES + name);
    const hint = `there are ${["/dev/ioasid", "/dev/kvm", ...names, ...[...this.#groups.keys()].map((number) => GROUPS + number)].join(", ")}`;
    throw new IoctlError("ENOENT", "open", `no file ${show(path)}`, { field: "path", value: path, hint });
  }

  /** A device that is shared out as mdevs belongs to the host's own driver. */
  #requireOwn(call: string, field: string, value: unknown, device: Device): Device {
    const mdev = this.devices().find(({ parent }) => parent === device.name);
    if (mdev === undefined) return device;
    const hint = `open one of its shares, as ${DEVICES}${mdev.name}`;
    const details = { field, value, conflict: { kind: "device", device: mdev.name }, hint } as const;
    throw new IoctlError("EBUSY", call, `the host's driver has ${device.name}`, details);
  }

  #openDevice(device: Device): VfioDeviceFd {
    return this.#files.add((number) => new VfioDeviceFd(number, this.#files, device, this.#labels));
  }

  /** A group has one user, so one fd at a time. */
  #openGroup(group: Group): VfioGroupFd {
    const open = this.#files.first((file) => file instanceof VfioGroupFd && file.group === group);
    if (open === undefined) return this.#files.add((number) => new VfioGroupFd(number, this.#files, group, (device) => this.#openDevice(this.#requireOwn(GET_DEVICE_FD, "name", device.name, device))));
    const details = { field: "path", value: GROUPS + group.number, conflict: { kind: "group", group: group.number }, hint: "close that one" } as const;
    throw new IoctlError("EBUSY", "open", `group ${group.number} is open: ${GROUPS}${group.number} is fd ${open.number}`, details);
  }

  /**
   * The call with this request number on an open fd, given by object or number. By-value forms are those of the RFC's section 5.
   * @throws IoctlError EBADF when the fd is not open, ENOTTY when its kind has no such call, and what the call throws.
   */
  readonly ioctl = <R extends RequestNumber>(fd: FdArgument, request: R, ...args: IoctlArgs<R>): IoctlResult<R> =>
    this.#find("ioctl", fd).ioctl(request, ...args);

  /** Closes an fd, given by object or number. @throws IoctlError EBADF when it is not open, EDEADLK while a section is open. */
  readonly close = (fd: FdArgument): void => this.#find("close", fd).close();

  #find(call: string, fd: FdArgument): OpenFile {
    const file = this.#files.find(fd);
    if (file !== undefined) return file;
    const value = fd instanceof OpenFile ? fd.number : fd;
    throw new IoctlError("EBADF", call, `${show(value)} is no open fd of this host`, { field: "fd", value, hint: "pass an fd that `open` returned and that is not closed" });
  }

  /** All devices, in the order in which the host was given them. */
  devices(): readonly Device[] {
    return [...this.#byName.values()];
  }

  /** Faults that nobody was told of by a record of their own. */
  get faultCounters(): FaultCounters {
    return this.#faults.counters;
  }

  /** Delivers what devices have reported to the fault queues. Every call does it; a view of this thread does it when it has reported. */
  drainFaults(): void {
    this.#faults.drain();
  }

  /** What faults of the device report; undefined while it is not bound. */
  labelOf(name: string): DeviceLabel | undefined {
    const device = this.#byName.get(name);
    return device?.binding && { label: device.binding.label, cookie: device.binding.cookie, name };
  }
}

/** What follows the folder in a path; empty for another path. */
function partAfter(folder: string, path: unknown): string {
  return typeof path === "string" && path.startsWith(folder) ? path.slice(folder.length) : "";
}

/** The kind of file behind a path, where the path is known to the compiler. */
export type OpenedBy<P extends string> =
  P extends "/dev/ioasid" ? IoasidFd : P extends "/dev/kvm" ? KvmFd : P extends `${typeof DEVICES}${string}` ? VfioDeviceFd
  : P extends `${typeof GROUPS}${number}` ? VfioGroupFd : OpenFile;
