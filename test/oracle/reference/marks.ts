// Accessed and dirty bits: what an access leaves in the tables, and what the tables say of earlier ones.
// DDI 0487 D8.5; VT-d 3.6.2 and 3.7.2; SDM volume 3, "Accessed and Dirty Flags"; AMD 2.2.3.
import { PERM_ANY_W } from "../../../src/engine/layout.js";
import { architectureOf } from "./formats.js";
import { itemLg2, PTE_BYTES, type ReferenceDomain } from "./types.js";
import { walkReference, type ReferenceStep } from "./walk.js";

function markedStep(step: ReferenceStep, write: boolean): bigint {
  const arch = architectureOf(step.domain.format);
  const leaf = step.entry.kind === "leaf";
  let { pte } = step;
  if (step.domain.accessed === "set" && (leaf || arch.accessedIn === "path")) pte = arch.setAccessed(pte);
  if (step.domain.dirty === "set" && leaf && write) pte = arch.setDirty(pte);
  return pte;
}

/**
 * The entries that differ after the access, by the address where they were read. A refused access changes nothing that must
 * change; an entry of stage 1 that is updated is itself a write through stage 2.
 */
export function marksOf(domain: ReferenceDomain, iova: bigint, need: number): Map<bigint, bigint> {
  const walk = walkReference(domain, iova, need);
  const changed = new Map<bigint, bigint>();
  if (walk.reason !== "none") return changed;
  const write = (need & PERM_ANY_W) !== 0;
  const pending: ReferenceStep[] = [];
  for (const step of walk.steps) {
    if (step.forTable) {
      pending.push(step);
      continue;
    }
    const pte = markedStep(step, write);
    // What was read to find an entry of stage 1 is written through if that entry changes.
    for (const below of pending.splice(0)) keep(changed, below, markedStep(below, pte !== step.pte));
    keep(changed, step, pte);
  }
  return changed;
}

/** One entry may be used twice, and is marked for both uses: the bits that either changes are changed. */
function keep(changed: Map<bigint, bigint>, step: ReferenceStep, pte: bigint): void {
  const before = (changed.get(step.at) ?? step.pte) ^ step.pte;
  if (pte !== step.pte) changed.set(step.at, step.pte ^ (before | (pte ^ step.pte)));
}

/**
 * Whether the leaf that translates this address is dirty. A leaf that is written several times (coded AMD sizes, runs) is
 * marked in the copy that hardware walked, so any of them counts. False when nothing translates the address.
 */
export function leafIsDirty(domain: ReferenceDomain, iova: bigint): boolean {
  const last = walkReference(domain, iova).steps.at(-1);
  if (last?.entry.kind !== "leaf") return false;
  const arch = architectureOf(last.domain.format);
  const copies = 1n << BigInt(last.entry.lg2 - itemLg2(arch, last.level));
  const first = last.at - (last.at % (copies * PTE_BYTES));
  for (let copy = 0n; copy < copies; copy++) {
    const pte = last.domain.read(first + copy * PTE_BYTES);
    const entry = pte === null ? null : arch.decode(last.domain, pte, last.level);
    if (entry?.kind === "leaf" && entry.dirty) return true;
  }
  return false;
}
