// The exact walker: one address, every entry on the way, and the reason if it ends in a fault. It serves the lanes that the
// batch walkers gave up, domains that none serves, and tools. It only reads. Conditions are judged in the manuals' order: absent,
// reserved or beyond the output width, accessed flag, permission, and each level before the next.
// Imports layout, memory, fault, request, the format contract; knows no format.
import {
  DOMAIN_ACCESS_FAULT, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_GUEST, DOMAIN_HALVES, DOMAIN_HIGH, DOMAIN_LEVELS, DOMAIN_NESTED,
  DOMAIN_RESERVED_LEAF, DOMAIN_RESERVED_TABLE, DOMAIN_ROOT, DOMAIN_SET_DIRTY, PERM_R, STEP_ADDRESS, STEP_AT, STEP_BYTES,
  STEP_LEVEL, STEP_PERM, STEP_PTE, STEP_STAGE, WALK_CLASS, WALK_CLEAN, WALK_HPA, WALK_IPA, WALK_LEAF_LG2, WALK_LEVEL,
  WALK_PERM, WALK_PTE, WALK_REASON, WALK_STAGE, WALK_STEP, WALK_STEPS,
} from "../layout";
import {
  CLASS_INPUT, CLASS_TABLE, classOf, deniedReason, REASON_ACCESS_FLAG, REASON_ADDRESS_WIDTH, REASON_NONE, REASON_NOT_PRESENT,
  REASON_RESERVED, REASON_TABLE_OUTSIDE,
} from "../fault";
import { EMPTY, EntryOf, Format, INVALID, LEAF, lowBits, TABLE } from "../format/format";
import { dispatch, Operation } from "../format/list";
import { locate, NOWHERE } from "../memory";
import { Domain } from "../request";

function end(out: usize, reason: u32, stage: u32, level: u32): u64 {
  store<u32>(out, reason, WALK_REASON);
  store<u32>(out, stage, WALK_STAGE);
  store<u32>(out, classOf(reason), WALK_CLASS);
  store<u32>(out, level, WALK_LEVEL);
  return reason;
}

function note(out: usize, address: u64, at: usize, pte: u64, stage: u32, level: u32, perm: u32): void {
  const n = load<u32>(out, WALK_STEPS);
  const step = out + WALK_STEP + n * STEP_BYTES;
  store<u64>(step, address, STEP_ADDRESS);
  store<u64>(step, pte, STEP_PTE);
  store<u32>(step, <u32>at, STEP_AT);
  store<u32>(step, perm, STEP_PERM);
  store<u32>(step, level, STEP_LEVEL);
  store<u32>(step, stage, STEP_STAGE);
  store<u32>(out, n + 1, WALK_STEPS);
  store<u64>(out, pte, WALK_PTE);
  store<u32>(out, perm, WALK_PERM);
}

/** Stage 2 of a two-stage walk: 0, or the reason, which is then of stage 2 and names the ipa. The steps go on in `out`. */
export function walkStage2(engine: usize, domain: usize, ipa: u64, need: u32, out: usize): u32 {
  const stage2 = Domain.stage2(engine, domain);
  const reason = <u32>dispatch<WalkStage>(load<u32>(stage2, DOMAIN_FORMAT), engine, stage2, ipa, 0, out, need);
  if (reason) store<u64>(out, ipa, WALK_IPA);
  return reason;
}

/** Memory offset of the table entry at `address`; NOWHERE if it cannot be read: `out` then says why. */
function entryAt(engine: usize, domain: usize, flags: u32, address: u64, stage: u32, level: u32, out: usize): usize {
  if (!(flags & DOMAIN_GUEST)) return <usize>address;
  if (flags & DOMAIN_NESTED) {
    if (walkStage2(engine, domain, address, PERM_R, out)) {
      store<u32>(out, CLASS_TABLE, WALK_CLASS);
      return NOWHERE;
    }
    address = load<u64>(out, WALK_HPA);
  }
  const at = locate(engine, address);
  if (at == NOWHERE) end(out, REASON_TABLE_OUTSIDE, stage, level);
  return at;
}

/** Why this entry of a table ends the walk in a refusal; REASON_NONE if it does not, or if `kind` is to decide. */
function refusal<F extends Format>(half: usize, kind: u32, pte: u64): u32 {
  if (kind == EMPTY) return REASON_NOT_PRESENT;
  if (kind == INVALID) return REASON_RESERVED;
  const reserved = kind == TABLE ? load<u64>(half, DOMAIN_RESERVED_TABLE) : load<u64>(half, DOMAIN_RESERVED_LEAF);
  return pte & reserved ? changetype<F>(0).reservedReason() : REASON_NONE;
}

/** Does a pointer from `level` to a table of level `next` serve iova? One that skips levels asks for zeros in their bits. */
function serves<F extends Format>(iova: u64, level: u32, next: u32): bool {
  const f = changetype<F>(0);
  return next + 1 == level || (iova & lowBits(f.spanLg2(level)) & ~lowBits(f.spanLg2(next + 1))) == 0;
}

function walk<F extends Format>(engine: usize, domain: usize, iova: u64, need: u32, out: usize): u64 {
  const f = changetype<F>(0);
  const half = f.halves() ? Domain.half(engine, domain, iova) : domain;
  const flags = load<u32>(domain, DOMAIN_FLAGS);
  const options = load<u32>(half, DOMAIN_FLAGS);
  const stage = f.stage();
  let level = load<u32>(half, DOMAIN_LEVELS) - 1;
  if (((iova + load<u64>(half, DOMAIN_BIAS)) & load<u64>(half, DOMAIN_HIGH)) != 0) {
    return end(out, REASON_ADDRESS_WIDTH, stage, level);
  }
  let address = load<u64>(half, DOMAIN_ROOT) + EntryOf.start(half, iova);
  let tables = f.start();
  while (true) {
    const at = entryAt(engine, domain, flags, address, stage, level, out);
    if (at == NOWHERE) return load<u32>(out, WALK_REASON);
    const pte = atomic.load<u64>(at);
    const kind = f.kind(pte, level);
    note(out, address, at, pte, stage, level, kind == LEAF ? f.permissions(tables, pte, options) : 0);
    const reason = refusal<F>(half, kind, pte);
    if (reason) return end(out, reason, stage, level);
    if (kind == LEAF) return leaf<F>(engine, domain, iova, need, f.accessed(tables, pte), pte, level, out);
    const next = f.tableLevel(pte, level);
    if (!serves<F>(iova, level, next)) return end(out, REASON_NOT_PRESENT, stage, level);
    tables = f.combine(tables, pte);
    level = next;
    address = f.tableAddress(pte) + EntryOf.offset<F>(iova, level);
  }
}

/** The end of a walk that has found a leaf: accessed flag, permission, and stage 2 of the output. */
function leaf<F extends Format>(
  engine: usize, domain: usize, iova: u64, need: u32, accessed: bool, pte: u64, level: u32, out: usize,
): u64 {
  const f = changetype<F>(0);
  const flags = load<u32>(domain, DOMAIN_FLAGS);
  const lg2 = f.leafLg2(pte, level);
  const output = f.leafAddress(pte, level) | (iova & lowBits(lg2));
  const perm = load<u32>(out, WALK_PERM);
  store<u32>(out, lg2, WALK_LEAF_LG2);
  store<u64>(out, output, WALK_HPA);
  if (flags & DOMAIN_ACCESS_FAULT && !accessed) return end(out, REASON_ACCESS_FLAG, f.stage(), level);
  const missing = need & ~perm;
  if (missing) return end(out, deniedReason(missing), f.stage(), level);
  if (flags & DOMAIN_SET_DIRTY && f.clean(pte)) store<u32>(out, 1, WALK_CLEAN);
  if (flags & DOMAIN_NESTED) {
    const clean = load<u32>(out, WALK_CLEAN);
    const reason = walkStage2(engine, domain, output, need, out);
    // The clean flag of the tables' own stage-2 leaves is dropped with `clean`: only the output's counts.
    store<u32>(out, clean | load<u32>(out, WALK_CLEAN), WALK_CLEAN);
    store<u32>(out, perm & load<u32>(out, WALK_PERM), WALK_PERM);
    store<u32>(out, min(lg2, load<u32>(out, WALK_LEAF_LG2)), WALK_LEAF_LG2);
    // Also when it is a table of stage 2 that cannot be read: it was asked for on behalf of the access itself.
    if (reason) store<u32>(out, CLASS_INPUT, WALK_CLASS);
    return reason;
  }
  return end(out, REASON_NONE, f.stage(), level);
}

/** Walks a for PERM_* d, and goes on in the walk record at c: a REASON_*, 0 when translated. */
@unmanaged
@final
export class WalkStage extends Operation {
  run<F extends Format>(engine: usize, domain: usize, a: u64, _b: u64, c: u64, d: u32): u64 {
    store<u32>(<usize>c, 0, WALK_CLEAN);
    return walk<F>(engine, domain, a, d, <usize>c);
  }
}

/** A walk from the beginning: `domain` is walked for PERM_* `need` into the record at `out`. A REASON_*, 0 when translated. */
export function walkExact(engine: usize, domain: usize, iova: u64, need: u32, out: usize): u32 {
  store<u32>(out, 0, WALK_STEPS);
  store<u64>(out, 0, WALK_PTE);
  store<u32>(out, 0, WALK_PERM);
  store<u64>(out, 0, WALK_IPA);
  const format = load<u32>(Domain.half(engine, domain, iova), DOMAIN_FORMAT);
  return <u32>dispatch<WalkStage>(format, engine, domain, iova, 0, out, need);
}
