// What an architecture's fault is made from, and what it comes out as: data, never an exception. Imports the engine's names.
import type { Walk } from "../../engine/walk-record.js";

/** The request that was refused. */
export interface Request {
  rid: number;
  pasid?: number | undefined;
  iova: bigint;
  write: boolean;
  privileged: boolean;
}

/** What the engine says of a refusal; a walk and a fault record both have it. */
export interface EngineRefusal {
  reason: Walk["reason"];
  stage: number;
  class: Walk["class"];
  level: number;
  ipa: bigint;
  /** The path lets the request's privilege read: tells one denied write from another. */
  readable: boolean;
  /** Of the table entry that could not be read, where that is known. */
  fetch?: bigint | undefined;
}

/** What software is told, in the numbers of its architecture. */
export interface ArchitecturalFault {
  name: string;
  /** Undefined: the request ends without a fault or event of any kind. */
  code: number | undefined;
  /** A record is written; false when the structures say that nobody wants one. */
  reported: boolean;
  /** The 64-bit words of the record that is written if it is reported. */
  record?: readonly bigint[];
  /** SMMUv3: which stage, and on behalf of what: the input, a stage-1 table, a context descriptor. */
  stage?: number;
  class?: "IN" | "TT" | "CD";
}
