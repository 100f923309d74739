// Work that several threads share: numbers first..first + n - 1, handed out in pieces to whoever asks next. Eight words of
// shared memory. Imports nothing.

const NEXT = 0;
const LIMIT = 1;
const DONE = 2;
/** Counts what was shared out: threads without work sleep on it. */
const ROUND = 3;
/** 1 ends the threads, 2 says that one has failed. */
const ENDED = 4;

export class Pieces {
  static readonly BYTES = 32;
  readonly #words: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer, 0, Pieces.BYTES / 4);
  }

  /** Shares out first..first + n - 1 in pieces of at most `most`. Precondition: what was shared out before is done. */
  shareOut(first: number, n: number, most: number): void {
    const words = this.#words;
    // Limit first and last: between the two there is nothing to claim.
    Atomics.store(words, LIMIT, 0);
    Atomics.store(words, NEXT, first);
    Atomics.store(words, DONE, 0);
    Atomics.store(words, LIMIT, first + n);
    Atomics.add(words, ROUND, 1);
    Atomics.notify(words, ROUND, Math.ceil(n / most));
  }

  /** Does pieces until none is left to claim. */
  work(most: number, run: (first: number, n: number) => void): void {
    const words = this.#words;
    for (;;) {
      const first = Atomics.load(words, NEXT);
      const n = Math.min(most, Atomics.load(words, LIMIT) - first);
      if (n <= 0) return;
      if (Atomics.compareExchange(words, NEXT, first, first + n) !== first) continue;
      run(first, n);
      Atomics.add(words, DONE, n);
      Atomics.notify(words, DONE);
    }
  }

  /** Does pieces of whatever is shared out, until `end`. Blocks: for a worker that does nothing else. */
  serve(most: number, run: (first: number, n: number) => void): void {
    const words = this.#words;
    for (;;) {
      const round = Atomics.load(words, ROUND);
      this.work(most, run);
      if (Atomics.load(words, ENDED) !== 0) return;
      Atomics.wait(words, ROUND, round);
    }
  }

  /** Waits until n are done; false if a thread has failed, or it takes longer than that. Blocks. */
  wait(n: number, milliseconds: number): boolean {
    const words = this.#words;
    const last = performance.now() + milliseconds;
    for (;;) {
      const done = Atomics.load(words, DONE);
      if (done === n) return true;
      const left = last - performance.now();
      if (left <= 0 || Atomics.load(words, ENDED) !== 0) return false;
      Atomics.wait(words, DONE, done, left);
    }
  }

  /** Ends `serve` on every thread. */
  end(): void {
    this.#close(1);
  }

  /** Says that a thread will not do what it has claimed. */
  fail(): void {
    this.#close(2);
  }

  #close(why: number): void {
    const words = this.#words;
    Atomics.store(words, ENDED, why);
    Atomics.add(words, ROUND, 1);
    Atomics.notify(words, ROUND);
    Atomics.notify(words, DONE);
  }

  /** Ready for another `serve`. Precondition: every thread has left the last one. */
  reopen(): void {
    Atomics.store(this.#words, ENDED, 0);
    Atomics.store(this.#words, LIMIT, 0);
  }
}
