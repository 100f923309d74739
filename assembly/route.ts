// Routes: (rid, pasid) is interned once to a record, in an open-addressed table whose slot index is the route. Interning
// takes no lock: the key is claimed by compare-and-swap. Records are rewritten in place (attach.ts). Imports layout, invalidate,
// frames.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_HALVES, DOMAIN_HIGH, DOMAIN_INPUT_LG2, DOMAIN_ROUTES, DOMAIN_UPPER, ENGINE_DOMAINS, ENGINE_ROUTE_BEFORE, ENGINE_ROUTE_COUNT, ENGINE_ROUTE_KEYS,
  ENGINE_ROUTE_MASK, ENGINE_ROUTES, NO_PASID, ROUTE_ADDRESS_MASK, ROUTE_BIAS, ROUTE_BLOCKED, ROUTE_BYTES, ROUTE_DOMAIN,
  ROUTE_FIRST, ROUTE_HIGH, ROUTE_KIND, ROUTE_NEXT, ROUTE_NO_CLASS, ROUTE_NONE, ROUTE_SECOND, ROUTE_STREAK, ROUTE_TABLE, ROUTE_TRANSLATE,
  TAG_ADDRESS_BITS, TAG_PLAIN_BITS,
} from "./layout";
import { lowBits } from "./format/format";
import { classWord } from "./invalidate";
import { Domain } from "./request";
import { failsNow } from "./table/frames";

const HASH: u64 = 0x9e3779b97f4a7c15;
/** Route 0 is claimed by a key that no (rid, pasid) has. */
export const RESERVED_KEY: u64 = 0xffffffffffffffff;

/** Never 0 (an unclaimed slot): the pasid is stored plus one, and "none" becomes 2^32. */
function keyOf(rid: u32, pasid: u32): u64 {
  return (<u64>rid << 33) | (<u64>pasid + 1);
}

function keyAddress(engine: usize, index: u32): usize {
  return load<u32>(engine, ENGINE_ROUTE_KEYS) + (index << 3);
}

export function routeRid(engine: usize, index: u32): u32 {
  return <u32>(load<u64>(keyAddress(engine, index)) >> 33);
}

export function routePasid(engine: usize, index: u32): u32 {
  return <u32>(load<u64>(keyAddress(engine, index)) - 1);
}

/** The route of (rid, pasid), made blocked if it is new; ROUTE_NONE when the table is full. rid has at most 31 bits. */
export function internRoute(engine: usize, rid: u32, pasid: u32): u32 {
  const key = keyOf(rid, pasid);
  const mask = load<u32>(engine, ENGINE_ROUTE_MASK);
  let index = <u32>((key * HASH) >> 32) & mask;
  for (let probes: u32 = 0; probes <= mask; probes++, index = (index + 1) & mask) {
    const address = keyAddress(engine, index);
    let held = atomic.load<u64>(address);
    if (!held) {
      if (failsNow(engine)) return ROUTE_NONE;
      held = atomic.cmpxchg<u64>(address, 0, key);
      if (!held) {
        atomic.add<u32>(engine, 1, ENGINE_ROUTE_COUNT);
        return index;
      }
    }
    if (held == key) return index;
  }
  return ROUTE_NONE;
}

/** The route of (rid, pasid), if it was ever interned; else ROUTE_NONE. */
export function findRoute(engine: usize, rid: u32, pasid: u32): u32 {
  const key = keyOf(rid, pasid);
  const mask = load<u32>(engine, ENGINE_ROUTE_MASK);
  let index = <u32>((key * HASH) >> 32) & mask;
  for (let probes: u32 = 0; probes <= mask; probes++, index = (index + 1) & mask) {
    const held = atomic.load<u64>(keyAddress(engine, index));
    if (held == key) return index;
    if (!held) return ROUTE_NONE;
  }
  return ROUTE_NONE;
}

/** 1 + the PASID table that says where DMA of this route's rid goes, 0 if there is none. */
export function governing(engine: usize, index: u32): u32 {
  const own = routePasid(engine, index) == NO_PASID ? index : findRoute(engine, routeRid(engine, index), NO_PASID);
  return own == ROUTE_NONE ? 0 : atomic.load<u32>(routeAt(engine, own), ROUTE_TABLE);
}

/** The next route from `index` on with a PASID of that rid; ROUTE_NONE after the last. */
export function nextPasid(engine: usize, rid: u32, index: u32): u32 {
  const mask = load<u32>(engine, ENGINE_ROUTE_MASK);
  for (; index <= mask; index++) {
    const held = atomic.load<u64>(keyAddress(engine, index));
    if (held && index != ROUTE_NONE && <u32>(held >> 33) == rid && <u32>(held - 1) != NO_PASID) return index;
  }
  return ROUTE_NONE;
}

export function routeAt(engine: usize, index: u32): usize {
  return load<u32>(engine, ENGINE_ROUTES) + index * <u32>ROUTE_BYTES;
}

/** Where the number of the route before it is. Only who has the lock looks there. */
function beforeOf(engine: usize, index: u32): usize {
  return load<u32>(engine, ENGINE_ROUTE_BEFORE) + (index << 2);
}

/** Puts the route before all others of the domain's list. */
export function enlist(engine: usize, index: u32, domain: usize): void {
  const next = load<u32>(domain, DOMAIN_ROUTES);
  store<u32>(routeAt(engine, index), next, ROUTE_NEXT);
  store<u32>(beforeOf(engine, index), 0);
  if (next) store<u32>(beforeOf(engine, next), index);
  store<u32>(domain, index, DOMAIN_ROUTES);
}

/** Takes the route out of its domain's list. */
function unlink(engine: usize, index: u32, route: usize): void {
  const next = load<u32>(route, ROUTE_NEXT);
  const before = load<u32>(beforeOf(engine, index));
  if (next) store<u32>(beforeOf(engine, next), before);
  if (before) store<u32>(routeAt(engine, before), next, ROUTE_NEXT);
  else store<u32>(Domain.at(load<u32>(engine, ENGINE_DOMAINS), load<u32>(route, ROUTE_DOMAIN)), next, DOMAIN_ROUTES);
}

/** Blocks the route: ids that match nothing, whatever else a reader of the record sees. False if it was blocked. */
export function block(engine: usize, index: u32): bool {
  const route = routeAt(engine, index);
  const was = load<u32>(route, ROUTE_KIND);
  atomic.store<u64>(route, ROUTE_NO_CLASS, ROUTE_FIRST);
  atomic.store<u64>(route, ROUTE_NO_CLASS, ROUTE_SECOND);
  if (was == ROUTE_TRANSLATE) unlink(engine, index, route);
  store<u32>(route, 0, ROUTE_STREAK);
  atomic.store<u32>(route, ROUTE_BLOCKED, ROUTE_KIND);
  return was != ROUTE_BLOCKED;
}

/**
 * The rule that an address must obey to be cached. It is such that the tag of one that is not plain (below 2^56) is not the tag
 * of a plain one, unless both are the same address to the domain: bit 56 is set in it, or is not looked at by any rule. One that the domain accepts and this refuses is walked each time: beyond
 * the bits of a tag, and in domains with two unequal halves what only the wider half, or the one without tags, takes.
 */
export function setRule(engine: usize, domain: usize, route: usize): void {
  let bias = load<u64>(domain, DOMAIN_BIAS);
  let high = load<u64>(domain, DOMAIN_HIGH);
  let mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
  if (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_HALVES) {
    const upper = Domain.at(load<u32>(engine, ENGINE_DOMAINS), load<u32>(domain, DOMAIN_UPPER));
    const widthLg2 = min(load<u32>(domain, DOMAIN_INPUT_LG2), load<u32>(upper, DOMAIN_INPUT_LG2));
    bias = <u64>1 << widthLg2;
    high = (high | load<u64>(upper, DOMAIN_HIGH) | bias) & ~lowBits(widthLg2 + 1);
    mask |= load<u64>(upper, DOMAIN_ADDRESS_MASK);
  }
  if (mask == ~(<u64>0)) high |= ~lowBits(TAG_ADDRESS_BITS);
  // Wider than a tag can tell apart: plain addresses only.
  if (bias > <u64>1 << TAG_PLAIN_BITS || (mask == lowBits(TAG_PLAIN_BITS) && load<u32>(domain, DOMAIN_INPUT_LG2) > TAG_PLAIN_BITS)) {
    bias = 0;
    high = ~lowBits(TAG_PLAIN_BITS);
  }
  store<u64>(route, bias, ROUTE_BIAS);
  store<u64>(route, high, ROUTE_HIGH);
  store<u64>(route, mask & lowBits(TAG_ADDRESS_BITS), ROUTE_ADDRESS_MASK);
}

/** Puts a route, whose rule and domain are written, into that domain's list, and gives it the domain's ids: last of all. */
export function link(engine: usize, index: u32, domain: usize): void {
  const route = routeAt(engine, index);
  enlist(engine, index, domain);
  atomic.store<u32>(route, ROUTE_TRANSLATE, ROUTE_KIND);
  atomic.store<u64>(route, classWord(domain, false), ROUTE_FIRST);
  atomic.store<u64>(route, classWord(domain, true), ROUTE_SECOND);
}
