// An ordered map of disjoint ranges of 4-KiB page numbers: the mapped areas of an I/O address space.
// Imports nothing. Ranges are inclusive, first..last; a page number (address / 4096) is below 2^52, so it is exact here.
// A sorted list cut into chunks: one binary search finds the chunk, a second one the entry, and a change moves one chunk.

/** One range and what it stands for. The map hands out its own entries: an entry stays as it is until it is removed. */
export interface Entry<V> {
  readonly first: number;
  readonly last: number;
  readonly value: V;
}

/** Neighbouring entries; `firsts[i]` is `entries[i].first`, kept apart so that a search reads plain numbers. */
interface Chunk<V> {
  readonly firsts: number[];
  readonly entries: Entry<V>[];
}

const CHUNK_ENTRIES = 128;

/** How many of the ascending numbers are at or below the limit. */
function countUpTo(ascending: readonly number[], limit: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Disjoint ranges of page numbers, ascending. `find` and `firstIn` allocate nothing; all calls are O(log n) and a short move. */
export class RangeMap<V> {
  readonly #capacity: number;
  /** At least one chunk; a chunk is empty only when it is the only one. */
  #chunks: Chunk<V>[] = [{ firsts: [], entries: [] }];
  /** First page of each chunk, exact from the second chunk on; the first chunk also takes all that is below. */
  #heads: number[] = [0];
  #size = 0;
  /** The cursor that `#locate` and `#step` move: a chunk, and an entry of it (-1: before the first entry). */
  #chunk = 0;
  #slot = -1;

  /** @param chunkEntries most entries of one chunk, 4 or more: a small one reaches splits and merges with few entries. */
  constructor(chunkEntries = CHUNK_ENTRIES) {
    if (!(Number.isInteger(chunkEntries) && chunkEntries >= 4)) {
      throw new RangeError(`RangeMap: chunkEntries ${chunkEntries} is no integer from 4 up`);
    }
    this.#capacity = chunkEntries;
  }

  /** Number of entries. */
  get size(): number {
    return this.#size;
  }

  /** The entry that contains the page. */
  find(page: number): Entry<V> | undefined {
    const entry = this.#locate(page);
    return entry !== undefined && entry.last >= page ? entry : undefined;
  }

  /** The lowest entry that shares a page with first..last. Throws RangeError when first is above last. */
  firstIn(first: number, last: number): Entry<V> | undefined {
    if (!(first <= last)) throw new RangeError(`RangeMap: first ${first} is above last ${last}`);
    const before = this.#locate(first);
    const entry = before !== undefined && before.last >= first ? before : this.#step();
    return entry !== undefined && entry.first <= last ? entry : undefined;
  }

  /** All entries that share a page with first..last, ascending; the map may be changed while the result is read. */
  overlapping(first: number, last: number): Entry<V>[] {
    const found: Entry<V>[] = [];
    let entry = this.firstIn(first, last);
    while (entry !== undefined && entry.first <= last) {
      found.push(entry);
      entry = this.#step();
    }
    return found;
  }

  /**
   * Adds first..last. Throws RangeError, and changes nothing, when a bound is no page number (an integer 0..2^53 - 1),
   * when first is above last, or when the range shares a page with an entry: the caller has to look first.
   */
  insert(first: number, last: number, value: V): void {
    if (!(Number.isSafeInteger(first) && Number.isSafeInteger(last) && first >= 0 && first <= last)) {
      throw new RangeError(`RangeMap.insert: ${first}..${last} is not a range of pages`);
    }
    const before = this.#locate(first);
    const index = this.#chunk;
    const at = this.#slot + 1;
    const other = before !== undefined && before.last >= first ? before : this.#step();
    if (other !== undefined && other.first <= last) {
      throw new RangeError(`RangeMap.insert: ${first}..${last} overlaps ${other.first}..${other.last}`);
    }
    this.#insertAt(index, at, { first, last, value });
    this.#size++;
  }

  /** Removes the entry that begins exactly at `first`; false when there is none. */
  remove(first: number): boolean {
    if (this.#locate(first)?.first !== first) return false;
    const index = this.#chunk;
    const { firsts, entries } = this.#chunks[index]!;
    firsts.splice(this.#slot, 1);
    entries.splice(this.#slot, 1);
    this.#size--;
    if (this.#slot === 0 && firsts.length > 0) this.#heads[index] = firsts[0]!;
    if (entries.length <= this.#capacity >>> 2 && !this.#merge(index)) this.#merge(index - 1);
    return true;
  }

  clear(): void {
    this.#chunks = [{ firsts: [], entries: [] }];
    this.#heads = [0];
    this.#size = 0;
  }

  /** Entries in ascending order. The map must not change while it is iterated. */
  *[Symbol.iterator](): IterableIterator<Entry<V>> {
    for (const chunk of this.#chunks) yield* chunk.entries;
  }

  /** Moves the cursor to the last entry that begins at or below the page, and returns it. */
  #locate(page: number): Entry<V> | undefined {
    this.#chunk = Math.max(countUpTo(this.#heads, page) - 1, 0);
    const chunk = this.#chunks[this.#chunk]!;
    this.#slot = countUpTo(chunk.firsts, page) - 1;
    return this.#slot < 0 ? undefined : chunk.entries[this.#slot];
  }

  /** Moves the cursor to the next entry, and returns it. */
  #step(): Entry<V> | undefined {
    this.#slot++;
    if (this.#slot >= this.#chunks[this.#chunk]!.entries.length) {
      if (this.#chunk + 1 >= this.#chunks.length) return undefined;
      this.#chunk++;
      this.#slot = 0;
    }
    return this.#chunks[this.#chunk]!.entries[this.#slot];
  }

  /** Puts an entry at a place of a chunk, and splits the chunk first when it is full. */
  #insertAt(index: number, at: number, entry: Entry<V>): void {
    const { firsts, entries } = this.#chunks[index]!;
    const full = entries.length === this.#capacity;
    if (at === entries.length) {
      // Ascending inserts are common and leave full chunks behind.
      if (full) return this.#insertChunk(index + 1, { firsts: [entry.first], entries: [entry] });
      firsts.push(entry.first);
      entries.push(entry);
      return;
    }
    if (full) {
      const keep = this.#capacity >>> 1;
      this.#insertChunk(index + 1, { firsts: firsts.splice(keep), entries: entries.splice(keep) });
      if (at > keep) return this.#insertAt(index + 1, at - keep, entry);
    }
    firsts.splice(at, 0, entry.first);
    entries.splice(at, 0, entry);
  }

  #insertChunk(index: number, chunk: Chunk<V>): void {
    this.#chunks.splice(index, 0, chunk);
    this.#heads.splice(index, 0, chunk.firsts[0]!);
  }

  /** Joins a chunk and its right neighbour when one chunk can hold both. */
  #merge(index: number): boolean {
    const left = this.#chunks[index];
    const right = this.#chunks[index + 1];
    if (left === undefined || right === undefined || left.entries.length + right.entries.length > this.#capacity) return false;
    left.firsts.push(...right.firsts);
    left.entries.push(...right.entries);
    this.#chunks.splice(index + 1, 1);
    this.#heads.splice(index + 1, 1);
    this.#heads[index] = left.firsts[0] ?? 0;
    return true;
  }
}
