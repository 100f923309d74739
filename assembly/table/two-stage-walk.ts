// The batch walker of two stages: a group of lanes goes down stage 1 level by level. Before each level stage 2 is asked for the
// pages of all entries at once, and these are touched, so that cache misses overlap. It only answers "this" or "not", as the
// walker of one stage does. Any stage 1 goes with any stage 2: this file knows how to read the one, stage2-pages the other.
// Imports layout, memory, the lanes, the pages of stage 2, the format contract; knows no format.
import {
  DOMAIN_BIAS, DOMAIN_HIGH, DOMAIN_LEVELS, DOMAIN_RESERVED_TABLE, DOMAIN_ROOT, ENGINE_DOMAINS, ENGINE_ROUTE_MASK, ENGINE_ROUTES,
  LANE_DOMAIN, LANE_INDEX, LANE_IPA, LANE_LEAF_LG2, LANE_LEVEL, LANE_PAGE, LANE_PERM, LANE_PTE, LANE_ROUTE, LANE_SECOND,
  LANE_TABLES, PERM_MASK, PERM_R, PORT_LANE_REQUESTS, PORT_LANE_RESULTS, PORT_MISSES, PORT_STAGES, RESULT_RUN_SHIFT, SLOTS_FAST_FIRST,
  SLOTS_FAST_OFFSET, SLOTS_FAST_SPAN, STAGES_ACTIVE, STAGES_LANE_BYTES, STAGES_LANES,
} from "../layout";
import { Count } from "../counters";
import { EntryOf, Format, lowBits } from "../format/format";
import { locate, NOWHERE, slotTable } from "../memory";
import { Domain, Request, Route } from "../request";
import { Lane, LEFT } from "./lane";
import { findPages, forgetPages } from "./stage2-pages";

const PAGE_ADDRESS: u64 = 0x00fffffffffff000;
const OFFSET_MASK: u64 = 0xfff;

@unmanaged
abstract class Stages {
  /** Begins a lane at the start table of its stage 1; false if its address breaks the rule. */
  @inline static begin<F extends Format>(engine: usize, lane: usize, domain: usize, iova: u64): bool {
    const half = changetype<F>(0).halves() ? Domain.half(engine, domain, iova) : domain;
    if (((iova + load<u64>(half, DOMAIN_BIAS)) & load<u64>(half, DOMAIN_HIGH)) != 0) return false;
    store<u32>(lane, <u32>domain, LANE_DOMAIN);
    store<u32>(lane, <u32>Domain.stage2(engine, domain), LANE_SECOND);
    store<u32>(lane, load<u32>(half, DOMAIN_LEVELS) - 1, LANE_LEVEL);
    store<u64>(lane, changetype<F>(0).start(), LANE_TABLES);
    store<u64>(lane, load<u64>(half, DOMAIN_ROOT) + EntryOf.start(half, iova), LANE_IPA);
    store<u32>(lane, 0, LANE_LEAF_LG2);
    return true;
  }
}

/** LANE_PTE of the first n active lanes. Those whose entry stage 2, or the slots, keep from being read leave the list: how many stay. */
function placeEntries(engine: usize, stages: usize, n: u32): u32 {
  const slots = slotTable(engine);
  const fastFirst = load<u64>(slots, SLOTS_FAST_FIRST);
  const fastSpan = load<u64>(slots, SLOTS_FAST_SPAN);
  const fastDelta = <usize>load<u32>(slots, SLOTS_FAST_OFFSET) - <usize>fastFirst;
  const active = stages + STAGES_ACTIVE;
  let kept = active;
  for (let at = active, end = active + (n << 2); at < end; at += 4) {
    const lane = <usize>load<u32>(at);
    const page = load<u64>(lane, LANE_PAGE);
    if (!(page & PERM_R)) continue;
    const hpa = (page & PAGE_ADDRESS) | (load<u64>(lane, LANE_IPA) & OFFSET_MASK);
    const entry = hpa - fastFirst <= fastSpan ? <usize>hpa + fastDelta : locate(engine, hpa);
    if (entry == NOWHERE) continue;
    store<u32>(lane, <u32>entry, LANE_PTE);
    store<u32>(kept, <u32>lane);
    kept += 4;
  }
  return <u32>(kept - active) >> 2;
}

/** Reads the entries of the first n active lanes: pointers lead on, leaves and what is for the exact walker leave the list: how many stay. */
function descend<F extends Format>(engine: usize, stages: usize, n: u32, requests: u32): u32 {
  const f = changetype<F>(0);
  const active = stages + STAGES_ACTIVE;
  let kept = active;
  for (let at = active, end = active + (n << 2); at < end; at += 4) {
    const lane = <usize>load<u32>(at);
    const domain = <usize>load<u32>(lane, LANE_DOMAIN);
    const iova = Request.iova(Request.at(requests, load<u32>(lane, LANE_INDEX)));
    const half = f.halves() ? Domain.half(engine, domain, iova) : domain;
    const pte = atomic.load<u64>(load<u32>(lane, LANE_PTE));
    const level = load<u32>(lane, LANE_LEVEL);
    const tables = load<u64>(lane, LANE_TABLES);
    if (level && f.isTable(pte, level, load<u64>(half, DOMAIN_RESERVED_TABLE))) {
      store<u32>(lane, level - 1, LANE_LEVEL);
      store<u64>(lane, f.combine(tables, pte), LANE_TABLES);
      store<u64>(lane, f.tableAddress(pte) + EntryOf.offset<F>(iova, level - 1), LANE_IPA);
      store<u32>(kept, <u32>lane);
      kept += 4;
      continue;
    }
    const perm = Lane.grants<F>(false, domain, half, pte, level, tables);
    if (perm == LEFT) continue;
    const lg2 = f.leafLg2(pte, level);
    store<u64>(lane, f.leafAddress(pte, level) | (iova & lowBits(lg2)), LANE_IPA);
    store<u32>(lane, perm, LANE_PERM);
    store<u32>(lane, lg2, LANE_LEAF_LG2);
  }
  return <u32>(kept - active) >> 2;
}

/** True if the result was written: stage 1 has a leaf, stage 2 has its output, and both allow what is wanted. */
function finish(port: usize, lane: usize, requests: u32, results: u32): bool {
  if (!load<u32>(lane, LANE_LEAF_LG2)) return false;
  const page = load<u64>(lane, LANE_PAGE);
  const perm = load<u32>(lane, LANE_PERM) & <u32>(page & PERM_MASK);
  const request = Request.at(requests, load<u32>(lane, LANE_INDEX));
  if (!page || (Request.need(request) & ~perm) != 0) return false;
  const hpa = (page & PAGE_ADDRESS) | (load<u64>(lane, LANE_IPA) & OFFSET_MASK);
  const lg2 = min(load<u32>(lane, LANE_LEAF_LG2), <u32>(page >> RESULT_RUN_SHIFT));
  Lane.answer(port, lane, load<u32>(lane, LANE_DOMAIN), results, Request.iova(request), hpa, lg2, perm);
  return true;
}

/** As walkMisses of one stage. */
export function walkTwoStages<F extends Format>(engine: usize, port: usize, walker: u32, n: u32): u32 {
  const misses = <usize>load<u32>(port, PORT_MISSES);
  const requests = load<u32>(port, PORT_LANE_REQUESTS);
  const results = load<u32>(port, PORT_LANE_RESULTS);
  const routes = <usize>load<u32>(engine, ENGINE_ROUTES);
  const routeMask = load<u32>(engine, ENGINE_ROUTE_MASK);
  const domains = load<u32>(engine, ENGINE_DOMAINS);
  const stages = <usize>load<u32>(port, PORT_STAGES);
  const active = stages + STAGES_ACTIVE;
  let loads: u32 = 0;
  let kept = misses;
  forgetPages(stages);
  const end = misses + (n << 2);
  for (let miss = misses; miss < end; ) {
    let lane = stages;
    let walking: u32 = 0;
    const full = stages + STAGES_LANES * STAGES_LANE_BYTES;
    for (; miss < end && lane < full; miss += 4) {
      const index = load<u32>(miss);
      const request = Request.at(requests, index);
      const route = Route.at(routes, routeMask, Request.route(request));
      const domain = Route.domain(domains, route);
      if (!Lane.isFor(walker, route, domain) || !Stages.begin<F>(engine, lane, domain, Request.iova(request))) {
        store<u32>(kept, index);
        kept += 4;
        continue;
      }
      store<u32>(lane, index, LANE_INDEX);
      store<u32>(lane, <u32>route, LANE_ROUTE);
      store<u32>(active + (walking << 2), <u32>lane);
      walking++;
      lane += STAGES_LANE_BYTES;
    }
    while (walking) {
      findPages(engine, port, walking);
      walking = placeEntries(engine, stages, walking);
      for (let at = active, last = active + (walking << 2); at < last; at += 4) load<u64>(load<u32>(load<u32>(at), LANE_PTE));
      loads += walking;
      walking = descend<F>(engine, stages, walking, requests);
    }
    for (let done = stages; done < lane; done += STAGES_LANE_BYTES) {
      if (!load<u32>(done, LANE_LEAF_LG2)) continue;
      store<u32>(active + (walking << 2), <u32>done);
      walking++;
    }
    findPages(engine, port, walking);
    for (let done = stages; done < lane; done += STAGES_LANE_BYTES) {
      if (finish(port, done, requests, results)) continue;
      store<u32>(kept, load<u32>(done, LANE_INDEX));
      kept += 4;
    }
  }
  Count.loads(port, loads);
  return <u32>(kept - misses) >> 2;
}
