// Invalidation: what a change of a table makes stale is written to a ring that every port applies to its own IOTLB before
// it next translates. IOTLB ids are never taken back one by one: a flush gives the domain new ids, and when they run out
// every port clears its IOTLB and the live domains are numbered afresh. Imports layout, change, iotlb.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_FRAGMENTED, DOMAIN_HALVES, DOMAIN_ID, DOMAIN_LARGE_LG2, DOMAIN_LIVE, DOMAIN_NESTED,
  DOMAIN_ROUTES, DOMAIN_SMALL_LG2, DOMAIN_STAGE2, DOMAIN_STATE, DOMAIN_UPPER, DOMAIN_USERS,
  ENGINE_DOMAIN_CAPACITY, ENGINE_DOMAINS, ENGINE_ID_FIRST, ENGINE_ID_NEXT, ENGINE_RING, ENGINE_RING_HEAD, ENGINE_ROUTES, ID_LIMIT,
  PORT_ENGINE, PORT_RING_TAIL, RANGE_BYTES, RANGE_FIRST, RANGE_LAST, RING_CLEAR, RING_DROP, RING_DROP_IDS, RING_ENTRIES, RING_ENTRY_BYTES, RING_KIND, RING_SPAN, RING_TAG, ROUTE_BYTES,
  ROUTE_FIRST, ROUTE_NEXT, ROUTE_NO_CLASS, ROUTE_SECOND, ROUTE_STREAK, TAG_ID_SHIFT,
} from "./layout";
import { settle } from "./change";
import { clearIotlb, dropTags } from "./iotlb";

/** Entries that one change pushes before it waits are fewer than this. */
const MOST_PUSHED: u32 = 16;
/** Span of all tags of an id and the next. */
const TWO_IDS: u64 = ((<u64>2 << TAG_ID_SHIFT) - 1);
const MOST_USERS: u32 = 4;
/** More pages than this at once: new ids cost every port less than looking for the tags. */
const MOST_TAGS: u64 = 0xffff;

function classLg2(domain: usize, large: bool): u32 {
  return large ? load<u32>(domain, DOMAIN_LARGE_LG2) : load<u32>(domain, DOMAIN_SMALL_LG2);
}

/** A route's FIRST or SECOND word for that class of the domain. */
export function classWord(domain: usize, large: bool): u64 {
  return (<u64>(load<u32>(domain, DOMAIN_ID) + u32(large)) << TAG_ID_SHIFT) | <u64>classLg2(domain, large);
}

function pushRing(engine: usize, tag: u64, span: u32, kind: u32): void {
  const head = load<u32>(engine, ENGINE_RING_HEAD);
  const entry = load<u32>(engine, ENGINE_RING) + (head & (RING_ENTRIES - 1)) * <u32>RING_ENTRY_BYTES;
  // Nobody reads an entry before the head is beyond it.
  store<u64>(entry, tag, RING_TAG);
  store<u32>(entry, span, RING_SPAN);
  store<u32>(entry, kind, RING_KIND);
  atomic.store<u32>(engine, head + 1, ENGINE_RING_HEAD);
}

/**
 * Applies what the ring holds for this port, inside its section: no change is finished meanwhile, so that at most what one
 * change pushes is added to the ring while it is read. One that fell too far behind for that clears its IOTLB instead.
 */
export function applyRing(port: usize): void {
  const engine = <usize>load<u32>(port, PORT_ENGINE);
  const head = atomic.load<u32>(engine, ENGINE_RING_HEAD);
  let tail = load<u32>(port, PORT_RING_TAIL);
  if (head == tail) return;
  if (head - tail > RING_ENTRIES - MOST_PUSHED) {
    clearIotlb(port);
  } else {
    for (; tail != head; tail++) {
      const entry = load<u32>(engine, ENGINE_RING) + (tail & (RING_ENTRIES - 1)) * <u32>RING_ENTRY_BYTES;
      const kind = atomic.load<u32>(entry, RING_KIND);
      const tag = atomic.load<u64>(entry, RING_TAG);
      if (kind == RING_CLEAR) clearIotlb(port);
      else dropTags(port, tag, kind == RING_DROP_IDS ? TWO_IDS : <u64>atomic.load<u32>(entry, RING_SPAN));
    }
  }
  store<u32>(port, head, PORT_RING_TAIL);
}

/** Rewrites the class words of every route of the domain. */
function rewriteRoutes(engine: usize, domain: usize, small: u64, large: u64): void {
  const routes = load<u32>(engine, ENGINE_ROUTES);
  for (let index = load<u32>(domain, DOMAIN_ROUTES); index; ) {
    const route = <usize>(routes + index * <u32>ROUTE_BYTES);
    atomic.store<u64>(route, small, ROUTE_FIRST);
    atomic.store<u64>(route, large, ROUTE_SECOND);
    store<u32>(route, 0, ROUTE_STREAK);
    index = load<u32>(route, ROUTE_NEXT);
  }
}

/** New IOTLB ids for the domain and its routes; `reserveIds` has promised them. */
export function takeIds(engine: usize, domain: usize): void {
  const id = load<u32>(engine, ENGINE_ID_NEXT);
  store<u32>(engine, id + 2, ENGINE_ID_NEXT);
  store<u32>(domain, id, DOMAIN_ID);
  rewriteRoutes(engine, domain, classWord(domain, false), classWord(domain, true));
}

/**
 * Sees to it that one change has ids enough. When they run out, the routes lose theirs, every IOTLB is cleared, and once no
 * section is left that has used an old one all live domains are numbered afresh. False if a port stalls: nothing is cached then
 * until it is tried again.
 */
export function reserveIds(engine: usize): bool {
  const capacity = load<u32>(engine, ENGINE_DOMAIN_CAPACITY);
  // All other domains once, the one in question twice.
  const mostTaken = 2 * capacity + 2;
  if (load<u32>(engine, ENGINE_ID_NEXT) + mostTaken <= ID_LIMIT) return true;
  const domains = load<u32>(engine, ENGINE_DOMAINS);
  const end = domains + capacity * DOMAIN_BYTES;
  for (let domain = domains; domain < end; domain += DOMAIN_BYTES) {
    if (load<u32>(domain, DOMAIN_STATE)) rewriteRoutes(engine, domain, ROUTE_NO_CLASS, ROUTE_NO_CLASS);
  }
  pushRing(engine, 0, 0, RING_CLEAR);
  if (!settle(engine)) return false;
  let id = load<u32>(engine, ENGINE_ID_FIRST);
  // A start near the limit (tests) must leave ids for the domains and for a change.
  if (id + 2 * mostTaken > ID_LIMIT) id = 2;
  store<u32>(engine, id, ENGINE_ID_NEXT);
  for (let domain = domains; domain < end; domain += DOMAIN_BYTES) {
    if (load<u32>(domain, DOMAIN_STATE)) takeIds(engine, domain);
  }
  return true;
}

/**
 * Gives the domain new ids: everything that any IOTLB holds of it is unreachable from here on. `reserveIds` has promised them.
 * A walk of another thread that began before may still enter what it has read, under the new ids: these are dropped too.
 */
export function flush(engine: usize, domain: usize): void {
  takeIds(engine, domain);
  atomic.store<u32>(domain, 0, DOMAIN_FRAGMENTED);
  if (isDefined(SHARED)) pushRing(engine, <u64>load<u32>(domain, DOMAIN_ID) << TAG_ID_SHIFT, 0, RING_DROP_IDS);
}

/** Flushes the domains that are cached under their own ids but translated by this one too, as stage 2 or as upper half. */
export function flushUsers(engine: usize, domain: usize): void {
  let left = load<u32>(domain, DOMAIN_USERS);
  if (!left) return;
  // Of many domains not each has an entry of the ring: it holds what a few changes push.
  const few = left <= MOST_USERS;
  const first = <usize>load<u32>(engine, ENGINE_DOMAINS);
  const index = <u32>(domain - first) / DOMAIN_BYTES;
  for (let user = first; left; user += DOMAIN_BYTES) {
    if (load<u32>(user, DOMAIN_STATE) != DOMAIN_LIVE) continue;
    const flags = load<u32>(user, DOMAIN_FLAGS);
    const nested = flags & DOMAIN_NESTED && load<u32>(user, DOMAIN_STAGE2) == index;
    if (!nested && !(flags & DOMAIN_HALVES && load<u32>(user, DOMAIN_UPPER) == index)) continue;
    if (few) flush(engine, user);
    else takeIds(engine, user);
    left--;
  }
  if (!few) pushRing(engine, 0, 0, RING_CLEAR);
}

function dropClass(engine: usize, domain: usize, large: bool, first: u64, last: u64): void {
  const word = classWord(domain, large);
  const lg2 = word & 0x3f;
  const mask = load<u64>(domain, DOMAIN_ADDRESS_MASK);
  const page = (first & mask) >> lg2;
  pushRing(engine, (word & ~(<u64>0x3f)) | page, <u32>(((last & mask) >> lg2) - page), RING_DROP);
}

/** Drops [first..last] of the domain from the classes that leaves of the sizes in `leaves` (a bit set of log2) may be in. */
export function dropRange(engine: usize, domain: usize, first: u64, last: u64, leaves: u64): void {
  const largeLg2 = classLg2(domain, true);
  if ((last - first) >> classLg2(domain, false) > MOST_TAGS) {
    flush(engine, domain);
    return;
  }
  const small = leaves & ((<u64>1 << largeLg2) - 1);
  if (small) dropClass(engine, domain, false, first, last);
  if (leaves != small) dropClass(engine, domain, true, first, last);
}

/** Ranges of a list that are dropped one by one; with both classes, and users of the domain, fewer than MOST_PUSHED. */
const MOST_RANGES: u32 = 5;

/**
 * The same for n ranges (RANGE_*) at `ranges`, of which neighbours count as one. When there are too many, or too many pages, the
 * domain gets new ids, once.
 */
export function dropRanges(engine: usize, domain: usize, ranges: usize, n: u32, leaves: u64): void {
  const end = ranges + n * RANGE_BYTES;
  let runs: u32 = 0;
  let pages: u64 = 0;
  for (let at = ranges; at < end && runs <= MOST_RANGES; runs++) {
    const first = load<u64>(at, RANGE_FIRST);
    at = neighboursEnd(at, end);
    pages += ((load<u64>(at - RANGE_BYTES, RANGE_LAST) - first) >> classLg2(domain, false)) + 1;
  }
  if (runs > MOST_RANGES || pages > MOST_TAGS) {
    flush(engine, domain);
    return;
  }
  for (let at = ranges; at < end; ) {
    const first = load<u64>(at, RANGE_FIRST);
    at = runs == 1 ? end : neighboursEnd(at, end);
    dropRange(engine, domain, first, load<u64>(at - RANGE_BYTES, RANGE_LAST), leaves);
  }
}

/** Where the records end that go on, without a gap, from that at `at`. The lowest address does not go on from the highest. */
function neighboursEnd(at: usize, end: usize): usize {
  let last = load<u64>(at, RANGE_LAST);
  for (at += RANGE_BYTES; at < end && last + 1 != 0 && load<u64>(at, RANGE_FIRST) == last + 1; at += RANGE_BYTES) last = load<u64>(at, RANGE_LAST);
  return at;
}

/**
 * What a guest that changed its own table asks for: no translation of [first..last] is used any more. Hardware drops a whole
 * leaf when any part of it is named; here it may stand in several entries, so a domain with such leaves gets new ids, also if a
 * section that was open has only now cached the first. False if a port stalls.
 */
export function invalidate(engine: usize, domain: usize, first: u64, last: u64): bool {
  const fragmented = atomic.load<u32>(domain, DOMAIN_FRAGMENTED);
  if (fragmented) flush(engine, domain);
  else dropRange(engine, domain, first, last, ~(<u64>0));
  flushUsers(engine, domain);
  const settled = settle(engine);
  if (fragmented || (settled && !atomic.load<u32>(domain, DOMAIN_FRAGMENTED))) return settled;
  flush(engine, domain);
  return settled && settle(engine);
}
