// DMA whose route leads nowhere yet, though its rid has a PASID table: the entry is read, and published, so that the next access
// is a matter of the IOTLB. A publication takes the lock that changes take, or is left for another time: it lies wholly before or
// after every change. A change waits for the sections that were open before it, so that what is published afterwards was read
// afterwards. Imports layout, change, decoders, pool, route.
import {
  DOMAIN_BYTES, ENGINE_DOMAIN_CAPACITY, ENGINE_DOMAINS, ENGINE_EPOCH, NO_PASID, PASID_TABLE_BITS, PASID_TABLE_GCR3, PASID_TABLE_KIND, PASID_TABLE_SMMUV3, PASID_TABLE_VTD, PASID_TABLE_WITHOUT,
  PASID_WITHOUT_ZERO, ROUTE_ADDRESS_MASK, ROUTE_BIAS, ROUTE_BLOCKED, ROUTE_DOMAIN, ROUTE_HIGH, ROUTE_KIND, ROUTE_STREAK,
} from "../layout";
import { beginPublishing, end, othersOver } from "../change";
import { domainAt } from "../domain";
import { REASON_BLOCKED, REASON_PASID_RANGE } from "../fault";
import { Route } from "../request";
import { governing, link, routeAt, routePasid, setRule } from "../route";
import { ENTRY_PASS, ENTRY_REFUSED, refuseEntry, scratchOf } from "./entry";
import { decodeGcr3 } from "./gcr3";
import { fillEntry, findEntry, servedBy, stage2Of, tableAt } from "./pool";
import { decodeSmmuv3 } from "./smmuv3";
import { decodeVtd } from "./vtd";

/** Is the record one with ids, and no scratch record? */
export function inPool(engine: usize, domain: usize): bool {
  return domain < domainAt(engine, load<u32>(engine, ENGINE_DOMAIN_CAPACITY));
}

/** Is the PASID of a request beyond the table? Where the SMMU gives substream 0 to DMA without one, it is nobody else's (5.2, S1DSS). */
function isBeyond(table: usize, pasid: u32): bool {
  const bits = load<u32>(table, PASID_TABLE_BITS);
  if (pasid >= <u32>1 << bits) return true;
  return load<u32>(table, PASID_TABLE_KIND) == PASID_TABLE_SMMUV3 && pasid == 0
    && (bits == 0 || load<u32>(table, PASID_TABLE_WITHOUT) == PASID_WITHOUT_ZERO);
}

function decode(engine: usize, port: usize, table: usize, pasid: u32, scratch: usize): u32 {
  const kind = load<u32>(table, PASID_TABLE_KIND);
  if (kind == PASID_TABLE_VTD) return decodeVtd(engine, port, table, pasid, scratch);
  return kind == PASID_TABLE_GCR3 ? decodeGcr3(engine, port, table, pasid, scratch) : decodeSmmuv3(engine, port, table, pasid, scratch);
}

/**
 * Leads a blocked route to the domain, under the lock. Ports read a route's words in any order: one that sees its ids must not
 * apply the rule that was there before. With ids that nobody has used (`fresh`) it finds nothing under them, and fills only
 * what it has read after the kind. Otherwise the rule is written first, and the route led once the sections have ended that were
 * open then: at this miss or at a later one. False: not yet.
 */
function leadTo(engine: usize, port: usize, index: u32, domain: usize, fresh: bool): bool {
  const route = routeAt(engine, index);
  const bias = load<u64>(route, ROUTE_BIAS);
  const high = load<u64>(route, ROUTE_HIGH);
  const mask = load<u64>(route, ROUTE_ADDRESS_MASK);
  setRule(engine, domain, route);
  if (isDefined(SHARED)) {
    if (!fresh) {
      const same = load<u64>(route, ROUTE_BIAS) == bias && load<u64>(route, ROUTE_HIGH) == high && load<u64>(route, ROUTE_ADDRESS_MASK) == mask;
      if (!same || !load<u32>(route, ROUTE_STREAK)) store<u32>(route, atomic.add<u32>(engine, 2, ENGINE_EPOCH) + 2, ROUTE_STREAK);
      if (!othersOver(engine, port, load<u32>(route, ROUTE_STREAK))) return false;
    }
  }
  store<u32>(route, <u32>(domain - load<u32>(engine, ENGINE_DOMAINS)) / DOMAIN_BYTES, ROUTE_DOMAIN);
  store<u32>(route, 0, ROUTE_STREAK);
  link(engine, index, domain);
  return true;
}

/** Leads the route to what is published for its PASID already; 0 if nothing is, or if this is not the time. */
function leadToPublished(engine: usize, port: usize, table: usize, index: u32, pasid: u32): usize {
  if (!beginPublishing(engine, port)) return 0;
  let domain = whereLed(engine, index);
  if (!domain) {
    domain = findEntry(engine, table, pasid);
    if (domain) leadTo(engine, port, index, domain, false);
  }
  end(engine);
  return domain;
}

/** Where another port has led the route meanwhile; 0 if it is blocked still. */
function whereLed(engine: usize, index: u32): usize {
  const route = routeAt(engine, index);
  return load<u32>(route, ROUTE_KIND) == ROUTE_BLOCKED ? 0 : Route.domain(load<u32>(engine, ENGINE_DOMAINS), route);
}

/** Publishes what was read: a stage 1 in the scratch record, or stage 2 alone. The domain to walk: the record, if that is full or locked. */
function publish(engine: usize, port: usize, table: usize, index: u32, pasid: u32, read: usize): usize {
  if (!beginPublishing(engine, port)) return read;
  let domain = whereLed(engine, index);
  if (!domain) domain = publishFor(engine, port, table, index, pasid, read);
  end(engine);
  return domain;
}

function publishFor(engine: usize, port: usize, table: usize, index: u32, pasid: u32, read: usize): usize {
  if (inPool(engine, read)) {
    leadTo(engine, port, index, read, false);
    return read;
  }
  let entry = findEntry(engine, table, pasid);
  const fresh = entry == 0;
  if (fresh) entry = fillEntry(engine, table, pasid, read);
  if (!entry) return read;
  leadTo(engine, port, index, entry, fresh);
  return entry;
}

/**
 * The domain that serves a blocked route whose rid has a PASID table; 0 if none does: the port's walk record says why. Inside
 * the port's section.
 */
export function resolvePasid(engine: usize, port: usize, index: u32): usize {
  const number = governing(engine, index);
  if (!number) return refuseEntry(port, REASON_BLOCKED, 0, 0);
  const table = tableAt(engine, number - 1);
  const pasid = servedBy(engine, table, index);
  if (pasid == NO_PASID) return refuseEntry(port, REASON_BLOCKED, 0, 0);
  if (routePasid(engine, index) != NO_PASID && isBeyond(table, pasid)) return refuseEntry(port, REASON_PASID_RANGE, 0, 0);
  const published = leadToPublished(engine, port, table, index, pasid);
  if (published) return published;
  const scratch = scratchOf(engine, port);
  const entry = decode(engine, port, table, pasid, scratch);
  if (entry == ENTRY_REFUSED) return 0;
  return publish(engine, port, table, index, pasid, entry == ENTRY_PASS ? stage2Of(engine, table) : scratch);
}
