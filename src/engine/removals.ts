// Unmap, of one range or a list, and what is left of one that could not wait for every port: the same call, made again, goes on
// where it stopped. Imports access, records, layout. Ranges are first..last, inclusive.
import type { EngineAccess } from "./access.js";
import * as L from "./layout.js";
import { MOST_RANGES, type Range, writeRanges } from "./records.js";

/** A call that has removed the ranges before `reached`, `bytes` in all, and waits for a port. */
interface Unfinished {
  readonly domain: number;
  readonly ranges: readonly Range[];
  readonly reached: number;
  readonly bytes: bigint;
}

export class Removals {
  readonly #engine: EngineAccess;
  readonly #settle: () => void;
  #unfinished: Unfinished | undefined;

  /** `settle` waits for the ports that an earlier change still waits for, or throws. */
  constructor(engine: EngineAccess, settle: () => void) {
    this.#engine = engine;
    this.#settle = settle;
  }

  /** Bytes removed, or L.UNMAP_*. */
  unmap(domain: number, first: bigint, last: bigint): bigint {
    if (this.#unfinished) return this.#again(this.#unfinished, domain, [{ first, last }]);
    const { exports, address } = this.#engine;
    const bytes = BigInt.asUintN(64, exports.unmap(address, domain, first, last));
    return bytes === L.UNMAP_STALLED ? this.#stalled(domain, [{ first, last }], 1, 0n) : bytes;
  }

  /** Bytes removed, or L.UNMAP_* and nothing is removed. */
  unmapMany(domain: number, ranges: readonly Range[]): bigint {
    if (this.#unfinished) return this.#again(this.#unfinished, domain, ranges);
    const { exports, address } = this.#engine;
    // One call checks what it holds; of several all are checked first.
    for (let at = 0; ranges.length > MOST_RANGES && at < ranges.length; at += MOST_RANGES) {
      const refusal = BigInt.asUintN(64, exports.checkUnmaps(address, domain, this.#write(ranges, at)));
      if (refusal !== 0n) return refusal;
    }
    return this.#from(domain, ranges, 0, 0n);
  }

  #from(domain: number, ranges: readonly Range[], reached: number, bytes: bigint): bigint {
    const { exports, address } = this.#engine;
    for (let at = reached; at < ranges.length; at += MOST_RANGES) {
      const n = this.#write(ranges, at);
      const answer = BigInt.asUintN(64, exports.unmapMany(address, domain, n));
      if (answer === L.UNMAP_STALLED) return this.#stalled(domain, ranges, at + n, bytes, at);
      if (answer > L.UNMAP_STALLED) return answer;
      bytes += answer;
    }
    return bytes;
  }

  /** Some port stalls. The call has removed what it was to remove up to `reached`; or nothing, and then up to `before`. */
  #stalled(domain: number, ranges: readonly Range[], reached: number, bytes: bigint, before = 0): bigint {
    const removed = new DataView(this.#engine.memory.buffer).getBigUint64(this.#engine.address + L.ENGINE_UNFINISHED, true);
    if (removed < L.UNMAP_STALLED) this.#unfinished = { domain, ranges, reached, bytes: bytes + removed };
    else if (before > 0) this.#unfinished = { domain, ranges, reached: before, bytes };
    return L.UNMAP_STALLED;
  }

  #again(begun: Unfinished, domain: number, ranges: readonly Range[]): bigint {
    this.#settle();
    this.#unfinished = undefined;
    if (begun.domain === domain && sameRanges(begun.ranges, ranges)) return this.#from(domain, ranges, begun.reached, begun.bytes);
    return this.unmapMany(domain, ranges);
  }

  #write(ranges: readonly Range[], at: number): number {
    const { memory } = this.#engine;
    return writeRanges(memory, this.#engine.word(L.ENGINE_SCRATCH), ranges, at);
  }
}

function sameRanges(some: readonly Range[], others: readonly Range[]): boolean {
  return some.length === others.length && some.every(({ first, last }, n) => first === others[n]!.first && last === others[n]!.last);
}
