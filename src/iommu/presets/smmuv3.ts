// SMMUv3 with tables of stage 1 (context descriptors, TTB0) or stage 2. Arm System Memory Management Unit Architecture
// Specification, version 3 (IHI 0070): 3.4 (address sizes), 3.13 (HTTU), 5.2 (STE), 5.4 (CD), 6.3.1 and 6.3.2 (IDR0, IDR1);
// tables: Arm ARM D8.2, D8.3.
// Imports the model's types and the engine's layout.
import { EngineError, integerIn } from "../../engine/errors.js";
import * as L from "../../engine/layout.js";
import type { IommuModel, IommuOptions } from "../model.js";
import { features, type Abilities } from "./features.js";

/** log2 of the granule, formats of both stages, log2 of the leaf sizes. */
const GRANULES = new Map([
  [4096, { lg2: 12, name: "4k", formats: [L.FORMAT_ARM_S1_4K, L.FORMAT_ARM_S2_4K], leaves: [12, 21, 30] }],
  [16384, { lg2: 14, name: "16k", formats: [L.FORMAT_ARM_S1_16K, L.FORMAT_ARM_S2_16K], leaves: [14, 25] }],
  [65536, { lg2: 16, name: "64k", formats: [L.FORMAT_ARM_S1_64K, L.FORMAT_ARM_S2_64K], leaves: [16, 29] }],
] as const);
/** Stage 2 may put this many start tables side by side, as log2 (Arm ARM D8.2.2); it does where that saves a level. */
const CONCATENATED_LG2 = 4;

/**
 * IDR0.HTTU 2: dirty state by DBM, in either stage (3.13.3). IDR0.PRI. IDR1.SSIDSIZE: 0 to 20 bits. With stage 2 the table of
 * context descriptors is in its input space, the guest's, and leads to stage-1 tables (5.2, S1ContextPtr).
 */
const STAGE2: Abilities = {
  guestTables: ["aarch64-stage1"], lacks: "", pasidBits: 20, mostPasidBits: 20, pasidTable: "guest", pageRequests: true,
  dirtyTracking: true,
};
const STAGE1: Abilities = {
  ...STAGE2, guestTables: [], pasidTable: "host", lacks: "kernel-managed tables are stage 1 (option `stage`)",
};

export function smmuv3(options: IommuOptions): IommuModel {
  const bytes = options.granule ?? 4096;
  const granule = GRANULES.get(bytes as 4096);
  if (granule === undefined) {
    throw new EngineError("BAD_OPTION", `must be 4096, 16384 or 65536, not ${String(bytes)}`, "iommus.granule", bytes);
  }
  const stage = integerIn("iommus.stage", options.stage ?? 1, 1, 2) as 1 | 2;
  const width = integerIn("iommus.addressWidth", options.addressWidth ?? 48, 25, 48);
  const perLevel = granule.lg2 - 3;
  const levels = Math.ceil((width - granule.lg2 - (stage === 2 ? CONCATENATED_LG2 : 0)) / perLevel);
  return {
    kind: "smmuv3",
    preset: "smmuv3",
    stage,
    format: granule.formats[stage - 1]!,
    formatName: `aarch64-stage${stage}-${granule.name}`,
    levels: Math.max(levels, granule.lg2 === 12 ? 2 : 1),
    inputWidth: width,
    rule: "zero",
    addressWidth: width,
    outputWidth: integerIn("iommus.outputWidth", options.outputWidth ?? 48, 32, 48),
    pageSizes: granule.leaves.reduce((sizes, lg2) => sizes | (1n << BigInt(lg2)), 0n),
    granule: bytes,
    reserved: options.reserved ?? [],
    writeOnly: stage === 2,
    ...features(options, stage === 2 ? STAGE2 : STAGE1),
  };
}
