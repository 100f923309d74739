// Accesses that wait for pages: a place each in the arena, with its generation and what it was answered, and whose it is. The number of a
// group is generation and place, so that an answer that comes late is never taken by the next access in the same place.
// Imports access, layout, report-queue (waiting).
import type { EngineAccess } from "./access.js";
import * as L from "./layout.js";
import { wordChanges } from "./report-queue.js";

/** What a page request is answered: try again; the page is not there; the request itself went wrong. */
export const PAGE_RESPONSE_SUCCESS = 0;
export const PAGE_RESPONSE_INVALID = 1;
export const PAGE_RESPONSE_FAILURE = 2;

const GENERATIONS = 2 ** (32 - L.STALL_STATE_BITS);
const ANSWER_MASK = 2 ** L.STALL_STATE_BITS - 1;
const STALL_WORDS = L.STALL_BYTES >>> 2;
/** From the word of a state to that of the thread. */
const OWNER = L.STALL_THREAD >>> 2;

/** What waits on this thread, by the word of its place; woken by an answer that is given on it too. Engines may share a memory. */
const waitingHere = new WeakMap<WebAssembly.Memory, Map<number, () => void>>();

export class Stalls {
  readonly #engine: EngineAccess;
  readonly #at: number;
  readonly #lg2: number;
  readonly #waiting: Map<number, () => void>;
  #next = 0;

  /** @internal `EngineAccess.stalls` */
  constructor(engine: EngineAccess) {
    this.#engine = engine;
    this.#at = engine.word(L.ENGINE_STALLS) >>> 2;
    this.#lg2 = 31 - Math.clz32(engine.word(L.ENGINE_STALL_CAPACITY));
    this.#waiting = waitingHere.get(engine.memory) ?? new Map<number, () => void>();
    waitingHere.set(engine.memory, this.#waiting);
  }

  /** Any thread: the group of one more access; undefined when as many wait as can. */
  open(): number | undefined {
    const words = this.#engine.signedWords();
    const count = 2 ** this.#lg2;
    for (let probes = 0; probes < count; probes++) {
      const place = this.#next++ % count;
      const at = this.#stateAt(place);
      if (Atomics.compareExchange(words, at + OWNER, 0, this.#engine.thread) !== 0) continue;
      const generation = ((Atomics.load(words, at) >>> L.STALL_STATE_BITS) + 1) % GENERATIONS;
      Atomics.store(words, at, (generation << L.STALL_STATE_BITS) | L.STALL_WAITS);
      return this.#group(generation, place);
    }
    return undefined;
  }

  /** The host's thread. False: nobody waits for it any more, or it is answered. */
  answer(group: number, code: number): boolean {
    const words = this.#engine.signedWords();
    const at = this.#stateAt(this.#place(group));
    const state = Atomics.load(words, at);
    if (!this.#isOf(state, group) || (state & ANSWER_MASK) !== L.STALL_WAITS) return false;
    if (Atomics.compareExchange(words, at, state, state - L.STALL_WAITS + L.STALL_ANSWERED + code) !== state) return false;
    this.#waiting.get(at)?.();
    Atomics.notify(words, at);
    return true;
  }

  /** The answer; undefined: none within `ms`. A process stays alive meanwhile. */
  async wait(group: number, ms: number): Promise<number | undefined> {
    const end = performance.now() + ms;
    const alive = setInterval(() => undefined, 2 ** 30);
    try {
      for (let left = ms; ; left = end - performance.now()) {
        const state = this.#state(group);
        const answer = this.#answerOf(state, group);
        if (answer !== undefined || left <= 0) return answer;
        await this.#changes(group, state, left);
      }
    } finally {
      clearInterval(alive);
    }
  }

  /** The same on a thread that may block, and is not the one that answers. */
  waitBlocking(group: number, ms: number): number | undefined {
    const end = performance.now() + ms;
    for (let left = ms; ; left = end - performance.now()) {
      const state = this.#state(group);
      const answer = this.#answerOf(state, group);
      if (answer !== undefined || left <= 0) return answer;
      Atomics.wait(this.#engine.signedWords(), this.#stateAt(this.#place(group)), state, left);
    }
  }

  /** The access is over: its place is free, and answers that come late go nowhere. */
  close(group: number): void {
    const words = this.#engine.signedWords();
    const at = this.#stateAt(this.#place(group));
    if (this.#isOf(Atomics.load(words, at), group)) this.#free(words, at);
  }

  #free(words: Int32Array, at: number): void {
    Atomics.and(words, at, ~ANSWER_MASK);
    Atomics.store(words, at + OWNER, 0);
  }

  /** The host's thread: that thread has ended, and nobody waits for what its accesses asked. */
  endThread(thread: number): void {
    const words = this.#engine.signedWords();
    for (let place = 0; place < 2 ** this.#lg2; place++) {
      const at = this.#stateAt(place);
      if (Atomics.load(words, at + OWNER) === thread) this.#free(words, at);
    }
  }

  /** Resolves when the state may be another one. */
  #changes(group: number, state: number, ms: number): Promise<void> {
    if (this.#engine.thread !== L.HOST_THREAD) return wordChanges(this.#engine.signedWords(), this.#stateAt(this.#place(group)), state, ms);
    const at = this.#stateAt(this.#place(group));
    return new Promise((resolve) => {
      const timer = ms === Infinity ? undefined : setTimeout(() => done(), Math.min(ms, 2 ** 31 - 1));
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(at);
        resolve();
      };
      this.#waiting.set(at, done);
    });
  }

  #state(group: number): number {
    return Atomics.load(this.#engine.signedWords(), this.#stateAt(this.#place(group)));
  }

  #answerOf(state: number, group: number): number | undefined {
    const answer = (state & ANSWER_MASK) - L.STALL_ANSWERED;
    return this.#isOf(state, group) && answer >= 0 ? answer : undefined;
  }

  #stateAt(place: number): number {
    return this.#at + place * STALL_WORDS;
  }

  #place(group: number): number {
    return group & (2 ** this.#lg2 - 1);
  }

  #group(generation: number, place: number): number {
    return ((generation << this.#lg2) | place) >>> 0;
  }

  /** Of the generation only what the group's number has room for can be compared. */
  #isOf(state: number, group: number): boolean {
    return this.#group(state >>> L.STALL_STATE_BITS, this.#place(group)) === group;
  }
}
