// Domains: creation, destruction, and the two operations on a kernel-owned table with all that belongs to them: map, and
// unmap with invalidation and release of frames. Imports layout, formats, tables, invalidate, route.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_BAD_SHAPE, DOMAIN_BIAS, DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_FRAGMENTED, DOMAIN_GUEST, DOMAIN_HIGH,
  DOMAIN_LEVELS, DOMAIN_NONE, DOMAIN_NO_FRAME, DOMAIN_OUTPUT_LG2, DOMAIN_ROOT, DOMAIN_ROUTES, DOMAIN_STATE, ENGINE_CLEARED,
  ENGINE_DOMAIN_CAPACITY, ENGINE_DOMAINS, ENGINE_WALKERS, RULE_SIGN_TBI, RULE_ZERO, STATUS_ATTACHED, STATUS_IN_SECTION, STATUS_OK, TAG_ADDRESS_BITS,
  UNMAP_IN_SECTION, UNMAP_REFUSED,
} from "./layout";
import { Format, lowBits } from "./format/format";
import { dispatch, Operation } from "./format/list";
import { advanceEpoch, dropRange, flush, inSection, invalidate } from "./invalidate";
import { CollectDirty } from "./table/dirty";
import { Walker } from "./request";
import { Frames, releaseLimbo, takeFrame } from "./table/frames";
import { MapRange, PlanRange } from "./table/map";
import { DropTables, UnmapRange } from "./table/unmap";
import { WalkExact } from "./table/walk";

export function domainAt(engine: usize, index: u32): usize {
  return load<u32>(engine, ENGINE_DOMAINS) + index * <u32>DOMAIN_BYTES;
}

function freeDomain(engine: usize): u32 {
  const capacity = load<u32>(engine, ENGINE_DOMAIN_CAPACITY);
  for (let i: u32 = 0; i < capacity; i++) if (!load<u32>(domainAt(engine, i), DOMAIN_STATE)) return i;
  return DOMAIN_NONE;
}

/** 1 if the format has tables of a levels that decode b bits. */
@unmanaged
@final
class HasShape extends Operation {
  run<F extends Format>(_engine: usize, _domain: usize, a: u64, b: u64, _c: u64, _d: u32): u64 {
    const f = changetype<F>(0);
    const levels = <u32>a;
    return u64(levels >= f.minLevels() && levels <= f.maxLevels() && b <= f.spanLg2(levels - 1) + f.tableLg2());
  }
}

/** Stores the address rule for iovas of widthLg2 bits: zero above, sign extended, or sign extended with the top byte ignored. */
function setRule(domain: usize, rule: u32, widthLg2: u32): void {
  const tag = rule == RULE_SIGN_TBI ? TAG_ADDRESS_BITS - 1 : TAG_ADDRESS_BITS;
  const above = ~lowBits(widthLg2);
  store<u64>(domain, rule == RULE_ZERO ? 0 : <u64>1 << (widthLg2 - 1), DOMAIN_BIAS);
  store<u64>(domain, rule == RULE_SIGN_TBI ? above & lowBits(56) : above, DOMAIN_HIGH);
  store<u64>(domain, rule == RULE_ZERO && widthLg2 > TAG_ADDRESS_BITS ? ~(<u64>0) : lowBits(tag), DOMAIN_ADDRESS_MASK);
}

/**
 * Makes a domain; `guestRoot` is the hpa of the root when flags say DOMAIN_GUEST. Answers its index, DOMAIN_NONE when all
 * records are taken, DOMAIN_NO_FRAME when no frame is left for the root, DOMAIN_BAD_SHAPE for levels that the format lacks.
 */
export function createDomain(
  engine: usize, format: u32, levels: u32, rule: u32, widthLg2: u32, outputLg2: u32, flags: u32, guestRoot: u64,
): u32 {
  if (!dispatch<HasShape>(format, engine, 0, levels, widthLg2, 0, 0)) return DOMAIN_BAD_SHAPE;
  const index = freeDomain(engine);
  if (index == DOMAIN_NONE) return DOMAIN_NONE;
  const guest = (flags & DOMAIN_GUEST) != 0;
  if (!guest && !Frames.available(engine)) return DOMAIN_NO_FRAME;
  const domain = domainAt(engine, index);
  memory.fill(domain, 0, DOMAIN_BYTES);
  store<u32>(domain, format, DOMAIN_FORMAT);
  store<u32>(domain, levels, DOMAIN_LEVELS);
  store<u32>(domain, flags, DOMAIN_FLAGS);
  store<u32>(domain, outputLg2, DOMAIN_OUTPUT_LG2);
  setRule(domain, rule, widthLg2);
  store<u64>(domain, guest ? guestRoot : <u64>takeFrame(engine, true), DOMAIN_ROOT);
  store<u32>(domain, 1, DOMAIN_STATE);
  store<u32>(engine, load<u32>(engine, ENGINE_WALKERS) | (1 << Walker.of(domain)), ENGINE_WALKERS);
  flush(engine, domain);
  return index;
}

/** Its tables go back to the pool; STATUS_IN_SECTION and STATUS_ATTACHED (a route still leads here) change nothing. */
export function destroyDomain(engine: usize, index: u32): u32 {
  if (inSection(engine)) return STATUS_IN_SECTION;
  const domain = domainAt(engine, index);
  if (load<u32>(domain, DOMAIN_ROUTES)) return STATUS_ATTACHED;
  if (!(load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST)) {
    dispatch<DropTables>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, 0, 0, 0, 0);
  }
  store<u32>(domain, 0, DOMAIN_STATE);
  advanceEpoch(engine);
  releaseLimbo(engine);
  return STATUS_OK;
}

/** [first..last] -> hpa with PERM_*: a STATUS_*; nothing is written unless it is STATUS_OK. */
export function map(engine: usize, index: u32, first: u64, last: u64, hpa: u64, perm: u32): u32 {
  if (inSection(engine)) return STATUS_IN_SECTION;
  const domain = domainAt(engine, index);
  return <u32>dispatch<MapRange>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, first, last, hpa, perm);
}

/** Frames that such a map needs (high half) and the STATUS_* it would answer with frames enough (low half). */
export function planMap(engine: usize, index: u32, first: u64, last: u64, hpa: u64, perm: u32): u64 {
  if (inSection(engine)) return STATUS_IN_SECTION;
  const domain = domainAt(engine, index);
  return dispatch<PlanRange>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, first, last, hpa, perm);
}

/** Removes [first..last] exactly: bytes removed or UNMAP_*. When it returns no port translates by what was removed. */
export function unmap(engine: usize, index: u32, first: u64, last: u64): u64 {
  if (inSection(engine)) return UNMAP_IN_SECTION;
  const domain = domainAt(engine, index);
  store<u64>(engine, 0, ENGINE_CLEARED);
  const bytes = dispatch<UnmapRange>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, first, last, 0, 0);
  if (bytes >= UNMAP_REFUSED) return bytes;
  dropRange(engine, domain, first, last, load<u64>(engine, ENGINE_CLEARED));
  advanceEpoch(engine);
  releaseLimbo(engine);
  return bytes;
}

export function flushDomain(engine: usize, index: u32): void {
  flush(engine, domainAt(engine, index));
  advanceEpoch(engine);
}

/** Drops cached translations of [first..last]: what a guest that owns the table asks for after changing it. */
export function invalidateDomain(engine: usize, index: u32, first: u64, last: u64): void {
  invalidate(engine, domainAt(engine, index), first, last);
}

/** Bytes of [first..last] in dirty leaves. With `clear` the bits are cleared and their IOTLB entries dropped: they carry W. */
export function clearDirty(engine: usize, index: u32, first: u64, last: u64, clear: bool): u64 {
  const domain = domainAt(engine, index);
  const bytes = dispatch<CollectDirty>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, first, last, 0, u32(clear));
  if (clear && bytes) invalidate(engine, domain, first, last);
  return bytes;
}

/** Exact walk of iova for PERM_* into the walk record at `out`: a REASON_*, 0 when translated. Reads only. */
export function walk(engine: usize, index: u32, iova: u64, need: u32, out: usize): u32 {
  const domain = domainAt(engine, index);
  return <u32>dispatch<WalkExact>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, iova, 0, out, need);
}
