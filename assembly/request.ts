// Accessors of the records that every lane passes through: request, route, domain. Imports layout only.
import {
  DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_HALVES, DOMAIN_STAGE2, DOMAIN_UPPER,
  ENGINE_DOMAINS, ENGINE_ROUTE_MASK, ENGINE_ROUTES, HALF_BIT, PERM_MASK, PORT_ENGINE, REQUEST_IOVA, REQUEST_NEED,
  REQUEST_ROUTE, ROUTE_BYTES, ROUTE_DOMAIN, ROUTE_NONE,
} from "./layout";

@unmanaged
export abstract class Request {
  @inline static at(requests: usize, lane: u32): usize { return requests + (<usize>lane << 4); }
  @inline static iova(request: usize): u64 { return load<u64>(request, REQUEST_IOVA); }
  @inline static need(request: usize): u32 { return load<u32>(request, REQUEST_NEED); }
  /** The wanted access has no bit that means nothing. */
  @inline static wellFormed(request: usize): bool { return !(Request.need(request) & ~<u32>PERM_MASK); }
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
    return Domain.at(domains, load<u32>(route, ROUTE_DOMAIN));
  }
}

@unmanaged
export abstract class Domain {
  @inline static at(domains: u32, index: u32): usize { return domains + index * <u32>DOMAIN_BYTES; }

  @inline static stage2(engine: usize, domain: usize): usize {
    return Domain.at(load<u32>(engine, ENGINE_DOMAINS), load<u32>(domain, DOMAIN_STAGE2));
  }

  /** The record whose root, levels and address rule hold for iova: the domain's own, or its upper half's. */
  @inline static half(engine: usize, domain: usize, iova: u64): usize {
    return load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_HALVES && (iova >> HALF_BIT) & 1
      ? Domain.at(load<u32>(engine, ENGINE_DOMAINS), load<u32>(domain, DOMAIN_UPPER))
      : domain;
  }
}
