// The reference page-table walker: slow, BigInt, one entry at a time, written from the manuals and not from the engine.
// May import only the layout constants. Level 0 is the leaf table; sizes are log2.
// VT-d: "Intel Virtualization Technology for Directed I/O", 3.7 (second-stage translation) and 9.8 (its entries).
// AMD: "AMD I/O Virtualization Technology (IOMMU) Specification", 2.2.3 (I/O page tables for host translations).
// Not modelled: VT-d execute (bit 2) and memory type (bits 6:3), which change no address and neither R nor W.
import { FORMAT_AMD_V1, FORMAT_VTD_SECOND, PERM_R, PERM_W } from "../../src/engine/layout.js";

/** How the entries of a table read. */
export interface ReferenceRules {
  /** `FORMAT_*` of the layout. */
  readonly format: number;
  /** Width of an output address in bits, at most 52. */
  readonly outputLg2: number;
  /** VT-d: whether bit 11 of a leaf (snoop) is defined; it is reserved otherwise. True when absent. */
  readonly snoopControl?: boolean;
  /** AMD: take a leaf of 512 GiB, which the manual encodes and hardware gets wrong. Reserved when absent. */
  readonly amdLeaf512G?: boolean;
}

/** A page table as an IOMMU is told of it. */
export interface ReferenceTable extends ReferenceRules {
  /** VT-d 3..5, AMD 1..6. */
  readonly levels: number;
  /** Width of an input address in bits where the unit or the address space has less than the levels decode. */
  readonly inputLg2?: number;
  /** What the bits above the width must be; "zero" when absent. "sign-tbi": sign extension with bits 63..56 ignored. */
  readonly rule?: "zero" | "sign" | "sign-tbi";
  /** Address of the top table, as `read` takes it. */
  readonly root: bigint;
  /** The 64-bit entry at an address: a memory offset for kernel-owned tables. */
  read(address: bigint): bigint;
}

export type RefusedOutcome = "address-width" | "not-present" | "reserved";
/** `perm` is PERM_R | PERM_W as all levels leave it, 0 included; `level` is that of the entry that ended the walk. */
export type ReferenceWalk =
  | { outcome: "translated"; hpa: bigint; leafLg2: number; perm: number }
  | { outcome: RefusedOutcome; level: number };

export type ReferenceEntry =
  | { kind: "empty" }
  | { kind: "reserved" }
  | { kind: "table"; address: bigint; level: number; perm: number }
  | { kind: "leaf"; address: bigint; lg2: number; perm: number; dirty: boolean };

/** One entry that a walk read. */
export interface ReferenceStep {
  readonly level: number;
  readonly address: bigint;
  readonly pte: bigint;
  readonly entry: ReferenceEntry;
}

const PAGE_LG2 = 12;
const INDEX_BITS = 9;
const PTE_BYTES = 8n;
const AMD_NEXT_LEVEL_CODED = 7;
/** Linux leaves out 512 GiB leaves for an erratum ("AMD_IOMMU_PGSIZES"); no coded size is beyond 2^51. */
const AMD_ERRATUM_LG2 = 39;
const AMD_MAX_LEAF_LG2 = 51;

/** Bits first..last of a word, in place. */
function field(word: bigint, first: number, last: number): bigint {
  return last < first ? 0n : (BigInt.asUintN(last + 1, word) >> BigInt(first)) << BigInt(first);
}

function bit(word: bigint, position: number): number {
  return Number((word >> BigInt(position)) & 1n);
}

/** log2 of what one entry of a table at this level covers. */
export function itemLg2(level: number): number {
  return PAGE_LG2 + INDEX_BITS * level;
}

/** Bits of an input address that this table takes. Six AMD levels decode 64, not 66. */
function widthOf(table: ReferenceTable): number {
  return Math.min(64, itemLg2(table.levels), table.inputLg2 ?? 64);
}

/** The part of an address that the tables decode, or null when the bits above it break the rule. */
function decodedAddress(table: ReferenceTable, iova: bigint): bigint | null {
  const width = widthOf(table);
  if (iova < 0n || iova >> 64n !== 0n) return null;
  const within = BigInt.asUintN(width, iova);
  const { rule = "zero" } = table;
  if (rule === "zero") return within === iova ? within : null;
  const compared = rule === "sign-tbi" ? 56 : 64;
  return BigInt.asUintN(compared, BigInt.asIntN(width, iova)) === BigInt.asUintN(compared, iova) ? within : null;
}

/** The address that obeys the rule and whose low bits are those that a tag keeps. */
export function addressOfTag(table: ReferenceTable, low: bigint): bigint {
  const { rule = "zero" } = table;
  return rule === "zero" ? low : BigInt.asUintN(64, BigInt.asIntN(rule === "sign-tbi" ? 56 : 57, low));
}

/** VT-d 9.8: what bits 7, 11, 62 and the address field may hold at each level. */
function decodeVtdSecond(rules: ReferenceRules, pte: bigint, level: number): ReferenceEntry {
  const perm = bit(pte, 0) * PERM_R + bit(pte, 1) * PERM_W;
  if (perm === 0) return { kind: "empty" };
  const pageSize = bit(pte, 7) === 1;
  const leaf = level === 0 || pageSize;
  const lg2 = itemLg2(level);
  // Bit 7 is ignored in an SS-PTE, the page-size bit in an SS-PDE and an SS-PDPE, and reserved above.
  if (pageSize && level > 2) return { kind: "reserved" };
  // Bit 62 marks transient mappings of device TLBs, which a unit without them reserves.
  if (bit(pte, 62) === 1 || field(pte, rules.outputLg2, 51) !== 0n) return { kind: "reserved" };
  if (bit(pte, 11) === 1 && !(leaf && (rules.snoopControl ?? true))) return { kind: "reserved" };
  if (!leaf) return { kind: "table", address: field(pte, 12, 51), level: level - 1, perm };
  if (field(pte, 12, lg2 - 1) !== 0n) return { kind: "reserved" };
  return { kind: "leaf", address: field(pte, 12, 51), lg2, perm, dirty: bit(pte, 9) === 1 };
}

/** AMD 2.2.3, page-size encodings: k ones from bit 12 up and then a zero say 2^(13 + k). */
function codedLg2(pte: bigint): number {
  let lg2 = PAGE_LG2 + 1;
  while (lg2 <= 52 && bit(pte, lg2 - 1) === 1) lg2++;
  return lg2;
}

function decodeAmdV1(rules: ReferenceRules, pte: bigint, level: number): ReferenceEntry {
  if (bit(pte, 0) === 0) return { kind: "empty" };
  const perm = bit(pte, 61) * PERM_R + bit(pte, 62) * PERM_W;
  const nextLevel = Number((pte >> 9n) & 7n);
  if (field(pte, 52, 58) !== 0n) return { kind: "reserved" };
  if (nextLevel !== 0 && nextLevel !== AMD_NEXT_LEVEL_CODED) {
    // The manual's level n is our n - 1. A pointer may skip levels, it may not stay or go up.
    if (nextLevel > level || field(pte, rules.outputLg2, 51) !== 0n) return { kind: "reserved" };
    return { kind: "table", address: field(pte, 12, 51), level: nextLevel - 1, perm };
  }
  const own = itemLg2(level);
  const coded = nextLevel === AMD_NEXT_LEVEL_CODED;
  const lg2 = coded ? codedLg2(pte) : own;
  // A level's own size is written as 0, and the next level's own size belongs to that level.
  if (coded && (lg2 <= own || lg2 >= own + INDEX_BITS)) return { kind: "reserved" };
  const erratum = lg2 === AMD_ERRATUM_LG2 && rules.amdLeaf512G !== true;
  if (erratum || lg2 > AMD_MAX_LEAF_LG2) return { kind: "reserved" };
  const address = field(pte, lg2, 51);
  const last = address + (1n << BigInt(lg2)) - 1n;
  if (last >> BigInt(rules.outputLg2) !== 0n || (!coded && field(pte, 12, lg2 - 1) !== 0n)) return { kind: "reserved" };
  return { kind: "leaf", address, lg2, perm, dirty: bit(pte, 6) === 1 };
}

/** What one entry of a table at `level` means. Throws a RangeError for a format that has no reference. */
export function decodeReference(rules: ReferenceRules, pte: bigint, level: number): ReferenceEntry {
  switch (rules.format) {
    case FORMAT_VTD_SECOND:
      return decodeVtdSecond(rules, pte, level);
    case FORMAT_AMD_V1:
      return decodeAmdV1(rules, pte, level);
    default:
      throw new RangeError(`decodeReference: format ${rules.format} has no reference`);
  }
}

/**
 * Every entry that the walk of one address reads, top first, and its outcome. `iova` is 0..2^64 - 1.
 * An address with bits above the width is refused before any entry is read, at the level of the top table.
 */
export function walkSteps(table: ReferenceTable, iova: bigint): { steps: ReferenceStep[]; result: ReferenceWalk } {
  const steps: ReferenceStep[] = [];
  let level = table.levels - 1;
  const within = decodedAddress(table, iova);
  if (within === null) {
    return { steps, result: { outcome: "address-width", level } };
  }
  let base = table.root;
  let perm = PERM_R | PERM_W;
  for (;;) {
    const lg2 = itemLg2(level);
    const index = field(within, lg2, lg2 + INDEX_BITS - 1) >> BigInt(lg2);
    const address = base + index * PTE_BYTES;
    const pte = table.read(address);
    const entry = decodeReference(table, pte, level);
    steps.push({ level, address, pte, entry });
    if (entry.kind === "empty") return { steps, result: { outcome: "not-present", level } };
    if (entry.kind === "reserved") return { steps, result: { outcome: "reserved", level } };
    perm &= entry.perm;
    if (entry.kind === "leaf") {
      const hpa = entry.address + BigInt.asUintN(entry.lg2, iova);
      return { steps, result: { outcome: "translated", hpa, leafLg2: entry.lg2, perm } };
    }
    // A pointer that skips levels (AMD) reaches only addresses whose bits for those levels are zero.
    if (field(within, itemLg2(entry.level + 1), lg2 - 1) !== 0n) {
      return { steps, result: { outcome: "not-present", level } };
    }
    base = entry.address;
    level = entry.level;
  }
}

/** The outcome of one walk. See `walkSteps` for the rules. */
export function walkReference(table: ReferenceTable, iova: bigint): ReferenceWalk {
  return walkSteps(table, iova).result;
}

/**
 * Whether the leaf that translates this address is dirty. A coded AMD size is written once per item that it covers,
 * hardware marks the copy that it walked, so any of them counts. False when nothing translates the address.
 */
export function leafIsDirty(table: ReferenceTable, iova: bigint): boolean {
  const last = walkSteps(table, iova).steps.at(-1);
  if (last?.entry.kind !== "leaf") return false;
  const copies = 1n << BigInt(last.entry.lg2 - itemLg2(last.level));
  const first = last.address - (last.address % (copies * PTE_BYTES));
  for (let copy = 0n; copy < copies; copy++) {
    const entry = decodeReference(table, table.read(first + copy * PTE_BYTES), last.level);
    if (entry.kind === "leaf" && entry.dirty) return true;
  }
  return false;
}
