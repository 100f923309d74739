// The batch translation for VT-d second-stage tables of our own and nothing else, written out by hand: no format contract, no
// other owner of tables, no dispatch. It is there to show what the generic code costs, and works on the engine's memory with
// the engine's layout and IOTLB. What it cannot answer it refuses; in its row there is no such lane.
import {
  DATA_VALID, DOMAIN_ACCESS_FAULT, DOMAIN_BIAS, DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_FRAGMENTED, DOMAIN_GUEST,
  DOMAIN_HIGH, DOMAIN_LEVELS, DOMAIN_ROOT, DOMAIN_SET_ACCESSED, DOMAIN_SET_DIRTY, ENGINE_DOMAINS, ENGINE_ROUTE_MASK, ENGINE_ROUTES,
  ENGINE_SINK, FORMAT_VTD_SECOND, GROUP_LANES, LANE_BYTES, LANE_INDEX, LANE_LEVEL, LANE_PTE, LANE_ROUTE, LANE_TABLES,
  PORT_CAPACITY, PORT_ENGINE, PORT_HASH_SHIFT, PORT_IOTLB, PORT_LANES, PORT_MISSES, PORT_REQUESTS, PORT_RESULTS, PORT_SECOND, REQUEST_BYTES,
  RESULT_FAULT_BIT, RESULT_RUN_SHIFT, ROUTE_BIAS, ROUTE_DOMAIN, ROUTE_HIGH, ROUTE_KIND, ROUTE_TRANSLATE,
} from "../../assembly/layout";
import { Fill } from "../../assembly/iotlb";
import { Lookup } from "../../assembly/lookup";
import { Request, Route } from "../../assembly/request";

const ADDRESS: u64 = 0x000ffffffffff000;
const READ_WRITE: u64 = 3;
const PAGE_SIZE: u64 = 0x80;
const ACCESSED: u64 = 0x100;
const DIRTY: u64 = 0x200;
const WRITES: u64 = 0x22;

@unmanaged
abstract class Hand {
  @inline static isTable(pte: u64): bool { return (pte & (PAGE_SIZE | READ_WRITE)) - 1 < 3; }
  @inline static entry(table: u64, iova: u64, shift: u64): usize { return <usize>(table & ADDRESS) + (<usize>(iova >> shift) & 0xff8); }

  /** Down to the entry that ends the walk. */
  @inline static find(domain: usize, iova: u64, lane: usize, sink: u32): void {
    const levels = load<u32>(domain, DOMAIN_LEVELS);
    let perm: u64 = READ_WRITE | ACCESSED;
    let level: u32 = 0;
    let at: usize = sink;
    if (((iova + load<u64>(domain, DOMAIN_BIAS)) & load<u64>(domain, DOMAIN_HIGH)) == 0) {
      const root = <usize>load<u32>(domain, DOMAIN_ROOT);
      at = root + (<usize>(iova >> (9 * levels)) & 0xff8);
      do {
        if (levels > 4) {
          const pte = load<u64>(at);
          if (!Hand.isTable(pte)) { level = 4; break; }
          perm &= pte;
          at = Hand.entry(pte, iova, 36);
        }
        if (levels > 3) {
          const pte = load<u64>(at);
          if (!Hand.isTable(pte)) { level = 3; break; }
          perm &= pte;
          at = Hand.entry(pte, iova, 27);
        }
        const upper = load<u64>(at);
        if (!Hand.isTable(upper)) { level = 2; break; }
        at = Hand.entry(upper, iova, 18);
        const lower = load<u64>(at);
        perm &= upper;
        if (!Hand.isTable(lower)) { level = 1; break; }
        perm &= lower;
        at = Hand.entry(lower, iova, 9);
      } while (false);
    }
    store<u32>(lane, <u32>at, LANE_PTE);
    store<u32>(lane, level, LANE_LEVEL);
    store<u64>(lane, perm, LANE_TABLES);
  }

  @inline static finish(port: usize, lane: usize, requests: usize, results: usize, domains: u32): bool {
    const pte = atomic.load<u64>(load<u32>(lane, LANE_PTE));
    const lg2 = 12 + 9 * load<u32>(lane, LANE_LEVEL);
    const inside = (<u64>1 << lg2) - 1;
    const leaf = lg2 == 12 || (lg2 <= 30 && (pte & PAGE_SIZE) != 0 && (pte & ADDRESS & inside) == 0);
    if (!(pte & READ_WRITE) || !leaf) return false;
    const index = load<u32>(lane, LANE_INDEX);
    const request = Request.at(requests, index);
    const route = <usize>load<u32>(lane, LANE_ROUTE);
    const iova = Request.iova(request);
    const domain = <usize>(domains + load<u32>(route, ROUTE_DOMAIN) * <u32>DOMAIN_BYTES);
    const all = load<u64>(lane, LANE_TABLES) & pte;
    let perm = (all & READ_WRITE) * 0x11;
    const flags = load<u32>(domain, DOMAIN_FLAGS);
    if (flags & (DOMAIN_SET_ACCESSED | DOMAIN_SET_DIRTY | DOMAIN_ACCESS_FAULT)) {
      if (!(all & ACCESSED)) return false;
      if (!(pte & DIRTY)) perm &= ~WRITES;
    }
    if ((<u64>Request.need(request) & ~perm) != 0) return false;
    const hpa = (pte & ADDRESS) | (iova & inside);
    if (((iova + load<u64>(route, ROUTE_BIAS)) & load<u64>(route, ROUTE_HIGH)) == 0) {
      if (Fill.walked(port, route, iova, hpa, lg2, DATA_VALID | perm)) atomic.store<u32>(domain, 1, DOMAIN_FRAGMENTED);
    }
    store<u64>(results + (index << 3), hpa | (<u64>lg2 << RESULT_RUN_SHIFT));
    return true;
  }
}

/** Walks the lanes of the miss list, in groups: how many it could not answer, which are refused. */
function walkMisses(engine: usize, port: usize, requests: usize, results: usize, end: usize): u32 {
  const misses = <usize>load<u32>(port, PORT_MISSES);
  const routes = <usize>load<u32>(engine, ENGINE_ROUTES);
  const mask = load<u32>(engine, ENGINE_ROUTE_MASK);
  const domains = load<u32>(engine, ENGINE_DOMAINS);
  const sink = load<u32>(engine, ENGINE_SINK);
  const lanes = <usize>load<u32>(port, PORT_LANES);
  let refused: u32 = 0;
  for (let miss = misses; miss < end; ) {
    let lane = lanes;
    const stop = min(miss + (GROUP_LANES << 2), end);
    for (; miss < stop; miss += 4) {
      const index = load<u32>(miss);
      const request = Request.at(requests, index);
      const route = Route.at(routes, mask, Request.route(request));
      const domain = <usize>(domains + load<u32>(route, ROUTE_DOMAIN) * <u32>DOMAIN_BYTES);
      const ours = load<u32>(domain, DOMAIN_FORMAT) == FORMAT_VTD_SECOND && !(load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST);
      if (load<u32>(route, ROUTE_KIND) != ROUTE_TRANSLATE || !ours) {
        store<u64>(results + (index << 3), <u64>1 << RESULT_FAULT_BIT);
        refused++;
        continue;
      }
      store<u32>(lane, index, LANE_INDEX);
      store<u32>(lane, <u32>route, LANE_ROUTE);
      store<u32>(lane, <u32>domain, LANE_PTE);
      lane += LANE_BYTES;
    }
    for (let at = lanes; at < lane; at += LANE_BYTES) {
      Hand.find(load<u32>(at, LANE_PTE), Request.iova(Request.at(requests, load<u32>(at, LANE_INDEX))), at, sink);
    }
    for (let touched = lanes; touched < lane; touched += LANE_BYTES) load<u64>(load<u32>(touched, LANE_PTE));
    for (let done = lanes; done < lane; done += LANE_BYTES) {
      if (Hand.finish(port, done, requests, results, domains)) continue;
      store<u64>(results + (load<u32>(done, LANE_INDEX) << 3), <u64>1 << RESULT_FAULT_BIT);
      refused++;
    }
  }
  return refused;
}

/** The engine's `translate`. */
export function translate(port: usize, n: u32): u32 {
  const engine = <usize>load<u32>(port, PORT_ENGINE);
  const routes = <usize>load<u32>(engine, ENGINE_ROUTES);
  const mask = load<u32>(engine, ENGINE_ROUTE_MASK);
  const iotlb = <usize>load<u32>(port, PORT_IOTLB);
  const hashShift: u64 = load<u32>(port, PORT_HASH_SHIFT);
  const second = load<u32>(port, PORT_SECOND);
  const requests = <usize>load<u32>(port, PORT_REQUESTS);
  const results = <usize>load<u32>(port, PORT_RESULTS);
  const end = requests + min(n, load<u32>(port, PORT_CAPACITY)) * REQUEST_BYTES;
  const misses = <usize>load<u32>(port, PORT_MISSES);
  let miss = misses;
  let result = results;
  for (let request = requests; request < end; request += REQUEST_BYTES, result += 8) {
    const route = Route.at(routes, mask, Request.route(request));
    const answer = Lookup.result(route, iotlb, hashShift, Request.iova(request), Request.need(request), second);
    if (answer) {
      store<u64>(result, answer);
    } else {
      store<u32>(miss, <u32>(request - requests) >> 4);
      miss += 4;
    }
  }
  return miss == misses ? 0 : walkMisses(engine, port, requests, results, miss);
}
