// Which host IOMMU a trace was recorded on, as its header tells. Imports the model's types and the trace.
import type { IommuOptions } from "../iommu/model.js";
import { NO_PASID, type Trace } from "./trace.js";

const GRANULES: Readonly<Record<string, 4096 | 16384 | 65536>> = { "4": 4096, "16": 16384, "64": 65536 };

/** VT-d by the emulator's options: first-stage tables where the unit offers them, and the width that they name. */
function vtd(emulator: string): IommuOptions {
  const scalable = /\bx-scalable-mode=on\b/.test(emulator);
  const width = /\baw-bits=(\d+)\b/.exec(emulator)?.[1];
  return {
    preset: scalable ? "vtd-scalable" : "vtd",
    ...(scalable ? { stage: /\bx-flts=on\b/.test(emulator) ? 1 : 2 } : {}),
    ...(width === undefined ? {} : { addressWidth: Number(width) }),
  };
}

/**
 * Preset and options that the trace's header names: `source` says which IOMMU (intel-iommu, amd-iommu, SMMUv3),
 * `emulator-options` its width and stage, `workload` stage and granule. Empty for a device that has no tables, and without
 * a header: then the default preset serves, or with PASIDs one that has them.
 */
export function recordedOn(trace: Trace): IommuOptions {
  const header = (key: string): string => trace.header.get(key) ?? "";
  const source = header("source");
  if (/\bintel-iommu\b/.test(source)) return vtd(header("emulator-options"));
  if (/\bamd-iommu\b/.test(source)) return { preset: "amd" };
  if (!/\bSMMUv3\b/i.test(source)) return trace.pasid.some((pasid) => pasid !== NO_PASID) ? { preset: "vtd-scalable", stage: 2 } : {};
  const granule = GRANULES[/\b(4|16|64) ?KiB granule\b/.exec(header("workload"))?.[1] ?? ""];
  const stage = /\bstage ([12])\b/.exec(header("workload"))?.[1];
  return {
    preset: "smmuv3",
    ...(granule === undefined ? {} : { granule }),
    ...(stage === undefined ? {} : { stage: Number(stage) as 1 | 2 }),
  };
}
