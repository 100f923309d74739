// What walkers share: the entries of three formats, and the fill of the IOTLB.
// VT-d second stage (VT-d specification, 3.7 and 9.8), x86-64 (SDM volume 3, 4.5) and Armv8 stage 1 with 4-KiB pages (Arm ARM,
// D8.3); 4-KiB, 2-MiB and 1-GiB leaves.
#pragma once
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

/** The class of a leaf of 2^lg2 bytes, of a route's two. */
static inline u64 class_of(u64 first, u64 second, u32 lg2)
{
  u64 large = (first & CLASS_LG2) > (second & CLASS_LG2) ? first : second;
  return lg2 >= (large & CLASS_LG2) ? large : first ^ second ^ large;
}

/** Enters a walked page in the IOTLB: over its own tag, in an empty way, or over the next victim. */
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

/** Enters the result word of a walk, refusals excepted, in the class of its leaf; `one_size`: the route's first class holds all. */
static inline void fill_walked(u8 *memory, u32 port, u32 request, u32 route, u64 result, u64 perm, int one_size)
{
  if (result >> RESULT_FAULT_BIT) return;
  u64 address = load64(memory, request + REQUEST_IOVA) & load64(memory, route + ROUTE_ADDRESS_MASK);
  u64 class_word = load64(memory, route + ROUTE_FIRST);
  if (!one_size) class_word = class_of(class_word, load64(memory, route + ROUTE_SECOND), (u32)(result >> RESULT_RUN_SHIFT) & 0x3f);
  u64 tag = tag_of(class_word, address);
  fill(memory, port, load32(memory, port + PORT_IOTLB), load32(memory, port + PORT_HASH_SHIFT), tag, result - address + (DATA_VALID | perm));
}

/** Is the request one that its route has a table for? */
static inline int is_translated(const u8 *memory, u32 request, u32 route)
{
  u64 iova = load64(memory, request + REQUEST_IOVA);
  u64 broken = (iova + load64(memory, route + ROUTE_BIAS)) & load64(memory, route + ROUTE_HIGH);
  return load32(memory, route + ROUTE_KIND) == ROUTE_TRANSLATE && !broken;
}

/** What a batch needs of engine and port. */
struct batch {
  u32 engine, routes, mask, requests, results;
};

static inline struct batch batch_of(const u8 *memory, u32 port)
{
  u32 engine = load32(memory, port + PORT_ENGINE);
  return (struct batch){
    .engine = engine, .routes = load32(memory, engine + ENGINE_ROUTES), .mask = load32(memory, engine + ENGINE_ROUTE_MASK),
    .requests = load32(memory, port + PORT_REQUESTS), .results = load32(memory, port + PORT_RESULTS),
  };
}

static inline u32 route_of(const u8 *memory, const struct batch *its, u32 request)
{
  return route_at(its->routes, its->mask, load32(memory, request + REQUEST_ROUTE));
}

/** The result word of a request that the IOTLB does not answer, which is filled. */
typedef u64 on_miss(u8 *memory, u32 engine, u32 port, u32 request, u32 route);

/** One request after the other: lookup, and `miss` for what the IOTLB does not answer. How many were refused. */
static inline u32 one_by_one(u8 *memory, u32 port, u32 n, on_miss *miss)
{
  struct batch its = batch_of(memory, port);
  u32 iotlb = load32(memory, port + PORT_IOTLB);
  u32 hash_shift = load32(memory, port + PORT_HASH_SHIFT);
  u32 refused = 0;
  for (u32 lane = 0; lane < n; lane++) {
    u32 request = its.requests + lane * REQUEST_BYTES;
    u32 route = route_of(memory, &its, request);
    u64 result = lookup(memory, route, iotlb, hash_shift, load64(memory, request + REQUEST_IOVA), load32(memory, request + REQUEST_NEED));
    if (__builtin_expect(!result, 0)) result = miss(memory, its.engine, port, request, route);
    store64(memory, its.results + lane * RESULT_BYTES, result);
    refused += (u32)(result >> RESULT_FAULT_BIT);
  }
  return refused;
}
