// Imports the model's types and the engine's errors.
import { EngineError } from "../../engine/errors.js";
import type { IommuOptions } from "../model.js";

/** Throws EngineError BAD_OPTION if the option is given and not the only value that this preset has. */
export function refuseOption(options: IommuOptions, name: "granule" | "stage", only: number): void {
  const value = options[name];
  if (value === undefined || value === only) return;
  throw new EngineError("BAD_OPTION", `must be ${only} for this preset, not ${String(value)}`, `iommus.${name}`, value);
}
