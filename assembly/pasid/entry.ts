// What the decoders of PASID-table entries share: how a word of a table is read, how an entry refuses, and the record of the
// stage 1 that it names. Everything that a guest can write ends in one of these. Imports layout, memory, fault, domain, walk.
import {
  DOMAIN_BYTES, DOMAIN_EXACT, DOMAIN_FLAGS, DOMAIN_GUEST, DOMAIN_HALVES, DOMAIN_NESTED, DOMAIN_PAGE_REQUESTS, DOMAIN_SET_ACCESSED,
  DOMAIN_SET_DIRTY, DOMAIN_STAGE2, DOMAIN_STATE, DOMAIN_UPPER, DOMAIN_VACANT, ENGINE_DOMAIN_CAPACITY, ENGINE_DOMAINS, ENGINE_PORT_STRIDE,
  ENGINE_PORTS, FORMAT_X86_64, PASID_PAGE_REQUESTS, PASID_TABLE_FLAGS, PASID_TABLE_OUTPUT_LG2, PASID_TABLE_STAGE2, PERM_R, PORT_WALK,
  RULE_SIGN, WALK_CLASS, WALK_HPA, WALK_IPA, WALK_LEVEL, WALK_PTE, WALK_REASON, WALK_STAGE,
} from "../layout";
import { describe, domainAt, narrow } from "../domain";
import { CLASS_NONE, CLASS_TABLE, REASON_PASID_NOT_PRESENT, REASON_TABLE_OUTSIDE } from "../fault";
import { locate, NOWHERE } from "../memory";
import { walkAndMark } from "../table/walk-marked";
import { stage2Of } from "./pool";

/** What an entry says: nothing (the port's walk record has the refusal), a stage 1 in the scratch record, or stage 2 alone. */
export const ENTRY_REFUSED: u32 = 0;
export const ENTRY_STAGE1: u32 = 1;
export const ENTRY_PASS: u32 = 2;

/** Writes a refusal that no walk of tables has made; ENTRY_REFUSED, so that a decoder can end with it. */
export function refuseEntry(port: usize, reason: u32, level: u32, word: u64): u32 {
  const walk = port + PORT_WALK;
  store<u32>(walk, reason, WALK_REASON);
  store<u32>(walk, level, WALK_LEVEL);
  store<u64>(walk, word, WALK_PTE);
  store<u64>(walk, 0, WALK_IPA);
  store<u32>(walk, 0, WALK_STAGE);
  const read = reason == REASON_TABLE_OUTSIDE || (word != 0) || reason == REASON_PASID_NOT_PRESENT;
  store<u32>(walk, read ? CLASS_TABLE : CLASS_NONE, WALK_CLASS);
  return ENTRY_REFUSED;
}

/**
 * Memory offset of what lies at `address` of the space of stage 2, aligned to 8, up to the next multiple of 64; NOWHERE if stage
 * 2 refuses or no slot has it: the port's walk record then says so.
 */
export function fetch(engine: usize, port: usize, table: usize, address: u64, level: u32): usize {
  const walk = port + PORT_WALK;
  const reason = walkAndMark(engine, port, stage2Of(engine, table), address, PERM_R);
  if (reason) {
    store<u32>(walk, reason, WALK_REASON);
    store<u64>(walk, address, WALK_IPA);
    store<u32>(walk, CLASS_TABLE, WALK_CLASS);
    return NOWHERE;
  }
  const at = locate(engine, load<u64>(walk, WALK_HPA));
  if (at == NOWHERE) refuseEntry(port, REASON_TABLE_OUTSIDE, level, 0);
  return at;
}

/** The first of a port's two scratch records. */
export function scratchOf(engine: usize, port: usize): usize {
  return domainAt(engine, load<u32>(engine, ENGINE_DOMAIN_CAPACITY)) + 2 * portNumber(engine, port) * <usize>DOMAIN_BYTES;
}

function portNumber(engine: usize, port: usize): usize {
  return (port - load<u32>(engine, ENGINE_PORTS)) / load<u32>(engine, ENGINE_PORT_STRIDE);
}

/** Puts stage 2 below the tables that the scratch record describes. */
export function nest(engine: usize, table: usize, scratch: usize): void {
  const requests = load<u32>(table, PASID_TABLE_FLAGS) & PASID_PAGE_REQUESTS ? DOMAIN_PAGE_REQUESTS : 0;
  store<u32>(scratch, load<u32>(table, PASID_TABLE_STAGE2), DOMAIN_STAGE2);
  store<u32>(scratch, load<u32>(scratch, DOMAIN_FLAGS) | DOMAIN_NESTED | DOMAIN_EXACT | requests, DOMAIN_FLAGS);
  store<u32>(scratch, DOMAIN_VACANT, DOMAIN_STATE);
  narrow(scratch, stage2Of(engine, table));
}

/** Makes the second scratch record the upper half of the first, whose stage 2 is in place. */
export function joinHalves(engine: usize, scratch: usize): void {
  const upper = scratch + DOMAIN_BYTES;
  store<u32>(scratch, load<u32>(scratch, DOMAIN_FLAGS) | DOMAIN_HALVES, DOMAIN_FLAGS);
  store<u32>(scratch, <u32>(upper - load<u32>(engine, ENGINE_DOMAINS)) / DOMAIN_BYTES, DOMAIN_UPPER);
  narrow(scratch, upper);
}

/** x86-64 tables: canonical input, accessed and dirty bits always set (VT-d 3.6, AMD-Vi 2.2.6). */
export function describeX86(engine: usize, table: usize, scratch: usize, levels: u32, root: u64, options: u32): u32 {
  describe(engine, scratch, FORMAT_X86_64, levels, RULE_SIGN, 12 + 9 * levels, load<u32>(table, PASID_TABLE_OUTPUT_LG2),
    DOMAIN_GUEST | DOMAIN_SET_ACCESSED | DOMAIN_SET_DIRTY | options, root, 0, 0);
  nest(engine, table, scratch);
  return ENTRY_STAGE1;
}
