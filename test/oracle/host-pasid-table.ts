// A guest's PASID table as it is bound to a space: what each PASID's entry says now, read in the parent's addresses, and where DMA goes by it.
// Knows no cache: what was invalidated is as this says, and what the table did not hold was never cached. Imports the reference decoders,
// space-tree.ts (types). Pages are of 4 KiB; addresses in bytes are bigint.
import { PERM_R, PERM_W } from "../../src/engine/layout.js";
import { field, isSet, type ReferenceDomain } from "./reference/types.js";
import { type PasidReading, readPasidEntry } from "./reference/vtd-pasid.js";
import { walkReference } from "./reference/walk.js";
import type { ModelSpace, Reached } from "./space-tree.js";

/** An entry that DMA could go by: page tables, or the parent's addresses as they are. */
export type ValidReading = Extract<PasidReading, { kind: "stage1" | "pass" }>;

export class ModelPasidTable {
  /** `pages` is how page tables below an entry are walked, but for their root; its `read` takes addresses of the parent. */
  constructor(readonly directory: bigint, readonly pasidBits: number, readonly parent: ModelSpace, private readonly pages: ReferenceDomain) {}

  has(pasid: number): boolean {
    return pasid < 2 ** this.pasidBits;
  }

  /** DMA without a PASID is that of PASID 0 (RID_PASID). */
  entry(pasid: number): PasidReading {
    return readPasidEntry(this.pages.read, this.directory, pasid, this.pages.outputWidth);
  }

  /** The same, if DMA could go by it. */
  valid(pasid: number): ValidReading | undefined {
    const reading = this.has(pasid) ? this.entry(pasid) : undefined;
    return reading?.kind === "stage1" || reading?.kind === "pass" ? reading : undefined;
  }

  /** The words of a present entry, as somebody sees them who only looks: nothing is reserved. */
  words(pasid: number): readonly bigint[] | undefined {
    const { read } = this.pages;
    const pointer = read(this.directory + BigInt(pasid >> 6) * 8n) ?? 0n;
    const at = field(pointer, 12, 51) + BigInt(pasid & 63) * 64n;
    const words = isSet(pointer, 0) ? Array.from({ length: 8 }, (_none, n) => read(at + BigInt(n) * 8n) ?? 0n) : [];
    return isSet(words[0] ?? 0n, 0) ? words : undefined;
  }

  domainOf({ root, levels }: Extract<PasidReading, { kind: "stage1" }>): ReferenceDomain {
    return { ...this.pages, root, levels, width: 12 + 9 * levels };
  }

  /** Where an address leads by an entry that was read now, or before. */
  follow(reading: ValidReading, iova: bigint): Reached | undefined {
    if (reading.kind === "pass") return this.parent.translate(iova);
    const { found } = walkReference(this.domainOf(reading), iova, 0);
    const below = found && this.parent.translate(found.oa);
    const perm = below && below.perm & found.perm & (PERM_R | PERM_W);
    return perm ? { hpa: below.hpa, perm } : undefined;
  }
}
