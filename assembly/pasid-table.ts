// PASID tables as the host sees them: made with the pool of their entries, attached to rids, and told of what the guest has
// changed. What ports do with them is pasid/resolve.ts. Imports layout, change, domain, attach, invalidate, pool, route.
import {
  DOMAIN_BUSY, DOMAIN_BYTES, DOMAIN_NONE, DOMAIN_POOL_NEXT, DOMAIN_STALLED, DOMAIN_STATE, DOMAIN_TABLE, DOMAIN_UPPER,
  DOMAIN_VACANT, ENGINE_PASID_TABLE_CAPACITY, NO_PASID, PASID_TABLE_BITS, PASID_TABLE_BYTES, PASID_TABLE_FLAGS, PASID_TABLE_KIND,
  PASID_TABLE_LAYOUT, PASID_TABLE_OUTPUT_LG2, PASID_TABLE_POOL, PASID_TABLE_ROOT, PASID_TABLE_STAGE2, PASID_TABLE_STATE,
  PASID_TABLE_USERS, PASID_TABLE_WITHOUT, PASID_WITHOUT_BYPASS, ROUTE_TABLE, STATUS_ATTACHED, STATUS_BUSY, STATUS_MISMATCH, STATUS_OK,
  STATUS_STALLED,
} from "./layout";
import { lead } from "./attach";
import { beginBeside, begin, end, settle } from "./change";
import { beginFlush, domainAt, freeDomain, setFree } from "./domain";
import { flush, invalidate, reserveIds, takeIds } from "./invalidate";
import { blockPasids, dropEntries, findEntry, leaveTable, recordOf, recordsOf, tableAt } from "./pasid/pool";
import { block, routeAt, routePasid, routeRid } from "./route";
import { failsNow } from "./table/frames";

/**
 * Makes a table with room for `cache` entries: its index, DOMAIN_NONE (all tables, or domains for the pool, are taken),
 * DOMAIN_BUSY or DOMAIN_STALLED. The caller checks the arguments. Nobody is waited for: no route leads to it yet.
 */
export function createPasidTable(
  engine: usize, kind: u32, root: u64, bits: u32, layout: u32, without: u32, stage2: u32, outputLg2: u32, flags: u32, cache: u32,
): u32 {
  const status = beginBeside(engine);
  if (status != STATUS_OK) return status == STATUS_BUSY ? DOMAIN_BUSY : DOMAIN_STALLED;
  let index: u32 = DOMAIN_STALLED;
  if (reserveIds(engine)) {
    index = freeTable(engine);
    if (index != DOMAIN_NONE) {
      const table = tableAt(engine, index);
      memory.fill(table, 0, PASID_TABLE_BYTES);
      store<u32>(table, kind, PASID_TABLE_KIND);
      store<u64>(table, root, PASID_TABLE_ROOT);
      store<u32>(table, bits, PASID_TABLE_BITS);
      store<u32>(table, layout, PASID_TABLE_LAYOUT);
      store<u32>(table, without, PASID_TABLE_WITHOUT);
      store<u32>(table, stage2, PASID_TABLE_STAGE2);
      store<u32>(table, outputLg2, PASID_TABLE_OUTPUT_LG2);
      store<u32>(table, flags, PASID_TABLE_FLAGS);
      store<u32>(table, 1, PASID_TABLE_STATE);
      if (!makePool(engine, index, cache)) {
        freeTableAt(engine, table);
        index = DOMAIN_NONE;
      }
    }
  }
  end(engine);
  return index;
}

function freeTable(engine: usize): u32 {
  const capacity = load<u32>(engine, ENGINE_PASID_TABLE_CAPACITY);
  for (let i: u32 = 0; i < capacity; i++) {
    if (!load<u32>(tableAt(engine, i), PASID_TABLE_STATE)) return failsNow(engine) ? DOMAIN_NONE : i;
  }
  return DOMAIN_NONE;
}

/** A vacant record of that table's, with ids: 1 + its index, 0 if no domain is free. */
function makeRecord(engine: usize, number: u32): u32 {
  const index = freeDomain(engine);
  if (index == DOMAIN_NONE || failsNow(engine)) return 0;
  const record = domainAt(engine, index);
  memory.fill(record, 0, DOMAIN_BYTES);
  store<u32>(record, number, DOMAIN_TABLE);
  store<u32>(record, DOMAIN_VACANT, DOMAIN_STATE);
  takeIds(engine, record);
  return index + 1;
}

function makePool(engine: usize, index: u32, cache: u32): bool {
  const table = tableAt(engine, index);
  for (; cache; cache--) {
    const entry = makeRecord(engine, index + 1);
    if (!entry) return false;
    const record = recordOf(engine, entry);
    store<u32>(record, load<u32>(table, PASID_TABLE_POOL), DOMAIN_POOL_NEXT);
    store<u32>(table, entry, PASID_TABLE_POOL);
    if (recordsOf(table) == 1) continue;
    const upper = makeRecord(engine, index + 1);
    // Without one it names itself: what is freed then is freed twice.
    store<u32>(record, (upper ? upper : entry) - 1, DOMAIN_UPPER);
    if (!upper) return false;
  }
  return true;
}

/** Gives the table and its pool, of which nothing is published, back. */
function freeTableAt(engine: usize, table: usize): void {
  let entry = recordOf(engine, load<u32>(table, PASID_TABLE_POOL));
  for (; entry; entry = recordOf(engine, load<u32>(entry, DOMAIN_POOL_NEXT))) {
    if (recordsOf(table) == 2) {
      store<u32>(domainAt(engine, load<u32>(entry, DOMAIN_UPPER)), 0, DOMAIN_TABLE);
      setFree(engine, domainAt(engine, load<u32>(entry, DOMAIN_UPPER)));
    }
    store<u32>(entry, 0, DOMAIN_TABLE);
    setFree(engine, entry);
  }
  store<u32>(table, 0, PASID_TABLE_STATE);
}

/** STATUS_OK, also of one that is gone; STATUS_ATTACHED while a rid uses it; or a STATUS_* of `begin`. */
export function destroyPasidTable(engine: usize, index: u32): u32 {
  const status = begin(engine);
  if (status != STATUS_OK) return status;
  const table = tableAt(engine, index);
  let answer = load<u32>(table, PASID_TABLE_USERS) && load<u32>(table, PASID_TABLE_STATE) ? STATUS_ATTACHED : STATUS_OK;
  if (answer == STATUS_OK && load<u32>(table, PASID_TABLE_STATE)) {
    freeTableAt(engine, table);
    if (!settle(engine)) answer = STATUS_STALLED;
  }
  end(engine);
  return answer;
}

/**
 * The table says from now on where all DMA of the rid goes that the route, one without PASID, stands for: STATUS_OK,
 * STATUS_MISMATCH (no such table, or a route with a PASID), or a STATUS_* of `beginFlush`. What its PASIDs led to before, they
 * do not any more. After STATUS_STALLED the call may be made again.
 */
export function attachPasidTable(engine: usize, route: u32, index: u32): u32 {
  if (!load<u32>(tableAt(engine, index), PASID_TABLE_STATE) || routePasid(engine, route) != NO_PASID) return STATUS_MISMATCH;
  const status = beginFlush(engine);
  if (status != STATUS_OK) return status;
  const done = attach(engine, route, index);
  end(engine);
  return done ? STATUS_OK : STATUS_STALLED;
}

function attach(engine: usize, route: u32, index: u32): bool {
  const table = tableAt(engine, index);
  leaveTable(engine, route);
  block(engine, route);
  blockPasids(engine, routeRid(engine, route));
  if (!settle(engine)) return false;
  if (load<u32>(table, PASID_TABLE_WITHOUT) == PASID_WITHOUT_BYPASS && !lead(engine, route, load<u32>(table, PASID_TABLE_STAGE2))) return false;
  store<u32>(table, load<u32>(table, PASID_TABLE_USERS) + 1, PASID_TABLE_USERS);
  atomic.store<u32>(routeAt(engine, route), index + 1, ROUTE_TABLE);
  return true;
}

/**
 * The guest has changed the entry of a PASID, or any (NO_PASID): nothing goes by what was read before when this returns STATUS_OK.
 * Or a STATUS_* of `beginFlush`.
 */
export function dropPasids(engine: usize, index: u32, pasid: u32): u32 {
  const status = beginFlush(engine);
  if (status != STATUS_OK) return status;
  dropEntries(engine, index, pasid);
  const settled = settle(engine);
  end(engine);
  return settled ? STATUS_OK : STATUS_STALLED;
}

/**
 * The guest has changed [first..last] of the tables of a PASID, or any of it (`whole`). What is not published is not cached: then
 * only the sections that may have walked it are waited for. STATUS_OK, or a STATUS_* of `beginFlush`.
 */
export function invalidatePasid(engine: usize, index: u32, pasid: u32, first: u64, last: u64, whole: bool): u32 {
  const status = beginFlush(engine);
  if (status != STATUS_OK) return status;
  const entry = findEntry(engine, tableAt(engine, index), pasid);
  if (entry && whole) flush(engine, entry);
  const settled = entry && !whole ? invalidate(engine, entry, first, last) : settle(engine);
  end(engine);
  return settled ? STATUS_OK : STATUS_STALLED;
}
