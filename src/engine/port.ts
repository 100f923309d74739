// A port: one thread's way to translations. Requests and results are typed arrays over the memory, read and written in
// place; nothing here allocates per lane or makes a bigint. Imports module, layout, errors.
import { EngineError } from "./errors.js";
import * as L from "./layout.js";
import type { EngineExports } from "./module.js";

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
}

export interface PortCounters {
  translations: number;
  /** Not answered by the IOTLB: walked, refused or identity. */
  misses: number;
  faults: number;
  /** Fault records that found the ring full. */
  dropped: number;
}

/**
 * Lanes are laid out as u32 words: a request is [iova low, iova high, route, L.PERM_*], a result [low, high] with hpa in bits
 * 55..0, log2 of the run in bits 61..56, identity in bit 62, fault in bit 63 (then reason in 7..0, level in 15..8).
 */
export class Port {
  /** Lanes of a batch. */
  readonly capacity: number;
  readonly #memory: WebAssembly.Memory;
  readonly #exports: EngineExports;
  readonly #requestsAt: number;
  readonly #resultsAt: number;
  #open = true;
  #depth = 0;
  #requests: Uint32Array;
  #results: Uint32Array;

  /** @internal Engine.openPort() makes ports. */
  constructor(memory: WebAssembly.Memory, exports: EngineExports, readonly address: number) {
    this.#memory = memory;
    this.#exports = exports;
    this.capacity = this.#word(L.PORT_CAPACITY);
    this.#requestsAt = this.#word(L.PORT_REQUESTS);
    this.#resultsAt = this.#word(L.PORT_RESULTS);
    this.#requests = new Uint32Array(memory.buffer, this.#requestsAt, this.capacity * 4);
    this.#results = new Uint32Array(memory.buffer, this.#resultsAt, this.capacity * 2);
  }

  #word(offset: number): number {
    return new Uint32Array(this.#memory.buffer, this.address + offset, 1)[0] ?? 0;
  }

  /** Requests, 4 words a lane. Ask again after anything that may grow the memory. */
  get requests(): Uint32Array {
    if (this.#requests.buffer !== this.#memory.buffer) {
      this.#requests = new Uint32Array(this.#memory.buffer, this.#requestsAt, this.capacity * 4);
    }
    return this.#requests;
  }

  /** Results, 2 words a lane. Ask again after anything that may grow the memory. */
  get results(): Uint32Array {
    if (this.#results.buffer !== this.#memory.buffer) {
      this.#results = new Uint32Array(this.#memory.buffer, this.#resultsAt, this.capacity * 2);
    }
    return this.#results;
  }

  /**
   * Runs `use` inside a section: what it translates stays valid until it returns, and a call that would change a mapping
   * is refused (EDEADLK) as long as it runs. `use` must not await. Sections of one port nest.
   */
  batch<T>(use: (port: this) => T): T {
    this.#check();
    if (this.#depth++ === 0) this.#exports.enter(this.address);
    try {
      return use(this);
    } finally {
      if (--this.#depth === 0 && this.#open) this.#exports.leave(this.address);
    }
  }

  /** Translates the first n requests; how many were refused. Call it inside `batch`. */
  translate(n: number): number {
    this.#check();
    if (!(n >= 0 && n <= this.capacity)) throw new EngineError("BAD_ARGUMENT", `must be 0..${this.capacity}`, "n", n);
    return this.#exports.translate(this.address, n);
  }

  /** One translation without a batch: hpa, -1 if refused, -2 if the answer is above 2^53 (`result` has it). iova < 2^53. */
  translateNumber(iova: number, route: number, need: number): number {
    return this.#exports.translateNumber(this.address, iova, route, need);
  }

  /** One translation of a 64-bit iova in two halves: true if translated; `result` has the answer. */
  translateHalves(iovaLow: number, iovaHigh: number, route: number, need: number): boolean {
    return this.#exports.translateHalves(this.address, iovaLow, iovaHigh, route, need) !== 0;
  }

  /** The result word of the last scalar call. */
  get result(): bigint {
    return new DataView(this.#memory.buffer).getBigUint64(this.address + L.PORT_RESULT, true);
  }

  /** Takes the records out of the fault ring, oldest first. */
  takeFaults(): RawFault[] {
    const view = new DataView(this.#memory.buffer);
    const words = new Uint32Array(this.#memory.buffer);
    const head = Atomics.load(words, (this.address + L.PORT_FAULT_HEAD) >>> 2);
    const tailAt = (this.address + L.PORT_FAULT_TAIL) >>> 2;
    const ring = this.#word(L.PORT_FAULTS);
    const mask = this.#word(L.PORT_FAULT_CAPACITY) - 1;
    const faults: RawFault[] = [];
    for (let tail = Atomics.load(words, tailAt); tail !== head; tail = (tail + 1) >>> 0) {
      faults.push(readFault(view, ring + (tail & mask) * L.FAULT_BYTES));
    }
    Atomics.store(words, tailAt, head);
    return faults;
  }

  /** True once if records were dropped since the last call. */
  takeOverflow(): boolean {
    return Atomics.exchange(new Uint32Array(this.#memory.buffer), (this.address + L.PORT_FAULT_OVERFLOW) >>> 2, 0) !== 0;
  }

  get counters(): PortCounters {
    const view = new DataView(this.#memory.buffer, this.address);
    const count = (offset: number): number => Number(view.getBigUint64(offset, true));
    return {
      translations: count(L.PORT_COUNT_LANES),
      misses: count(L.PORT_COUNT_MISSES),
      faults: count(L.PORT_COUNT_FAULTS),
      dropped: count(L.PORT_FAULT_DROPPED),
    };
  }

  /** Gives the port back and ends its section. Closing twice is fine. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#exports.closePort(this.address);
  }

  #check(): void {
    if (!this.#open) throw new EngineError("PORT_CLOSED", "the port is closed");
  }
}

function readFault(view: DataView, at: number): RawFault {
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
  };
}
