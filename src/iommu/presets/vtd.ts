// VT-d with second-stage tables (legacy mode). Intel VT-d Architecture Specification: 3.7 (tables), 3.14 (interrupt range),
// 11.4.2 (SAGAW: 39, 48, 57 bits). Imports the model's types and the engine's layout.
import { EngineError, integerIn } from "../../engine/errors.js";
import { FORMAT_VTD_SECOND } from "../../engine/layout.js";
import type { IommuModel, IommuOptions } from "../model.js";

const LEVELS = new Map([[39, 3], [48, 4], [57, 5]]);
/** DMA writes to this range are interrupts; they never reach the tables (3.14). */
const INTERRUPTS = { first: 0xfee00000n, last: 0xfeefffffn, why: "interrupt requests" };

export function vtd(options: IommuOptions): IommuModel {
  const addressWidth = options.addressWidth ?? 48;
  const levels = LEVELS.get(addressWidth);
  if (levels === undefined) {
    throw new EngineError("BAD_OPTION", `must be 39, 48 or 57, not ${String(addressWidth)}`, "iommus.addressWidth", addressWidth);
  }
  return {
    kind: "vtd",
    preset: "vtd",
    format: FORMAT_VTD_SECOND,
    formatName: "vtd-second-stage",
    levels,
    addressWidth,
    outputWidth: integerIn("iommus.outputWidth", options.outputWidth ?? 52, 32, 52),
    pageSizes: (1n << 12n) | (1n << 21n) | (1n << 30n),
    granule: 4096,
    reserved: options.reserved ?? [INTERRUPTS],
    writeOnly: true,
  };
}
