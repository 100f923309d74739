// What the decoders of configuration structures share: how guest memory is read, what was read on the way, and what one
// stage of translation is made of. A decoder has no state and no engine: words in, configuration or fault out.
// Imports the engine's types. Bit numbers are of the 64-bit word that they are in.
import type { DomainOptions } from "../../engine/engine.js";

/** Guest memory as a unit's table fetches see it. */
export interface TableMemory {
  /** The little-endian word at a multiple of 8; undefined where a fetch ends in a bus error. */
  read64(gpa: bigint): bigint | undefined;
}

/** One stage of translation as Engine.createDomain takes it. */
export type Stage = Omit<DomainOptions, "stage2" | "upper"> & { guestRoot: bigint };

/** A structure that was read on the way to the page tables. */
export interface StructureRead {
  structure: "root-entry" | "scalable-root-entry" | "context-entry" | "scalable-context-entry" | "pasid-directory-entry"
    | "pasid-table-entry" | "level-1-stream-table-descriptor" | "stream-table-entry" | "level-1-context-descriptor"
    | "context-descriptor" | "device-table-entry";
  /** Of its first word, in the unit's own addresses; ipa when a stage 2 translated the fetch. */
  address: bigint;
  words: readonly bigint[];
}

/** `n` consecutive words, or undefined if any of them cannot be read. */
export function readWords(memory: TableMemory, address: bigint, n: number): bigint[] | undefined {
  const words: bigint[] = [];
  for (let i = 0; i < n; i++) {
    const word = memory.read64(address + BigInt(i * 8));
    if (word === undefined) return undefined;
    words.push(word);
  }
  return words;
}

/** Bits first..last of a word, inclusive, as a number; at most 32 of them. */
export function bits(word: bigint, first: number, last: number): number {
  return Number((word >> BigInt(first)) & ((1n << BigInt(last - first + 1)) - 1n));
}

export function bit(word: bigint, n: number): boolean {
  return ((word >> BigInt(n)) & 1n) !== 0n;
}

/** The bits first..last, inclusive, set. */
export function mask(first: number, last: number): bigint {
  return last < first ? 0n : ((1n << BigInt(last - first + 1)) - 1n) << BigInt(first);
}
