// The pool of table memory: blocks of 2^order frames side by side, aligned to their size in memory and named by the memory
// offset of their first frame. Free blocks wait in one list an order. A larger block is split when a smaller one is missing,
// and free neighbours are joined only when a larger one is missing: the lists of single frames are plain stacks. Side arrays
// hold a list link and a count of live entries for each frame; the count of a frame that is no table is 0.
// A block that leaves a table goes to limbo first: readers that were inside a section may still be walking it, so it is
// neither cleared nor handed out until `releaseLimbo`. Imports layout only.
import {
  ENGINE_FAIL_IN, ENGINE_FRAME_COUNT, ENGINE_FRAME_FREE, ENGINE_FRAME_LIMBO, ENGINE_FRAME_LIMBO_LAST, ENGINE_FRAME_LIVE, ENGINE_FRAME_NEXT,
  ENGINE_FRAMES, ENGINE_FRAMES_LIMBO, ENGINE_FRAMES_USED, ENGINE_GRANTED, FRAME_BYTES, FRAME_LG2, FRAME_ORDERS,
} from "../layout";

/** While free neighbours are joined, in place of their count: a block that is listed, and one whose neighbour was seen before it. */
const LISTED: u16 = 0xffff;
const PAIRED: u16 = 0xfffe;

@unmanaged
export abstract class Frames {
  @inline static index(engine: usize, frame: usize): u32 {
    return <u32>(frame - load<u32>(engine, ENGINE_FRAMES)) >> FRAME_LG2;
  }

  /** Frames that are not in use, in blocks of any order. */
  @inline static free(engine: usize): u32 {
    return load<u32>(engine, ENGINE_FRAME_COUNT) - load<u32>(engine, ENGINE_FRAMES_USED);
  }

  /** Live entries of the table that begins with that frame. */
  @inline static live(engine: usize, frame: usize): u32 {
    return load<u16>(Frames.liveAddress(engine, Frames.index(engine, frame)));
  }

  @inline static addLive(engine: usize, frame: usize, n: u32): void {
    const address = Frames.liveAddress(engine, Frames.index(engine, frame));
    store<u16>(address, <u16>(load<u16>(address) + n));
  }

  @inline static clearLive(engine: usize, frame: usize): void {
    store<u16>(Frames.liveAddress(engine, Frames.index(engine, frame)), 0);
  }

  @inline static liveAddress(engine: usize, index: u32): usize {
    return load<u32>(engine, ENGINE_FRAME_LIVE) + (index << 1);
  }

  @inline static nextAddress(engine: usize, index: u32): usize {
    return load<u32>(engine, ENGINE_FRAME_NEXT) + (index << 2);
  }

  /** Where ENGINE_FRAME_FREE, ENGINE_FRAME_LIMBO and ENGINE_FRAME_LIMBO_LAST have their word for that order. */
  @inline static list(engine: usize, order: u32): usize {
    return engine + (order << 2);
  }
}

function addFree(engine: usize, index: u32, order: u32): void {
  const list = Frames.list(engine, order);
  store<u32>(Frames.nextAddress(engine, index), load<u32>(list, ENGINE_FRAME_FREE));
  store<u32>(list, index + 1, ENGINE_FRAME_FREE);
}

/** Lists all frames of a new engine as free, in the largest blocks that alignment allows; of one order the lowest is taken first. */
export function layFrames(engine: usize): void {
  const firstPage = load<u32>(engine, ENGINE_FRAMES) >> FRAME_LG2;
  for (let end = load<u32>(engine, ENGINE_FRAME_COUNT); end; ) {
    const order = min(min(<u32>ctz(firstPage + end), 31 - <u32>clz(end)), FRAME_ORDERS - 1);
    end -= 1 << order;
    addFree(engine, end, order);
  }
}

/**
 * Takes a block of 2^order frames without live entries; `canTake` has promised it. Cleared, unless the caller fills it whole.
 */
export function takeFrame(engine: usize, order: u32, clear: bool): usize {
  let from = order;
  while (!load<u32>(Frames.list(engine, from), ENGINE_FRAME_FREE)) from++;
  const list = Frames.list(engine, from);
  const index = load<u32>(list, ENGINE_FRAME_FREE) - 1;
  store<u32>(list, load<u32>(Frames.nextAddress(engine, index)), ENGINE_FRAME_FREE);
  while (from > order) {
    from--;
    addFree(engine, index + (1 << from), from);
  }
  store<u32>(engine, load<u32>(engine, ENGINE_FRAMES_USED) + (1 << order), ENGINE_FRAMES_USED);
  const frame = <usize>load<u32>(engine, ENGINE_FRAMES) + (<usize>index << FRAME_LG2);
  if (clear) memory.fill(frame, 0, FRAME_BYTES << order);
  return frame;
}

/** Puts a block that no table names any more into limbo; all its live counts are 0. */
export function retireFrame(engine: usize, frame: usize, order: u32): void {
  const index = Frames.index(engine, frame);
  retireChain(engine, index + 1, index + 1, 1, order);
}

/** The same for n blocks that are linked already, from `link` on; `last` is the link of the last. Links are index + 1. */
export function retireChain(engine: usize, link: u32, last: u32, n: u32, order: u32): void {
  const list = Frames.list(engine, order);
  const first = load<u32>(list, ENGINE_FRAME_LIMBO);
  store<u32>(Frames.nextAddress(engine, last - 1), first);
  if (!first) store<u32>(list, last, ENGINE_FRAME_LIMBO_LAST);
  store<u32>(list, link, ENGINE_FRAME_LIMBO);
  store<u32>(engine, load<u32>(engine, ENGINE_FRAMES_LIMBO) + (n << order), ENGINE_FRAMES_LIMBO);
}

/** Gives limbo back to the pool: no section that could see those frames is open any more. */
export function releaseLimbo(engine: usize): void {
  const frames = load<u32>(engine, ENGINE_FRAMES_LIMBO);
  if (!frames) return;
  for (let order: u32 = 0; order < FRAME_ORDERS; order++) {
    const list = Frames.list(engine, order);
    const first = load<u32>(list, ENGINE_FRAME_LIMBO);
    if (!first) continue;
    const last = load<u32>(list, ENGINE_FRAME_LIMBO_LAST);
    store<u32>(Frames.nextAddress(engine, last - 1), load<u32>(list, ENGINE_FRAME_FREE));
    store<u32>(list, first, ENGINE_FRAME_FREE);
    store<u32>(list, 0, ENGINE_FRAME_LIMBO);
  }
  store<u32>(engine, 0, ENGINE_FRAMES_LIMBO);
  store<u32>(engine, load<u32>(engine, ENGINE_FRAMES_USED) - frames, ENGINE_FRAMES_USED);
}

/** For tests (ENGINE_FAIL_IN): is this reservation the one that has to fail? */
export function failsNow(engine: usize): bool {
  const left = load<u32>(engine, ENGINE_FAIL_IN);
  if (!left) return false;
  store<u32>(engine, left - 1, ENGINE_FAIL_IN);
  return left == 1;
}

/** The same for n tables. What an earlier reservation has granted to several maps is not asked for again. */
function tablesFailNow(engine: usize, n: u32): bool {
  if (!n || !load<u32>(engine, ENGINE_FAIL_IN)) return false;
  if (n > load<u32>(engine, ENGINE_GRANTED)) return failsNow(engine);
  spendGrant(engine, n);
  return false;
}

/** So many of the tables granted are taken. */
export function spendGrant(engine: usize, n: u32): void {
  const granted = load<u32>(engine, ENGINE_GRANTED);
  store<u32>(engine, granted - min(granted, n), ENGINE_GRANTED);
}

/** Can n blocks of that order be taken one after the other? Exact: what is free is joined if the lists do not have them. */
export function canTake(engine: usize, order: u32, n: u32): bool {
  if (tablesFailNow(engine, n)) return false;
  if ((<u64>n << order) > Frames.free(engine)) return false;
  if (order == 0 || isListed(engine, order, n)) return true;
  join(engine, order);
  return isListed(engine, order, n);
}

/** Can splitting alone make n blocks of that order? */
function isListed(engine: usize, order: u32, n: u32): bool {
  for (let from = order; from < FRAME_ORDERS; from++) {
    const blocks: u32 = 1 << (from - order);
    for (let link = load<u32>(Frames.list(engine, from), ENGINE_FRAME_FREE); link; link = load<u32>(Frames.nextAddress(engine, link - 1))) {
      if (n <= blocks) return true;
      n -= blocks;
    }
  }
  return n == 0;
}

/** Joins free neighbours, smallest blocks first, until none below that order has its other half free. */
function join(engine: usize, order: u32): void {
  for (let from: u32 = 0; from < order; from++) {
    for (let link = load<u32>(Frames.list(engine, from), ENGINE_FRAME_FREE); link; link = load<u32>(Frames.nextAddress(engine, link - 1))) {
      store<u16>(Frames.liveAddress(engine, link - 1), LISTED);
    }
    joinPairs(engine, from);
  }
}

/** Takes the pairs out of the list of an order, whose blocks are all marked, and lists each as one block of the next. */
function joinPairs(engine: usize, order: u32): void {
  const firstPage = load<u32>(engine, ENGINE_FRAMES) >> FRAME_LG2;
  const count = load<u32>(engine, ENGINE_FRAME_COUNT);
  // Where the link to the next block that stays belongs.
  let kept = Frames.list(engine, order) + ENGINE_FRAME_FREE;
  for (let link = load<u32>(kept); link; ) {
    const index = link - 1;
    const next = load<u32>(Frames.nextAddress(engine, index));
    const other = ((firstPage + index) ^ (1 << order)) - firstPage;
    const mark = Frames.liveAddress(engine, index);
    const otherMark = Frames.liveAddress(engine, other);
    if (load<u16>(mark) == PAIRED) {
      addFree(engine, min(index, other), order + 1);
    } else if (other < count && load<u16>(otherMark) == LISTED) {
      // The other half comes later in this list: its link is still needed.
      store<u16>(otherMark, PAIRED);
    } else {
      store<u32>(kept, link);
      kept = Frames.nextAddress(engine, index);
    }
    store<u16>(mark, 0);
    link = next;
  }
  store<u32>(kept, 0);
}
