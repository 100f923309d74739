// VT-d in legacy mode, with second-stage tables, and in scalable mode, with tables of either stage. Intel VT-d Architecture
// Specification: 3.6 and 3.7 (tables), 3.8 (nested translation), 3.14 (interrupt range), 9.3 and 9.4 (context entries), 9.6
// (PASID-table entry), 11.4.2 (SAGAW: 39, 48, 57 bits; 5-level first stage), 11.4.3 (ECAP). Imports the model's types and the
// engine's layout.
import { EngineError, integerIn } from "../../engine/errors.js";
import { FORMAT_VTD_SECOND, FORMAT_X86_64 } from "../../engine/layout.js";
import type { IommuModel, IommuOptions } from "../model.js";
import { features, type Abilities } from "./features.js";
import { refuseOption } from "./refuse-option.js";

const LEVELS = new Map([[39, 3], [48, 4], [57, 5]]);
/** DMA writes to this range are interrupts; they never reach the tables (3.14). */
const INTERRUPTS = { first: 0xfee00000n, last: 0xfeefffffn, why: "interrupt requests" };

/**
 * A legacy-mode context entry (9.3) leads to second-stage tables and nothing else: it has neither PRE, which enables page
 * requests (9.4), nor SSADE, which enables accessed and dirty bits of a second stage (9.6).
 */
const LEGACY: Abilities = {
  guestTables: [], lacks: "VT-d has it in scalable mode only", pasidBits: 0, mostPasidBits: 0, pasidTable: "host",
  pageRequests: false, dirtyTracking: false,
};
/**
 * The PASID table is the kernel's, and each entry has its own pointers for both stages (9.6), so a guest's table goes there.
 * ECAP.PSS + 1 bits, as many as PCI Express has; PRS, NEST, SSADS. First-stage tables have dirty bits in any case (3.6).
 */
const SCALABLE: Abilities = {
  guestTables: ["x86-64"], lacks: "", pasidBits: 20, mostPasidBits: 20, pasidTable: "host", pageRequests: true, dirtyTracking: true,
};
/** A first stage can be nested on a second stage only (3.8). */
const SCALABLE_FIRST: Abilities = { ...SCALABLE, guestTables: [], lacks: "kernel-managed tables are a first stage (option `stage`)" };

function common(options: IommuOptions, widths: readonly number[]): { width: number; levels: number } {
  refuseOption(options, "granule", 4096);
  const width = options.addressWidth ?? 48;
  const levels = LEVELS.get(width);
  if (levels === undefined || !widths.includes(width)) {
    const list = `${widths.slice(0, -1).join(", ")} or ${String(widths.at(-1))}`;
    throw new EngineError("BAD_OPTION", `must be ${list}, not ${String(width)}`, "iommus.addressWidth", width);
  }
  return { width, levels };
}

function secondStage(preset: "vtd" | "vtd-scalable", options: IommuOptions, can: Abilities): IommuModel {
  const { width, levels } = common(options, [39, 48, 57]);
  return {
    kind: "vtd",
    preset,
    stage: 2,
    format: FORMAT_VTD_SECOND,
    formatName: "vtd-second-stage",
    levels,
    inputWidth: width,
    rule: "zero",
    addressWidth: width,
    outputWidth: integerIn("iommus.outputWidth", options.outputWidth ?? 52, 32, 52),
    pageSizes: (1n << 12n) | (1n << 21n) | (1n << 30n),
    granule: 4096,
    reserved: options.reserved ?? [INTERRUPTS],
    writeOnly: true,
    ...features(options, can),
  };
}

export function vtd(options: IommuOptions): IommuModel {
  refuseOption(options, "stage", 2);
  return secondStage("vtd", options, LEGACY);
}

export function vtdScalable(options: IommuOptions): IommuModel {
  const stage = integerIn("iommus.stage", options.stage ?? 1, 1, 2);
  if (stage === 2) return secondStage("vtd-scalable", options, SCALABLE);
  const { width, levels } = common(options, [48, 57]);
  return {
    ...secondStage("vtd-scalable", options, SCALABLE_FIRST),
    stage: 1,
    format: FORMAT_X86_64,
    formatName: "x86-64",
    levels,
    inputWidth: width,
    // First-stage input is canonical (3.6): a space is its lower half, as without a sign bit.
    rule: "sign",
    addressWidth: width - 1,
    writeOnly: false,
  };
}
