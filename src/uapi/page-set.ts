// A set of 4-KiB page numbers, kept as runs: the pages of an address space that are known to be dirty.
// Imports the range map. Runs are inclusive, first..last; two runs never touch, so a set has one form only.
import { RangeMap } from "./range-map.js";

export interface PageRun {
  readonly first: number;
  readonly last: number;
}

export class PageSet {
  readonly #runs: RangeMap<undefined>;
  #pages = 0;

  /** @param chunkEntries as in RangeMap. */
  constructor(chunkEntries?: number) {
    this.#runs = new RangeMap(chunkEntries);
  }

  /** Number of pages in the set. */
  get pages(): number {
    return this.#pages;
  }

  /**
   * Adds the pages first..last, those that are in the set already too. Throws RangeError, and changes nothing, when a bound
   * is no page number (an integer 0..2^53 - 1) or first is above last. So does `remove`.
   */
  add(first: number, last: number): void {
    checkRange("add", first, last);
    const inside = this.#runs.find(first);
    if (inside !== undefined && inside.last >= last) return;
    let run: PageRun = { first, last };
    // Neighbours too: they become one run with this one.
    for (const old of this.#runs.overlapping(first - 1, last + 1)) {
      this.#drop(old);
      run = { first: Math.min(run.first, old.first), last: Math.max(run.last, old.last) };
    }
    this.#put(run.first, run.last);
  }

  /** Removes the pages first..last, those that are not in the set too. */
  remove(first: number, last: number): void {
    checkRange("remove", first, last);
    for (const old of this.#runs.overlapping(first, last)) {
      this.#drop(old);
      if (old.first < first) this.#put(old.first, first - 1);
      if (old.last > last) this.#put(last + 1, old.last);
    }
  }

  /** The pages of the set that are in first..last, as runs, ascending; the set may be changed while the result is read. */
  within(first: number, last: number): PageRun[] {
    return this.#runs.overlapping(first, last).map((run) => ({ first: Math.max(run.first, first), last: Math.min(run.last, last) }));
  }

  clear(): void {
    this.#runs.clear();
    this.#pages = 0;
  }

  #put(first: number, last: number): void {
    this.#runs.insert(first, last, undefined);
    this.#pages += last - first + 1;
  }

  #drop({ first, last }: PageRun): void {
    this.#runs.remove(first);
    this.#pages -= last - first + 1;
  }
}

function checkRange(call: string, first: number, last: number): void {
  if (Number.isSafeInteger(first) && Number.isSafeInteger(last) && first >= 0 && first <= last) return;
  throw new RangeError(`PageSet.${call}: ${first}..${last} is not a range of pages`);
}
