// The queue in which views on any thread report what was refused, and ask for pages, to the host's thread: bounded, in the arena. A
// full one drops the record and counts it. One thread writes at a time, under a lock that has its number: a thread that ends in the
// middle leaves nothing behind but the lock, which the host takes away. Imports access, layout, port-records.
import type { EngineAccess } from "./access.js";
import * as L from "./layout.js";
import { readFault, type RawFault } from "./port-records.js";

/** Which page request of which group: all requests of a group have the number of the access that waits. */
export interface RequestMark {
  readonly group: number;
  readonly last: boolean;
}

export interface FaultReport extends RawFault {
  /** A page request of an access that waits; undefined: an access was refused for good. */
  request: RequestMark | undefined;
}

/** Not in every engine, and so not in the types. */
type WaitAsync = (words: Int32Array, at: number, value: number, ms: number) => { async: false } | { async: true; value: Promise<unknown> };
const POLL_MS = 5;
/** Looks at the lock before a record is dropped: many times what it takes to write one. */
const MOST_LOOKS = 1_000_000;

/** Resolves once the word has another value than `seen`, or after the time; looks now and then where Atomics.waitAsync is missing. @internal */
export async function wordChanges(words: Int32Array, at: number, seen: number, ms = Infinity): Promise<void> {
  const { waitAsync } = Atomics as { waitAsync?: WaitAsync };
  if (waitAsync === undefined || !(words.buffer instanceof SharedArrayBuffer)) {
    const end = performance.now() + ms;
    while (Atomics.load(words, at) === seen && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    return;
  }
  const answer = waitAsync(words, at, seen, ms);
  if (answer.async) await answer.value;
}

export class ReportQueue {
  readonly #engine: EngineAccess;
  readonly #at: number;
  readonly #capacity: number;

  /** @internal `EngineAccess.reports` */
  constructor(engine: EngineAccess) {
    this.#engine = engine;
    this.#at = engine.word(L.ENGINE_QUEUE);
    this.#capacity = engine.word(L.ENGINE_QUEUE_CAPACITY);
  }

  /** Any thread. False: it was full, and the record is dropped and counted. */
  push(fault: RawFault, request?: RequestMark): boolean {
    const words = this.#words();
    const written = this.#lock(words) && this.#write(words, fault, request);
    if (!written) Atomics.add(words, this.#word(L.QUEUE_DROPPED), 1);
    Atomics.add(words, this.#word(L.QUEUE_CHANGES), 1);
    Atomics.notify(words, this.#word(L.QUEUE_CHANGES));
    return written;
  }

  #lock(words: Int32Array): boolean {
    for (let looks = MOST_LOOKS; looks > 0; looks--) {
      if (Atomics.compareExchange(words, this.#word(L.QUEUE_LOCK), 0, this.#engine.thread) === 0) return true;
    }
    return false;
  }

  /** Under the lock, which it gives back. False: there is no room. */
  #write(words: Int32Array, fault: RawFault, request: RequestMark | undefined): boolean {
    const head = Atomics.load(words, this.#word(L.QUEUE_HEAD));
    const room = ((head - Atomics.load(words, this.#word(L.QUEUE_TAIL))) >>> 0) < this.#capacity;
    if (room) {
      const record = this.#record(head);
      writeFault(new DataView(this.#engine.memory.buffer), record, fault);
      words[(record + L.QUEUE_GROUP) >>> 2] = request?.group ?? 0;
      words[(record + L.QUEUE_FLAGS) >>> 2] = request === undefined ? 0 : L.QUEUE_REQUEST | (request.last ? L.QUEUE_LAST : 0);
      Atomics.store(words, this.#word(L.QUEUE_HEAD), head + 1);
    }
    this.unlock(this.#engine.thread);
    return room;
  }

  /** The lock is free again if that thread has it: the thread itself is done, or, for the host, it has ended. */
  unlock(thread: number): void {
    Atomics.compareExchange(this.#words(), this.#word(L.QUEUE_LOCK), thread, 0);
  }

  /** The host's thread: the oldest record; undefined when there is none. */
  take(): FaultReport | undefined {
    const words = this.#words();
    const tail = Atomics.load(words, this.#word(L.QUEUE_TAIL));
    if (tail === Atomics.load(words, this.#word(L.QUEUE_HEAD))) return undefined;
    const record = this.#record(tail);
    const flags = words[(record + L.QUEUE_FLAGS) >>> 2] ?? 0;
    const group = (words[(record + L.QUEUE_GROUP) >>> 2] ?? 0) >>> 0;
    const request = flags & L.QUEUE_REQUEST ? { group, last: (flags & L.QUEUE_LAST) !== 0 } : undefined;
    const report = { ...readFault(new DataView(this.#engine.memory.buffer), record), request };
    Atomics.store(words, this.#word(L.QUEUE_TAIL), tail + 1);
    return report;
  }

  /** The host's thread: records dropped since the last call. */
  takeDropped(): number {
    return Atomics.exchange(this.#words(), this.#word(L.QUEUE_DROPPED), 0) >>> 0;
  }

  /** Pushes ever made, the dropped ones too, modulo 2^32. */
  get head(): number {
    return Atomics.load(this.#words(), this.#word(L.QUEUE_CHANGES)) >>> 0;
  }

  /** Resolves once something may have been pushed beyond `head` as it was: by another thread, so in shared memory. */
  waitBeyond(head: number): Promise<void> {
    return wordChanges(this.#words(), this.#word(L.QUEUE_CHANGES), head | 0);
  }

  #record(number: number): number {
    return this.#at + L.QUEUE_RECORDS + (number & (this.#capacity - 1)) * L.QUEUE_RECORD_BYTES;
  }

  #word(offset: number): number {
    return (this.#at + offset) >>> 2;
  }

  #words(): Int32Array {
    return this.#engine.signedWords();
  }
}

function writeFault(view: DataView, at: number, fault: RawFault): void {
  view.setBigUint64(at + L.FAULT_IOVA, fault.iova, true);
  view.setBigUint64(at + L.FAULT_IPA, fault.ipa, true);
  view.setBigUint64(at + L.FAULT_PTE, fault.pte, true);
  view.setUint32(at + L.FAULT_RID, fault.rid, true);
  view.setUint32(at + L.FAULT_PASID, fault.pasid, true);
  view.setUint32(at + L.FAULT_ROUTE, fault.route, true);
  view.setUint32(at + L.FAULT_LANE, fault.lane, true);
  view.setUint8(at + L.FAULT_ACCESS, fault.access);
  view.setUint8(at + L.FAULT_REASON, L.REASON_NAMES.indexOf(fault.reason));
  view.setUint8(at + L.FAULT_CLASS, L.CLASS_NAMES.indexOf(fault.class));
  view.setUint8(at + L.FAULT_STAGE, fault.stage);
  view.setUint8(at + L.FAULT_LEVEL, fault.level);
  view.setUint8(at + L.FAULT_RECOVERABLE, Number(fault.recoverable));
}
