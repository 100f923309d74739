// The engine's IOTLB loop, as C: groups of eight lanes, as vectors of two, then of four, then lane by lane what such a group
// does not answer. Same records, same order, same vectors, same answers as `lookUp` in assembly/batch-lookup.ts and assembly/lookup.ts.
#include "engine.h"
#include "lookup.h"

typedef u64 u64x2 __attribute__((vector_size(16)));

/** More groups refused than this and a sixth of those seen: the rest is done lane by lane. */
#define MOST_REFUSED 4

struct iotlb {
  u32 routes, mask, sets, hash_shift;
};

static inline u64x2 load_pair(const u8 *at)
{
  u64x2 pair;
  memcpy(&pair, at, sizeof pair);
  return pair;
}

static inline void store_pair(u8 *at, u64x2 pair)
{
  memcpy(at, &pair, sizeof pair);
}

static inline u64x2 both(u64 value)
{
  return (u64x2){ value, value };
}

static inline int is_zero(u64x2 pair)
{
#ifdef __SSE4_1__
  return _mm_testz_si128((__m128i)pair, (__m128i)pair);
#else
  return !(pair[0] | pair[1]);
#endif
}

/** What the ways hold under the tag of the lane: two words, of which one at most is not 0. */
static inline u64x2 ways_of(const u8 *memory, const struct iotlb *its, const u8 *request)
{
  u32 route = its->routes + (load32(request, REQUEST_ROUTE) & its->mask) * ROUTE_BYTES;
  u64 tag = tag_of(load64(memory, route + ROUTE_FIRST), load64(request, REQUEST_IOVA));
  const u8 *set = memory + set_of(its->sets, its->hash_shift, tag);
  u64x2 low = (u64x2)(load_pair(set) == both(tag)) & load_pair(set + IOTLB_DATA);
  return low | ((u64x2)(load_pair(set + 16) == both(tag)) & load_pair(set + IOTLB_DATA + 16));
}

struct pair {
  u64x2 data, iovas, denied;
};

/** Looks up two lanes and writes their results. */
static inline struct pair answer_pair(const u8 *memory, const struct iotlb *its, const u8 *request, u8 *result)
{
  u64x2 a = ways_of(memory, its, request), b = ways_of(memory, its, request + REQUEST_BYTES);
  u64x2 c = load_pair(request), d = load_pair(request + REQUEST_BYTES);
  struct pair pair = {
    .data = __builtin_shuffle(a, b, (u64x2){ 0, 2 }) | __builtin_shuffle(a, b, (u64x2){ 1, 3 }),
    .iovas = __builtin_shuffle(c, d, (u64x2){ 0, 2 }),
  };
  pair.denied = __builtin_shuffle(c, d, (u64x2){ 1, 3 }) & ~((pair.data & both(PERM_MASK)) << 32);
  store_pair(result, (pair.data & both(~OFFSET_MASK)) + pair.iovas);
  return pair;
}

/** Writes the results of a group of `lanes`: do they all hold? */
static inline int answer_group(const u8 *memory, const struct iotlb *its, const u8 *request, u8 *result, u32 lanes)
{
  struct pair all = answer_pair(memory, its, request, result);
  for (u32 lane = 2; lane < lanes; lane += 2) {
    struct pair one = answer_pair(memory, its, request + lane * REQUEST_BYTES, result + lane * RESULT_BYTES);
    all.denied |= one.denied;
    all.data &= one.data;
    all.iovas |= one.iovas;
  }
  return is_zero((all.denied & ~both(its->mask)) | (both(DATA_VALID) & ~all.data) | (all.iovas >> TAG_PLAIN_BITS));
}

u32 translate_hits(u8 *memory, u32 port, u32 n)
{
  u32 engine = load32(memory, port + PORT_ENGINE);
  struct iotlb its = {
    .routes = load32(memory, engine + ENGINE_ROUTES), .mask = load32(memory, engine + ENGINE_ROUTE_MASK),
    .sets = load32(memory, port + PORT_IOTLB), .hash_shift = load32(memory, port + PORT_HASH_SHIFT),
  };
  const u8 *requests = memory + load32(memory, port + PORT_REQUESTS);
  u8 *results = memory + load32(memory, port + PORT_RESULTS);
  u32 misses = load32(memory, port + PORT_MISSES);
  u32 missed = 0;
  u32 refused = 0;
  u32 quads = n & ~3u;
  u32 lane = 0;
  while (lane < (n & ~7u) && answer_group(memory, &its, requests + lane * REQUEST_BYTES, results + lane * RESULT_BYTES, 8)) lane += 8;
  while (lane < n) {
    while (lane < quads && answer_group(memory, &its, requests + lane * REQUEST_BYTES, results + lane * RESULT_BYTES, 4)) lane += 4;
    u32 stop = lane < quads ? lane + 4 : n;
    if (lane < quads && ++refused > MOST_REFUSED + lane / 24) quads = 0, stop = n;
    for (; lane < stop; lane++) {
      const u8 *request = requests + lane * REQUEST_BYTES;
      u32 route = route_at(its.routes, its.mask, load32(request, REQUEST_ROUTE));
      u64 answer = lookup(memory, route, its.sets, its.hash_shift, load64(request, REQUEST_IOVA), load32(request, REQUEST_NEED));
      if (answer) store64(results, lane * RESULT_BYTES, answer);
      else store32(memory, misses + missed++ * 4, lane);
    }
  }
  return missed;
}
