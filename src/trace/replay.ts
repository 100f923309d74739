// Replays a trace through the whole stack: address spaces through the uAPI, every DMA through a port in batches, on this thread or on
// workers, and every answer compared with the recorded one. Imports the host, the uAPI's types, the engine's layout, and its own folder.
import { createHost, type HostOptions, type SimulatedHost } from "../create-host.js";
import type { PortCounters } from "../engine/port-records.js";
import type { VfioDeviceFd } from "../uapi/device-fd.js";
import type { IoasidFd } from "../uapi/ioasid-fd.js";
import { type AttachIoasid, IOASID_ATTACH_USER_PASID } from "../uapi/requests.js";
import { DmaBatch, type DmaOutcome, type DmaSink } from "./dma-batch.js";
import { ReplayThreads } from "./replay-threads.js";
import * as T from "./trace.js";
import { TraceError } from "./trace-error.js";

/** Targets of a trace are bus addresses: this much of the bus is a device's, so that hva = hpa = the recorded target. */
const BUS = 1n << 52n;

export interface ReplayResult extends DmaOutcome {
  events: number;
  maps: number;
  unmaps: number;
  invalidations: number;
  /** DMA requests. */
  requests: number;
  /** Translations asked of the ports: a request that crosses the end of a run takes more than one. */
  translations: number;
  iotlbMisses: number;
  /** What each port has counted since the first run, the one of the host's thread or one a worker. */
  ports: PortCounters[];
  /** Seconds in all. */
  seconds: number;
}

export interface ReplayOptions {
  host?: Omit<HostOptions, "devices">;
  /** Worker threads that do the DMA, with a port each. Default 0: the host's own thread does it. */
  threads?: number;
  /** Mismatches that are kept in full. Default 10. */
  keepMismatches?: number;
  /** Called now and then with the events done. */
  onProgress?: (events: number) => void;
}

const PROGRESS_EVENTS = 16384;

/** Routes that an engine has by default. */
const ROUTES = 4096;

/** The requester ids that a trace names, and how many different ones there are with their PASIDs. */
function requestersOf(trace: T.Trace): { rids: number[]; pairs: number } {
  const rids = new Set<number>();
  const pairs = new Set<number>();
  for (let i = 0; i < trace.length; i++) {
    const op = trace.ops[i];
    if (op !== T.OP_DMA && op !== T.OP_ATTACH && op !== T.OP_DETACH) continue;
    const rid = (op === T.OP_DMA ? trace.subject[i] : trace.target[i]) ?? 0;
    rids.add(rid);
    pairs.add(T.requesterKey(rid, trace.pasid[i] ?? T.NO_PASID));
  }
  return { rids: [...rids], pairs: pairs.size };
}

/** A device, and the ioasids it is attached to by their PASID, NO_PASID for the one without. */
interface ReplayDevice {
  readonly fd: VfioDeviceFd;
  readonly ioasids: Map<number, number>;
}

/** One run over a trace: the spaces and devices that it has made so far. */
class Replay {
  readonly #ioasidFd: IoasidFd;
  readonly #ioasids = new Map<number, number>();
  readonly #devices = new Map<number, ReplayDevice>();
  readonly #dma: DmaSink;

  constructor(readonly host: SimulatedHost, readonly trace: T.Trace, dma: DmaSink) {
    this.#ioasidFd = host.open("/dev/ioasid");
    for (const { name, rid } of host.devices()) {
      const fd = host.open(`/dev/vfio/devices/${name}`) as VfioDeviceFd;
      fd.bindIoasidFd({ ioasidFd: this.#ioasidFd });
      this.#devices.set(rid, { fd, ioasids: new Map() });
    }
    this.#dma = dma;
  }

  async run(onProgress: (events: number) => void): Promise<ReplayResult> {
    const { trace } = this;
    const counts = [0, 0, 0, 0, 0, 0];
    const before = this.#counted();
    const start = performance.now();
    for (let i = 0; i < trace.length; i++) {
      const op = trace.ops[i] ?? 0;
      counts[op] = (counts[op] ?? 0) + 1;
      if (op === T.OP_DMA) {
        this.#dma.add(i);
      } else {
        this.#dma.flush();
        this.#control(op, i);
      }
      if (i % PROGRESS_EVENTS === 0) onProgress(i);
    }
    this.#dma.flush();
    const seconds = (performance.now() - start) / 1000;
    this.#close();
    const after = this.#counted();
    return {
      events: trace.length, maps: counts[T.OP_MAP] ?? 0, unmaps: counts[T.OP_UNMAP] ?? 0, invalidations: counts[T.OP_INVALIDATE] ?? 0,
      requests: counts[T.OP_DMA] ?? 0, translations: after.translations - before.translations,
      iotlbMisses: after.misses - before.misses, ports: this.host.engine.ports().map(({ counters }) => counters), seconds,
      ...await this.#dma.outcome(),
    };
  }

  /** What all ports have counted so far. */
  #counted(): { translations: number; misses: number } {
    let [translations, misses] = [0, 0];
    for (const { counters } of this.host.engine.ports()) {
      translations += counters.translations;
      misses += counters.misses;
    }
    return { translations, misses };
  }

  /** Applies the events before `row`, without their DMA. */
  advanceTo(row: number, onProgress: (events: number) => void): void {
    for (let i = 0; i < row; i++) {
      const op = this.trace.ops[i] ?? 0;
      if (op !== T.OP_DMA) this.#control(op, i);
      if (i % PROGRESS_EVENTS === 0) onProgress(i);
    }
  }

  #control(op: number, i: number): void {
    // Every unmap has already invalidated: what the guest asks for on top of it changes nothing.
    if (op === T.OP_INVALIDATE) return;
    if (op === T.OP_MAP) this.#map(i);
    else if (op === T.OP_UNMAP) this.#unmap(i);
    else if (op === T.OP_ATTACH) this.#attach(i);
    else this.#detach(i);
  }

  #ioasid(domain: number): number {
    let ioasid = this.#ioasids.get(domain);
    if (ioasid === undefined) {
      ioasid = this.#ioasidFd.alloc();
      this.#ioasids.set(domain, ioasid);
    }
    return ioasid;
  }

  #map(i: number): void {
    const flags = (this.trace.flags[i] ?? 0) & (T.FLAG_READ | T.FLAG_WRITE);
    const ioasid = this.#ioasid(this.trace.subject[i] ?? 0);
    this.#ioasidFd.dmaMap({ ioasid, iova: this.trace.iova(i), vaddr: this.trace.out(i), size: this.trace.size(i), flags });
  }

  #unmap(i: number): void {
    const size = this.trace.size(i);
    const ioasid = this.#ioasid(this.trace.subject[i] ?? 0);
    const removed = this.#ioasidFd.dmaUnmap({ ioasid, iova: this.trace.iova(i), size }).size;
    if (removed !== size) throw this.#error(i, `unmaps ${size} bytes of which ${removed} are mapped`);
  }

  #attach(i: number): void {
    const { fd, ioasids } = this.#devices.get(this.trace.target[i] ?? 0)!;
    const ioasid = this.#ioasid(this.trace.subject[i] ?? 0);
    const pasid = this.trace.pasid[i] ?? T.NO_PASID;
    const before = ioasids.get(pasid);
    if (before === ioasid) return;
    // "From here on": requests that went elsewhere move.
    if (before !== undefined) fd.detachIoasid(attachment(before, pasid));
    ioasids.delete(pasid);
    fd.attachIoasid(attachment(ioasid, pasid));
    ioasids.set(pasid, ioasid);
  }

  #detach(i: number): void {
    const { fd, ioasids } = this.#devices.get(this.trace.target[i] ?? 0)!;
    const ioasid = this.#ioasids.get(this.trace.subject[i] ?? 0);
    const pasid = this.trace.pasid[i] ?? T.NO_PASID;
    if (ioasid === undefined || ioasids.get(pasid) !== ioasid) throw this.#error(i, `the device is not attached to that domain${pasid === T.NO_PASID ? "" : " with that PASID"}`);
    fd.detachIoasid(attachment(ioasid, pasid));
    ioasids.delete(pasid);
  }

  #error(i: number, reason: string): TraceError {
    return new TraceError(this.trace.line[i] ?? 0, reason);
  }

  #close(): void {
    for (const { fd } of this.#devices.values()) fd.close();
    this.#ioasidFd.close();
  }
}

/** What attach and detach take. */
function attachment(ioasid: number, pasid: number): AttachIoasid {
  return pasid === T.NO_PASID ? { ioasid } : { ioasid, flags: IOASID_ATTACH_USER_PASID, userPasid: pasid };
}

/** The host on which a trace is replayed: its devices, and a process whose memory is the bus. */
async function hostFor(trace: T.Trace, options: ReplayOptions): Promise<SimulatedHost> {
  const { threads = 0 } = options;
  const { rids, pairs } = requestersOf(trace);
  const devices = rids.map((rid) => ({ name: `rid-${rid.toString(16)}`, rid }));
  const memory = { ram: 0, arena: 64 << 20, shared: threads > 0 };
  const ports = { count: Math.max(8, threads) };
  // Each device has a route without a PASID too, and one is reserved.
  const routes = 2 ** Math.ceil(Math.log2(Math.max(ROUTES, pairs + rids.length + 1)));
  const host = await createHost({ memory, ports, routes, ...options.host, ...(devices.length ? { devices } : {}) });
  host.process.mmap({ hva: 0n, size: BUS, backing: { device: 0n } });
  return host;
}

/** A host in the state that a planned trace leaves before the event in `row`. Throws as `replay` does. */
export async function replayTo(trace: T.Trace, row: number, options: ReplayOptions = {}): Promise<SimulatedHost> {
  const host = await hostFor(trace, options);
  new Replay(host, trace, new DmaBatch(host.engine, host.engine.openPort(), trace, 0)).advanceTo(row, options.onProgress ?? (() => {}));
  return host;
}

/**
 * Replays a planned trace (segments.ts) `repeat` times on one host: a result a run. Throws TraceError with the line for a
 * trace that contradicts itself, EngineError for a host that cannot be made, IoctlError if a call is refused: of a trace with PASIDs,
 * by a host whose IOMMU has none, or whose guests keep the tables of PASIDs.
 */
export async function* replay(trace: T.Trace, repeat: number, options: ReplayOptions = {}): AsyncGenerator<ReplayResult> {
  const { keepMismatches = 10, onProgress = () => {}, threads = 0 } = options;
  const host = await hostFor(trace, options);
  if (threads === 0) {
    const port = host.engine.openPort();
    for (let n = 0; n < repeat; n++) yield new Replay(host, trace, new DmaBatch(host.engine, port, trace, keepMismatches)).run(onProgress);
    port.close();
    return;
  }
  const workers = await ReplayThreads.start(host.engine, threads, trace, keepMismatches);
  try {
    for (let n = 0; n < repeat; n++) yield new Replay(host, trace, workers.begin()).run(onProgress);
  } finally {
    await workers.close();
  }
}
