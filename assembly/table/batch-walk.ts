// The batch walker: three passes over groups of lanes that missed. Pass one follows the upper levels to the address of the
// entry that ends the walk; pass two touches those addresses, so that their cache misses overlap; pass three reads the
// entries, fills the IOTLB and writes results. It only answers "this" or "not": what fails stays in the miss list for the
// exact walker. Imports layout, memory, iotlb, the format contract; knows no format.
import {
  DATA_VALID, DOMAIN_ACCESS_FAULT, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_FRAGMENTED, DOMAIN_GUEST, DOMAIN_HIGH, DOMAIN_LEVELS,
  DOMAIN_RESERVED_LEAF, DOMAIN_RESERVED_TABLE, DOMAIN_ROOT, DOMAIN_SET_ACCESSED, DOMAIN_SET_DIRTY, ENGINE_DOMAINS,
  ENGINE_ROUTE_MASK, ENGINE_ROUTES, ENGINE_SINK, GROUP_LANES,
  LANE_BYTES, LANE_INDEX, LANE_LEVEL, LANE_PTE, LANE_ROUTE, LANE_TABLES, PERM_ANY_W, PORT_LANE_REQUESTS, PORT_LANE_RESULTS,
  PORT_LANES, PORT_MISSES, RESULT_RUN_SHIFT, ROUTE_BIAS, ROUTE_HIGH, ROUTE_KIND, ROUTE_TRANSLATE,
  SLOTS_FAST_FIRST, SLOTS_FAST_OFFSET, SLOTS_FAST_SPAN,
} from "../layout";
import { Count } from "../counters";
import { EntryOf, Format, LEAF, lowBits } from "../format/format";
import { Operation } from "../format/list";
import { Fill } from "../iotlb";
import { GuestTables, KernelTables, locate, NOWHERE, slotTable, TableSpace } from "../memory";
import { Domain, Request, Route, Walker } from "../request";

/** Pass one of a lane whose tables are not all in the fast slot: its place is looked up at each level. Answers as findEntry. */
function findSlowly<F extends Format>(engine: usize, half: usize, iova: u64, lane: usize, sink: u32): u32 {
  const f = changetype<F>(0);
  const reserved = load<u64>(half, DOMAIN_RESERVED_TABLE);
  const levels = load<u32>(half, DOMAIN_LEVELS);
  let level = levels - 1;
  let tables = f.start();
  let at = locate(engine, load<u64>(half, DOMAIN_ROOT) + EntryOf.start(half, iova));
  while (level && at != NOWHERE) {
    const pte = load<u64>(at);
    if (!f.isTable(pte, level, reserved)) break;
    level--;
    tables = f.combine(tables, pte);
    at = locate(engine, f.tableAddress(pte) + EntryOf.offset<F>(iova, level));
  }
  store<u32>(lane, at == NOWHERE ? sink : <u32>at, LANE_PTE);
  store<u32>(lane, level, LANE_LEVEL);
  store<u64>(lane, tables, LANE_TABLES);
  return at == NOWHERE ? levels - 1 - level : levels - level;
}

@unmanaged
abstract class Lane {
  /**
   * Pass one for one lane: the levels are unrolled, so that shifts and masks are constants. `half` holds root and rule. Answers
   * the number of entries that the walk reads, the last one included.
   */
  @inline static findEntry<F extends Format, S extends TableSpace>(
    engine: usize, half: usize, iova: u64, lane: usize, sink: u32, fastFirst: u64, fastSpan: u64, fastDelta: usize,
  ): u32 {
    const f = changetype<F>(0);
    const s = changetype<S>(0);
    const levels = load<u32>(half, DOMAIN_LEVELS);
    const reserved: u64 = s.trusted() ? 0 : load<u64>(half, DOMAIN_RESERVED_TABLE);
    let tables = f.start();
    // Of an address that breaks the rule no entry is read.
    let level = levels;
    let at: usize = sink;
    let outside = false;
    if (((iova + load<u64>(half, DOMAIN_BIAS)) & load<u64>(half, DOMAIN_HIGH)) == 0) {
      level = 0;
      const root = load<u64>(half, DOMAIN_ROOT);
      const start = EntryOf.start(half, iova);
      at = s.entry(root, start, fastDelta);
      do {
        if (!s.holds(root, start, fastFirst, fastSpan)) { outside = true; break; }
        if (f.maxLevels() > 5 && levels > 5) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 5, reserved)) { level = 5; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 4);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
        if (f.maxLevels() > 4 && levels > 4) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 4, reserved)) { level = 4; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 3);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
        if (f.maxLevels() > 3 && (f.minLevels() > 3 || levels > 3)) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 3, reserved)) { level = 3; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 2);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
        if (f.minLevels() > 2 || levels > 2) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 2, reserved)) { level = 2; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 1);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
        if (f.minLevels() > 1 || levels > 1) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 1, reserved)) { level = 1; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 0);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
      } while (false);
      if (!s.trusted() && outside) {
        return findSlowly<F>(engine, half, iova, lane, sink);
      }
    }
    store<u32>(lane, <u32>at, LANE_PTE);
    store<u32>(lane, level, LANE_LEVEL);
    store<u64>(lane, tables, LANE_TABLES);
    return levels - level;
  }

  /** Pass three for one lane: true if the result was written. */
  @inline static finish<F extends Format, S extends TableSpace>(
    engine: usize, port: usize, lane: usize, requests: u32, results: u32, domains: u32,
  ): bool {
    const f = changetype<F>(0);
    const pte = atomic.load<u64>(load<u32>(lane, LANE_PTE));
    const level = load<u32>(lane, LANE_LEVEL);
    const tables = load<u64>(lane, LANE_TABLES);
    if (f.kind(pte, level) != LEAF) return false;
    const index = load<u32>(lane, LANE_INDEX);
    const request = Request.at(requests, index);
    const iova = Request.iova(request);
    const route = <usize>load<u32>(lane, LANE_ROUTE);
    const domain = Route.domain(domains, route);
    const half = f.halves() ? Domain.half(engine, domain, iova) : domain;
    if (!changetype<S>(0).trusted() && (pte & load<u64>(half, DOMAIN_RESERVED_LEAF)) != 0) return false;
    const flags = load<u32>(domain, DOMAIN_FLAGS);
    let perm = f.permissions(tables, pte, f.halves() ? load<u32>(half, DOMAIN_FLAGS) : flags);
    if (flags & (DOMAIN_SET_ACCESSED | DOMAIN_SET_DIRTY | DOMAIN_ACCESS_FAULT)) {
      // The walk that sets these bits is the exact one; until then the entry may not be written through unseen.
      if (flags & (DOMAIN_SET_ACCESSED | DOMAIN_ACCESS_FAULT) && !f.accessed(tables, pte)) return false;
      if (flags & DOMAIN_SET_DIRTY && f.clean(pte)) perm &= ~PERM_ANY_W;
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
  const slots = slotTable(engine);
  const fastFirst = load<u64>(slots, SLOTS_FAST_FIRST);
  const fastSpan = load<u64>(slots, SLOTS_FAST_SPAN);
  const fastDelta = <usize>load<u32>(slots, SLOTS_FAST_OFFSET) - <usize>fastFirst;
  let loads: u32 = 0;
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
      const walked = atomic.load<u32>(route, ROUTE_KIND) == ROUTE_TRANSLATE && Request.wellFormed(request);
      if (!walked || Walker.of(domain) != walker) {
        store<u32>(kept, index);
        kept += 4;
        continue;
      }
      store<u32>(lane, index, LANE_INDEX);
      store<u32>(lane, <u32>route, LANE_ROUTE);
      const iova = Request.iova(request);
      const half = changetype<F>(0).halves() ? Domain.half(engine, domain, iova) : domain;
      loads += Lane.findEntry<F, S>(engine, half, iova, lane, sink, fastFirst, fastSpan, fastDelta);
      lane += LANE_BYTES;
    }
    for (let touched = lanes; touched < lane; touched += LANE_BYTES) load<u64>(load<u32>(touched, LANE_PTE));
    for (let done = lanes; done < lane; done += LANE_BYTES) {
      if (Lane.finish<F, S>(engine, port, done, requests, results, domains)) continue;
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
    return d & DOMAIN_GUEST
      ? walkMisses<F, GuestTables>(engine, port, d, <u32>a)
      : walkMisses<F, KernelTables>(engine, port, d, <u32>a);
  }
}
