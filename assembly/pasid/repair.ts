// A thread may end while one of its ports publishes an entry: then nobody knows how far it has come. Every pool is emptied, and
// the lists of routes, and the users of each stage 2, are made anew from what routes and records say. Imports layout, pool, route.
import {
  DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_LIVE, DOMAIN_NESTED, DOMAIN_POOL_NEXT, DOMAIN_ROUTES, DOMAIN_STAGE2, DOMAIN_STATE, DOMAIN_TABLE, DOMAIN_UPPER, DOMAIN_USERS, DOMAIN_VACANT,
  ENGINE_DOMAIN_CAPACITY, ENGINE_DOMAINS, ENGINE_PASID_TABLE_CAPACITY, ENGINE_ROUTE_MASK, NO_PASID, PASID_TABLE_POOL, PASID_TABLE_STATE,
  ROUTE_BLOCKED, ROUTE_DOMAIN, ROUTE_FIRST, ROUTE_KIND, ROUTE_NO_CLASS, ROUTE_SECOND, ROUTE_TRANSLATE,
} from "../layout";
import { takeIds } from "../invalidate";
import { Domain } from "../request";
import { enlist, governing, routeAt, routePasid } from "../route";
import { recordOf, recordsOf, stage2Of, tableAt } from "./pool";

/** Blocks what tables have led, and puts every other route that translates into its domain's list. */
function relist(engine: usize): void {
  const domains = load<u32>(engine, ENGINE_DOMAINS);
  const end = Domain.at(domains, load<u32>(engine, ENGINE_DOMAIN_CAPACITY));
  for (let domain = <usize>domains; domain < end; domain += DOMAIN_BYTES) store<u32>(domain, 0, DOMAIN_ROUTES);
  for (let index = load<u32>(engine, ENGINE_ROUTE_MASK); index; index--) {
    const route = routeAt(engine, index);
    if (load<u32>(route, ROUTE_KIND) != ROUTE_TRANSLATE) continue;
    const domain = Domain.at(domains, load<u32>(route, ROUTE_DOMAIN));
    if (load<u32>(domain, DOMAIN_TABLE) || (routePasid(engine, index) != NO_PASID && governing(engine, index))) {
      atomic.store<u64>(route, ROUTE_NO_CLASS, ROUTE_FIRST);
      atomic.store<u64>(route, ROUTE_NO_CLASS, ROUTE_SECOND);
      atomic.store<u32>(route, ROUTE_BLOCKED, ROUTE_KIND);
    } else {
      enlist(engine, index, domain);
    }
  }
}

/** Makes every record of the pool vacant. */
function empty(engine: usize, table: usize): void {
  let entry = recordOf(engine, load<u32>(table, PASID_TABLE_POOL));
  for (; entry; entry = recordOf(engine, load<u32>(entry, DOMAIN_POOL_NEXT))) {
    store<u32>(entry, DOMAIN_VACANT, DOMAIN_STATE);
    takeIds(engine, entry);
    if (recordsOf(table) == 1) continue;
    const upper = recordOf(engine, load<u32>(entry, DOMAIN_UPPER) + 1);
    store<u32>(upper, DOMAIN_VACANT, DOMAIN_STATE);
    store<u32>(upper, 0, DOMAIN_USERS);
  }
}

function recount(engine: usize, stage2: usize): void {
  const domains = load<u32>(engine, ENGINE_DOMAINS);
  const end = Domain.at(domains, load<u32>(engine, ENGINE_DOMAIN_CAPACITY));
  let users: u32 = 0;
  for (let domain = <usize>domains; domain < end; domain += DOMAIN_BYTES) {
    if (load<u32>(domain, DOMAIN_STATE) != DOMAIN_LIVE || !(load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_NESTED)) continue;
    if (Domain.at(domains, load<u32>(domain, DOMAIN_STAGE2)) == stage2) users++;
  }
  store<u32>(stage2, users, DOMAIN_USERS);
}

/** The lock is the host's. Afterwards no entry of any table is published. */
export function repairPools(engine: usize): void {
  relist(engine);
  const capacity = load<u32>(engine, ENGINE_PASID_TABLE_CAPACITY);
  for (let n: u32 = 0; n < capacity; n++) if (load<u32>(tableAt(engine, n), PASID_TABLE_STATE)) empty(engine, tableAt(engine, n));
  for (let n: u32 = 0; n < capacity; n++) {
    if (load<u32>(tableAt(engine, n), PASID_TABLE_STATE)) recount(engine, stage2Of(engine, tableAt(engine, n)));
  }
}
