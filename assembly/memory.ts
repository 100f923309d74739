// Slots: the only way to bytes that a guest or a device names. Imports layout, change. Ranges are first..last, inclusive.
// An address outside every slot, or in one without bytes, is NOWHERE: the arena is in no slot, so nothing reaches it.
import {
  ENGINE_SINK, ENGINE_SLOT_CAPACITY, ENGINE_SLOTS, ENGINE_SLOTS_SPARE, FRAME_BYTES, SLOT_BYTES, SLOT_FIRST, SLOT_KIND, SLOT_LAST,
  SLOT_MEMORY, SLOT_OFFSET, SLOT_ZERO, SLOTS_BYTES, SLOTS_COUNT, SLOTS_FAST_FIRST, SLOTS_FAST_OFFSET, SLOTS_FAST_SPAN, STATUS_OK,
  STATUS_STALLED,
} from "./layout";
import { begin, beginBeside, end, settle } from "./change";

/** The memory offset of what has no bytes here. */
export const NOWHERE: usize = 0xffffffff;

/** The slot table that holds now; it stays as it is until every section that can see it has ended. */
export function slotTable(engine: usize): usize {
  return atomic.load<u32>(engine, ENGINE_SLOTS);
}

/** Number of slots whose first address is <= hpa: the one before may hold it. */
function slotsUpTo(table: usize, hpa: u64): u32 {
  let low: u32 = 0;
  let high = load<u32>(table, SLOTS_COUNT);
  while (low < high) {
    const middle = (low + high) >> 1;
    if (load<u64>(table + SLOTS_BYTES + middle * SLOT_BYTES, SLOT_FIRST) <= hpa) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Address of the record of the slot that holds hpa; 0 if none does. */
export function findSlot(engine: usize, hpa: u64): usize {
  const table = slotTable(engine);
  const n = slotsUpTo(table, hpa);
  if (n == 0) return 0;
  const slot = table + SLOTS_BYTES + (n - 1) * SLOT_BYTES;
  return load<u64>(slot, SLOT_LAST) >= hpa ? slot : 0;
}

/** The same for an address in two halves: what copies bytes asks here, once a piece. */
export function slotAt(engine: usize, hpaLow: u32, hpaHigh: u32): usize {
  return findSlot(engine, (<u64>hpaHigh << 32) | hpaLow);
}

/** The spare table with `count` slots: those of the current one, and room for `added` or a gap closed before record n. */
function copyTable(engine: usize, count: u32, n: u32, added: u32, dropped: u32): usize {
  const spare = <usize>load<u32>(engine, ENGINE_SLOTS_SPARE);
  const from = slotTable(engine) + SLOTS_BYTES;
  const to = spare + SLOTS_BYTES;
  memory.copy(to, from, n * SLOT_BYTES);
  memory.copy(to + (n + added) * SLOT_BYTES, from + (n + dropped) * SLOT_BYTES, (count - n - added) * SLOT_BYTES);
  store<u32>(spare, count, SLOTS_COUNT);
  return spare;
}

/** Puts the spare table in force. The other one may be filled once no section is open that could read it. */
function publish(engine: usize, table: usize): u32 {
  chooseFastSlot(table);
  store<u32>(engine, <u32>slotTable(engine), ENGINE_SLOTS_SPARE);
  atomic.store<u32>(engine, <u32>table, ENGINE_SLOTS);
  return settle(engine) ? STATUS_OK : STATUS_STALLED;
}

/**
 * Adds a slot: 0, 1 if it overlaps another, 2 if the table is full, or a STATUS_* of `beginBeside`. The caller checks alignment
 * and offset. Inside the host's own sections too: what they have found stays where it is.
 */
export function addSlot(engine: usize, first: u64, last: u64, offset: u32, kind: u32): u32 {
  const status = beginBeside(engine);
  if (status != STATUS_OK) return status;
  const refusal = insertSlot(engine, first, last, offset, kind);
  end(engine);
  return refusal;
}

function insertSlot(engine: usize, first: u64, last: u64, offset: u32, kind: u32): u32 {
  const table = slotTable(engine);
  const records = table + SLOTS_BYTES;
  const count = load<u32>(table, SLOTS_COUNT);
  const n = slotsUpTo(table, first);
  if (n > 0 && load<u64>(records + (n - 1) * SLOT_BYTES, SLOT_LAST) >= first) return 1;
  if (n < count && load<u64>(records + n * SLOT_BYTES, SLOT_FIRST) <= last) return 1;
  if (count == load<u32>(engine, ENGINE_SLOT_CAPACITY)) return 2;
  const next = copyTable(engine, count + 1, n, 1, 0);
  const slot = next + SLOTS_BYTES + n * SLOT_BYTES;
  store<u64>(slot, first, SLOT_FIRST);
  store<u64>(slot, last, SLOT_LAST);
  store<u32>(slot, offset, SLOT_OFFSET);
  store<u32>(slot, kind, SLOT_KIND);
  return publish(engine, next);
}

/** Removes the slot that begins at first: 0, 1 if there is none, or a STATUS_* of `begin`. Afterwards nobody uses its bytes. */
export function removeSlot(engine: usize, first: u64): u32 {
  const status = begin(engine);
  if (status != STATUS_OK) return status;
  const slot = findSlot(engine, first);
  let answer: u32 = 1;
  if (slot != 0 && load<u64>(slot, SLOT_FIRST) == first) {
    const table = slotTable(engine);
    const n = <u32>(slot - table - SLOTS_BYTES) / SLOT_BYTES;
    answer = publish(engine, copyTable(engine, load<u32>(table, SLOTS_COUNT) - 1, n, 0, 1));
  }
  end(engine);
  return answer;
}

/** The largest slot with bytes is tried first: with one slot every access is a subtraction and a compare. */
export function chooseFastSlot(table: usize): void {
  let slot = table + SLOTS_BYTES;
  let best: u64 = 0;
  store<u32>(table, 0, SLOTS_FAST_OFFSET);
  store<u64>(table, ~(<u64>0), SLOTS_FAST_FIRST);
  store<u64>(table, 0, SLOTS_FAST_SPAN);
  for (let left = load<u32>(table, SLOTS_COUNT); left; left--, slot += SLOT_BYTES) {
    const span = load<u64>(slot, SLOT_LAST) - load<u64>(slot, SLOT_FIRST);
    if (load<u32>(slot, SLOT_KIND) != SLOT_MEMORY || span <= best) continue;
    best = span;
    store<u64>(table, load<u64>(slot, SLOT_FIRST), SLOTS_FAST_FIRST);
    store<u64>(table, span, SLOTS_FAST_SPAN);
    store<u32>(table, load<u32>(slot, SLOT_OFFSET), SLOTS_FAST_OFFSET);
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
