// Ports: one thread's way into the engine, and the section that covers translate and use: what was open when a table
// changed is waited for, what opens later applies the invalidations first. Imports layout, invalidate, iotlb.
import {
  ENGINE_EPOCH, ENGINE_RING_HEAD, ENGINE_THREADS, ENGINE_WAITERS, PORT_ACTIVE, PORT_BYTES, PORT_CAPACITY, PORT_COUNT_WALKS, PORT_ENGINE,
  PORT_FAULT_CAPACITY, PORT_FAULT_DROPPED, PORT_FAULT_HEAD, PORT_FAULT_OVERFLOW, PORT_FAULT_TAIL, PORT_FAULTS, PORT_HASH_SHIFT,
  PORT_IOTLB, PORT_LANES, PORT_MISSES, PORT_OPENED, PORT_REQUESTS, PORT_RESULT, PORT_RESULTS, PORT_RING_TAIL, PORT_STATE, PORT_THREAD,
  FAULT_BYTES, GROUP_LANES, IOTLB_SET_BYTES, LANE_BYTES, REQUEST_BYTES, RESULT_BYTES, ENGINE_PORTS, ENGINE_PORT_STRIDE,
  ENGINE_PORT_CAPACITY,
} from "./layout";
import { end, inheritLock, settle } from "./change";
import { applyRing } from "./invalidate";
import { clearIotlb } from "./iotlb";
import { repairPools } from "./pasid/repair";

/** Bytes of one port with its tables; every part is 64-byte aligned. */
export function portBytes(setsLg2: u32, lanes: u32, faults: u32): usize {
  const parts = PORT_BYTES + (IOTLB_SET_BYTES << setsLg2) + lanes * (REQUEST_BYTES + RESULT_BYTES + 4)
    + GROUP_LANES * LANE_BYTES + faults * FAULT_BYTES;
  return (parts + 63) & ~63;
}

/** Lays a port out at `port` (zeroed memory). lanes is a multiple of 16, faults a power of two >= 4. */
export function layPort(engine: usize, port: usize, setsLg2: u32, lanes: u32, faults: u32): void {
  let at = port + PORT_BYTES;
  store<u32>(port, <u32>engine, PORT_ENGINE);
  store<u32>(port, 64 - setsLg2, PORT_HASH_SHIFT);
  store<u32>(port, lanes, PORT_CAPACITY);
  store<u32>(port, faults, PORT_FAULT_CAPACITY);
  store<u32>(port, <u32>at, PORT_IOTLB);
  at += IOTLB_SET_BYTES << setsLg2;
  store<u32>(port, <u32>at, PORT_REQUESTS);
  at += lanes * REQUEST_BYTES;
  store<u32>(port, <u32>at, PORT_RESULTS);
  at += lanes * RESULT_BYTES;
  store<u32>(port, <u32>at, PORT_MISSES);
  at += lanes << 2;
  store<u32>(port, <u32>at, PORT_LANES);
  at += GROUP_LANES * LANE_BYTES;
  store<u32>(port, <u32>at, PORT_FAULTS);
}

/** Takes a free port for a thread: its address, 0 if all are open. IOTLB, counters and fault ring start empty. */
export function openPort(engine: usize, thread: u32): usize {
  let port = <usize>load<u32>(engine, ENGINE_PORTS);
  for (let n = load<u32>(engine, ENGINE_PORT_CAPACITY); n; n--, port += load<u32>(engine, ENGINE_PORT_STRIDE)) {
    if (atomic.cmpxchg<u32>(port, 0, 1, PORT_STATE)) continue;
    store<u32>(port, thread, PORT_THREAD);
    store<u32>(port, load<u32>(port, PORT_OPENED) + 1, PORT_OPENED);
    clearIotlb(port);
    clearCounters(port);
    store<u32>(port, atomic.load<u32>(engine, ENGINE_RING_HEAD), PORT_RING_TAIL);
    return port;
  }
  return 0;
}

function clearCounters(port: usize): void {
  memory.fill(port + PORT_FAULT_DROPPED, 0, PORT_RESULT - PORT_FAULT_DROPPED);
  memory.fill(port + PORT_COUNT_WALKS, 0, PORT_BYTES - PORT_COUNT_WALKS);
  atomic.store<u32>(port, 0, PORT_FAULT_OVERFLOW);
  atomic.store<u32>(port, load<u32>(port, PORT_FAULT_HEAD), PORT_FAULT_TAIL);
}

/** A number for one more thread that will open ports. */
export function addThread(engine: usize): u32 {
  return atomic.add<u32>(engine, 1, ENGINE_THREADS) + 1;
}

/** Closes the ports of a thread that has ended: how many there were. */
export function endThread(engine: usize, thread: u32): u32 {
  let closed: u32 = 0;
  let port = <usize>load<u32>(engine, ENGINE_PORTS);
  for (let n = load<u32>(engine, ENGINE_PORT_CAPACITY); n; n--, port += load<u32>(engine, ENGINE_PORT_STRIDE)) {
    if (!atomic.load<u32>(port, PORT_STATE) || load<u32>(port, PORT_THREAD) != thread) continue;
    closePort(port);
    closed++;
  }
  return closed;
}

/** Gives the port back; an open section ends, and so does a publication that the end of its thread has cut short. */
export function closePort(port: usize): void {
  const engine = <usize>load<u32>(port, PORT_ENGINE);
  if (inheritLock(engine, port)) {
    repairPools(engine);
    leave(port);
    settle(engine);
    end(engine);
  }
  leave(port);
  store<u32>(port, 0, PORT_THREAD);
  atomic.store<u32>(port, 0, PORT_STATE);
}

/** Opens the section: announces it first, then applies the ring, so that no invalidation falls between. */
export function enter(port: usize): void {
  const engine = <usize>load<u32>(port, PORT_ENGINE);
  atomic.store<u32>(port, atomic.load<u32>(engine, ENGINE_EPOCH) | 1, PORT_ACTIVE);
  applyRing(port);
}

/** Closes the section, and wakes a change that sleeps until it has. */
export function leave(port: usize): void {
  atomic.store<u32>(port, 0, PORT_ACTIVE);
  if (isDefined(SHARED)) {
    if (atomic.load<u32>(<usize>load<u32>(port, PORT_ENGINE), ENGINE_WAITERS)) atomic.notify(port + PORT_ACTIVE, -1);
  }
}
