// Plays a plan on a host and on the model of the tree at once, and compares them after every step: which calls are refused (and
// then change nothing), where each device's DMA goes and what becomes of it, the tables of all spaces, charges and dirty pages.
import { expect } from "vitest";
import { createHost, IoctlError, type HostOptions, type IoasidFd, type SimulatedHost, type VfioDeviceFd } from "../../src/index.js";
import * as L from "../../src/engine/layout.js";
import { guestTable } from "../../src/iommu/guest-table.js";
import { modelOf } from "../../src/iommu/model.js";
import { slotMemory } from "../oracle/guest-memory.js";
import { hostDigest } from "../oracle/host-digest.js";
import { encoderOf } from "../oracle/reference/encode.js";
import { architectureOf } from "../oracle/reference/formats.js";
import type { Architecture, ReferenceDomain } from "../oracle/reference/types.js";
import { ModelDevice, ModelProcess, ModelSpace, type Reached } from "../oracle/space-tree.js";
import { sizes, spots, TABLE_PAGES, TABLES_AT, type Machine, type Plan, type Step } from "./space-tree-plans.js";

/** Page of the process where its memory begins: a multiple of every large leaf. */
const MEMORY = 2 ** 20;
const MOST_SPACES = 9;
const MOST_DEPTH = 4;
const RW = L.PERM_R | L.PERM_W;
const DEVICES = [{ name: "dev1", rid: 0x20, group: 1 }, { name: "dev2", rid: 0x28, group: 2 }, { name: "dev3", rid: 0x29, group: 2 }];
/** Leaves that the guest's table may have: eight pages and one of 2 MiB, by the first page that they translate. */
const SLOTS = [0, 1, 2, 3, 4, 5, 6, 7, 512];

const bytes = (pages: number): bigint => BigInt(pages) << 12n;
type Kind<K extends Step["kind"]> = Extract<Step, { kind: K }>;

export class TreeWorld {
  readonly #devices: readonly ModelDevice[];
  readonly #files = new Map<ModelDevice, VfioDeviceFd>();
  readonly #spaces: ModelSpace[] = [];
  readonly #process = new ModelProcess();
  readonly #spots: readonly number[];
  readonly #sizes: readonly number[];
  readonly #fd: IoasidFd;
  /** Page of the process with the guest's tables, which every space that maps them has at TABLES_AT. */
  readonly #tables: number;

  private constructor(readonly host: SimulatedHost, readonly machine: Machine) {
    this.#spots = spots(machine);
    this.#sizes = sizes(machine);
    this.#tables = MEMORY + 8 * machine.large;
    this.#mapMemory();
    this.#fd = host.open("/dev/ioasid");
    const groups = new Map<number, ModelDevice[]>();
    this.#devices = DEVICES.map(({ name, group }) => {
      const members = groups.get(group) ?? [];
      groups.set(group, members);
      return new ModelDevice(name, members);
    });
    for (const device of this.#devices) {
      const file = host.open(`/dev/vfio/devices/${device.name}`) as VfioDeviceFd;
      file.bindIoasidFd({ ioasidFd: this.#fd });
      this.#files.set(device, file);
    }
  }

  static async create(machine: Machine): Promise<TreeWorld> {
    const options: HostOptions = {
      memory: { ram: 0x10000, arena: 4 << 20 }, slots: 8, routes: 16, domains: 32, ports: { count: 1, iotlbSets: 64, lanes: 16, faults: 16 },
      iommus: [machine.iommu], devices: DEVICES,
    };
    return new TreeWorld(await createHost(options), machine);
  }

  /** Large leaves fit the first part; the second is read-only and the third does not follow the second in host-physical memory. */
  #mapMemory(): void {
    const { unit, large } = this.machine;
    const map = (page: number, pages: number, prot: "r" | "rw", backing: "zero" | "ram"): void => {
      const { hpa } = this.host.process.mmap({ hva: bytes(page), size: bytes(pages), prot, backing });
      this.#process.add(page, pages, hpa, prot === "r" ? L.PERM_R : RW);
    };
    map(MEMORY, 4 * large, "rw", "zero");
    map(MEMORY + 4 * large + 4 * unit, 4 * unit, "rw", "zero");
    map(MEMORY + 4 * large, 4 * unit, "r", "zero");
    map(this.#tables, TABLE_PAGES, "rw", "ram");
    this.#writeChain();
  }

  play(plan: Plan): void {
    this.#begin(plan);
    this.check();
    for (const step of plan.steps) {
      this.#step(step);
      this.check();
    }
    this.#checkAllDirty();
  }

  #begin({ depth, chain, tracked, bound }: Plan): void {
    const { unit, large, nests, tracks } = this.machine;
    for (const [n, { perm, shift, skew, size }] of chain.slice(0, depth).entries()) {
      const space = this.#nest();
      const first = (shift + (n % 2 === 0 ? skew : 0)) * unit;
      const target = (n === 0 ? MEMORY : 0) + (shift + (n % 2 === 0 ? 0 : skew)) * unit;
      // Up to near the border of a large leaf, so that later maps find room; then the guest's tables, which others may keep out.
      const pages = (1 + (size >> 1)) * large - (size & 1) * unit;
      const base = bound ? large : 0;
      this.#map(space, base + first, base + target, pages - 2 * shift * unit, perm, false);
      if (bound) this.#mapTables(space);
      if (tracks && (tracked >> n) & 1) this.#track(space, true);
    }
    if (bound && nests && depth > 0 && depth < MOST_DEPTH) this.#bind(this.#nest(), false);
  }

  /** A child of the newest space, or a root, with all devices. */
  #nest(): ModelSpace {
    this.#alloc(this.#spaces.at(-1), false);
    const space = this.#spaces.at(-1)!;
    for (const device of this.#devices) this.#attach(device, space, false);
    return space;
  }

  #step(step: Step): void {
    switch (step.kind) {
      case "alloc":
        return this.#allocStep(step);
      case "free":
        return this.#onSpace(step.space, (space) => this.#free(space));
      case "map":
        return this.#onSpace(step.space, (space) => this.#mapStep(space, step));
      case "map-tables":
        return this.#onSpace(step.space, (space) => this.#mapTables(space));
      case "unmap":
        return this.#onSpace(step.space, (space) => this.#unmapStep(space, step));
      case "remap":
        return this.#onSpace(step.space, (space) => this.#remap(space, step));
      case "attach":
      case "detach":
        return this.#route(step);
      case "bind":
        return this.#onPicked(step, ({ parent, table, areas, children }) => parent !== undefined && table === undefined && areas.size === 0 && children.size === 0, (space) => this.#bind(space, step.dry));
      case "unbind":
        return this.#onPicked(step, ({ table }) => table !== undefined, (space) => this.#unbind(space));
      case "guest":
        return this.#onPicked(step, ({ table }) => table !== undefined, (space) => this.#guest(space, step));
      case "track":
        return this.#onSpace(step.space, (space) => this.#track(space, step.on));
      case "dirty":
        return this.#onPicked(step, ({ tracks }) => tracks, (space) => this.#getDirty(space, this.#spots[step.at]!, this.#sizes[step.size]!, step.clear));
      case "write":
        return this.#writeStep(step);
    }
  }

  #onSpace(place: number, act: (space: ModelSpace) => void): void {
    if (this.#spaces.length > 0) act(this.#spaces[place % this.#spaces.length]!);
  }

  #onPicked({ pick, wild }: { pick: number; wild: boolean }, sensible: (space: ModelSpace) => boolean, act: (space: ModelSpace) => void): void {
    const choice = this.#spaces.filter((space) => wild || sensible(space));
    if (choice.length > 0) act(choice[pick % choice.length]!);
  }

  /**
   * Makes the call, first as a dry run if there is one: it must be refused exactly if the model says so, and a refused call and
   * a dry one leave everything as it was. Answers what the call answered; undefined when it was refused.
   */
  #call<T>(accepted: boolean, act: () => T, dry?: () => unknown): T | undefined {
    const before = accepted && dry === undefined ? undefined : this.#digest();
    if (dry !== undefined) {
      expect(attempt(dry).refused, "dry run").toBe(!accepted);
      expect(this.#digest()).toEqual(before);
    }
    const { refused, value, error } = attempt(act);
    expect(refused, error?.message).toBe(!accepted);
    if (refused) expect(this.#digest()).toEqual(before);
    return value;
  }

  #digest(): object {
    return hostDigest(this.host, [this.#fd]);
  }

  #allocStep({ parent, dry }: Kind<"alloc">): void {
    if (this.#spaces.length >= MOST_SPACES) return;
    // The last place stands for none.
    const space = this.#spaces[parent % (this.#spaces.length + 1)];
    if ((space?.chain.length ?? 0) < MOST_DEPTH) this.#alloc(space, dry);
  }

  #alloc(parent: ModelSpace | undefined, dry: boolean): void {
    const arg = parent === undefined ? {} : { parent: parent.number };
    const accepted = parent === undefined || (!parent.isPartial && parent.table === undefined);
    const number = this.#call(accepted, () => this.#fd.allocIoasid(arg), dry ? () => this.#fd.allocIoasid({ ...arg, dryRun: true }) : undefined);
    if (number !== undefined) this.#spaces.push(new ModelSpace(number, parent, this.#process));
  }

  #free(space: ModelSpace): void {
    const accepted = space.devices.size === 0 && space.children.size === 0;
    this.#call(accepted, () => this.#fd.free({ ioasid: space.number }));
    if (!accepted) return;
    space.parent?.children.delete(space);
    this.#spaces.splice(this.#spaces.indexOf(space), 1);
  }

  #mapStep(space: ModelSpace, { at, size, to, perm, dry }: Kind<"map">): void {
    const { unit, large } = this.machine;
    // A root's targets are also around the borders of the parts of the process's memory.
    const target = space.parent !== undefined ? this.#spots[to % this.#spots.length]!
      : MEMORY + (to < this.#spots.length ? this.#spots[to]! : 4 * large + (to - this.#spots.length - 1) * 2 * unit);
    this.#map(space, this.#spots[at]!, target, this.#sizes[size]!, perm, dry);
  }

  #map(space: ModelSpace, first: number, target: number, pages: number, perm: number, dry: boolean): void {
    const accepted = space.canMap(first, pages, target, perm) && (perm !== L.PERM_W || space.devices.size === 0 || this.machine.writeOnly);
    const arg = { ioasid: space.number, iova: bytes(first), vaddr: bytes(target), size: bytes(pages), flags: perm };
    this.#call(accepted, () => this.#fd.dmaMap(arg), dry ? () => this.#fd.dmaMap({ ...arg, dryRun: true }) : undefined);
    if (accepted) space.map(first, pages, target, perm);
  }

  #mapTables(space: ModelSpace): void {
    this.#map(space, TABLES_AT, space.parent === undefined ? this.#tables : TABLES_AT, TABLE_PAGES, RW, false);
  }

  #unmapStep(space: ModelSpace, { which, how, at, size }: Kind<"unmap">): void {
    const area = [...space.areas][which % Math.max(1, space.areas.size)];
    const [first, pages] = how === "area" && area !== undefined ? [area.first, area.pages] : [this.#spots[at]!, this.#sizes[size]!];
    this.#unmap(space, how, first, pages);
  }

  /** The same area, perhaps with other rights. */
  #remap(space: ModelSpace, { which, perm }: Kind<"remap">): void {
    const area = [...space.areas][which % Math.max(1, space.areas.size)];
    if (area === undefined) return;
    const { first, pages, target } = area;
    this.#unmap(space, "area", first, pages);
    this.#map(space, first, target, pages, perm, false);
  }

  #unmap(space: ModelSpace, how: Kind<"unmap">["how"], first: number, pages: number): void {
    const areas = how === "all" ? [...space.areas] : space.wholeAreas(first, pages);
    const range = how === "all" ? { flags: 2 } : { iova: bytes(first), size: bytes(pages) };
    const accepted = areas !== undefined && !space.isPartial && space.table === undefined;
    const removed = this.#call(accepted, () => this.#fd.dmaUnmap({ ioasid: space.number, ...range }));
    if (!accepted) return;
    expect(removed!.size).toBe(bytes(areas.reduce((sum, each) => sum + each.pages, 0)));
    space.unmap(areas);
  }

  #route({ kind, device: place, pick, wild, dry }: Kind<"attach" | "detach">): void {
    const device = this.#devices[place % this.#devices.length]!;
    const { attached } = device;
    const sensible = kind === "detach" ? [attached] : this.#spaces.filter(({ parent }) => parent === attached);
    const choice = wild ? this.#spaces : sensible;
    const space = choice[pick % Math.max(1, choice.length)];
    if (space === undefined) return;
    if (kind === "attach") this.#attach(device, space, dry);
    else this.#detach(device, space);
  }

  #attach(device: ModelDevice, space: ModelSpace, dry: boolean): void {
    const { nests, tracks, writeOnly } = this.machine;
    const accepted = device.attached === space.parent && (space.table === undefined || nests) && (!space.recordsWrites || tracks)
      && (writeOnly || [...space.areas].every(({ perm }) => perm !== L.PERM_W));
    const file = this.#files.get(device)!;
    const ioasid = space.number;
    this.#call(accepted, () => file.attachIoasid({ ioasid }), dry ? () => file.attachIoasid({ ioasid, dryRun: true }) : undefined);
    if (!accepted) return;
    device.attached = space;
    space.devices.add(device);
  }

  #detach(device: ModelDevice, space: ModelSpace): void {
    const accepted = device.attached === space;
    this.#call(accepted, () => this.#files.get(device)!.detachIoasid({ ioasid: space.number }));
    if (!accepted) return;
    device.attached = space.parent;
    space.devices.delete(device);
  }

  #bind(space: ModelSpace, dry: boolean): void {
    const { parent, table, areas, children } = space;
    const { guest, nests } = this.machine;
    const accepted = !space.isPartial && parent !== undefined && table === undefined && areas.size === 0 && children.size === 0 && !space.tracks
      && parent.pages.has(TABLES_AT) && (nests || parent.devices.size === 0);
    const arg = { ioasid: space.number, addr: bytes(TABLES_AT), format: guest };
    this.#call(accepted, () => this.#fd.bindPgtable(arg), dry ? () => this.#fd.bindPgtable({ ...arg, dryRun: true }) : undefined);
    if (!accepted) return;
    space.unsettled.clear();
    space.table = this.#referenceTable(parent);
  }

  #unbind(space: ModelSpace): void {
    const accepted = !space.isPartial && space.table !== undefined;
    this.#call(accepted, () => this.#fd.unbindPgtable({ ioasid: space.number }));
    if (accepted) space.table = undefined;
  }

  /** The table as the reference walker reads it, in the parent's addresses: through all spaces above. */
  #referenceTable(parent: ModelSpace): ReferenceDomain {
    const options = guestTable(modelOf(this.#walking()), this.machine.guest, bytes(TABLES_AT));
    if ("reason" in options) throw new Error(options.reason);
    const memory = slotMemory(this.host.engine);
    const { guestRoot, format, levels, width, outputWidth, rule = "zero", accessed = "ignore", dirty = "ignore" } = options;
    const read = (address: bigint): bigint | null => {
      const at: Reached | undefined = parent.translate(address);
      return at && (at.perm & L.PERM_R) !== 0 ? memory(at.hpa) : null;
    };
    return { format, levels, width, outputWidth, rule, accessed, dirty, root: guestRoot!, read };
  }

  /** An IOMMU that takes the guest's format, for those that do not: their bound spaces have no device. */
  #walking(): Machine["iommu"] {
    return this.machine.nests ? this.machine.iommu : { preset: "vtd-scalable", stage: 2 };
  }

  #guestFormat(): { arch: Architecture; encoder: ReturnType<typeof encoderOf> } {
    const format = this.machine.guest.kind === "x86-64" ? L.FORMAT_X86_64 : L.FORMAT_ARM_S1_4K;
    return { arch: architectureOf(format), encoder: encoderOf(format) };
  }

  #writeEntry(table: number, index: number, pte: bigint): void {
    const words = this.host.process.bytes(bytes(this.#tables + table), 4096);
    new DataView(words.buffer, words.byteOffset).setBigUint64(index * 8, pte, true);
  }

  /** Root, two upper tables, and the leaf table that entry 0 of each leads to. Nothing is left for hardware to mark. */
  #writeChain(): void {
    const { arch, encoder } = this.#guestFormat();
    for (const level of [3, 2, 1]) {
      const pte = encoder.table(bytes(TABLES_AT + 4 - level), level, level - 1);
      this.#writeEntry(3 - level, 0, arch.accessedIn === "path" ? arch.setAccessed(pte) : pte);
    }
  }

  #guest(space: ModelSpace, { slot, to, perm, told }: Kind<"guest">): void {
    const page = SLOTS[slot]!;
    const level = page === 512 ? 1 : 0;
    const lg2 = level === 1 ? 21 : 12;
    const { encoder } = this.#guestFormat();
    const address = (bytes(this.#spots[to]!) >> BigInt(lg2)) << BigInt(lg2);
    const leaf = perm === 0 ? 0n : encoder.leaf(level, { address, lg2, perm, user: true, accessed: true, dirty: true });
    this.#writeEntry(level === 1 ? 2 : 3, level === 1 ? 1 : page, leaf);
    for (const each of this.#spaces) if (each.table !== undefined) for (let n = 0; n < 2 ** (lg2 - 12); n++) each.unsettled.add(page + n);
    if (told !== "nothing") this.#invalidate(space, told === "all" ? undefined : [page, 2 ** (lg2 - 12)]);
  }

  #invalidate(space: ModelSpace, range: readonly [first: number, pages: number] | undefined): void {
    const accepted = !space.isPartial && space.table !== undefined;
    const entry = range === undefined ? {} : { granularity: 1, iova: bytes(range[0]), size: bytes(range[1]) };
    this.#call(accepted, () => this.#fd.invalidateCache({ ioasid: space.number, ...entry }));
    if (!accepted) return;
    if (range === undefined) space.unsettled.clear();
    else for (let n = 0; n < range[1]; n++) space.unsettled.delete(range[0] + n);
  }

  #track(space: ModelSpace, enable: boolean): void {
    const accepted = !space.isPartial && space.table === undefined && (this.machine.tracks || space.devices.size === 0);
    this.#call(accepted, () => this.#fd.setDirtyTracking({ ioasid: space.number, enable }));
    if (accepted) space.track(enable);
  }

  #getDirty(space: ModelSpace, first: number, pages: number, clear: boolean): void {
    const accepted = space.tracks && !space.isPartial;
    const arg = { ioasid: space.number, iova: bytes(first), size: bytes(pages), pageSize: 4096, clear };
    const report = this.#call(accepted, () => this.#fd.getDirtyBitmap(arg));
    if (!accepted) return;
    const { bitmap, dirty } = report!;
    const reported = Array.from({ length: pages }, (_none, n) => first + n).filter((page) => (bitmap[(page - first) >> 3]! >> ((page - first) & 7)) & 1);
    expect(reported, `dirty pages of ioasid ${space.number}`).toEqual(space.dirtyPages(first, pages));
    expect(dirty).toBe(reported.length);
    if (clear) for (const page of reported) space.dirty.delete(page);
  }

  /** All that is dirty, for everyone who tracks: not yet cleared, then cleared, then none is left. */
  #checkAllDirty(): void {
    for (const clear of [false, true, true]) {
      for (const space of this.#spaces) if (space.tracks) this.#getDirty(space, 0, 6 * this.machine.large, clear);
    }
  }

  #writeStep({ device, pick }: Kind<"write">): void {
    const choice = this.#devices.filter(({ target }) => target !== undefined);
    if (choice.length > 0) this.#write(choice[device % choice.length]!, pick);
  }

  /** A write by DMA, to a page that permits it if there is one. */
  #write(device: ModelDevice, pick: number): void {
    const space = device.target!;
    const pages = this.#interest(space).filter((page) => !space.unsettled.has(page));
    const writable = pages.filter((page) => ((space.translate(bytes(page))?.perm ?? 0) & L.PERM_W) !== 0);
    const page = (writable.length > 0 ? writable : pages)[pick % (writable.length || pages.length)]!;
    const granted = this.#ask(device, page, L.PERM_W);
    expect(granted).toBe(writable.length > 0 ? space.translate(bytes(page))!.hpa : undefined);
    if (granted === undefined) return;
    const owner = space.table === undefined ? space : space.parent!;
    const at = space.table === undefined ? page : space.outputOf(page);
    if (owner.recordsWrites) owner.wrote(this.#leafAround(owner, at));
  }

  /** The hardware notes writes by leaf. */
  #leafAround(space: ModelSpace, page: number): number[] {
    const [leaf] = this.#engineSpace(space).domain!.leafRuns(bytes(page), 4096n);
    const pages = 2 ** (leaf!.lg2 - 12);
    const first = page - (page % pages);
    return Array.from({ length: pages }, (_none, n) => first + n);
  }

  #engineSpace(space: ModelSpace): ReturnType<IoasidFd["find"]> {
    return this.#fd.find({ name: "probe", fields: new Set() }, space.number);
  }

  /** Where a device's access goes, as its port answers; undefined when it is refused. */
  #ask(device: ModelDevice, page: number, need: number): bigint | undefined {
    const { port, engine } = this.host;
    const { rid } = DEVICES.find(({ name }) => name === device.name)!;
    const iova = bytes(page) + 8n;
    const translated = port.translateHalves(Number(iova & 0xffff_ffffn), Number(iova >> 32n), engine.route(rid), need);
    return translated ? BigInt.asUintN(56, port.result) - 8n : undefined;
  }

  #interest(space: ModelSpace): number[] {
    const pages = new Set(this.#spots.flatMap((page) => [page, page + 1]));
    for (const page of [TABLES_AT - 1, TABLES_AT, TABLES_AT + TABLE_PAGES]) pages.add(page);
    if (space.table === undefined) for (const page of space.borders()) pages.add(page);
    else {
      for (const page of SLOTS) pages.add(page);
      for (const page of [511, 513, 1023, 1024]) pages.add(page);
      for (const page of space.parent!.borders()) pages.add(512 + (page % 512));
    }
    return [...pages];
  }

  check(): void {
    for (const space of this.#spaces) this.#checkSpace(space);
    for (const device of this.#devices) this.#checkDevice(device);
    const charged = this.#spaces.reduce((sum, space) => sum + space.charged, 0);
    expect(this.host.process.locked).toBe(bytes(charged));
  }

  /** Its table, whether or not DMA reaches it now. */
  #checkSpace(space: ModelSpace): void {
    const real = this.#engineSpace(space);
    expect(real.source.charged).toBe(space.charged);
    expect(real.domain !== undefined).toBe(space.devices.size > 0);
    if (!space.isPartial) {
      const { devices, mappings, locked } = this.#fd.getInfo({ ioasid: space.number });
      expect({ devices: [...devices].sort(), mappings, locked }).toEqual({ devices: [...space.devices].map(({ name }) => name).sort(), mappings: space.areas.size, locked: bytes(space.charged) });
    }
    if (real.domain === undefined) return;
    for (const page of this.#interest(space)) {
      const { reason, hpa, perm, leafLg2 } = this.host.engine.walk(real.domain.index, bytes(page), 0);
      const wanted = space.translate(bytes(page));
      const got = reason !== "none" || (perm & RW) === 0 ? undefined : { hpa, perm: perm & RW };
      expect(got, `page ${page} of ioasid ${space.number}`).toEqual(wanted);
      if (got !== undefined && space.parent !== undefined && space.table === undefined) this.#checkLeaf(space, page, leafLg2);
    }
  }

  /** A leaf of a shadow lies in one leaf of the parent's table. */
  #checkLeaf(space: ModelSpace, page: number, lg2: number): void {
    const parent = this.#engineSpace(space.parent!).domain!;
    const { leafLg2 } = this.host.engine.walk(parent.index, bytes(space.pages.get(page)!.target), 0);
    expect(lg2, `leaf of page ${page} of ioasid ${space.number}`).toBeLessThanOrEqual(leafLg2);
  }

  /** Reads, and writes where they leave no trace, by every device. */
  #checkDevice(device: ModelDevice): void {
    const { target } = device;
    const real = this.host.devices().find(({ name }) => name === device.name)!;
    expect([real.attached?.number, real.routed?.number]).toEqual([device.attached?.number, target?.number]);
    const needs = this.#spaces.some(({ tracks }) => tracks) ? [L.PERM_R] : [L.PERM_R, L.PERM_W];
    for (const page of target === undefined ? this.#spots : this.#interest(target)) {
      if (target?.unsettled.has(page)) continue;
      const wanted = target?.translate(bytes(page));
      for (const need of needs) {
        const hpa = wanted !== undefined && (wanted.perm & need) === need ? wanted.hpa : undefined;
        expect(this.#ask(device, page, need), `${device.name}, page ${page}, access ${need}`).toBe(hpa);
      }
    }
  }
}

function attempt<T>(call: () => T): { refused: boolean; value?: T; error?: IoctlError } {
  try {
    return { refused: false, value: call() };
  } catch (error) {
    if (error instanceof IoctlError) return { refused: true, error };
    throw error;
  }
}
