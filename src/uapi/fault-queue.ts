// The user's end of the fault queue of an ioasid fd: read what is there, await what comes, or be called. The other end is
// fault-inbox.ts. May import arguments.ts, errno.ts, fault-*.ts. RFC section 5.6.

import { show } from "./arguments.js";
import { IoctlError } from "./errno.js";
import type { FaultDispatch } from "./fault-dispatch.js";
import type { FaultInbox } from "./fault-inbox.js";
import type { FaultRecord } from "./fault-record.js";
import type { FaultRingView } from "./fault-ring-layout.js";

const LAST_TIMEOUT = 2 ** 31 - 1;

export interface NextOptions {
  /** Milliseconds, up to 2^31 - 1; default Infinity. */
  readonly timeout?: number;
}

type Waiter = (record: FaultRecord | undefined) => void;

/** Records come in the order in which they were reported, each to one reader: those who await first, then `onRecord`. */
export class FaultQueue {
  /** The records themselves, unread ones from `tail` to `head`, for those who look without taking. */
  readonly ring: FaultRingView;
  readonly #inbox: FaultInbox;
  readonly #dispatch: FaultDispatch;
  readonly #waiters = new Set<Waiter>();
  #callback: ((record: FaultRecord) => void) | undefined;
  #calling = false;
  #closed = false;

  /** @internal IoasidFd makes it. */
  constructor(inbox: FaultInbox, dispatch: FaultDispatch) {
    this.ring = inbox.ring.view;
    this.#inbox = inbox;
    this.#dispatch = dispatch;
  }

  /** Groups of page requests that wait for an answer. */
  get pending(): number {
    return this.#inbox.pending;
  }

  /** Records that found the queue full since the fd was opened; overflow records tell them too. */
  get dropped(): number {
    return this.#inbox.dropped;
  }

  /** Takes what is there, oldest first, at most `max` records; never waits. @throws IoctlError EBADF, EINVAL (max). */
  read(max = Infinity): FaultRecord[] {
    const call = "faults.read";
    if (this.#closed) throw new IoctlError("EBADF", call, "the fd is closed", { hint: "open /dev/ioasid anew" });
    if (max !== Infinity && !(Number.isInteger(max) && max >= 1)) {
      throw new IoctlError("EINVAL", call, `max is ${show(max)}`, { field: "max", value: max, hint: "it must be an integer from 1 up" });
    }
    this.#dispatch.drain();
    const records: FaultRecord[] = [];
    while (records.length < max) {
      const record = this.#inbox.take();
      if (record === undefined) break;
      records.push(record);
    }
    return records;
  }

  /** The next record; undefined when none came in time, or the fd was closed. @throws IoctlError EINVAL (timeout), as a rejection. */
  async next({ timeout = Infinity }: NextOptions = {}): Promise<FaultRecord | undefined> {
    if (timeout !== Infinity && !(Number.isInteger(timeout) && timeout >= 0 && timeout <= LAST_TIMEOUT)) {
      const details = { field: "timeout", value: timeout, hint: `it must be Infinity, or milliseconds of 0..${LAST_TIMEOUT}` };
      throw new IoctlError("EINVAL", "faults.next", `timeout is ${show(timeout)}`, details);
    }
    if (this.#closed) return undefined;
    this.#dispatch.drain();
    // Those who wait already come first.
    const record = this.#waiters.size === 0 ? this.#inbox.take() : undefined;
    return record ?? (timeout === 0 ? undefined : this.#wait(timeout));
  }

  #wait(timeout: number): Promise<FaultRecord | undefined> {
    return new Promise((resolve) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const waiter: Waiter = (record) => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        this.#dispatch.watch(-1);
        resolve(record);
      };
      if (timeout !== Infinity) timer = setTimeout(() => waiter(undefined), timeout);
      this.#waiters.add(waiter);
      this.#dispatch.watch(1);
    });
  }

  /** Every record from now on, until the fd is closed. */
  async *[Symbol.asyncIterator](): AsyncGenerator<FaultRecord, void, undefined> {
    for (;;) {
      const record = await this.next();
      if (record === undefined) return;
      yield record;
    }
  }

  /**
   * Called with each record that nobody awaits, on the host's thread: as soon as a view there has reported it, and when a call finds what
   * workers have. It may make calls of its own, outside sections; what it throws becomes an unhandled rejection.
   */
  get onRecord(): ((record: FaultRecord) => void) | undefined {
    return this.#callback;
  }

  set onRecord(callback: ((record: FaultRecord) => void) | undefined) {
    if (callback !== undefined && typeof callback !== "function") {
      const details = { field: "onRecord", value: callback, hint: "or undefined" };
      throw new IoctlError("EINVAL", "faults.onRecord", `it must be a function, not ${show(callback)}`, details);
    }
    if (this.#closed) return;
    this.#callback = callback;
    this.arrived();
  }

  /** @internal There may be records for those who wait. */
  arrived(): void {
    for (const waiter of this.#waiters) {
      const record = this.#inbox.take();
      if (record === undefined) return;
      waiter(record);
    }
    // A call that the callback makes may bring more records: they come after this one.
    if (this.#calling) return;
    this.#calling = true;
    try {
      while (this.#callback !== undefined) {
        const record = this.#inbox.take();
        if (record === undefined) break;
        this.#call(this.#callback, record);
      }
    } finally {
      this.#calling = false;
    }
  }

  /** Whoever happened to bring the record has no part in an error of its reader. */
  #call(callback: (record: FaultRecord) => void, record: FaultRecord): void {
    try {
      callback(record);
    } catch (error) {
      void Promise.reject(error);
    }
  }

  /** @internal The fd is closed: nobody waits any more. */
  close(): void {
    this.#closed = true;
    this.#callback = undefined;
    for (const waiter of [...this.#waiters]) waiter(undefined);
  }
}
