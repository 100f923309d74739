// What the native baselines share: types, and loads and stores at offsets of the engine's memory. layout.h is written at
// run time from the built engine's layout (bench/native.mjs), so that both sides use the same words.
#pragma once
#include <stdint.h>
#include <string.h>
#include "layout.h"

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

static inline u32 load32(const u8 *memory, u32 at)
{
  u32 value;
  memcpy(&value, memory + at, sizeof value);
  return value;
}

static inline u64 load64(const u8 *memory, u32 at)
{
  u64 value;
  memcpy(&value, memory + at, sizeof value);
  return value;
}

static inline void store32(u8 *memory, u32 at, u32 value)
{
  memcpy(memory + at, &value, sizeof value);
}

static inline void store64(u8 *memory, u32 at, u64 value)
{
  memcpy(memory + at, &value, sizeof value);
}

/** Record of route `index`; an index outside the table is route 0, which is always blocked. */
static inline u32 route_at(u32 routes, u32 mask, u32 index)
{
  return routes + (index <= mask ? index : ROUTE_NONE) * ROUTE_BYTES;
}

/** Looks up the port's first n requests and writes the results of hits; the other lanes go to the miss list: how many. */
u32 translate_hits(u8 *memory, u32 port, u32 n);

/** The same in the engine's groups of eight. */
u32 translate_hits_in_groups(u8 *memory, u32 port, u32 n);

/** Walks the table of each of the port's first n requests and writes results: how many were refused. */
u32 translate_walking(u8 *memory, u32 port, u32 n);

/** Looks up, walks what missed, fills the IOTLB, and writes results: how many were refused. 4-KiB leaves only, but for `mixed`. */
u32 translate_naive_vtd(u8 *memory, u32 port, u32 n);
u32 translate_naive_mixed(u8 *memory, u32 port, u32 n);
u32 translate_naive_x86(u8 *memory, u32 port, u32 n);
u32 translate_naive_arm(u8 *memory, u32 port, u32 n);

/** The same in the engine's three passes. */
u32 translate_three_pass(u8 *memory, u32 port, u32 n);

/** The same for a guest's x86-64 tables of four levels, which lie in the largest slot, above VT-d second-stage tables. */
u32 translate_two_stage(u8 *memory, u32 port, u32 n);

/** Maps and unmaps that many pages of a FORMAT_* in one range, `times` times: pages removed in all. */
u32 map_and_unmap(u32 format, u32 pages, u32 times);

/** Sum over the leaf entries of such a mapping, high and low half joined by XOR. */
u32 map_checksum(u32 format, u32 pages);

/** Merges n AREA_* records at `areas` with the VT-d table at `parent`, into tables of its own, and unmaps: pages removed. */
u32 merge_and_unmap(const u8 *memory, u32 parent, u32 areas, u32 n);

/** Sum over the leaf entries that such a merge makes, high and low half joined by XOR. */
u32 merge_checksum(const u8 *memory, u32 parent, u32 areas, u32 n);

/** Makes n maps, LEAF_* records at `at`, in VT-d tables of its own, all or none: 1 or 0. */
u32 map_list(const u8 *memory, u32 at, u32 n);

/** Removes n RANGE_* records at `at` from them: pages removed. */
u32 unmap_list(const u8 *memory, u32 at, u32 n);

/** Removes pages first..last from them, reading every leaf or giving whole tables back by their counts: pages removed. */
u32 unmap_pages(u32 first, u32 last, u32 reading);

/** Sum over the leaf entries of pages first..last, high and low half joined by XOR. */
u32 list_checksum(u32 first, u32 last);

/** Follows a chain of u32 offsets from `at`: where it is after that many steps. */
u32 chase(const u8 *memory, u32 at, u32 steps);
