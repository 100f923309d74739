// Translate: request -> route -> IOTLB; what missed is walked in batches; what is left goes through the exact walker and
// ends in the fault ring. The scalar call is the same with one lane. Imports everything below it.
import {
  DATA_VALID, DOMAIN_FLAGS, DOMAIN_FRAGMENTED, DOMAIN_NESTED, DOMAIN_PAGE_REQUESTS, DOMAIN_WALKER, ENGINE_DOMAINS, ENGINE_RING_HEAD,
  ENGINE_ROUTE_MASK, ENGINE_ROUTES, ENGINE_WALKERS, PERM_ANY_W, PORT_ACTIVE, PORT_CAPACITY, PORT_ENGINE, PORT_HASH_SHIFT, PORT_IOTLB,
  PORT_LANE_REQUESTS, PORT_LANE_RESULTS, PORT_MISSES, PORT_REFUSED, PORT_REQUEST, PORT_REQUESTS, PORT_RESULT, PORT_RESULTS,
  PORT_RING_TAIL, PORT_WALK, REQUEST_BYTES, REQUEST_IOVA, REQUEST_NEED, REQUEST_ROUTE, RESULT_BYTES, RESULT_IDENTITY_BIT,
  RESULT_RUN_SHIFT, ROUTE_ADDRESS_MASK, ROUTE_BIAS, ROUTE_BLOCKED, ROUTE_FIRST, ROUTE_HIGH, ROUTE_IDENTITY, ROUTE_KIND, ROUTE_NONE,
  ROUTE_TRANSLATE, TAG_PLAIN_BITS, WALK_CLASS, WALK_CLEAN, WALK_HPA, WALK_IPA, WALK_LEAF_LG2, WALK_LEVEL, WALK_PERM, WALK_PTE,
  WALK_REASON, WALK_STAGE, WALKER_EXACT, WALKER_FORMAT_SHIFT,
} from "./layout";
import { Count } from "./counters";
import {
  canRecover, CLASS_NONE, faultResult, pushFault, REASON_BAD_REQUEST, REASON_BLOCKED, REASON_NO_ROUTE,
} from "./fault";
import { dispatch } from "./format/list";
import { Fill, Iotlb } from "./iotlb";
import { Lookup, Quad } from "./lookup";
import { inPool, resolvePasid } from "./pasid/resolve";
import { enter, leave } from "./port";
import { Request, Route } from "./request";
import { governing, routePasid, routeRid } from "./route";
import { WalkMisses } from "./table/batch-walk";
import { walkAndMark } from "./table/walk-marked";

/** The run of an identity answer is the whole space; its address is the iova, which may need all 64 bits. */
const IDENTITY_RESULT: u64 = (<u64>1 << RESULT_IDENTITY_BIT) | (<u64>63 << RESULT_RUN_SHIFT);
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
const TOUCHED_LANES: u32 = 128;

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
    const route = Route.at(routes, routeMask, Request.route(request));
    const tag = Iotlb.tag(load<u64>(route, ROUTE_FIRST), Request.iova(request) & load<u64>(route, ROUTE_ADDRESS_MASK));
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
  let kept = miss;
  for (let at = miss; at < last; at += 4) {
    const left = load<u32>(at);
    const request = Request.at(requests, left);
    const route = Route.at(routes, routeMask, Request.route(request));
    const iova = Request.iova(request);
    const need = Request.need(request);
    const answer = iova >> TAG_PLAIN_BITS
      ? Lookup.result(route, iotlb, hashShift, iova, need) : Lookup.second(route, iotlb, hashShift, iova, need);
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
  let quads = Request.at(<u32>requests, to & ~3);
  let refused: usize = 0;
  let request = begin;
  let result = <usize>load<u32>(port, PORT_RESULTS) + (from << 3);
  while (request < end) {
    if (request < quads) {
      // The condition stands last: what does not change in the loop is then computed before it.
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
      const answer = Lookup.result(route, iotlb, hashShift, Request.iova(request), Request.need(request));
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

/**
 * Translates the first n requests of the port; answers how many were refused. Outside a section the answers are those of one
 * moment during the call, and say nothing about later ones. n beyond the port's capacity is cut to it.
 */
export function translate(port: usize, n: u32): u32 {
  if (load<u32>(port, PORT_ACTIVE)) return translateInside(port, n);
  enter(port);
  const refused = translateInside(port, n);
  leave(port);
  return refused;
}

function translateInside(port: usize, n: u32): u32 {
  const engine = <usize>load<u32>(port, PORT_ENGINE);
  n = min(n, load<u32>(port, PORT_CAPACITY));
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
  const missed = <u32>(miss - misses) >> 2;
  Count.lanes(port, n);
  if (!missed) return 0;
  return answerMisses(engine, port, load<u32>(port, PORT_REQUESTS), load<u32>(port, PORT_RESULTS), missed);
}

/**
 * One translation, outside the batch buffers: true if it was translated; the result word is PORT_RESULT either way. Outside a
 * section as `translate`; one is opened only where it is needed, to apply invalidations and to walk.
 */
export function translateOne(port: usize, iova: u64, routeIndex: u32, need: u32): bool {
  const engine = <usize>load<u32>(port, PORT_ENGINE);
  if (atomic.load<u32>(engine, ENGINE_RING_HEAD) != load<u32>(port, PORT_RING_TAIL)) catchUp(port);
  const route = Route.at(load<u32>(engine, ENGINE_ROUTES), load<u32>(engine, ENGINE_ROUTE_MASK), routeIndex);
  Count.lanes(port, 1);
  const answer = Lookup.result(route, load<u32>(port, PORT_IOTLB), load<u32>(port, PORT_HASH_SHIFT), iova, need);
  if (answer) {
    store<u64>(port, answer, PORT_RESULT);
    return true;
  }
  const request = port + PORT_REQUEST;
  store<u64>(request, iova, REQUEST_IOVA);
  store<u32>(request, routeIndex, REQUEST_ROUTE);
  store<u32>(request, need, REQUEST_NEED);
  store<u32>(load<u32>(port, PORT_MISSES), 0);
  if (load<u32>(port, PORT_ACTIVE)) return answerMisses(engine, port, <u32>request, <u32>(port + PORT_RESULT), 1) == 0;
  enter(port);
  const refused = answerMisses(engine, port, <u32>request, <u32>(port + PORT_RESULT), 1);
  leave(port);
  return refused == 0;
}

/** Applies the ring outside of a section, or at the first call in one that began before the change: then it is left for later. */
function catchUp(port: usize): void {
  if (load<u32>(port, PORT_ACTIVE)) return;
  enter(port);
  leave(port);
}

/** Which batch walker serves the request's domain; WALKER_EXACT if none does. */
function walkerOf(port: usize, request: usize): u32 {
  const route = Route.of(port, request);
  if (atomic.load<u32>(route, ROUTE_KIND) != ROUTE_TRANSLATE) return WALKER_EXACT;
  return load<u8>(Route.domain(load<u32>(<usize>load<u32>(port, PORT_ENGINE), ENGINE_DOMAINS), route), DOMAIN_WALKER);
}

/** Answers the lanes in the port's miss list; how many of them were refused. */
function answerMisses(engine: usize, port: usize, requests: u32, results: u32, missed: u32): u32 {
  store<u32>(port, requests, PORT_LANE_REQUESTS);
  store<u32>(port, results, PORT_LANE_RESULTS);
  store<u32>(port, 0, PORT_REFUSED);
  Count.misses(port, missed);
  const misses = <usize>load<u32>(port, PORT_MISSES);
  let left = missed;
  let walkers = load<u64>(engine, ENGINE_WALKERS) & ~(<u64>1 << WALKER_EXACT);
  const first = walkerOf(port, Request.at(requests, load<u32>(misses)));
  while (walkers && left) {
    // Lanes of a batch mostly belong together: the walker of the first is asked first, and often it is the only one.
    const walker = walkers & (<u64>1 << first) ? first : <u32>ctz(walkers);
    walkers &= ~(<u64>1 << walker);
    left = <u32>dispatch<WalkMisses>(walker >> WALKER_FORMAT_SHIFT, engine, port, left, 0, 0, walker);
  }
  let walks = missed;
  for (let i: u32 = 0; i < left; i++) {
    const lane = load<u32>(misses + (i << 2));
    const request = Request.at(requests, lane);
    if (answerUnwalked(engine, port, lane, request)) walks--;
    else walkLane(engine, port, lane);
  }
  Count.walks(port, walks);
  return load<u32>(port, PORT_REFUSED);
}

/** Answers a lane that no table decides: a bad request, a blocked route without PASID table, identity. False if it has to be walked. */
function answerUnwalked(engine: usize, port: usize, lane: u32, request: usize): bool {
  if (!Request.wellFormed(request)) return refuse(engine, port, lane, request, REASON_BAD_REQUEST);
  const kind = atomic.load<u32>(Route.of(port, request), ROUTE_KIND);
  if (kind == ROUTE_BLOCKED) {
    const index = Request.route(request);
    const unknown = index == ROUTE_NONE || index > load<u32>(engine, ENGINE_ROUTE_MASK);
    if (!unknown && governing(engine, index)) return false;
    return refuse(engine, port, lane, request, unknown ? REASON_NO_ROUTE : REASON_BLOCKED);
  }
  if (kind == ROUTE_IDENTITY) {
    // The low bits repeat the iova for readers that never use more than 56; the identity bit says which to believe.
    const low = Request.iova(request) & 0x00ffffffffffffff;
    store<u64>(load<u32>(port, PORT_LANE_RESULTS) + (lane << 3), IDENTITY_RESULT | low);
    return true;
  }
  return false;
}

/** The exact walk of one lane: a translation that only needed its accessed or dirty bit, or a fault with its reason. */
function walkLane(engine: usize, port: usize, lane: u32): void {
  const request = Request.at(load<u32>(port, PORT_LANE_REQUESTS), lane);
  const route = Route.of(port, request);
  const led = atomic.load<u32>(route, ROUTE_KIND) != ROUTE_BLOCKED;
  const domain = led ? Route.domain(load<u32>(engine, ENGINE_DOMAINS), route) : resolvePasid(engine, port, Request.route(request));
  const walk = port + PORT_WALK;
  if (!domain) {
    refuseWalk(engine, port, lane, request, load<u32>(walk, WALK_REASON), false);
    return;
  }
  const iova = Request.iova(request);
  const need = Request.need(request);
  const reason = walkAndMark(engine, port, domain, iova, need);
  if (reason) {
    refuseWalk(engine, port, lane, request, reason, isRecoverable(domain, walk, reason));
    return;
  }
  const lg2 = load<u32>(walk, WALK_LEAF_LG2);
  const hpa = load<u64>(walk, WALK_HPA);
  let perm = load<u32>(walk, WALK_PERM);
  if (load<u32>(walk, WALK_CLEAN) && !(need & PERM_ANY_W)) perm &= ~PERM_ANY_W;
  // What was not published has no ids: the route may by now carry those of another reading. The rule is read after the kind.
  const cached = (led || inPool(engine, domain)) && atomic.load<u32>(route, ROUTE_KIND) == ROUTE_TRANSLATE;
  if (cached && ((iova + load<u64>(route, ROUTE_BIAS)) & load<u64>(route, ROUTE_HIGH)) == 0) {
    if (Fill.walked(port, route, iova, hpa, lg2, DATA_VALID | <u64>perm)) atomic.store<u32>(domain, 1, DOMAIN_FRAGMENTED);
  }
  store<u64>(load<u32>(port, PORT_LANE_RESULTS) + (lane << 3), hpa | (<u64>lg2 << RESULT_RUN_SHIFT));
}

/** Refuses a lane that no walk was made for; always true, so that a caller can end with it. */
function refuse(engine: usize, port: usize, lane: u32, request: usize, reason: u32): bool {
  const walk = port + PORT_WALK;
  store<u64>(walk, 0, WALK_IPA);
  store<u64>(walk, 0, WALK_PTE);
  store<u32>(walk, 0, WALK_STAGE);
  store<u32>(walk, 0, WALK_LEVEL);
  store<u32>(walk, CLASS_NONE, WALK_CLASS);
  refuseWalk(engine, port, lane, request, reason, false);
  return true;
}

/** Could a page make the access that was walked? What stage 2 refuses is not for the owner of stage 1 to mend. */
function isRecoverable(domain: usize, walk: usize, reason: u32): bool {
  const flags = load<u32>(domain, DOMAIN_FLAGS);
  if (!(flags & DOMAIN_PAGE_REQUESTS) || !canRecover(reason)) return false;
  return !(flags & DOMAIN_NESTED) || load<u32>(walk, WALK_STAGE) == 1;
}

/** Writes the result and the record of a refusal that the port's walk record describes. */
function refuseWalk(engine: usize, port: usize, lane: u32, request: usize, reason: u32, recoverable: bool): void {
  const walk = port + PORT_WALK;
  const level = load<u32>(walk, WALK_LEVEL);
  const index = Request.route(request);
  const known = index != ROUTE_NONE && index <= load<u32>(engine, ENGINE_ROUTE_MASK);
  const rid = known ? routeRid(engine, index) : 0;
  const pasid = known ? routePasid(engine, index) : 0;
  store<u64>(load<u32>(port, PORT_LANE_RESULTS) + (lane << 3), faultResult(reason, level, recoverable));
  store<u32>(port, load<u32>(port, PORT_REFUSED) + 1, PORT_REFUSED);
  pushFault(port, lane, Request.iova(request), load<u64>(walk, WALK_IPA), load<u64>(walk, WALK_PTE), rid, pasid, index,
    Request.need(request), reason, load<u32>(walk, WALK_STAGE), level, load<u32>(walk, WALK_CLASS), recoverable);
}

/** The scalar call with a number: hpa, -1 if refused, -2 if the answer is no exact number (PORT_RESULT has it). iova < 2^53. */
export function translateNumber(port: usize, iova: f64, routeIndex: u32, need: u32): f64 {
  if (!translateOne(port, <u64>iova, routeIndex, need)) return -1;
  const result = load<u64>(port, PORT_RESULT);
  if (result >> RESULT_IDENTITY_BIT & 1) return iova;
  const hpa = result & 0x00ffffffffffffff;
  return hpa >> 53 ? -2 : <f64>hpa;
}

/** The scalar call with two halves: true if translated; PORT_RESULT has the result word. */
export function translateHalves(port: usize, iovaLow: u32, iovaHigh: u32, routeIndex: u32, need: u32): bool {
  return translateOne(port, (<u64>iovaHigh << 32) | iovaLow, routeIndex, need);
}
