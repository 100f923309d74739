// The engine's typed error. Imports nothing.

export type EngineErrorCode =
  | "BAD_OPTION" | "NO_ARENA" | "ABI" | "SLOT_OVERLAP" | "SLOT_LIMIT" | "SLOT_RANGE" | "NO_PORTS" | "NO_FRAMES" | "NO_DOMAINS"
  | "BAD_ARGUMENT" | "PORT_CLOSED" | "IN_SECTION" | "PORT_STALLED" | "BUSY" | "NO_THREADS";

/** What the engine refuses: `field` names the argument or option, `value` is what was given. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  constructor(readonly code: EngineErrorCode, message: string, readonly field?: string, readonly value?: unknown) {
    super(field === undefined ? message : `${field}: ${message}`);
  }
}

/** `value` as an integer in first..last (inclusive), or EngineError BAD_OPTION naming the field. */
export function integerIn(field: string, value: unknown, first: number, last: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < first || value > last) {
    throw new EngineError("BAD_OPTION", `must be an integer in ${first}..${last}, not ${String(value)}`, field, value);
  }
  return value;
}
