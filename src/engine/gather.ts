// What a table holds or has noted in a range: leaves, and writes. The module answers in pieces, as much at a time as the scratch area takes.
// Imports access, errors, records, layout. Ranges are first..last, inclusive.
import type { EngineAccess } from "./access.js";
import { EngineError } from "./errors.js";
import * as L from "./layout.js";
import { appendLeafRun, type LeafRun, type Range, readLeafRuns, readRanges } from "./records.js";

export class Gather {
  readonly #engine: EngineAccess;
  readonly #settled: (status: number) => number;

  /** `settled` throws for a status that is no answer. */
  constructor(engine: EngineAccess, settled: (status: number) => number) {
    this.#engine = engine;
    this.#settled = settled;
  }

  leafRuns(domain: number, first: bigint, last: bigint): LeafRun[] {
    const { exports, address, memory } = this.#engine;
    const runs: LeafRun[] = [];
    this.#pieces(first, last, (from) => exports.leafRuns(address, domain, from, last), (scratch, found) => {
      for (const run of readLeafRuns(memory, scratch, found)) appendLeafRun(runs, run);
    });
    return runs;
  }

  /** Neighbours are joined. */
  dirty(domain: number, first: bigint, last: bigint, clear: boolean): Range[] {
    const ranges: Range[] = [];
    this.tellDirty(domain, first, last, clear, (range) => {
      const before = ranges.at(-1);
      if (before && before.last + 1n === range.first) before.last = range.last;
      else ranges.push(range);
    });
    return ranges;
  }

  /** Each range is told as soon as its leaves are clean. */
  tellDirty(domain: number, first: bigint, last: bigint, clear: boolean, take: (range: Range) => void): void {
    const { exports, address, memory } = this.#engine;
    this.#pieces(first, last, (from) => exports.collectDirty(address, domain, from, last, clear ? 1 : 0), (scratch, found) => {
      readRanges(memory, scratch, found).forEach(take);
    });
  }

  /** Calls from `first` on until all up to `last` is answered; each call fills the scratch area at most, and `take` empties it. */
  #pieces(first: bigint, last: bigint, call: (from: bigint) => bigint, take: (scratch: number, found: number) => void): void {
    for (let from = first; ;) {
      const reached = BigInt.asUintN(64, call(from));
      const found = this.#engine.word(L.ENGINE_FOUND);
      if (found === L.RECORDS_REFUSED) {
        throw new EngineError("BAD_ARGUMENT", "is no range of a table of the kernel's", "first..last", `${first}..${last}`);
      }
      if (found > L.RECORDS_REFUSED - L.STATUSES) this.#settled(L.RECORDS_REFUSED - found);
      take(this.#engine.word(L.ENGINE_SCRATCH), found);
      if (reached === last) return;
      from = reached + 1n;
    }
  }
}
