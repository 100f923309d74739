// Merge of VT-d tables as a C programmer writes it: for each area the parent's table (the engine's own, in its memory) is read in
// chunks that lie in one page table of parent and child, whose addresses are kept from chunk to chunk. A first pass refuses
// overlap and counts tables, a second copies. Areas are the engine's records (AREA_*); 4-KiB leaves only.
#include "tables.h"

#define NO_KEY (~0ull)

typedef struct { u64 parent_key, child_key; const u64 *parent; u32 child; } cursor;

static const u64 *at_offset(const u8 *memory, u64 pte) { return (const u64 *)(memory + (pte & ADDRESS)); }

/** Page table of the parent for gpa, 0 if it has none. */
static const u64 *parent_table(const u8 *memory, u32 root, u64 gpa)
{
  const u64 *table = at_offset(memory, root);
  for (u32 lg2 = 39; lg2 > 12; lg2 -= 9) {
    u64 pte = table[index_of(gpa, lg2)];
    if (!(pte & 3)) return NULL;
    table = at_offset(memory, pte);
  }
  return table;
}

/** Page table of the child for iova, made if `grow`; TABLES if it is missing. `missing` counts those that will be made. */
static u32 child_table(u64 iova, int grow, u64 last_counted, u32 *missing)
{
  u32 at = root;
  for (u32 lg2 = 39; lg2 > 12; lg2 -= 9) {
    u64 *entry = &arena[at].entry[index_of(iova, lg2)];
    if (!*entry && !grow) {
      for (; lg2 > 12; lg2 -= 9) *missing += (iova ^ last_counted) >> lg2 != 0;
      return TABLES;
    }
    if (!*entry) {
      *entry = ((u64)(take() + 1) << 12) | 3;
      live[at]++;
    }
    at = table_of(*entry);
  }
  return at;
}

/** One pass over an area: 0 if it overlaps. `last` is the last iova that tables were counted for. */
static int merge_area(const u8 *memory, u32 parent, const u8 *area, int put, cursor *known, u64 *last, u32 *missing)
{
  u64 iova, end, gpa;
  memcpy(&iova, area + AREA_FIRST, 8);
  memcpy(&end, area + AREA_LAST, 8);
  memcpy(&gpa, area + AREA_GPA, 8);
  const u64 kept = ADDRESS | load32(area, AREA_PERM);
  for (u64 left = (end - iova + 1) >> 12; left; ) {
    if (gpa >> 21 != known->parent_key) {
      known->parent_key = gpa >> 21;
      known->parent = parent_table(memory, parent, gpa);
    }
    if (iova >> 21 != known->child_key) {
      known->child_key = iova >> 21;
      known->child = child_table(iova, put, *last, missing);
      *last = iova;
    }
    u32 from = index_of(gpa, 12), to = index_of(iova, 12);
    u32 n = ENTRIES - (from > to ? from : to);
    if (n > left) n = (u32)left;
    if (known->parent) {
      const u64 *source = known->parent + from;
      if (put) {
        u64 *target = arena[known->child].entry + to;
        u64 all = ~0ull;
        for (u32 i = 0; i < n; i++) {
          all &= source[i];
          target[i] = source[i] & kept;
        }
        live[known->child] += n;
        // Holes, and pages without a permission that both have, are rare: they are taken out again.
        for (u32 i = 0; (all & kept & 3) == 0 && i < n; i++) {
          if (target[i] & 3) continue;
          target[i] = 0;
          live[known->child]--;
        }
      } else if (known->child != TABLES) {
        u64 any = 0;
        for (u32 i = 0; i < n; i++) any |= arena[known->child].entry[to + i];
        if (any) return 0;
      }
    }
    left -= n;
    iova += (u64)n << 12;
    gpa += (u64)n << 12;
  }
  return 1;
}

static int merge(const u8 *memory, u32 parent, u32 areas, u32 n)
{
  for (int put = 0; put < 2; put++) {
    cursor known = { NO_KEY, NO_KEY, NULL, TABLES };
    u64 last = NO_KEY;
    u32 missing = 0;
    for (u32 i = 0; i < n; i++) {
      if (!merge_area(memory, parent, memory + areas + i * AREA_BYTES, put, &known, &last, &missing)) return 0;
    }
    if (missing > free_tables) return 0;
  }
  return 1;
}

/** Merges the n areas at `areas` with the table at `parent` into an empty child, and removes all: pages removed. */
u32 merge_and_unmap(const u8 *memory, u32 parent, u32 areas, u32 n)
{
  u64 first, last;
  if (!n || (!arena && !begin()) || !merge(memory, parent, areas, n)) return 0;
  memcpy(&first, memory + areas + AREA_FIRST, 8);
  memcpy(&last, memory + areas + (n - 1) * AREA_BYTES + AREA_LAST, 8);
  return (u32)remove_range(root, 39, first, last);
}

/** Sum over the entries of the child after such a merge, high and low half joined by XOR. */
u32 merge_checksum(const u8 *memory, u32 parent, u32 areas, u32 n)
{
  u64 sum = 0, first, last;
  if (!n || !begin() || !merge(memory, parent, areas, n)) return 0;
  memcpy(&first, memory + areas + AREA_FIRST, 8);
  memcpy(&last, memory + areas + (n - 1) * AREA_BYTES + AREA_LAST, 8);
  for (u64 iova = first; iova < last; iova += 4096) {
    u32 at = root;
    for (u32 lg2 = 39; lg2 > 12; lg2 -= 9) at = table_of(arena[at].entry[index_of(iova, lg2)]);
    u64 pte = arena[at].entry[index_of(iova, 12)];
    sum += pte ^ (pte >> 32);
  }
  remove_range(root, 39, first, last);
  return (u32)sum;
}
