// A batch through the IOTLB: results of the lanes that it answers, and a list of the others. How it goes is chosen by what the batch
// turns out to be: all hits, some misses, nearly only misses; and by how large the IOTLB is. Imports layout, iotlb, lookup, request.
import {
  ENGINE_ROUTES, ENGINE_ROUTE_MASK, PORT_ENGINE, PORT_HASH_SHIFT, PORT_IOTLB, PORT_MISSES, PORT_REQUESTS, PORT_RESULTS, PORT_SECOND,
  REQUEST_BYTES, RESULT_BYTES, ROUTE_BYTES, ROUTE_FIRST, TAG_PLAIN_BITS,
} from "./layout";
import { Iotlb } from "./iotlb";
import { Eight, Lookup, Quad } from "./lookup";
import { Request, Route } from "./request";

/**
 * More groups of four refused than this and a sixth of those seen: in what is left of the batch misses are collected without a
 * branch. When of the first so many lanes nearly all are, the others are looked up one by one: a branch that is always taken is free.
 */
const MOST_REFUSED: usize = 4;
const REFUSED_PART: usize = 6;
const SAMPLE_LANES: usize = 128;
const NEARLY_ALL: usize = 112;

/** An IOTLB of more than 2^14 sets, 1 MiB, is no longer in the caches that are near: its sets are touched ahead, so many lanes at a time. */
const NEAR_HASH_SHIFT: u32 = 50;
const TOUCHED_LANES: u32 = 512;

/**
 * Touches the sets in which lanes first..end - 1 are looked for first. Their addresses are written where the results will be, so that
 * the loop that loads does nothing else: more of its misses overlap.
 */
function touchSets(engine: usize, port: usize, first: u32, end: u32): void {
  const routes = <usize>load<u32>(engine, ENGINE_ROUTES);
  const routeMask = load<u32>(engine, ENGINE_ROUTE_MASK);
  const iotlb = <usize>load<u32>(port, PORT_IOTLB);
  const hashShift: u64 = load<u32>(port, PORT_HASH_SHIFT);
  const requests = load<u32>(port, PORT_REQUESTS);
  const results = <usize>load<u32>(port, PORT_RESULTS) + (first << 3);
  const last = Request.at(requests, end);
  let result = results;
  for (let request = Request.at(requests, first); request < last; request += REQUEST_BYTES) {
    const route = routes + (<usize>(Request.route(request) & routeMask)) * ROUTE_BYTES;
    const tag = Iotlb.tag(load<u64>(route, ROUTE_FIRST), Request.iova(request));
    store<u32>(result, <u32>Iotlb.set(iotlb, hashShift, tag));
    result += RESULT_BYTES;
  }
  for (let at = results; at < result; at += RESULT_BYTES) load<u64>(load<u32>(at));
}

/**
 * Looks up requests first..end in groups of four, none of which is waited for: lanes that their first class does not answer are
 * written to the list at `miss`, and tried there one by one. Answers the end of the list.
 */
function collect(port: usize, requests: usize, first: usize, end: usize, miss: usize): usize {
  const engine = <usize>load<u32>(port, PORT_ENGINE);
  const routes = <usize>load<u32>(engine, ENGINE_ROUTES);
  const routeMask = load<u32>(engine, ENGINE_ROUTE_MASK);
  const iotlb = <usize>load<u32>(port, PORT_IOTLB);
  const hashShift: u64 = load<u32>(port, PORT_HASH_SHIFT);
  const results = <usize>load<u32>(port, PORT_RESULTS);
  let last = miss;
  let lane = <u32>(first - requests) >> 4;
  let result = results + (lane << 3);
  for (let request = first; request < end; request += Quad.REQUESTS) {
    last = Quad.collect(request, result, routes, routeMask, iotlb, hashShift, lane, last);
    result += Quad.RESULTS;
    lane += 4;
  }
  const second = load<u32>(port, PORT_SECOND);
  let kept = miss;
  for (let at = miss; at < last; at += 4) {
    const left = load<u32>(at);
    const request = Request.at(requests, left);
    const route = Route.at(routes, routeMask, Request.route(request));
    const iova = Request.iova(request);
    const need = Request.need(request);
    let answer: u64 = 0;
    if (iova >> TAG_PLAIN_BITS) answer = Lookup.result(route, iotlb, hashShift, iova, need, second);
    else if (second) answer = Lookup.second(route, iotlb, hashShift, iova, need);
    if (answer) {
      store<u64>(results + (left << 3), answer);
    } else {
      store<u32>(kept, left);
      kept += 4;
    }
  }
  return kept;
}

/**
 * Writes the results of those of lanes from..to - 1 that the IOTLB answers; the others are written to the list at `miss`: its end.
 * `from` is a multiple of four.
 */
function lookUp(engine: usize, port: usize, from: u32, to: u32, miss: usize): usize {
  const routes = <usize>load<u32>(engine, ENGINE_ROUTES);
  const routeMask = load<u32>(engine, ENGINE_ROUTE_MASK);
  const iotlb = <usize>load<u32>(port, PORT_IOTLB);
  const hashShift: u64 = load<u32>(port, PORT_HASH_SHIFT);
  const requests = <usize>load<u32>(port, PORT_REQUESTS);
  const begin = Request.at(<u32>requests, from);
  const end = Request.at(<u32>requests, to);
  let request = begin;
  let result = <usize>load<u32>(port, PORT_RESULTS) + (from << 3);
  // Eight at a time until the first that is refused.
  const eights = begin + ((end - begin) & ~(Eight.REQUESTS - 1));
  if (request < eights) {
    // The condition stands last: what does not change in the loop is then computed before it.
    do {
      if (!Eight.answer(request, result, routes, routeMask, iotlb, hashShift)) break;
      request += Eight.REQUESTS;
      result += Eight.RESULTS;
    } while (request < eights);
  }
  const second = load<u32>(port, PORT_SECOND);
  let quads = Request.at(<u32>requests, to & ~3);
  let refused: usize = 0;
  while (request < end) {
    if (request < quads) {
      do {
        if (!Quad.answer(request, result, routes, routeMask, iotlb, hashShift)) break;
        request += Quad.REQUESTS;
        result += Quad.RESULTS;
      } while (request < quads);
    }
    let stop = end;
    if (request < quads) {
      if (++refused > MOST_REFUSED + (request - begin) / (REFUSED_PART * Quad.REQUESTS)) {
        const sample = min(request + SAMPLE_LANES * REQUEST_BYTES, quads);
        const before = miss;
        miss = collect(port, requests, request, sample, miss);
        const first = request;
        request = sample;
        if ((miss - before) >> 2 < NEARLY_ALL) {
          miss = collect(port, requests, sample, quads, miss);
          request = quads;
        }
        result += (request - first) >> 1;
        quads = requests;
      } else {
        stop = request + Quad.REQUESTS;
      }
    }
    for (; request < stop; request += REQUEST_BYTES, result += RESULT_BYTES) {
      const route = Route.at(routes, routeMask, Request.route(request));
      const answer = Lookup.result(route, iotlb, hashShift, Request.iova(request), Request.need(request), second);
      if (answer) {
        store<u64>(result, answer);
      } else {
        store<u32>(miss, <u32>(request - requests) >> 4);
        miss += 4;
      }
    }
  }
  return miss;
}

/** Looks up the first n requests of the port: how many lanes its miss list has then. */
export function lookUpBatch(engine: usize, port: usize, n: u32): u32 {
  const misses = <usize>load<u32>(port, PORT_MISSES);
  let miss = misses;
  if (load<u32>(port, PORT_HASH_SHIFT) < NEAR_HASH_SHIFT) {
    for (let from: u32 = 0; from < n; from += TOUCHED_LANES) {
      const to = min(from + TOUCHED_LANES, n);
      touchSets(engine, port, from, to);
      miss = lookUp(engine, port, from, to, miss);
    }
  } else {
    miss = lookUp(engine, port, 0, n, miss);
  }
  return <u32>(miss - misses) >> 2;
}
