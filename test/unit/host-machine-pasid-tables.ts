// The guest's tables of a host machine: the guest writes page tables and PASID tables, these are bound and taken away, and what has changed is
// said. The rule that the machine keeps for its guest: what DMA could go by is invalidated once it reads differently, in any of the ways that there
// are; until then DMA may go by what was there or by what is there, and by nothing else. What DMA could not go by is not invalidated. Imports the
// calls of the machine, and the models.
import { expect } from "vitest";
import {
  IOASID_CACHE_IOTLB, IOASID_CACHE_PASID, IOASID_INVALIDATE_PASID, IOASID_INVALIDATE_RANGE, type IoasidFd, type PasidTableFormat,
} from "../../src/index.js";
import { PERM_R } from "../../src/engine/layout.js";
import type { ErrnoName } from "../../src/uapi/errno.js";
import { invalidate, type InvalidationPlan } from "../oracle/host-invalidation.js";
import { type HostDevice, type HostFile, type HostModel, HostSpace, MOST_PASID_BITS, type PasidTablePlan } from "../oracle/host-model.js";
import type { ValidReading } from "../oracle/host-pasid-table.js";
import type { ModelProcess } from "../oracle/space-tree.js";
import type { MachineFaults } from "./host-machine-faults.js";
import { GUEST_PASIDS, type MachineGuest } from "./host-machine-guest.js";

/** What this has of the machine. */
export interface MachineCalls {
  readonly model: HostModel;
  readonly process: ModelProcess;
  readonly guest: MachineGuest;
  readonly faults: MachineFaults;
  readonly files: ReadonlyMap<HostFile, IoasidFd>;
  call<T>(errnos: readonly ErrnoName[], act: () => T): { done: true; value: T } | { done: false; value: undefined };
  /** Where a page leads for an access. */
  ask(device: HostDevice, pasid: number | undefined, page: number, need: number): bigint | undefined;
}

/** An entry that is invalidated: of a space with a PASID table. */
interface Entry {
  readonly space: HostSpace;
  readonly pasid: number;
}

interface Held extends Entry {
  readonly reading: ValidReading;
}

const PAGES = [0, 1, 5];
const FIRST_PAGE = { iova: 0n, size: 4096n };

export class MachinePasidTables {
  readonly #machine: MachineCalls;
  /** Entries that were invalidated while they were in force. */
  changed = 0;

  constructor(machine: MachineCalls) {
    this.#machine = machine;
  }

  bind(file: HostFile, ioasid: number, plan: PasidTablePlan): void {
    const arg = { ioasid, addr: plan.addr, format: formatOf(plan) };
    if (!this.#call(this.#machine.model.bindPasidTable(file, ioasid, plan), (fd) => fd.bindPasidTable(arg), file).done) return;
    const space = file.spaces.get(ioasid)!;
    space.pasidTable = this.#tableOf(space.parent!, plan);
  }

  alloc(file: HostFile, parent: number, plan: PasidTablePlan, pageRequests: boolean | undefined): void {
    const arg = { parent, addr: plan.addr, format: formatOf(plan), ...(pageRequests !== undefined && { pageRequests }) };
    const { done, value } = this.#call(this.#machine.model.allocPasidTable(file, parent, plan), (fd) => fd.allocIoasidPasidTable(arg), file);
    if (!done) return;
    const above = file.spaces.get(parent)!;
    const space = new HostSpace(file, value!, above, this.#machine.process, pageRequests);
    space.pasidTable = this.#tableOf(above, plan);
    file.spaces.set(value!, space);
  }

  async unbind(file: HostFile, ioasid: number): Promise<void> {
    if (!this.#call(this.#machine.model.unbindPasidTable(file, ioasid), (fd) => fd.unbindPasidTable({ ioasid }), file).done) return;
    const space = file.spaces.get(ioasid)!;
    space.pasidTable = undefined;
    await this.#machine.faults.unbound(space);
  }

  /** Any invalidation, needed or not. */
  invalidate(file: HostFile, ioasid: number, plan: InvalidationPlan): void {
    this.#call(invalidate(this.#machine.model, file, ioasid, plan), (fd) => fd.invalidateCache({ ioasid, ...plan }), file);
  }

  /** Does what may change what entries say, and says so where DMA could go by them. */
  changing<T>(way: number, act: () => T): T {
    const before = [...this.#spaces()].flatMap((space) => GUEST_PASIDS.flatMap((pasid): Held[] => {
      const reading = space.pasidTable!.valid(pasid);
      return reading === undefined ? [] : [{ space, pasid, reading }];
    }));
    const value = act();
    const differ = before.filter(({ space, pasid, reading }) => !isSame(space.pasidTable!.valid(pasid), reading));
    for (const each of differ) this.#checkUnsettled(each);
    this.#invalidateEntries(differ, way);
    this.changed += differ.filter(({ space }) => this.#devicesOf(space).length > 0).length;
    return value;
  }

  /**
   * The guest changes a page of a page table, and says so wherever DMA may go by it: not, perhaps, if nothing was there before, nor where a
   * PASID table has all the DMA and is told.
   */
  writePage(chain: number, page: number, to: number | undefined, perm: number, way: number): void {
    const { guest, model } = this.#machine;
    const was = guest.lead(chain, page, to, perm);
    if (!was && way % 16 >= 8) return;
    const range = { granularity: IOASID_INVALIDATE_RANGE, iova: BigInt(page) << 12n, size: 4096n };
    for (const { spaces } of model.files) {
      for (const space of spaces.values()) {
        if (space.pasidTable !== undefined) this.#pageChanged(space, range, way);
        else if (space.table !== undefined && (way % 32 < 8 || model.leadsDma(space))) this.#say(space, way % 2 === 1 ? range : {});
      }
    }
  }

  #pageChanged(space: HostSpace, range: InvalidationPlan, way: number): void {
    if (way % 4 === 3) return this.#say(space, {});
    for (const pasid of GUEST_PASIDS) {
      if (space.pasidTable!.valid(pasid)?.kind !== "stage1") continue;
      const tracker = way % 8 >= 4 ? this.#trackerOf({ space, pasid }) : undefined;
      const whole = { granularity: IOASID_INVALIDATE_PASID, pasid, caches: IOASID_CACHE_IOTLB };
      if (tracker !== undefined) this.#say(tracker, [range, { ...range, pasid }, whole][way % 3]!);
      else this.#say(space, way % 4 === 0 ? whole : { ...range, pasid });
    }
  }

  /** Not invalidated yet: what was read before, or what is there now. */
  #checkUnsettled({ space, pasid, reading }: Held): void {
    for (const device of this.#devicesOf(space)) {
      const now = device.leading(pasid);
      for (const page of PAGES) {
        const iova = BigInt(page) << 12n;
        const legal = [space.pasidTable!.follow(reading, iova), now(iova)]
          .map((reached) => (reached !== undefined && (reached.perm & PERM_R) !== 0 ? reached.hpa : undefined));
        expect(legal, `${device.name}, PASID ${pasid}, page ${page}, before its entry is invalidated`).toContain(this.#machine.ask(device, pasid, page, PERM_R));
      }
    }
  }

  #invalidateEntries(entries: readonly Entry[], way: number): void {
    const spaces = new Set(entries.map(({ space }) => space));
    for (const space of spaces) {
      const pasids = entries.filter((each) => each.space === space).map(({ pasid }) => pasid);
      if (way % 8 === 0) this.#say(space, {});
      else if (way % 8 === 1) this.#sayAll(space, pasids.map((pasid) => ({ granularity: IOASID_INVALIDATE_PASID, pasid })));
      else for (const pasid of pasids) this.#invalidateEntry({ space, pasid }, way % 8);
    }
  }

  #invalidateEntry(entry: Entry, way: number): void {
    const { space, pasid } = entry;
    const one = { granularity: IOASID_INVALIDATE_PASID, pasid };
    const range = { granularity: IOASID_INVALIDATE_RANGE, ...FIRST_PAGE, caches: IOASID_CACHE_PASID | IOASID_CACHE_IOTLB };
    const tracker = way >= 5 ? this.#trackerOf(entry) : undefined;
    if (tracker !== undefined) this.#say(tracker, [{}, one, range][way - 5]!);
    else this.#say(space, [{ ...one, caches: IOASID_CACHE_PASID }, { ...range, pasid }, one][way % 3]!);
  }

  /** A space that is attached with the PASID beside the PASID table. */
  #trackerOf({ space, pasid }: Entry): HostSpace | undefined {
    return this.#devicesOf(space).flatMap(({ pasids }) => pasids.get(pasid) ?? [])[0];
  }

  /** An invalidation that must be taken. */
  #say({ file, number: ioasid }: HostSpace, plan: InvalidationPlan): void {
    expect(this.#call([], (fd) => fd.invalidateCache({ ioasid, ...plan }), file).value!.handled).toBe(1);
  }

  #sayAll({ file, number: ioasid }: HostSpace, entries: readonly InvalidationPlan[]): void {
    expect(this.#call([], (fd) => fd.invalidateCache({ ioasid, entries }), file).value!.handled).toBe(entries.length);
  }

  #devicesOf(space: HostSpace): HostDevice[] {
    return this.#machine.model.devices.filter(({ target }) => target === space);
  }

  *#spaces(): Generator<HostSpace> {
    for (const { spaces } of this.#machine.model.files) for (const space of spaces.values()) if (space.pasidTable !== undefined) yield space;
  }

  #tableOf(parent: HostSpace, { addr, pasidBits = MOST_PASID_BITS }: PasidTablePlan) {
    return this.#machine.guest.pasidTable(parent, addr, pasidBits);
  }

  #call<T>(errnos: readonly ErrnoName[], act: (fd: IoasidFd) => T, file: HostFile) {
    return this.#machine.call(errnos, () => act(this.#machine.files.get(file)!));
  }
}

function formatOf({ pasidBits }: PasidTablePlan): PasidTableFormat {
  return { kind: "vtd-scalable", ...(pasidBits !== undefined && { pasidBits }) };
}

function isSame(a: ValidReading | undefined, b: ValidReading): boolean {
  if (a === undefined || a.kind !== b.kind) return false;
  return a.kind === "pass" || (b.kind === "stage1" && a.root === b.root && a.levels === b.levels);
}
