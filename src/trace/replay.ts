// Replays a trace through the whole stack: address spaces through the uAPI, every DMA through a port in batches, on this thread or on
// workers, and every answer compared with the recorded one. Imports the host, the uAPI's types, the engine's layout, and its own folder.
import { createHost, type HostOptions, type SimulatedHost } from "../create-host.js";
import type { PortCounters } from "../engine/port-records.js";
import type { VfioDeviceFd } from "../uapi/device-fd.js";
import type { IoasidFd } from "../uapi/ioasid-fd.js";
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

/** The requester ids that a trace names. */
function ridsOf(trace: T.Trace): number[] {
  const rids = new Set<number>();
  for (let i = 0; i < trace.length; i++) {
    const op = trace.ops[i];
    if (op === T.OP_DMA) rids.add(trace.subject[i] ?? 0);
    else if (op === T.OP_ATTACH || op === T.OP_DETACH) rids.add(trace.target[i] ?? 0);
  }
  return [...rids];
}

/** One run over a trace: the spaces and devices that it has made so far. */
class Replay {
  readonly #ioasidFd: IoasidFd;
  readonly #ioasids = new Map<number, number>();
  readonly #devices = new Map<number, { fd: VfioDeviceFd; ioasid: number | undefined }>();
  readonly #dma: DmaSink;

  constructor(readonly host: SimulatedHost, readonly trace: T.Trace, dma: DmaSink) {
    this.#ioasidFd = host.open("/dev/ioasid");
    for (const { name, rid } of host.devices()) {
      const fd = host.open(`/dev/vfio/devices/${name}`) as VfioDeviceFd;
      fd.bindIoasidFd({ ioasidFd: this.#ioasidFd });
      this.#devices.set(rid, { fd, ioasid: undefined });
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
    const { trace } = this;
    // Every unmap has already invalidated: what the guest asks for on top of it changes nothing.
    if (op === T.OP_INVALIDATE) return;
    if (op === T.OP_MAP) this.#map(i);
    else if (op === T.OP_UNMAP) this.#unmap(i);
    else if ((trace.pasid[i] ?? T.NO_PASID) !== T.NO_PASID) throw this.#error(i, "DMA with a PASID is not supported");
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
    const device = this.#devices.get(this.trace.target[i] ?? 0)!;
    const ioasid = this.#ioasid(this.trace.subject[i] ?? 0);
    if (device.ioasid === ioasid) return;
    // "From here on": a device that was elsewhere moves.
    if (device.ioasid !== undefined) device.fd.detachIoasid({ ioasid: device.ioasid });
    device.fd.attachIoasid({ ioasid });
    device.ioasid = ioasid;
  }

  #detach(i: number): void {
    const device = this.#devices.get(this.trace.target[i] ?? 0)!;
    const ioasid = this.#ioasids.get(this.trace.subject[i] ?? 0);
    if (ioasid === undefined || device.ioasid !== ioasid) throw this.#error(i, "the device is not attached to that domain");
    device.fd.detachIoasid({ ioasid });
    device.ioasid = undefined;
  }

  #error(i: number, reason: string): TraceError {
    return new TraceError(this.trace.line[i] ?? 0, reason);
  }

  #close(): void {
    for (const { fd } of this.#devices.values()) fd.close();
    this.#ioasidFd.close();
  }
}

/** The host on which a trace is replayed: its devices, and a process whose memory is the bus. */
async function hostFor(trace: T.Trace, options: ReplayOptions): Promise<SimulatedHost> {
  const { threads = 0 } = options;
  const devices = ridsOf(trace).map((rid) => ({ name: `rid-${rid.toString(16)}`, rid }));
  const memory = { ram: 0, arena: 64 << 20, shared: threads > 0 };
  const ports = { count: Math.max(8, threads) };
  const host = await createHost({ memory, ports, ...options.host, ...(devices.length ? { devices } : {}) });
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
 * trace that contradicts itself or names PASIDs, EngineError for a host that cannot be made, IoctlError if a call is refused.
 */
export async function* replay(trace: T.Trace, repeat: number, options: ReplayOptions = {}): AsyncGenerator<ReplayResult> {
  for (let i = 0; i < trace.length; i++) {
    if (trace.ops[i] === T.OP_DMA && trace.target[i] !== T.NO_PASID) {
      throw new TraceError(trace.line[i] ?? 0, "DMA with a PASID is not supported");
    }
  }
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
