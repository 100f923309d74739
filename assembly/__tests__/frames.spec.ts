// The pool of frames, in a piece of the specs' heap with an engine header and the two side arrays.
import { ENGINE_FRAME_COUNT, ENGINE_FRAME_LIVE, ENGINE_FRAME_NEXT, ENGINE_FRAMES, FRAME_BYTES, FRAME_ORDERS } from "../layout";
import { canTake, Frames, layFrames, releaseLimbo, retireFrame, takeFrame } from "../table/frames";

const MOST: u32 = 700;
const ENGINE: usize = heap.alloc(0x4000);
const NEXT: usize = ENGINE + 0x1000;
const LIVE: usize = ENGINE + 0x2000;
/** Three frames behind an address that is aligned to the largest block: there are blocks of every order on both sides. */
const FIRST: usize = ((heap.alloc(0x103000 + MOST * FRAME_BYTES) + 0xfffff) & ~0xfffff) + 0x3000;

/** A pool of `count` frames, at most MOST, from FIRST on; their memory is 0xff. */
function pool(count: u32): void {
  memory.fill(ENGINE, 0, 0x4000);
  memory.fill(FIRST, 0xff, count * FRAME_BYTES);
  store<u32>(ENGINE, <u32>FIRST, ENGINE_FRAMES);
  store<u32>(ENGINE, count, ENGINE_FRAME_COUNT);
  store<u32>(ENGINE, <u32>NEXT, ENGINE_FRAME_NEXT);
  store<u32>(ENGINE, <u32>LIVE, ENGINE_FRAME_LIVE);
  layFrames(ENGINE);
}

function allZero(at: usize, bytes: u32): bool {
  for (let i: u32 = 0; i < bytes; i += 8) if (load<u64>(at + i)) return false;
  return true;
}

/** Takes blocks of that order until there is none: how many; each aligned, in the pool and not taken twice. */
function takeAll(order: u32): u32 {
  let taken: u32 = 0;
  while (canTake(ENGINE, order, 1)) {
    const frame = takeFrame(ENGINE, order, true);
    expect(frame & ((FRAME_BYTES << order) - 1)).toBe(0);
    expect(allZero(frame, FRAME_BYTES << order)).toBe(true);
    memory.fill(frame, 0xff, FRAME_BYTES << order);
    store<u64>(frame, 0x1234567800000000 | taken);
    taken++;
  }
  return taken;
}

describe("the frame pool", () => {
  test("gives every frame once, of one order the lowest first", () => {
    pool(MOST);
    expect(takeFrame(ENGINE, 0, false)).toBe(FIRST);
    expect(Frames.free(ENGINE)).toBe(699);
    expect(takeAll(0)).toBe(699);
    expect(canTake(ENGINE, 0, 1)).toBe(false);
    expect(canTake(ENGINE, 0, 0)).toBe(true);
  });

  test("gives as many blocks of an order as lie aligned in it", () => {
    for (let order: u32 = 0; order < FRAME_ORDERS; order++) {
      pool(MOST);
      const size = <usize>FRAME_BYTES << order;
      const first = (FIRST + size - 1) & ~(size - 1);
      const blocks = <u32>((FIRST + MOST * FRAME_BYTES - first) / size);
      expect(canTake(ENGINE, order, blocks)).toBe(true);
      expect(canTake(ENGINE, order, blocks + 1)).toBe(false);
      expect(takeAll(order)).toBe(blocks);
    }
  });

  test("joins what was split, but only whole pairs", () => {
    pool(512);
    // All single frames out, then every second one back: no larger block can be made.
    for (let i = 0; i < 512; i++) takeFrame(ENGINE, 0, false);
    for (let i: usize = 0; i < 512; i += 2) retireFrame(ENGINE, FIRST + i * FRAME_BYTES, 0);
    expect(Frames.free(ENGINE)).toBe(0);
    releaseLimbo(ENGINE);
    expect(Frames.free(ENGINE)).toBe(256);
    expect(canTake(ENGINE, 1, 1)).toBe(false);
    for (let i: usize = 1; i < 512; i += 2) retireFrame(ENGINE, FIRST + i * FRAME_BYTES, 0);
    expect(canTake(ENGINE, 1, 1)).toBe(false);
    releaseLimbo(ENGINE);
    // The first frame and the last are halves without their other: 255 pairs lie between.
    expect(canTake(ENGINE, 1, 255)).toBe(true);
    expect(canTake(ENGINE, 8, 1)).toBe(true);
    expect(takeAll(8)).toBe(1);
    expect(takeAll(0)).toBe(256);
  });

  test("leaves no mark behind when it joins: the live counts are 0", () => {
    pool(64);
    for (let i = 0; i < 64; i++) takeFrame(ENGINE, 0, false);
    for (let i: usize = 0; i < 64; i += 3) retireFrame(ENGINE, FIRST + i * FRAME_BYTES, 0);
    for (let i: usize = 1; i < 64; i += 3) retireFrame(ENGINE, FIRST + i * FRAME_BYTES, 0);
    releaseLimbo(ENGINE);
    canTake(ENGINE, 4, 1);
    for (let i: usize = 0; i < 64; i++) expect(Frames.live(ENGINE, FIRST + i * FRAME_BYTES)).toBe(0);
    expect(takeAll(0)).toBe(43);
  });

  test("a block in limbo is not given out", () => {
    pool(16);
    const block = takeFrame(ENGINE, 2, true);
    retireFrame(ENGINE, block, 2);
    expect(takeAll(0)).toBe(12);
    releaseLimbo(ENGINE);
    expect(canTake(ENGINE, 2, 1)).toBe(true);
    expect(takeFrame(ENGINE, 2, true)).toBe(block);
  });
});
