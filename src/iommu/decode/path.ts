// The path of one translation for people: every structure and table entry that was read, with its address, its raw value, the
// names of its bits, where it leads, and what the path so far permits. Imports the engine's types and the folder's decoders.
import * as L from "../../engine/layout.js";
import type { Walk, WalkStep } from "../../engine/walk-record.js";
import type { StructureRead } from "../structures/structure.js";
import { STRUCTURE_FIELDS } from "./bit-fields.js";
import { decodeEntry, FORMAT_NAMES, nameBits } from "./entry.js";

export interface PathStep {
  /** Name of the structure, or of the table's format. */
  what: string;
  /** Of a table entry: its stage, and its level, 0 at the leaf table. */
  stage?: 1 | 2;
  level?: number;
  address: bigint;
  words: readonly bigint[];
  bits: readonly string[];
  /** Of a table entry. */
  kind?: "empty" | "table" | "leaf";
  /** The next table, or the first address of the page and its bytes. */
  leadsTo?: bigint;
  bytes?: bigint;
  /** What this stage permits so far to requests of this privilege: r, w, x or -. */
  permissions?: string;
}

/** The formats of the stages of a walk, and the privilege that its permissions are shown for. */
export interface PathShape {
  /** Of stage 1 for that half of iovas, and of stage 2; undefined where there is no such stage. */
  stage1?: number | undefined;
  stage2?: number | undefined;
  privileged: boolean;
  /** Arm stage 1: table descriptors restrict nothing. */
  ignoreTablePermissions?: boolean | undefined;
}

export function structureSteps(read: readonly StructureRead[]): PathStep[] {
  return read.map(({ structure, address, words }) => ({
    what: structure.replaceAll("-", " ").replace("pasid", "PASID"), address, words,
    bits: words.flatMap((word, i) => nameBits(word, STRUCTURE_FIELDS[structure]?.[i] ?? [])),
  }));
}

export function permissionText(perm: number): string {
  return `${perm & L.PERM_R ? "r" : "-"}${perm & L.PERM_W ? "w" : "-"}${perm & L.PERM_X ? "x" : "-"}`;
}

const ALL = L.PERM_R | L.PERM_W | L.PERM_X;
const bit = (pte: bigint, n: number): boolean => ((pte >> BigInt(n)) & 1n) !== 0n;

/** What a pointer to a table leaves to the entries below it. */
function tablePermissions(format: number, pte: bigint, privileged: boolean): number {
  const grants = (r: boolean, w: boolean, x: boolean): number => (r ? L.PERM_R : 0) | (w ? L.PERM_W : 0) | (x ? L.PERM_X : 0);
  switch (format) {
    case L.FORMAT_VTD_SECOND: return grants(bit(pte, 0), bit(pte, 1), false);
    case L.FORMAT_AMD_V1: return grants(bit(pte, 61), bit(pte, 62), false);
    case L.FORMAT_X86_64: return bit(pte, 2) || privileged ? grants(true, bit(pte, 1) || privileged, !bit(pte, 63)) : 0;
    case L.FORMAT_ARM_S1_4K: case L.FORMAT_ARM_S1_16K: case L.FORMAT_ARM_S1_64K: {
      const open = privileged || !bit(pte, 61);
      return grants(open, open && !bit(pte, 62), !bit(pte, privileged ? 59 : 60));
    }
    default: return ALL;
  }
}

/** The table entries of a walk, in the order in which they were read. */
export function walkSteps(walk: Walk, shape: PathShape): PathStep[] {
  const soFar = { 1: ALL, 2: ALL };
  let before: WalkStep | undefined;
  return walk.steps.map((step) => {
    const format = (step.stage === 1 ? shape.stage1 : shape.stage2) ?? L.FORMAT_MOCK;
    // Each address that stage 2 translates is a walk of its own, from the top.
    if (step.stage === 2 && before?.stage !== 2) soFar[2] = ALL;
    before = step;
    const { kind, output, bits } = decodeEntry(format, step.level, step.pte);
    if (kind === "leaf") soFar[step.stage] = (step.perm >> (shape.privileged ? L.PERM_PRIVILEGED_SHIFT : 0)) & ALL;
    else if (kind === "table" && !shape.ignoreTablePermissions) soFar[step.stage] &= tablePermissions(format, step.pte, shape.privileged);
    return {
      what: FORMAT_NAMES[format] ?? "table", stage: step.stage, level: step.level, address: step.address, words: [step.pte], bits, kind,
      ...(output ? { leadsTo: output.address } : {}), ...(output && kind === "leaf" ? { bytes: 1n << BigInt(output.lg2) } : {}),
      permissions: kind === "empty" ? "---" : permissionText(soFar[step.stage]),
    };
  });
}

/** How a walk ended, in a sentence. */
export function walkOutcome(walk: Walk): string {
  if (walk.reason === "none") return `translated to 0x${walk.hpa.toString(16)}, a page of ${1n << BigInt(walk.leafLg2)} bytes`;
  const ipa = walk.ipa ? `, for intermediate address 0x${walk.ipa.toString(16)}` : "";
  const cause = walk.class === "table" ? ", reading a table" : "";
  return `refused: ${walk.reason} in stage ${walk.stage} at level ${walk.level}${cause}${ipa}`;
}
