// The batch walker: three passes over groups of lanes that missed. Pass one follows the upper levels to the address of the
// entry that ends the walk; pass two touches those addresses, so that their cache misses overlap; pass three reads the
// entries, fills the IOTLB and writes results. It only answers "this" or "not": what fails stays in the miss list for the
// exact walker. Imports layout, memory, the lanes, the walk of two stages, the format contract; knows no format.
import {
  ENGINE_DOMAINS, ENGINE_ROUTE_MASK, ENGINE_ROUTES, ENGINE_SINK, GROUP_LANES, LANE_BYTES, LANE_INDEX, LANE_LEVEL, LANE_PTE,
  LANE_ROUTE, LANE_TABLES, PORT_LANE_REQUESTS, PORT_LANE_RESULTS, PORT_LANES, PORT_MISSES, SLOTS_FAST_FIRST, SLOTS_FAST_OFFSET,
  SLOTS_FAST_SPAN, WALKER_GUEST, WALKER_NESTED,
} from "../layout";
import { Count } from "../counters";
import { Format } from "../format/format";
import { Operation } from "../format/list";
import { GuestTables, KernelTables, slotTable, TableSpace } from "../memory";
import { Domain, Request, Route } from "../request";
import { Lane, LEFT } from "./lane";
import { walkTwoStages } from "./two-stage-walk";

@unmanaged
abstract class Pass {
  /** Pass three for one lane: true if the result was written. */
  @inline static finish<F extends Format, S extends TableSpace>(
    engine: usize, port: usize, lane: usize, requests: u32, results: u32, domains: u32,
  ): bool {
    const f = changetype<F>(0);
    const pte = atomic.load<u64>(load<u32>(lane, LANE_PTE));
    const level = load<u32>(lane, LANE_LEVEL);
    const request = Request.at(requests, load<u32>(lane, LANE_INDEX));
    const iova = Request.iova(request);
    const domain = Route.domain(domains, load<u32>(lane, LANE_ROUTE));
    const half = f.halves() ? Domain.half(engine, domain, iova) : domain;
    const perm = Lane.grants<F>(changetype<S>(0).trusted(), domain, half, pte, level, load<u64>(lane, LANE_TABLES));
    if (perm == LEFT || (Request.need(request) & ~perm) != 0) return false;
    const lg2 = f.leafLg2(pte, level);
    Lane.answer(port, lane, domain, results, iova, f.leafAddress(pte, level) | (iova & ((<u64>1 << lg2) - 1)), lg2, perm);
    return true;
  }
}

/**
 * Begins pass one: lane records for those of the misses at miss..stop that a table of `walker` decides, with LANE_PTE their domain;
 * the others are written to the list at `kept`. Answers the end of the records. A loop of its own, so that the one that follows the
 * tables has fewer instructions, and the processor more lanes of it in flight.
 */
function beginLanes(engine: usize, port: usize, walker: u32, miss: usize, stop: usize, kept: usize): usize {
  const requests = load<u32>(port, PORT_LANE_REQUESTS);
  const routes = <usize>load<u32>(engine, ENGINE_ROUTES);
  const routeMask = load<u32>(engine, ENGINE_ROUTE_MASK);
  const domains = load<u32>(engine, ENGINE_DOMAINS);
  let lane = <usize>load<u32>(port, PORT_LANES);
  for (; miss < stop; miss += 4) {
    const index = load<u32>(miss);
    const route = Route.at(routes, routeMask, Request.route(Request.at(requests, index)));
    const domain = Route.domain(domains, route);
    if (!Lane.isFor(walker, route, domain)) {
      store<u32>(kept, index);
      kept += 4;
      continue;
    }
    store<u32>(lane, index, LANE_INDEX);
    store<u32>(lane, <u32>route, LANE_ROUTE);
    store<u32>(lane, <u32>domain, LANE_PTE);
    lane += LANE_BYTES;
  }
  return lane;
}

/** Answers what it can of the first `n` lanes of the miss list that a table of `walker` decides; the rest stays, in order: its length. */
function walkMisses<F extends Format, S extends TableSpace>(engine: usize, port: usize, walker: u32, n: u32): u32 {
  const misses = <usize>load<u32>(port, PORT_MISSES);
  const requests = load<u32>(port, PORT_LANE_REQUESTS);
  const results = load<u32>(port, PORT_LANE_RESULTS);
  const domains = load<u32>(engine, ENGINE_DOMAINS);
  const sink = load<u32>(engine, ENGINE_SINK);
  const lanes = <usize>load<u32>(port, PORT_LANES);
  const slots = slotTable(engine);
  const fastFirst = load<u64>(slots, SLOTS_FAST_FIRST);
  const fastSpan = load<u64>(slots, SLOTS_FAST_SPAN);
  const fastDelta = <usize>load<u32>(slots, SLOTS_FAST_OFFSET) - <usize>fastFirst;
  let loads: u32 = 0;
  let mixed = false;
  let kept = misses;
  const end = misses + (n << 2);
  for (let miss = misses; miss < end; ) {
    const stop = min(miss + (GROUP_LANES << 2), end);
    const lane = beginLanes(engine, port, walker, miss, stop, kept);
    kept += (stop - miss) - ((lane - lanes) / LANE_BYTES << 2);
    miss = stop;
    for (let at = lanes; at < lane; at += LANE_BYTES) {
      const iova = Request.iova(Request.at(requests, load<u32>(at, LANE_INDEX)));
      const domain = <usize>load<u32>(at, LANE_PTE);
      const half = changetype<F>(0).halves() ? Domain.half(engine, domain, iova) : domain;
      loads += Lane.findEntry<F, S>(engine, half, iova, at, sink, mixed, fastFirst, fastSpan, fastDelta);
    }
    let above: u32 = 0;
    for (let touched = lanes; touched < lane; touched += LANE_BYTES) {
      load<u64>(load<u32>(touched, LANE_PTE));
      above += load<u32>(touched, LANE_LEVEL);
    }
    loads -= above;
    // Of this group some have leaves above the leaf table, and some have not: so will those of the next.
    const part = <u32>(lane - lanes) / (8 * LANE_BYTES);
    mixed = above > part && above < 7 * part;
    for (let done = lanes; done < lane; done += LANE_BYTES) {
      if (Pass.finish<F, S>(engine, port, done, requests, results, domains)) continue;
      store<u32>(kept, load<u32>(done, LANE_INDEX));
      kept += 4;
    }
  }
  Count.loads(port, loads);
  return <u32>(kept - misses) >> 2;
}

/** Walks the first a lanes of the port's miss list whose walker is d; `domain` is the port. Answers how many lanes stay. */
@unmanaged
@final
export class WalkMisses extends Operation {
  run<F extends Format>(engine: usize, port: usize, a: u64, _b: u64, _c: u64, d: u32): u64 {
    if (d & WALKER_NESTED) return changetype<F>(0).stage() == 1 ? walkTwoStages<F>(engine, port, d, <u32>a) : a;
    return d & WALKER_GUEST
      ? walkMisses<F, GuestTables>(engine, port, d, <u32>a)
      : walkMisses<F, KernelTables>(engine, port, d, <u32>a);
  }
}
