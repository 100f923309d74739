// What a simulated host IOMMU can do: data, not behaviour. Imports the engine's layout only. Ranges are first..last, inclusive.
import { EngineError } from "../engine/errors.js";
import type { GuestTableKind } from "./guest-table.js";
import { amd } from "./presets/amd.js";
import { smmuv3 } from "./presets/smmuv3.js";
import { vtd, vtdScalable } from "./presets/vtd.js";

export interface IommuModel {
  kind: "vtd" | "smmuv3" | "amd";
  /** Name of the preset, with its options filled in. */
  preset: PresetName;
  /** Which stage kernel-managed tables are for the IOMMU. */
  stage: 1 | 2;
  /** L.FORMAT_* of kernel-managed tables, and its name. */
  format: number;
  formatName: string;
  levels: number;
  /** Bits that the tables decode, and what the bits above them must be. */
  inputWidth: number;
  rule: "zero" | "sign";
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
  /**
   * What spaces nested on a kernel-managed one may be. `software`: mapped, and merged with the parent's table; any depth.
   * `hardware`: a guest's own table of these kinds, walked above the parent's; one such level.
   */
  nesting: { software: true; hardware: readonly GuestTableKind[] };
  /** Bits of a PASID; 0: none. */
  pasidBits: number;
  /**
   * Who keeps the table that leads from a PASID to a page table: the kernel, or the guest, in memory that stage 2 translates,
   * where it leads to stage-1 tables only. null without PASIDs.
   */
  pasidTable: "host" | "guest" | null;
  /** Devices may ask for pages. */
  pageRequests: boolean;
  /** Kernel-managed tables have dirty bits. */
  dirtyTracking: boolean;
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
  /**
   * "vtd" (default): VT-d in legacy mode. "vtd-scalable": VT-d in scalable mode. "smmuv3": Arm SMMUv3. "amd": AMD-Vi with
   * host tables.
   */
  preset?: PresetName;
  /** Which stage kernel-managed tables are. vtd-scalable and smmuv3: 1 (default) or 2. vtd and amd: 2. */
  stage?: 1 | 2;
  /** Bytes of the smallest page. smmuv3: 4096 (default), 16384 or 65536. The others: 4096. */
  granule?: 4096 | 16384 | 65536;
  /**
   * Bits that the tables decode. VT-d: 39, 48 (default) or 57; its first stage has 48 or 57, of which the lower half is used.
   * SMMUv3: 25..48, default 48. AMD-Vi: 64 (default), or 12 + 9 n.
   */
  addressWidth?: number;
  /** Host-physical bits: 32..52, default 52; SMMUv3: 32..48, default 48. */
  outputWidth?: number;
  /** iovas that can never be mapped, in place of the preset's own. */
  reserved?: readonly ReservedRange[];
  /**
   * Guests' own tables above kernel-managed ones, which must be stage 2 for it: vtd-scalable and smmuv3 with `stage: 2`, and amd.
   * Default: where it is possible.
   */
  nesting?: boolean;
  /** Devices may ask for pages. Default: true, but for vtd, which cannot. */
  pageRequests?: boolean;
  /** Dirty bits in kernel-managed tables. Default: true, but for vtd, which has none. */
  dirtyTracking?: boolean;
  /**
   * Bits of a PASID, 0 for none. vtd: 0. vtd-scalable and smmuv3: up to 20, the default. amd: up to 20, default 16.
   * smmuv3 with `stage: 2` and amd have none without nesting.
   */
  pasidBits?: number;
}

export type PresetName = "vtd" | "vtd-scalable" | "smmuv3" | "amd";

const PRESETS: Readonly<Record<PresetName, (options: IommuOptions) => IommuModel>> = { vtd, "vtd-scalable": vtdScalable, smmuv3, amd };

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
