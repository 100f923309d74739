// AMD-Vi events. AMD I/O Virtualization Technology Specification, 2.5.2 to 2.5.6 (event log entries of 128 bits).
// Imports the fault types.
//
//   ILLEGAL_DEV_TABLE_ENTRY 1, IO_PAGE_FAULT 2, DEV_TAB_HARDWARE_ERROR 3, PAGE_TAB_HARDWARE_ERROR 4
//   word 0  code 63..60 | flags 59..48 | DomainID or PASID 47..32 | DeviceID 15..0       word 1  address
import type { ArchitecturalFault, EngineRefusal, Request } from "./fault.js";

const CODES = { ILLEGAL_DEV_TABLE_ENTRY: 1, IO_PAGE_FAULT: 2, DEV_TAB_HARDWARE_ERROR: 3, PAGE_TAB_HARDWARE_ERROR: 4 } as const;
type AmdEvent = keyof typeof CODES;

/** Flags, by their bit in word 0. */
const PR = 1n << 52n; // the entry was present: the fault is one of permission
const RW = 1n << 53n; // a write
const PE = 1n << 54n; // permission violation, of a present entry
const RZ = 1n << 55n; // reserved bit or illegal encoding
/** Type of the hardware error: a table word that cannot be read is a master abort. */
const MASTER_ABORT = 1n << 57n;

function event(name: AmdEvent, request: Request, domainId: number, flags: bigint, address: bigint): ArchitecturalFault {
  const code = CODES[name];
  const word = (BigInt(code) << 60n) | flags | (request.write ? RW : 0n) | (BigInt(domainId) << 32n) | BigInt(request.rid);
  return { name, code, reported: true, record: [word, address] };
}

/** `refusal` undefined: the device table entry itself denies the access. SA in that entry suppresses these events, and no others. */
export function pageFault(request: Request, domainId: number, suppressed: boolean, refusal?: EngineRefusal): ArchitecturalFault {
  const denied = !refusal || refusal.reason === "read-denied" || refusal.reason === "write-denied";
  const flags = denied ? PR | PE : refusal.reason === "reserved" ? PR | RZ : 0n;
  return { ...event("IO_PAGE_FAULT", request, domainId, flags, request.iova), reported: !suppressed };
}

/** `reserved`: for a reserved bit, not for a value without meaning. */
export function illegalDeviceEntry(request: Request, reserved: boolean): ArchitecturalFault {
  return event("ILLEGAL_DEV_TABLE_ENTRY", request, 0, reserved ? RZ : 0n, request.iova);
}

/** `address` is that of the entry that could not be read, as far as it is known. */
export function hardwareError(
  name: "DEV_TAB_HARDWARE_ERROR" | "PAGE_TAB_HARDWARE_ERROR", request: Request, domainId: number, address: bigint,
): ArchitecturalFault {
  return event(name, request, domainId, MASTER_ABORT, address);
}

/** The request ends in a target abort and nothing is logged. */
export const AMD_NO_TRANSLATION: ArchitecturalFault = { name: "NO_TRANSLATION", code: undefined, reported: false };
