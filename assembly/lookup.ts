// From requests to results through the IOTLB alone. One lane at a time with all of the rules; and four or eight at a time, as
// vectors of two, for what nearly every lane of real traffic is. Imports layout, iotlb.
import {
  DATA_VALID, PERM_MASK, REQUEST_BYTES, REQUEST_IOVA, REQUEST_ROUTE, RESULT_BYTES, ROUTE_ADDRESS_MASK, ROUTE_BIAS, ROUTE_BYTES,
  ROUTE_FIRST, ROUTE_HIGH, ROUTE_SECOND, TAG_PLAIN_BITS,
} from "./layout";
import { Iotlb } from "./iotlb";

const OFFSET_MASK: u64 = 0xfff;
/** Of a request's second word, [need | route]. */
const NEED_SHIFT: i32 = 32;

/** Requests of a group, by what lies before them: their size is the offset of a load, which has to be known when it is compiled. */
@unmanaged class R0 {}
@unmanaged class R1 extends R0 { r0: v128; }
@unmanaged class R2 extends R1 { r1: v128; }
@unmanaged class R3 extends R2 { r2: v128; }
@unmanaged class R4 extends R3 { r3: v128; }
@unmanaged class R5 extends R4 { r4: v128; }
@unmanaged class R6 extends R5 { r5: v128; }
@unmanaged class R7 extends R6 { r6: v128; }

@unmanaged
export abstract class Lookup {
  /**
   * The result of a hit, or 0: a miss, an address that breaks the route's rule, or a permission that the entry lacks. `second`:
   * PORT_SECOND.
   */
  @inline static result(route: usize, iotlb: usize, hashShift: u64, iova: u64, need: u32, second: u32): u64 {
    const address = iova & load<u64>(route, ROUTE_ADDRESS_MASK);
    const tag = Iotlb.tag(load<u64>(route, ROUTE_FIRST), address);
    const data = Iotlb.probe(Iotlb.set(iotlb, hashShift, tag), tag);
    if (data) return Lookup.checked(route, data, iova, need);
    return second ? Lookup.second(route, iotlb, hashShift, iova, need) : 0;
  }

  /** The same of the second class alone. */
  @inline static second(route: usize, iotlb: usize, hashShift: u64, iova: u64, need: u32): u64 {
    const tag = Iotlb.tag(load<u64>(route, ROUTE_SECOND), iova & load<u64>(route, ROUTE_ADDRESS_MASK));
    const data = Iotlb.probe(Iotlb.set(iotlb, hashShift, tag), tag);
    return data ? Lookup.checked(route, data, iova, need) : 0;
  }

  @inline static checked(route: usize, data: u64, iova: u64, need: u32): u64 {
    const address = iova & load<u64>(route, ROUTE_ADDRESS_MASK);
    const against = ((iova + load<u64>(route, ROUTE_BIAS)) & load<u64>(route, ROUTE_HIGH)) | (<u64>need & ~(data & PERM_MASK));
    return against ? 0 : (data & ~OFFSET_MASK) + address;
  }
}

/**
 * Lanes whose iova is plain (TAG_PLAIN_BITS) need no rule of their route: a tag that is equal was filled for that very page.
 * Whether all lanes of a group are of this kind, hit in their first class and may do what they want is asked once for all;
 * results are written before that, and again by whoever answers the others.
 */
@unmanaged
export abstract class Pair {
  /** What the ways hold under the tag of the lane whose request is R behind `request`: two words, of which one at most is not 0. */
  @inline static ways<R>(request: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): v128 {
    const route = routes + (<usize>(load<u32>(request, offsetof<R>() + REQUEST_ROUTE) & routeMask)) * ROUTE_BYTES;
    const tag = Iotlb.tag(load<u64>(route, ROUTE_FIRST), load<u64>(request, offsetof<R>() + REQUEST_IOVA));
    return Iotlb.ways(Iotlb.set(iotlb, hashShift, tag), tag);
  }

  /** The data words of two lanes. */
  @inline static data<R, S>(request: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): v128 {
    const a = Pair.ways<R>(request, routes, routeMask, iotlb, hashShift);
    const b = Pair.ways<S>(request, routes, routeMask, iotlb, hashShift);
    return v128.or(v128.shuffle<u64>(a, b, 0, 2), v128.shuffle<u64>(a, b, 1, 3));
  }

  /** The iovas of two requests, and their second words, [need | route]. */
  @inline static iovas(one: v128, other: v128): v128 { return v128.shuffle<u64>(one, other, 0, 2); }
  @inline static wanted(one: v128, other: v128): v128 { return v128.shuffle<u64>(one, other, 1, 3); }

  /** [need | route] without the permissions that the data grants: nothing but a route should be left. */
  @inline static denied(wanted: v128, data: v128): v128 {
    return v128.andnot(wanted, i64x2.shl(v128.and(data, i64x2.splat(PERM_MASK)), NEED_SHIFT));
  }

  /**
   * A word that is not 0 for a lane that is not answered. Of several pairs: what any is denied, the bits that all data has, and those
   * that any iova has.
   */
  @inline static unanswered(denied: v128, data: v128, iovas: v128, routeMask: u32): v128 {
    const missing = v128.andnot(i64x2.splat(DATA_VALID), data);
    return v128.or(v128.or(v128.andnot(denied, i64x2.splat(routeMask)), missing), i64x2.shr_u(iovas, TAG_PLAIN_BITS));
  }

  @inline static results(data: v128, iovas: v128): v128 {
    return i64x2.add(v128.and(data, i64x2.splat(<i64>~OFFSET_MASK)), iovas);
  }
}

@unmanaged
export abstract class Eight {
  /** Bytes of eight requests, and of their results. */
  @inline static get REQUESTS(): usize { return 8 * REQUEST_BYTES; }
  @inline static get RESULTS(): usize { return 8 * RESULT_BYTES; }

  /**
   * Writes eight results; true if all of them hold, false if any lane is for `Lookup`. A request is loaded as a vector once: before the
   * next store, behind which it would have to be loaded again.
   */
  @inline static answer(request: usize, result: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): bool {
    let data = Pair.data<R0, R1>(request, routes, routeMask, iotlb, hashShift);
    let one = v128.load(request);
    let other = v128.load(request, REQUEST_BYTES);
    let iovas = Pair.iovas(one, other);
    let denied = Pair.denied(Pair.wanted(one, other), data);
    let allData = data;
    let anyIova = iovas;
    v128.store(result, Pair.results(data, iovas));

    data = Pair.data<R2, R3>(request, routes, routeMask, iotlb, hashShift);
    one = v128.load(request, offsetof<R2>());
    other = v128.load(request, offsetof<R3>());
    iovas = Pair.iovas(one, other);
    denied = v128.or(denied, Pair.denied(Pair.wanted(one, other), data));
    allData = v128.and(allData, data);
    anyIova = v128.or(anyIova, iovas);
    v128.store(result, Pair.results(data, iovas), 2 * RESULT_BYTES);

    data = Pair.data<R4, R5>(request, routes, routeMask, iotlb, hashShift);
    one = v128.load(request, offsetof<R4>());
    other = v128.load(request, offsetof<R5>());
    iovas = Pair.iovas(one, other);
    denied = v128.or(denied, Pair.denied(Pair.wanted(one, other), data));
    allData = v128.and(allData, data);
    anyIova = v128.or(anyIova, iovas);
    v128.store(result, Pair.results(data, iovas), 4 * RESULT_BYTES);

    data = Pair.data<R6, R7>(request, routes, routeMask, iotlb, hashShift);
    one = v128.load(request, offsetof<R6>());
    other = v128.load(request, offsetof<R7>());
    iovas = Pair.iovas(one, other);
    denied = v128.or(denied, Pair.denied(Pair.wanted(one, other), data));
    v128.store(result, Pair.results(data, iovas), 6 * RESULT_BYTES);
    return !v128.any_true(Pair.unanswered(denied, v128.and(allData, data), v128.or(anyIova, iovas), routeMask));
  }
}

@unmanaged
export abstract class Quad {
  /** Bytes of four requests, and of their results. */
  @inline static get REQUESTS(): usize { return 4 * REQUEST_BYTES; }
  @inline static get RESULTS(): usize { return 4 * RESULT_BYTES; }

  /** Writes four results; true if all of them hold, false if any lane is for `Lookup`. */
  @inline static answer(request: usize, result: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): bool {
    const data = Pair.data<R0, R1>(request, routes, routeMask, iotlb, hashShift);
    let one = v128.load(request, offsetof<R0>());
    let other = v128.load(request, offsetof<R1>());
    const iovas = Pair.iovas(one, other);
    const denied = Pair.denied(Pair.wanted(one, other), data);
    v128.store(result, Pair.results(data, iovas));

    const nextData = Pair.data<R2, R3>(request, routes, routeMask, iotlb, hashShift);
    one = v128.load(request, offsetof<R2>());
    other = v128.load(request, offsetof<R3>());
    const nextIovas = Pair.iovas(one, other);
    const nextDenied = Pair.denied(Pair.wanted(one, other), nextData);
    v128.store(result, Pair.results(nextData, nextIovas), 2 * RESULT_BYTES);
    const against = Pair.unanswered(v128.or(denied, nextDenied), v128.and(data, nextData), v128.or(iovas, nextIovas), routeMask);
    return !v128.any_true(against);
  }

  /** Writes two results; the bits of those lanes that they do not hold for. */
  @inline static pair<R, S>(request: usize, result: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): u32 {
    const data = Pair.data<R, S>(request, routes, routeMask, iotlb, hashShift);
    const one = v128.load(request, offsetof<R>());
    const other = v128.load(request, offsetof<S>());
    const iovas = Pair.iovas(one, other);
    const denied = Pair.denied(Pair.wanted(one, other), data);
    v128.store(result, Pair.results(data, iovas));
    return i64x2.bitmask(i64x2.ne(Pair.unanswered(denied, data, iovas, routeMask), i64x2.splat(0)));
  }

  /** Writes four results, and the lanes that they do not hold for to the list at `miss`, without a branch: its end. */
  @inline static collect(
    request: usize, result: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64, lane: u32, miss: usize,
  ): usize {
    const first = Quad.pair<R0, R1>(request, result, routes, routeMask, iotlb, hashShift);
    const other = Quad.pair<R2, R3>(request, result + 2 * RESULT_BYTES, routes, routeMask, iotlb, hashShift);
    store<u32>(miss, lane);
    miss += (first & 1) << 2;
    store<u32>(miss, lane + 1);
    miss += (first & 2) << 1;
    store<u32>(miss, lane + 2);
    miss += (other & 1) << 2;
    store<u32>(miss, lane + 3);
    return miss + ((other & 2) << 1);
  }
}
