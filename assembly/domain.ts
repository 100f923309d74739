// Domains: creation, destruction, and the two operations on a kernel-owned table with all that belongs to them: map, and
// unmap with invalidation and release of frames. Imports layout, formats, tables, change, invalidate.
import {
  DOMAIN_ADDRESS_MASK, DOMAIN_BAD_SHAPE, DOMAIN_BIAS, DOMAIN_BUSY, DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_FREE,
  DOMAIN_GUEST, DOMAIN_HALVES, DOMAIN_HIGH, DOMAIN_INPUT_LG2, DOMAIN_INPUT_MASK, DOMAIN_LARGE_LG2, DOMAIN_LEVELS, DOMAIN_LIVE,
  DOMAIN_NESTED, DOMAIN_NO_FRAME, DOMAIN_NONE, DOMAIN_OUTPUT_LG2, DOMAIN_RESERVED_LEAF, DOMAIN_RESERVED_TABLE, DOMAIN_ROOT,
  DOMAIN_ROUTES, DOMAIN_SMALL_LG2, DOMAIN_STAGE2, DOMAIN_STALLED, DOMAIN_STATE, DOMAIN_TOP_SHIFT, DOMAIN_UPPER, DOMAIN_USERS,
  DOMAIN_WALKER, ENGINE_CLEARED, ENGINE_DOMAIN_CAPACITY, ENGINE_DOMAIN_FREE, ENGINE_DOMAINS, ENGINE_PASID_TABLE_CAPACITY, ENGINE_PASID_TABLES,
  ENGINE_UNFINISHED, ENGINE_WALKERS, PASID_TABLE_BYTES, PASID_TABLE_STAGE2, PASID_TABLE_STATE, RULE_SIGN, RULE_TBI,
  RULE_ZERO, STATUS_ATTACHED, STATUS_BUSY, STATUS_OK, STATUS_STALLED, TAG_ADDRESS_BITS, UNMAP_BUSY, UNMAP_IN_SECTION, UNMAP_REFUSED,
  UNMAP_STALLED, WALKER_EXACT, WALKER_FORMAT_SHIFT, WALKER_GUEST, WALKER_NESTED,
} from "./layout";
import { Format, lowBits } from "./format/format";
import { dispatch, Operation } from "./format/list";
import { begin, beginBeside, end, settle } from "./change";
import { dropRange, flush, flushUsers, invalidate, reserveIds } from "./invalidate";
import { failsNow } from "./table/frames";
import { MapRange, permAndCap } from "./table/map";
import { CanTakeTables, TakeRoot } from "./table/root";
import { DropTables, UnmapRange } from "./table/unmap";
import { walkExact } from "./table/walk";

export function domainAt(engine: usize, index: u32): usize {
  return load<u32>(engine, ENGINE_DOMAINS) + index * <u32>DOMAIN_BYTES;
}

/** The first domain that is free; DOMAIN_NONE if none is. */
export function freeDomain(engine: usize): u32 {
  const capacity = load<u32>(engine, ENGINE_DOMAIN_CAPACITY);
  let index = load<u32>(engine, ENGINE_DOMAIN_FREE);
  while (index < capacity && load<u32>(domainAt(engine, index), DOMAIN_STATE)) index++;
  store<u32>(engine, index, ENGINE_DOMAIN_FREE);
  return index < capacity ? index : DOMAIN_NONE;
}

/** The record may be another domain's from here on. */
export function setFree(engine: usize, domain: usize): void {
  store<u32>(domain, DOMAIN_FREE, DOMAIN_STATE);
  const index = <u32>(domain - load<u32>(engine, ENGINE_DOMAINS)) / DOMAIN_BYTES;
  store<u32>(engine, min(load<u32>(engine, ENGINE_DOMAIN_FREE), index), ENGINE_DOMAIN_FREE);
}

/** Completes the record at `domain` with what its format says; 0 if the format has no such number of levels for that width. */
@unmanaged
@final
class TakeShape extends Operation {
  run<F extends Format>(_engine: usize, domain: usize, _a: u64, _b: u64, _c: u64, _d: u32): u64 {
    const f = changetype<F>(0);
    const levels = load<u32>(domain, DOMAIN_LEVELS);
    if (levels < f.minLevels() || levels > f.maxLevels()) return 0;
    const span = f.spanLg2(levels - 1);
    if (load<u32>(domain, DOMAIN_INPUT_LG2) > span + f.tableLg2() + f.concatenated()) return 0;
    const beyond = f.addressField() & ~lowBits(load<u32>(domain, DOMAIN_OUTPUT_LG2));
    store<u64>(domain, load<u64>(domain, DOMAIN_RESERVED_TABLE) | f.reservedBits(true) | beyond, DOMAIN_RESERVED_TABLE);
    store<u64>(domain, load<u64>(domain, DOMAIN_RESERVED_LEAF) | f.reservedBits(false) | beyond, DOMAIN_RESERVED_LEAF);
    store<u32>(domain, span - 3, DOMAIN_TOP_SHIFT);
    store<u32>(domain, f.smallLg2(), DOMAIN_SMALL_LG2);
    store<u32>(domain, f.largeLg2(), DOMAIN_LARGE_LG2);
    return load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_HALVES && !f.halves() ? 0 : 1;
  }
}

/** Which of two stages the tables of a format serve. */
@unmanaged
@final
class Stage extends Operation {
  run<F extends Format>(_engine: usize, _domain: usize, _a: u64, _b: u64, _c: u64, _d: u32): u64 { return changetype<F>(0).stage(); }
}

function stageOf(format: u32): u32 {
  return <u32>dispatch<Stage>(format, 0, 0, 0, 0, 0, 0);
}

/** Which batch walker serves the domain: none if its halves differ in format, or its stages are not those of their formats. */
function walkerOf(engine: usize, domain: usize): u32 {
  const flags = load<u32>(domain, DOMAIN_FLAGS);
  const format = load<u32>(domain, DOMAIN_FORMAT);
  let walker = (format << WALKER_FORMAT_SHIFT) | (flags & DOMAIN_GUEST ? WALKER_GUEST : 0);
  if (flags & DOMAIN_HALVES && load<u32>(domainAt(engine, load<u32>(domain, DOMAIN_UPPER)), DOMAIN_FORMAT) != format) return WALKER_EXACT;
  if (flags & DOMAIN_NESTED) {
    const second = load<u32>(domainAt(engine, load<u32>(domain, DOMAIN_STAGE2)), DOMAIN_FORMAT);
    if (stageOf(format) != 1 || stageOf(second) != 2) return WALKER_EXACT;
    walker |= WALKER_NESTED;
  }
  return walker;
}

/** Writes into the record of a domain that is complete, or of an entry of a PASID table, which batch walker serves it. */
export function chooseWalker(engine: usize, domain: usize): void {
  const walker = walkerOf(engine, domain);
  store<u8>(domain, <u8>walker, DOMAIN_WALKER);
  atomic.or<u64>(engine, <u64>1 << walker, ENGINE_WALKERS);
}

/** Stores the address rule (RULE_*) for iovas of widthLg2 bits. */
function setRule(domain: usize, rule: u32, widthLg2: u32): void {
  const tbi = (rule & RULE_TBI) != 0;
  const kind = rule & ~RULE_TBI;
  const above = ~lowBits(widthLg2);
  store<u64>(domain, kind == RULE_ZERO ? 0 : <u64>1 << (kind == RULE_SIGN ? widthLg2 - 1 : widthLg2), DOMAIN_BIAS);
  store<u64>(domain, tbi ? above & lowBits(56) : above, DOMAIN_HIGH);
  const whole = rule == RULE_ZERO && widthLg2 > TAG_ADDRESS_BITS;
  store<u64>(domain, whole ? ~(<u64>0) : lowBits(tbi ? 56 : TAG_ADDRESS_BITS), DOMAIN_ADDRESS_MASK);
}

/** `begin` of a change that may give domains new ids. */
export function beginFlush(engine: usize): u32 {
  const status = begin(engine);
  if (status != STATUS_OK || reserveIds(engine)) return status;
  end(engine);
  return STATUS_STALLED;
}

/** Such a status as an answer of unmap, which has removed nothing. */
export function unmapStatus(engine: usize, status: u32): u64 {
  if (status == STATUS_STALLED) store<u64>(engine, ~(<u64>0), ENGINE_UNFINISHED);
  if (status == STATUS_BUSY) return UNMAP_BUSY;
  return status == STATUS_STALLED ? UNMAP_STALLED : UNMAP_IN_SECTION;
}

/** The pages that the IOTLB holds of the domain are no larger than those of one that translates for it too. */
export function narrow(domain: usize, used: usize): void {
  store<u32>(domain, min(load<u32>(domain, DOMAIN_SMALL_LG2), load<u32>(used, DOMAIN_SMALL_LG2)), DOMAIN_SMALL_LG2);
  store<u32>(domain, min(load<u32>(domain, DOMAIN_LARGE_LG2), load<u32>(used, DOMAIN_LARGE_LG2)), DOMAIN_LARGE_LG2);
}

/** Takes `other` as stage 2 or upper half. */
function use(engine: usize, domain: usize, other: u32): void {
  const used = domainAt(engine, other);
  narrow(domain, used);
  store<u32>(used, load<u32>(used, DOMAIN_USERS) + 1, DOMAIN_USERS);
}

/** Writes the record of such tables at `domain`; false if the format has no such number of levels for that width. */
export function describe(
  engine: usize, domain: usize, format: u32, levels: u32, rule: u32, widthLg2: u32, outputLg2: u32, flags: u32, root: u64,
  reservedTable: u64, reservedLeaf: u64,
): bool {
  memory.fill(domain, 0, DOMAIN_BYTES);
  store<u32>(domain, format, DOMAIN_FORMAT);
  store<u32>(domain, levels, DOMAIN_LEVELS);
  store<u32>(domain, flags, DOMAIN_FLAGS);
  store<u32>(domain, outputLg2, DOMAIN_OUTPUT_LG2);
  store<u32>(domain, widthLg2, DOMAIN_INPUT_LG2);
  store<u64>(domain, lowBits(widthLg2), DOMAIN_INPUT_MASK);
  store<u64>(domain, reservedTable, DOMAIN_RESERVED_TABLE);
  store<u64>(domain, reservedLeaf, DOMAIN_RESERVED_LEAF);
  store<u64>(domain, root, DOMAIN_ROOT);
  setRule(domain, rule, widthLg2);
  return dispatch<TakeShape>(format, engine, domain, 0, 0, 0, 0) != 0;
}

/**
 * Makes a domain. `flags` are DOMAIN_* and OPTION_*; `root` is the address of the start table when they say DOMAIN_GUEST,
 * stage2 and upper are domains when they say DOMAIN_NESTED and DOMAIN_HALVES (the caller checks that these fit). Answers its
 * index, DOMAIN_NONE when all records are taken, DOMAIN_NO_FRAME when no frame is left for the root, DOMAIN_BAD_SHAPE for
 * levels that the format lacks, DOMAIN_BUSY or DOMAIN_STALLED. Nobody is waited for: no route leads to it yet.
 */
export function createDomain(
  engine: usize, format: u32, levels: u32, rule: u32, widthLg2: u32, outputLg2: u32, flags: u32, root: u64,
  reservedTable: u64, reservedLeaf: u64, stage2: u32, upper: u32,
): u32 {
  const status = beginBeside(engine);
  if (status != STATUS_OK) return status == STATUS_BUSY ? DOMAIN_BUSY : DOMAIN_STALLED;
  const index = reserveIds(engine)
    ? fillDomain(engine, format, levels, rule, widthLg2, outputLg2, flags, root, reservedTable, reservedLeaf, stage2, upper)
    : DOMAIN_STALLED;
  end(engine);
  return index;
}

function fillDomain(
  engine: usize, format: u32, levels: u32, rule: u32, widthLg2: u32, outputLg2: u32, flags: u32, root: u64,
  reservedTable: u64, reservedLeaf: u64, stage2: u32, upper: u32,
): u32 {
  const index = freeDomain(engine);
  if (index == DOMAIN_NONE || failsNow(engine)) return DOMAIN_NONE;
  const domain = domainAt(engine, index);
  if (!describe(engine, domain, format, levels, rule, widthLg2, outputLg2, flags, root, reservedTable, reservedLeaf)) return DOMAIN_BAD_SHAPE;
  store<u32>(domain, stage2, DOMAIN_STAGE2);
  store<u32>(domain, upper, DOMAIN_UPPER);
  if (!(flags & DOMAIN_GUEST)) {
    root = dispatch<TakeRoot>(format, engine, domain, 0, 0, 0, 0);
    if (!root) return DOMAIN_NO_FRAME;
    store<u64>(domain, root, DOMAIN_ROOT);
  }
  if (flags & DOMAIN_NESTED) use(engine, domain, stage2);
  if (flags & DOMAIN_HALVES) use(engine, domain, upper);
  chooseWalker(engine, domain);
  store<u32>(domain, DOMAIN_LIVE, DOMAIN_STATE);
  flush(engine, domain);
  return index;
}

function release(engine: usize, index: u32): void {
  const domain = domainAt(engine, index);
  store<u32>(domain, load<u32>(domain, DOMAIN_USERS) - 1, DOMAIN_USERS);
}

/**
 * Its tables go back to the pool. STATUS_ATTACHED (a route or a domain leads here) and a STATUS_* of `begin` change nothing. Of
 * a domain that is gone there is nothing to do: a call that timed out may be made again.
 */
export function destroyDomain(engine: usize, index: u32): u32 {
  const status = begin(engine);
  if (status != STATUS_OK) return status;
  const answer = emptyDomain(engine, domainAt(engine, index));
  end(engine);
  return answer;
}

/** Is the domain the stage 2 of a PASID table? Its entries count as users only while they are published. */
function belowTable(engine: usize, domain: usize): bool {
  let table = <usize>load<u32>(engine, ENGINE_PASID_TABLES);
  for (let n = load<u32>(engine, ENGINE_PASID_TABLE_CAPACITY); n; n--, table += PASID_TABLE_BYTES) {
    if (load<u32>(table, PASID_TABLE_STATE) && domainAt(engine, load<u32>(table, PASID_TABLE_STAGE2)) == domain) return true;
  }
  return false;
}

function emptyDomain(engine: usize, domain: usize): u32 {
  if (load<u32>(domain, DOMAIN_STATE) != DOMAIN_LIVE) return STATUS_OK;
  if (load<u32>(domain, DOMAIN_ROUTES) || load<u32>(domain, DOMAIN_USERS) || belowTable(engine, domain)) return STATUS_ATTACHED;
  const flags = load<u32>(domain, DOMAIN_FLAGS);
  if (flags & DOMAIN_NESTED) release(engine, load<u32>(domain, DOMAIN_STAGE2));
  if (flags & DOMAIN_HALVES) release(engine, load<u32>(domain, DOMAIN_UPPER));
  if (!(flags & DOMAIN_GUEST)) {
    dispatch<DropTables>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, 0, 0, 0, 0);
  }
  setFree(engine, domain);
  return settle(engine) ? STATUS_OK : STATUS_STALLED;
}

/**
 * [first..last] -> hpa with PERM_*, no leaf larger than 2^cap: a STATUS_*; nothing is written unless it is STATUS_OK. Nobody is
 * waited for: a reader finds an entry empty or complete.
 */
export function map(engine: usize, index: u32, first: u64, last: u64, hpa: u64, perm: u32, cap: u32): u32 {
  const status = begin(engine);
  if (status != STATUS_OK) return status;
  const domain = domainAt(engine, index);
  const answer = <u32>dispatch<MapRange>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, first, last, hpa, permAndCap(perm, cap));
  end(engine);
  return answer;
}

/** Are there frames for that many more tables of the domain? */
export function canTakeTables(engine: usize, index: u32, tables: u32): bool {
  const domain = domainAt(engine, index);
  return dispatch<CanTakeTables>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, 0, 0, 0, tables) != 0;
}

/** The answer of a change that was to wait: kept if a port stalls, for the call that waits again. */
export function settled(engine: usize, answer: u64, done: bool): u64 {
  if (done) return answer;
  store<u64>(engine, answer, ENGINE_UNFINISHED);
  return UNMAP_STALLED;
}

/** Removes [first..last] exactly: bytes removed or UNMAP_*. When it returns bytes, no port translates by what was removed. */
export function unmap(engine: usize, index: u32, first: u64, last: u64): u64 {
  const status = beginFlush(engine);
  if (status != STATUS_OK) return unmapStatus(engine, status);
  const domain = domainAt(engine, index);
  store<u64>(engine, 0, ENGINE_CLEARED);
  let bytes = dispatch<UnmapRange>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, first, last, 0, 0);
  if (bytes < UNMAP_STALLED) {
    dropRange(engine, domain, first, last, load<u64>(engine, ENGINE_CLEARED));
    flushUsers(engine, domain);
    bytes = settled(engine, bytes, settle(engine));
  }
  end(engine);
  return bytes;
}

/** New ids for the domain: STATUS_OK, or a STATUS_* of `begin`. */
export function flushDomain(engine: usize, index: u32): u32 {
  const status = beginFlush(engine);
  if (status != STATUS_OK) return status;
  flush(engine, domainAt(engine, index));
  flushUsers(engine, domainAt(engine, index));
  const done = settle(engine);
  end(engine);
  return done ? STATUS_OK : STATUS_STALLED;
}

/** Drops cached translations of [first..last], which a guest asks for after changing its table: STATUS_OK, or one of `begin`. */
export function invalidateDomain(engine: usize, index: u32, first: u64, last: u64): u32 {
  const status = beginFlush(engine);
  if (status != STATUS_OK) return status;
  const done = invalidate(engine, domainAt(engine, index), first, last);
  end(engine);
  return done ? STATUS_OK : STATUS_STALLED;
}

/** Exact walk of iova for PERM_* into the walk record at `out`: a REASON_*, 0 when translated. Reads only. */
export function walk(engine: usize, index: u32, iova: u64, need: u32, out: usize): u32 {
  return walkExact(engine, domainAt(engine, index), iova, need, out);
}
