// A walk on behalf of a port, with the marks that it leaves: accessed and dirty bits. Imports layout, counters, walk, mark.
import { PORT_SCRATCH, PORT_WALK, WALK_STEPS } from "../layout";
import { Count } from "../counters";
import { REASON_NONE, REASON_NOT_PRESENT } from "../fault";
import { markUsed, WALK_AGAIN } from "./mark";
import { walkExact } from "./walk";

/** A guest that keeps changing an entry under the walk is refused after this many. */
const MOST_TRIES: u32 = 64;

/** Walks and marks what was used: a REASON_*; the port's walk record tells the rest. */
export function walkAndMark(engine: usize, port: usize, domain: usize, iova: u64, need: u32): u32 {
  const walk = port + PORT_WALK;
  let reason = REASON_NONE;
  for (let tries = MOST_TRIES; tries; tries--) {
    reason = walkExact(engine, domain, iova, need, walk);
    Count.loads(port, load<u32>(walk, WALK_STEPS));
    if (!reason) reason = markUsed(engine, domain, need, walk, port + PORT_SCRATCH);
    if (reason != WALK_AGAIN) return reason;
  }
  return REASON_NOT_PRESENT;
}
