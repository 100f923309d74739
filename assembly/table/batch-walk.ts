// The batch walker: three passes over groups of lanes that missed. Pass one follows the upper levels to the address of the
// entry that ends the walk; pass two touches those addresses, so that their cache misses overlap; pass three reads the
// entries, fills the IOTLB and writes results. It only answers "this" or "not": what fails stays in the miss list for the
// exact walker. Imports layout, memory, iotlb, the format contract; knows no format.
import {
  DATA_VALID, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_FRAGMENTED, DOMAIN_GUEST, DOMAIN_HIGH, DOMAIN_LEVELS, DOMAIN_ROOT,
  DOMAIN_TRACK_DIRTY, ENGINE_DOMAINS, ENGINE_FAST_FIRST, ENGINE_FAST_OFFSET, ENGINE_FAST_SPAN, ENGINE_ROUTE_MASK, ENGINE_ROUTES, ENGINE_SINK, GROUP_LANES, LANE_BYTES,
  LANE_INDEX, LANE_LEVEL, LANE_PERM, LANE_PTE, LANE_ROUTE, PERM_W, PORT_LANES, PORT_MISSES, PORT_LANE_REQUESTS, PORT_LANE_RESULTS, RESULT_RUN_SHIFT,
  PERM_MASK, ROUTE_BIAS, ROUTE_HIGH, ROUTE_KIND, ROUTE_TRANSLATE,
} from "../layout";
import { EntryOf, Format, LEAF, lowBits } from "../format/format";
import { Operation } from "../format/list";
import { Fill } from "../iotlb";
import { GuestTables, KernelTables, NOWHERE, TableSpace } from "../memory";
import { Request, Route, Walker } from "../request";

@unmanaged
abstract class Lane {
  /** Pass one for one lane: the levels are unrolled, so that shifts and masks are constants. */
  @inline static findEntry<F extends Format, S extends TableSpace>(
    engine: usize, domain: usize, iova: u64, lane: usize, sink: u32, fastFirst: u64, fastSpan: u64, fastOffset: u32,
  ): void {
    const f = changetype<F>(0);
    const s = changetype<S>(0);
    const levels = load<u32>(domain, DOMAIN_LEVELS);
    let table = load<u64>(domain, DOMAIN_ROOT);
    let perm = f.allPermissions();
    let level: u32 = 0;
    let at: usize = NOWHERE;
    if (((iova + load<u64>(domain, DOMAIN_BIAS)) & load<u64>(domain, DOMAIN_HIGH)) == 0) {
      do {
        if (f.maxLevels() > 5 && levels > 5) {
          at = s.offset(engine, table + EntryOf.offset<F>(iova, 5), fastFirst, fastSpan, fastOffset);
          if (at == NOWHERE) break;
          const pte = load<u64>(at);
          if (!f.isTable(pte, 5)) { level = 5; break; }
          perm = f.combine(perm, pte);
          table = f.tableAddress(pte);
        }
        if (f.maxLevels() > 4 && levels > 4) {
          at = s.offset(engine, table + EntryOf.offset<F>(iova, 4), fastFirst, fastSpan, fastOffset);
          if (at == NOWHERE) break;
          const pte = load<u64>(at);
          if (!f.isTable(pte, 4)) { level = 4; break; }
          perm = f.combine(perm, pte);
          table = f.tableAddress(pte);
        }
        if (levels > 3) {
          at = s.offset(engine, table + EntryOf.offset<F>(iova, 3), fastFirst, fastSpan, fastOffset);
          if (at == NOWHERE) break;
          const pte = load<u64>(at);
          if (!f.isTable(pte, 3)) { level = 3; break; }
          perm = f.combine(perm, pte);
          table = f.tableAddress(pte);
        }
        if (f.minLevels() > 2 || levels > 2) {
          at = s.offset(engine, table + EntryOf.offset<F>(iova, 2), fastFirst, fastSpan, fastOffset);
          if (at == NOWHERE) break;
          const pte = load<u64>(at);
          if (!f.isTable(pte, 2)) { level = 2; break; }
          perm = f.combine(perm, pte);
          table = f.tableAddress(pte);
        }
        if (f.minLevels() > 1 || levels > 1) {
          at = s.offset(engine, table + EntryOf.offset<F>(iova, 1), fastFirst, fastSpan, fastOffset);
          if (at == NOWHERE) break;
          const pte = load<u64>(at);
          if (!f.isTable(pte, 1)) { level = 1; break; }
          perm = f.combine(perm, pte);
          table = f.tableAddress(pte);
        }
        at = s.offset(engine, table + EntryOf.offset<F>(iova, 0), fastFirst, fastSpan, fastOffset);
      } while (false);
    }
    store<u32>(lane, at == NOWHERE ? sink : <u32>at, LANE_PTE);
    store<u32>(lane, level, LANE_LEVEL);
    store<u64>(lane, perm, LANE_PERM);
  }

  /** Pass three for one lane: true if the result was written. */
  @inline static finish<F extends Format>(port: usize, lane: usize, requests: u32, results: u32, domains: u32): bool {
    const f = changetype<F>(0);
    const pte = atomic.load<u64>(load<u32>(lane, LANE_PTE));
    const level = load<u32>(lane, LANE_LEVEL);
    if (f.kind(pte, level) != LEAF) return false;
    const index = load<u32>(lane, LANE_INDEX);
    const request = Request.at(requests, index);
    const iova = Request.iova(request);
    const route = <usize>load<u32>(lane, LANE_ROUTE);
    const domain = Route.domain(domains, route);
    let perm = f.permissions(f.combine(load<u64>(lane, LANE_PERM), pte));
    if (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_TRACK_DIRTY) {
      // The walk that sets these bits is the exact one; until then the entry may not be written through unseen.
      if (!(pte & f.accessedBit())) return false;
      if (!(pte & f.dirtyBit())) perm &= ~PERM_W;
    }
    if ((Request.need(request) & ~perm) != 0) return false;
    const lg2 = f.leafLg2(pte, level);
    const hpa = f.leafAddress(pte, level) | (iova & lowBits(lg2));
    if (((iova + load<u64>(route, ROUTE_BIAS)) & load<u64>(route, ROUTE_HIGH)) == 0) {
      if (Fill.walked(port, route, iova, hpa, lg2, DATA_VALID | <u64>perm)) atomic.store<u32>(domain, 1, DOMAIN_FRAGMENTED);
    }
    store<u64>(results + (index << 3), hpa | (<u64>lg2 << RESULT_RUN_SHIFT));
    return true;
  }
}

/** Answers what it can of the first `n` lanes of the miss list that a table of `walker` decides; the rest stays, in order: its length. */
function walkMisses<F extends Format, S extends TableSpace>(engine: usize, port: usize, walker: u32, n: u32): u32 {
  const misses = <usize>load<u32>(port, PORT_MISSES);
  const requests = load<u32>(port, PORT_LANE_REQUESTS);
  const results = load<u32>(port, PORT_LANE_RESULTS);
  const routes = <usize>load<u32>(engine, ENGINE_ROUTES);
  const routeMask = load<u32>(engine, ENGINE_ROUTE_MASK);
  const domains = load<u32>(engine, ENGINE_DOMAINS);
  const sink = load<u32>(engine, ENGINE_SINK);
  const lanes = <usize>load<u32>(port, PORT_LANES);
  const fastFirst = load<u64>(engine, ENGINE_FAST_FIRST);
  const fastSpan = load<u64>(engine, ENGINE_FAST_SPAN);
  const fastOffset = load<u32>(engine, ENGINE_FAST_OFFSET);
  let kept = misses;
  const end = misses + (n << 2);
  for (let miss = misses; miss < end; ) {
    let lane = lanes;
    const full = lanes + GROUP_LANES * LANE_BYTES;
    for (; miss < end && lane < full; miss += 4) {
      const index = load<u32>(miss);
      const request = Request.at(requests, index);
      const route = Route.at(routes, routeMask, Request.route(request));
      const domain = Route.domain(domains, route);
      const walked = load<u32>(route, ROUTE_KIND) == ROUTE_TRANSLATE && Request.need(request) <= <u32>PERM_MASK;
      if (!walked || Walker.of(domain) != walker) {
        store<u32>(kept, index);
        kept += 4;
        continue;
      }
      store<u32>(lane, index, LANE_INDEX);
      store<u32>(lane, <u32>route, LANE_ROUTE);
      Lane.findEntry<F, S>(engine, domain, Request.iova(request), lane, sink, fastFirst, fastSpan, fastOffset);
      lane += LANE_BYTES;
    }
    for (let touched = lanes; touched < lane; touched += LANE_BYTES) load<u64>(load<u32>(touched, LANE_PTE));
    for (let done = lanes; done < lane; done += LANE_BYTES) {
      if (Lane.finish<F>(port, done, requests, results, domains)) continue;
      store<u32>(kept, load<u32>(done, LANE_INDEX));
      kept += 4;
    }
  }
  return <u32>(kept - misses) >> 2;
}

/** Walks the first a lanes of the port's miss list whose walker is d; `domain` is the port. Answers how many lanes stay. */
@unmanaged
@final
export class WalkMisses extends Operation {
  run<F extends Format>(engine: usize, port: usize, a: u64, _b: u64, _c: u64, d: u32): u64 {
    return d & DOMAIN_GUEST
      ? walkMisses<F, GuestTables>(engine, port, d, <u32>a)
      : walkMisses<F, KernelTables>(engine, port, d, <u32>a);
  }
}
