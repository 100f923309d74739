// The start tables of a domain whose tables are our own: one, or several side by side where the format concatenates them.
// They are one block of frames; each counts its own live entries, and map and unmap go from one to the next.
// Imports layout, frames, the format contract; knows no format.
import { DOMAIN_INPUT_LG2, DOMAIN_LEVELS, DOMAIN_ROOT, ENGINE_GRANTED, FRAME_LG2 } from "../layout";
import { EntryOf, Format, lowBits } from "../format/format";
import { Operation } from "../format/list";
import { canTake, Frames, retireFrame, takeFrame } from "./frames";

/** Order of the block that a table takes; one smaller than a frame has a frame of its own. */
export function tableOrder<F extends Format>(): u32 {
  const lg2 = changetype<F>(0).tableLg2() + 3;
  return lg2 > FRAME_LG2 ? lg2 - FRAME_LG2 : 0;
}

@unmanaged
export abstract class Start {
  /** Log2 of the number of start tables. */
  @inline static countLg2<F extends Format>(domain: usize): u32 {
    const f = changetype<F>(0);
    if (!f.concatenated()) return 0;
    const one = f.spanLg2(load<u32>(domain, DOMAIN_LEVELS) - 1) + f.tableLg2();
    const input = load<u32>(domain, DOMAIN_INPUT_LG2);
    return input > one ? input - one : 0;
  }

  /** The start table that serves `iova`. */
  @inline static table<F extends Format>(domain: usize, iova: u64): usize {
    const f = changetype<F>(0);
    const root = <usize>load<u64>(domain, DOMAIN_ROOT);
    return f.concatenated() ? root + (EntryOf.start(domain, iova) & ~((8 << f.tableLg2()) - 1)) : root;
  }

  /** Last address of [at..last] that the same start table serves. */
  @inline static last<F extends Format>(domain: usize, at: u64, last: u64): u64 {
    const f = changetype<F>(0);
    if (!f.concatenated()) return last;
    return min(at | lowBits(f.spanLg2(load<u32>(domain, DOMAIN_LEVELS) - 1) + f.tableLg2()), last);
  }
}

/** Takes empty start tables: the memory offset of the first, 0 when there is no block for them. */
@unmanaged
@final
export class TakeRoot extends Operation {
  run<F extends Format>(engine: usize, domain: usize, _a: u64, _b: u64, _c: u64, _d: u32): u64 {
    const order = tableOrder<F>() + Start.countLg2<F>(domain);
    return canTake(engine, order, 1) ? takeFrame(engine, order, true) : 0;
  }
}

/** Retires the start tables, which hold nothing any more. */
export function retireRoot<F extends Format>(engine: usize, domain: usize): void {
  const root = <usize>load<u64>(domain, DOMAIN_ROOT);
  const countLg2 = Start.countLg2<F>(domain);
  const bytes: usize = 8 << changetype<F>(0).tableLg2();
  for (let table = root; table < root + (bytes << countLg2); table += bytes) Frames.clearLive(engine, table);
  retireFrame(engine, root, tableOrder<F>() + countLg2);
}

/** Can d tables of the domain's format be taken? If so, they are granted to the maps that follow. */
@unmanaged
@final
export class CanTakeTables extends Operation {
  run<F extends Format>(engine: usize, _domain: usize, _a: u64, _b: u64, _c: u64, d: u32): u64 {
    if (!canTake(engine, tableOrder<F>(), d)) return 0;
    store<u32>(engine, load<u32>(engine, ENGINE_GRANTED) + d, ENGINE_GRANTED);
    return 1;
  }
}
