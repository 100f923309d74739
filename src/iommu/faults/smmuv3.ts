// SMMUv3 events. Arm SMMUv3 architecture specification (IHI 0070), 7.3 (event records of 32 bytes), 3.12 (which faults are
// recorded). Imports the engine's fault names and the fault types.
//
//   word 0  StreamID 63..32 | SubstreamID 31..12 | SSV 11 | type 7..0
//   word 1  CLASS 41..40 | S2 39 | RnW 35 | InD 34 | PnU 33       word 2  InputAddr       word 3  IPA or FetchAddr
import type { ArchitecturalFault, EngineRefusal, Request } from "./fault.js";

const TYPES = {
  C_BAD_STREAMID: 0x02, F_STE_FETCH: 0x03, C_BAD_STE: 0x04, F_STREAM_DISABLED: 0x06, C_BAD_SUBSTREAMID: 0x08, F_CD_FETCH: 0x09,
  C_BAD_CD: 0x0a, F_WALK_EABT: 0x0b, F_TRANSLATION: 0x10, F_ADDR_SIZE: 0x11, F_ACCESS: 0x12, F_PERMISSION: 0x13,
} as const;

export type Smmuv3Event = keyof typeof TYPES;
export type Smmuv3ConfigurationEvent = "C_BAD_STREAMID" | "F_STE_FETCH" | "C_BAD_STE" | "F_STREAM_DISABLED" | "C_BAD_SUBSTREAMID"
  | "F_CD_FETCH" | "C_BAD_CD";
export type Smmuv3Class = "CD" | "TT" | "IN";

const CLASSES: Readonly<Record<Smmuv3Class, bigint>> = { CD: 0n, TT: 1n, IN: 2n };
const IPA = 0x000ffffffffff000n;
const FETCH = 0x00fffffffffffff8n;

function firstWord(type: number, { rid, pasid }: Request): bigint {
  const substream = pasid === undefined ? 0n : (BigInt(pasid) << 12n) | (1n << 11n);
  return (BigInt(rid) << 32n) | substream | BigInt(type);
}

/** Faults of configuration are always recorded (7.3). `fetch`: the address of a structure that could not be read. */
export function configurationEvent(event: Smmuv3ConfigurationEvent, request: Request, fetch = 0n): ArchitecturalFault {
  const code = TYPES[event];
  return { name: event, code, reported: true, record: [firstWord(code, request), 0n, 0n, fetch & FETCH] };
}

/** A stream that is configured to abort: no event. */
export const SMMUV3_ABORT: ArchitecturalFault = { name: "ABORT", code: undefined, reported: false };

export interface TranslationFault {
  event: "F_WALK_EABT" | "F_TRANSLATION" | "F_ADDR_SIZE" | "F_ACCESS" | "F_PERMISSION";
  stage: 1 | 2;
  class: Smmuv3Class;
  ipa: bigint;
  /** Of the descriptor that could not be read: F_WALK_EABT. */
  fetch?: bigint | undefined;
}

/** Events of translation; an external abort on a table is always recorded, others as `record` (CD.R or STE.S2R) says. */
export function translationEvent(
  { event, stage, class: cause, ipa, fetch = 0n }: TranslationFault, request: Request, record: boolean,
): ArchitecturalFault {
  const code = TYPES[event];
  // Fetches of tables and descriptors are reads, whatever the request is.
  const reads = cause === "IN" ? !request.write : true;
  const word = (CLASSES[cause] << 40n) | (stage === 2 ? 1n << 39n : 0n) | (reads ? 1n << 35n : 0n) | (request.privileged ? 1n << 33n : 0n);
  const last = event === "F_WALK_EABT" ? fetch & FETCH : stage === 2 ? ipa & IPA : 0n;
  const words = [firstWord(code, request), word, request.iova, last];
  return { name: event, code, reported: record || event === "F_WALK_EABT", record: words, stage, class: cause };
}

/** The event for a reason of the engine; F_TRANSLATION also for an input beyond the configured size (3.4.1). */
export function translationEventName(reason: EngineRefusal["reason"]): TranslationFault["event"] {
  switch (reason) {
    case "table-outside": return "F_WALK_EABT";
    case "address-size": return "F_ADDR_SIZE";
    case "access-flag": return "F_ACCESS";
    case "read-denied": case "write-denied": case "execute-denied": return "F_PERMISSION";
    default: return "F_TRANSLATION";
  }
}
