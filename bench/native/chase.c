// A chain of dependent loads: each gives the offset of the next, so that nothing can overlap.
#include "engine.h"

u32 chase(const u8 *memory, u32 at, u32 steps)
{
  while (steps--) at = load32(memory, at);
  return at;
}
