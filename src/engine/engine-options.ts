// What an engine is made from, checked. Imports layout, errors and memory.
import { EngineError, integerIn } from "./errors.js";
import * as L from "./layout.js";
import type { AdoptedMemory, OwnedMemory } from "./memory.js";

export interface EngineOptions {
  memory?: OwnedMemory | AdoptedMemory;
  /** Most slots (ranges of host-physical addresses). Default 1024. */
  slots?: number;
  /** Most (rid, pasid) pairs, a power of two, 8..2^20. Default 4096. One is reserved. */
  routes?: number;
  /** Most domains at once. Default 1024. */
  domains?: number;
  /** Most PASID tables of guests at once. Default 32. */
  pasidTables?: number;
  ports?: {
    /** Most ports at once. Default 8. */
    count?: number;
    /** Sets of 4 entries in each IOTLB, a power of two, 2..2^20. Default 1024. */
    iotlbSets?: number;
    /** Lanes of a batch, a multiple of 16. Default 4096. */
    lanes?: number;
    /** Fault records that a port keeps, a power of two, 4..2^20. Default 1024. */
    faults?: number;
    /** Milliseconds that a change waits for a section before the port counts as stalled, 1..2^31-1. Default 1000. */
    patience?: number;
  };
  /** What devices report to the host, from any thread. */
  faultQueue?: {
    /** Records that it holds, a power of two, 4..2^20. Default 1024. */
    records?: number;
    /** Accesses that can wait for pages at once, a power of two, 1..2^16. Default 1024. */
    stalls?: number;
  };
  /** The engine's code for that kind of memory, compiled already. Default: it is loaded from beside this file. */
  module?: WebAssembly.Module;
  /** First IOTLB id, 2..2^19-2, even. Only tests of the wrap need another than 2. */
  firstIotlbId?: number;
}

function powerOfTwo(field: string, value: unknown, first: number, last: number): number {
  const n = integerIn(field, value, first, last);
  if ((n & (n - 1)) !== 0) throw new EngineError("BAD_OPTION", `must be a power of two, not ${n}`, field, n);
  return n;
}

const lg2 = (n: number): number => 31 - Math.clz32(n);

/** Throws EngineError BAD_OPTION. */
export function patienceOf({ ports }: EngineOptions): number {
  return integerIn("ports.patience", ports?.patience ?? 1000, 1, 0x7fffffff);
}

/** The sizes in the order in which the module takes them. Throws EngineError BAD_OPTION naming the field. */
export function engineSizes(options: EngineOptions): [
  slots: number, routesLg2: number, domains: number, ports: number, setsLg2: number, lanes: number, faults: number, firstId: number,
  records: number, stalls: number, pasidTables: number,
] {
  const ports = options.ports ?? {};
  const slots = integerIn("slots", options.slots ?? 1024, 1, 1 << 20);
  const routes = powerOfTwo("routes", options.routes ?? 4096, 8, 1 << 20);
  const domains = integerIn("domains", options.domains ?? 1024, 1, 1 << 16);
  const pasidTables = integerIn("pasidTables", options.pasidTables ?? 32, 0, 1 << 16);
  const count = integerIn("ports.count", ports.count ?? 8, 1, 1024);
  const sets = powerOfTwo("ports.iotlbSets", ports.iotlbSets ?? 1024, 2, 1 << 20);
  const lanes = integerIn("ports.lanes", ports.lanes ?? 4096, 16, 1 << 20);
  if (lanes % 16 !== 0) throw new EngineError("BAD_OPTION", `must be a multiple of 16, not ${lanes}`, "ports.lanes", lanes);
  const faults = powerOfTwo("ports.faults", ports.faults ?? 1024, 4, 1 << 20);
  const firstId = integerIn("firstIotlbId", options.firstIotlbId ?? 2, 2, L.ID_LIMIT - 2);
  if (firstId % 2 !== 0) throw new EngineError("BAD_OPTION", `must be even, not ${firstId}`, "firstIotlbId", firstId);
  const records = powerOfTwo("faultQueue.records", options.faultQueue?.records ?? 1024, 4, 1 << 20);
  const stalls = powerOfTwo("faultQueue.stalls", options.faultQueue?.stalls ?? 1024, 1, 1 << 16);
  return [slots, lg2(routes), domains, count, lg2(sets), lanes, faults, firstId, records, stalls, pasidTables];
}
