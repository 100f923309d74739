// Four-level tables of 4-KiB pages as a C programmer keeps them: an arena, a live count for each table, a stack of free ones.
// Each unit that includes this has tables of its own. An entry holds the number of a table + 1 where an address belongs.
#pragma once
#include <stdlib.h>
#include "engine.h"

#define TABLES 4096
#define ENTRIES 512
#define ADDRESS 0x000ffffffffff000ull

typedef struct { u64 entry[ENTRIES]; } table;

static table *arena;
static u32 live[TABLES];
static u32 next[TABLES];
static u32 unused;
static u32 free_tables;
static u32 root;

static inline u32 index_of(u64 iova, u32 lg2) { return (u32)(iova >> lg2) & (ENTRIES - 1); }
static inline u32 table_of(u64 pte) { return (u32)((pte & ADDRESS) >> 12) - 1; }

/** A table that its caller fills whole. */
static inline u32 take_unset(void)
{
  u32 at = unused - 1;
  unused = next[at];
  free_tables--;
  live[at] = 0;
  return at;
}

static u32 take(void)
{
  u32 at = take_unset();
  memset(&arena[at], 0, sizeof arena[at]);
  return at;
}

static void give(u32 at)
{
  next[at] = unused;
  unused = at + 1;
  free_tables++;
}

/** An empty table; 0 when there is no memory. */
static int begin(void)
{
  if (!arena && !(arena = aligned_alloc(4096, sizeof(table) * TABLES))) return 0;
  unused = free_tables = 0;
  for (u32 at = TABLES; at > 0; at--) give(at - 1);
  root = take();
  return 1;
}

/** Gives the table and all below it back: pages that it mapped. */
static u64 drop(u32 at, u32 lg2)
{
  u64 pages = lg2 == 12 ? live[at] : 0;
  for (u32 i = 0, seen = 0; lg2 > 12 && seen < live[at]; i++) {
    if (!arena[at].entry[i]) continue;
    seen++;
    pages += drop(table_of(arena[at].entry[i]), lg2 - 9);
  }
  give(at);
  return pages;
}

/** Removes [first..last] below this table: pages removed. */
static u64 remove_range(u32 at, u32 lg2, u64 first, u64 last)
{
  u64 pages = 0;
  for (u64 iova = first;; ) {
    u64 *entry = &arena[at].entry[index_of(iova, lg2)];
    u64 end = iova | ((1ull << lg2) - 1);
    if (end > last) end = last;
    if (*entry && lg2 == 12) {
      *entry = 0;
      live[at]--;
      pages++;
    } else if (*entry) {
      u32 below = table_of(*entry);
      int whole = end - iova == (1ull << lg2) - 1;
      if (!whole) pages += remove_range(below, lg2 - 9, iova, end);
      if (whole || !live[below]) {
        *entry = 0;
        live[at]--;
        pages += drop(below, lg2 - 9);
      }
    }
    if (end == last) return pages;
    iova = end + 1;
  }
}
