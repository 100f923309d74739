// VMSAv8-64 descriptors of stage 1 and stage 2, addresses of 48 bits. Arm Architecture Reference Manual (DDI 0487), chapter D8:
// D8.3 translation table descriptors, D8.4 memory access control, D8.5 hardware updates of access flag and dirty state.
// The manual's level n is our 3 - n. Not modelled: 52-bit addresses, WXN, FEAT_HAFT.
import { OPTION_IGNORE_TABLE_PERMISSIONS } from "../../../src/engine/layout.js";
import {
  ADDRESS_SIZE, ALL, EMPTY, EXECUTE, field, isSet, itemLg2, PRIVILEGED, READ, RESERVED, USER, WRITE, type Architecture, type Entry,
  type ReferenceRules,
} from "./types.js";

/** Levels with block descriptors by log2 of the granule: 4 KiB 2M and 1G, 16 KiB 32M, 64 KiB 512M. */
const TOP_BLOCK_LEVEL: Readonly<Record<number, number>> = { 12: 2, 14: 1, 16: 1 };

type Permissions = (rules: ReferenceRules, pte: bigint) => number;

const manages = (rules: ReferenceRules): boolean => rules.dirty === "set";

/** D8.4: AP[1] (6) admits unprivileged data accesses, AP[2] (7) makes read-only; UXN (54) and PXN (53). */
function leafStage1(rules: ReferenceRules, pte: bigint): number {
  // D8.5: with dirty state managed by hardware, a descriptor with DBM (51) counts as AP[2] = 0; the write then clears it.
  const readOnly = isSet(pte, 7) && !(manages(rules) && isSet(pte, 51));
  let perm = ALL;
  if (readOnly) perm &= ~WRITE;
  // Execution by unprivileged code is governed by UXN alone.
  if (!isSet(pte, 6)) perm &= PRIVILEGED | (EXECUTE & USER);
  if (isSet(pte, 54)) perm &= ~(EXECUTE & USER);
  if (isSet(pte, 53)) perm &= ~(EXECUTE & PRIVILEGED);
  return perm;
}

/** D8.4, hierarchical: APTable[0] (61) and [1] (62), UXNTable (60), PXNTable (59) take away from all below. */
function tableStage1(rules: ReferenceRules, pte: bigint): number {
  if (((rules.options ?? 0) & OPTION_IGNORE_TABLE_PERMISSIONS) !== 0) return ALL;
  let perm = ALL;
  if (isSet(pte, 61)) perm &= PRIVILEGED | (EXECUTE & USER);
  if (isSet(pte, 62)) perm &= ~WRITE;
  if (isSet(pte, 60)) perm &= ~(EXECUTE & USER);
  if (isSet(pte, 59)) perm &= ~(EXECUTE & PRIVILEGED);
  return perm;
}

/** What unprivileged code may write, privileged code may not execute. */
function combineStage1(perm: number): number {
  return (perm & WRITE & USER) !== 0 ? perm & ~(EXECUTE & PRIVILEGED) : perm;
}

/**
 * D8.4: S2AP[0] (6) reads, S2AP[1] (7) writes; DBM (51) counts as S2AP[1] = 1 where hardware manages it. FEAT_XNX, XN[1:0] (54:53):
 * 0 all may execute, 1 unprivileged alone, 2 none, 3 privileged alone.
 */
function leafStage2(rules: ReferenceRules, pte: bigint): number {
  const write = isSet(pte, 7) || (manages(rules) && isSet(pte, 51));
  const unprivileged = isSet(pte, 54) ? 0 : EXECUTE & USER;
  const privileged = isSet(pte, 54) === isSet(pte, 53) ? EXECUTE & PRIVILEGED : 0;
  return (isSet(pte, 6) ? READ : 0) | (write ? WRITE : 0) | unprivileged | privileged;
}

function make(stage: 1 | 2, pageLg2: number, leafPermissions: Permissions, tablePermissions: Permissions): Architecture {
  const topBlock = TOP_BLOCK_LEVEL[pageLg2]!;
  function decode(rules: ReferenceRules, pte: bigint, level: number): Entry {
    if (!isSet(pte, 0)) return EMPTY;
    // Bit 1 says table, and page at the last level; clear it is a block, or nothing where a level has no blocks.
    const bit1 = isSet(pte, 1);
    const leaf = level === 0 || !bit1;
    if (leaf && (level === 0 ? !bit1 : level > topBlock)) return EMPTY;
    if ((pte & ((leaf ? rules.reservedLeaf : rules.reservedTable) ?? 0n)) !== 0n) return RESERVED;
    const lg2 = leaf ? itemLg2(arch, level) : pageLg2;
    // Bits 51:48 are RES0 without 52-bit addresses, and so are the bits below a block's own size.
    const address = field(pte, lg2, 47);
    if (address >> BigInt(rules.outputWidth) !== 0n) return ADDRESS_SIZE;
    if (!leaf) return { kind: "table", address, level: level - 1, perm: tablePermissions(rules, pte) };
    const dirty = stage === 1 ? !isSet(pte, 7) : isSet(pte, 7);
    return { kind: "leaf", address, lg2, perm: leafPermissions(rules, pte), accessed: isSet(pte, 10), dirty };
  }
  const arch: Architecture = {
    stage,
    pageLg2,
    indexBits: pageLg2 - 3,
    // Up to sixteen start tables of stage 2 may lie side by side, which adds four bits.
    inputBits: (levels) => Math.min(48, pageLg2 + levels * (pageLg2 - 3) + (stage === 2 ? 4 : 0)),
    decode,
    ...(stage === 1 ? { combine: combineStage1 } : {}),
    accessedIn: "leaf",
    setAccessed: (pte) => pte | (1n << 10n),
    setDirty: (pte) => (stage === 1 ? pte & ~(1n << 7n) : pte | (1n << 7n)),
  };
  return arch;
}

export const ARM_S1_4K = make(1, 12, leafStage1, tableStage1);
export const ARM_S1_16K = make(1, 14, leafStage1, tableStage1);
export const ARM_S1_64K = make(1, 16, leafStage1, tableStage1);
export const ARM_S2_4K = make(2, 12, leafStage2, () => ALL);
export const ARM_S2_16K = make(2, 14, leafStage2, () => ALL);
export const ARM_S2_64K = make(2, 16, leafStage2, () => ALL);
