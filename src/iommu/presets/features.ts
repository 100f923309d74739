// What a preset can do beside kernel-managed tables, and what the options leave of it. Imports the model's types and the
// engine's errors.
import { EngineError, integerIn } from "../../engine/errors.js";
import type { GuestTableKind } from "../guest-table.js";
import type { IommuModel, IommuOptions } from "../model.js";

/** What is there when no option says otherwise; a feature that is not there cannot be switched on. */
export interface Abilities {
  /** Guest tables that the hardware walks above kernel-managed ones. */
  guestTables: readonly GuestTableKind[];
  /** Why there is no more, for the one who asks for it. */
  lacks: string;
  pasidBits: number;
  mostPasidBits: number;
  /** Where the table of PASIDs is. In a guest's memory it leads to the guest's tables, so it needs nesting. */
  pasidTable: "host" | "guest";
  pageRequests: boolean;
  dirtyTracking: boolean;
}

export type Features = Pick<IommuModel, "nesting" | "pasidBits" | "pasidTable" | "pageRequests" | "dirtyTracking">;

/** Throws EngineError BAD_OPTION for what is no value, and for what the preset has not. */
export function features(options: IommuOptions, can: Abilities): Features {
  const nesting = switched(options, "nesting", can.guestTables.length > 0, can.lacks);
  const hasPasids = can.pasidTable === "host" || nesting;
  const pasidBits = pasidBitsOf(options, can, hasPasids);
  return {
    nesting: { software: true, hardware: nesting ? can.guestTables : [] },
    pasidBits,
    pasidTable: pasidBits === 0 ? null : can.pasidTable,
    pageRequests: switched(options, "pageRequests", can.pageRequests, can.lacks),
    dirtyTracking: switched(options, "dirtyTracking", can.dirtyTracking, can.lacks),
  };
}

function switched(options: IommuOptions, name: "nesting" | "pageRequests" | "dirtyTracking", possible: boolean, lacks: string): boolean {
  const value = options[name] ?? possible;
  if (typeof value !== "boolean") throw new EngineError("BAD_OPTION", `must be a boolean, not ${String(value)}`, `iommus.${name}`, value);
  if (value && !possible) throw new EngineError("BAD_OPTION", `must be false for this preset: ${lacks}`, `iommus.${name}`, value);
  return value;
}

function pasidBitsOf({ pasidBits }: IommuOptions, can: Abilities, hasPasids: boolean): number {
  const bits = integerIn("iommus.pasidBits", pasidBits ?? (hasPasids ? can.pasidBits : 0), 0, 20);
  const most = hasPasids ? can.mostPasidBits : 0;
  if (bits <= most) return bits;
  const why = hasPasids ? can.lacks : "without nesting there are no tables that a PASID could lead to";
  throw new EngineError("BAD_OPTION", `must be ${most} for this preset: ${why}`, "iommus.pasidBits", bits);
}
