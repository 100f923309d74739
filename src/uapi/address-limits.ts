// Which I/O virtual addresses an ioasid may map: what the IOMMUs of its devices can translate.
// May import iommu/ (the model) and arguments.ts of this folder. Ranges are inclusive, first..last; pages are of 4 KiB.

import type { IommuModel, ReservedRange } from "../iommu/model.js";
import { firstByte, hex, lastByte } from "./arguments.js";
import type { AddressRange } from "./requests.js";

interface ReservedPages {
  readonly first: number;
  readonly last: number;
  readonly why: string;
}

/** The limits of IOMMUs of one model; their reserved ranges add up. Without any, all 64 bits are permitted. */
export class AddressLimits {
  /** Bits of an address. */
  readonly width: number;
  readonly lastPage: number;
  /** A map's first page and its number of pages are multiples of this. */
  readonly granulePages: number;
  readonly reserved: readonly ReservedRange[];
  readonly #reservedPages: readonly ReservedPages[];

  constructor(models: readonly IommuModel[]) {
    const model = models[0];
    this.width = model?.addressWidth ?? 64;
    this.lastPage = 2 ** (this.width - 12) - 1;
    this.granulePages = (model?.granule ?? 4096) / 4096;
    const distinct = new Map<string, ReservedRange>();
    for (const { reserved } of models) for (const range of reserved) distinct.set(`${range.first} ${range.last}`, range);
    this.reserved = [...distinct.values()].sort((a, b) => (a.first < b.first ? -1 : 1));
    const page = (address: bigint): number => Number(address >> 12n);
    this.#reservedPages = this.reserved.map(({ first, last, why }) => ({ first: page(first), last: page(last), why }));
  }

  /** The first reserved range that shares a page with first..last. */
  findReserved(first: number, last: number): ReservedPages | undefined {
    for (const range of this.#reservedPages) if (range.first <= last && range.last >= first) return range;
    return undefined;
  }

  /** Why the pages may not be mapped; undefined when they may. */
  refusal(first: number, last: number): string | undefined {
    if (last > this.lastPage) return `is outside the ${this.width} bits that the IOMMU translates`;
    const reserved = this.findReserved(first, last);
    if (reserved !== undefined) {
      return `touches the reserved range ${hex(firstByte(reserved.first))}..${hex(lastByte(reserved.last))} (${reserved.why})`;
    }
    const aligned = first % this.granulePages === 0 && (last + 1) % this.granulePages === 0;
    return aligned ? undefined : `is not made of whole pages of ${this.granulePages * 4096} bytes`;
  }

  /** Where maps may lie, ascending. */
  permitted(): AddressRange[] {
    const ranges: AddressRange[] = [];
    let first = 0;
    for (const reserved of this.#reservedPages) {
      if (reserved.first > first) ranges.push({ first: firstByte(first), last: lastByte(reserved.first - 1) });
      first = Math.max(first, reserved.last + 1);
    }
    if (first <= this.lastPage) ranges.push({ first: firstByte(first), last: lastByte(this.lastPage) });
    return ranges;
  }

  /** The permitted ranges, for a hint. */
  describe(): string {
    const ranges = this.permitted().map(({ first, last }) => `${hex(first)}..${hex(last)}`);
    return `permitted are ${ranges.join(", ")}, in multiples of ${this.granulePages * 4096}`;
  }
}

/** The limits of an ioasid without devices. */
export const NO_LIMITS = new AddressLimits([]);
