// What a host's objects are and which calls on them are legal, kept as plain objects: for comparison with a host after any sequence
// of calls. A call has the errnos of all rules that it breaks, in no order; none: it is carried out. Addresses are pages of 4 KiB.
// May import space-tree.ts, whose spaces translate as two maps, one after the other, do, and the model of a guest's PASID table.
import type { ErrnoName } from "../../src/uapi/errno.js";
import type { ModelPasidTable } from "./host-pasid-table.js";
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
  /** A guest's table of all PASIDs, in place of maps or of one page table. */
  pasidTable: ModelPasidTable | undefined;

  constructor(readonly file: HostFile, number: number, override readonly parent: HostSpace | undefined, process: ModelProcess,
    /** As it was allocated. */
    readonly pageRequests: boolean | undefined) {
    super(number, parent, process);
  }

  get hasTable(): boolean {
    return this.table !== undefined || this.pasidTable !== undefined;
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

  /** The PASID table that has all its DMA: then spaces that it is attached to with a PASID lead nothing. */
  get pasidTable(): ModelPasidTable | undefined {
    return (this.target as HostSpace | undefined)?.pasidTable;
  }

  /** Where its DMA goes, by address. */
  leading(pasid: number | undefined): (iova: bigint) => Reached | undefined {
    const { pasidTable } = this;
    if (pasidTable === undefined) {
      const space = pasid === undefined ? this.target : this.pasids.get(pasid);
      return (iova) => space?.translate(iova);
    }
    const reading = pasidTable.valid(pasid ?? 0);
    return (iova) => reading && pasidTable.follow(reading, iova);
  }

  translate(pasid: number | undefined, iova: bigint): Reached | undefined {
    return this.leading(pasid)(iova);
  }
}

export const LAST_PASID = 2 ** 20 - 1;

/** A PASID table as a call describes it: its address, and what the format says. */
export interface PasidTablePlan {
  readonly addr: bigint;
  /** undefined: all that the IOMMU has. */
  readonly pasidBits: number | undefined;
}

export const MOST_PASID_BITS = 20;
const FEWEST_PASID_BITS = 13;

export class HostModel {
  readonly files: HostFile[] = [];
  /** The VM's table. */
  readonly kvm = new Map<number, HostSpace>();

  constructor(readonly process: ModelProcess, readonly devices: readonly HostDevice[]) {}

  /** The pPASID that devices which take ENQCMD share in a space is there. */
  hasGlobalPasid(space: HostSpace): boolean {
    return this.devices.some(({ traits, pasids }) => traits.global && [...pasids.values()].includes(space));
  }

  /** Some device's DMA goes by the tables of the space. */
  leadsDma(space: HostSpace): boolean {
    return this.devices.some(({ target, pasidTable, pasids }) => target === space || (pasidTable === undefined && [...pasids.values()].includes(space)));
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
    return onSpace(file, parent, (space) => broken([space.hasTable, "ENOSPC"]));
  }

  /** A child with a guest's page table, whose root is on that page of the parent. */
  allocTable(file: HostFile, parent: number, root: number): ErrnoName[] {
    return onSpace(file, parent, (space) => broken([space.hasTable, "ENOSPC"], [!space.pages.has(root), "EFAULT"]));
  }

  /** A child with a guest's PASID table. */
  allocPasidTable(file: HostFile, parent: number, plan: PasidTablePlan): ErrnoName[] {
    return onSpace(file, parent, (space) => [...broken([space.hasTable, "ENOSPC"]), ...this.#badPasidTable(space, plan)]);
  }

  free(file: HostFile, number: number): ErrnoName[] {
    return onSpace(file, number, (space) =>
      broken([space.attachedDevices(this.devices).length > 0 || space.children.size > 0 || space.kvmUsers > 0, "EBUSY"]));
  }

  map(file: HostFile, number: number, first: number, pages: number, target: number, perm: number): ErrnoName[] {
    return onSpace(file, number, (space) => broken(
      [space.hasTable, "EBUSY"],
      [Array.from({ length: pages }, (_none, n) => first + n).some((page) => space.pages.has(page)), "EEXIST"],
      [space.parent === undefined && !this.process.permits(target, pages, perm), "EFAULT"],
    ));
  }

  unmap(file: HostFile, number: number, first: number, pages: number): ErrnoName[] {
    return onSpace(file, number, (space) => broken([space.hasTable, "EBUSY"], [space.wholeAreas(first, pages) === undefined, "EINVAL"]));
  }

  /** `root`: the page of the parent where the table begins. */
  bindTable(file: HostFile, number: number, root: number): ErrnoName[] {
    return onSpace(file, number, (space) => [
      ...unbindable(space), ...broken([space.parent !== undefined && !space.parent.pages.has(root), "EFAULT"]),
    ]);
  }

  bindPasidTable(file: HostFile, number: number, plan: PasidTablePlan): ErrnoName[] {
    return onSpace(file, number, (space) => [...unbindable(space), ...this.#badPasidTable(space.parent, plan), ...broken(
      [space.attachedDevices(this.devices).some(({ traits }) => !traits.identical), "EINVAL"],
      [this.devices.some(({ pasids }) => [...pasids.values()].includes(space)), "EBUSY"],
    )]);
  }

  /** Where no device is, there is no IOMMU to say how a table is aligned: attach does. */
  #badPasidTable(parent: HostSpace | undefined, { addr, pasidBits = MOST_PASID_BITS }: PasidTablePlan): ErrnoName[] {
    return broken(
      [pasidBits < FEWEST_PASID_BITS || pasidBits > MOST_PASID_BITS, "EINVAL"],
      [parent !== undefined && addr % 4096n !== 0n && parent.attachedDevices(this.devices).length > 0, "EINVAL"],
      [parent !== undefined && !parent.pages.has(Number(addr >> 12n)), "EFAULT"],
    );
  }

  unbindPasidTable(file: HostFile, number: number): ErrnoName[] {
    return onSpace(file, number, (space) => broken([space.pasidTable === undefined, "ENOENT"]));
  }

  unbindTable(file: HostFile, number: number): ErrnoName[] {
    return onSpace(file, number, (space) => broken([space.table === undefined, "ENOENT"]));
  }

  attach(device: HostDevice, number: number, pasid: number | undefined): ErrnoName[] {
    if (device.file === undefined) return ["EINVAL"];
    return [...badPasid(pasid), ...onSpace(device.file, number, (space) => [
      ...broken([space.parent !== undefined && !device.attachedTo(space.parent), "EINVAL"]),
      // A PASID table has all PASIDs of a requester id, of which a mediated device is a share.
      ...broken([space.pasidTable !== undefined && (!device.traits.identical || pasid !== undefined || space.pasidTable.directory % 4096n !== 0n), "EINVAL"]),
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
export function broken(...rules: readonly (readonly [broken: boolean, errno: ErrnoName])[]): ErrnoName[] {
  return rules.filter(([isBroken]) => isBroken).map(([, errno]) => errno);
}

/** Why no table can be bound to the space, whatever it is. */
function unbindable(space: HostSpace): ErrnoName[] {
  return broken([space.parent === undefined, "EINVAL"], [space.hasTable, "EEXIST"], [space.areas.size > 0 || space.children.size > 0, "EBUSY"]);
}

function badPasid(pasid: number | undefined): ErrnoName[] {
  return broken([pasid !== undefined && (pasid < 1 || pasid > LAST_PASID), "EINVAL"]);
}

/** What the rules say about a space of the file, if it has one of that number; `number` undefined: about none. */
export function onSpace(file: HostFile, number: number | undefined, rules: (space: HostSpace) => ErrnoName[]): ErrnoName[] {
  if (file.closed) return ["EBADF"];
  if (number === undefined) return [];
  const space = file.spaces.get(number);
  return space === undefined ? ["ENOENT"] : rules(space);
}
