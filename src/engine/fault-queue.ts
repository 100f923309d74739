// What devices report to the host: one queue of an engine, bounded. Imports the record's type.
import type { EngineAccess } from "./access.js";
import type { RawFault } from "./port-records.js";

export interface FaultReport extends RawFault {
  /** A page request of an access that waits; undefined: an event. */
  request: { group: number; last: boolean } | undefined;
}

const CAPACITY = 1024;
interface State { reports: FaultReport[]; head: number; dropped: number; waiters: (() => void)[] }
const states = new WeakMap<EngineAccess, State>();

export class FaultQueue {
  readonly #state: State;

  constructor(engine: EngineAccess) {
    const state = states.get(engine) ?? { reports: [], head: 0, dropped: 0, waiters: [] };
    states.set(engine, state);
    this.#state = state;
  }

  /** False when it is full: the record is dropped and counted. */
  push(fault: RawFault, request?: { group: number; last: boolean }): boolean {
    const state = this.#state;
    if (state.reports.length === CAPACITY) {
      state.dropped++;
      return false;
    }
    state.reports.push({ ...fault, request });
    state.head = (state.head + 1) >>> 0;
    for (const wake of state.waiters.splice(0)) wake();
    return true;
  }

  take(): FaultReport | undefined {
    return this.#state.reports.shift();
  }

  takeDropped(): number {
    const { dropped } = this.#state;
    this.#state.dropped = 0;
    return dropped;
  }

  get head(): number {
    return this.#state.head;
  }

  waitBeyond(seen: number): Promise<void> {
    return this.head !== seen ? Promise.resolve() : new Promise((resolve) => this.#state.waiters.push(resolve));
  }
}
