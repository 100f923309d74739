// The simulated machine as its user process sees it: paths to open, fds, the process, and the labels that faults carry.
// May import engine/, iommu/, and everything of this folder.

import type { Engine } from "../engine/engine.js";
import type { Iommu } from "../iommu/iommu.js";
import { show } from "./arguments.js";
import { Device } from "./device.js";
import { VfioDeviceFd } from "./device-fd.js";
import { IoctlError } from "./errno.js";
import { Group } from "./group.js";
import { VfioGroupFd } from "./group-fd.js";
import { Ids } from "./ids.js";
import { type Accounting, IoasidFd } from "./ioasid-fd.js";
import { FileTable, OpenFile } from "./open-file.js";
import { Process } from "./process.js";
import type { RamRange } from "./hpa-space.js";
import type { FdArgument, IoctlArgs, IoctlResult, RequestNumber } from "./requests.js";

export interface HostParts {
  readonly engine: Engine;
  readonly iommus: ReadonlyMap<string, Iommu>;
  /** Names and rids are unique; `iommu` is a key of `iommus`; devices of one group have one IOMMU. */
  readonly devices: readonly { readonly name: string; readonly rid: number; readonly iommu: string; readonly group: number }[];
  /** RAM that the process can get by `mmap`; its slots exist already. */
  readonly ram: readonly RamRange[];
  /** Bytes that maps of the process may pin. */
  readonly lockLimit: bigint;
  /** Refuse what is asked of an ioasid before its first attach, as the RFC does. */
  readonly strictAttach: boolean;
  readonly accounting: Accounting;
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
/** Host-physical addresses end here when no IOMMU narrows them. */
const HPA_WIDTH = 56;

/** `open`, `ioctl` and `close` may be taken off the object: `const { open, ioctl } = host`. */
export class Host {
  readonly process: Process;
  readonly #rules: Pick<HostParts, "strictAttach" | "accounting">;
  readonly #files = new FileTable();
  readonly #labels = new Ids(LAST_LABEL);
  readonly #byName = new Map<string, Device>();
  readonly #byRid = new Map<number, Device>();
  readonly #groups = new Map<string, Group>();

  constructor({ engine, iommus, devices, ram, lockLimit, strictAttach, accounting }: HostParts) {
    for (const { name, rid, iommu, group: number } of devices) {
      const group = this.#groups.get(String(number)) ?? new Group(number);
      this.#groups.set(String(number), group);
      const device = new Device(name, rid, iommus.get(iommu)!, group);
      this.#byName.set(name, device);
      this.#byRid.set(rid, device);
    }
    const widths = [...iommus.values()].map(({ model }) => model.outputWidth);
    this.process = new Process(engine, ram, Math.min(HPA_WIDTH, ...widths), lockLimit);
    this.#rules = { strictAttach, accounting };
  }

  /**
   * Opens `/dev/ioasid`, `/dev/vfio/devices/<name>` or `/dev/vfio/<group>`. Every open makes a new file, numbered from 3 up.
   * @throws IoctlError ENOENT when the path is unknown, EINVAL when the mode is not O_RDWR, EBUSY when the group is open.
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
      const options = { process: this.process, ...this.#rules };
      return this.#files.add((number) => new IoasidFd(number, this.#files, options));
    }
    const device = this.#byName.get(partAfter(DEVICES, path));
    if (device !== undefined) return this.#openDevice(device);
    const group = this.#groups.get(partAfter(GROUPS, path));
    if (group !== undefined) return this.#openGroup(group);
    const names = [...this.#byName.keys()].map((name) => DEVICES + name);
    const hint = `there are ${["/dev/ioasid", ...names, ...[...this.#groups.keys()].map((number) => GROUPS + number)].join(", ")}`;
    throw new IoctlError("ENOENT", "open", `no file ${show(path)}`, { field: "path", value: path, hint });
  }

  #openDevice(device: Device): VfioDeviceFd {
    return this.#files.add((number) => new VfioDeviceFd(number, this.#files, device, this.#labels));
  }

  /** A group has one user, so one fd at a time. */
  #openGroup(group: Group): VfioGroupFd {
    const open = this.#files.first((file) => file instanceof VfioGroupFd && file.group === group);
    if (open === undefined) return this.#files.add((number) => new VfioGroupFd(number, this.#files, group, (device) => this.#openDevice(device)));
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

  deviceByRid(rid: number): Device | undefined {
    return this.#byRid.get(rid);
  }

  /** What faults of this requester report; undefined while no such device is bound. */
  labelOf(rid: number): DeviceLabel | undefined {
    const device = this.#byRid.get(rid);
    return device?.binding && { label: device.binding.label, cookie: device.binding.cookie, name: device.name };
  }
}

/** What follows the folder in a path; empty for another path. */
function partAfter(folder: string, path: unknown): string {
  return typeof path === "string" && path.startsWith(folder) ? path.slice(folder.length) : "";
}

/** The kind of file behind a path, where the path is known to the compiler. */
export type OpenedBy<P extends string> =
  P extends "/dev/ioasid" ? IoasidFd : P extends `${typeof DEVICES}${string}` ? VfioDeviceFd
  : P extends `${typeof GROUPS}${number}` ? VfioGroupFd : OpenFile;
