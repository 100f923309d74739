// Pinned memory of the user process: how often each page is pinned, and what is charged to the lock limit.
// May import range-map.ts. Ranges are pages of host virtual addresses, inclusive, first..last.
// Rule: one `Pins` charges a page once, however many of its maps cover the page; two `Pins` charge it twice.

import { type Entry, RangeMap } from "./range-map.js";

/** What all pins of a process together have charged. Counts pages, so a limit that is no multiple of 4096 is rounded down. */
export class LockAccount {
  /** Bytes. */
  readonly limit: bigint;
  readonly limitPages: number;
  pages = 0;

  constructor(limit: bigint) {
    this.limit = limit;
    this.limitPages = Number(limit >> 12n);
  }
}

/** How often a run of pages is pinned, and whether it is charged (memory is, a device's is not). */
interface Pinned {
  count: number;
  readonly charged: boolean;
}

/** Who holds pins, for messages: `ioasid` when it is one space. */
export interface PinOwner {
  readonly name: string;
  readonly ioasid?: number;
}

/** The pins of one owner. Runs of pages with one count; their number stays below twice the number of pinned ranges. */
export class Pins {
  /** Whose pins these are: a space's, or all that an fd's spaces or its registered memory have pinned. */
  readonly owner: PinOwner;
  readonly #account: LockAccount;
  readonly #runs = new RangeMap<Pinned>();
  #charged = 0;

  constructor(account: LockAccount, owner: PinOwner) {
    this.#account = account;
    this.owner = owner;
  }

  /** Pages charged to the lock limit. */
  get charged(): number {
    return this.#charged;
  }

  /** Runs that are kept: what the pins cost. */
  get runs(): number {
    return this.#runs.size;
  }

  overlaps(first: number, last: number): boolean {
    return this.#runs.firstIn(first, last) !== undefined;
  }

  /** How many pages of the range are not pinned yet. */
  countFresh(first: number, last: number): number {
    if (this.#runs.firstIn(first, last) === undefined) return last - first + 1;
    let fresh = last - first + 1;
    for (const run of this.#runs.overlapping(first, last)) fresh -= Math.min(run.last, last) - Math.max(run.first, first) + 1;
    return fresh;
  }

  /** Pins every page of the range once more. `charged` holds for the pages that were not pinned. */
  pin(first: number, last: number, charged: boolean): void {
    let at = first;
    while (at <= last) {
      const run = this.#runs.firstIn(at, last);
      const gapLast = run === undefined ? last : run.first - 1;
      if (gapLast >= at) {
        this.#runs.insert(at, gapLast, { count: 1, charged });
        if (charged) this.#charge(gapLast - at + 1);
      }
      if (run === undefined) return;
      const to = Math.min(run.last, last);
      this.#cut(run, Math.max(run.first, at), to).count++;
      at = to + 1;
    }
  }

  /** Takes back one `pin` of exactly this range, or of several that lie in it end to end. */
  unpin(first: number, last: number): void {
    let at = first;
    while (at <= last) {
      const run = this.#runs.find(at);
      if (run === undefined) throw new RangeError(`page ${at} is not pinned`);
      const to = Math.min(run.last, last);
      const pinned = this.#cut(run, at, to);
      if (--pinned.count === 0) {
        this.#runs.remove(at);
        if (pinned.charged) this.#charge(at - to - 1);
      } else {
        this.#join(at);
        if (to === last) this.#join(last + 1);
      }
      at = to + 1;
    }
  }

  /** Takes back everything. */
  clear(): void {
    this.#runs.clear();
    this.#charge(-this.#charged);
  }

  #charge(pages: number): void {
    this.#charged += pages;
    this.#account.pages += pages;
  }

  /** Makes a range inside the run a run of its own. */
  #cut(run: Entry<Pinned>, first: number, last: number): Pinned {
    if (run.first === first && run.last === last) return run.value;
    const { count, charged } = run.value;
    const middle = { count, charged };
    this.#runs.remove(run.first);
    if (run.first < first) this.#runs.insert(run.first, first - 1, { count, charged });
    this.#runs.insert(first, last, middle);
    if (run.last > last) this.#runs.insert(last + 1, run.last, { count, charged });
    return middle;
  }

  /** Joins the runs on both sides of the page's start when they are alike: a cut that no pin needs any more. */
  #join(page: number): void {
    const right = this.#runs.find(page);
    if (right === undefined || right.first !== page) return;
    const left = this.#runs.find(page - 1);
    if (left === undefined || left.value.count !== right.value.count || left.value.charged !== right.value.charged) return;
    this.#runs.remove(left.first);
    this.#runs.remove(right.first);
    this.#runs.insert(left.first, right.last, left.value);
  }
}
