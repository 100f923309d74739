// Why an access was refused, and the ring that tells it upwards. A fault is a record, never an exception.
// Imports layout, counters.
import {
  FAULT_ACCESS, FAULT_BYTES, FAULT_CLASS, FAULT_IOVA, FAULT_IPA, FAULT_LANE, FAULT_LEVEL, FAULT_PASID, FAULT_PTE,
  FAULT_REASON, FAULT_RECOVERABLE, FAULT_RID, FAULT_ROUTE, FAULT_STAGE, PERM_PRIVILEGED_SHIFT, PORT_FAULT_CAPACITY, PORT_FAULT_DROPPED,
  PORT_FAULT_HEAD, PORT_FAULT_OVERFLOW, PORT_FAULT_TAIL, PORT_FAULTS, RESULT_FAULT_BIT, RESULT_LEVEL_SHIFT,
  RESULT_RECOVERABLE_BIT,
} from "./layout";
import { Count } from "./counters";

export const REASON_NONE: u32 = 0;
export const REASON_NO_ROUTE: u32 = 1; // the route index is not one, or the route table is full
export const REASON_BLOCKED: u32 = 2; // no address space is attached for this (rid, pasid)
export const REASON_BAD_REQUEST: u32 = 3; // unknown access bits
export const REASON_ADDRESS_WIDTH: u32 = 4; // the iova breaks the address rule of the space
export const REASON_NOT_PRESENT: u32 = 5;
export const REASON_READ_DENIED: u32 = 6;
export const REASON_WRITE_DENIED: u32 = 7;
export const REASON_EXECUTE_DENIED: u32 = 8;
export const REASON_RESERVED: u32 = 9; // a reserved bit or encoding in an entry
export const REASON_TABLE_OUTSIDE: u32 = 10; // a guest's table is in no memory slot
export const REASON_ADDRESS_SIZE: u32 = 11; // a table or output address beyond the output width
export const REASON_ACCESS_FLAG: u32 = 12; // the accessed flag is clear, and nothing here may set it

export const CLASS_NONE: u32 = 0; // no table was involved
export const CLASS_INPUT: u32 = 1; // the access itself
export const CLASS_TABLE: u32 = 2; // reading a table on its behalf

/** The refusing permission, by the order in which manuals report it: read, write, execute. */
export function deniedReason(missing: u32): u32 {
  missing |= missing >> PERM_PRIVILEGED_SHIFT;
  if (missing & 1) return REASON_READ_DENIED;
  if (missing & 2) return REASON_WRITE_DENIED;
  return REASON_EXECUTE_DENIED;
}

/** Could a page make such a refusal of a domain's own table an access? */
export function canRecover(reason: u32): bool {
  return reason == REASON_NOT_PRESENT || reason == REASON_ACCESS_FLAG || (reason >= REASON_READ_DENIED && reason <= REASON_EXECUTE_DENIED);
}

export function faultResult(reason: u32, level: u32, recoverable: bool): u64 {
  return (<u64>1 << RESULT_FAULT_BIT) | (<u64>recoverable << RESULT_RECOVERABLE_BIT) | (<u64>level << RESULT_LEVEL_SHIFT) | <u64>reason;
}

/** Class of a reason that no two-stage walk gave. */
export function classOf(reason: u32): u32 {
  if (reason == REASON_TABLE_OUTSIDE) return CLASS_TABLE;
  return reason > REASON_BAD_REQUEST ? CLASS_INPUT : CLASS_NONE;
}

/**
 * Appends a record to the port's ring. A full ring drops the record, counts it and raises the overflow flag.
 * The head is stored last, so that a reader on another thread never sees half a record.
 */
export function pushFault(
  port: usize, lane: u32, iova: u64, ipa: u64, pte: u64, rid: u32, pasid: u32, route: u32,
  access: u32, reason: u32, stage: u32, level: u32, faultClass: u32, recoverable: bool,
): void {
  Count.fault(port, reason);
  const head = load<u32>(port, PORT_FAULT_HEAD);
  const capacity = load<u32>(port, PORT_FAULT_CAPACITY);
  if (head - atomic.load<u32>(port, PORT_FAULT_TAIL) >= capacity) {
    store<u64>(port, load<u64>(port, PORT_FAULT_DROPPED) + 1, PORT_FAULT_DROPPED);
    atomic.store<u32>(port, 1, PORT_FAULT_OVERFLOW);
    return;
  }
  const record = load<u32>(port, PORT_FAULTS) + (head & (capacity - 1)) * <u32>FAULT_BYTES;
  store<u64>(record, iova, FAULT_IOVA);
  store<u64>(record, ipa, FAULT_IPA);
  store<u64>(record, pte, FAULT_PTE);
  store<u32>(record, rid, FAULT_RID);
  store<u32>(record, pasid, FAULT_PASID);
  store<u32>(record, route, FAULT_ROUTE);
  store<u32>(record, lane, FAULT_LANE);
  store<u8>(record, <u8>access, FAULT_ACCESS);
  store<u8>(record, <u8>reason, FAULT_REASON);
  store<u8>(record, <u8>faultClass, FAULT_CLASS);
  store<u8>(record, <u8>stage, FAULT_STAGE);
  store<u8>(record, <u8>level, FAULT_LEVEL);
  store<u8>(record, <u8>recoverable, FAULT_RECOVERABLE);
  atomic.store<u32>(port, head + 1, PORT_FAULT_HEAD);
}
