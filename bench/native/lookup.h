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

/** Data of the way of the tag's set that has this tag, 0 if none. */
static inline u64 probe(const u8 *memory, u32 iotlb, u32 hash_shift, u64 tag)
{
  u32 set = set_of(iotlb, hash_shift, tag);
#ifdef __AVX2__
  // No branch and no second, dependent load: one way at most has the tag, and an empty one has no data.
  __m256i equal = _mm256_cmpeq_epi64(_mm256_load_si256((const __m256i *)(memory + set)), _mm256_set1_epi64x((long long)tag));
  __m256i data = _mm256_and_si256(equal, _mm256_load_si256((const __m256i *)(memory + set + IOTLB_DATA)));
  __m128i halves = _mm_or_si128(_mm256_castsi256_si128(data), _mm256_extracti128_si256(data, 1));
  return (u64)(_mm_cvtsi128_si64(halves) | _mm_extract_epi64(halves, 1));
#else
  u64 data = 0;
  for (u32 way = 0; way < IOTLB_DATA; way += 8) {
    data |= load64(memory, set + way) == tag ? load64(memory, set + IOTLB_DATA + way) : 0;
  }
  return data;
#endif
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
