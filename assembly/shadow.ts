// What a domain that shadows another needs, and what its owner asks of it: merge with the table of the parent, the leaves of a
// range, and which of them were written. Records are answered in the scratch area. Ranges are first..last, inclusive.
// Imports layout, change, domain, invalidate, tables.
import {
  AREA_FIRST, AREA_GPA, AREA_LAST, AREA_PERM, DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_GUEST, DOMAIN_INPUT_LG2, DOMAIN_INPUT_MASK,
  DOMAIN_LEVELS, DOMAIN_OUTPUT_LG2, DOMAIN_SET_DIRTY,
  ENGINE_FOUND, ENGINE_SCRATCH, RECORDS_REFUSED, STATUS_MISMATCH, STATUS_NO_FRAMES, STATUS_NOT_OWNED, STATUS_OK, STATUS_STALLED,
} from "./layout";
import { beginFlush, canTakeTables, domainAt } from "./domain";
import { dispatch } from "./format/list";
import { begin, end, settle } from "./change";
import { flush, flushUsers, invalidate } from "./invalidate";
import { CleanLeaves, DirtyLeaves, TrackLeaves, UntrackLeaves } from "./table/dirty";
import { LeafRuns, VisitLeaves } from "./table/leaves";
import { Check } from "./table/map";
import { PlanMerge, PutMerge } from "./table/merge";

/** Two tables of the kernel's, and entries of one mean the same in the other: a STATUS_*. */
function pairStatus(child: usize, parent: usize): u32 {
  if ((load<u32>(child, DOMAIN_FLAGS) | load<u32>(parent, DOMAIN_FLAGS)) & DOMAIN_GUEST) return STATUS_NOT_OWNED;
  const same = child != parent && load<u32>(child, DOMAIN_FORMAT) == load<u32>(parent, DOMAIN_FORMAT)
    && load<u32>(child, DOMAIN_LEVELS) == load<u32>(parent, DOMAIN_LEVELS)
    && load<u32>(child, DOMAIN_INPUT_LG2) == load<u32>(parent, DOMAIN_INPUT_LG2)
    && load<u32>(child, DOMAIN_OUTPUT_LG2) >= load<u32>(parent, DOMAIN_OUTPUT_LG2);
  return same ? STATUS_OK : STATUS_MISMATCH;
}

/**
 * Plans n areas of the scratch area: the tables that their merge needs in the high half, and in the low half the STATUS_* that
 * it would answer with frames enough. With `fresh` they are the first of a list that ascends, else they go on behind those
 * planned before: a table that serves both is counted once.
 */
export function planMerge(engine: usize, childIndex: u32, parentIndex: u32, n: u32, fresh: bool): u64 {
  const status = begin(engine);
  if (status != STATUS_OK) return status;
  const child = domainAt(engine, childIndex);
  const parent = domainAt(engine, parentIndex);
  const pair = pairStatus(child, parent);
  const answer = pair == STATUS_OK
    ? dispatch<PlanMerge>(load<u32>(child, DOMAIN_FORMAT), engine, child, parent, u64(fresh), 0, n)
    : <u64>pair;
  end(engine);
  return answer;
}

/** Merges n areas of the scratch area as they were planned. They are all planned, and their tables granted. Nobody is waited for. */
export function putMerge(engine: usize, childIndex: u32, parentIndex: u32, n: u32): void {
  const child = domainAt(engine, childIndex);
  dispatch<PutMerge>(load<u32>(child, DOMAIN_FORMAT), engine, child, domainAt(engine, parentIndex), 0, 0, n);
}

/** Both, for a list that the scratch area holds: a STATUS_*. Nothing is written unless it is STATUS_OK. */
export function mergeMany(engine: usize, childIndex: u32, parentIndex: u32, n: u32): u32 {
  const plan = planMerge(engine, childIndex, parentIndex, n, true);
  if (<u32>plan != STATUS_OK) return <u32>plan;
  if (!canTakeTables(engine, childIndex, <u32>(plan >> 32))) return STATUS_NO_FRAMES;
  putMerge(engine, childIndex, parentIndex, n);
  return STATUS_OK;
}

/**
 * [first..last] of the child -> what the parent maps from gpa on, with PERM_* and what the parent permits: a STATUS_*. Where
 * the parent maps nothing the child does not either. Nothing is written unless it is STATUS_OK.
 */
export function merge(engine: usize, childIndex: u32, parentIndex: u32, first: u64, last: u64, gpa: u64, perm: u32): u32 {
  const area = <usize>load<u32>(engine, ENGINE_SCRATCH);
  store<u64>(area, first, AREA_FIRST);
  store<u64>(area, last, AREA_LAST);
  store<u64>(area, gpa, AREA_GPA);
  store<u32>(area, perm, AREA_PERM);
  return mergeMany(engine, childIndex, parentIndex, 1);
}

/** Has the domain tables of the kernel's for that range? Otherwise ENGINE_FOUND says that it has not. */
function owns(engine: usize, domain: usize, first: u64, last: u64): bool {
  if (!(load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST) && Check.isInput(domain, first, last)) return true;
  store<u32>(engine, RECORDS_REFUSED, ENGINE_FOUND);
  return false;
}

/**
 * Writes runs of leaves of [first..last] into the scratch area, ENGINE_FOUND of them, and answers how far they reach: `last`,
 * unless there are more.
 */
export function leafRuns(engine: usize, index: u32, first: u64, last: u64): u64 {
  const domain = domainAt(engine, index);
  if (!owns(engine, domain, first, last)) return last;
  return dispatch<VisitLeaves<LeafRuns>>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, first, last, 0, 0);
}

/**
 * The same for the ranges of dirty leaves. With `clear` the leaves that lie in [first..last] whole are cleaned, and the
 * IOTLB entries of the range dropped: they carry W.
 */
export function collectDirty(engine: usize, index: u32, first: u64, last: u64, clear: bool): u64 {
  const domain = domainAt(engine, index);
  if (!owns(engine, domain, first, last)) return last;
  const format = load<u32>(domain, DOMAIN_FORMAT);
  if (!clear) return dispatch<VisitLeaves<DirtyLeaves>>(format, engine, domain, first, last, 0, 0);
  const status = beginFlush(engine);
  if (status != STATUS_OK) {
    store<u32>(engine, RECORDS_REFUSED - status, ENGINE_FOUND);
    return last;
  }
  const reached = dispatch<VisitLeaves<CleanLeaves>>(format, engine, domain, first, last, 0, 0);
  // A port that stalls must not cost the answer, whose bits are cleared already: the next change waits for it first.
  if (load<u32>(engine, ENGINE_FOUND)) invalidate(engine, domain, first, reached);
  end(engine);
  return reached;
}

/** From now on every leaf is clean until it is written through; or writes are recorded no more. A STATUS_*. */
export function trackDirty(engine: usize, index: u32, on: bool): u32 {
  const status = beginFlush(engine);
  if (status != STATUS_OK) return status;
  const answer = switchTracking(engine, domainAt(engine, index), on);
  end(engine);
  return answer;
}

function switchTracking(engine: usize, domain: usize, on: bool): u32 {
  const flags = load<u32>(domain, DOMAIN_FLAGS);
  if (flags & DOMAIN_GUEST) return STATUS_NOT_OWNED;
  if (((flags & DOMAIN_SET_DIRTY) != 0) == on) return STATUS_OK;
  const format = load<u32>(domain, DOMAIN_FORMAT);
  const last = load<u64>(domain, DOMAIN_INPUT_MASK);
  // A leaf that waits to be dirtied may be written through only where the flag says so: it comes first, and goes last.
  if (on) {
    store<u32>(domain, flags | DOMAIN_SET_DIRTY, DOMAIN_FLAGS);
    dispatch<VisitLeaves<TrackLeaves>>(format, engine, domain, 0, last, 0, 0);
  } else {
    dispatch<VisitLeaves<UntrackLeaves>>(format, engine, domain, 0, last, 0, 0);
    store<u32>(domain, flags & ~DOMAIN_SET_DIRTY, DOMAIN_FLAGS);
  }
  flush(engine, domain);
  flushUsers(engine, domain);
  return settle(engine) ? STATUS_OK : STATUS_STALLED;
}
