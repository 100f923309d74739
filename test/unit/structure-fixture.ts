// Guest memory for the decoders of structures: words by address; what is not written is a bus error. Imports the decoders' types.
import type { TableMemory } from "../../src/iommu/structures/structure.js";

export class Words implements TableMemory {
  readonly #words = new Map<bigint, bigint>();

  /** Consecutive words from `address` on. */
  put(address: bigint, ...words: bigint[]): this {
    words.forEach((word, i) => this.#words.set(address + BigInt(i * 8), word));
    return this;
  }

  read64(gpa: bigint): bigint | undefined {
    return this.#words.get(gpa);
  }
}
