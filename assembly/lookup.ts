// From requests to results through the IOTLB alone. One lane at a time with all of the rules; and four at a time, as two
// vectors of two, for what nearly every lane of real traffic is. Imports layout, iotlb, request.
import {
  DATA_VALID, PERM_MASK, REQUEST_BYTES, RESULT_BYTES, ROUTE_ADDRESS_MASK, ROUTE_BIAS, ROUTE_BYTES,
  ROUTE_FIRST, ROUTE_HIGH, ROUTE_SECOND, TAG_PLAIN_BITS,
} from "./layout";
import { Iotlb } from "./iotlb";
import { Request } from "./request";

const OFFSET_MASK: u64 = 0xfff;
/** Of a request's second word, [need | route]. */
const NEED_SHIFT: i32 = 32;

@unmanaged
export abstract class Lookup {
  /** The result of a hit, or 0: a miss, an address that breaks the route's rule, or a permission that the entry lacks. */
  @inline static result(route: usize, iotlb: usize, hashShift: u64, iova: u64, need: u32): u64 {
    const address = iova & load<u64>(route, ROUTE_ADDRESS_MASK);
    const tag = Iotlb.tag(load<u64>(route, ROUTE_FIRST), address);
    const data = Iotlb.probe(Iotlb.set(iotlb, hashShift, tag), tag);
    return data ? Lookup.checked(route, data, iova, need) : Lookup.second(route, iotlb, hashShift, iova, need);
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
  /** What the ways hold under the tag of the lane: two words, of which one at most is not 0. */
  @inline static ways(request: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): v128 {
    const route = routes + (<usize>(Request.route(request) & routeMask)) * ROUTE_BYTES;
    const tag = Iotlb.tag(load<u64>(route, ROUTE_FIRST), Request.iova(request));
    return Iotlb.ways(Iotlb.set(iotlb, hashShift, tag), tag);
  }

  /** The data words of the two lanes. */
  @inline static data(request: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): v128 {
    const a = Pair.ways(request, routes, routeMask, iotlb, hashShift);
    const b = Pair.ways(request + REQUEST_BYTES, routes, routeMask, iotlb, hashShift);
    return v128.or(v128.shuffle<u64>(a, b, 0, 2), v128.shuffle<u64>(a, b, 1, 3));
  }

  @inline static iovas(request: usize): v128 {
    return v128.shuffle<u64>(v128.load(request), v128.load(request, REQUEST_BYTES), 0, 2);
  }

  /** [need | route] without the permissions that the data grants: nothing but a route should be left. */
  @inline static denied(request: usize, data: v128): v128 {
    const wanted = v128.shuffle<u64>(v128.load(request), v128.load(request, REQUEST_BYTES), 1, 3);
    return v128.andnot(wanted, i64x2.shl(v128.and(data, i64x2.splat(PERM_MASK)), NEED_SHIFT));
  }

  /** A word that is not 0 for each lane that the data does not answer. */
  @inline static unanswered(request: usize, data: v128, iovas: v128, routeMask: u32): v128 {
    const missing = v128.andnot(i64x2.splat(DATA_VALID), data);
    const denied = v128.andnot(Pair.denied(request, data), i64x2.splat(routeMask));
    return v128.or(v128.or(denied, missing), i64x2.shr_u(iovas, TAG_PLAIN_BITS));
  }

  @inline static results(data: v128, iovas: v128): v128 {
    return i64x2.add(v128.and(data, i64x2.splat(<i64>~OFFSET_MASK)), iovas);
  }
}

@unmanaged
export abstract class Quad {
  /** Bytes of four requests, and of their results. */
  @inline static get REQUESTS(): usize { return 4 * REQUEST_BYTES; }
  @inline static get RESULTS(): usize { return 4 * RESULT_BYTES; }

  /** Writes four results; true if all of them hold, false if any lane is for `Lookup`. */
  @inline static answer(request: usize, result: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): bool {
    const other = request + 2 * REQUEST_BYTES;
    const data = Pair.data(request, routes, routeMask, iotlb, hashShift);
    const iovas = Pair.iovas(request);
    v128.store(result, Pair.results(data, iovas));
    const otherData = Pair.data(other, routes, routeMask, iotlb, hashShift);
    const otherIovas = Pair.iovas(other);
    v128.store(result, Pair.results(otherData, otherIovas), 2 * RESULT_BYTES);
    const denied = v128.or(Pair.denied(request, data), Pair.denied(other, otherData));
    const missing = v128.andnot(i64x2.splat(DATA_VALID), v128.and(data, otherData));
    const high = i64x2.shr_u(v128.or(iovas, otherIovas), TAG_PLAIN_BITS);
    return !v128.any_true(v128.or(v128.or(v128.andnot(denied, i64x2.splat(routeMask)), missing), high));
  }

  /** Writes two results; the bits of those lanes that they do not hold for. */
  @inline static pair(request: usize, result: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64): u32 {
    const data = Pair.data(request, routes, routeMask, iotlb, hashShift);
    const iovas = Pair.iovas(request);
    v128.store(result, Pair.results(data, iovas));
    return i64x2.bitmask(i64x2.ne(Pair.unanswered(request, data, iovas, routeMask), i64x2.splat(0)));
  }

  /** Writes four results, and the lanes that they do not hold for to the list at `miss`, without a branch: its end. */
  @inline static collect(
    request: usize, result: usize, routes: usize, routeMask: u32, iotlb: usize, hashShift: u64, lane: u32, miss: usize,
  ): usize {
    const first = Quad.pair(request, result, routes, routeMask, iotlb, hashShift);
    const other = Quad.pair(request + 2 * REQUEST_BYTES, result + 2 * RESULT_BYTES, routes, routeMask, iotlb, hashShift);
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
