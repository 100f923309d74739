// What a C programmer writes first: one request after the other, no prefetch. Per request: route, kind, address rule, the walk
// with the AND of the permissions, the result word. translate_naive_* look into the IOTLB first and fill it; translate_walking
// has none.
// `format` is a constant where these are called: the compiler makes one walker of each.
#include "walk.h"

/** The result word of a walk from the table at `table`, whose entries span 2^lg2 bytes; *perm is what it grants. */
static inline u64 walk(const u8 *memory, u32 format, u32 table, u32 lg2, u64 iova, u64 need, u64 *perm)
{
  u64 address = format == FORMAT_ARM_S1_4K ? ARM_ADDRESS : ADDRESS;
  u64 tables = ~0ull;
#pragma GCC unroll 4
  for (; lg2 >= 12; lg2 -= 9) {
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
  return REFUSED;
}

/** The result word of request's walk, with the checks that come before it. */
static inline u64 walk_request(const u8 *memory, u32 format, u32 engine, u32 request, u32 route, u64 *perm)
{
  if (!is_translated(memory, request, route)) return REFUSED;
  u32 domain = load32(memory, engine + ENGINE_DOMAINS) + load32(memory, route + ROUTE_DOMAIN) * DOMAIN_BYTES;
  u32 lg2 = 3 + 9 * load32(memory, domain + DOMAIN_LEVELS);
  u64 iova = load64(memory, request + REQUEST_IOVA);
  u32 root = load32(memory, domain + DOMAIN_ROOT);
  u32 need = load32(memory, request + REQUEST_NEED);
  // Tables of four levels get a walk of their own, with constant shifts.
  return lg2 == 39 ? walk(memory, format, root, 39, iova, need, perm) : walk(memory, format, root, lg2, iova, need, perm);
}

u32 translate_walking(u8 *memory, u32 port, u32 n)
{
  struct batch its = batch_of(memory, port);
  u32 refused = 0;
  for (u32 lane = 0; lane < n; lane++) {
    u32 request = its.requests + lane * REQUEST_BYTES;
    u64 perm;
    u64 result = walk_request(memory, FORMAT_VTD_SECOND, its.engine, request, route_of(memory, &its, request), &perm);
    store64(memory, its.results + lane * RESULT_BYTES, result);
    refused += (u32)(result >> RESULT_FAULT_BIT);
  }
  return refused;
}

static inline u64 walk_and_fill(u8 *memory, u32 format, int one_size, u32 engine, u32 port, u32 request, u32 route)
{
  u64 perm = 0;
  u64 result = walk_request(memory, format, engine, request, route, &perm);
  fill_walked(memory, port, request, route, result, perm, one_size);
  return result;
}

#define NAIVE(name, format, one_size) \
  static __attribute__((noinline)) u64 name##_miss(u8 *memory, u32 engine, u32 port, u32 request, u32 route) \
  { \
    return walk_and_fill(memory, format, one_size, engine, port, request, route); \
  } \
  u32 name(u8 *memory, u32 port, u32 n) { return one_by_one(memory, port, n, name##_miss); }

NAIVE(translate_naive_vtd, FORMAT_VTD_SECOND, 1)
NAIVE(translate_naive_mixed, FORMAT_VTD_SECOND, 0)
NAIVE(translate_naive_x86, FORMAT_X86_64, 1)
NAIVE(translate_naive_arm, FORMAT_ARM_S1_4K, 1)
