// A port: one thread's way to translations. Requests and results are typed arrays over the memory, read and written in
// place; nothing here allocates per lane or makes a bigint. Imports module, layout, port-records, errors.
import { EngineError } from "./errors.js";
import * as L from "./layout.js";
import type { EngineExports } from "./module.js";
import { readCounters, takeFaults, type PortCounters, type RawFault } from "./port-records.js";

export type { PortCounters, RawFault };

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
  #result = new BigUint64Array(0);

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

  /** Requests, 4 words a lane. Ask again after anything that may grow the memory: a view of one that has grown may be without words. */
  get requests(): Uint32Array {
    if (this.#requests.length === 0) {
      this.#requests = new Uint32Array(this.#memory.buffer, this.#requestsAt, this.capacity * 4);
    }
    return this.#requests;
  }

  /** Results, 2 words a lane. Ask again after anything that may grow the memory. */
  get results(): Uint32Array {
    if (this.#results.length === 0) {
      this.#results = new Uint32Array(this.#memory.buffer, this.#resultsAt, this.capacity * 2);
    }
    return this.#results;
  }

  /**
   * Runs `use` inside a section: what it translates stays valid until it returns. A call on the host's thread that would change
   * a mapping is refused (EDEADLK) while the section is its own, and waits for it otherwise. Sections of one port nest. No
   * section is held across an await: a `use` that answers a promise is refused once it has (EngineError BAD_ARGUMENT).
   */
  batch<T>(use: (port: this) => T): T {
    this.#check();
    if (this.#depth++ === 0) this.#exports.enter(this.address);
    let answer: T;
    try {
      answer = use(this);
    } finally {
      if (--this.#depth === 0 && this.#open) this.#exports.leave(this.address);
    }
    if (typeof (answer as { then?: unknown } | null | undefined)?.then === "function") {
      throw new EngineError("BAD_ARGUMENT", "must not be async: the section ends at its first await, and what it has translated with it", "use", use);
    }
    return answer;
  }

  /**
   * Translates the first n requests; how many were refused. Call it inside `batch`: outside of one the results say only what
   * was true during the call.
   */
  translate(n: number): number {
    this.#check();
    if (!(n >= 0 && n <= this.capacity)) throw new EngineError("BAD_ARGUMENT", `must be 0..${this.capacity}`, "n", n);
    return this.#exports.translate(this.address, n);
  }

  /** A section of this port is open. */
  get inSection(): boolean {
    return this.#depth > 0;
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
    if (this.#result.length === 0) this.#result = new BigUint64Array(this.#memory.buffer, this.address + L.PORT_RESULT, 1);
    return this.#result[0]!;
  }

  /** Takes the records out of the fault ring, oldest first. */
  takeFaults(): RawFault[] {
    return takeFaults(this.#memory, this.address);
  }

  /** True once if records were dropped since the last call. */
  takeOverflow(): boolean {
    return Atomics.exchange(new Uint32Array(this.#memory.buffer), (this.address + L.PORT_FAULT_OVERFLOW) >>> 2, 0) !== 0;
  }

  get counters(): PortCounters {
    return readCounters(this.#memory, this.address);
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
