// The DMA requests between two control events: translated in batches, compared lane by lane with the recorded answers.
// Two words an address, no bigint, no object a lane; arrays are asked for once a batch. Imports engine and its own folder.
import type { EngineAccess } from "../engine/access.js";
import * as L from "../engine/layout.js";
import type { Port } from "../engine/port.js";
import * as T from "./trace.js";

const TWO32 = 2 ** 32;
const HPA_HIGH = 0xffffff;
const ACCESS = T.FLAG_READ | T.FLAG_WRITE;
const RIDS = 0x10000;

/** Bytes of a run of 2^lg2 less 1, of a run above 2^32 those that a low word can count. lg2 is not 0. */
function runMask(lg2: number): number {
  return lg2 >= 32 ? 0xffffffff : 0xffffffff >>> (32 - lg2);
}

export interface Mismatch {
  /** Of the trace. */
  line: number;
  /** The event as the trace gives it, the recorded answer included. */
  request: string;
  expected: string;
  got: string;
}

/** What became of the requests of one run. */
export interface DmaOutcome {
  /** Requests that were refused, as recorded. */
  faults: number;
  faultReasons: Record<string, number>;
  /** Requests that the recorded hardware answered from a removed mapping; refused here, as they must be. */
  staleRefused: number;
  mismatches: number;
  firstMismatches: Mismatch[];
  /** Seconds inside translate and compare; of several threads their sum. */
  translateSeconds: number;
}

/** Takes the requests between two control events, in order; `flush` returns when all are answered. */
export interface DmaSink {
  add(event: number): void;
  flush(): void;
  outcome(): DmaOutcome | Promise<DmaOutcome>;
}

export class DmaBatch implements DmaSink {
  /** Requester id -> route of DMA without a PASID; 0: not asked for yet. */
  readonly #routes = new Uint32Array(RIDS);
  /** The same of DMA with one, by requester. */
  readonly #pasidRoutes = new Map<number, number>();
  /** Lane -> event; a request takes one lane until its first run is known. */
  readonly #events: Uint32Array;
  #lanes = 0;
  #faults = 0;
  #staleRefused = 0;
  #mismatches = 0;
  #milliseconds = 0;
  readonly #first: Mismatch[] = [];
  readonly #reasons: number[] = L.REASON_NAMES.map(() => 0);
  readonly #keep: number;

  constructor(readonly engine: EngineAccess, readonly port: Port, readonly trace: T.Trace, keep: number) {
    this.#events = new Uint32Array(port.capacity);
    this.#keep = keep;
  }

  #route(event: number): number {
    const rid = this.trace.subject[event]!;
    const pasid = this.trace.target[event]!;
    if (pasid !== T.NO_PASID) return this.#pasidRoute(rid, pasid);
    const route = this.#routes[rid] ?? 0;
    return route === 0 ? (this.#routes[rid] = this.engine.route(rid)) : route;
  }

  #pasidRoute(rid: number, pasid: number): number {
    const key = T.requesterKey(rid, pasid);
    let route = this.#pasidRoutes.get(key);
    if (route === undefined) {
      route = this.engine.route(rid, pasid);
      this.#pasidRoutes.set(key, route);
    }
    return route;
  }

  add(event: number): void {
    if (this.#lanes === this.port.capacity) this.flush();
    this.#events[this.#lanes++] = event;
  }

  flush(): void {
    if (this.#lanes === 0) return;
    const start = performance.now();
    this.port.batch(this.#translate);
    this.#milliseconds += performance.now() - start;
    this.#lanes = 0;
  }

  readonly #translate = (): void => {
    const lanes = this.#lanes;
    this.#write(lanes);
    const refused = this.port.translate(lanes);
    const longer = this.#compare(lanes);
    if (refused) this.port.takeFaults();
    if (longer) for (const event of longer) this.#compareLong(event);
  };

  #write(lanes: number): void {
    const { requests } = this.port;
    const { iovaLo, iovaHi, flags } = this.trace;
    const events = this.#events;
    for (let lane = 0, at = 0; lane < lanes; lane++, at += 4) {
      const event = events[lane]!;
      requests[at] = iovaLo[event]!;
      requests[at + 1] = iovaHi[event]!;
      requests[at + 2] = this.#route(event);
      requests[at + 3] = flags[event]! & ACCESS;
    }
  }

  /**
   * Compares the lanes. Events whose answer holds for only part of the request are returned: they use the lanes again, so they wait
   * until all first answers are read.
   */
  #compare(lanes: number): number[] | undefined {
    const { results } = this.port;
    const { iovaLo, sizeLo, sizeHi, flags, outLo, outHi } = this.trace;
    const events = this.#events;
    let longer: number[] | undefined;
    for (let lane = 0; lane < lanes; lane++) {
      const event = events[lane]!;
      const low = results[lane * 2]!;
      const high = results[lane * 2 + 1]!;
      const mask = runMask((high >>> 24) & 0x3f);
      if (high >>> 31) {
        this.#refused(event, low);
      } else if (sizeHi[event] !== 0 || sizeLo[event]! - 1 > mask - ((iovaLo[event]! & mask) >>> 0)) {
        (longer ??= []).push(event);
      } else if (outLo[event] !== low || outHi[event] !== (high & HPA_HIGH) || flags[event]! & (T.FLAG_FAULT | T.FLAG_STALE)) {
        this.#translated(event, low, high & HPA_HIGH);
      }
    }
    return longer;
  }

  /** A request over several runs: granted if every part is, and the parts follow each other in memory. */
  #compareLong(event: number): void {
    const { trace, port } = this;
    const { requests, results } = port;
    const size = (trace.sizeHi[event] ?? 0) * TWO32 + (trace.sizeLo[event] ?? 0);
    const iovaLow = trace.iovaLo[event] ?? 0;
    const iovaHigh = trace.iovaHi[event] ?? 0;
    let firstLow = 0;
    let firstHigh = 0;
    for (let done = 0; done < size; ) {
      const sum = iovaLow + done;
      requests[0] = sum;
      requests[1] = iovaHigh + Math.floor(sum / TWO32);
      requests[2] = this.#route(event);
      requests[3] = (trace.flags[event] ?? 0) & ACCESS;
      port.translate(1);
      const low = results[0] ?? 0;
      const high = results[1] ?? 0;
      if (high >>> 31) {
        port.takeFaults();
        this.#refused(event, low);
        return;
      }
      if (done === 0) {
        firstLow = low;
        firstHigh = high & HPA_HIGH;
      } else if ((firstHigh * TWO32 + firstLow + done) % 2 ** 52 !== ((high & HPA_HIGH) * TWO32 + low) % 2 ** 52) {
        this.#mismatch(event, `0x${((BigInt(high & HPA_HIGH) << 32n) | BigInt(low)).toString(16)} at byte ${done}, not contiguous`);
        return;
      }
      // A run above 2^32 is gone through in pieces that a low word can count.
      const mask = runMask((high >>> 24) & 0x3f);
      done += mask - ((sum & mask) >>> 0) + 1;
    }
    this.#translated(event, firstLow, firstHigh);
  }

  #translated(event: number, low: number, high: number): void {
    const { trace } = this;
    const refusedThen = (trace.flags[event] ?? 0) & (T.FLAG_FAULT | T.FLAG_STALE);
    if (!refusedThen && trace.outLo[event] === low && trace.outHi[event] === high) return;
    this.#mismatch(event, `0x${((BigInt(high) << 32n) | BigInt(low)).toString(16)}`);
  }

  #refused(event: number, resultLow: number): void {
    const reason = resultLow & 0xff;
    this.#reasons[reason] = (this.#reasons[reason] ?? 0) + 1;
    const flags = this.trace.flags[event] ?? 0;
    if (flags & T.FLAG_STALE) this.#staleRefused++;
    else if (flags & T.FLAG_FAULT) this.#faults++;
    else this.#mismatch(event, `fault: ${L.REASON_NAMES[reason] ?? "unknown"}`);
  }

  #mismatch(event: number, got: string): void {
    const { trace } = this;
    this.#mismatches++;
    if (this.#first.length >= this.#keep) return;
    const flags = trace.flags[event] ?? 0;
    const stale = flags & T.FLAG_STALE ? "a fault (the recorded answer used a removed mapping)" : undefined;
    const fault = flags & T.FLAG_FAULT ? "a fault" : undefined;
    const expected = stale ?? fault ?? `0x${trace.out(event).toString(16)}`;
    this.#first.push({ line: trace.line[event] ?? 0, request: trace.describe(event).replaceAll("\t", " "), expected, got });
  }

  outcome(): DmaOutcome {
    const faultReasons: Record<string, number> = {};
    this.#reasons.forEach((n, reason) => {
      if (n) faultReasons[L.REASON_NAMES[reason] ?? "unknown"] = n;
    });
    return {
      faults: this.#faults, faultReasons, staleRefused: this.#staleRefused, mismatches: this.#mismatches,
      firstMismatches: this.#first, translateSeconds: this.#milliseconds / 1000,
    };
  }
}
