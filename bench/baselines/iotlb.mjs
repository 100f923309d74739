// What a TypeScript user would write for a cache of translations: three ways. All read the same requests (u32 words: iova
// low, iova high, route, permissions wanted) and check the permission. A held value is the page's hpa with the permissions
// in its low bits. `pages` is [{ route, iova, hpa, perm }]; an answer of -1 is a miss or a refusal.
import { BATCH } from "../pool.mjs";

const PAGE_NUMBER_HIGH = 0x100000;
const OFFSET_MASK = 0xfff;
const FRAME_MASK = ~0xfffn;
const WAYS = 4;

/** One Map per device, from page number to value. */
export function mapOfNumbers(name, pool, pages) {
  const { requests } = pool;
  const maps = Array.from({ length: Math.max(...pages.map((page) => page.route)) + 1 }, () => new Map());
  for (const { route, iova, hpa, perm } of pages) maps[route].set(iova / 4096, hpa + perm);
  const output = new Float64Array(BATCH);
  const lookup = (low, high, route, need) => {
    const held = maps[route].get(high * PAGE_NUMBER_HIGH + (low >>> 12));
    return held === undefined || (need & ~held) !== 0 ? -1 : held - (held & OFFSET_MASK) + (low & OFFSET_MASK);
  };
  return {
    name,
    calls: pool.batches,
    output,
    run(batch) {
      let at = batch * BATCH * 4;
      for (let lane = 0; lane < BATCH; lane++, at += 4) {
        output[lane] = lookup(requests[at], requests[at + 1], requests[at + 2], requests[at + 3]);
      }
    },
  };
}

/** One Map for all devices, keyed by the bigint of route and page number. */
export function mapOfBigints(name, pool, pages) {
  const { requests, wide } = pool;
  const keyOf = (route, iova) => (route << 52n) | (iova >> 12n);
  const map = new Map(pages.map(({ route, iova, hpa, perm }) => [keyOf(BigInt(route), BigInt(iova)), BigInt(hpa + perm)]));
  const wanted = Array.from({ length: 8 }, (_, need) => BigInt(need));
  const output = new BigInt64Array(BATCH);
  const lookup = (iova, route, need) => {
    const held = map.get(keyOf(route, iova));
    return held === undefined || (held & need) !== need ? -1n : (held & FRAME_MASK) | (iova & 0xfffn);
  };
  return {
    name,
    calls: pool.batches,
    output,
    run(batch) {
      const first = batch * BATCH;
      for (let lane = 0; lane < BATCH; lane++) {
        const at = (first + lane) * 4;
        output[lane] = lookup(wide[(first + lane) * 2], BigInt(requests[at + 2]), wanted[requests[at + 3]]);
      }
    },
  };
}

/** Tag of a page in the typed-array cache, as two int32: the page number's low word; its high word with the route above. */
const tagLow = (low, high) => (high << 20) | (low >>> 12);
const tagHigh = (high, route) => (high >>> 12) | (route << 20);

function hashOf(first, second, setsLg2) {
  const mixed = Math.imul(first ^ Math.imul(second, 0x85ebca6b), 0x9e3779b1);
  return mixed >>> (32 - setsLg2);
}

/** The set of (route, iova) in a typed-array cache of that many sets. */
export function typedArraySet(route, iova, sets) {
  const high = Math.floor(iova / 0x100000000);
  return hashOf(tagLow(iova >>> 0, high), tagHigh(high, route), Math.log2(sets));
}

/** A 4-way cache in typed arrays, tags as two int32, values as float64: an expert's. No way may be needed twice. */
export function typedArrayCache(name, pool, pages, sets) {
  const { requests } = pool;
  const setsLg2 = Math.log2(sets);
  const firsts = new Int32Array(sets * WAYS);
  const seconds = new Int32Array(sets * WAYS);
  const values = new Float64Array(sets * WAYS);
  for (const { route, iova, hpa, perm } of pages) {
    const high = Math.floor(iova / 0x100000000);
    let way = typedArraySet(route, iova, sets) * WAYS;
    while (values[way] !== 0) way++;
    firsts[way] = tagLow(iova >>> 0, high);
    seconds[way] = tagHigh(high, route);
    values[way] = hpa + perm;
  }
  const output = new Float64Array(BATCH);
  return {
    name,
    calls: pool.batches,
    output,
    run(batch) {
      let at = batch * BATCH * 4;
      for (let lane = 0; lane < BATCH; lane++, at += 4) {
        const low = requests[at];
        const high = requests[at + 1];
        const first = tagLow(low, high);
        const second = tagHigh(high, requests[at + 2]);
        const set = hashOf(first, second, setsLg2) * WAYS;
        let way = -1;
        if (firsts[set] === first && seconds[set] === second) way = set;
        else if (firsts[set + 1] === first && seconds[set + 1] === second) way = set + 1;
        else if (firsts[set + 2] === first && seconds[set + 2] === second) way = set + 2;
        else if (firsts[set + 3] === first && seconds[set + 3] === second) way = set + 3;
        const held = way < 0 ? 0 : values[way];
        output[lane] = (requests[at + 3] & ~held) !== 0 ? -1 : held - (held & OFFSET_MASK) + (low & OFFSET_MASK);
      }
    },
  };
}
