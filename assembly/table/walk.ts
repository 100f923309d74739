// The exact walker: one address, every entry on the way, and the reason if it ends in a fault. It serves the lanes that the
// batch walker gave up, and tools. It only reads. Imports layout, memory, fault, the format contract; knows no format.
import {
  DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_GUEST, DOMAIN_HIGH, DOMAIN_LEVELS, DOMAIN_ROOT, ENGINE_FAST_FIRST, ENGINE_FAST_OFFSET,
  ENGINE_FAST_SPAN, STEP_ADDRESS, STEP_BYTES, STEP_LEVEL, STEP_PERM, STEP_PTE, WALK_HPA, WALK_LEAF_LG2, WALK_LEVEL, WALK_PERM,
  WALK_PTE, WALK_PTE_ADDRESS, WALK_REASON, WALK_STEP, WALK_STEPS,
} from "../layout";
import { deniedReason, REASON_ADDRESS_WIDTH, REASON_NONE, REASON_NOT_PRESENT, REASON_RESERVED, REASON_TABLE_OUTSIDE } from "../fault";
import { EMPTY, EntryOf, Format, INVALID, lowBits, TABLE } from "../format/format";
import { Operation } from "../format/list";
import { GuestTables, KernelTables, NOWHERE, TableSpace } from "../memory";

function end(out: usize, reason: u32, level: u32): u64 {
  store<u32>(out, reason, WALK_REASON);
  store<u32>(out, level, WALK_LEVEL);
  return reason;
}

function note(out: usize, address: u64, at: usize, pte: u64, level: u32, perm: u32): void {
  const n = load<u32>(out, WALK_STEPS);
  const step = out + WALK_STEP + n * STEP_BYTES;
  store<u64>(step, address, STEP_ADDRESS);
  store<u64>(step, pte, STEP_PTE);
  store<u32>(step, level, STEP_LEVEL);
  store<u32>(step, perm, STEP_PERM);
  store<u32>(out, n + 1, WALK_STEPS);
  store<u64>(out, pte, WALK_PTE);
  store<u32>(out, <u32>at, WALK_PTE_ADDRESS);
  store<u32>(out, perm, WALK_PERM);
}

function walk<F extends Format, S extends TableSpace>(engine: usize, domain: usize, iova: u64, need: u32, out: usize): u64 {
  const f = changetype<F>(0);
  const space = changetype<S>(0);
  const fastFirst = load<u64>(engine, ENGINE_FAST_FIRST);
  const fastSpan = load<u64>(engine, ENGINE_FAST_SPAN);
  const fastOffset = load<u32>(engine, ENGINE_FAST_OFFSET);
  let level = load<u32>(domain, DOMAIN_LEVELS) - 1;
  store<u32>(out, 0, WALK_STEPS);
  store<u64>(out, 0, WALK_PTE);
  if (((iova + load<u64>(domain, DOMAIN_BIAS)) & load<u64>(domain, DOMAIN_HIGH)) != 0) return end(out, REASON_ADDRESS_WIDTH, level);
  let table = load<u64>(domain, DOMAIN_ROOT);
  let combined = f.allPermissions();
  for (; ; level--) {
    const address = table + EntryOf.offset<F>(iova, level);
    const at = space.offset(engine, address, fastFirst, fastSpan, fastOffset);
    if (at == NOWHERE) return end(out, REASON_TABLE_OUTSIDE, level);
    const pte = atomic.load<u64>(at);
    combined = f.combine(combined, pte);
    note(out, address, at, pte, level, f.permissions(combined));
    const kind = f.kind(pte, level);
    if (kind == TABLE) {
      table = f.tableAddress(pte);
      continue;
    }
    if (kind == EMPTY) return end(out, REASON_NOT_PRESENT, level);
    if (kind == INVALID) return end(out, REASON_RESERVED, level);
    const lg2 = f.leafLg2(pte, level);
    store<u32>(out, lg2, WALK_LEAF_LG2);
    store<u64>(out, f.leafAddress(pte, level) | (iova & lowBits(lg2)), WALK_HPA);
    const missing = need & ~f.permissions(combined);
    return end(out, missing ? deniedReason(missing) : REASON_NONE, level);
  }
}

/** Walks a for PERM_* d into the walk record at c: a REASON_*, 0 when translated. */
@unmanaged
@final
export class WalkExact extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, _b: u64, c: u64, d: u32): u64 {
    const out = <usize>c;
    return load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST
      ? walk<F, GuestTables>(engine, domain, a, d, out)
      : walk<F, KernelTables>(engine, domain, a, d, out);
  }
}
