// Who has which host-physical addresses: RAM to give to the process, device memory, and windows that read as zeros.
// May import range-map.ts. Ranges are pages of host-physical addresses, inclusive, first..last.

import { RangeMap } from "./range-map.js";

/** A range of RAM: bytes, all multiples of 4096. `offset` is where its first byte is in the engine's memory. */
export interface RamRange {
  readonly hpa: bigint;
  readonly size: bigint;
  readonly offset: number;
}

/** Ranges are placed at a multiple of their size, up to this many pages (1 GiB), so that large leaves can map them. */
const MAX_ALIGN_PAGES = 2 ** 18;

/** The largest power of two that is not above the number of pages, limited. */
function naturalAlignment(pages: number): number {
  return Math.min(MAX_ALIGN_PAGES, 2 ** Math.floor(Math.log2(pages)));
}

export class HpaSpace {
  readonly #lastPage: number;
  /** Free RAM; the value is the memory offset of the entry's first page. */
  readonly #free = new RangeMap<number>();
  /** Everything that is not available to `claim` and `takeTop`. */
  readonly #taken = new RangeMap<"ram" | "slot">();

  /** @param lastPage the highest page that every IOMMU of the host can put out. */
  constructor(ram: readonly RamRange[], lastPage: number) {
    this.#lastPage = lastPage;
    for (const { hpa, size, offset } of ram) {
      const first = Number(hpa >> 12n);
      const last = first + Number(size >> 12n) - 1;
      this.#free.insert(first, last, offset);
      this.#taken.insert(first, last, "ram");
    }
  }

  /** Bytes of RAM that no mapping of the process uses. */
  get freeRam(): bigint {
    let pages = 0;
    for (const { first, last } of this.#free) pages += last - first + 1;
    return BigInt(pages) << 12n;
  }

  /** The first free RAM that fits, aligned if possible; undefined when no free range is that long. */
  takeRam(pages: number): { page: number; offset: number } | undefined {
    return this.#fit(pages, naturalAlignment(pages)) ?? this.#fit(pages, 1);
  }

  #fit(pages: number, alignment: number): { page: number; offset: number } | undefined {
    for (const range of this.#free) {
      const page = Math.ceil(range.first / alignment) * alignment;
      if (page + pages - 1 > range.last) continue;
      const offset = range.value + (page - range.first) * 4096;
      this.#free.remove(range.first);
      if (page > range.first) this.#free.insert(range.first, page - 1, range.value);
      if (page + pages <= range.last) this.#free.insert(page + pages, range.last, offset + pages * 4096);
      return { page, offset };
    }
    return undefined;
  }

  /** Gives back what `takeRam` gave. Free neighbours join where the memory behind them is contiguous too. */
  giveRam(page: number, pages: number, offset: number): void {
    let first = page;
    let last = page + pages - 1;
    let start = offset;
    const below = this.#free.find(page - 1);
    if (below !== undefined && below.value + (page - below.first) * 4096 === offset) {
      this.#free.remove(below.first);
      first = below.first;
      start = below.value;
    }
    const above = this.#free.find(last + 1);
    if (above !== undefined && above.value === offset + pages * 4096) {
      this.#free.remove(above.first);
      last = above.last;
    }
    this.#free.insert(first, last, start);
  }

  /** Takes exactly this range for a device; answers what is in the way, if anything is. */
  claim(page: number, pages: number): { readonly first: number; readonly last: number } | undefined {
    const taken = this.#taken.firstIn(page, page + pages - 1);
    if (taken === undefined) this.#taken.insert(page, page + pages - 1, "slot");
    return taken;
  }

  /** Takes the highest range that is free, aligned: far from RAM and from where devices usually are. */
  takeTop(pages: number): number | undefined {
    const alignment = naturalAlignment(pages);
    let best: number | undefined;
    const consider = (gapFirst: number, gapLast: number): void => {
      const page = Math.floor((gapLast - pages + 1) / alignment) * alignment;
      if (page >= gapFirst) best = page;
    };
    let gapFirst = 0;
    for (const { first, last } of this.#taken) {
      if (first > this.#lastPage) break;
      consider(gapFirst, first - 1);
      gapFirst = last + 1;
    }
    consider(gapFirst, this.#lastPage);
    if (best !== undefined) this.#taken.insert(best, best + pages - 1, "slot");
    return best;
  }

  /** Gives back what `claim` or `takeTop` took. */
  release(page: number): void {
    this.#taken.remove(page);
  }
}
