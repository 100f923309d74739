// What the memory says of a port: its counters, its fault ring, who has it. Readable on any thread. Imports layout only.
import * as L from "./layout.js";

/** What the engine refused, raw: no device labels yet. */
export interface RawFault {
  iova: bigint;
  ipa: bigint;
  pte: bigint;
  rid: number;
  /** L.NO_PASID without one. */
  pasid: number;
  route: number;
  /** Lane of the batch; 0 for the scalar calls. */
  lane: number;
  /** L.PERM_* that was wanted. */
  access: number;
  reason: (typeof L.REASON_NAMES)[number];
  class: (typeof L.CLASS_NAMES)[number];
  /** 1 or 2; 0 when no walk was made. */
  stage: number;
  level: number;
  /** The domain permits page requests, and one can help. */
  recoverable: boolean;
}

export interface PortCounters {
  translations: number;
  /** Answered by the IOTLB. */
  hits: number;
  /** Not answered by the IOTLB: walked, refused or identity. */
  misses: number;
  /** Misses that took a walk of a table. */
  walks: number;
  /** Table entries that walks have read. */
  loads: number;
  faults: number;
  /** Of these by reason; only those that occurred. */
  faultsByReason: Partial<Record<RawFault["reason"], number>>;
  /** Fault records that found the ring full. */
  dropped: number;
}

/** An open port as any thread sees it. */
export interface PortView {
  /** 0..count - 1. */
  readonly index: number;
  readonly address: number;
  /** Number of its thread: L.HOST_THREAD, or that of a token. */
  readonly thread: number;
  readonly counters: PortCounters;
  /** Takes the records out of the fault ring, oldest first: what is taken here its own thread does not see. One taker at a time. */
  takeFaults(): RawFault[];
}

/** What the port has counted since it was opened. Of a port that is busy on another thread the numbers are of about now. */
export function readCounters(memory: WebAssembly.Memory, port: number): PortCounters {
  const view = new DataView(memory.buffer, port);
  const count = (offset: number): number => Number(view.getBigUint64(offset, true));
  const translations = count(L.PORT_COUNT_LANES);
  const misses = count(L.PORT_COUNT_MISSES);
  const faultsByReason: PortCounters["faultsByReason"] = {};
  for (const [reason, name] of L.REASON_NAMES.entries()) {
    const n = count(L.PORT_COUNT_REASONS + reason * 8);
    if (n > 0) faultsByReason[name] = n;
  }
  return {
    translations, hits: translations - misses, misses, walks: count(L.PORT_COUNT_WALKS), loads: count(L.PORT_COUNT_LOADS),
    faults: count(L.PORT_COUNT_FAULTS), faultsByReason, dropped: count(L.PORT_FAULT_DROPPED),
  };
}

/** Takes the records out of the port's fault ring, oldest first. */
export function takeFaults(memory: WebAssembly.Memory, port: number): RawFault[] {
  const view = new DataView(memory.buffer);
  const words = new Uint32Array(memory.buffer);
  const word = (offset: number): number => words[(port + offset) >>> 2] ?? 0;
  const head = Atomics.load(words, (port + L.PORT_FAULT_HEAD) >>> 2);
  const tailAt = (port + L.PORT_FAULT_TAIL) >>> 2;
  const ring = word(L.PORT_FAULTS);
  const mask = word(L.PORT_FAULT_CAPACITY) - 1;
  const faults: RawFault[] = [];
  for (let tail = Atomics.load(words, tailAt); tail !== head; tail = (tail + 1) >>> 0) {
    faults.push(readFault(view, ring + (tail & mask) * L.FAULT_BYTES));
  }
  Atomics.store(words, tailAt, head);
  return faults;
}

/** The record at `at`. @internal */
export function readFault(view: DataView, at: number): RawFault {
  return {
    iova: view.getBigUint64(at + L.FAULT_IOVA, true),
    ipa: view.getBigUint64(at + L.FAULT_IPA, true),
    pte: view.getBigUint64(at + L.FAULT_PTE, true),
    rid: view.getUint32(at + L.FAULT_RID, true),
    pasid: view.getUint32(at + L.FAULT_PASID, true),
    route: view.getUint32(at + L.FAULT_ROUTE, true),
    lane: view.getUint32(at + L.FAULT_LANE, true),
    access: view.getUint8(at + L.FAULT_ACCESS),
    reason: L.REASON_NAMES[view.getUint8(at + L.FAULT_REASON)] ?? "none",
    class: L.CLASS_NAMES[view.getUint8(at + L.FAULT_CLASS)] ?? "none",
    stage: view.getUint8(at + L.FAULT_STAGE),
    level: view.getUint8(at + L.FAULT_LEVEL),
    recoverable: view.getUint8(at + L.FAULT_RECOVERABLE) !== 0,
  };
}

/** The ports that are open in the engine whose header is at `address`. */
export function readPorts({ memory, address }: { readonly memory: WebAssembly.Memory; readonly address: number }): PortView[] {
  const words = new Uint32Array(memory.buffer);
  const word = (at: number): number => Atomics.load(words, at >>> 2);
  const ports: PortView[] = [];
  for (let index = 0; index < word(address + L.ENGINE_PORT_CAPACITY); index++) {
    const port = word(address + L.ENGINE_PORTS) + index * word(address + L.ENGINE_PORT_STRIDE);
    if (word(port + L.PORT_STATE) === 0) continue;
    ports.push({
      index, address: port, thread: word(port + L.PORT_THREAD),
      get counters() { return readCounters(memory, port); },
      takeFaults: () => takeFaults(memory, port),
    });
  }
  return ports;
}
