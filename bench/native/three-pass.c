// The engine's own plan, as C: look up all, collect what missed, and walk that in groups. Pass one follows the upper levels to the
// address of the entry that ends the walk; pass two asks for those entries, so that their cache misses overlap; pass three reads
// them, fills the IOTLB and writes results. VT-d second-stage tables of four levels. Pass two is a prefetch, which C has.
#include "walk.h"

struct lane {
  u32 pte, level, index, route;
  u64 tables;
};

static inline int is_table(u64 pte) { return (pte & READ_WRITE) && !(pte & 0x80); }

static inline u32 entry_of(u64 pte, u64 iova, u32 lg2) { return (u32)(pte & ADDRESS) + (((u32)(iova >> lg2) & 511) << 3); }

/** Pass one of a lane: down to the entry that ends its walk. */
static inline void find(const u8 *memory, u32 domain, u64 iova, struct lane *lane)
{
  u64 tables = ~0ull;
  u32 level = 3;
  u32 at = entry_of(load64(memory, domain + DOMAIN_ROOT), iova, 39);
  do {
    u64 pte = load64(memory, at);
    if (!is_table(pte)) break;
    tables &= pte, at = entry_of(pte, iova, 30), level = 2;
    pte = load64(memory, at);
    if (!is_table(pte)) break;
    tables &= pte, at = entry_of(pte, iova, 21), level = 1;
    pte = load64(memory, at);
    if (!is_table(pte)) break;
    tables &= pte, at = entry_of(pte, iova, 12), level = 0;
  } while (0);
  lane->pte = at;
  lane->level = level;
  lane->tables = tables;
}

/** Pass three of a lane: its result word. */
static inline u64 finish(u8 *memory, u32 port, const struct lane *lane, u32 request)
{
  u64 pte = load64(memory, lane->pte);
  u32 lg2 = 12 + 9 * lane->level;
  u64 inside = (1ull << lg2) - 1;
  u64 perm = permissions(FORMAT_VTD_SECOND, lane->tables, pte);
  int leaf = lane->level == 0 || (lg2 <= 30 && (pte & 0x80) && !(pte & ADDRESS & inside));
  if (!(pte & READ_WRITE) || !leaf || (load32(memory, request + REQUEST_NEED) & ~perm)) return REFUSED;
  u64 result = (pte & ADDRESS) | (load64(memory, request + REQUEST_IOVA) & inside) | ((u64)lg2 << RESULT_RUN_SHIFT);
  fill_walked(memory, port, request, lane->route, result, perm, 0);
  return result;
}

u32 translate_three_pass(u8 *memory, u32 port, u32 n)
{
  struct batch its = batch_of(memory, port);
  u32 domains = load32(memory, its.engine + ENGINE_DOMAINS);
  u32 misses = load32(memory, port + PORT_MISSES);
  u32 missed = translate_hits_in_groups(memory, port, n);
  u32 refused = 0;
  struct lane lanes[GROUP_LANES];
  for (u32 done = 0; done < missed;) {
    u32 count = 0;
    for (; done < missed && count < GROUP_LANES; done++) {
      u32 index = load32(memory, misses + done * 4);
      u32 request = its.requests + index * REQUEST_BYTES;
      u32 route = route_of(memory, &its, request);
      if (!is_translated(memory, request, route)) {
        store64(memory, its.results + index * RESULT_BYTES, REFUSED);
        refused++;
        continue;
      }
      struct lane *lane = &lanes[count++];
      lane->index = index;
      lane->route = route;
      find(memory, domains + load32(memory, route + ROUTE_DOMAIN) * DOMAIN_BYTES, load64(memory, request + REQUEST_IOVA), lane);
    }
    for (u32 i = 0; i < count; i++) __builtin_prefetch(memory + lanes[i].pte);
    for (u32 i = 0; i < count; i++) {
      u64 result = finish(memory, port, &lanes[i], its.requests + lanes[i].index * REQUEST_BYTES);
      store64(memory, its.results + lanes[i].index * RESULT_BYTES, result);
      refused += (u32)(result >> RESULT_FAULT_BIT);
    }
  }
  return refused;
}
