// The typed error of a DMA that was refused. Imports the engine's fault record type only.
import type { RawFault } from "../engine/port.js";

/** What can refuse an access after its translation; and what becomes of a device that waits for pages. */
export type DmaFaultReason =
  | RawFault["reason"] | "dropped" | "no-memory" | "device-memory" | "zero-memory"
  | "page-request-invalid" | "page-request-failed" | "page-request-timeout" | "page-request-retries";

export interface DmaFaultDetails {
  /**
   * Why. From the IOMMU: "blocked", "not-present", "write-denied", ... "dropped": refused, but its record found the fault ring
   * full. From memory: "no-memory" (no slot has the address), "device-memory" (its bytes belong to the embedder),
   * "zero-memory" (a write to memory that only reads as zero). From waiting: "page-request-invalid" and "page-request-failed" (what
   * the user answered), "page-request-timeout" (no answer), "page-request-retries" (answers of SUCCESS that changed nothing).
   */
  reason: DmaFaultReason;
  /** First address of the part that was refused. */
  iova: bigint;
  access: "r" | "w";
  /** Name of the device, and the label and cookie that its bind gave (undefined while it is not bound). */
  device: string;
  label: number | undefined;
  cookie: bigint | undefined;
  /** The PASID that the access named (a vPASID); undefined without one. */
  pasid: number | undefined;
  /** Where the walk ended; 0 is the leaf table. -1 when no walk was made. */
  level: number;
  /** 1 or 2; 0 when no walk was made. */
  stage: number;
  /** The table entry that refused, 0 when none was read. */
  pte: bigint;
  /** The space permits page requests, and one can help: `read` and `write` would ask for the page. */
  recoverable: boolean;
}

/** A DMA was refused. No byte of the whole access was moved. */
export class DmaFault extends Error implements DmaFaultDetails {
  override readonly name = "DmaFault";
  readonly reason!: DmaFaultReason;
  readonly iova!: bigint;
  readonly access!: "r" | "w";
  readonly device!: string;
  readonly label!: number | undefined;
  readonly cookie!: bigint | undefined;
  readonly pasid!: number | undefined;
  readonly level!: number;
  readonly stage!: number;
  readonly pte!: bigint;
  readonly recoverable!: boolean;

  constructor(details: DmaFaultDetails) {
    const { device, label, access, iova, reason, level, stage, pasid } = details;
    const who = label === undefined ? device : `${device} (label ${label})`;
    const where = stage === 0 ? "" : ` at stage ${stage}, level ${level}`;
    super(`${who}: ${access === "w" ? "write" : "read"} of iova 0x${iova.toString(16)}${pasid === undefined ? "" : ` with PASID ${pasid}`} refused: ${reason}${where}`);
    Object.assign(this, details);
  }
}
