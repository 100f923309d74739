// The engine's IOTLB loop, as C: route with bounds select, lookup, result. Same records, same order, same answers as `translate`
// in assembly/translate.ts.
#include "engine.h"
#include "lookup.h"

u32 translate_hits(u8 *memory, u32 port, u32 n)
{
  u32 engine = load32(memory, port + PORT_ENGINE);
  u32 routes = load32(memory, engine + ENGINE_ROUTES);
  u32 mask = load32(memory, engine + ENGINE_ROUTE_MASK);
  u32 iotlb = load32(memory, port + PORT_IOTLB);
  u32 hash_shift = load32(memory, port + PORT_HASH_SHIFT);
  u32 requests = load32(memory, port + PORT_REQUESTS);
  u32 results = load32(memory, port + PORT_RESULTS);
  u32 misses = load32(memory, port + PORT_MISSES);
  u32 missed = 0;
  for (u32 lane = 0; lane < n; lane++) {
    u32 request = requests + lane * REQUEST_BYTES;
    u32 route = route_at(routes, mask, load32(memory, request + REQUEST_ROUTE));
    u64 answer = lookup(memory, route, iotlb, hash_shift, load64(memory, request + REQUEST_IOVA),
                        load32(memory, request + REQUEST_NEED));
    if (answer) store64(memory, results + lane * RESULT_BYTES, answer);
    else store32(memory, misses + missed++ * 4, lane);
  }
  return missed;
}
