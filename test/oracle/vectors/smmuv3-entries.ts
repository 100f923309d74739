// SMMUv3 stream table entries and context descriptors, as far as the units of the vectors have them: no substreams, stalls,
// hardware updates of descriptors, or big-endian tables. Arm SMMUv3 architecture (IHI 0070) 5.2 (STE), 5.4 (CD), 3.4 (sizes).
// A reading of its own, for the proof of the reference walker. Words are 64 bits.
import {
  FORMAT_ARM_S1_16K, FORMAT_ARM_S1_4K, FORMAT_ARM_S1_64K, FORMAT_ARM_S2_16K, FORMAT_ARM_S2_4K, FORMAT_ARM_S2_64K,
  OPTION_IGNORE_TABLE_PERMISSIONS,
} from "../../../src/engine/layout.js";
import type { Memory, ReferenceDomain } from "../reference/types.js";
import { addressBits, bits } from "./answer.js";

/** log2 of the granule by TG0 and S2TG, and by TG1. */
const TG0: readonly (number | undefined)[] = [12, 16, 14];
const TG1: readonly (number | undefined)[] = [undefined, 14, 12, 16];
/** Bits of an address by the codes of IPS, S2PS and OAS. */
const SIZES: readonly number[] = [32, 36, 40, 42, 44, 48];
const STAGE1: Readonly<Record<number, number>> = { 12: FORMAT_ARM_S1_4K, 14: FORMAT_ARM_S1_16K, 16: FORMAT_ARM_S1_64K };
const STAGE2: Readonly<Record<number, number>> = { 12: FORMAT_ARM_S2_4K, 14: FORMAT_ARM_S2_16K, 16: FORMAT_ARM_S2_64K };
const MIN_TSZ = 16;
const MAX_TSZ = 39;
const MAX_CONCATENATED_LG2 = 4;

export interface Stream {
  readonly stage1: boolean;
  readonly stage2: ReferenceDomain | undefined;
  readonly contextDescriptor: bigint;
  /** Record faults of stage 2. */
  readonly s2r: boolean;
}

export interface Context {
  /** TTBR0's and TTBR1's; undefined where the descriptor disables the walk. */
  readonly halves: readonly [ReferenceDomain | undefined, ReferenceDomain | undefined];
  readonly record: boolean;
}

export interface Sizes {
  readonly oas: number;
  readonly stages: string;
}

const sizeOf = (code: number, oas: number): number => Math.min(SIZES[code] ?? oas, oas);

/** A start table of so many bytes begins at a multiple of them, and of 64 at least. */
function rootOf(ttb: bigint, indexLg2: number): bigint {
  return addressBits(ttb, Math.max(6, indexLg2 + 3), 63);
}

export type StreamKind = "abort" | "bypass" | "illegal" | Stream;

export function readStream(ste: readonly bigint[], { oas, stages }: Sizes, memory: Memory): StreamKind {
  const [word0, word1, word2, word3] = ste as [bigint, bigint, bigint, bigint];
  if (!(word0 & 1n)) return "illegal";
  const config = bits(word0, 1, 3);
  if (config < 4) return "abort";
  if (config === 4) return "bypass";
  const stage1 = (config & 1) !== 0;
  const stage2 = (config & 2) !== 0;
  if ((stage1 && stages === "2") || (stage2 && stages === "1")) return "illegal";
  // S1CDMax: no substreams. S1STALLD: the unit never stalls.
  if (stage1 && (bits(word0, 59, 63) !== 0 || bits(word1, 27, 27) !== 0)) return "illegal";
  const domain = stage2 ? readStage2(word2, word3, oas, memory) : undefined;
  if (domain === null) return "illegal";
  return { stage1, stage2: domain, contextDescriptor: addressBits(word0, 6, 51), s2r: bits(word2, 58, 58) === 1 };
}

/** 5.2, S2T0SZ to S2R. null for a combination that is ILLEGAL. */
function readStage2(word: bigint, ttb: bigint, oas: number, memory: Memory): ReferenceDomain | null {
  const granule = TG0[bits(word, 46, 47)];
  const width = 64 - bits(word, 32, 37);
  const sl0 = bits(word, 38, 39);
  const aa64 = bits(word, 51, 51) === 1;
  // S2ENDI, S2HD, S2HA, S2S: of what no unit here has.
  if (granule === undefined || sl0 === 3 || !aa64 || bits(word, 52, 52) || bits(word, 55, 57)) return null;
  const outputWidth = sizeOf(bits(word, 48, 50), oas);
  if (width > oas || width < 64 - MAX_TSZ) return null;
  // The code counts up from the deepest start level that the granule allows.
  const levels = sl0 + (granule === 12 ? 2 : 1);
  const topLg2 = granule + (levels - 1) * (granule - 3);
  const indexLg2 = width - topLg2;
  if (indexLg2 < 1 || indexLg2 > granule - 3 + MAX_CONCATENATED_LG2) return null;
  const base = addressBits(ttb, 4, 51);
  if (base >> BigInt(outputWidth) !== 0n) return null;
  return {
    format: STAGE2[granule]!, levels, width, outputWidth, root: rootOf(base, indexLg2), read: memory,
    accessed: bits(word, 53, 53) ? "ignore" : "fault",
  };
}

/** null for a descriptor that is ILLEGAL. */
export function readContext(cd: readonly bigint[], { oas }: Sizes, memory: Memory, stage2: ReferenceDomain | undefined): Context | null {
  const [word] = cd as [bigint];
  const illegal = !bits(word, 31, 31) || !bits(word, 41, 41)
    // TERM_MODEL: A must be 1. STALL_MODEL: S must be 0. HTTU: HA and HD must be 0.
    || !bits(word, 46, 46) || bits(word, 44, 44) || bits(word, 42, 43);
  if (illegal) return null;
  const half = (n: 0 | 1): ReferenceDomain | undefined | null => {
    const shift = n * 16;
    if (bits(word, 14 + shift, 14 + shift)) return undefined;
    const granule = (n ? TG1 : TG0)[bits(word, 6 + shift, 7 + shift)];
    const tsz = bits(word, shift, shift + 5);
    const ttb = addressBits(cd[1 + n]!, 4, 51);
    const outputWidth = sizeOf(bits(word, 32, 34), oas);
    if (granule === undefined || tsz < MIN_TSZ || tsz > MAX_TSZ || bits(word, 15, 15) || ttb >> BigInt(outputWidth) !== 0n) return null;
    const width = 64 - tsz;
    const levels = Math.ceil((width - granule) / (granule - 3));
    const root = rootOf(ttb, width - granule - (levels - 1) * (granule - 3));
    const tbi = bits(word, 38 + n, 38 + n) ? "-tbi" as const : "" as const;
    return {
      format: STAGE1[granule]!, levels, width, outputWidth, root, read: memory, rule: `${n ? "ones" : "zero"}${tbi}`,
      accessed: bits(word, 35, 35) ? "ignore" : "fault",
      options: bits(cd[1 + n]!, 1, 1) ? OPTION_IGNORE_TABLE_PERMISSIONS : 0,
      ...(stage2 ? { stage2 } : {}),
    };
  };
  const [lower, upper] = [half(0), half(1)];
  if (lower === null || upper === null) return null;
  return { halves: [lower, upper], record: bits(word, 45, 45) === 1 };
}
