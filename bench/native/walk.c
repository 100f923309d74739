// What a C programmer writes first: one request after the other, no prefetch. Per request: route, kind, address rule, the walk
// with the AND of the permissions, the result word. translate_naive looks into the IOTLB first and fills it; translate_walking
// has none.
// Intel VT-d Architecture Specification, 3.7 and 9.8: second-stage tables, 3 to 5 levels, 4-KiB, 2-MiB and 1-GiB leaves.
#include "engine.h"
#include "lookup.h"

#define ADDRESS 0x000ffffffffff000ull
#define READ_WRITE 3ull
#define PAGE_SIZE 0x80ull
#define REFUSED (1ull << RESULT_FAULT_BIT)

/** The result word of a walk from the table at `table`, whose entries span 2^lg2 bytes. */
static inline u64 walk(const u8 *memory, u32 table, u32 lg2, u64 iova, u64 need)
{
  u64 perm = READ_WRITE;
  for (;; lg2 -= 9) {
    u64 pte = load64(memory, table + (((u32)(iova >> lg2) & 511) << 3));
    if (!(pte & READ_WRITE)) return REFUSED;
    perm &= pte;
    if (lg2 == 12 || (pte & PAGE_SIZE)) {
      u64 inside = (1ull << lg2) - 1;
      if (lg2 > 30 || (pte & ADDRESS & inside) || (need & ~perm)) return REFUSED;
      return (pte & ADDRESS) | (iova & inside) | ((u64)lg2 << RESULT_RUN_SHIFT);
    }
    table = (u32)(pte & ADDRESS);
  }
}

/** The result word of request's walk, with the checks that come before it. */
static inline u64 walk_request(const u8 *memory, u32 engine, u32 request, u32 route)
{
  u64 iova = load64(memory, request + REQUEST_IOVA);
  u64 broken = (iova + load64(memory, route + ROUTE_BIAS)) & load64(memory, route + ROUTE_HIGH);
  if (load32(memory, route + ROUTE_KIND) != ROUTE_TRANSLATE || broken) return REFUSED;
  u32 domain = load32(memory, engine + ENGINE_DOMAINS) + load32(memory, route + ROUTE_DOMAIN) * DOMAIN_BYTES;
  u32 lg2 = 3 + 9 * load32(memory, domain + DOMAIN_LEVELS);
  return walk(memory, load32(memory, domain + DOMAIN_ROOT), lg2, iova, load32(memory, request + REQUEST_NEED));
}

u32 translate_walking(u8 *memory, u32 port, u32 n)
{
  u32 engine = load32(memory, port + PORT_ENGINE);
  u32 routes = load32(memory, engine + ENGINE_ROUTES);
  u32 mask = load32(memory, engine + ENGINE_ROUTE_MASK);
  u32 requests = load32(memory, port + PORT_REQUESTS);
  u32 results = load32(memory, port + PORT_RESULTS);
  u32 refused = 0;
  for (u32 lane = 0; lane < n; lane++) {
    u32 request = requests + lane * REQUEST_BYTES;
    u64 result = walk_request(memory, engine, request, route_at(routes, mask, load32(memory, request + REQUEST_ROUTE)));
    store64(memory, results + lane * RESULT_BYTES, result);
    refused += (u32)(result >> RESULT_FAULT_BIT);
  }
  return refused;
}

/** Enters a walked 4-KiB page in the IOTLB: over its own tag, in an empty way, or over the next victim. */
static inline void fill(u8 *memory, u32 port, u32 iotlb, u32 hash_shift, u64 tag, u64 data)
{
  u32 set = set_of(iotlb, hash_shift, tag);
  u32 chosen = 4;
  for (u32 way = 0; way < 4; way++) {
    if (load64(memory, set + way * 8) == tag) { chosen = way; break; }
    if (chosen == 4 && !load64(memory, set + IOTLB_DATA + way * 8)) chosen = way;
  }
  if (chosen == 4) {
    u32 next = load32(memory, port + PORT_VICTIM);
    store32(memory, port + PORT_VICTIM, next + 1);
    chosen = next & 3;
  }
  store64(memory, set + chosen * 8, tag);
  store64(memory, set + IOTLB_DATA + chosen * 8, data);
}

u32 translate_naive(u8 *memory, u32 port, u32 n)
{
  u32 engine = load32(memory, port + PORT_ENGINE);
  u32 routes = load32(memory, engine + ENGINE_ROUTES);
  u32 mask = load32(memory, engine + ENGINE_ROUTE_MASK);
  u32 iotlb = load32(memory, port + PORT_IOTLB);
  u32 hash_shift = load32(memory, port + PORT_HASH_SHIFT);
  u32 requests = load32(memory, port + PORT_REQUESTS);
  u32 results = load32(memory, port + PORT_RESULTS);
  u32 refused = 0;
  for (u32 lane = 0; lane < n; lane++) {
    u32 request = requests + lane * REQUEST_BYTES;
    u32 route = route_at(routes, mask, load32(memory, request + REQUEST_ROUTE));
    u64 iova = load64(memory, request + REQUEST_IOVA);
    u64 result = lookup(memory, route, iotlb, hash_shift, iova, load32(memory, request + REQUEST_NEED));
    if (!result) {
      result = walk_request(memory, engine, request, route);
      // Tables of 4-KiB leaves only: the first class holds them.
      u64 tag = tag_of(load64(memory, route + ROUTE_FIRST), iova, load64(memory, route + ROUTE_ADDRESS_MASK));
      if (!(result >> RESULT_FAULT_BIT)) fill(memory, port, iotlb, hash_shift, tag, (result & ~0xfffull) | DATA_VALID | READ_WRITE);
    }
    store64(memory, results + lane * RESULT_BYTES, result);
    refused += (u32)(result >> RESULT_FAULT_BIT);
  }
  return refused;
}
