// The walk in two dimensions, in full: a guest's x86-64 tables, whose pointers and leaves are addresses of the guest, above VT-d
// second-stage tables of ours. Every pointer of the guest's is walked through the second stage and looked for in the slot that has
// the guest's memory: 24 loads; both have four levels. Looks into the IOTLB first and fills it, one request after the other.
#include "walk.h"

struct stages {
  u32 second, offset;
  u64 root, first, span;
};

/** hpa of a guest's address; *perm is what the second stage grants. REFUSED if it does not. */
static inline u64 second_stage(const u8 *memory, const struct stages *its, u64 gpa, u64 *perm)
{
  u32 table = its->second;
  u64 all = READ_WRITE;
  if (gpa >> 48) return REFUSED;
#pragma GCC unroll 4
  for (u32 lg2 = 39; lg2 >= 12; lg2 -= 9) {
    u64 pte = load64(memory, table + (((u32)(gpa >> lg2) & 511) << 3));
    all &= pte;
    if (!(pte & READ_WRITE)) return REFUSED;
    if (lg2 == 12 || (pte & 0x80)) {
      u64 inside = (1ull << lg2) - 1;
      if (lg2 > 30 || (pte & ADDRESS & inside)) return REFUSED;
      *perm = all * BOTH;
      return (pte & ADDRESS) | (gpa & inside);
    }
    table = (u32)(pte & ADDRESS);
  }
  return REFUSED;
}

/** The result word of a walk from the guest's root; *perm is what both stages grant. */
static inline u64 walk(const u8 *memory, const struct stages *its, u64 iova, u64 need, u64 *perm)
{
  u64 tables = ~0ull;
  u64 gpa = its->root;
#pragma GCC unroll 4
  for (u32 lg2 = 39; lg2 >= 12; lg2 -= 9) {
    u64 granted = 0;
    u64 hpa = second_stage(memory, its, gpa + (((iova >> lg2) & 511) << 3), &granted);
    if (hpa - its->first > its->span || !(granted & 1)) return REFUSED;
    u64 pte = load64(memory, its->offset + (u32)(hpa - its->first));
    if (is_empty(FORMAT_X86_64, pte)) return REFUSED;
    if (lg2 == 12 || is_block(FORMAT_X86_64, pte)) {
      u64 inside = (1ull << lg2) - 1;
      if (lg2 > 30 || (pte & ADDRESS & inside)) return REFUSED;
      hpa = second_stage(memory, its, (pte & ADDRESS) | (iova & inside), &granted);
      *perm = permissions(FORMAT_X86_64, tables, pte) & granted;
      // 4-KiB leaves of the second stage only: they are the run.
      return hpa >> RESULT_FAULT_BIT || (need & ~*perm) ? REFUSED : hpa | (12ull << RESULT_RUN_SHIFT);
    }
    tables &= grants(FORMAT_X86_64, pte);
    gpa = pte & ADDRESS;
  }
  return REFUSED;
}

/** Tables of the route's domain, and of the one below it. */
static inline struct stages stages_of(const u8 *memory, u32 engine, u32 route)
{
  u32 domains = load32(memory, engine + ENGINE_DOMAINS);
  u32 domain = domains + load32(memory, route + ROUTE_DOMAIN) * DOMAIN_BYTES;
  u32 below = domains + load32(memory, domain + DOMAIN_STAGE2) * DOMAIN_BYTES;
  u32 slots = load32(memory, engine + ENGINE_SLOTS);
  return (struct stages){
    .second = load32(memory, below + DOMAIN_ROOT),
    .offset = load32(memory, slots + SLOTS_FAST_OFFSET), .root = load64(memory, domain + DOMAIN_ROOT),
    .first = load64(memory, slots + SLOTS_FAST_FIRST), .span = load64(memory, slots + SLOTS_FAST_SPAN),
  };
}

static __attribute__((noinline)) u64 two_stage_miss(u8 *memory, u32 engine, u32 port, u32 request, u32 route)
{
  if (!is_translated(memory, request, route)) return REFUSED;
  struct stages its = stages_of(memory, engine, route);
  u64 perm = 0;
  u64 result = walk(memory, &its, load64(memory, request + REQUEST_IOVA), load32(memory, request + REQUEST_NEED), &perm);
  fill_walked(memory, port, request, route, result, perm, 0);
  return result;
}

u32 translate_two_stage(u8 *memory, u32 port, u32 n) { return one_by_one(memory, port, n, two_stage_miss); }
