// What a reference decoder is told and what it answers. Written from the manuals and not from the engine; of the engine only the
// layout's numbers are used. Level 0 is the leaf table; sizes are log2; bit fields and ranges are first..last, inclusive.
import type { CLASS_NAMES, REASON_NAMES } from "../../../src/engine/layout.js";

export type Reason = (typeof REASON_NAMES)[number];
export type AccessClass = (typeof CLASS_NAMES)[number];
export type Rule = "zero" | "sign" | "ones" | "zero-tbi" | "sign-tbi" | "ones-tbi";

/** The 64-bit word at an address, a multiple of 8; null where there is no memory. */
export type Memory = (address: bigint) => bigint | null;

/** How the entries of a table read. */
export interface ReferenceRules {
  /** `FORMAT_*` of the layout. */
  readonly format: number;
  /** Width of an output address in bits, at most 52. */
  readonly outputWidth: number;
  /** Bits that must be zero in pointers and in leaves beyond what the format reserves. */
  readonly reservedTable?: bigint;
  readonly reservedLeaf?: bigint;
  readonly accessed?: "ignore" | "set" | "fault";
  readonly dirty?: "ignore" | "set";
  /** `OPTION_*` of the layout. */
  readonly options?: number;
}

/** A page table as an IOMMU is told of it. */
export interface ReferenceDomain extends ReferenceRules {
  readonly levels: number;
  /** Width of an input address in bits; all that the levels decode when absent. */
  readonly width?: number;
  /** What the bits above the width must be; "zero" when absent. */
  readonly rule?: Rule;
  /** Address of the start table: as `read` takes it, or as `stage2` translates it. */
  readonly root: bigint;
  readonly read: Memory;
  /** Translates this one's table addresses and its output. */
  readonly stage2?: ReferenceDomain;
  /** Serves input addresses with bit 55 set. */
  readonly upper?: ReferenceDomain;
}

/**
 * What one entry means. `perm` is what it leaves: bits 0..2 R, W, X of unprivileged, bits 4..6 of privileged accesses.
 * An "address-size" is a pointer or leaf whose address is beyond the output width, where the format tells that apart.
 */
export type Entry =
  | { readonly kind: "empty" }
  | { readonly kind: "reserved" }
  | { readonly kind: "address-size" }
  | { readonly kind: "table"; readonly address: bigint; readonly level: number; readonly perm: number }
  | Leaf;

export interface Leaf {
  readonly kind: "leaf";
  readonly address: bigint;
  readonly lg2: number;
  readonly perm: number;
  readonly accessed: boolean;
  readonly dirty: boolean;
}

export interface Architecture {
  readonly stage: 1 | 2;
  /** log2 of the smallest page and of the entries of a table. */
  readonly pageLg2: number;
  readonly indexBits: number;
  /** Bits of an input address that this many levels decode. */
  inputBits(levels: number): number;
  decode(rules: ReferenceRules, pte: bigint, level: number): Entry;
  /** What the permissions of a whole path come to, when that is more than their AND. */
  combine?(perm: number): number;
  /** Which entries of a path have an accessed flag. */
  readonly accessedIn: "leaf" | "path";
  /** The entry with its accessed flag set, and as a leaf that was written. */
  setAccessed(pte: bigint): bigint;
  setDirty(pte: bigint): bigint;
}

export const PTE_BYTES = 8n;
export const ALL = 0x77;
/** R and W for both kinds of accesses. */
export const READ = 0x11;
export const WRITE = 0x22;
export const EXECUTE = 0x44;
export const USER = 0x07;
export const PRIVILEGED = 0x70;

export const EMPTY: Entry = { kind: "empty" };
export const RESERVED: Entry = { kind: "reserved" };
export const ADDRESS_SIZE: Entry = { kind: "address-size" };

/** Bits first..last of a word, in place. */
export function field(word: bigint, first: number, last: number): bigint {
  return last < first ? 0n : (BigInt.asUintN(last + 1, word) >> BigInt(first)) << BigInt(first);
}

export function isSet(word: bigint, position: number): boolean {
  return ((word >> BigInt(position)) & 1n) === 1n;
}

/** log2 of what one entry at a level covers. */
export function itemLg2(arch: Architecture, level: number): number {
  return arch.pageLg2 + level * arch.indexBits;
}
