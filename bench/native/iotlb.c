// The engine's IOTLB loop, as C, twice: one lane after the other, each found with one vector compare; and in the engine's own groups
// of eight lanes, as vectors of two, then of four, then lane by lane what such a group does not answer, as `lookUp` in
// assembly/batch-lookup.ts and assembly/lookup.ts. Same records, same order, same answers.
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

u32 translate_hits_in_groups(u8 *memory, u32 port, u32 n)
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

/** With all rules, for a lane that its first class does not answer: how many lanes are on the miss list then. */
__attribute__((noinline)) static u32 answer_apart(u8 *memory, u32 port, u32 lane, u32 missed)
{
  u32 engine = load32(memory, port + PORT_ENGINE);
  u32 request = load32(memory, port + PORT_REQUESTS) + lane * REQUEST_BYTES;
  u32 index = load32(memory, request + REQUEST_ROUTE);
  u32 route = route_at(load32(memory, engine + ENGINE_ROUTES), load32(memory, engine + ENGINE_ROUTE_MASK), index);
  u32 sets = load32(memory, port + PORT_IOTLB), hash_shift = load32(memory, port + PORT_HASH_SHIFT);
  u64 answer = lookup(memory, route, sets, hash_shift, load64(memory, request + REQUEST_IOVA), load32(memory, request + REQUEST_NEED));
  if (answer) store64(memory, load32(memory, port + PORT_RESULTS) + lane * RESULT_BYTES, answer);
  else store32(memory, load32(memory, port + PORT_MISSES) + missed++ * 4, lane);
  return missed;
}

u32 translate_hits(u8 *memory, u32 port, u32 n)
{
  u32 engine = load32(memory, port + PORT_ENGINE);
  const u8 *routes = memory + load32(memory, engine + ENGINE_ROUTES);
  u32 mask = load32(memory, engine + ENGINE_ROUTE_MASK);
  const u8 *sets = memory + load32(memory, port + PORT_IOTLB);
  u32 hash_shift = load32(memory, port + PORT_HASH_SHIFT);
  const u8 *requests = memory + load32(memory, port + PORT_REQUESTS);
  u8 *results = memory + load32(memory, port + PORT_RESULTS);
  u32 missed = 0;
  for (u32 lane = 0; lane < n; lane++) {
    const u8 *request = requests + (size_t)lane * REQUEST_BYTES;
    u64 iova = load64(request, REQUEST_IOVA);
    u32 index = load32(request, REQUEST_ROUTE);
    if (index > mask) index = ROUTE_NONE;
    u64 tag = tag_of(load64(routes + (size_t)index * ROUTE_BYTES, ROUTE_FIRST), iova);
    const u8 *set = sets + set_of(0, hash_shift, tag);
    u32 ways = matching_ways(set, tag);
    u64 data = ways ? data_of(set, ways) : 0;
    u64 against = (iova >> TAG_PLAIN_BITS) | (load32(request, REQUEST_NEED) & ~(data & PERM_MASK));
    if (__builtin_expect(data && !against, 1)) store64(results, lane * RESULT_BYTES, (data & ~OFFSET_MASK) + iova);
    else missed = answer_apart(memory, port, lane, missed);
  }
  return missed;
}
