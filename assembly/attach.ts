// Attach and detach: where a route leads, changed by the host while ports use it. Imports layout, change, route, the pools of
// PASID tables.
import {
  DOMAIN_BYTES, ENGINE_DOMAINS, NO_PASID, ROUTE_BLOCKED, ROUTE_DOMAIN, ROUTE_IDENTITY, ROUTE_KIND, ROUTE_STREAK, STATUS_ATTACHED, STATUS_OK,
  STATUS_STALLED,
} from "./layout";
import { end, settle } from "./change";
import { beginFlush } from "./domain";
import { leaveTable } from "./pasid/pool";
import { block, governing, link, routeAt, routePasid, setRule } from "./route";

/**
 * Blocks the route and waits for the DMA that still goes where it led; false if a port stalls. That of a rid with a PASID table
 * leaves the table, and what was led by the table is blocked with it.
 */
export function vacate(engine: usize, index: u32): bool {
  const left = leaveTable(engine, index);
  if (!left && load<u32>(routeAt(engine, index), ROUTE_KIND) == ROUTE_BLOCKED) return true;
  block(engine, index);
  return settle(engine);
}

/** STATUS_OK, or a STATUS_* of `beginFlush`; STATUS_STALLED also if it is blocked by now, but a port may still use what it led to. */
export function blockRoute(engine: usize, index: u32): u32 {
  const status = beginFlush(engine);
  if (status != STATUS_OK) return status;
  const settled = vacate(engine, index);
  end(engine);
  return settled ? STATUS_OK : STATUS_STALLED;
}

/** `beginFlush`, unless where the route leads is for the PASID table of its rid to say: then STATUS_ATTACHED. */
function beginLeading(engine: usize, index: u32): u32 {
  if (routePasid(engine, index) != NO_PASID && governing(engine, index)) return STATUS_ATTACHED;
  return beginFlush(engine);
}

/** As blockRoute; afterwards DMA of the route is not translated. */
export function identityRoute(engine: usize, index: u32): u32 {
  const status = beginLeading(engine, index);
  if (status != STATUS_OK) return status;
  const settled = vacate(engine, index);
  if (settled) atomic.store<u32>(routeAt(engine, index), ROUTE_IDENTITY, ROUTE_KIND);
  end(engine);
  return settled ? STATUS_OK : STATUS_STALLED;
}

/**
 * Sends the route to a domain. One that leads elsewhere is moved: no section sees both. A section that sees the class words
 * began after the rule was written, so that it sees the rule too, with plain loads.
 */
export function lead(engine: usize, index: u32, domainIndex: u32): bool {
  if (!vacate(engine, index)) return false;
  const route = routeAt(engine, index);
  const domain = <usize>(load<u32>(engine, ENGINE_DOMAINS) + domainIndex * <u32>DOMAIN_BYTES);
  store<u32>(route, domainIndex, ROUTE_DOMAIN);
  setRule(engine, domain, route);
  store<u32>(route, 0, ROUTE_STREAK);
  if (!settle(engine)) return false;
  link(engine, index, domain);
  return true;
}

/** `lead`: STATUS_OK, or a STATUS_* of `beginLeading`; STATUS_STALLED also if the route is blocked by now. */
export function attachRoute(engine: usize, index: u32, domainIndex: u32): u32 {
  const status = beginLeading(engine, index);
  if (status != STATUS_OK) return status;
  const settled = lead(engine, index, domainIndex);
  end(engine);
  return settled ? STATUS_OK : STATUS_STALLED;
}
