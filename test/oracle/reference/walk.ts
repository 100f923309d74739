// The reference walk: slow, BigInt, one entry at a time, one stage or two. A stage 1 above a stage 2 has the address of each of
// its entries, and then its output, translated by it (DDI 0487 D8.2 and SMMUv3 3.3; VT-d 3.8; AMD 2.2.6).
import { PERM_R } from "../../../src/engine/layout.js";
import { architectureOf } from "./formats.js";
import { decodedAddress, halfOf } from "./address.js";
import { ALL, field, itemLg2, PTE_BYTES, type AccessClass, type Entry, type Leaf, type Reason, type ReferenceDomain } from "./types.js";

/** One entry that a walk read. `address` is the table's own address of it, `at` where it was read: the same but below a stage 2. */
export interface ReferenceStep {
  readonly stage: 1 | 2;
  readonly level: number;
  readonly address: bigint;
  readonly at: bigint;
  readonly pte: bigint;
  readonly entry: Entry;
  readonly domain: ReferenceDomain;
  /** Read on behalf of an entry of stage 1. */
  readonly forTable: boolean;
}

export interface ReferenceWalk {
  /** "none" if the access is allowed. */
  readonly reason: Reason;
  /** Where the walk ended. */
  readonly stage: 1 | 2;
  /** "none" if the access is allowed. */
  readonly class: AccessClass;
  readonly level: number;
  /** What stage 2 was asked for, when the reason is of stage 2 below a stage 1; else 0. */
  readonly ipa: bigint;
  /** What the whole path grants; null when no leaf was reached. */
  readonly found: Found | null;
  /** The entries of both stages in the order in which they were read. */
  readonly steps: readonly ReferenceStep[];
}

export interface Found {
  readonly hpa: bigint;
  /** log2 of the leaf, of two stages the smaller. */
  readonly leafLg2: number;
  readonly perm: number;
  /** Output of stage 1, and the leaf that gave it. */
  readonly oa: bigint;
  readonly ownLg2: number;
}

const FIRST = 0x11;
const DENIED: readonly Reason[] = ["read-denied", "write-denied", "execute-denied"];

/** Reading before writing before execution, where several are missing. */
export function denial(need: number, perm: number): Reason {
  const missing = need & ~perm;
  return DENIED.find((_reason, n) => (missing & (FIRST << n)) !== 0) ?? "none";
}

/** How one stage ended. */
interface StageEnd {
  readonly reason: Reason;
  readonly level: number;
  readonly leaf?: Leaf;
  /** The permissions of the path. */
  readonly perm: number;
  /** Set when stage 2 refused to translate the address of an entry of this stage: the address, and its level there. */
  readonly refused?: { readonly address: bigint; readonly level: number };
}

/** Down one table from its root; the entries read are added to `steps`. */
function descend(domain: ReferenceDomain, within: bigint, need: number, steps: ReferenceStep[], forTable: boolean): StageEnd {
  const arch = architectureOf(domain.format);
  let level = domain.levels - 1;
  let base = domain.root;
  let perm = ALL;
  for (let top = true; ; top = false) {
    const lg2 = itemLg2(arch, level);
    // The start table decodes all that is left above it, which may be more or less than another table's index.
    const index = (top ? within : field(within, 0, lg2 + arch.indexBits - 1)) >> BigInt(lg2);
    const address = base + index * PTE_BYTES;
    let at = address;
    if (domain.stage2) {
      const below = walkFrom(domain.stage2, address, PERM_R, steps, true);
      if (!below.found || below.reason !== "none") return { reason: below.reason, level, perm, refused: { address, level: below.level } };
      at = below.found.hpa;
    }
    const pte = domain.read(at);
    if (pte === null) return { reason: "table-outside", level, perm };
    const entry = arch.decode(domain, pte, level);
    steps.push({ stage: arch.stage, level, address, at, pte, entry, domain, forTable });
    if (entry.kind === "empty") return { reason: "not-present", level, perm };
    if (entry.kind === "reserved" || entry.kind === "address-size") return { reason: entry.kind, level, perm };
    perm &= entry.perm;
    if (entry.kind === "leaf") return endAtLeaf(domain, entry, level, arch.combine?.(perm) ?? perm, need);
    // A pointer that skips levels (AMD) reaches only addresses whose bits for those levels are zero.
    if (field(within, itemLg2(arch, entry.level + 1), lg2 - 1) !== 0n) return { reason: "not-present", level, perm };
    base = entry.address;
    level = entry.level;
  }
}

/** The access flag comes before permissions (DDI 0487, MMU fault prioritization). */
function endAtLeaf(domain: ReferenceDomain, leaf: Leaf, level: number, perm: number, need: number): StageEnd {
  if (domain.accessed === "fault" && !leaf.accessed) return { reason: "access-flag", level, perm };
  return { reason: denial(need, perm), level, leaf, perm };
}

const classOf = (reason: Reason): AccessClass => (reason === "none" ? "none" : "input");

function walkFrom(domain: ReferenceDomain, iova: bigint, need: number, steps: ReferenceStep[], forTable: boolean): ReferenceWalk {
  const table = halfOf(domain, iova);
  const { stage } = architectureOf(table.format);
  const refusal = { stage, class: "input" as AccessClass, ipa: 0n, found: null, steps };
  const within = decodedAddress(table, iova);
  if (within === null) return { ...refusal, reason: "address-width", level: table.levels - 1 };
  const { reason, level, leaf, perm, refused } = descend(table, within, need, steps, forTable);
  if (refused) return { ...refusal, reason, stage: 2, class: "table", level: refused.level, ipa: refused.address };
  if (!leaf) return { ...refusal, reason, level, class: reason === "table-outside" ? "table" : "input" };
  const oa = leaf.address + BigInt.asUintN(leaf.lg2, iova);
  const found = { hpa: oa, leafLg2: leaf.lg2, perm, oa, ownLg2: leaf.lg2 };
  if (!table.stage2) return { ...refusal, reason, level, found, class: classOf(reason) };
  // Stage 1 decides before stage 2 is asked for its output.
  if (reason !== "none") return { ...refusal, reason, level };
  const end = walkFrom(table.stage2, oa, need, steps, false);
  if (!end.found) return { ...end, class: "input", ipa: oa };
  const both = {
    hpa: end.found.hpa, leafLg2: Math.min(leaf.lg2, end.found.leafLg2), perm: perm & end.found.perm, oa, ownLg2: leaf.lg2,
  };
  return { ...end, found: both, ipa: end.reason === "none" ? 0n : oa, class: classOf(end.reason) };
}

/** `iova` is 0..2^64 - 1; `need` is PERM_* as a request says it, 0 for the address alone. */
export function walkReference(domain: ReferenceDomain, iova: bigint, need = 0): ReferenceWalk {
  return walkFrom(domain, iova, need, [], false);
}
