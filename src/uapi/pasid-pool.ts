// Physical PASIDs to give out. Those of one requester id, and those that are global to the host, are from different halves of what
// PASIDs there are: so neither pool has to know the other. Imports nothing.

export class PasidPool {
  readonly #last: number;
  readonly #free: number[] = [];
  #next: number;

  /** first..last, inclusive; the lowest first, what is given back before what was never out. */
  constructor(first: number, last: number) {
    this.#next = first;
    this.#last = last;
  }

  /** The pool of one requester id whose IOMMU has so many bits of PASID. */
  static ofRid(bits: number): PasidPool {
    return new PasidPool(2 ** (bits - 1), 2 ** bits - 1);
  }

  /** The host's pool, when the fewest bits of any of its IOMMUs with PASIDs are so many. PASID 0 is not given out. */
  static global(bits: number): PasidPool {
    return new PasidPool(1, 2 ** (bits - 1) - 1);
  }

  /** undefined when all are out. */
  take(): number | undefined {
    return this.#free.pop() ?? (this.#next <= this.#last ? this.#next++ : undefined);
  }

  release(pasid: number): void {
    this.#free.push(pasid);
  }
}

/** One pPASID of the global pool, taken while anybody uses it. */
export class GlobalPasid {
  readonly #pool: PasidPool;
  #users = 0;
  value: number | undefined;

  constructor(pool: PasidPool) {
    this.#pool = pool;
  }

  /** undefined when the pool has none left. */
  use(): number | undefined {
    this.value ??= this.#pool.take();
    if (this.value !== undefined) this.#users++;
    return this.value;
  }

  release(): void {
    if (--this.#users > 0) return;
    this.#pool.release(this.value!);
    this.value = undefined;
  }
}
