// A case's memory in an engine: pages that hold words are memory slots, the rest of its RAM is zero slots, and what is not RAM
// is in no slot. So RAM may be larger than the engine's memory, and lie above 4 GiB. Imports the engine and the format's types.
import type { Engine } from "../engine/engine.js";
import { VectorError, type MemoryRun, type RamRange, type VectorCase, type VectorFile } from "./vectors.js";

const PAGE_LG2 = 12n;
const PAGE = 4096;

/** Numbers of the pages that hold a word, ascending. */
function pagesOf(memory: readonly MemoryRun[]): number[] {
  const pages = new Set<number>();
  for (const { gpa, words } of memory) {
    const last = Number((gpa + BigInt(Math.max(words.length, 1) * 8 - 1)) >> PAGE_LG2);
    for (let page = Number(gpa >> PAGE_LG2); page <= last; page++) pages.add(page);
  }
  return [...pages].sort((a, b) => a - b);
}

/** Bytes of engine memory and slots that the largest case takes. */
export function roomFor(file: VectorFile): { ram: number; slots: number } {
  const most = Math.max(1, ...file.cases.map((each) => pagesOf(each.memory).length));
  return { ram: most * PAGE, slots: 2 * most + 2 * file.unit.ram.length + 2 };
}

export class CaseMemory {
  #slots: bigint[] = [];

  constructor(readonly engine: Engine, readonly ram: readonly RamRange[]) {}

  /** Puts the case's words in place of what was there before. Throws VectorError for a word outside RAM. */
  load({ id, memory }: VectorCase): void {
    this.unload();
    const pages = pagesOf(memory);
    const offsets = new Map(pages.map((page, i) => [page, this.engine.ram.offset + i * PAGE]));
    new Uint8Array(this.engine.memory.buffer, this.engine.ram.offset, pages.length * PAGE).fill(0);
    const view = new DataView(this.engine.memory.buffer);
    for (const [i, { gpa, words }] of memory.entries()) {
      const last = gpa + BigInt(words.length * 8) - 1n;
      if (!this.ram.some((range) => gpa >= range.first && last < range.first + range.length)) {
        throw new VectorError(`case ${id}, memory[${i}]`, `0x${gpa.toString(16)} is outside the RAM that the unit lists`);
      }
      words.forEach((word, n) => {
        const at = gpa + BigInt(n * 8);
        view.setBigUint64(offsets.get(Number(at >> PAGE_LG2))! + Number(at & 0xfffn), word, true);
      });
    }
    for (const range of [...this.ram].sort((a, b) => (a.first < b.first ? -1 : 1))) this.#map(range, pages, offsets);
  }

  /** Slots of one range of RAM, ascending: runs of pages that hold words, and zeros between them. */
  #map({ first, length }: RamRange, pages: readonly number[], offsets: ReadonlyMap<number, number>): void {
    const end = Number((first + length) >> PAGE_LG2);
    let next = Number(first >> PAGE_LG2);
    let i = pages.findIndex((page) => page >= next);
    while (i >= 0 && i < pages.length && pages[i]! < end) {
      const from = pages[i]!;
      let to = from;
      while (pages[++i] === to + 1 && to + 1 < end) to++;
      if (from > next) this.#add(next, from - 1);
      this.#add(from, to, offsets.get(from));
      next = to + 1;
    }
    if (next < end) this.#add(next, end - 1);
  }

  #add(firstPage: number, lastPage: number, offset?: number): void {
    const first = BigInt(firstPage) << PAGE_LG2;
    this.engine.addSlot(first, ((BigInt(lastPage) + 1n) << PAGE_LG2) - 1n, offset === undefined ? "zero" : "memory", offset);
    this.#slots.push(first);
  }

  /** Takes the slots away, the last first: that moves no other record. */
  unload(): void {
    for (const first of this.#slots.reverse()) this.engine.removeSlot(first);
    this.#slots = [];
  }
}
