// Accessors of the records that every lane passes through: request, route, domain. Imports layout only.
import {
  DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_GUEST, ENGINE_ROUTE_MASK, ENGINE_ROUTES, PORT_ENGINE,
  REQUEST_IOVA, REQUEST_NEED, REQUEST_ROUTE, ROUTE_BYTES, ROUTE_DOMAIN, ROUTE_NONE,
} from "./layout";

@unmanaged
export abstract class Request {
  @inline static at(requests: usize, lane: u32): usize { return requests + (<usize>lane << 4); }
  @inline static iova(request: usize): u64 { return load<u64>(request, REQUEST_IOVA); }
  @inline static need(request: usize): u32 { return load<u32>(request, REQUEST_NEED); }
  @inline static route(request: usize): u32 { return load<u32>(request, REQUEST_ROUTE); }
}

@unmanaged
export abstract class Route {
  /** Record of route `index`; an index outside the table is route 0, which is always blocked. */
  @inline static at(routes: usize, mask: u32, index: u32): usize {
    return routes + (<usize>select<u32>(index, ROUTE_NONE, index <= mask)) * ROUTE_BYTES;
  }

  @inline static of(port: usize, request: usize): usize {
    const engine = <usize>load<u32>(port, PORT_ENGINE);
    return Route.at(load<u32>(engine, ENGINE_ROUTES), load<u32>(engine, ENGINE_ROUTE_MASK), Request.route(request));
  }

  /** Domain record of a translating route; `domains` is the address of the first. */
  @inline static domain(domains: u32, route: usize): usize {
    return domains + load<u32>(route, ROUTE_DOMAIN) * <u32>DOMAIN_BYTES;
  }
}

/** A batch walker's number is (format << 1) | DOMAIN_GUEST. */
@unmanaged
export abstract class Walker {
  @inline static of(domain: usize): u32 {
    return (load<u32>(domain, DOMAIN_FORMAT) << 1) | (load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST);
  }

  /** The stage that a fault of this walk belongs to: a guest owns stage 1, the kernel stage 2. */
  @inline static stage(domain: usize): u32 {
    return load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST ? 1 : 2;
  }
}
