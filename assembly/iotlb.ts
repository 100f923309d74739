// The IOTLB of one port: 4 ways a set, a set is one cache line (layout.ts draws it). Private to its thread. A hit is two
// vector compares and an OR, without a branch, so a tag must never be twice in a set: `fill` overwrites an equal one.
// Imports layout only.
import {
  IOTLB_DATA, IOTLB_SET_BYTES, PORT_HASH_SHIFT, PORT_IOTLB, PORT_SECOND, PORT_VICTIM, RESULT_RUN_SHIFT, ROUTE_ADDRESS_MASK, ROUTE_FIRST, ROUTE_SECOND,
  ROUTE_STREAK, ROUTE_SWAPPING, TAG_ID_SHIFT,
} from "./layout";

/** 2^64 / golden ratio: spreads page numbers of equal stride over all sets. */
export const HASH: u64 = 0x9e3779b97f4a7c15;
const CLASS_LG2: u64 = 0x3f;
/** After this many fills of the second class in a row it becomes the first. */
const STREAK: u32 = 4;

@unmanaged
export abstract class Iotlb {
  /** Tag of an iova, less the bits that tags do not keep, in the class that a route's FIRST or SECOND word names. */
  @inline static tag(classWord: u64, address: u64): u64 {
    return (address >> (classWord & CLASS_LG2)) | (classWord & ~CLASS_LG2);
  }

  @inline static set(iotlb: usize, hashShift: u64, tag: u64): usize {
    return iotlb + (<usize>((tag * HASH) >> hashShift) << 6);
  }

  /** Data of the way with that tag in one of two words, 0 in the other; both 0 if none has it. */
  @inline static ways(set: usize, tag: u64): v128 {
    const wanted = i64x2.splat(<i64>tag);
    return v128.or(
      v128.and(i64x2.eq(v128.load(set), wanted), v128.load(set, IOTLB_DATA)),
      v128.and(i64x2.eq(v128.load(set, 16), wanted), v128.load(set, IOTLB_DATA + 16)),
    );
  }

  /** Data of the way with that tag, 0 if none has it. */
  @inline static probe(set: usize, tag: u64): u64 {
    const found = Iotlb.ways(set, tag);
    return <u64>(i64x2.extract_lane(found, 0) | i64x2.extract_lane(found, 1));
  }
}

@unmanaged
export abstract class Fill {
  /** Enters data under tag: over an equal tag, else in an empty way, else in the next one round robin. */
  @inline static enter(port: usize, tag: u64, data: u64): void {
    const set = Iotlb.set(load<u32>(port, PORT_IOTLB), load<u32>(port, PORT_HASH_SHIFT), tag);
    const wanted = i64x2.splat(<i64>tag);
    const none = i64x2.splat(0);
    const equal = i64x2.eq(v128.load(set), wanted);
    const otherEqual = i64x2.eq(v128.load(set, 16), wanted);
    const empty = i64x2.eq(v128.load(set, IOTLB_DATA), none);
    const otherEmpty = i64x2.eq(v128.load(set, IOTLB_DATA + 16), none);
    let way: usize;
    if (v128.any_true(v128.or(v128.or(equal, otherEqual), v128.or(empty, otherEmpty)))) {
      const equals = i64x2.bitmask(equal) | (i64x2.bitmask(otherEqual) << 2);
      way = <usize>ctz(equals ? equals : i64x2.bitmask(empty) | (i64x2.bitmask(otherEmpty) << 2)) << 3;
    } else {
      const next = load<u32>(port, PORT_VICTIM);
      store<u32>(port, next + 1, PORT_VICTIM);
      way = (next & 3) << 3;
    }
    store<u64>(set + way, tag);
    store<u64>(set + way, data, IOTLB_DATA);
  }

  /**
   * Enters a translation that was walked for iova. A leaf fills the larger class that it covers. Below the size of a page of
   * that class hpa and iova agree, so that their difference is the page's. Returns true if the leaf is larger than that, so that
   * several entries may stand for it. A route that was blocked meanwhile takes none: its class words are every blocked route's.
   */
  @inline static walked(port: usize, route: usize, iova: u64, hpa: u64, leafLg2: u32, permAndValid: u64): bool {
    const first = load<u64>(route, ROUTE_FIRST);
    if (isDefined(SHARED)) {
      if (first >> TAG_ID_SHIFT == 0) return false;
    }
    const address = iova & load<u64>(route, ROUTE_ADDRESS_MASK);
    const data = hpa - address + ((<u64>leafLg2 << RESULT_RUN_SHIFT) | permAndValid);
    if ((<u32>(first & CLASS_LG2) ^ leafLg2) | load<u32>(route, ROUTE_STREAK)) return enterInClass(port, route, address, first, leafLg2, data);
    Fill.enter(port, Iotlb.tag(first, address), data);
    return false;
  }
}

/** `Fill.walked` of a leaf that has not just the size of the first class, or after others that had not. */
function enterInClass(port: usize, route: usize, address: u64, first: u64, leafLg2: u32, data: u64): bool {
  const second = load<u64>(route, ROUTE_SECOND);
  if (isDefined(SHARED)) {
    if (second >> TAG_ID_SHIFT == 0) return false;
  }
  const firstLg2 = <u32>(first & CLASS_LG2);
  const secondLg2 = <u32>(second & CLASS_LG2);
  const large = max(firstLg2, secondLg2);
  const classLg2 = leafLg2 >= large ? large : min(firstLg2, secondLg2);
  if (isDefined(SHARED)) {
    // While another thread swaps the words they may name one class twice.
    if (classLg2 > leafLg2) return false;
  }
  const isFirst = classLg2 == firstLg2;
  if (!isFirst) store<u32>(port, 1, PORT_SECOND);
  if (!isFirst || load<u32>(route, ROUTE_STREAK)) learnOrder(route, first, second, isFirst);
  Fill.enter(port, Iotlb.tag(isFirst ? first : second, address), data);
  return leafLg2 > classLg2;
}

/**
 * The two words are swapped one after the other: between the stores a reader probes one class twice, and at worst misses. One
 * port at a time does it, and only while the words are what it has read: ids that a change has given meanwhile stay.
 */
function learnOrder(route: usize, first: u64, second: u64, isFirst: bool): void {
  const streak: u32 = isFirst ? 0 : load<u32>(route, ROUTE_STREAK) + 1;
  if (streak < STREAK) {
    store<u32>(route, streak, ROUTE_STREAK);
    return;
  }
  store<u32>(route, 0, ROUTE_STREAK);
  if (atomic.cmpxchg<u32>(route, 0, 1, ROUTE_SWAPPING)) return;
  if (atomic.load<u64>(route, ROUTE_SECOND) == second && atomic.cmpxchg<u64>(route, first, second, ROUTE_FIRST) == first) {
    atomic.cmpxchg<u64>(route, second, first, ROUTE_SECOND);
  }
  atomic.store<u32>(route, 0, ROUTE_SWAPPING);
}

function dropTag(iotlb: usize, hashShift: u64, tag: u64): void {
  const set = Iotlb.set(iotlb, hashShift, tag);
  for (let way: usize = 0; way < 32; way += 8) {
    if (load<u64>(set + way) != tag) continue;
    store<u64>(set + way, 0);
    store<u64>(set + way, 0, IOTLB_DATA);
  }
}

/** Drops the tags first..first + span: one by one, or in a sweep of the whole table where that is less work. */
export function dropTags(port: usize, first: u64, span: u64): void {
  const iotlb = <usize>load<u32>(port, PORT_IOTLB);
  const hashShift: u64 = load<u32>(port, PORT_HASH_SHIFT);
  const sets: u64 = <u64>1 << (64 - hashShift);
  if (span < sets) {
    for (let i: u64 = 0; i <= span; i++) dropTag(iotlb, hashShift, first + i);
    return;
  }
  const end = iotlb + (<usize>sets << 6);
  for (let set = iotlb; set < end; set += IOTLB_SET_BYTES) {
    for (let way: usize = 0; way < 32; way += 8) {
      if (load<u64>(set + way) - first > span) continue;
      store<u64>(set + way, 0);
      store<u64>(set + way, 0, IOTLB_DATA);
    }
  }
}

export function clearIotlb(port: usize): void {
  store<u32>(port, 0, PORT_SECOND);
  memory.fill(load<u32>(port, PORT_IOTLB), 0, <usize>1 << (70 - load<u32>(port, PORT_HASH_SHIFT)));
}
