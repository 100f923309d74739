// A random state machine over the objects of a host and their calls, sensible and not: fds, devices physical and mediated, spaces,
// maps, guests' page tables and PASID tables, PASIDs, a VM. After every step the host is as its model.
import fc from "fast-check";
import { expect, it } from "vitest";
import { expectNoLeaks } from "../oracle/frame-leaks.js";
import { liveDomains } from "../oracle/engine-state.js";
import { checkTouched } from "../oracle/instrument.js";
import type { HostAccess } from "../oracle/host-faults.js";
import type { InvalidationPlan } from "../oracle/host-invalidation.js";
import type { HostDevice, HostFile, HostModel, PasidTablePlan } from "../oracle/host-model.js";
import { DIRECTORY_AT, ENTRY_KINDS, GOOD_ENTRIES, GUEST_PASIDS, POINTER_KINDS, TABLE_AREAS, TABLES_AT } from "./host-machine-guest.js";
import { HostMachine, PASIDS, RW } from "./host-machine.js";

const RUNS = process.env["IOASID_TEST"] === "long" ? 10_000 : 80;

type Act = (machine: HostMachine, pick: Picker) => unknown;

/** Turns the numbers of a step into what is there when it is played. */
class Picker {
  constructor(private readonly model: HostModel, private readonly numbers: readonly number[]) {}

  number(n: number, below: number): number {
    return this.numbers[n]! % below;
  }

  one<T>(n: number, list: readonly T[]): T {
    return list[this.number(n, list.length)]!;
  }

  get devices() {
    return this.model.devices;
  }

  device() {
    return this.one(0, this.devices);
  }

  file(n = 1): HostFile {
    return this.one(n, this.model.files);
  }

  /** The number of a space of the file; now and then one that is none. */
  ioasid(file: HostFile | undefined, n = 2): number {
    const numbers = [...(file?.spaces.keys() ?? [])];
    return this.numbers[n]! % 16 === 15 || numbers.length === 0 ? this.number(n, 12) : this.one(n, numbers);
  }

  /** Whether DMA in a space asks for pages. */
  requests(): boolean | undefined {
    return [undefined, true, false, undefined][this.number(5, 4)];
  }

  /** A cookie that waits, mostly, or was answered, or never was. */
  cookie({ faults: { cookies: { waiting, answered } } }: HostMachine): number {
    const kind = this.number(2, 8);
    if (kind === 7) return 1_000_000;
    const list = kind === 6 || waiting.length === 0 ? answered : waiting;
    return list.length === 0 ? 0 : this.one(3, list);
  }

  /** A page of the guest's page tables; to undefined: it leads nowhere. */
  lead(): readonly [chain: number, page: number, to: number | undefined, perm: number] {
    return [this.number(1, 2), this.one(2, [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7]), this.number(3, 4) === 0 ? undefined : this.number(3, 8), this.number(4, 2) === 0 ? RW : 1];
  }

  /** Mostly the guest's own table; now and then where none can be, or of as many PASIDs as none has. */
  pasidTable(): PasidTablePlan {
    const odd = this.number(3, 16);
    const addr = odd === 15 ? DIRECTORY_AT + 8n : odd === 14 ? 0x300000n : DIRECTORY_AT;
    return { addr, pasidBits: this.one(4, [undefined, 20, 13, 13, 14, 14, 14, 13, 13, 16, 16, 20, 21, 12]) };
  }

  /** Mostly a legal one for some space. */
  invalidation(): InvalidationPlan {
    const pasid = this.one(3, [...GUEST_PASIDS, ...PASIDS]);
    const range = { granularity: 1, iova: 0n, size: 0x8000n };
    const plans: InvalidationPlan[] = [
      {}, range, { ...range, pasid }, { ...range, pasid, caches: 5 }, { granularity: 2, pasid }, { granularity: 2, pasid, caches: this.number(5, 9) },
      { pasid }, { granularity: 2 }, { granularity: 2, pasid: this.one(5, [63, 64, 0x1000, 2 ** 20]) }, { granularity: 3 }, { granularity: 2, pasid, iova: 0n },
    ];
    return this.one(4, plans);
  }

  /** None as often as any; now and then no PASID at all. */
  pasid(n = 3): number | undefined {
    const at = this.numbers[n]!;
    return at % 32 === 31 ? [0, 2 ** 20][at % 2] : [undefined, undefined, ...PASIDS][at % 5];
  }
}

const MOST_FILES = 3;
const MOST_SPACES = 8;

const ACTS: Readonly<Record<string, { readonly weight: number; readonly act: Act }>> = {
  open: { weight: 1, act: (machine) => machine.model.files.length < MOST_FILES && machine.open() },
  close: { weight: 1, act: (machine, pick) => pick.number(4, 8) === 0 && machine.close(pick.file()) },
  bind: { weight: 4, act: (machine, pick) => machine.bind(pick.device(), pick.file()) },
  unbind: { weight: 1, act: (machine, pick) => machine.unbind(pick.device()) },
  alloc: { weight: 4, act: (machine, pick) => pick.file().spaces.size < MOST_SPACES && machine.alloc(pick.file(), undefined, pick.requests()) },
  nest: { weight: 4, act: (machine, pick) => pick.file().spaces.size < MOST_SPACES && machine.alloc(pick.file(), pick.ioasid(pick.file()), pick.requests()) },
  free: { weight: 1, act: (machine, pick) => machine.free(pick.file(), pick.ioasid(pick.file())) },
  map: {
    weight: 6,
    act: (machine, pick) => machine.map(pick.file(), pick.ioasid(pick.file()), pick.number(3, 8), 1 + pick.number(4, 4), pick.number(5, 9), 1 + pick.number(6, 3)),
  },
  mapTables: { weight: 4, act: (machine, pick) => machine.mapTables(pick.file(), pick.ioasid(pick.file()), pick.number(3, 2)) },
  unmap: { weight: 2, act: (machine, pick) => machine.unmap(pick.file(), pick.ioasid(pick.file()), pick.number(3, 8), 1 + pick.number(4, 8), pick.number(5, 64)) },
  unmapTables: {
    weight: 1,
    act: (machine, pick) => {
      const [first, pages] = pick.one(3, TABLE_AREAS);
      return machine.unmap(pick.file(), pick.ioasid(pick.file()), TABLES_AT + first, pages, pick.number(5, 64));
    },
  },
  bindTable: { weight: 3, act: (machine, pick) => machine.bindTable(pick.file(), pick.ioasid(pick.file()), pick.number(3, 2)) },
  allocTable: {
    weight: 2,
    act: (machine, pick) => pick.file().spaces.size < MOST_SPACES && machine.allocTable(pick.file(), pick.ioasid(pick.file()), pick.number(3, 2), pick.requests()),
  },
  bindPasidTable: { weight: 3, act: (machine, pick) => machine.pasidTables.bind(pick.file(), pick.ioasid(pick.file()), pick.pasidTable()) },
  allocPasidTable: {
    weight: 3,
    act: (machine, pick) => pick.file().spaces.size < MOST_SPACES && machine.pasidTables.alloc(pick.file(), pick.ioasid(pick.file()), pick.pasidTable(), pick.requests()),
  },
  unbindPasidTable: { weight: 1, act: (machine, pick) => machine.pasidTables.unbind(pick.file(), withPasidTable(pick)) },
  guestEnters: {
    weight: 12,
    act: (machine, pick) => {
      const kind = pick.number(4, 4) === 3 ? pick.number(5, ENTRY_KINDS) : pick.number(5, GOOD_ENTRIES);
      return machine.pasidTables.changing(pick.number(6, 64), () => machine.guest.enter(pick.one(3, GUEST_PASIDS), kind));
    },
  },
  guestPoints: {
    weight: 1,
    act: (machine, pick) => machine.pasidTables.changing(pick.number(6, 64), () => machine.guest.point(pick.number(3, 2), pick.number(4, 2) * pick.number(5, POINTER_KINDS))),
  },
  watch: { weight: 3, act: (machine, pick) => machine.watches.begin(pick.file(), withPasidTable(pick)) },
  scan: { weight: 8, act: (machine, pick) => machine.watches.scan(pick.number(2, 4)) },
  invalidate: { weight: 3, act: (machine, pick) => machine.pasidTables.invalidate(pick.file(), pick.ioasid(pick.file()), pick.invalidation()) },
  unbindTable: { weight: 1, act: (machine, pick) => machine.unbindTable(pick.file(), pick.ioasid(pick.file())) },
  guestWrites: { weight: 8, act: (machine, pick) => machine.pasidTables.writePage(...pick.lead(), pick.number(5, 64)) },
  attach: { weight: 10, act: (machine, pick) => machine.attach(pick.device(), pick.ioasid(pick.device().file), pick.pasid()) },
  detach: { weight: 8, act: (machine, pick) => machine.detach(pick.device(), attachedOr(pick), pick.pasid()) },
  read: { weight: 24, act: (machine, pick) => machine.faults.start(accessOf(pick)) },
  respond: {
    weight: 16,
    act: (machine, pick) => {
      const cookie = pick.cookie(machine);
      const there = machine.faults.fileOf(cookie);
      return machine.faults.respond(there === undefined || pick.number(4, 8) === 0 ? pick.file() : there, cookie, pick.one(5, [0, 0, 0, 0, 0, 1, 2, 3]));
    },
  },
  bring: { weight: 6, act: (machine, pick) => machine.bring(pick.number(2, 16), pick.number(3, 8)) },
  respondRange: {
    weight: 4,
    act: (machine, pick) => machine.faults.respondRange(pick.file(), pick.ioasid(pick.file()), {
      first: pick.number(4, 8), pages: 1 + pick.number(5, 8), code: pick.one(6, [0, 0, 1, 2]), pasid: pick.one(3, [undefined, undefined, ...PASIDS]),
    }),
  },
  reopen: { weight: 1, act: (machine, pick) => pick.number(4, 4) === 0 && machine.reopen(pick.device()) },
  kvmMap: { weight: 3, act: (machine, pick) => machine.kvmMap(pick.file(), pick.ioasid(pick.file()), pick.pasid() ?? 1) },
  kvmUnmap: { weight: 1, act: (machine, pick) => machine.kvmUnmap(pick.pasid() ?? 1) },
};

/** Mostly where the device is attached. */
function attachedOr(pick: Picker): number {
  const { target: attached, pasids, file } = pick.device();
  const pasid = pick.pasid();
  const there = pasid === undefined ? attached?.number : pasids.get(pasid)?.number;
  return pick.number(4, 4) === 0 ? pick.ioasid(file) : there ?? pick.ioasid(file);
}

/** Mostly a space that has a PASID table. */
function withPasidTable(pick: Picker): number {
  const file = pick.file();
  const there = [...file.spaces.values()].filter(({ pasidTable }) => pasidTable !== undefined);
  return there.length === 0 || pick.number(3, 8) === 0 ? pick.ioasid(file) : pick.one(2, there).number;
}

/** Mostly of a device that is attached, as it is: others are refused and no more. No PASID that is none, which views do not take. */
function accessOf(pick: Picker): HostAccess {
  const attached = pick.devices.filter((device) => device.attached !== undefined || device.pasids.size > 0);
  const device = attached.length === 0 || pick.number(1, 8) === 0 ? pick.device() : pick.one(0, attached);
  const entries = device.pasidTable === undefined ? [] : GUEST_PASIDS.filter((pasid) => pasid > 0);
  const known = [...(device.attached === undefined ? [] : [undefined]), ...device.pasids.keys(), ...entries];
  const pasid = known.length === 0 || pick.number(2, 8) === 0 ? pick.one(3, [undefined, ...PASIDS]) : pick.one(3, known);
  return { device, pasid, first: pick.number(4, 8), pages: 1 + pick.number(5, 3), need: 1 + pick.number(6, 2) };
}

class Step implements fc.AsyncCommand<object, HostMachine> {
  constructor(readonly name: string, readonly numbers: readonly number[]) {}

  check(): boolean {
    return true;
  }

  async run(_model: object, machine: HostMachine): Promise<void> {
    await ACTS[this.name]!.act(machine, new Picker(machine.model, this.numbers));
    machine.check();
  }

  toString(): string {
    return `${this.name}(${this.numbers.join()})`;
  }
}

const steps = Object.entries(ACTS).flatMap(([name, { weight }]) =>
  Array.from({ length: weight }, () => fc.array(fc.nat(0xffff), { minLength: 7, maxLength: 7 }).map((numbers) => new Step(name, numbers))));

/**
 * What most users begin with: devices bound, a root that all are attached to, a child of it with a guest's table. From 4 on both spaces
 * ask for pages, whatever they hold; at 5 the child has maps instead. From 6 on physical devices are attached to a PASID table, from 8 on
 * beside a space that has a page table; what asks for pages differs; at 9 the two have different parents,
 * at 10 the second device goes by the page table alone.
 */
function prelude(machine: HostMachine, depth: number): void {
  const { devices, files: [file] } = machine.model;
  for (const device of devices.slice(0, depth > 0 ? devices.length : 0)) machine.bind(device, file!);
  if (depth > 5) return preludeOfPasids(machine, depth);
  for (let n = 0; n + 1 < Math.min(depth, 3); n++) {
    machine.alloc(file!, n === 0 ? undefined : 1, depth > 3 ? true : undefined);
    if (n === 0) preludeOfRoot(machine, 8);
    for (const device of devices.slice(n)) machine.attach(device, n + 1, undefined);
    if (n === 1 && depth < 5) machine.bindTable(file!, 2, 0);
    // Of some pages the parent lacks what they stand for.
    if (n === 1 && depth === 5) machine.map(file!, 2, 0, 6, 4, RW);
  }
}

/** Half of them with a PASID table. */
const preludes = fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10);

function preludeOfRoot(machine: HostMachine, pages: number): void {
  const [file] = machine.model.files;
  machine.map(file!, 1, 0, pages, 0, RW);
  for (const area of TABLE_AREAS.keys()) machine.mapTables(file!, 1, area);
}

function preludeOfPasids(machine: HostMachine, depth: number): void {
  const { devices, files: [file] } = machine.model;
  const physical = devices.filter(({ traits }) => traits.identical);
  machine.alloc(file!, undefined, depth === 7 ? true : undefined);
  // Entries, and what they let through, lead to pages beyond.
  preludeOfRoot(machine, 5);
  for (const device of devices) machine.attach(device, 1, undefined);
  GUEST_PASIDS.forEach((pasid, n) => machine.guest.enter(pasid, n % GOOD_ENTRIES));
  for (const page of [0, 1, 2]) for (const chain of [0, 1]) machine.pasidTables.writePage(chain, page, page + 2 * chain, RW, 0);
  const parent = depth === 9 ? preludeOfMiddle(machine, physical) : 1;
  const [first, ...others] = physical;
  const alone = depth === 10 ? others : [];
  if (depth > 7) {
    machine.allocTable(file!, 1, 1, depth === 10 ? false : undefined);
    for (const device of physical) machine.attach(device, parent + 1, alone.includes(device) ? undefined : PASIDS[0]);
    // DMA goes by it before there is the PASID table.
    machine.check();
  }
  const number = depth > 7 ? parent + 2 : parent + 1;
  machine.pasidTables.alloc(file!, parent, { addr: DIRECTORY_AT, pasidBits: 13 }, [undefined, true, undefined, false, undefined][depth - 6]);
  machine.watches.begin(file!, number);
  for (const device of alone.length > 0 ? [first!] : physical) machine.attach(device, number, undefined);
}

/** A child of the root that has less. */
function preludeOfMiddle(machine: HostMachine, devices: readonly HostDevice[]): number {
  const [file] = machine.model.files;
  machine.alloc(file!, 1);
  machine.map(file!, 2, 0, 3, 0, RW);
  for (const area of TABLE_AREAS.keys()) machine.mapTables(file!, 2, area);
  for (const device of devices) machine.attach(device, 2, undefined);
  return 2;
}

it("answers every call as its model does, translates as it does, and keeps nothing once all is closed", { timeout: 3_600_000 }, async () => {
  const sums = { carriedOut: 0, asked: 0, throughTables: 0, changed: 0, told: 0 };
  await fc.assert(fc.asyncProperty(preludes, fc.commands(steps, { maxCommands: 60, size: "max" }), async (depth, commands) => {
    const machine = await HostMachine.create();
    prelude(machine, depth);
    await fc.asyncModelRun(() => ({ model: {}, real: machine }), commands);
    sums.carriedOut += machine.carriedOut;
    sums.asked += machine.faults.asked;
    sums.throughTables += machine.faults.throughTables;
    sums.changed += machine.pasidTables.changed;
    sums.told += machine.watches.told;
    for (const file of machine.model.files) if (!file.closed) await machine.close(file);
    machine.check();
    expect([expectNoLeaks(machine.host.engine), machine.host.engine.framesUsed, liveDomains(machine.host.engine)]).toEqual([0, 0, []]);
    // In full, and nothing of this host is kept for the end.
    checkTouched();
  }), { numRuns: RUNS });
  // Random calls are worth nothing when all of them are refused.
  expect(sums.carriedOut).toBeGreaterThan(RUNS * 8);
  expect(sums.asked).toBeGreaterThan(RUNS / 4);
  expect(sums.throughTables).toBeGreaterThan(RUNS / 8);
  expect(sums.changed).toBeGreaterThan(RUNS / 4);
  expect(sums.told).toBeGreaterThan(RUNS / 8);
});
