// A digest of the whole state of a host: plain data, equal for two states that no user, no device and no later call can tell apart.
// May import the library and the other oracles. Ranges are inclusive, first..last.
//
// Left out, because a refused call may use it up without harm: the engine's numbers (domains and IOTLB ids appear as the ioasid
// that they belong to, routes as requester ids), routes that block (a pair without a route is blocked too), the order of free
// frames and those in limbo, counters and fault records of ports, numbers that the next ioasid, label or fd would get. How often
// a page is pinned shows in the number of runs only.
import type { SimulatedHost } from "../../src/create-host.js";
import * as L from "../../src/engine/layout.js";
import type { Device } from "../../src/uapi/device.js";
import { IoctlError } from "../../src/uapi/errno.js";
import { FAULT_RECORD_BYTES } from "../../src/uapi/fault-ring-layout.js";
import { PasidDomain } from "../../src/iommu/pasid-domain.js";
import type { Ioasid } from "../../src/uapi/ioasid.js";
import type { IoasidFd } from "../../src/uapi/ioasid-fd.js";
import type { Area } from "../../src/uapi/map-source.js";
import type { Pins } from "../../src/uapi/pins.js";
import { covers, dropsSince, header, idOwners, liveDomains, openPorts, OracleError, type EngineView, type LiveDomain } from "./engine-state.js";
import { expectNoLeaks } from "./frame-leaks.js";
import { readU32, readU64 } from "./memory-words.js";

const PROBE = { name: "probe", fields: new Set<string>() };
/** ioasids are numbered from 1 up; scenarios make fewer. */
const LAST_IOASID = 24;
/** Pages of a process are below this. */
const PAGES = 2 ** 52;
const LAST_PAGE = PAGES - 1;
const WAYS = 4;

/** Everything that can be told from outside, of these ioasid fds and of the machine. Two digests are compared with toEqual. */
export function hostDigest(host: SimulatedHost, fds: Iterable<IoasidFd>): object {
  const { engine, process } = host;
  const files = [...fds];
  const spaces = new Map(files.flatMap((fd) => spacesOf(fd).map((space) => [space, `${fd.number}:${space.number}`])));
  const nameOf = (space: Ioasid | undefined): string | undefined => space && (spaces.get(space) ?? "unknown");
  const owners = new Map([...spaces].flatMap(([{ domain }, name]) => (domain === undefined || domain instanceof PasidDomain ? [] : [[domain.index, name]])));
  const domains = liveDomains(engine);
  const ownerOf = (index: number): string => owners.get(index) ?? "nobody";
  return {
    files: files.map((fd) => ({ fd: fd.number, closed: fd.closed, devices: [...fd.devices].map(({ name }) => name).sort(), faults: faultsOf(fd) })),
    spaces: [...spaces].map(([space, name]) => ({ name, ...spaceDigest(space, nameOf) })),
    devices: host.devices().map((device) => deviceDigest(device, nameOf)),
    locked: process.account.pages,
    domains: domains.map((domain) => ({ owner: ownerOf(domain.index), ...domainDigest(host, domain, ownerOf) })).sort(byText),
    tables: expectNoLeaks(engine),
    routes: routesOf(engine, ownerOf),
    slots: slotsOf(engine),
    iotlb: iotlbOf(engine, domains, ownerOf),
  };
}

/** Groups that wait for an answer, and what is unread. What a call finds reported when it begins is there before it. */
function faultsOf({ faults: { ring, pending, dropped } }: IoasidFd): object {
  const unread = Array.from({ length: ring.head - ring.tail }, (_none, n) => {
    const at = ((ring.tail + n) % ring.depth) * FAULT_RECORD_BYTES;
    return Array.from({ length: FAULT_RECORD_BYTES / 8 }, (_word, word) => ring.getBigUint64(at + word * 8));
  });
  return { pending, dropped, unread };
}

const textOf = (value: unknown): string => JSON.stringify(value, (_key, each: unknown) => (typeof each === "bigint" ? each.toString(16) : each));
const byText = (a: unknown, b: unknown): number => (textOf(a) < textOf(b) ? -1 : 1);

/** Where two digests differ first, with both values; undefined when they are equal. */
export function differenceOf(before: unknown, after: unknown, path = "state"): string | undefined {
  if (typeof before !== "object" || typeof after !== "object" || before === null || after === null) {
    return Object.is(before, after) ? undefined : `${path}: ${textOf(before)} is now ${textOf(after)}`;
  }
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  for (const key of keys) {
    const difference = differenceOf(Reflect.get(before, key), Reflect.get(after, key), `${path}.${key}`);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

/** The ioasids of an fd, found by asking for them. */
export function spacesOf(fd: IoasidFd): Ioasid[] {
  const spaces: Ioasid[] = [];
  for (let number = 1; number <= LAST_IOASID; number++) {
    try {
      spaces.push(fd.find(PROBE, number));
    } catch (error) {
      if (!(error instanceof IoctlError)) throw error;
    }
  }
  if (spaces.at(-1)?.number === LAST_IOASID) throw new OracleError(`fd ${fd.number} may have ioasids above ${LAST_IOASID}, which are not looked at`);
  return spaces;
}

function spaceDigest(space: Ioasid, nameOf: (space: Ioasid | undefined) => string | undefined): object {
  const { kind, parent, children, devices, areas, dependents, dirty, pgtable, pasidTable, limits, source, context } = space;
  const areaOf = (area: Area): object => ({ space: nameOf(area.space), first: area.first, last: area.last, target: area.target, perm: area.perm });
  return {
    kind, parent: nameOf(parent), children: [...children].map(nameOf).sort(), devices: [...devices].map(({ name }) => name).sort(),
    areas: [...areas].map(({ first, last, value }) => ({ first, last, area: areaOf(value) })),
    dependents: dependents.overlapping(0, LAST_PAGE).map(({ first, last, value }) => ({ first, last, area: areaOf(value) })).sort(byText),
    dependentsSize: dependents.size,
    dirty: { enabled: dirty.enabled, runs: dirty.pages.within(0, LAST_PAGE), pages: dirty.pages.pages },
    pgtable: structuredClone(pgtable), pasidTable: structuredClone(pasidTable), pageRequests: space.pageRequests, ready: readiness(space),
    hasTable: space.domain !== undefined,
    limits: { width: limits.width, granule: limits.granulePages, reserved: limits.reserved },
    charged: source.charged, pins: source.pins && pinsDigest(source.pins),
    tracking: context.tracking, registered: { inUse: context.registered.inUse, charged: context.registered.charged },
  };
}

/** What commands on it are answered: groups, and the rule of `strictAttach`. */
function readiness(space: Ioasid): string {
  try {
    space.requireReady(PROBE);
    return "ready";
  } catch (error) {
    return (error as Error).message;
  }
}

function pinsDigest(pins: Pins): object {
  const ranges: { first: number; last: number }[] = [];
  const visit = (first: number, last: number): void => {
    const fresh = pins.countFresh(first, last);
    if (fresh === last - first + 1) return;
    if (fresh > 0) {
      const middle = first + Math.floor((last - first) / 2);
      visit(first, middle);
      visit(middle + 1, last);
      return;
    }
    const before = ranges.at(-1);
    if (before?.last === first - 1) before.last = last;
    else ranges.push({ first, last });
  };
  visit(0, LAST_PAGE);
  return { ranges, runs: pins.runs, charged: pins.charged };
}

function deviceDigest({ name, binding, chain, pasids, routed }: Device, nameOf: (space: Ioasid | undefined) => string | undefined): object {
  const bound = binding && { fd: binding.ioasidFd.number, owner: binding.owner.number, label: binding.label, cookie: binding.cookie };
  return { name, bound, chain: chain.map(nameOf), pasids: [...pasids].map(([pasid, { space }]) => [pasid, nameOf(space)]), routed: nameOf(routed) };
}

/** What a domain translates: every leaf, and which are dirty; or where the guest's table is. */
function domainDigest({ engine }: SimulatedHost, domain: LiveDomain, ownerOf: (index: number) => string): object {
  const { index, guest, tracksDirty, table: { format, levels, width, root } } = domain;
  const shape = { format, levels, width, tracksDirty };
  if (guest) {
    const record = header(engine, L.ENGINE_DOMAINS) + index * L.DOMAIN_BYTES;
    return { ...shape, guest: root, stage2: ownerOf(readU32(engine.memory, record + L.DOMAIN_STAGE2)) };
  }
  // A first stage is used in its lower half only.
  const last = (1n << BigInt(format === L.FORMAT_X86_64 ? width! - 1 : width!)) - 1n;
  return { ...shape, leaves: engine.leafRuns(index, 0n, last), dirty: engine.collectDirty(index, 0n, last, false) };
}

/** Routes that let something through, by requester. */
function routesOf(engine: EngineView, ownerOf: (index: number) => string): object[] {
  const routes: object[] = [];
  for (let index = 1; index <= header(engine, L.ENGINE_ROUTE_MASK); index++) {
    const record = header(engine, L.ENGINE_ROUTES) + index * L.ROUTE_BYTES;
    const kind = readU32(engine.memory, record + L.ROUTE_KIND);
    if (kind === L.ROUTE_BLOCKED) continue;
    const key = readU64(engine.memory, header(engine, L.ENGINE_ROUTE_KEYS) + index * 8);
    routes.push({ key, kind, domain: ownerOf(readU32(engine.memory, record + L.ROUTE_DOMAIN)) });
  }
  return routes.sort(byText);
}

/** Where the bytes of host-physical addresses are. */
function slotsOf({ memory, address }: EngineView): object[] {
  const table = readU32(memory, address + L.ENGINE_SLOTS);
  return Array.from({ length: readU32(memory, table + L.SLOTS_COUNT) }, (_none, n) => {
    const slot = table + L.SLOTS_BYTES + n * L.SLOT_BYTES;
    const [first, last] = [readU64(memory, slot + L.SLOT_FIRST), readU64(memory, slot + L.SLOT_LAST)];
    return { first, last, offset: readU32(memory, slot + L.SLOT_OFFSET), kind: readU32(memory, slot + L.SLOT_KIND) };
  });
}

/** What the ports hold and would still use. */
function iotlbOf(engine: EngineView, domains: readonly LiveDomain[], ownerOf: (index: number) => string): object[] {
  const owners = idOwners(domains);
  const held: object[] = [];
  for (const port of openPorts(engine)) {
    const pending = dropsSince(engine, readU32(engine.memory, port.address + L.PORT_RING_TAIL));
    for (let way = 0; way < port.sets * WAYS; way++) {
      const at = port.iotlb + Math.floor(way / WAYS) * L.IOTLB_SET_BYTES + (way % WAYS) * 8;
      const data = readU64(engine.memory, at + L.IOTLB_DATA);
      if ((data & L.DATA_VALID) === 0n) continue;
      const tag = readU64(engine.memory, at);
      const id = Number(tag >> L.TAG_ID_SHIFT);
      const page = Number(BigInt.asUintN(Number(L.TAG_ID_SHIFT), tag));
      const owner = owners.get(id);
      if (owner === undefined || pending.some((drop) => covers(drop, id, page))) continue;
      held.push({ space: ownerOf(owner.domain.index), iova: BigInt(page) << BigInt(owner.pageLg2), data });
    }
  }
  return held.sort(byText);
}
