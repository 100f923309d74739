// What a simulated host IOMMU can do: data, not behaviour. Imports the engine's layout only. Ranges are first..last, inclusive.
import { EngineError } from "../engine/errors.js";
import { amd } from "./presets/amd.js";
import { vtd } from "./presets/vtd.js";

export interface IommuModel {
  kind: "vtd" | "amd";
  /** Name of the preset, with its options filled in. */
  preset: string;
  /** L.FORMAT_* of kernel-managed tables, and its name. */
  format: number;
  formatName: string;
  levels: number;
  /** Bits of an iova: a space is 0..2^addressWidth - 1. */
  addressWidth: number;
  /** Bits of a host-physical address. */
  outputWidth: number;
  /** Page sizes that the tables can hold: bit n set means 2^n bytes. */
  pageSizes: bigint;
  /** Bytes of the smallest page: every mapping is a multiple. */
  granule: number;
  /** iovas that can never be mapped. */
  reserved: readonly ReservedRange[];
  /** A mapping may be writable and not readable. */
  writeOnly: boolean;
}

export interface ReservedRange {
  first: bigint;
  last: bigint;
  why: string;
}

/** A preset by name, with what may be changed in it. */
export interface IommuOptions {
  /** Default "iommu0". */
  name?: string;
  /** "vtd" (default): VT-d with second-stage tables. "amd": AMD-Vi with host tables. */
  preset?: "vtd" | "amd";
  /** VT-d: 39, 48 (default) or 57. AMD-Vi: 64 (default), or 12 + 9 n. */
  addressWidth?: number;
  /** Host-physical bits, 32..52, default 52. */
  outputWidth?: number;
  /** iovas that can never be mapped, in place of the preset's own. */
  reserved?: readonly ReservedRange[];
}

const PRESETS = { vtd, amd } as const;

/** The model that the options ask for. Throws EngineError BAD_OPTION naming the field. */
export function modelOf(options: IommuOptions = {}): IommuModel {
  const preset = options.preset ?? "vtd";
  if (!Object.hasOwn(PRESETS, preset)) {
    throw new EngineError("BAD_OPTION", `must be one of ${Object.keys(PRESETS).join(", ")}, not ${String(preset)}`, "iommus.preset", preset);
  }
  return PRESETS[preset](options);
}

/** True if domains of one model can serve devices behind the other. */
export function compatible(a: IommuModel, b: IommuModel): boolean {
  return a.format === b.format && a.levels === b.levels && a.addressWidth === b.addressWidth && a.outputWidth === b.outputWidth;
}
