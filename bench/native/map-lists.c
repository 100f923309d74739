// Lists of maps and unmaps as a C programmer writes them for VT-d tables: two passes over the engine's records (LEAF_*, RANGE_*), the
// page table of the record before kept from one to the next, pages in a run filled in a loop. And the unmap of a range by one who
// keeps no counts: every leaf is read. 4-KiB leaves only; each level is looked at as if larger ones could come.
#include "tables.h"

#define INPUT_LG2 48
#define OUTPUT_LG2 52
#define PAGE 4096ull
#define NO_KEY (~0ull)
#define LEAF_BITS(perm) ((u64)(perm) & 3)

static int is_page_range(u64 first, u64 last)
{
  return first <= last && !((first | (last + 1)) & (PAGE - 1)) && !(last >> INPUT_LG2);
}

/** Page table of iova, TABLES if it is missing; then `missing` counts those on the way that `last` has not counted. */
static u32 find_table(u64 iova, u64 last, u32 *missing)
{
  u32 at = root;
  for (u32 lg2 = 39; lg2 > 12; lg2 -= 9) {
    u64 pte = arena[at].entry[index_of(iova, lg2)];
    if (!pte) {
      for (; lg2 > 12; lg2 -= 9) *missing += (iova ^ last) >> lg2 != 0;
      return TABLES;
    }
    at = table_of(pte);
  }
  return at;
}

/** The same, made where it is missing. */
static u32 grow_table(u64 iova)
{
  u32 at = root;
  for (u32 lg2 = 39; lg2 > 12; lg2 -= 9) {
    u64 *entry = &arena[at].entry[index_of(iova, lg2)];
    if (!*entry) {
      *entry = ((u64)(take() + 1) << 12) | 3;
      live[at]++;
    }
    at = table_of(*entry);
  }
  return at;
}

/** May all n maps be made? They ascend. */
static int plan_list(const u8 *record, u32 n)
{
  u64 key = NO_KEY, after = NO_KEY;
  u32 table = TABLES, missing = 0;
  for (; n; n--, record += LEAF_BYTES) {
    u64 first = load64(record, LEAF_FIRST), last = load64(record, LEAF_LAST), hpa = load64(record, LEAF_HPA);
    u32 perm = load32(record, LEAF_PERM);
    if (!is_page_range(first, last) || hpa & (PAGE - 1) || (hpa + (last - first)) >> OUTPUT_LG2 || !perm || perm > 3) return 0;
    if (after != NO_KEY && first <= after) return 0;
    for (u64 iova = first; ; ) {
      u64 end = iova | 0x1fffff;
      if (end > last) end = last;
      if (iova >> 21 != key) {
        table = find_table(iova, after, &missing);
        key = iova >> 21;
      }
      if (table != TABLES) {
        u64 any = 0;
        for (u32 i = index_of(iova, 12), to = index_of(end, 12); i <= to; i++) any |= arena[table].entry[i];
        if (any) return 0;
      }
      after = end;
      if (end == last) break;
      iova = end + 1;
    }
  }
  return missing <= free_tables;
}

static void put_list(const u8 *record, u32 n)
{
  u64 key = NO_KEY;
  u32 table = 0;
  for (; n; n--, record += LEAF_BYTES) {
    u64 iova = load64(record, LEAF_FIRST), last = load64(record, LEAF_LAST), pte = load64(record, LEAF_HPA) | LEAF_BITS(load32(record, LEAF_PERM));
    for (;;) {
      u64 end = iova | 0x1fffff;
      if (end > last) end = last;
      if (iova >> 21 != key) {
        table = grow_table(iova);
        key = iova >> 21;
      }
      u32 from = index_of(iova, 12), to = index_of(end, 12);
      for (u32 i = from; i <= to; i++, pte += PAGE) arena[table].entry[i] = pte;
      live[table] += to - from + 1;
      if (end == last) break;
      iova = end + 1;
    }
  }
}

/** Makes the n maps at `at`: 1, or 0 and none is made. */
u32 map_list(const u8 *memory, u32 at, u32 n)
{
  if ((!arena && !begin()) || !plan_list(memory + at, n)) return 0;
  put_list(memory + at, n);
  return 1;
}

/** Removes the n ranges at `at`: pages removed; none if one is no range. */
u32 unmap_list(const u8 *memory, u32 at, u32 n)
{
  u64 key = NO_KEY, pages = 0;
  u32 table = TABLES, unused_count = 0;
  if (!arena && !begin()) return 0;
  for (u32 i = 0; i < n; i++) {
    const u8 *record = memory + at + i * RANGE_BYTES;
    if (!is_page_range(load64(record, RANGE_FIRST), load64(record, RANGE_LAST))) return 0;
  }
  for (u32 i = 0; i < n; i++) {
    const u8 *record = memory + at + i * RANGE_BYTES;
    u64 first = load64(record, RANGE_FIRST), last = load64(record, RANGE_LAST);
    if (first >> 21 != last >> 21 || last - first == 0x1fffff) {
      pages += remove_range(root, 39, first, last);
      key = NO_KEY;
      continue;
    }
    if (first >> 21 != key) {
      table = find_table(first, first, &unused_count);
      key = first >> 21;
    }
    if (table == TABLES) continue;
    u32 taken = 0;
    for (u32 j = index_of(first, 12), to = index_of(last, 12); j <= to; j++) {
      taken += arena[table].entry[j] != 0;
      arena[table].entry[j] = 0;
    }
    pages += taken;
    if ((live[table] -= taken)) continue;
    // Nothing is left in it: it goes, with those above it that it was the last of.
    remove_range(root, 39, first, last);
    key = NO_KEY;
  }
  return (u32)pages;
}

/** Pages of [first..last] below this table, each of its leaves read; what is empty then goes. */
static u64 remove_reading(u32 at, u32 lg2, u64 first, u64 last)
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
      pages += remove_reading(below, lg2 - 9, iova, end);
      if (!live[below]) {
        *entry = 0;
        live[at]--;
        give(below);
      }
    }
    if (end == last) return pages;
    iova = end + 1;
  }
}

/** Removes [first..last], page numbers, with whole tables by their counts, or reading every leaf: pages removed. */
u32 unmap_pages(u32 first, u32 last, u32 reading)
{
  u64 from = (u64)first << 12, to = ((u64)last << 12) | (PAGE - 1);
  if (!arena && !begin()) return 0;
  return (u32)(reading ? remove_reading(root, 39, from, to) : remove_range(root, 39, from, to));
}

/** Sum over the leaf entries of pages first..last, high and low half joined by XOR. */
u32 list_checksum(u32 first, u32 last)
{
  u64 sum = 0;
  for (u64 page = first; page <= last; page++) {
    u32 none = 0, table = find_table(page << 12, page << 12, &none);
    u64 pte = table == TABLES ? 0 : arena[table].entry[page & (ENTRIES - 1)];
    sum += pte ^ (pte >> 32);
  }
  return (u32)sum;
}
