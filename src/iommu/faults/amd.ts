// AMD-Vi events. AMD I/O Virtualization Technology Specification, 2.5.2 to 2.5.6 (event log entries of 128 bits).
// Imports the fault types.
//
//   ILLEGAL_DEV_TABLE_ENTRY 1, IO_PAGE_FAULT 2, DEV_TAB_HARDWARE_ERROR 3, PAGE_TAB_HARDWARE_ERROR 4
//   word 0  code 63..60 | flags 59..48 | DomainID or PASID 47..32 | DeviceID 15..0       word 1  address
import type { ArchitecturalFault, EngineRefusal, Request } from "./fault.js";

const CODES = { ILLEGAL_DEV_TABLE_ENTRY: 1, IO_PAGE_FAULT: 2, DEV_TAB_HARDWARE_ERROR: 3, PAGE_TAB_HARDWARE_ERROR: 4 } as const;
export type AmdEvent = keyof typeof CODES;

/** Flags, by their bit in word 0. */
const PR = 1n << 52n; // the entry was present: the fault is one of permission
const RW = 1n << 53n; // a write
const PE = 1n << 54n; // permission violation, of a present entry
const RZ = 1n << 55n; // reserved bit or illegal encoding
/** Type of the hardware error: a table word that cannot be read is a master abort. */
const MASTER_ABORT = 1n << 57n;

/** Flags of an I/O page fault; `refusal` undefined: the device table entry itself denies the access. */
function pageFaultFlags(refusal: EngineRefusal | undefined): bigint {
  if (!refusal || refusal.reason === "read-denied" || refusal.reason === "write-denied") return PR | PE;
  return refusal.reason === "reserved" ? PR | RZ : 0n;
}

/**
 * An event of a request. `suppressed`: the device table entry asks for no page faults (SA); other events are always logged.
 * `address` is that of the structure for the hardware errors, else the request's.
 */
export function amdEvent(
  name: AmdEvent, request: Request, domainId: number, suppressed = false, refusal?: EngineRefusal, address = request.iova,
): ArchitecturalFault {
  const code = CODES[name];
  const write = request.write ? RW : 0n;
  const flags = name === "IO_PAGE_FAULT" ? pageFaultFlags(refusal) : name === "ILLEGAL_DEV_TABLE_ENTRY" ? RZ : MASTER_ABORT;
  const word = (BigInt(code) << 60n) | flags | write | (BigInt(domainId) << 32n) | BigInt(request.rid);
  return { name, code, reported: !(suppressed && name === "IO_PAGE_FAULT"), record: [word, address] };
}

/** The request ends in a target abort and nothing is logged. */
export const AMD_NO_TRANSLATION: ArchitecturalFault = { name: "NO_TRANSLATION", code: undefined, reported: false };
