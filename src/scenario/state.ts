// What a host looks like after a step: the tree of ioasids with their maps and tables, who is attached where, whose DMA goes where,
// and the charge. Reads only. Imports the host, the uAPI, and its own folder. Ranges are first..last, inclusive.
import { PERM_R, PERM_W } from "../engine/layout.js";
import { firstByte, lastByte } from "../uapi/arguments.js";
import { ioasidInfo } from "../uapi/info.js";
import type { Device } from "../uapi/device.js";
import type { Ioasid } from "../uapi/ioasid.js";
import { IoasidFd } from "../uapi/ioasid-fd.js";
import type { IoasidKind, PasidTableFormat, PgtableFormat } from "../uapi/requests.js";
import type { Bound, ScenarioRun } from "./run.js";

export interface MapState {
  readonly first: bigint;
  readonly last: bigint;
  /** Of the first byte: host virtual in a root, an address of the parent in a child. */
  readonly target: bigint;
  readonly access: "r" | "w" | "rw";
}

export interface IoasidState {
  /** As the scenario calls it; "ioasid <number>" when it does not. */
  readonly name: string;
  readonly ioasid: number;
  readonly kind: IoasidKind;
  readonly children: readonly IoasidState[];
  /** Names of the devices that are attached without a PASID, and of those whose DMA goes here. */
  readonly attached: readonly string[];
  readonly effective: readonly string[];
  /** The vPASIDs of devices that lead here. */
  readonly pasids: readonly { readonly device: string; readonly pasid: number }[];
  readonly mappings: number;
  /** The first ones by address. */
  readonly maps: readonly MapState[];
  readonly pgtable: { readonly addr: bigint; readonly format: PgtableFormat } | null;
  readonly pasidTable: { readonly addr: bigint; readonly format: PasidTableFormat } | null;
  readonly locked: bigint;
}

export interface FdState {
  /** As the scenario calls it. */
  readonly name: string;
  readonly roots: readonly IoasidState[];
  /** Bytes that registered memory has charged. */
  readonly registered: bigint;
  /** Groups of page requests that wait for an answer. */
  readonly pageRequests: number;
}

export interface HostState {
  readonly fds: readonly FdState[];
  /** Devices that are bound and whose DMA is blocked, and those that are not bound; not those that are shared out as mdevs. */
  readonly blocked: readonly string[];
  readonly unbound: readonly string[];
  /** What the process has charged. */
  readonly locked: bigint;
}

/** Maps of one ioasid that are listed. */
const MOST_MAPS = 8;

/** What the scenario calls something that it has bound; the last name counts. */
function nameOf(run: ScenarioRun, is: (bound: Bound) => boolean): string | undefined {
  return [...run.names].findLast(([, bound]) => is(bound))?.[0];
}

export function nameOfSpace(run: ScenarioRun, fd: IoasidFd, { number }: Ioasid): string {
  return nameOf(run, (bound) => bound.value === number && bound.fd === fd) ?? `ioasid ${number}`;
}

function accessOf(perm: number): MapState["access"] {
  return perm === (PERM_R | PERM_W) ? "rw" : perm === PERM_R ? "r" : "w";
}

function mapsOf({ areas }: Ioasid): MapState[] {
  const maps: MapState[] = [];
  for (const { first, last, value: { target, perm } } of areas) {
    if (maps.length === MOST_MAPS) break;
    maps.push({ first: firstByte(first), last: lastByte(last), target: firstByte(target), access: accessOf(perm) });
  }
  return maps;
}

function pasidsOf(devices: readonly Device[], space: Ioasid): IoasidState["pasids"] {
  return devices.flatMap((device) => Array.from(device.pasidsOf(space), (pasid) => ({ device: device.name, pasid })));
}

function stateOfSpace(run: ScenarioRun, fd: IoasidFd, space: Ioasid): IoasidState {
  const attached = [...space.devices];
  return {
    name: nameOfSpace(run, fd, space), ioasid: space.number, kind: space.kind,
    attached: attached.filter(({ chain }) => chain.includes(space)).map(({ name }) => name),
    effective: attached.filter(({ routed }) => routed === space).map(({ name }) => name), pasids: pasidsOf(attached, space),
    mappings: space.areas.size, maps: mapsOf(space), pgtable: space.pgtable ?? null, pasidTable: space.pasidTable ?? null, locked: ioasidInfo(space).locked,
    children: [...space.children].map((child) => stateOfSpace(run, fd, child)),
  };
}

/** The open ioasid fds that the scenario has names for. */
function openFds(run: ScenarioRun): IoasidFd[] {
  const bound = new Set([...run.names.values()].map(({ value }) => value));
  return [...bound].filter((value) => value instanceof IoasidFd).filter(({ closed }) => !closed);
}

export function stateOf(run: ScenarioRun): HostState {
  const devices = run.host.devices();
  const shared = new Set(devices.map(({ parent }) => parent));
  return {
    fds: openFds(run).map((fd) => {
      const spaces = [...fd.spaces];
      return {
        name: nameOf(run, ({ value }) => value === fd)!,
        roots: spaces.filter(({ parent }) => parent === undefined).map((root) => stateOfSpace(run, fd, root)),
        registered: firstByte(spaces[0]?.context.registered.charged ?? 0),
        pageRequests: fd.faults.pending,
      };
    }),
    blocked: devices.filter(({ binding, routed }) => binding !== undefined && routed === undefined).map(({ name }) => name),
    unbound: devices.filter(({ name, binding }) => binding === undefined && !shared.has(name)).map(({ name }) => name),
    locked: run.host.process.locked,
  };
}
