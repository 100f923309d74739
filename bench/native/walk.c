// What a C programmer writes first: one request after the other, no prefetch. Per request: route, kind, address rule, the walk
// with the AND of the permissions, the result word. translate_naive looks into the IOTLB first and fills it; translate_walking
// has none.
// `format` is a constant where these are called: the compiler makes one walker of each.
#include "walk.h"

/** The result word of a walk from the table at `table`, whose entries span 2^lg2 bytes; *perm is what it grants. */
static inline u64 walk(const u8 *memory, u32 format, u32 table, u32 lg2, u64 iova, u64 need, u64 *perm)
{
  u64 address = format == FORMAT_ARM_S1_4K ? ARM_ADDRESS : ADDRESS;
  u64 tables = ~0ull;
  for (;; lg2 -= 9) {
    u64 pte = load64(memory, table + (((u32)(iova >> lg2) & 511) << 3));
    if (is_empty(format, pte)) return REFUSED;
    if (lg2 == 12 || is_block(format, pte)) {
      u64 inside = (1ull << lg2) - 1;
      *perm = permissions(format, tables, pte);
      if (lg2 > 30 || (pte & address & inside) || (need & ~*perm)) return REFUSED;
      return (pte & address) | (iova & inside) | ((u64)lg2 << RESULT_RUN_SHIFT);
    }
    tables &= grants(format, pte);
    table = (u32)(pte & address);
  }
}

/** The result word of request's walk, with the checks that come before it. */
static inline u64 walk_request(const u8 *memory, u32 format, u32 engine, u32 request, u32 route, u64 *perm)
{
  u64 iova = load64(memory, request + REQUEST_IOVA);
  u64 broken = (iova + load64(memory, route + ROUTE_BIAS)) & load64(memory, route + ROUTE_HIGH);
  if (load32(memory, route + ROUTE_KIND) != ROUTE_TRANSLATE || broken) return REFUSED;
  u32 domain = load32(memory, engine + ENGINE_DOMAINS) + load32(memory, route + ROUTE_DOMAIN) * DOMAIN_BYTES;
  u32 lg2 = 3 + 9 * load32(memory, domain + DOMAIN_LEVELS);
  return walk(memory, format, load32(memory, domain + DOMAIN_ROOT), lg2, iova, load32(memory, request + REQUEST_NEED), perm);
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
    u64 perm;
    u32 route = route_at(routes, mask, load32(memory, request + REQUEST_ROUTE));
    u64 result = walk_request(memory, FORMAT_VTD_SECOND, engine, request, route, &perm);
    store64(memory, results + lane * RESULT_BYTES, result);
    refused += (u32)(result >> RESULT_FAULT_BIT);
  }
  return refused;
}

/** What the IOTLB does not answer. */
static __attribute__((noinline)) u64 walk_and_fill(u8 *memory, u32 format, int mixed, u32 engine, u32 port, u32 request, u32 route)
{
  u64 perm;
  u64 result = walk_request(memory, format, engine, request, route, &perm);
  if (result >> RESULT_FAULT_BIT) return result;
  u64 address = load64(memory, request + REQUEST_IOVA) & load64(memory, route + ROUTE_ADDRESS_MASK);
  u64 class_word = load64(memory, route + ROUTE_FIRST);
  if (mixed) class_word = class_of(class_word, load64(memory, route + ROUTE_SECOND), (u32)(result >> RESULT_RUN_SHIFT) & 0x3f);
  u32 iotlb = load32(memory, port + PORT_IOTLB);
  fill(memory, port, iotlb, load32(memory, port + PORT_HASH_SHIFT), tag_of(class_word, address), result - address + (DATA_VALID | perm));
  return result;
}

/** `mixed`: leaves of several sizes; else the first class holds all of them. */
static inline u32 translate_naive(u8 *memory, u32 format, int mixed, u32 port, u32 n)
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
    if (__builtin_expect(!result, 0)) result = walk_and_fill(memory, format, mixed, engine, port, request, route);
    store64(memory, results + lane * RESULT_BYTES, result);
    refused += (u32)(result >> RESULT_FAULT_BIT);
  }
  return refused;
}

u32 translate_naive_vtd(u8 *memory, u32 port, u32 n) { return translate_naive(memory, FORMAT_VTD_SECOND, 0, port, n); }
u32 translate_naive_mixed(u8 *memory, u32 port, u32 n) { return translate_naive(memory, FORMAT_VTD_SECOND, 1, port, n); }
u32 translate_naive_x86(u8 *memory, u32 port, u32 n) { return translate_naive(memory, FORMAT_X86_64, 0, port, n); }
u32 translate_naive_arm(u8 *memory, u32 port, u32 n) { return translate_naive(memory, FORMAT_ARM_S1_4K, 0, port, n); }
