// Changes: what every call that alters what is translated does first and last. One thread, the host's, makes all changes; a
// lock word refuses a second one. A change is finished by waiting for the sections that were open while it was made: it spins,
// then sleeps in slices until the reader wakes it. Only the build for shared memory has other threads: the other one neither
// locks nor waits. Imports layout, frames.
import {
  ENGINE_EPOCH, ENGINE_LOCK, ENGINE_PATIENCE, ENGINE_PORT_CAPACITY, ENGINE_PORT_STRIDE, ENGINE_PORTS, ENGINE_STALLED, ENGINE_WAITERS,
  HOST_THREAD, PORT_ACTIVE, PORT_THREAD, STATUS_BUSY, STATUS_IN_SECTION, STATUS_OK, STATUS_STALLED,
} from "./layout";
import { releaseLimbo } from "./table/frames";

/** Looks before the first sleep: a few microseconds, as long as most sections take. */
const SPINS: u32 = 5000;
/** One sleep, in nanoseconds: what a wake-up that came between is late at most. */
const SLICE: i64 = 1000000;
/** Rounds of looks and waiting for a port that publishes, each time another. */
const MOST_TURNS: u32 = 64;
/** What the lock word holds while the host changes something; a port that publishes puts its address there. */
const LOCK_CHANGE: u32 = 1;

/** A port of the host's thread is inside a section: a change would wait for its own thread for ever. */
export function inSection(engine: usize): bool {
  let port = <usize>load<u32>(engine, ENGINE_PORTS);
  for (let n = load<u32>(engine, ENGINE_PORT_CAPACITY); n; n--, port += load<u32>(engine, ENGINE_PORT_STRIDE)) {
    if (atomic.load<u32>(port, PORT_ACTIVE) && load<u32>(port, PORT_THREAD) == HOST_THREAD) return true;
  }
  return false;
}

/** Is the port still inside a section that was open before `epoch`? Numbers wrap: their distance counts. */
function isOlder(active: u32, epoch: u32): bool {
  return active != 0 && <i32>(active - epoch) < 0;
}

@unmanaged
abstract class Section {
  /** Has the port left every section that was open before `epoch`? */
  @inline static over(port: usize, epoch: u32): bool { return !isOlder(atomic.load<u32>(port, PORT_ACTIVE), epoch); }
}

/**
 * Spins for a while, then sleeps at most a slice, as long as the port is inside a section that was open before `epoch`.
 * Exported, and eight looks a turn, so that it is too large to become part of another function (the build checks that): in V8 11
 * (Node 20) the baseline compiler loses locals of the function that waits, so that none may be needed after the wait.
 */
export function pause(port: usize, epoch: u32): void {
  for (let spins = SPINS; spins; spins -= 8) {
    if (Section.over(port, epoch) || Section.over(port, epoch) || Section.over(port, epoch) || Section.over(port, epoch)) return;
    if (Section.over(port, epoch) || Section.over(port, epoch) || Section.over(port, epoch) || Section.over(port, epoch)) return;
  }
  const active = atomic.load<u32>(port, PORT_ACTIVE);
  if (isDefined(SHARED)) {
    if (isOlder(active, epoch)) atomic.wait<i32>(port + PORT_ACTIVE, active, SLICE);
  }
}

/** Waits until the port has left the section that was open before `epoch`; false if it has not in time. */
function waitForPort(engine: usize, port: usize, epoch: u32): bool {
  atomic.add<u32>(engine, 1, ENGINE_WAITERS);
  for (let slices = load<u32>(engine, ENGINE_PATIENCE); slices && !Section.over(port, epoch); slices--) pause(port, epoch);
  atomic.sub<u32>(engine, 1, ENGINE_WAITERS);
  return Section.over(port, epoch);
}

/** Waits for every section that was open before `epoch`, the host's own excepted: 0, or the port that does not leave it. */
function waitForSections(engine: usize, epoch: u32): usize {
  let port = <usize>load<u32>(engine, ENGINE_PORTS);
  for (let n = load<u32>(engine, ENGINE_PORT_CAPACITY); n; n--, port += load<u32>(engine, ENGINE_PORT_STRIDE)) {
    if (Section.over(port, epoch) || load<u32>(port, PORT_THREAD) == HOST_THREAD) continue;
    if (!waitForPort(engine, port, epoch)) return port;
  }
  return 0;
}

/**
 * Ends what sections may have seen until now: those that open from here on see the change, those that were open are waited
 * for, and then nobody can see the frames in limbo. False if a port stalls: ENGINE_STALLED names it, and until a later call
 * has waited for it nothing else is changed.
 */
export function settle(engine: usize): bool {
  const epoch = atomic.add<u32>(engine, 2, ENGINE_EPOCH) + 2;
  if (isDefined(SHARED)) {
    const stalled = waitForSections(engine, epoch);
    store<u32>(engine, <u32>stalled, ENGINE_STALLED);
    if (stalled) return false;
  }
  releaseLimbo(engine);
  return true;
}

/**
 * Takes the lock for the host: STATUS_OK, STATUS_BUSY, or STATUS_STALLED. A port holds it, inside its section, while it
 * publishes an entry of a PASID table: some hundred instructions, unless its thread is kept from running.
 */
function takeLock(engine: usize): u32 {
  for (let turns = MOST_TURNS; turns; turns--) {
    let holder: u32 = 0;
    for (let spins = SPINS; spins; spins--) {
      holder = atomic.cmpxchg<u32>(engine, 0, LOCK_CHANGE, ENGINE_LOCK);
      if (!holder) return STATUS_OK;
      if (holder == LOCK_CHANGE) return STATUS_BUSY;
    }
    const epoch = atomic.add<u32>(engine, 2, ENGINE_EPOCH) + 2;
    if (waitForPort(engine, <usize>holder, epoch)) continue;
    store<u32>(engine, holder, ENGINE_STALLED);
    return STATUS_STALLED;
  }
  return STATUS_BUSY;
}

/** Begins the publication of an entry by a port, inside its section; false while a change is made or one waits for a port. */
export function beginPublishing(engine: usize, port: usize): bool {
  if (isDefined(SHARED)) {
    if (atomic.cmpxchg<u32>(engine, 0, <u32>port, ENGINE_LOCK)) return false;
    if (load<u32>(engine, ENGINE_STALLED)) {
      end(engine);
      return false;
    }
  }
  return true;
}

/** Have all sections of other ports ended that were open before `epoch`? Nobody is waited for. */
export function othersOver(engine: usize, port: usize, epoch: u32): bool {
  let other = <usize>load<u32>(engine, ENGINE_PORTS);
  for (let n = load<u32>(engine, ENGINE_PORT_CAPACITY); n; n--, other += load<u32>(engine, ENGINE_PORT_STRIDE)) {
    if (other != port && !Section.over(other, epoch)) return false;
  }
  return true;
}

/** What a port that has ended in the middle of a publication held, the host now holds: true if it did. */
export function inheritLock(engine: usize, port: usize): bool {
  if (isDefined(SHARED)) return atomic.cmpxchg<u32>(engine, <u32>port, LOCK_CHANGE, ENGINE_LOCK) == <u32>port;
  return false;
}

/** Begins a change that the host's own sections do not hinder: STATUS_OK, STATUS_BUSY or STATUS_STALLED. */
export function beginBeside(engine: usize): u32 {
  if (isDefined(SHARED)) {
    const status = takeLock(engine);
    if (status != STATUS_OK) return status;
    if (load<u32>(engine, ENGINE_STALLED) && !settle(engine)) return refuse(engine, STATUS_STALLED);
  }
  return STATUS_OK;
}

/** Begins a change: STATUS_OK, or the STATUS_* for which nothing may be changed now. */
export function begin(engine: usize): u32 {
  const status = beginBeside(engine);
  return status == STATUS_OK && inSection(engine) ? refuse(engine, STATUS_IN_SECTION) : status;
}

/** The change is over. Every `begin` that answered STATUS_OK has its `end`. */
export function end(engine: usize): void {
  if (isDefined(SHARED)) atomic.store<u32>(engine, 0, ENGINE_LOCK);
}

/** Waits once more for a port that has stalled: a STATUS_* of `beginBeside`. */
export function waitAgain(engine: usize): u32 {
  const status = beginBeside(engine);
  if (status == STATUS_OK) end(engine);
  return status;
}

function refuse(engine: usize, status: u32): u32 {
  end(engine);
  return status;
}
