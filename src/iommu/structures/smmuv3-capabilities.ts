// What an SMMUv3 can do, as far as its tables depend on it. Arm SMMUv3 architecture specification (IHI 0070), 6.3.1 to 6.3.6
// (SMMU_IDR0 to IDR5). Imports the bit helpers.
import { bits } from "./structure.js";

export interface Smmuv3Capabilities {
  /** IDR0.S1P and S2P: the stages that there are. */
  stage1: boolean;
  stage2: boolean;
  /** IDR0.CD2L: two-level tables of context descriptors. */
  twoLevelCd: boolean;
  /** IDR0.HTTU: hardware sets accessed flags (1 and 2), and dirty state (2). */
  httu: number;
  /** IDR0.STALL_MODEL: 0 a choice, 1 never, 2 always. */
  stallModel: number;
  /** IDR0.TERM_MODEL: terminated transactions always abort. */
  abortOnly: boolean;
  /** IDR0.TTENDIAN: 0 both, 2 little, 3 big. */
  ttendian: number;
  /** IDR0.TTF: bit 1, AArch64 tables. */
  aarch64: boolean;
  /** IDR1.SSIDSIZE. */
  substreamBits: number;
  /** IDR3.HAD: permissions in table descriptors can be switched off. */
  hierarchicalAttributeDisable: boolean;
  /** IDR5.OAS in bits. */
  outputWidth: number;
  /** IDR5.GRAN4K, GRAN16K, GRAN64K: log2 of the granules. */
  granules: readonly number[];
}

/** Bits of IDR5.OAS, CD.IPS and STE.S2PS (6.3.6): a code beyond the list means no less than its end. */
const ADDRESS_SIZES = [32, 36, 40, 42, 44, 48, 52];

export function addressSize(code: number): number {
  return ADDRESS_SIZES[Math.min(code, ADDRESS_SIZES.length - 1)]!;
}

export function smmuv3Capabilities(idr: readonly number[]): Smmuv3Capabilities {
  const [idr0 = 0n, idr1 = 0n, , idr3 = 0n, , idr5 = 0n] = idr.map(BigInt);
  return {
    stage1: bits(idr0, 1, 1) === 1,
    stage2: bits(idr0, 0, 0) === 1,
    twoLevelCd: bits(idr0, 19, 19) === 1,
    httu: bits(idr0, 6, 7),
    stallModel: bits(idr0, 24, 25),
    abortOnly: bits(idr0, 26, 26) === 1,
    ttendian: bits(idr0, 21, 22),
    aarch64: bits(idr0, 3, 3) === 1,
    substreamBits: bits(idr1, 6, 10),
    hierarchicalAttributeDisable: bits(idr3, 2, 2) === 1,
    outputWidth: addressSize(bits(idr5, 0, 2)),
    granules: [[4, 12], [5, 14], [6, 16]].filter(([at]) => bits(idr5, at!, at!)).map(([, lg2]) => lg2!),
  };
}
