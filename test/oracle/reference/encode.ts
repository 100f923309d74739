// Entries made from what they shall mean: the other direction of the decoders, for tests that build good tables.
// Same manuals as the decoders. Addresses and sizes must fit the level; nothing is checked here.
import * as L from "../../../src/engine/layout.js";
import { architectureOf } from "./formats.js";
import { itemLg2 } from "./types.js";

export interface LeafFields {
  readonly address: bigint;
  /** log2 of the page: the level's own size, or a larger one of several equal entries. */
  readonly lg2: number;
  /** PERM_R | PERM_W | PERM_X; what a format cannot say is left out. */
  readonly perm: number;
  /** Unprivileged accesses are admitted. */
  readonly user: boolean;
  readonly accessed: boolean;
  readonly dirty: boolean;
}

export interface Encoder {
  /** An entry at `level` that leads to a table of level `next`. */
  table(address: bigint, level: number, next: number): bigint;
  leaf(level: number, fields: LeafFields): bigint;
  /** log2 of the leaves that an entry at this level may be. */
  sizes(level: number): readonly number[];
  /** A pointer may skip levels. */
  readonly skips?: true;
}

const flag = (on: boolean, position: number): bigint => (on ? 1n << BigInt(position) : 0n);
const may = (perm: number, access: number): boolean => (perm & access) !== 0;

/** The levels' own sizes up to some level. */
function own(format: number, top: number): (level: number) => readonly number[] {
  return (level) => (level <= top ? [itemLg2(architectureOf(format), level)] : []);
}

const VTD_SECOND: Encoder = {
  table: (address) => address | 3n,
  leaf: (level, { address, perm, accessed, dirty }) =>
    address | flag(may(perm, L.PERM_R), 0) | flag(may(perm, L.PERM_W), 1) | flag(level > 0, 7) | flag(accessed, 8) | flag(dirty, 9),
  sizes: own(L.FORMAT_VTD_SECOND, 2),
};

const X86_64: Encoder = {
  table: (address) => address | 7n,
  leaf: (level, { address, perm, user, accessed, dirty }) => address | 1n | flag(may(perm, L.PERM_W), 1) | flag(user, 2)
    | flag(accessed, 5) | flag(dirty, 6) | flag(level > 0, 7) | flag(!may(perm, L.PERM_X), 63),
  sizes: own(L.FORMAT_X86_64, 2),
};

const AMD_RW = 3n << 61n;
const AMD_V1: Encoder = {
  // NextLevel counts from 1.
  table: (address, _level, next) => address | AMD_RW | 1n | (BigInt(next + 1) << 9n),
  leaf: (level, { address, lg2, perm, accessed, dirty }) => {
    const size = lg2 === 12 + 9 * level ? 0n : (7n << 9n) | ((1n << BigInt(lg2 - 1)) - 0x1000n);
    return address | size | 1n | flag(accessed, 5) | flag(dirty, 6) | flag(may(perm, L.PERM_R), 61) | flag(may(perm, L.PERM_W), 62);
  },
  sizes: (level) => Array.from({ length: 9 }, (_none, n) => 12 + 9 * level + n).filter((lg2) => lg2 <= 51),
  skips: true,
};

/** AP[1], AP[2] and the two execute-never bits; a clean writable page is read-only with DBM. */
function armStage1(perm: number, user: boolean, dirty: boolean): bigint {
  const write = may(perm, L.PERM_W);
  const execute = may(perm, L.PERM_X);
  return flag(user, 6) | flag(!write || !dirty, 7) | flag(write, 51) | flag(!execute, 53) | flag(!execute, 54);
}

function armStage2(perm: number, dirty: boolean): bigint {
  const write = may(perm, L.PERM_W);
  return flag(may(perm, L.PERM_R), 6) | flag(write && dirty, 7) | flag(write, 51) | flag(!may(perm, L.PERM_X), 54);
}

function arm(format: number, stage: 1 | 2, topBlock: number): Encoder {
  return {
    table: (address) => address | 3n,
    leaf: (level, { address, perm, user, accessed, dirty }) => address | (level === 0 ? 3n : 1n) | flag(accessed, 10)
      | (stage === 1 ? armStage1(perm, user, dirty) : armStage2(perm, dirty)),
    sizes: own(format, topBlock),
  };
}

const MOCK: Encoder = {
  table: (address) => address | 3n,
  leaf: (level, { address, lg2, perm, accessed, dirty }) => address | 1n | (BigInt(lg2 - 12 - 4 * level) << 8n)
    | flag(may(perm, L.PERM_R), 2) | flag(may(perm, L.PERM_W), 3) | flag(may(perm, L.PERM_X), 4) | flag(accessed, 5) | flag(dirty, 6),
  sizes: (level) => (level > 3 ? [] : [0, 1, 2, 3].map((run) => 12 + 4 * level + run)),
};

const ENCODERS = new Map<number, Encoder>([
  [L.FORMAT_VTD_SECOND, VTD_SECOND], [L.FORMAT_X86_64, X86_64], [L.FORMAT_AMD_V1, AMD_V1], [L.FORMAT_MOCK, MOCK],
  [L.FORMAT_ARM_S1_4K, arm(L.FORMAT_ARM_S1_4K, 1, 2)], [L.FORMAT_ARM_S1_16K, arm(L.FORMAT_ARM_S1_16K, 1, 1)],
  [L.FORMAT_ARM_S1_64K, arm(L.FORMAT_ARM_S1_64K, 1, 1)], [L.FORMAT_ARM_S2_4K, arm(L.FORMAT_ARM_S2_4K, 2, 2)],
  [L.FORMAT_ARM_S2_16K, arm(L.FORMAT_ARM_S2_16K, 2, 1)], [L.FORMAT_ARM_S2_64K, arm(L.FORMAT_ARM_S2_64K, 2, 1)],
]);

/** Throws a RangeError for a format that has no encoder. */
export function encoderOf(format: number): Encoder {
  const encoder = ENCODERS.get(format);
  if (!encoder) throw new RangeError(`format ${format} has no encoder`);
  return encoder;
}
