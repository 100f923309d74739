// What a tree of spaces translates to, kept as plain maps of pages and looked up one level after the other: for comparison with
// an engine's shadows and two-stage walks. Also which calls are refused, where devices' DMA goes, and what is dirty. Knows no table
// but a guest's, which it walks with the reference walker. Pages are of 4 KiB; addresses in bytes are bigint.
import { PERM_R, PERM_W } from "../../src/engine/layout.js";
import type { ReferenceDomain } from "./reference/types.js";
import { walkReference } from "./reference/walk.js";

const PAGE = 0xfffn;

interface MappedPage {
  /** Page of the process for a root, of the parent for a child. */
  readonly target: number;
  readonly perm: number;
}

export interface ModelArea extends MappedPage {
  readonly first: number;
  readonly pages: number;
}

/** What an address leads to: the host-physical address and what may be done there; undefined where nothing is mapped. */
export interface Reached {
  readonly hpa: bigint;
  readonly perm: number;
}

/** Memory of the process: ranges of pages, each contiguous in host-physical addresses. */
export class ModelProcess {
  readonly #ranges: { first: number; pages: number; hpa: bigint; perm: number }[] = [];

  add(first: number, pages: number, hpa: bigint, perm: number): void {
    this.#ranges.push({ first, pages, hpa, perm });
  }

  #rangeOf(page: number): { first: number; hpa: bigint; perm: number } | undefined {
    return this.#ranges.find(({ first, pages }) => page >= first && page < first + pages);
  }

  hpaOf(page: number): bigint {
    const { first, hpa } = this.#rangeOf(page)!;
    return hpa + (BigInt(page - first) << 12n);
  }

  permits(first: number, pages: number, perm: number): boolean {
    for (let page = first; page < first + pages; page++) if (((this.#rangeOf(page)?.perm ?? 0) & perm) !== perm) return false;
    return true;
  }
}

/** A device, in a group with others. */
export class ModelDevice {
  /** The deepest space that it is attached to. */
  attached: ModelSpace | undefined;

  constructor(readonly name: string, readonly group: ModelDevice[]) {
    group.push(this);
  }

  isAttachedTo(space: ModelSpace): boolean {
    return this.attached?.chain.includes(space) ?? false;
  }

  /** The deepest space that the whole group is attached to. */
  get target(): ModelSpace | undefined {
    return this.attached?.chain.findLast((space) => this.group.every((device) => device.isAttachedTo(space)));
  }
}

export class ModelSpace {
  readonly pages = new Map<number, MappedPage>();
  readonly areas = new Set<ModelArea>();
  readonly parent: ModelSpace | undefined;
  readonly children = new Set<ModelSpace>();
  readonly devices = new Set<ModelDevice>();
  /** A guest's table, its root in the parent; `read` takes addresses of the parent. */
  table: ReferenceDomain | undefined;
  tracks = false;
  /** Pages written since they were last reported, where the space tracks. */
  readonly dirty = new Set<number>();
  /** Pages of which the guest's table has changed, and which may still be translated as they were. */
  readonly unsettled = new Set<number>();

  constructor(readonly number: number, parent: ModelSpace | undefined, private readonly process: ModelProcess) {
    this.parent = parent;
    parent?.children.add(this);
  }

  /** The spaces from the root down to this one. */
  get chain(): ModelSpace[] {
    return [...(this.parent?.chain ?? []), this];
  }

  /** Some devices of a group are attached here and some are not. */
  get isPartial(): boolean {
    return [...this.devices].some(({ group }) => group.some((device) => !this.devices.has(device)));
  }

  /** Pages charged to the lock limit. */
  get charged(): number {
    return this.parent === undefined ? new Set([...this.pages.values()].map(({ target }) => target)).size : 0;
  }

  get recordsWrites(): boolean {
    return this.chain.some(({ tracks }) => tracks);
  }

  /** Would its own memory and areas let it be mapped? What devices' IOMMUs say is not asked here. */
  canMap(first: number, pages: number, target: number, perm: number): boolean {
    if (this.isPartial || this.table !== undefined) return false;
    for (let n = 0; n < pages; n++) if (this.pages.has(first + n)) return false;
    return this.parent !== undefined || this.process.permits(target, pages, perm);
  }

  map(first: number, pages: number, target: number, perm: number): void {
    this.areas.add({ first, pages, target, perm });
    for (let n = 0; n < pages; n++) this.pages.set(first + n, { target: target + n, perm });
  }

  /** The areas in a range, if none reaches beyond it. */
  wholeAreas(first: number, pages: number): ModelArea[] | undefined {
    const found = [...this.areas].filter((area) => area.first < first + pages && area.first + area.pages > first);
    return found.every((area) => area.first >= first && area.first + area.pages <= first + pages) ? found : undefined;
  }

  unmap(areas: readonly ModelArea[]): void {
    for (const area of areas) {
      this.areas.delete(area);
      for (let page = area.first; page < area.first + area.pages; page++) {
        this.pages.delete(page);
        this.dirty.delete(page);
      }
    }
  }

  translate(iova: bigint): Reached | undefined {
    if (this.table !== undefined) return this.#walk(this.table, iova);
    const page = this.pages.get(Number(iova >> 12n));
    if (page === undefined) return undefined;
    if (this.parent === undefined) return { hpa: this.process.hpaOf(page.target) + (iova & PAGE), perm: page.perm };
    const below = this.parent.translate((BigInt(page.target) << 12n) | (iova & PAGE));
    const perm = below && below.perm & page.perm;
    return perm ? { hpa: below.hpa, perm } : undefined;
  }

  #walk(table: ReferenceDomain, iova: bigint): Reached | undefined {
    const { found } = walkReference(table, iova, 0);
    const below = found && this.parent!.translate(found.oa);
    const perm = below && below.perm & found.perm & (PERM_R | PERM_W);
    return perm ? { hpa: below.hpa, perm } : undefined;
  }

  /** Address that a page of a bound space has in the parent. Precondition: it translates. */
  outputOf(page: number): number {
    return Number(walkReference(this.table!, BigInt(page) << 12n, 0).found!.oa >> 12n);
  }

  /** These pages, which are mapped, count as written: here and in every space on the way down. */
  wrote(pages: readonly number[]): void {
    if (this.tracks) for (const page of pages) this.dirty.add(page);
    this.parent?.wrote(pages.map((page) => this.pages.get(page)!.target));
  }

  track(on: boolean): void {
    this.dirty.clear();
    this.tracks = on;
  }

  dirtyPages(first: number, pages: number): number[] {
    return [...this.dirty].filter((page) => page >= first && page < first + pages).sort((a, b) => a - b);
  }

  /** Pages at which something may change: the ends of areas, here and below, with their neighbours, and the middles. */
  borders(): Set<number> {
    const pages = new Set<number>();
    const below = this.parent === undefined ? [] : [...this.parent.borders()];
    for (const { first, pages: size, target } of this.areas) {
      for (const page of [first - 1, first, first + (size >> 1), first + size - 1, first + size]) if (page >= 0) pages.add(page);
      for (const page of below) if (page >= target && page < target + size) pages.add(first + page - target);
    }
    return pages;
  }
}
