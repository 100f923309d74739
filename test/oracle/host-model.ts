// What a host's objects are and which calls on them are legal, kept as plain objects: for comparison with a host after any sequence
// of calls. A call has the errnos of all rules that it breaks, in no order; none: it is carried out. Addresses are pages of 4 KiB.
// May import space-tree.ts, whose spaces translate as two maps, one after the other, do.
import type { ErrnoName } from "../../src/uapi/errno.js";
import { ModelDevice, ModelSpace, type ModelProcess, type Reached } from "./space-tree.js";

/** What user space may do with PASIDs of a device, and what stands in its requests. */
export interface PasidTraits {
  readonly user: boolean;
  readonly identical: boolean;
  readonly global: boolean;
  readonly enqcmd: boolean;
}

export class HostFile {
  readonly spaces = new Map<number, HostSpace>();
  readonly devices = new Set<HostDevice>();
  closed = false;

  constructor(readonly number: number) {}

  /** Some VM replaces PASIDs for devices of this file. */
  get translatesPasids(): boolean {
    return [...this.spaces.values()].some(({ kvmUsers }) => kvmUsers > 0);
  }
}

export class HostSpace extends ModelSpace {
  kvmUsers = 0;

  constructor(readonly file: HostFile, number: number, override readonly parent: HostSpace | undefined, process: ModelProcess,
    /** As it was allocated. */
    readonly pageRequests: boolean | undefined) {
    super(number, parent, process);
  }

  /** Devices that are attached here, with a PASID or without. */
  attachedDevices(all: Iterable<HostDevice>): HostDevice[] {
    return [...all].filter((device) => device.attachedTo(this));
  }
}

export class HostDevice extends ModelDevice {
  file: HostFile | undefined;
  /** Of its binding. */
  label: number | undefined;
  readonly pasids = new Map<number, HostSpace>();
  /** Where it is attached without a PASID. Not always from the root down: an attachment to a parent may be one with a PASID. */
  readonly #own: HostSpace[] = [];

  constructor(name: string, readonly traits: PasidTraits) {
    super(name, []);
  }

  override isAttachedTo(space: ModelSpace): boolean {
    return this.#own.includes(space as HostSpace);
  }

  attach(space: HostSpace): void {
    this.#own.push(space);
    this.attached = space;
  }

  /** The deepest of them goes. */
  detach(): void {
    this.#own.pop();
    this.attached = this.#own.at(-1);
  }

  attachedTo(space: HostSpace): boolean {
    return this.isAttachedTo(space) || [...this.pasids.values()].includes(space);
  }

  attachedBelow(space: HostSpace): boolean {
    return [...space.children].some((child) => this.attachedTo(child as HostSpace));
  }

  attachmentsTo(space: HostSpace): number {
    return Number(this.isAttachedTo(space)) + [...this.pasids.values()].filter((other) => other === space).length;
  }

  /** Where its DMA goes. */
  translate(pasid: number | undefined, iova: bigint): Reached | undefined {
    return (pasid === undefined ? this.target : this.pasids.get(pasid))?.translate(iova);
  }
}

export const LAST_PASID = 2 ** 20 - 1;

export class HostModel {
  readonly files: HostFile[] = [];
  /** The VM's table. */
  readonly kvm = new Map<number, HostSpace>();

  constructor(readonly process: ModelProcess, readonly devices: readonly HostDevice[], private readonly tablesAt: number) {}

  /** The pPASID that devices which take ENQCMD share in a space is there. */
  hasGlobalPasid(space: HostSpace): boolean {
    return this.devices.some(({ traits, pasids }) => traits.global && [...pasids.values()].includes(space));
  }

  bind({ file, traits }: HostDevice, to: HostFile): ErrnoName[] {
    if (to.closed) return ["EBADF"];
    return broken([file !== undefined, "EBUSY"], [traits.enqcmd && traits.identical && to.translatesPasids, "EOPNOTSUPP"]);
  }

  unbind(device: HostDevice): ErrnoName[] {
    if (device.file === undefined) return ["EINVAL"];
    return broken([device.attached !== undefined || device.pasids.size > 0, "EBUSY"]);
  }

  /** `parent`: of a child. */
  alloc(file: HostFile, parent: number | undefined): ErrnoName[] {
    return onSpace(file, parent, (space) => broken([space.table !== undefined, "ENOSPC"]));
  }

  free(file: HostFile, number: number): ErrnoName[] {
    return onSpace(file, number, (space) =>
      broken([space.attachedDevices(this.devices).length > 0 || space.children.size > 0 || space.kvmUsers > 0, "EBUSY"]));
  }

  map(file: HostFile, number: number, first: number, pages: number, target: number, perm: number): ErrnoName[] {
    return onSpace(file, number, (space) => broken(
      [space.table !== undefined, "EBUSY"],
      [Array.from({ length: pages }, (_none, n) => first + n).some((page) => space.pages.has(page)), "EEXIST"],
      [space.parent === undefined && !this.process.permits(target, pages, perm), "EFAULT"],
    ));
  }

  unmap(file: HostFile, number: number, first: number, pages: number): ErrnoName[] {
    return onSpace(file, number, (space) => broken([space.table !== undefined, "EBUSY"], [space.wholeAreas(first, pages) === undefined, "EINVAL"]));
  }

  bindTable(file: HostFile, number: number): ErrnoName[] {
    return onSpace(file, number, (space) => broken(
      [space.parent === undefined, "EINVAL"], [space.table !== undefined, "EEXIST"],
      [space.areas.size > 0 || space.children.size > 0, "EBUSY"],
      [space.parent !== undefined && !space.parent.pages.has(this.tablesAt), "EFAULT"],
    ));
  }

  unbindTable(file: HostFile, number: number): ErrnoName[] {
    return onSpace(file, number, (space) => broken([space.table === undefined, "ENOENT"]));
  }

  attach(device: HostDevice, number: number, pasid: number | undefined): ErrnoName[] {
    if (device.file === undefined) return ["EINVAL"];
    return [...badPasid(pasid), ...onSpace(device.file, number, (space) => [
      ...broken([space.parent !== undefined && !device.attachedTo(space.parent), "EINVAL"]),
      ...(pasid === undefined ? this.#attachChain(device, space) : this.#attachPasid(device, pasid)),
    ])];
  }

  #attachChain(device: HostDevice, space: HostSpace): ErrnoName[] {
    const { attached } = device;
    return broken([device.isAttachedTo(space) || (attached !== undefined && attached !== space.parent), "EBUSY"]);
  }

  #attachPasid({ traits, pasids }: HostDevice, pasid: number): ErrnoName[] {
    return broken([!traits.user, "EOPNOTSUPP"], [pasids.has(pasid), "EBUSY"]);
  }

  detach(device: HostDevice, number: number, pasid: number | undefined): ErrnoName[] {
    if (device.file === undefined) return ["EINVAL"];
    return [...badPasid(pasid), ...onSpace(device.file, number, (space) => {
      const there = pasid === undefined ? device.isAttachedTo(space) : device.pasids.get(pasid) === space;
      if (!there) return ["ENOENT"];
      const needed = device.attachmentsTo(space) === 1 && device.attachedBelow(space);
      return broken([(pasid === undefined && device.attached !== space) || needed, "EBUSY"]);
    })];
  }

  kvmMap(file: HostFile, number: number, pasid: number): ErrnoName[] {
    return [...badPasid(pasid), ...onSpace(file, number, (space) => broken(
      [[...file.devices].some(({ traits }) => traits.enqcmd && traits.identical), "EOPNOTSUPP"],
      [!this.hasGlobalPasid(space), "ENODEV"],
      [this.kvm.has(pasid) && this.kvm.get(pasid) !== space, "EEXIST"],
    ))];
  }

  kvmUnmap(pasid: number): ErrnoName[] {
    return [...badPasid(pasid), ...broken([!this.kvm.has(pasid), "ENOENT"])];
  }

  /** Takes the device away from everything; its file keeps it. */
  detachAll(device: HostDevice): void {
    device.pasids.clear();
    while (device.attached !== undefined) device.detach();
  }

  /** The file and all of its spaces are gone. */
  close(file: HostFile): void {
    for (const device of file.devices) {
      this.detachAll(device);
      device.file = undefined;
    }
    for (const [pasid, space] of this.kvm) if (space.file === file) this.kvm.delete(pasid);
    file.devices.clear();
    file.spaces.clear();
    file.closed = true;
  }
}

/** The errnos of the rules that are broken. */
function broken(...rules: readonly (readonly [broken: boolean, errno: ErrnoName])[]): ErrnoName[] {
  return rules.filter(([isBroken]) => isBroken).map(([, errno]) => errno);
}

function badPasid(pasid: number | undefined): ErrnoName[] {
  return broken([pasid !== undefined && (pasid < 1 || pasid > LAST_PASID), "EINVAL"]);
}

/** What the rules say about a space of the file, if it has one of that number; `number` undefined: about none. */
function onSpace(file: HostFile, number: number | undefined, rules: (space: HostSpace) => ErrnoName[]): ErrnoName[] {
  if (file.closed) return ["EBADF"];
  if (number === undefined) return [];
  const space = file.spaces.get(number);
  return space === undefined ? ["ENOENT"] : rules(space);
}
