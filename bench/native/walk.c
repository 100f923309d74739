// What a C programmer writes first: one request after the other, no prefetch. Per request: route, kind, address rule, the walk
// with the AND of the permissions, the result word. translate_naive looks into the IOTLB first and fills it; translate_walking
// has none.
// Three formats: VT-d second stage (VT-d specification, 3.7 and 9.8), x86-64 (SDM volume 3, 4.5) and Armv8 stage 1 with 4-KiB
// pages (Arm ARM, D8.3); 4-KiB, 2-MiB and 1-GiB leaves. `format` is a constant where these are called: the compiler makes one
// walker of each.
#include "engine.h"
#include "lookup.h"

#define ADDRESS 0x000ffffffffff000ull
#define ARM_ADDRESS 0x0000fffffffff000ull
#define READ_WRITE 3ull
#define BOTH 0x11ull
#define REFUSED (1ull << RESULT_FAULT_BIT)

/** Is there no entry? */
static inline int is_empty(u32 format, u64 pte)
{
  return format == FORMAT_VTD_SECOND ? !(pte & READ_WRITE) : !(pte & 1);
}

/** Is the entry above the leaf table a leaf? */
static inline int is_block(u32 format, u64 pte)
{
  return format == FORMAT_ARM_S1_4K ? !(pte & 2) : (pte & 0x80) != 0;
}

/** What the entry adds to the path: `permissions` reads all of them, joined by AND. */
static inline u64 grants(u32 format, u64 pte)
{
  if (format == FORMAT_ARM_S1_4K) return ~((pte >> 59) & 15);
  return format == FORMAT_X86_64 ? pte ^ (1ull << 63) : pte;
}

/** L.PERM_* of a leaf below what the tables grant. */
static inline u64 permissions(u32 format, u64 tables, u64 pte)
{
  if (format == FORMAT_VTD_SECOND) return (tables & pte & READ_WRITE) * BOTH;
  if (format == FORMAT_X86_64) {
    u64 all = tables & grants(format, pte);
    u64 data = 1 | (all & 2) | ((all >> 61) & 4);
    return (all & 4 ? data : 0) | ((3 | ((all >> 61) & 4)) << 4);
  }
  u64 denied = ~tables;
  u64 write = !(pte & 0x80) && !(denied & 8) ? 2 : 0;
  int open = (pte & 0x40) && !(denied & 4);
  u64 user = (open ? 1 | write : 0) | ((pte >> 54) & 1 || denied & 2 ? 0 : 4);
  int never = ((pte >> 53) & 1) || denied & 1 || (open && write);
  return user | ((1 | write | (never ? 0 : 4)) << 4);
}

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

static inline u32 translate_naive(u8 *memory, u32 format, u32 port, u32 n)
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
      u64 perm;
      result = walk_request(memory, format, engine, request, route, &perm);
      // Tables of 4-KiB leaves only: the first class holds them.
      u64 address = iova & load64(memory, route + ROUTE_ADDRESS_MASK);
      u64 tag = tag_of(load64(memory, route + ROUTE_FIRST), address);
      if (!(result >> RESULT_FAULT_BIT)) fill(memory, port, iotlb, hash_shift, tag, result - address + (DATA_VALID | perm));
    }
    store64(memory, results + lane * RESULT_BYTES, result);
    refused += (u32)(result >> RESULT_FAULT_BIT);
  }
  return refused;
}

u32 translate_naive_vtd(u8 *memory, u32 port, u32 n) { return translate_naive(memory, FORMAT_VTD_SECOND, port, n); }
u32 translate_naive_x86(u8 *memory, u32 port, u32 n) { return translate_naive(memory, FORMAT_X86_64, port, n); }
u32 translate_naive_arm(u8 *memory, u32 port, u32 n) { return translate_naive(memory, FORMAT_ARM_S1_4K, port, n); }
