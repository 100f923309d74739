// Map and unmap of lists, with all that belongs to them: records in the scratch area, LEAF_* of maps (LEAF_LG2 is the largest leaf)
// and RANGE_* of what is unmapped. Ranges are first..last, inclusive. Imports layout, change, domain, invalidate, tables.
import { DOMAIN_FORMAT, ENGINE_CLEARED, ENGINE_SCRATCH, STATUS_NO_FRAMES, STATUS_OK } from "./layout";
import { begin, end, settle } from "./change";
import { beginFlush, canTakeTables, domainAt, settled, unmapStatus } from "./domain";
import { dispatch } from "./format/list";
import { dropRanges, flushUsers } from "./invalidate";
import { CheckUnmaps, PlanMaps, PutMaps, TakeUnmaps } from "./table/lists";

/**
 * Plans n maps of the scratch area, which ascend and do not overlap: the tables that they need in the high half, and in the low
 * half the STATUS_* that they would answer with frames enough. With `fresh` they are the first of a list, else they go on behind
 * those planned before: a table that serves both is counted once.
 */
export function planMany(engine: usize, index: u32, n: u32, fresh: bool): u64 {
  const status = begin(engine);
  if (status != STATUS_OK) return status;
  const domain = domainAt(engine, index);
  const answer = dispatch<PlanMaps>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, u64(fresh), 0, 0, n);
  end(engine);
  return answer;
}

/** Makes n maps of the scratch area. They are all planned, and their tables granted. Nobody is waited for. */
export function putMany(engine: usize, index: u32, n: u32): void {
  const domain = domainAt(engine, index);
  dispatch<PutMaps>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, 0, 0, 0, n);
}

/** Both, for a list that the scratch area holds: a STATUS_*. Nothing is written unless it is STATUS_OK. */
export function mapMany(engine: usize, index: u32, n: u32): u32 {
  const plan = planMany(engine, index, n, true);
  if (<u32>plan != STATUS_OK) return <u32>plan;
  if (!canTakeTables(engine, index, <u32>(plan >> 32))) return STATUS_NO_FRAMES;
  putMany(engine, index, n);
  return STATUS_OK;
}

/** Could n ranges of the scratch area be removed? 0, or the UNMAP_* why not. */
export function checkUnmaps(engine: usize, index: u32, n: u32): u64 {
  const domain = domainAt(engine, index);
  return dispatch<CheckUnmaps>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, 0, 0, 0, n);
}

/**
 * Removes n ranges of the scratch area exactly: bytes removed, or UNMAP_*, and then nothing is removed. There is one wait for them
 * all. When it returns bytes, no port translates by what was removed.
 */
export function unmapMany(engine: usize, index: u32, n: u32): u64 {
  const status = beginFlush(engine);
  if (status != STATUS_OK) return unmapStatus(engine, status);
  let answer = checkUnmaps(engine, index, n);
  if (!answer) {
    const domain = domainAt(engine, index);
    store<u64>(engine, 0, ENGINE_CLEARED);
    answer = dispatch<TakeUnmaps>(load<u32>(domain, DOMAIN_FORMAT), engine, domain, 0, 0, 0, n);
    dropRanges(engine, domain, load<u32>(engine, ENGINE_SCRATCH), n, load<u64>(engine, ENGINE_CLEARED));
    flushUsers(engine, domain);
    answer = settled(engine, answer, settle(engine));
  }
  end(engine);
  return answer;
}
