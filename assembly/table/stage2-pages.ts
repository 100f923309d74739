// The pages of stage 2 that walks of two stages ask for: looked up among those that the same call has met, else walked in
// three passes, whatever stage 1 is. What was met is forgotten with the call, so that nothing has to be invalidated: it is
// inside a section. Imports layout, the lanes, the format contract; knows no format.
import {
  DATA_VALID, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_GUEST, DOMAIN_HIGH, DOMAIN_LEVELS, ENGINE_SINK, LANE_IPA, LANE_LEVEL,
  LANE_PAGE, LANE_PTE, LANE_SECOND, LANE_STAGE2, LANE_TABLES, PAGE_BYTES, PAGE_DATA, PAGE_NUMBER, PAGE_OWNER, PORT_STAGES,
  RESULT_RUN_SHIFT, STAGES_ACTIVE, STAGES_MISSED, STAGES_PAGES, STAGES_PAGES_LG2, STAGES_RUN,
} from "../layout";
import { Count } from "../counters";
import { Format, lowBits } from "../format/format";
import { dispatch, Operation } from "../format/list";
import { HASH } from "../iotlb";
import { KernelTables } from "../memory";
import { findSlowly, Lane, LEFT } from "./lane";

const PAGE_LG2: u64 = 12;
const OFFSET_MASK: u64 = 0xfff;

@unmanaged
abstract class Page {
  /** Where the page of ipa is kept. */
  @inline static at(stages: usize, ipa: u64): usize {
    return stages + STAGES_PAGES + <usize>(((ipa >> PAGE_LG2) * HASH) >> (64 - STAGES_PAGES_LG2)) * PAGE_BYTES;
  }

  @inline static owner(stages: usize, lane: usize): u64 {
    return (<u64>load<u32>(stages, STAGES_RUN) << 32) | load<u32>(lane, LANE_SECOND);
  }
}

/** Forgets all pages. */
export function forgetPages(stages: usize): void {
  const run = load<u32>(stages, STAGES_RUN) + 1;
  if (!run) memory.fill(stages + STAGES_PAGES, 0, PAGE_BYTES << STAGES_PAGES_LG2);
  store<u32>(stages, run ? run : 1, STAGES_RUN);
}

/** LANE_PAGE of the first n lanes of the active list, for their LANE_IPA. */
export function findPages(engine: usize, port: usize, n: u32): void {
  const stages = <usize>load<u32>(port, PORT_STAGES);
  const active = stages + STAGES_ACTIVE;
  const missed = stages + STAGES_MISSED;
  let left: u32 = 0;
  for (let at = active, end = active + (n << 2); at < end; at += 4) {
    const lane = <usize>load<u32>(at);
    const ipa = load<u64>(lane, LANE_IPA);
    const page = Page.at(stages, ipa);
    if (load<u64>(page, PAGE_NUMBER) == ipa >> PAGE_LG2 && load<u64>(page, PAGE_OWNER) == Page.owner(stages, lane)) {
      store<u64>(lane, load<u64>(page, PAGE_DATA), LANE_PAGE);
    } else {
      store<u32>(missed + (left << 2), <u32>lane);
      left++;
    }
  }
  while (left) {
    const format = load<u32>(load<u32>(load<u32>(missed), LANE_SECOND), DOMAIN_FORMAT);
    left = <u32>dispatch<WalkPages>(format, engine, port, left, 0, 0, format);
  }
}

@unmanaged
abstract class Pass {
  /** Pass one of a lane: where the entry of its page is. Answers the number of entries that the walk reads. */
  @inline static findEntry<F extends Format>(engine: usize, lane: usize, second: usize, sink: u32): u32 {
    const ipa = load<u64>(lane, LANE_IPA);
    const found = lane + LANE_STAGE2;
    let levels: u32 = 0;
    if (!(load<u32>(second, DOMAIN_FLAGS) & DOMAIN_GUEST)) {
      levels = Lane.findEntry<F, KernelTables>(engine, second, ipa, found, sink, false, 0, 0, 0);
    } else if (((ipa + load<u64>(second, DOMAIN_BIAS)) & load<u64>(second, DOMAIN_HIGH)) == 0) {
      levels = findSlowly<F>(engine, second, ipa, found, sink);
    } else {
      levels = load<u32>(second, DOMAIN_LEVELS);
      store<u32>(found, sink, LANE_PTE);
      store<u32>(found, levels, LANE_LEVEL);
    }
    return levels - load<u32>(found, LANE_LEVEL);
  }

  /** Pass three: what the entry says of the page, which is kept. */
  @inline static finish<F extends Format>(stages: usize, lane: usize, second: usize): void {
    const f = changetype<F>(0);
    const found = lane + LANE_STAGE2;
    const pte = atomic.load<u64>(load<u32>(found, LANE_PTE));
    const level = load<u32>(found, LANE_LEVEL);
    const perm = Lane.grants<F>(false, second, second, pte, level, load<u64>(found, LANE_TABLES));
    if (perm == LEFT) {
      store<u64>(lane, 0, LANE_PAGE);
      return;
    }
    const ipa = load<u64>(lane, LANE_IPA);
    const lg2 = f.leafLg2(pte, level);
    const hpa = f.leafAddress(pte, level) | (ipa & lowBits(lg2) & ~OFFSET_MASK);
    const data = (<u64>lg2 << RESULT_RUN_SHIFT) | hpa | DATA_VALID | perm;
    const page = Page.at(stages, ipa);
    store<u64>(page, ipa >> PAGE_LG2, PAGE_NUMBER);
    store<u64>(page, Page.owner(stages, lane), PAGE_OWNER);
    store<u64>(page, data, PAGE_DATA);
    store<u64>(lane, data, LANE_PAGE);
  }
}

/** Walks those of the first n missed lanes whose stage 2 has that format; the others stay in the list: how many. */
function walkPages<F extends Format>(engine: usize, port: usize, n: u32, format: u32): u32 {
  const stages = <usize>load<u32>(port, PORT_STAGES);
  const sink = load<u32>(engine, ENGINE_SINK);
  const missed = stages + STAGES_MISSED;
  const end = missed + (n << 2);
  let loads: u32 = 0;
  for (let at = missed; at < end; at += 4) {
    const second = <usize>load<u32>(load<u32>(at), LANE_SECOND);
    if (load<u32>(second, DOMAIN_FORMAT) == format) loads += Pass.findEntry<F>(engine, load<u32>(at), second, sink);
  }
  for (let at = missed; at < end; at += 4) {
    const lane = load<u32>(at);
    if (load<u32>(load<u32>(lane, LANE_SECOND), DOMAIN_FORMAT) == format) load<u64>(load<u32>(lane + LANE_STAGE2, LANE_PTE));
  }
  let kept = missed;
  for (let at = missed; at < end; at += 4) {
    const lane = load<u32>(at);
    const second = load<u32>(lane, LANE_SECOND);
    if (load<u32>(second, DOMAIN_FORMAT) == format) {
      Pass.finish<F>(stages, lane, second);
    } else {
      store<u32>(kept, lane);
      kept += 4;
    }
  }
  Count.loads(port, loads);
  return <u32>(kept - missed) >> 2;
}

/** walkPages of the first a lanes, for format d; `domain` is the port. */
@unmanaged
@final
class WalkPages extends Operation {
  run<F extends Format>(engine: usize, port: usize, a: u64, _b: u64, _c: u64, d: u32): u64 {
    return changetype<F>(0).stage() == 2 ? walkPages<F>(engine, port, <u32>a, d) : 0;
  }
}
