// The engine's IOTLB lookup, as C: probe of the first class, of the second on a miss, address rule, permission, result word.
#pragma once
#include "engine.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

#define HASH 0x9e3779b97f4a7c15ull
#define CLASS_LG2 0x3full
#define OFFSET_MASK 0xfffull

static inline u64 tag_of(u64 class_word, u64 address)
{
  return (address >> (class_word & CLASS_LG2)) | (class_word & ~CLASS_LG2);
}

static inline u32 set_of(u32 iotlb, u32 hash_shift, u64 tag)
{
  return iotlb + ((u32)((tag * HASH) >> hash_shift)) * IOTLB_SET_BYTES;
}

/** The ways of a set that hold the tag: bit n for way n. One at most has data. */
static inline u32 matching_ways(const u8 *set, u64 tag)
{
#ifdef __AVX2__
  __m256i equal = _mm256_cmpeq_epi64(_mm256_load_si256((const __m256i *)set), _mm256_set1_epi64x((long long)tag));
  return (u32)_mm256_movemask_pd(_mm256_castsi256_pd(equal));
#else
  u32 ways = 0;
  for (u32 way = 0; way < 4; way++) ways |= (u32)(load64(set, way * 8) == tag) << way;
  return ways;
#endif
}

/** The data of one of `ways`, which is not 0. */
static inline u64 data_of(const u8 *set, u32 ways)
{
  return load64(set, IOTLB_DATA + (u32)__builtin_ctz(ways) * 8);
}

/** Data of the way of the tag's set that has this tag, 0 if none. */
static inline u64 probe(const u8 *memory, u32 iotlb, u32 hash_shift, u64 tag)
{
  const u8 *set = memory + set_of(iotlb, hash_shift, tag);
  u32 ways = matching_ways(set, tag);
  return ways ? data_of(set, ways) : 0;
}

static inline u64 lookup(const u8 *memory, u32 route, u32 iotlb, u32 hash_shift, u64 iova, u32 need)
{
  u64 address = iova & load64(memory, route + ROUTE_ADDRESS_MASK);
  u64 data = probe(memory, iotlb, hash_shift, tag_of(load64(memory, route + ROUTE_FIRST), address));
  if (!data) {
    data = probe(memory, iotlb, hash_shift, tag_of(load64(memory, route + ROUTE_SECOND), address));
    if (!data) return 0;
  }
  u64 against = (iova + load64(memory, route + ROUTE_BIAS)) & load64(memory, route + ROUTE_HIGH);
  against |= need & ~(data & PERM_MASK);
  return against ? 0 : (data & ~OFFSET_MASK) + address;
}
