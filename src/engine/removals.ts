// Unmap, of one range or a list, and what one that could not wait for every port has removed: the same call, made again, answers that
// too. It removes once more whatever is there, so that nothing stays that was mapped meanwhile.
// Imports access, records, layout. Ranges are first..last, inclusive.
import type { EngineAccess } from "./access.js";
import * as L from "./layout.js";
import { MOST_RANGES, type Range, writeRanges } from "./records.js";

/** A call that has removed `bytes` and could not wait for a port. */
interface Unfinished {
  readonly ranges: readonly Range[];
  readonly bytes: bigint;
}

export class Removals {
  readonly #engine: EngineAccess;
  /** By domain: a call for one may come before another's is made again. */
  readonly #unfinished = new Map<number, Unfinished>();

  constructor(engine: EngineAccess) {
    this.#engine = engine;
  }

  /** Bytes removed, or L.UNMAP_*. */
  unmap(domain: number, first: bigint, last: bigint): bigint {
    const { exports, address } = this.#engine;
    const bytes = BigInt.asUintN(64, exports.unmap(address, domain, first, last));
    if (this.#unfinished.size === 0 && bytes !== L.UNMAP_STALLED) return bytes;
    const ranges = [{ first, last }];
    return this.#answer(domain, ranges, bytes, this.#before(domain, ranges));
  }

  /** Bytes removed, or L.UNMAP_* and nothing is removed. */
  unmapMany(domain: number, ranges: readonly Range[]): bigint {
    const { exports, address } = this.#engine;
    // One call checks what it holds; of several all are checked first.
    for (let at = 0; ranges.length > MOST_RANGES && at < ranges.length; at += MOST_RANGES) {
      const refusal = BigInt.asUintN(64, exports.checkUnmaps(address, domain, this.#write(ranges, at)));
      if (refusal !== 0n) return refusal;
    }
    let bytes = this.#before(domain, ranges);
    for (let at = 0; at < ranges.length; at += MOST_RANGES) {
      const answer = BigInt.asUintN(64, exports.unmapMany(address, domain, this.#write(ranges, at)));
      if (answer >= L.UNMAP_STALLED) return this.#answer(domain, ranges, answer, bytes);
      bytes += answer;
    }
    return this.#answer(domain, ranges, 0n, bytes);
  }

  /** The domain is no more: its index may be another's. */
  forget(domain: number): void {
    this.#unfinished.delete(domain);
  }

  /** Bytes that the same call has removed before. */
  #before(domain: number, ranges: readonly Range[]): bigint {
    const begun = this.#unfinished.get(domain);
    return begun !== undefined && sameRanges(begun.ranges, ranges) ? begun.bytes : 0n;
  }

  /** `answer` of the last call of the module for these ranges, before which `bytes` were removed. */
  #answer(domain: number, ranges: readonly Range[], answer: bigint, bytes: bigint): bigint {
    if (answer > L.UNMAP_STALLED) return answer;
    if (answer < L.UNMAP_STALLED) {
      this.#unfinished.delete(domain);
      return bytes + answer;
    }
    const removed = new DataView(this.#engine.memory.buffer).getBigUint64(this.#engine.address + L.ENGINE_UNFINISHED, true);
    const all = bytes + (removed < L.UNMAP_STALLED ? removed : 0n);
    if (all > 0n) this.#unfinished.set(domain, { ranges, bytes: all });
    return L.UNMAP_STALLED;
  }

  #write(ranges: readonly Range[], at: number): number {
    const { memory } = this.#engine;
    return writeRanges(memory, this.#engine.word(L.ENGINE_SCRATCH), ranges, at);
  }
}

function sameRanges(some: readonly Range[], others: readonly Range[]): boolean {
  return some.length === others.length && some.every(({ first, last }, n) => first === others[n]!.first && last === others[n]!.last);
}
