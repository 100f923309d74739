// What a domain that shadows another needs, and what its owner asks of it: merge with the table of the parent, the leaves of a
// range, and which of them were written. Records are answered in the scratch area. Ranges are first..last, inclusive.
// Imports layout, domain, invalidate, tables.
import {
  DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_GUEST, DOMAIN_INPUT_LG2, DOMAIN_INPUT_MASK, DOMAIN_LEVELS, DOMAIN_OUTPUT_LG2, DOMAIN_SET_DIRTY,
  ENGINE_FOUND, RECORDS_REFUSED, STATUS_IN_SECTION, STATUS_MISMATCH, STATUS_NOT_OWNED, STATUS_OK,
} from "./layout";
import { domainAt, flushDomain } from "./domain";
import { dispatch } from "./format/list";
import { inSection, invalidate } from "./invalidate";
import { CleanLeaves, DirtyLeaves, TrackLeaves, UntrackLeaves } from "./table/dirty";
import { LeafRuns, VisitLeaves } from "./table/leaves";
import { isInput, PERM_BITS } from "./table/map";
import { MergeRange, PARENT_SHIFT } from "./table/merge";

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
 * [first..last] of the child -> what the parent maps from gpa on, with PERM_* and what the parent permits: a STATUS_*. Where
 * the parent maps nothing the child does not either. Nothing is written unless it is STATUS_OK.
 */
export function merge(engine: usize, childIndex: u32, parentIndex: u32, first: u64, last: u64, gpa: u64, perm: u32): u32 {
  if (inSection(engine)) return STATUS_IN_SECTION;
  const child = domainAt(engine, childIndex);
  const status = pairStatus(child, domainAt(engine, parentIndex));
  if (status != STATUS_OK) return status;
  const both = min(perm, PERM_BITS) | (parentIndex << PARENT_SHIFT);
  return <u32>dispatch<MergeRange>(load<u32>(child, DOMAIN_FORMAT), engine, child, first, last, gpa, both);
}

/** Has the domain tables of the kernel's for that range? Otherwise ENGINE_FOUND says that it has not. */
function owns(engine: usize, domain: usize, first: u64, last: u64): bool {
  if (!(load<u32>(domain, DOMAIN_FLAGS) & DOMAIN_GUEST) && isInput(domain, first, last)) return true;
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
  const reached = dispatch<VisitLeaves<CleanLeaves>>(format, engine, domain, first, last, 0, 0);
  if (load<u32>(engine, ENGINE_FOUND)) invalidate(engine, domain, first, reached);
  return reached;
}

/** From now on every leaf is clean until it is written through; or writes are recorded no more. A STATUS_*. */
export function trackDirty(engine: usize, index: u32, on: bool): u32 {
  if (inSection(engine)) return STATUS_IN_SECTION;
  const domain = domainAt(engine, index);
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
  flushDomain(engine, index);
  return STATUS_OK;
}
