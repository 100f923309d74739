// What the user reads from the fault queue of an ioasid fd. Imports types of engine/ only. RFC section 5.6, with the tuple that its
// review asks for: ioasid, device label, PASID, address. Addresses are bytes. No PASID here is one of the hardware's.

import type { RawFault } from "../engine/port-records.js";

/** Which device, as its bind knows it, and with what PASID: the user's (a vPASID), or null for DMA without one. */
export interface FaultSource {
  /** The label that VFIO_BIND_IOASID_FD answered. */
  readonly device: number;
  /** The 64 bits that the user gave there. */
  readonly deviceCookie: bigint;
  readonly pasid: number | null;
  /** What the device asked for. */
  readonly iova: bigint;
  /** "r", "w" or "x" for each right that it wanted. */
  readonly access: string;
}

/** A page that a device waits for. Requests of one group are answered together, by their cookie. */
export interface PageRequest extends FaultSource {
  readonly kind: "request";
  /** For IOASID_PAGE_RESPONSE; never given twice by a host. All requests of a group have the same. */
  readonly cookie: number;
  /** The space whose table lacks the page. */
  readonly ioasid: number;
  /** The device's number of the group. */
  readonly group: number;
  /** The last request of its group: the group is complete. */
  readonly last: boolean;
}

/** An access that was refused for good. */
export interface FaultEvent extends FaultSource {
  readonly kind: "event";
  /** The space whose table, or lack of one, refused it; null when the DMA is led to none. */
  readonly ioasid: number | null;
  /** The space that the DMA was led to, and that `iova` is an address of, when that is not `ioasid` but nested on it; else null. */
  readonly child: number | null;
  /** Where in `ioasid` it was refused, when `child` is there; else null. */
  readonly ipa: bigint | null;
  readonly reason: RawFault["reason"];
  /** "input": the access itself; "table": reading a table on its behalf; "none": no table was involved. */
  readonly class: RawFault["class"];
  /** 1 or 2; 0 when no walk was made. */
  readonly stage: number;
  /** Where the walk ended; 0 is the leaf table. */
  readonly level: number;
}

/** Records were lost: the queue was full. Accesses whose requests were lost try again. */
export interface FaultOverflow {
  readonly kind: "overflow";
  readonly dropped: number;
}

export type FaultRecord = PageRequest | FaultEvent | FaultOverflow;
