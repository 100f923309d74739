// A host and its model, to which the same calls are made: what is legal must be carried out, anything else refused with the errno of
// a rule that it breaks, and afterwards every device's DMA goes where the model says, with each PASID. Addresses are pages of 4 KiB.
import { expect } from "vitest";
import {
  createHost, IOASID_ATTACH_USER_PASID, IoctlError, type IoasidFd, type KvmFd, type SimulatedHost, type VfioDeviceFd,
} from "../../src/index.js";
import * as L from "../../src/engine/layout.js";
import type { ErrnoName } from "../../src/uapi/errno.js";
import { HostDevice, HostFile, HostModel, HostSpace, type PasidTraits } from "../oracle/host-model.js";
import { ModelProcess } from "../oracle/space-tree.js";
import { MachineFaults } from "./host-machine-faults.js";
import { FORMAT, GUEST_PASIDS, MachineGuest, MEMORY, rootOf, TABLE_AREAS, TABLES_AT, TABLES_FROM } from "./host-machine-guest.js";
import { MachinePasidTables } from "./host-machine-pasid-tables.js";
import { MachineWatches } from "./host-machine-watches.js";

export const RW = L.PERM_R | L.PERM_W;
/** PASIDs that the machine attaches with; others are asked too. */
export const PASIDS = [1, 0x41, 0xfffff];
const ASKED_PAGES = [0, 1, 2, 3, 4, 5, 6, 7, TABLES_AT];
/** Fewer where there are many PASIDs. */
const ASKED_OF_TABLES = [0, 1, 2, 5, TABLES_AT];
const PROBE = { name: "machine", fields: new Set<string>() };

const PDEV: PasidTraits = { user: true, identical: true, global: false, enqcmd: false };
const DEVICES: readonly { name: string; rid?: number; parent?: string; enqcmd?: boolean; traits: PasidTraits }[] = [
  { name: "dev1", rid: 0x20, traits: PDEV },
  { name: "dev2", rid: 0x28, enqcmd: true, traits: { ...PDEV, enqcmd: true } },
  { name: "card", rid: 0x30, traits: PDEV },
  { name: "m1", parent: "card", traits: { ...PDEV, identical: false } },
  { name: "m2", parent: "card", enqcmd: true, traits: { user: true, identical: false, global: true, enqcmd: true } },
];

const bytes = (pages: number): bigint => BigInt(pages) << 12n;

export class HostMachine {
  readonly model: HostModel;
  readonly process = new ModelProcess();
  readonly guest: MachineGuest;
  readonly files = new Map<HostFile, IoasidFd>();
  readonly #deviceFiles = new Map<HostDevice, VfioDeviceFd>();
  readonly #kvm: KvmFd;
  readonly faults = new MachineFaults(this);
  readonly pasidTables = new MachinePasidTables(this);
  readonly watches = new MachineWatches(this);
  /** Calls that were. */
  carriedOut = 0;

  private constructor(readonly host: SimulatedHost) {
    const { hpa } = host.process.mmap({ hva: bytes(MEMORY), size: bytes(MachineGuest.pages) });
    this.process.add(MEMORY, MachineGuest.pages, hpa, RW);
    this.guest = new MachineGuest(host);
    // A device that is shared out belongs to the host.
    const devices = DEVICES.filter(({ name }) => name !== "card").map(({ name, traits }) => new HostDevice(name, traits));
    for (const device of devices) this.#openDevice(device);
    this.model = new HostModel(this.process, devices);
    this.#kvm = host.open("/dev/kvm");
    this.open();
  }

  static async create(): Promise<HostMachine> {
    const devices = DEVICES.map(({ name, rid, parent, enqcmd = false }) => ({ name, enqcmd, ...(rid !== undefined && { rid }), ...(parent !== undefined && { parent }) }));
    return new HostMachine(await createHost({
      memory: { ram: 0x20000, arena: 4 << 20 }, slots: 8, routes: 64, domains: 64, ports: { count: 1, iotlbSets: 64, lanes: 16, faults: 16 },
      iommus: [{ preset: "vtd-scalable", stage: 2 }], devices,
    }));
  }

  // --- Calls: the model says what must come out -----------------------------------------------------------------------------

  open(): void {
    const fd = this.host.open("/dev/ioasid");
    const file = new HostFile(fd.number);
    this.model.files.push(file);
    this.files.set(file, fd);
  }

  async close(file: HostFile): Promise<void> {
    if (!this.call(file.closed ? ["EBADF"] : [], () => this.#fd(file).close()).done) return;
    const devices = [...file.devices];
    this.model.close(file);
    for (const device of devices) await this.faults.moved(device);
  }

  bind(device: HostDevice, file: HostFile): void {
    const { done, value } = this.call(this.model.bind(device, file), () => this.#device(device).bindIoasidFd({ ioasidFd: this.#fd(file) }));
    if (!done) return;
    device.label = value!;
    device.file = file;
    file.devices.add(device);
  }

  unbind(device: HostDevice): void {
    if (!this.call(this.model.unbind(device), () => this.#device(device).unbindIoasidFd()).done) return;
    device.file!.devices.delete(device);
    device.file = undefined;
  }

  alloc(file: HostFile, parent: number | undefined, pageRequests?: boolean): void {
    const arg = { ...(parent !== undefined && { parent }), ...(pageRequests !== undefined && { pageRequests }) };
    const { done, value } = this.call(this.model.alloc(file, parent), () => this.#fd(file).allocIoasid(arg));
    if (!done) return;
    const above = parent === undefined ? undefined : file.spaces.get(parent)!;
    file.spaces.set(value!, new HostSpace(file, value!, above, this.process, pageRequests));
  }

  free(file: HostFile, ioasid: number): void {
    if (!this.call(this.model.free(file, ioasid), () => this.#fd(file).free({ ioasid })).done) return;
    const space = file.spaces.get(ioasid)!;
    space.parent?.children.delete(space);
    file.spaces.delete(ioasid);
  }

  map(file: HostFile, ioasid: number, first: number, pages: number, to: number, perm: number): void {
    const target = file.spaces.get(ioasid)?.parent === undefined ? MEMORY + to : to;
    const arg = { ioasid, iova: bytes(first), vaddr: bytes(target), size: bytes(pages), flags: perm };
    const legal = this.model.map(file, ioasid, first, pages, target, perm);
    if (this.call(legal, () => this.#fd(file).dmaMap(arg)).done) file.spaces.get(ioasid)!.map(first, pages, target, perm);
  }

  /** The guest's page tables, or its PASID table, at the place where they expect themselves. */
  mapTables(file: HostFile, ioasid: number, area: number): void {
    const [first, pages] = TABLE_AREAS[area]!;
    const parent = file.spaces.get(ioasid)?.parent;
    this.map(file, ioasid, TABLES_AT + first, pages, (parent === undefined ? TABLES_FROM : TABLES_AT) + first, RW);
  }

  /** Entries of PASID tables that lie there are gone for the IOMMU: that is said. */
  unmap(file: HostFile, ioasid: number, first: number, pages: number, way: number): void {
    const arg = { ioasid, iova: bytes(first), size: bytes(pages) };
    this.pasidTables.changing(way, () => {
      const { done, value } = this.call(this.model.unmap(file, ioasid, first, pages), () => this.#fd(file).dmaUnmap(arg));
      if (!done) return;
      const space = file.spaces.get(ioasid)!;
      const areas = space.wholeAreas(first, pages)!;
      expect(value!.size).toBe(bytes(areas.reduce((sum, area) => sum + area.pages, 0)));
      space.unmap(areas);
    });
  }

  bindTable(file: HostFile, ioasid: number, chain: number): void {
    const arg = { ioasid, addr: bytes(rootOf(chain)), format: FORMAT };
    if (!this.call(this.model.bindTable(file, ioasid, rootOf(chain)), () => this.#fd(file).bindPgtable(arg)).done) return;
    const space = file.spaces.get(ioasid)!;
    space.table = this.guest.pageTable(space.parent!, arg.addr);
  }

  allocTable(file: HostFile, parent: number, chain: number, pageRequests?: boolean): void {
    const arg = { parent, addr: bytes(rootOf(chain)), format: FORMAT, ...(pageRequests !== undefined && { pageRequests }) };
    const { done, value } = this.call(this.model.allocTable(file, parent, rootOf(chain)), () => this.#fd(file).allocIoasidPgtable(arg));
    if (!done) return;
    const space = new HostSpace(file, value!, file.spaces.get(parent)!, this.process, pageRequests);
    space.table = this.guest.pageTable(space.parent!, arg.addr);
    file.spaces.set(value!, space);
  }

  async unbindTable(file: HostFile, ioasid: number): Promise<void> {
    if (!this.call(this.model.unbindTable(file, ioasid), () => this.#fd(file).unbindPgtable({ ioasid })).done) return;
    const space = file.spaces.get(ioasid)!;
    space.table = undefined;
    await this.faults.unbound(space);
  }

  /** The first page that some device waits for comes; nobody is told so far. */
  bring(nth: number, to: number): void {
    const waiting = this.faults.waiting(nth);
    if (waiting === undefined) return;
    const { file, space, device, pasid, pages: [iova] } = waiting;
    const page = Number(iova! >> 12n);
    const reading = device.pasidTable?.valid(pasid ?? 0);
    const root = reading?.kind === "stage1" ? reading.root : space.table?.root;
    if (root === undefined && !space.hasTable) return this.map(file, space.number, page, 1, to, RW);
    const chain = root === undefined ? undefined : this.guest.chainOf(root);
    if (chain !== undefined) this.pasidTables.writePage(chain, page, to, RW, nth);
  }

  attach(device: HostDevice, ioasid: number, pasid: number | undefined): void {
    const arg = { ioasid, ...(pasid !== undefined && { flags: IOASID_ATTACH_USER_PASID, userPasid: pasid }) };
    if (!this.call(this.model.attach(device, ioasid, pasid), () => this.#device(device).attachIoasid(arg)).done) return;
    const space = device.file!.spaces.get(ioasid)!;
    if (pasid === undefined) device.attach(space);
    else device.pasids.set(pasid, space);
  }

  async detach(device: HostDevice, ioasid: number, pasid: number | undefined): Promise<void> {
    const arg = { ioasid, ...(pasid !== undefined && { flags: IOASID_ATTACH_USER_PASID, userPasid: pasid }) };
    if (!this.call(this.model.detach(device, ioasid, pasid), () => this.#device(device).detachIoasid(arg)).done) return;
    if (pasid === undefined) device.detach();
    else device.pasids.delete(pasid);
    await this.faults.moved(device);
  }

  /** The file of the device is closed, and opened anew. */
  async reopen(device: HostDevice): Promise<void> {
    this.call([], () => this.#device(device).close());
    const { file } = device;
    this.model.detachAll(device);
    if (file !== undefined) await this.faults.moved(device);
    file?.devices.delete(device);
    device.file = undefined;
    this.#openDevice(device);
  }

  kvmMap(file: HostFile, ioasid: number, pasid: number): void {
    const arg = { userPasid: pasid, ioasidFd: this.#fd(file), ioasid };
    if (!this.call(this.model.kvmMap(file, ioasid, pasid), () => this.#kvm.mapPasid(arg)).done || this.model.kvm.has(pasid)) return;
    const space = file.spaces.get(ioasid)!;
    space.kvmUsers++;
    this.model.kvm.set(pasid, space);
  }

  kvmUnmap(pasid: number): void {
    if (!this.call(this.model.kvmUnmap(pasid), () => this.#kvm.unmapPasid({ userPasid: pasid })).done) return;
    this.model.kvm.get(pasid)!.kvmUsers--;
    this.model.kvm.delete(pasid);
  }

  // --- Checks ---------------------------------------------------------------------------------------------------------------

  /** Where all DMA goes, what is attached, and what is charged. */
  check(): void {
    for (const device of this.model.devices) {
      // Those that lead nowhere too.
      const pasids = new Set([undefined, ...device.pasids.keys(), 7, ...(device.pasidTable === undefined ? [] : [...GUEST_PASIDS, 0xfffff])]);
      for (const pasid of pasids) this.#checkDma(device, pasid);
    }
    let charged = 0;
    for (const file of this.model.files) for (const space of file.spaces.values()) charged += this.#checkSpace(file, space);
    expect(this.host.process.locked).toBe(bytes(charged));
    // What these questions left in the port is no view's.
    this.host.port.takeFaults();
    this.host.port.takeOverflow();
    this.faults.check(this.model.files);
    this.watches.check();
  }

  #checkDma(device: HostDevice, pasid: number | undefined): void {
    const leading = device.leading(pasid);
    for (const page of device.pasidTable === undefined ? ASKED_PAGES : ASKED_OF_TABLES) {
      const wanted = leading(bytes(page));
      for (const need of [L.PERM_R, L.PERM_W]) {
        const hpa = wanted !== undefined && (wanted.perm & need) === need ? wanted.hpa : undefined;
        const got = this.ask(device, pasid, page, need);
        if (got !== hpa) expect(got, `${device.name}, PASID ${pasid}, page ${page}, access ${need}`).toBe(hpa);
      }
    }
  }

  /** The page's address as the port answers; undefined when it is refused. */
  ask({ name }: HostDevice, pasid: number | undefined, page: number, need: number): bigint | undefined {
    const device = this.host.devices().find((each) => each.name === name)!;
    const requester = pasid === undefined ? device.requester : device.requesterOf(pasid);
    if (requester === undefined) return undefined;
    const { port, engine } = this.host;
    const route = engine.route(requester.rid, requester.pasid);
    return port.translateHalves(page << 12, 0, route, need) ? BigInt.asUintN(56, port.result) : undefined;
  }

  #checkSpace(file: HostFile, space: HostSpace): number {
    const real = this.#fd(file).find(PROBE, space.number);
    const attached = space.attachedDevices(this.model.devices).map(({ name }) => name);
    expect([...real.devices].map(({ name }) => name).sort()).toEqual(attached.sort());
    expect(real.domain !== undefined).toBe(attached.length > 0);
    expect(real.kvmUsers).toBe(space.kvmUsers);
    expect([real.pgtable?.addr, real.pasidTable?.addr]).toEqual([space.table?.root, space.pasidTable?.directory]);
    return space.charged;
  }

  // --- Below ----------------------------------------------------------------------------------------------------------------

  #fd(file: HostFile): IoasidFd {
    return this.files.get(file)!;
  }

  #device(device: HostDevice): VfioDeviceFd {
    return this.#deviceFiles.get(device)!;
  }

  #openDevice(device: HostDevice): void {
    this.#deviceFiles.set(device, this.host.open(`/dev/vfio/devices/${device.name}`) as VfioDeviceFd);
  }

  /** Carried out if no rule is broken, else refused with one of these errnos. */
  call<T>(errnos: readonly ErrnoName[], act: () => T): { done: true; value: T } | { done: false; value: undefined } {
    try {
      const value = act();
      expect(errnos, "carried out, though rules are broken").toEqual([]);
      this.carriedOut++;
      return { done: true, value };
    } catch (error) {
      if (!(error instanceof IoctlError)) throw error;
      expect(errnos, error.message).toContain(error.errno);
      return { done: false, value: undefined };
    }
  }
}
