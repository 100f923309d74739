// What a VT-d unit can do, as far as its tables depend on it. Intel VT-d Architecture Specification, 11.4.2 (CAP_REG) and
// 11.4.3 (ECAP_REG). Imports the bit helpers.
import { bit, bits } from "./structure.js";

export interface VtdCapabilities {
  /** Host address width: no structure and no page lies beyond. Not in a register; firmware tells it (DMAR, 8.1). */
  haw: number;
  /** CAP.MGAW: widest input address. */
  mgaw: number;
  /** CAP.SAGAW: levels that second-stage tables may have. */
  levels: readonly number[];
  /** CAP.FS5LP: first-stage tables may have five levels. */
  fiveLevels: boolean;
  /** ECAP.SC: a second-stage leaf may force snooping (bit 11). */
  snoopControl: boolean;
  /** ECAP.DT: device TLBs. */
  deviceTlb: boolean;
  /** ECAP.PRS: page requests. */
  pageRequests: boolean;
  /** ECAP.PT. */
  passThrough: boolean;
  /** ECAP.ERS: execute requests; only then NXE and the XD bit of first-stage entries mean anything. */
  executeRequests: boolean;
  /** ECAP.FSTS, SSTS and NEST: what the PASID entries of scalable mode may ask for. */
  firstStage: boolean;
  secondStage: boolean;
  nested: boolean;
  /** ECAP.SSADS: accessed and dirty bits in second-stage tables. */
  secondStageAccessedDirty: boolean;
  /** ECAP.PSS + 1: bits of a PASID; 0 without PASIDs. */
  pasidBits: number;
}

export function vtdCapabilities(cap: bigint, ecap: bigint, haw: number): VtdCapabilities {
  const sagaw = bits(cap, 8, 12);
  return {
    haw,
    mgaw: bits(cap, 16, 21) + 1,
    levels: [3, 4, 5].filter((levels) => sagaw & (1 << (levels - 2))),
    fiveLevels: bit(cap, 60),
    snoopControl: bit(ecap, 7),
    deviceTlb: bit(ecap, 2),
    pageRequests: bit(ecap, 29),
    passThrough: bit(ecap, 6),
    executeRequests: bit(ecap, 30),
    firstStage: bit(ecap, 47),
    secondStage: bit(ecap, 46),
    nested: bit(ecap, 26),
    secondStageAccessedDirty: bit(ecap, 45),
    pasidBits: bit(ecap, 40) ? bits(ecap, 35, 39) + 1 : 0,
  };
}
