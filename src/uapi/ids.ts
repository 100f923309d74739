// Numbers that are handed out once and never again, so that a stale one cannot name something new.
// Imports nothing.

/** Ascending numbers from 1: handles of I/O address spaces, labels of bound devices. */
export class Ids {
  readonly #last: number;
  #next = 1;

  /** @param last the largest number that may be handed out. */
  constructor(last: number) {
    this.#last = last;
  }

  get exhausted(): boolean {
    return this.#next > this.#last;
  }

  /** Was this number ever handed out? */
  isTaken(number: number): boolean {
    return number >= 1 && number < this.#next;
  }

  /** The next number, or undefined when all are used up. */
  take(): number | undefined {
    return this.exhausted ? undefined : this.#next++;
  }
}
