// The plain walker that a C programmer writes first: one request after the other, no prefetch, no IOTLB. Per request it
// does what a translation needs: route, kind, address rule, the walk with the AND of the permissions, the result word.
// Intel VT-d Architecture Specification, 3.7 and 9.8: second-stage tables, 3 to 5 levels, 4-KiB, 2-MiB and 1-GiB leaves.
#include "engine.h"

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

u32 translate_walking(u8 *memory, u32 port, u32 n)
{
  u32 engine = load32(memory, port + PORT_ENGINE);
  u32 routes = load32(memory, engine + ENGINE_ROUTES);
  u32 mask = load32(memory, engine + ENGINE_ROUTE_MASK);
  u32 domains = load32(memory, engine + ENGINE_DOMAINS);
  u32 requests = load32(memory, port + PORT_REQUESTS);
  u32 results = load32(memory, port + PORT_RESULTS);
  u32 refused = 0;
  for (u32 lane = 0; lane < n; lane++) {
    u32 request = requests + lane * REQUEST_BYTES;
    u64 iova = load64(memory, request + REQUEST_IOVA);
    u32 route = route_at(routes, mask, load32(memory, request + REQUEST_ROUTE));
    u64 result = REFUSED;
    u64 broken = (iova + load64(memory, route + ROUTE_BIAS)) & load64(memory, route + ROUTE_HIGH);
    if (load32(memory, route + ROUTE_KIND) == ROUTE_TRANSLATE && !broken) {
      u32 domain = domains + load32(memory, route + ROUTE_DOMAIN) * DOMAIN_BYTES;
      u32 lg2 = 3 + 9 * load32(memory, domain + DOMAIN_LEVELS);
      result = walk(memory, load32(memory, domain + DOMAIN_ROOT), lg2, iova, load32(memory, request + REQUEST_NEED));
    }
    store64(memory, results + lane * RESULT_BYTES, result);
    refused += (u32)(result >> RESULT_FAULT_BIT);
  }
  return refused;
}
