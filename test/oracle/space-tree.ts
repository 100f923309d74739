// What a tree of spaces translates to, kept as plain maps of pages and looked up one level after the other: for comparison with
// an engine's shadows and two-stage walks. Knows no table but a guest's, which it walks with the reference walker.
// Pages are of 4 KiB; addresses in bytes are bigint.
import { PERM_R, PERM_W } from "../../src/engine/layout.js";
import type { ReferenceDomain } from "./reference/types.js";
import { walkReference } from "./reference/walk.js";

const PAGE = 0xfffn;

interface MappedPage {
  /** Page of the process for a root, of the parent for a child. */
  readonly target: number;
  readonly perm: number;
}

/** What an address leads to: the host-physical address and what may be done there; undefined where nothing is mapped. */
export interface Reached {
  readonly hpa: bigint;
  readonly perm: number;
}

export class ModelSpace {
  readonly pages = new Map<number, MappedPage>();
  readonly parent: ModelSpace | undefined;
  /** A guest's table, its root in the parent; `read` takes addresses of the parent. */
  table: ReferenceDomain | undefined;
  /** Pages written since they were last reported, where the space tracks. */
  readonly dirty = new Set<number>();
  readonly children = new Set<ModelSpace>();

  /** @param hpaOf host-physical address of a page of the process. */
  constructor(parent: ModelSpace | undefined, private readonly hpaOf: (page: number) => bigint) {
    this.parent = parent;
    parent?.children.add(this);
  }

  map(first: number, pages: number, target: number, perm: number): void {
    for (let n = 0; n < pages; n++) this.pages.set(first + n, { target: target + n, perm });
  }

  unmap(first: number, pages: number): void {
    for (let n = 0; n < pages; n++) {
      this.pages.delete(first + n);
      this.dirty.delete(first + n);
    }
  }

  translate(iova: bigint): Reached | undefined {
    if (this.table !== undefined) return this.#walk(this.table, iova);
    const page = this.pages.get(Number(iova >> 12n));
    if (page === undefined) return undefined;
    if (this.parent === undefined) return { hpa: this.hpaOf(page.target) + (iova & PAGE), perm: page.perm };
    const below = this.parent.translate((BigInt(page.target) << 12n) | (iova & PAGE));
    return below && { hpa: below.hpa, perm: below.perm & page.perm };
  }

  #walk(table: ReferenceDomain, iova: bigint): Reached | undefined {
    const { found } = walkReference(table, iova, 0);
    const below = found && this.parent!.translate(found.oa);
    return below ? { hpa: below.hpa, perm: below.perm & found.perm & (PERM_R | PERM_W) } : undefined;
  }

  /** A device wrote at an address that translates: the page is dirty here and in every space on the way down. */
  wrote(iova: bigint): void {
    if (this.table !== undefined) return this.parent!.wrote(walkReference(this.table, iova, 0).found!.oa);
    this.dirty.add(Number(iova >> 12n));
    this.parent?.wrote(BigInt(this.pages.get(Number(iova >> 12n))!.target) << 12n);
  }
}
