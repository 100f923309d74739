// What a host looks like after a step: the tree of ioasids with their maps and tables, who is attached where, whose DMA goes where,
// and the charge. Reads only. Imports the host, the uAPI, and its own folder. Ranges are first..last, inclusive.
import type { Device } from "../uapi/device.js";
import type { Ioasid } from "../uapi/ioasid.js";
import { IoasidFd } from "../uapi/ioasid-fd.js";
import type { IoasidKind, PgtableFormat } from "../uapi/requests.js";
import type { ScenarioRun } from "./run.js";

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
  /** Names of the devices that are attached, and of those whose DMA goes here. */
  readonly attached: readonly string[];
  readonly effective: readonly string[];
  readonly mappings: number;
  /** The first ones, ascending. */
  readonly maps: readonly MapState[];
  readonly pgtable: { readonly addr: bigint; readonly format: PgtableFormat } | null;
  readonly locked: bigint;
}

export interface HostState {
  /** The roots of each fd, by the fd's name. */
  readonly fds: readonly { readonly name: string; readonly roots: readonly IoasidState[] }[];
  /** Devices that are bound and whose DMA is blocked, and those that are not bound. */
  readonly blocked: readonly string[];
  readonly unbound: readonly string[];
  readonly locked: bigint;
}
