// Map and unmap as a C programmer writes them, for the formats of walk.c: recursive, a live count for each table, runs filled
// in a loop, tables that are filled whole not cleared before, whole tables given back without reading their leaves. Tables lie in an arena of their own; 4-KiB leaves are all
// that the rows ask for, but each level is looked at as if larger ones could come.
#include "tables.h"

static inline u64 leaf_bits(u32 format)
{
  if (format == FORMAT_VTD_SECOND) return 3;
  return format == FORMAT_X86_64 ? 0x8000000000000067ull : 0x0060000000000f43ull;
}

static inline u64 table_bits(u32 format)
{
  return format == FORMAT_X86_64 ? 0x27 : 3;
}

/** Is any of [first..last] mapped below this table? */
static int overlaps(u32 at, u32 lg2, u64 first, u64 last)
{
  for (u64 iova = first;; ) {
    u64 pte = arena[at].entry[index_of(iova, lg2)];
    u64 end = iova | ((1ull << lg2) - 1);
    if (end > last) end = last;
    if (pte && (lg2 == 12 || overlaps(table_of(pte), lg2 - 9, iova, end))) return 1;
    if (end == last) return 0;
    iova = end + 1;
  }
}

static inline void put(u32 format, u32 at, u32 lg2, u64 first, u64 last, u64 hpa)
{
  if (lg2 == 12) {
    u32 from = index_of(first, 12), to = index_of(last, 12);
    for (u32 i = from; i <= to; i++, hpa += 4096) arena[at].entry[i] = hpa | leaf_bits(format);
    live[at] += to - from + 1;
    return;
  }
  for (u64 iova = first;; ) {
    u64 *entry = &arena[at].entry[index_of(iova, lg2)];
    u64 end = iova | ((1ull << lg2) - 1);
    if (end > last) end = last;
    if (!*entry) {
      int whole = lg2 == 21 && end - iova == (1ull << 21) - 1;
      *entry = ((u64)((whole ? take_unset() : take()) + 1) << 12) | table_bits(format);
      live[at]++;
    }
    u32 below = table_of(*entry);
    // One level at a time: the compiler cannot inline what calls itself.
    if (format == FORMAT_VTD_SECOND) put(FORMAT_VTD_SECOND, below, lg2 - 9, iova, end, hpa);
    else if (format == FORMAT_X86_64) put(FORMAT_X86_64, below, lg2 - 9, iova, end, hpa);
    else put(FORMAT_ARM_S1_4K, below, lg2 - 9, iova, end, hpa);
    if (end == last) return;
    hpa += end - iova + 1;
    iova = end + 1;
  }
}

#define BASE (1ull << 38)
#define HPA ((1ull << 42) + 4096)

static inline int map(u32 format, u64 first, u64 pages, u64 hpa)
{
  u64 last = first + pages * 4096 - 1;
  if (overlaps(root, 39, first, last)) return 0;
  put(format, root, 39, first, last, hpa);
  return 1;
}

/** Maps and unmaps that many pages in one range, `times` times: pages removed in all. */
u32 map_and_unmap(u32 format, u32 pages, u32 times)
{
  u64 removed = 0;
  if (!arena && !begin()) return 0;
  for (u32 i = 0; i < times; i++) {
    if (!map(format, BASE, pages, HPA)) return 0;
    removed += remove_range(root, 39, BASE, BASE + (u64)pages * 4096 - 1);
  }
  return (u32)removed;
}

/** Sum over a mapping of that many pages of the entries that its leaves hold, as u32; 0 if it could not be made. */
u32 map_checksum(u32 format, u32 pages)
{
  u64 sum = 0;
  if (!begin() || !map(format, BASE, pages, HPA)) return 0;
  for (u64 iova = BASE; iova < BASE + (u64)pages * 4096; iova += 4096) {
    u32 at = root;
    for (u32 lg2 = 39; lg2 > 12; lg2 -= 9) at = table_of(arena[at].entry[index_of(iova, lg2)]);
    u64 pte = arena[at].entry[index_of(iova, 12)];
    sum += pte ^ (pte >> 32);
  }
  remove_range(root, 39, BASE, BASE + (u64)pages * 4096 - 1);
  return (u32)sum;
}
