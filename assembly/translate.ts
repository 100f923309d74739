// Translate: request -> route -> IOTLB; what missed is walked in batches; what is left goes through the exact walker and
// ends in the fault ring. The scalar call is the same with one lane. Imports everything below it.
import {
  DATA_VALID, DOMAIN_FLAGS, DOMAIN_FRAGMENTED, DOMAIN_NESTED, DOMAIN_PAGE_REQUESTS, DOMAIN_WALKER, ENGINE_DOMAINS,
  ENGINE_RING_HEAD, ENGINE_ROUTES, ENGINE_ROUTE_MASK, ENGINE_WALKERS, PERM_ANY_W, PORT_ACTIVE, PORT_CAPACITY, PORT_ENGINE,
  PORT_HASH_SHIFT, PORT_IOTLB, PORT_LANE_REQUESTS, PORT_LANE_RESULTS, PORT_MISSES, PORT_REFUSED, PORT_REQUEST, PORT_REQUESTS,
  PORT_RESULT, PORT_RESULTS, PORT_RING_TAIL, PORT_SECOND, PORT_WALK, REQUEST_IOVA, REQUEST_NEED, REQUEST_ROUTE, RESULT_FAULT_BIT,
  RESULT_IDENTITY_BIT, RESULT_RUN_SHIFT, ROUTE_BIAS, ROUTE_BLOCKED, ROUTE_HIGH, ROUTE_IDENTITY, ROUTE_KIND, ROUTE_NONE, ROUTE_TRANSLATE,
  WALKER_EXACT, WALKER_FORMAT_SHIFT, WALK_CLASS, WALK_CLEAN, WALK_HPA, WALK_IPA, WALK_LEAF_LG2, WALK_LEVEL, WALK_PERM, WALK_PTE,
  WALK_REASON, WALK_STAGE,
} from "./layout";
import { Count } from "./counters";
import {
  canRecover, CLASS_NONE, faultResult, pushFault, REASON_BAD_REQUEST, REASON_BLOCKED, REASON_NO_ROUTE,
} from "./fault";
import { dispatch } from "./format/list";
import { Fill } from "./iotlb";
import { Lookup } from "./lookup";
import { lookUpBatch } from "./batch-lookup";
import { inPool, resolvePasid } from "./pasid/resolve";
import { enter, leave } from "./port";
import { Request, Route } from "./request";
import { governing, routePasid, routeRid } from "./route";
import { WalkMisses } from "./table/batch-walk";
import { walkAndMark } from "./table/walk-marked";

/** The run of an identity answer is the whole space; its address is the iova, which may need all 64 bits. */
const IDENTITY_RESULT: u64 = (<u64>1 << RESULT_IDENTITY_BIT) | (<u64>63 << RESULT_RUN_SHIFT);
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
  const missed = lookUpBatch(engine, port, n);
  Count.lanes(port, n);
  if (!missed) return 0;
  return answerMisses(engine, port, load<u32>(port, PORT_REQUESTS), load<u32>(port, PORT_RESULTS), missed);
}

@unmanaged
abstract class One {
  /** One translation by the IOTLB alone, after what the ring holds is applied: its result word, or 0. */
  @inline static lookUp(port: usize, iova: u64, routeIndex: u32, need: u32): u64 {
    const engine = <usize>load<u32>(port, PORT_ENGINE);
    if (atomic.load<u32>(engine, ENGINE_RING_HEAD) != load<u32>(port, PORT_RING_TAIL)) catchUp(port);
    const route = Route.at(load<u32>(engine, ENGINE_ROUTES), load<u32>(engine, ENGINE_ROUTE_MASK), routeIndex);
    Count.lanes(port, 1);
    return Lookup.result(route, load<u32>(port, PORT_IOTLB), load<u32>(port, PORT_HASH_SHIFT), iova, need, load<u32>(port, PORT_SECOND));
  }

  /**
   * One translation, outside the batch buffers: its result word, refused or not; PORT_RESULT has it too. Outside a section as
   * `translate`; one is opened only where it is needed, to apply invalidations and to walk.
   */
  @inline static translate(port: usize, iova: u64, routeIndex: u32, need: u32): u64 {
    const answer = One.lookUp(port, iova, routeIndex, need);
    if (!answer) return walkOne(port, iova, routeIndex, need);
    store<u64>(port, answer, PORT_RESULT);
    return answer;
  }
}

/** `One.translate` for what the IOTLB does not answer. */
function walkOne(port: usize, iova: u64, routeIndex: u32, need: u32): u64 {
  const engine = <usize>load<u32>(port, PORT_ENGINE);
  const request = port + PORT_REQUEST;
  store<u64>(request, iova, REQUEST_IOVA);
  store<u32>(request, routeIndex, REQUEST_ROUTE);
  store<u32>(request, need, REQUEST_NEED);
  store<u32>(load<u32>(port, PORT_MISSES), 0);
  const inside = load<u32>(port, PORT_ACTIVE) != 0;
  if (!inside) enter(port);
  answerMisses(engine, port, <u32>request, <u32>(port + PORT_RESULT), 1);
  if (!inside) leave(port);
  return load<u64>(port, PORT_RESULT);
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
    // What an entry lets through to stage 2 is refused by that one, at the address of the request.
    const passed = !(load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_NESTED) && governing(engine, Request.route(request)) != 0;
    if (passed) store<u64>(walk, iova, WALK_IPA);
    refuseWalk(engine, port, lane, request, reason, !passed && isRecoverable(domain, walk, reason));
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
  const result = One.translate(port, <u64>iova, routeIndex, need);
  const hpa = result & 0x00ffffffffffffff;
  if ((result >> RESULT_IDENTITY_BIT) | (hpa >> 53)) return noNumber(result, iova);
  return <f64><i64>hpa;
}

/** What `translateNumber` answers where the result word has no hpa below 2^53. */
function noNumber(result: u64, iova: f64): f64 {
  if (result >> RESULT_FAULT_BIT) return -1;
  return result >> RESULT_IDENTITY_BIT ? iova : -2;
}

/** The scalar call with two halves: true if translated; PORT_RESULT has the result word. */
export function translateHalves(port: usize, iovaLow: u32, iovaHigh: u32, routeIndex: u32, need: u32): bool {
  return One.translate(port, (<u64>iovaHigh << 32) | iovaLow, routeIndex, need) >> RESULT_FAULT_BIT == 0;
}
