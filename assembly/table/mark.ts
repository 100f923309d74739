// Accessed and dirty bits, set by compare-and-swap along the path of one exact walk. An entry that is no longer what the walk
// read is left alone and the caller walks again: no write of a guest, and no mark of another walker, is lost.
// Imports layout, request, the walk, the format contract; knows no format.
import {
  DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_NESTED, DOMAIN_SET_ACCESSED, DOMAIN_SET_DIRTY, PERM_ANY_W, PERM_W, STEP_ADDRESS, STEP_AT,
  STEP_BYTES, STEP_LEVEL, STEP_PTE, STEP_STAGE, WALK_CLASS, WALK_IPA, WALK_LEVEL, WALK_PTE, WALK_REASON, WALK_STAGE, WALK_STEP,
  WALK_STEPS,
} from "../layout";
import { CLASS_TABLE, REASON_NONE } from "../fault";
import { Format, TABLE } from "../format/format";
import { dispatch, Operation } from "../format/list";
import { Domain } from "../request";
import { walkExact } from "./walk";

/** Answered in place of a REASON_*: an entry has changed under the walk. */
export const WALK_AGAIN: u32 = 0xff;

const MARKS: u32 = DOMAIN_SET_ACCESSED | DOMAIN_SET_DIRTY;

/** The entry of that step after its use; unchanged when its bits are as they should be. */
function used<F extends Format>(step: usize, output: bool, flags: u32, need: u32): u64 {
  const f = changetype<F>(0);
  const pte = load<u64>(step, STEP_PTE);
  const table = f.kind(pte, load<u32>(step, STEP_LEVEL)) == TABLE;
  const write = !table && output && (flags & DOMAIN_SET_DIRTY) != 0 && (need & PERM_ANY_W) != 0 && f.clean(pte);
  return write || flags & DOMAIN_SET_ACCESSED ? f.marked(pte, table, write) : pte;
}

/** A stage-1 entry is about to be written: stage 2 must let it, and takes note of the write. */
function openEntry(engine: usize, domain: usize, address: u64, walk: usize, scratch: usize): u32 {
  const stage2 = Domain.stage2(engine, domain);
  const reason = walkExact(engine, stage2, address, PERM_W, scratch);
  if (!reason) return markUsed(engine, stage2, PERM_W, scratch, 0);
  store<u32>(walk, reason, WALK_REASON);
  store<u32>(walk, load<u32>(scratch, WALK_STAGE), WALK_STAGE);
  store<u32>(walk, load<u32>(scratch, WALK_LEVEL), WALK_LEVEL);
  store<u64>(walk, load<u64>(scratch, WALK_PTE), WALK_PTE);
  store<u32>(walk, CLASS_TABLE, WALK_CLASS);
  store<u64>(walk, address, WALK_IPA);
  return reason;
}

@unmanaged
@final
class MarkStage extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, _b: u64, c: u64, d: u32): u64 {
    const stage = changetype<F>(0).stage();
    const flags = load<u32>(domain, DOMAIN_FLAGS);
    const walk = <usize>c;
    let step = walk + WALK_STEP;
    for (let left = load<u32>(walk, WALK_STEPS); left; left--, step += STEP_BYTES) {
      if (load<u32>(step, STEP_STAGE) != stage) continue;
      // Stage 1 has one leaf; of the leaves of stage 2 the last is the output's, the others hold tables.
      const marked = used<F>(step, stage == 1 || left == 1, flags, d);
      const pte = load<u64>(step, STEP_PTE);
      if (marked == pte) continue;
      if (flags & DOMAIN_NESTED) {
        const reason = openEntry(engine, domain, load<u64>(step, STEP_ADDRESS), walk, <usize>a);
        if (reason) return reason;
      }
      if (atomic.cmpxchg<u64>(load<u32>(step, STEP_AT), pte, marked) != pte) return WALK_AGAIN;
    }
    return REASON_NONE;
  }
}

/**
 * Marks the path of the walk record as used, its leaf as written if `need` says so, in both stages. `scratch` is another
 * walk record, for two stages. Answers REASON_NONE, WALK_AGAIN, or the reason for which stage 2 keeps an entry of stage 1
 * from being written: the record then tells that.
 */
export function markUsed(engine: usize, domain: usize, need: u32, walk: usize, scratch: usize): u32 {
  const flags = load<u32>(domain, DOMAIN_FLAGS);
  if (flags & MARKS) {
    const reason = <u32>dispatch<MarkStage>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, scratch, 0, walk, need);
    if (reason) return reason;
  }
  return flags & DOMAIN_NESTED ? markUsed(engine, Domain.stage2(engine, domain), need, walk, 0) : REASON_NONE;
}
