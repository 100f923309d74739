// The entries of PASID tables that are in force: each lies in a record of its table's pool, made with the table, and routes
// lead there. A vacant record has ids that no route has carried: what any IOTLB holds under those of an entry that is gone is
// never found again. Pools and the lists of routes change under the lock only: by the host, or by a port that publishes
// (resolve.ts). Imports layout, domain, invalidate, route, request.
import {
  DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_HALVES, DOMAIN_ID, DOMAIN_LIVE, DOMAIN_PASID, DOMAIN_POOL_NEXT, DOMAIN_ROUTES, DOMAIN_STATE,
  DOMAIN_TABLE, DOMAIN_UPPER, DOMAIN_USERS, DOMAIN_VACANT, ENGINE_DOMAINS, ENGINE_PASID_TABLES, NO_PASID,
  PASID_TABLE_BYTES, PASID_TABLE_KIND, PASID_TABLE_POOL, PASID_TABLE_SMMUV3, PASID_TABLE_STAGE2, PASID_TABLE_USERS, PASID_TABLE_WITHOUT,
  PASID_WITHOUT_ZERO, ROUTE_NEXT, ROUTE_NONE, ROUTE_TABLE,
} from "../layout";
import { takeIds } from "../invalidate";
import { Domain } from "../request";
import { block, governing, nextPasid, routeAt, routePasid, routeRid } from "../route";

/** For the PASID of what is dropped: all of them. No PASID is as large. */
export const EVERY_PASID: u32 = 0xffffffff;

export function tableAt(engine: usize, index: u32): usize {
  return load<u32>(engine, ENGINE_PASID_TABLES) + index * <u32>PASID_TABLE_BYTES;
}

export function stage2Of(engine: usize, table: usize): usize {
  return Domain.at(load<u32>(engine, ENGINE_DOMAINS), load<u32>(table, PASID_TABLE_STAGE2));
}

/** The record of number 1 + index; 0 for 0. */
export function recordOf(engine: usize, number: u32): usize {
  return number ? Domain.at(load<u32>(engine, ENGINE_DOMAINS), number - 1) : 0;
}

function upperOf(engine: usize, entry: usize): usize {
  return Domain.at(load<u32>(engine, ENGINE_DOMAINS), load<u32>(entry, DOMAIN_UPPER));
}

/** The entry that is published for the PASID; 0 if none is. */
export function findEntry(engine: usize, table: usize, pasid: u32): usize {
  let entry = recordOf(engine, load<u32>(table, PASID_TABLE_POOL));
  for (; entry; entry = recordOf(engine, load<u32>(entry, DOMAIN_POOL_NEXT))) {
    if (load<u32>(entry, DOMAIN_STATE) == DOMAIN_LIVE && load<u32>(entry, DOMAIN_PASID) == pasid) return entry;
  }
  return 0;
}

function vacantEntry(engine: usize, table: usize): usize {
  let entry = recordOf(engine, load<u32>(table, PASID_TABLE_POOL));
  while (entry && load<u32>(entry, DOMAIN_STATE) != DOMAIN_VACANT) entry = recordOf(engine, load<u32>(entry, DOMAIN_POOL_NEXT));
  return entry;
}

/** What the scratch record says, in the record: its ids, and its place in the pool, stay. */
function copyShape(record: usize, scratch: usize): void {
  const id = load<u32>(record, DOMAIN_ID);
  const upper = load<u32>(record, DOMAIN_UPPER);
  const table = load<u32>(record, DOMAIN_TABLE);
  const next = load<u32>(record, DOMAIN_POOL_NEXT);
  memory.copy(record, scratch, DOMAIN_BYTES);
  store<u32>(record, DOMAIN_VACANT, DOMAIN_STATE);
  store<u32>(record, id, DOMAIN_ID);
  store<u32>(record, upper, DOMAIN_UPPER);
  store<u32>(record, table, DOMAIN_TABLE);
  store<u32>(record, next, DOMAIN_POOL_NEXT);
}

/** Makes the scratch record (and the one behind it, if it has halves) the entry of a PASID; 0 if no record is vacant. */
export function fillEntry(engine: usize, table: usize, pasid: u32, scratch: usize): usize {
  const entry = vacantEntry(engine, table);
  if (!entry) return 0;
  copyShape(entry, scratch);
  store<u32>(entry, pasid, DOMAIN_PASID);
  if (load<u32>(entry, DOMAIN_FLAGS) & DOMAIN_HALVES) {
    const upper = upperOf(engine, entry);
    copyShape(upper, scratch + DOMAIN_BYTES);
    store<u32>(upper, 1, DOMAIN_USERS);
    store<u32>(upper, DOMAIN_LIVE, DOMAIN_STATE);
  }
  store<u32>(entry, DOMAIN_LIVE, DOMAIN_STATE);
  const stage2 = stage2Of(engine, table);
  store<u32>(stage2, load<u32>(stage2, DOMAIN_USERS) + 1, DOMAIN_USERS);
  return entry;
}

/** Makes the record of an entry vacant. Sections that still walk it find its fields as they were. */
export function vacateRecord(engine: usize, entry: usize): void {
  if (load<u32>(entry, DOMAIN_FLAGS) & DOMAIN_HALVES) {
    const upper = upperOf(engine, entry);
    store<u32>(upper, 0, DOMAIN_USERS);
    store<u32>(upper, DOMAIN_VACANT, DOMAIN_STATE);
  }
  store<u32>(entry, DOMAIN_VACANT, DOMAIN_STATE);
  store<u32>(entry, 0, DOMAIN_ROUTES);
  takeIds(engine, entry);
}

/** Blocks the routes of an entry and makes its record vacant. The caller waits; until then nothing is published. */
function dropEntry(engine: usize, table: usize, entry: usize): void {
  for (let index = load<u32>(entry, DOMAIN_ROUTES); index; index = load<u32>(entry, DOMAIN_ROUTES)) block(engine, index);
  vacateRecord(engine, entry);
  const stage2 = stage2Of(engine, table);
  store<u32>(stage2, load<u32>(stage2, DOMAIN_USERS) - 1, DOMAIN_USERS);
}

/** The PASID whose entry serves the route; EVERY_PASID if none does. */
export function servedBy(engine: usize, table: usize, index: u32): u32 {
  const pasid = routePasid(engine, index);
  return pasid == NO_PASID && load<u32>(table, PASID_TABLE_WITHOUT) == PASID_WITHOUT_ZERO ? 0 : pasid;
}

/** Blocks what entries of the table lead to stage 2 alone. */
function dropPassing(engine: usize, number: u32, table: usize, pasid: u32): void {
  for (let index = load<u32>(stage2Of(engine, table), DOMAIN_ROUTES); index; ) {
    const next = load<u32>(routeAt(engine, index), ROUTE_NEXT);
    if (governing(engine, index) == number) {
      const served = servedBy(engine, table, index);
      if (served != NO_PASID && (pasid == EVERY_PASID || pasid == served)) block(engine, index);
    }
    index = next;
  }
}

/** Drops the entry of a PASID, or all of them. `reserveIds` has promised ids; the caller waits. */
export function dropEntries(engine: usize, index: u32, pasid: u32): void {
  const table = tableAt(engine, index);
  let entry = recordOf(engine, load<u32>(table, PASID_TABLE_POOL));
  for (; entry; entry = recordOf(engine, load<u32>(entry, DOMAIN_POOL_NEXT))) {
    if (load<u32>(entry, DOMAIN_STATE) != DOMAIN_LIVE) continue;
    if (pasid == EVERY_PASID || load<u32>(entry, DOMAIN_PASID) == pasid) dropEntry(engine, table, entry);
  }
  dropPassing(engine, index + 1, table, pasid);
}

/** Blocks every route of the rid that has a PASID; false if all were. */
export function blockPasids(engine: usize, rid: u32): bool {
  let some = false;
  for (let index = nextPasid(engine, rid, 1); index != ROUTE_NONE; index = nextPasid(engine, rid, index + 1)) {
    if (block(engine, index)) some = true;
  }
  return some;
}

/** The rid of that route, one without PASID, has no PASID table any more; false if it had none. The caller waits. */
export function leaveTable(engine: usize, index: u32): bool {
  const route = routeAt(engine, index);
  const number = load<u32>(route, ROUTE_TABLE);
  if (!number) return false;
  const table = tableAt(engine, number - 1);
  block(engine, index);
  blockPasids(engine, routeRid(engine, index));
  atomic.store<u32>(route, 0, ROUTE_TABLE);
  store<u32>(table, load<u32>(table, PASID_TABLE_USERS) - 1, PASID_TABLE_USERS);
  let entry = recordOf(engine, load<u32>(table, PASID_TABLE_POOL));
  for (; entry; entry = recordOf(engine, load<u32>(entry, DOMAIN_POOL_NEXT))) {
    if (load<u32>(entry, DOMAIN_STATE) == DOMAIN_LIVE && !load<u32>(entry, DOMAIN_ROUTES)) dropEntry(engine, table, entry);
  }
  return true;
}

/** Records of an entry: an Arm one may have two halves. */
export function recordsOf(table: usize): u32 {
  return load<u32>(table, PASID_TABLE_KIND) == PASID_TABLE_SMMUV3 ? 2 : 1;
}
