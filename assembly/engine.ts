// The arena: carved once, from its first byte up, into header, tables, ports and frames. Imports layout, memory, port, route, frames.
import {
  ABI_VERSION, DOMAIN_BYTES, ENGINE_ABI, ENGINE_BYTES, ENGINE_DOMAIN_CAPACITY, ENGINE_DOMAINS, ENGINE_EPOCH,
  ENGINE_FRAME_COUNT, ENGINE_FRAME_LIVE, ENGINE_FRAME_NEXT, ENGINE_FRAMES, ENGINE_ID_FIRST, ENGINE_ID_NEXT, ENGINE_LENGTH,
  ENGINE_PASID_TABLE_CAPACITY, ENGINE_PASID_TABLES, ENGINE_PORT_CAPACITY, ENGINE_PORT_STRIDE, ENGINE_PORTS, ENGINE_QUEUE, ENGINE_QUEUE_CAPACITY,
  ENGINE_RING, ENGINE_ROUTE_BEFORE, ENGINE_ROUTE_KEYS, ENGINE_ROUTE_MASK, ENGINE_ROUTES, ENGINE_SCRATCH, ENGINE_SINK, ENGINE_SLOT_CAPACITY, ENGINE_SLOTS,
  ENGINE_SLOTS_SPARE, ENGINE_STALL_CAPACITY, ENGINE_STALLS, ENGINE_THREADS, FRAME_BYTES, HOST_THREAD, PASID_TABLE_BYTES,
  QUEUE_RECORD_BYTES, QUEUE_RECORDS, RING_ENTRIES, RING_ENTRY_BYTES, ROUTE_BYTES, SCRATCH_BYTES, SLOT_BYTES, SLOTS_BYTES, STALL_BYTES,
} from "./layout";
import { chooseFastSlot } from "./memory";
import { layPort, portBytes } from "./port";
import { RESERVED_KEY } from "./route";
import { layFrames } from "./table/frames";

function align64(at: u64): u64 {
  return (at + 63) & ~(<u64>63);
}

/**
 * Makes an engine in the zeroed arena [engine, engine + length): answers the number of table frames that it has, 0 if the
 * arena is too small for the rest. engine is a multiple of 4096; routesLg2 <= 20; portFaults, records and stalls are powers of two;
 * sums are 64-bit.
 */
export function createEngine(
  engine: usize, length: u32, slots: u32, routesLg2: u32, domains: u32, ports: u32,
  portSetsLg2: u32, portLanes: u32, portFaults: u32, firstId: u32, records: u32, stalls: u32, pasidTables: u32,
): u32 {
  const routes: u64 = <u64>1 << routesLg2;
  const stride: u64 = portBytes(portSetsLg2, portLanes, portFaults);
  const limit = <u64>engine + length;
  const slotsAt = align64(engine + ENGINE_BYTES);
  const spareAt = align64(slotsAt + SLOTS_BYTES + <u64>slots * SLOT_BYTES);
  const keysAt = align64(spareAt + SLOTS_BYTES + <u64>slots * SLOT_BYTES);
  const routesAt = align64(keysAt + routes * 8);
  const beforeAt = align64(routesAt + routes * ROUTE_BYTES);
  const domainsAt = align64(beforeAt + routes * 4);
  // Behind the domains each port has two records for an entry of a PASID table that is in no pool.
  const pasidTablesAt = align64(domainsAt + (<u64>domains + 2 * ports) * DOMAIN_BYTES);
  const ringAt = align64(pasidTablesAt + <u64>pasidTables * PASID_TABLE_BYTES);
  const scratchAt = align64(ringAt + RING_ENTRIES * RING_ENTRY_BYTES);
  const queueAt = align64(scratchAt + SCRATCH_BYTES);
  const stallsAt = align64(queueAt + QUEUE_RECORDS + <u64>records * QUEUE_RECORD_BYTES);
  const portsAt = align64(stallsAt + <u64>stalls * STALL_BYTES);
  const sideAt = align64(portsAt + ports * stride);
  if (sideAt + 3 * <u64>FRAME_BYTES > limit) return 0;
  // Each frame costs its page, a link and a count; one page more is the sink.
  const frames = <u32>((limit - sideAt - 2 * FRAME_BYTES) / (FRAME_BYTES + 6));
  const liveAt = sideAt + <u64>frames * 4;
  const sinkAt = (liveAt + <u64>frames * 2 + FRAME_BYTES - 1) & ~(<u64>FRAME_BYTES - 1);

  store<u32>(engine, ABI_VERSION, ENGINE_ABI);
  store<u32>(engine, length, ENGINE_LENGTH);
  store<u32>(engine, <u32>slotsAt, ENGINE_SLOTS);
  store<u32>(engine, slots, ENGINE_SLOT_CAPACITY);
  store<u32>(engine, <u32>spareAt, ENGINE_SLOTS_SPARE);
  chooseFastSlot(<usize>slotsAt);
  store<u32>(engine, <u32>keysAt, ENGINE_ROUTE_KEYS);
  store<u32>(engine, <u32>routesAt, ENGINE_ROUTES);
  store<u32>(engine, <u32>beforeAt, ENGINE_ROUTE_BEFORE);
  store<u32>(engine, <u32>routes - 1, ENGINE_ROUTE_MASK);
  store<u64>(<usize>keysAt, RESERVED_KEY);
  store<u32>(engine, <u32>domainsAt, ENGINE_DOMAINS);
  store<u32>(engine, domains, ENGINE_DOMAIN_CAPACITY);
  store<u32>(engine, <u32>pasidTablesAt, ENGINE_PASID_TABLES);
  store<u32>(engine, pasidTables, ENGINE_PASID_TABLE_CAPACITY);
  store<u32>(engine, <u32>ringAt, ENGINE_RING);
  store<u32>(engine, <u32>scratchAt, ENGINE_SCRATCH);
  store<u32>(engine, <u32>queueAt, ENGINE_QUEUE);
  store<u32>(engine, records, ENGINE_QUEUE_CAPACITY);
  store<u32>(engine, <u32>stallsAt, ENGINE_STALLS);
  store<u32>(engine, stalls, ENGINE_STALL_CAPACITY);
  store<u32>(engine, <u32>portsAt, ENGINE_PORTS);
  store<u32>(engine, <u32>stride, ENGINE_PORT_STRIDE);
  store<u32>(engine, ports, ENGINE_PORT_CAPACITY);
  for (let i: u32 = 0; i < ports; i++) layPort(engine, <usize>(portsAt + i * stride), portSetsLg2, portLanes, portFaults);
  store<u32>(engine, <u32>sideAt, ENGINE_FRAME_NEXT);
  store<u32>(engine, <u32>liveAt, ENGINE_FRAME_LIVE);
  store<u32>(engine, <u32>sinkAt, ENGINE_SINK);
  store<u32>(engine, <u32>sinkAt + FRAME_BYTES, ENGINE_FRAMES);
  store<u32>(engine, frames, ENGINE_FRAME_COUNT);
  layFrames(engine);
  store<u32>(engine, firstId, ENGINE_ID_FIRST);
  store<u32>(engine, firstId, ENGINE_ID_NEXT);
  store<u32>(engine, 2, ENGINE_EPOCH);
  store<u32>(engine, HOST_THREAD, ENGINE_THREADS);
  return frames;
}
