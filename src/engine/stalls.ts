// Accesses that wait for the answer to their page requests. Imports nothing but the engine's type.
import type { EngineAccess } from "./access.js";

export const PAGE_RESPONSE_SUCCESS = 0;
export const PAGE_RESPONSE_INVALID = 1;
export const PAGE_RESPONSE_FAILURE = 2;

interface Stall { code: number | undefined; wake: ((code: number | undefined) => void) | undefined }
interface State { next: number; stalls: Map<number, Stall> }
const states = new WeakMap<EngineAccess, State>();
const MOST = 1024;

export class Stalls {
  readonly #state: State;

  constructor(engine: EngineAccess) {
    const state = states.get(engine) ?? { next: 1, stalls: new Map() };
    states.set(engine, state);
    this.#state = state;
  }

  /** A group; undefined: all slots are taken. */
  open(): number | undefined {
    if (this.#state.stalls.size === MOST) return undefined;
    const group = this.#state.next++;
    this.#state.stalls.set(group, { code: undefined, wake: undefined });
    return group;
  }

  /** False: nobody waits for it any more. The first answer counts. */
  answer(group: number, code: number): boolean {
    const stall = this.#state.stalls.get(group);
    if (stall === undefined || stall.code !== undefined) return false;
    stall.code = code;
    stall.wake?.(code);
    return true;
  }

  /** The code; undefined: timed out. */
  wait(group: number, ms: number): Promise<number | undefined> {
    const stall = this.#state.stalls.get(group);
    if (stall === undefined || stall.code !== undefined) return Promise.resolve(stall?.code);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(undefined), ms);
      stall.wake = (code) => {
        clearTimeout(timer);
        resolve(code);
      };
    });
  }

  /** The device is done with it. */
  close(group: number): void {
    this.#state.stalls.delete(group);
  }
}
