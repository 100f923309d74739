// AMD-Vi with host ("v1") tables. AMD I/O Virtualization Technology Specification: 2.2.3 (tables), 2.2.6 (guest tables), 2.1.2
// (interrupt and special address range), 3.4.11 (extended feature register). Imports the model's types and the engine's layout.
import { EngineError, integerIn } from "../../engine/errors.js";
import { FORMAT_AMD_V1 } from "../../engine/layout.js";
import type { IommuModel, IommuOptions } from "../model.js";
import { features, type Abilities } from "./features.js";
import { refuseOption } from "./refuse-option.js";

const INTERRUPTS = { first: 0xfee00000n, last: 0xfeefffffn, why: "interrupt requests" };
/** HyperTransport's own range: requests there are not translated (2.1.2). */
const SPECIAL = { first: 0xfd00000000n, last: 0xffffffffffn, why: "HyperTransport special range" };
/** 4 KiB to 2^51, but not 512 GiB: hardware has an erratum there. */
const PAGE_SIZES = ((1n << 52n) - (1n << 12n)) & ~(1n << 39n);

/**
 * EFR: PPRSup; GTSup; HDSup, dirty bits in host tables; PASmax + 1 bits of a PASID, of which PCI Express has 20, and 16 is what
 * Linux passes on. The GCR3 table that PASIDs index is the guest's, and leads to guest ("v2") tables only (2.2.6).
 */
const ABILITIES: Abilities = {
  guestTables: ["x86-64"], lacks: "", pasidBits: 16, mostPasidBits: 20, pasidTable: "guest", pageRequests: true, dirtyTracking: true,
};

export function amd(options: IommuOptions): IommuModel {
  refuseOption(options, "granule", 4096);
  refuseOption(options, "stage", 2);
  const addressWidth = integerIn("iommus.addressWidth", options.addressWidth ?? 64, 21, 64);
  if (addressWidth !== 64 && (addressWidth - 12) % 9 !== 0) {
    throw new EngineError("BAD_OPTION", `must be 64 or 12 + 9 n, not ${addressWidth}`, "iommus.addressWidth", addressWidth);
  }
  return {
    kind: "amd",
    preset: "amd",
    stage: 2,
    format: FORMAT_AMD_V1,
    formatName: "amd-v1",
    levels: Math.ceil((addressWidth - 12) / 9),
    inputWidth: addressWidth,
    rule: "zero",
    addressWidth,
    outputWidth: integerIn("iommus.outputWidth", options.outputWidth ?? 52, 32, 52),
    pageSizes: PAGE_SIZES,
    granule: 4096,
    reserved: options.reserved ?? [INTERRUPTS, SPECIAL],
    writeOnly: true,
    ...features(options, ABILITIES),
  };
}
