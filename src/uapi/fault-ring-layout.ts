// Layout of the records in the fault queue of an ioasid fd, for those who read `faults.ring`. Imports nothing. Little-endian.
//
//   0 kind u32     4 flags u32    8 ioasid u32   12 child u32
//  16 device u32  20 pasid u32   24 device's cookie u64
//  32 iova u64                   40 ipa u64
//  48 cookie, or records dropped, u64
//  56 group u32   60 access u8   61 reason u8    62 class u8: low half, stage: high half   63 level u8

export const FAULT_RECORD_BYTES = 64;
export const FAULT_RING_KIND = 0; // u32, FAULT_RING_KIND_*
export const FAULT_RING_FLAGS = 4; // u32, FAULT_RING_FLAG_*
export const FAULT_RING_IOASID = 8; // u32; 0: none
export const FAULT_RING_CHILD = 12; // u32; 0: none
export const FAULT_RING_DEVICE = 16; // u32, label
export const FAULT_RING_PASID = 20; // u32; FAULT_RING_FLAG_PASID says whether there is one
export const FAULT_RING_DEVICE_COOKIE = 24; // u64
export const FAULT_RING_IOVA = 32; // u64
export const FAULT_RING_IPA = 40; // u64; valid with a child
export const FAULT_RING_COOKIE = 48; // u64, of a request; of an overflow: how many records were dropped
export const FAULT_RING_GROUP = 56; // u32
export const FAULT_RING_ACCESS = 60; // u8: 1 read, 2 write, 4 execute
export const FAULT_RING_REASON = 61; // u8, index of REASON_NAMES
export const FAULT_RING_CLASS_STAGE = 62; // u8: index of CLASS_NAMES | stage << 4
export const FAULT_RING_LEVEL = 63; // u8
export const FAULT_RING_KIND_REQUEST = 1;
export const FAULT_RING_KIND_EVENT = 2;
export const FAULT_RING_KIND_OVERFLOW = 3;
export const FAULT_RING_FLAG_PASID = 1;
export const FAULT_RING_FLAG_LAST = 2;

/** The ring as the user sees it: records tail..head - 1, the n-th at slot n % depth. Nothing can be changed through it. */
export interface FaultRingView {
  /** Records that it holds at most. */
  readonly depth: number;
  /** `tail` counts the records taken; `head` goes back when an answer, or a detach, takes unread requests out. */
  readonly head: number;
  readonly tail: number;
  /** The number at a byte offset, slot * 64 + FAULT_RING_*. Throws RangeError outside the ring. */
  getUint8(offset: number): number;
  getUint32(offset: number): number;
  getBigUint64(offset: number): bigint;
}
