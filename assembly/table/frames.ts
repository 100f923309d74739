// The pool of table memory. Frames are named by their memory offset; side arrays hold a list link and a count of live
// entries for each. A frame that leaves a table goes to limbo first: readers that were inside a section may still be
// walking it, so it is neither cleared nor handed out until `releaseLimbo`. Imports layout only.
import {
  ENGINE_FRAME_COUNT, ENGINE_FRAME_FREE, ENGINE_FRAME_FRESH, ENGINE_FRAME_LIMBO, ENGINE_FRAME_LIMBO_LAST,
  ENGINE_FRAME_LIVE, ENGINE_FRAME_NEXT, ENGINE_FRAMES, ENGINE_FRAMES_USED, FRAME_BYTES, FRAME_LG2,
} from "../layout";

@unmanaged
export abstract class Frames {
  @inline static index(engine: usize, frame: usize): u32 {
    return <u32>(frame - load<u32>(engine, ENGINE_FRAMES)) >> FRAME_LG2;
  }

  @inline static available(engine: usize): u32 {
    return load<u32>(engine, ENGINE_FRAME_COUNT) - load<u32>(engine, ENGINE_FRAMES_USED);
  }

  /** Live entries of the table in that frame. */
  @inline static live(engine: usize, frame: usize): u32 {
    return load<u16>(Frames.liveAddress(engine, frame));
  }

  @inline static addLive(engine: usize, frame: usize, n: u32): void {
    const address = Frames.liveAddress(engine, frame);
    store<u16>(address, <u16>(load<u16>(address) + n));
  }

  @inline static liveAddress(engine: usize, frame: usize): usize {
    return load<u32>(engine, ENGINE_FRAME_LIVE) + (Frames.index(engine, frame) << 1);
  }

  @inline static nextAddress(engine: usize, index: u32): usize {
    return load<u32>(engine, ENGINE_FRAME_NEXT) + (index << 2);
  }
}

/** Takes a frame without live entries; the caller has made sure that one is there. `clear` unless it is filled whole. */
export function takeFrame(engine: usize, clear: bool): usize {
  const listed = load<u32>(engine, ENGINE_FRAME_FREE);
  let index: u32;
  if (listed) {
    index = listed - 1;
    store<u32>(engine, load<u32>(Frames.nextAddress(engine, index)), ENGINE_FRAME_FREE);
  } else {
    index = load<u32>(engine, ENGINE_FRAME_FRESH);
    store<u32>(engine, index + 1, ENGINE_FRAME_FRESH);
  }
  store<u32>(engine, load<u32>(engine, ENGINE_FRAMES_USED) + 1, ENGINE_FRAMES_USED);
  const frame = <usize>load<u32>(engine, ENGINE_FRAMES) + (<usize>index << FRAME_LG2);
  store<u16>(Frames.liveAddress(engine, frame), 0);
  if (clear) memory.fill(frame, 0, FRAME_BYTES);
  return frame;
}

/** Puts a frame that no table names any more into limbo. */
export function retireFrame(engine: usize, frame: usize): void {
  const index = Frames.index(engine, frame);
  const first = load<u32>(engine, ENGINE_FRAME_LIMBO);
  store<u32>(Frames.nextAddress(engine, index), first);
  if (!first) store<u32>(engine, index + 1, ENGINE_FRAME_LIMBO_LAST);
  store<u32>(engine, index + 1, ENGINE_FRAME_LIMBO);
  store<u16>(Frames.liveAddress(engine, frame), 0);
}

/** Gives limbo back to the pool: no section that could see those frames is open any more. */
export function releaseLimbo(engine: usize): void {
  const first = load<u32>(engine, ENGINE_FRAME_LIMBO);
  if (!first) return;
  let count: u32 = 0;
  for (let link = first; link; link = load<u32>(Frames.nextAddress(engine, link - 1))) count++;
  const last = load<u32>(engine, ENGINE_FRAME_LIMBO_LAST);
  store<u32>(Frames.nextAddress(engine, last - 1), load<u32>(engine, ENGINE_FRAME_FREE));
  store<u32>(engine, first, ENGINE_FRAME_FREE);
  store<u32>(engine, 0, ENGINE_FRAME_LIMBO);
  store<u32>(engine, load<u32>(engine, ENGINE_FRAMES_USED) - count, ENGINE_FRAMES_USED);
}
