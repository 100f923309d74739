// Slots: the only way to bytes that a guest or a device names. Imports layout only. Ranges are first..last, inclusive.
// An address outside every slot, or in one without bytes, is NOWHERE: the arena is in no slot, so nothing reaches it.
import {
  ENGINE_FAST_FIRST, ENGINE_FAST_OFFSET, ENGINE_FAST_SPAN, ENGINE_SLOT_CAPACITY, ENGINE_SLOT_COUNT, ENGINE_SLOTS, ENGINE_SINK,
  FRAME_BYTES,  SLOT_BYTES, SLOT_FIRST, SLOT_KIND, SLOT_LAST, SLOT_MEMORY, SLOT_OFFSET, SLOT_ZERO,
} from "./layout";

/** The memory offset of what has no bytes here. */
export const NOWHERE: usize = 0xffffffff;

/** Number of slots whose first address is <= hpa: the one before may hold it. */
function slotsUpTo(engine: usize, hpa: u64): u32 {
  const slots: usize = load<u32>(engine, ENGINE_SLOTS);
  let low: u32 = 0;
  let high = load<u32>(engine, ENGINE_SLOT_COUNT);
  while (low < high) {
    const middle = (low + high) >> 1;
    if (load<u64>(slots + middle * SLOT_BYTES, SLOT_FIRST) <= hpa) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Address of the record of the slot that holds hpa; 0 if none does. */
export function findSlot(engine: usize, hpa: u64): usize {
  const n = slotsUpTo(engine, hpa);
  if (n == 0) return 0;
  const slot = <usize>load<u32>(engine, ENGINE_SLOTS) + (n - 1) * SLOT_BYTES;
  return load<u64>(slot, SLOT_LAST) >= hpa ? slot : 0;
}

/** The same for an address in two halves: what copies bytes asks here, once a piece. */
export function slotAt(engine: usize, hpaLow: u32, hpaHigh: u32): usize {
  return findSlot(engine, (<u64>hpaHigh << 32) | hpaLow);
}

/** Adds a slot. Answers 0, 1 if it overlaps another, 2 if the table is full. The caller checks alignment and offset. */
export function addSlot(engine: usize, first: u64, last: u64, offset: u32, kind: u32): u32 {
  const count = load<u32>(engine, ENGINE_SLOT_COUNT);
  const slots: usize = load<u32>(engine, ENGINE_SLOTS);
  const n = slotsUpTo(engine, first);
  if (n > 0 && load<u64>(slots + (n - 1) * SLOT_BYTES, SLOT_LAST) >= first) return 1;
  if (n < count && load<u64>(slots + n * SLOT_BYTES, SLOT_FIRST) <= last) return 1;
  if (count == load<u32>(engine, ENGINE_SLOT_CAPACITY)) return 2;
  const slot = slots + n * SLOT_BYTES;
  memory.copy(slot + SLOT_BYTES, slot, (count - n) * SLOT_BYTES);
  store<u64>(slot, first, SLOT_FIRST);
  store<u64>(slot, last, SLOT_LAST);
  store<u32>(slot, offset, SLOT_OFFSET);
  store<u32>(slot, kind, SLOT_KIND);
  store<u32>(engine, count + 1, ENGINE_SLOT_COUNT);
  chooseFastSlot(engine);
  return 0;
}

/** Removes the slot that begins at first; false if there is none. */
export function removeSlot(engine: usize, first: u64): bool {
  const slot = findSlot(engine, first);
  if (!slot || load<u64>(slot, SLOT_FIRST) != first) return false;
  const count = load<u32>(engine, ENGINE_SLOT_COUNT) - 1;
  const end = <usize>load<u32>(engine, ENGINE_SLOTS) + count * SLOT_BYTES;
  memory.copy(slot, slot + SLOT_BYTES, end - slot);
  store<u32>(engine, count, ENGINE_SLOT_COUNT);
  chooseFastSlot(engine);
  return true;
}

/** The largest slot with bytes is tried first: with one slot every access is a subtraction and a compare. */
function chooseFastSlot(engine: usize): void {
  const count = load<u32>(engine, ENGINE_SLOT_COUNT);
  let slot: usize = load<u32>(engine, ENGINE_SLOTS);
  let best: u64 = 0;
  store<u32>(engine, 0, ENGINE_FAST_OFFSET);
  store<u64>(engine, ~(<u64>0), ENGINE_FAST_FIRST);
  store<u64>(engine, 0, ENGINE_FAST_SPAN);
  for (let i: u32 = 0; i < count; i++, slot += SLOT_BYTES) {
    const span = load<u64>(slot, SLOT_LAST) - load<u64>(slot, SLOT_FIRST);
    if (load<u32>(slot, SLOT_KIND) != SLOT_MEMORY || span <= best) continue;
    best = span;
    store<u64>(engine, load<u64>(slot, SLOT_FIRST), ENGINE_FAST_FIRST);
    store<u64>(engine, span, ENGINE_FAST_SPAN);
    store<u32>(engine, load<u32>(slot, SLOT_OFFSET), ENGINE_FAST_OFFSET);
  }
}

/** Memory offset at which the word of a table at hpa can be read; NOWHERE when there is none (outside, device slot). */
export function locate(engine: usize, hpa: u64): usize {
  const slot = findSlot(engine, hpa);
  if (!slot) return NOWHERE;
  const kind = load<u32>(slot, SLOT_KIND);
  if (kind == SLOT_ZERO) return load<u32>(engine, ENGINE_SINK) + (<u32>hpa & (FRAME_BYTES - 1));
  if (kind != SLOT_MEMORY) return NOWHERE;
  return load<u32>(slot, SLOT_OFFSET) + <u32>(hpa - load<u64>(slot, SLOT_FIRST));
}

/**
 * How the batch walker turns the place of a table entry, `index` bytes into the table at `table`, into a memory offset. The
 * fast slot travels in the caller's locals (a store between two loads would make the compiler read the header again).
 */
@unmanaged
export abstract class TableSpace {
  /** Are the tables our own, without bits to be checked? */
  abstract trusted(): bool;
  /** Is the entry where `entry` finds it? */
  abstract holds(table: u64, index: usize, fastFirst: u64, fastSpan: u64): bool;
  /** Its memory offset; `fastDelta` is the fast slot's offset less its first address. */
  abstract entry(table: u64, index: usize, fastDelta: usize): usize;
}

/** Tables in the arena: trusted, their pointers are memory offsets. */
@unmanaged
@final
export class KernelTables extends TableSpace {
  @inline trusted(): bool { return true; }
  @inline holds(_table: u64, _index: usize, _fastFirst: u64, _fastSpan: u64): bool { return true; }
  @inline entry(table: u64, index: usize, _fastDelta: usize): usize { return <usize>table + index; }
}

/** Tables that a guest owns: every pointer is an hpa. Entries are aligned, slots are page-wise. */
@unmanaged
@final
export class GuestTables extends TableSpace {
  @inline trusted(): bool { return false; }
  /** What does not wait for `table` is added first: the way from one entry to the next is then as short as in our own tables. */
  @inline holds(table: u64, index: usize, fastFirst: u64, fastSpan: u64): bool {
    return table + (<u64>index - fastFirst) <= fastSpan;
  }
  @inline entry(table: u64, index: usize, fastDelta: usize): usize { return <usize>table + (index + fastDelta); }
}
