// VT-d fault reasons and fault records. Intel VT-d Architecture Specification, 7.1.2 and 7.1.3 (fault conditions of legacy
// and of scalable mode, with what "qualified" means), 11.4.7.6 and 11.4.14 (fault recording registers).
// Imports the engine's fault names. A first stage is VT-d's first stage, stage 2 its second one.
import type { ArchitecturalFault, EngineRefusal, Request } from "./fault.js";

/** A number of each mode (undefined: not possible there), and whether FPD can suppress the report. */
interface Reason {
  legacy?: number;
  scalable?: number;
  qualified: boolean;
}

const REASONS = {
  "root-table-access-error": { legacy: 0x08, scalable: 0x38, qualified: false },
  "root-entry-not-present": { legacy: 0x01, scalable: 0x39, qualified: false },
  "root-entry-reserved-bit": { legacy: 0x0a, scalable: 0x3a, qualified: false },
  "context-table-access-error": { legacy: 0x09, scalable: 0x40, qualified: false },
  "context-entry-not-present": { legacy: 0x02, scalable: 0x41, qualified: true },
  "context-entry-reserved-bit": { legacy: 0x0b, scalable: 0x42, qualified: false },
  "context-entry-invalid": { legacy: 0x03, scalable: 0x43, qualified: true },
  "pasid-disabled": { scalable: 0x45, qualified: true },
  "pasid-beyond-directory": { scalable: 0x46, qualified: true },
  "rid-pasid-invalid": { scalable: 0x48, qualified: true },
  "pasid-dir-access-error": { scalable: 0x50, qualified: false },
  "pasid-dir-entry-not-present": { scalable: 0x51, qualified: true },
  "pasid-dir-entry-reserved-bit": { scalable: 0x52, qualified: true },
  "pasid-table-access-error": { scalable: 0x58, qualified: false },
  "pasid-entry-not-present": { scalable: 0x59, qualified: true },
  "pasid-entry-reserved-bit": { scalable: 0x5a, qualified: true },
  "pasid-entry-invalid": { scalable: 0x5b, qualified: true },
  "fs-entry-access-error": { scalable: 0x70, qualified: true },
  "fs-entry-not-present": { scalable: 0x71, qualified: true },
  "fs-entry-reserved-bit": { scalable: 0x72, qualified: true },
  "fs-root-access-error": { scalable: 0x73, qualified: true },
  "fs-entry-beyond-width": { scalable: 0x74, qualified: true },
  "fs-root-not-readable": { scalable: 0x75, qualified: true },
  "fs-entry-not-readable": { scalable: 0x76, qualified: true },
  "fs-entry-not-writable": { scalable: 0x77, qualified: true },
  "ss-entry-access-error": { legacy: 0x07, scalable: 0x78, qualified: true },
  "ss-entry-reserved-bit": { legacy: 0x0c, scalable: 0x7a, qualified: true },
  "ss-root-access-error": { legacy: 0x03, scalable: 0x7b, qualified: true },
  "address-not-canonical": { scalable: 0x80, qualified: true },
  "fs-user-bit-clear": { scalable: 0x81, qualified: true },
  "address-beyond-width": { legacy: 0x04, scalable: 0x83, qualified: true },
  "fs-output-beyond-width": { scalable: 0x84, qualified: true },
  "write-not-permitted": { legacy: 0x05, scalable: 0x85, qualified: true },
  "fs-write-not-permitted": { scalable: 0x85, qualified: true },
  "read-not-permitted": { legacy: 0x06, scalable: 0x86, qualified: true },
  "output-in-interrupt-range": { legacy: 0x0e, qualified: true },
  "sm-output-in-interrupt-range": { scalable: 0x87, qualified: true },
} as const satisfies Record<string, Reason>;

export type VtdReason = keyof typeof REASONS;
export type VtdMode = "legacy" | "scalable";

/** Where the fault was met. */
export interface VtdFaultContext {
  mode: VtdMode;
  /** Fault processing is disabled by one of the structures that were read. */
  fpd: boolean;
}

/** The fault as software sees it: FR, and the 128 bits of a fault recording register. */
export function vtdFault(reason: VtdReason, { mode, fpd }: VtdFaultContext, request: Request): ArchitecturalFault {
  const entry: Reason = REASONS[reason];
  const code = entry[mode];
  if (code === undefined) throw new Error(`${reason} does not exist in ${mode} mode`);
  return { name: reason, code, reported: !(entry.qualified && fpd), record: faultRecord(code, request) };
}

/** Fault recording register (11.4.14): FI 63..12 | SID 79..64, T2 92, PRIV 93, EXE 94, PP 95, FR 103..96, PASID 123..104, T1 126, F 127. */
function faultRecord(code: number, { rid, pasid, iova, write, privileged }: Request): readonly bigint[] {
  const pp = pasid === undefined ? 0n : 1n << 31n;
  const priv = pasid !== undefined && privileged ? 1n << 29n : 0n;
  const high = BigInt(rid) | priv | pp | (BigInt(code) << 32n) | (BigInt(pasid ?? 0) << 40n)
    | (write ? 0n : 1n << 62n) | (1n << 63n);
  return [iova & ~0xfffn, high];
}

/** What the walk met, and where: the tables' root level, and what stages there are. */
export interface VtdWalkContext extends VtdFaultContext {
  stages: "first" | "second" | "nested";
  /** Level of the start table of the stage that refused. */
  topLevel: number;
}

function firstStage(refusal: EngineRefusal, topLevel: number, write: boolean): VtdReason {
  switch (refusal.reason) {
    case "address-width": return "address-not-canonical";
    case "not-present": return "fs-entry-not-present";
    case "table-outside": return refusal.level === topLevel ? "fs-root-access-error" : "fs-entry-access-error";
    // A first stage cannot deny reading but by U/S (3.6.1); that comes before R/W.
    case "read-denied": return "fs-user-bit-clear";
    case "write-denied": return refusal.readable || !write ? "fs-write-not-permitted" : "fs-user-bit-clear";
    default: return "fs-entry-reserved-bit";
  }
}

function secondStage(refusal: EngineRefusal, context: VtdWalkContext, write: boolean): VtdReason {
  switch (refusal.reason) {
    case "address-width": return "address-beyond-width";
    // No present bit: an entry that grants nothing is one without the permission (3.7).
    case "not-present":
    case "read-denied":
    case "write-denied": return write ? "write-not-permitted" : "read-not-permitted";
    case "table-outside": return refusal.level === context.topLevel ? rootUnreadable(context.mode) : "ss-entry-access-error";
    default: return "ss-entry-reserved-bit";
  }
}

/** Legacy mode has no number of its own for it: the pointer is part of an invalid context entry. */
function rootUnreadable(mode: VtdMode): VtdReason {
  return mode === "legacy" ? "context-entry-invalid" : "ss-root-access-error";
}

/** Stage 2 refused an entry of stage 1, or its output (7.1.3, nested translation). */
function nestedStage(refusal: EngineRefusal, context: VtdWalkContext, write: boolean): VtdReason {
  const table = refusal.class === "table";
  if (refusal.reason === "address-width") return table ? "fs-entry-beyond-width" : "fs-output-beyond-width";
  const denied = ["not-present", "read-denied", "write-denied"].includes(refusal.reason);
  if (denied && table) return refusal.reason === "write-denied" ? "fs-entry-not-writable" : "fs-entry-not-readable";
  return secondStage(refusal, context, write);
}

/** The reason for what the engine refused. */
export function vtdReason(refusal: EngineRefusal, context: VtdWalkContext, write: boolean): VtdReason {
  if (refusal.stage === 1) return firstStage(refusal, context.topLevel, write);
  return context.stages === "nested" ? nestedStage(refusal, context, write) : secondStage(refusal, context, write);
}

/** Requests and translations that end there are refused: the range belongs to interrupts (3.14). */
const INTERRUPTS = { first: 0xfee00000n, last: 0xfeefffffn };

export function vtdOutputReason(mode: VtdMode, output: bigint): VtdReason | undefined {
  if (output < INTERRUPTS.first || output > INTERRUPTS.last) return undefined;
  return mode === "legacy" ? "output-in-interrupt-range" : "sm-output-in-interrupt-range";
}
