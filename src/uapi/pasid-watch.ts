// Looks into a bound PASID table for its user: which entries has the guest changed since the last look (RFC section 5.7, guests that
// have no caching mode and so invalidate nothing when they add an entry)? Reads through the parent's maps, and never more than the PASIDs
// of the table, whatever is in it. May import iommu/ and, of this folder, what a space is made of. Pages are of 4 KiB.

import { pasidTableShape, type PasidTableShape } from "../iommu/guest-pasid-table.js";
import { firstByte, takeU64 } from "./arguments.js";
import type { Ioasid } from "./ioasid.js";
import { noPasidTable } from "./pasid-errors.js";
import { bitsOfPasid } from "./pasid-table.js";
import type { Process } from "./process.js";
import type { Call, U64 } from "./requests.js";

export const WATCH: Call = { name: "watchPasidTable", fields: new Set(["ioasid"]) };
const NOTIFY: Call = { name: "notifyWrite", fields: new Set() };

export interface PasidChange {
  readonly pasid: number;
  readonly change: "added" | "removed" | "changed";
}

const PAGE_WORDS = 512;
const POINTER_PRESENT = 1n;
const EMPTY = new BigUint64Array(PAGE_WORDS);
const NO_ENTRIES: ReadonlyMap<number, BigUint64Array> = new Map();

export class PasidTableWatch {
  readonly #space: Ioasid;
  readonly #onChange: ((changes: readonly PasidChange[]) => void) | undefined;
  /** The pages of the table that were read at the last look, by their address in the parent. */
  #pages = new Map<bigint, BigUint64Array>();
  /** The page of entries that begins with a PASID, as it was then. */
  #entries = new Map<number, BigUint64Array>();
  /** Pages of the engine's memory behind them. */
  #memory = new Set<number>();
  #shape: PasidTableShape;
  #closed = false;

  /** @internal IoasidFd.watchPasidTable() makes them. @throws IoctlError EINVAL (no PASID table is bound). */
  constructor(space: Ioasid, onChange?: (changes: readonly PasidChange[]) => void) {
    if (space.pasidTable === undefined) throw noPasidTable(WATCH, "EINVAL", space);
    this.#space = space;
    this.#onChange = onChange;
    this.#shape = pasidTableShape(space.pasidTable.format, bitsOfPasid(space));
    this.#look();
    space.watches.add(this);
    space.context.process.writes.add(this);
  }

  /** Entries that differ from what they were at the last look, by PASID; none once closed. `onChange` hears of them too. */
  scan(): readonly PasidChange[] {
    if (this.#closed) return [];
    const [before, shape] = [this.#entries, this.#shape];
    this.#look();
    // Entries of a table of another shape that was bound since are others, whatever they say.
    const changes = isSameShape(shape, this.#shape) ? compare(before, this.#entries, shape)
      : [...compare(before, NO_ENTRIES, shape), ...compare(NO_ENTRIES, this.#entries, this.#shape)];
    if (changes.length > 0) this.#tell(changes);
    return changes;
  }

  /** A device's write may have brought us here: it has no part in an error of who is told, and its section may be open. */
  #tell(changes: readonly PasidChange[]): void {
    if (this.#space.inSection) return queueMicrotask(() => this.#tell(changes));
    try {
      this.#onChange?.(changes);
    } catch (error) {
      void Promise.reject(error);
    }
  }

  /** The guest wrote there, at an address of the parent: as `scan`, if it is in the table. @throws IoctlError EINVAL. */
  notifyWrite(gpa: U64, length: number): readonly PasidChange[] {
    const first = takeU64(NOTIFY, "gpa", gpa);
    const last = first + takeU64(NOTIFY, "length", length) - 1n;
    for (const page of this.#pages.keys()) if (page <= last && page + 4095n >= first) return this.scan();
    return [];
  }

  /** A DMA view wrote bytes first..last of the engine's memory. */
  wrote(first: number, last: number): void {
    const end = Math.floor(last / 4096);
    for (let page = Math.floor(first / 4096); page <= end; page++) if (this.#memory.has(page)) return void this.scan();
  }

  /** Nothing is reported any more. */
  close(): void {
    this.#closed = true;
    this.#space.watches.delete(this);
    this.#space.context.process.writes.delete(this);
    this.#pages.clear();
    this.#entries.clear();
    this.#memory.clear();
  }

  /** Reads the table. One that was taken away has no entries. */
  #look(): void {
    const { pasidTable } = this.#space;
    if (pasidTable !== undefined) this.#shape = pasidTableShape(pasidTable.format, bitsOfPasid(this.#space));
    const reader = new TableReader(this.#space, this.#shape, this.#pages);
    if (pasidTable !== undefined) reader.readFrom(pasidTable.addr, 0, 0);
    ({ pages: this.#pages, entries: this.#entries, memory: this.#memory } = reader);
  }
}

/** One look. A page that many pointers lead to is read once, and one that has not changed is the one of the last look. */
class TableReader {
  readonly pages = new Map<bigint, BigUint64Array>();
  readonly entries = new Map<number, BigUint64Array>();
  readonly memory = new Set<number>();

  constructor(readonly space: Ioasid, readonly shape: PasidTableShape, readonly before: ReadonlyMap<bigint, BigUint64Array>) {}

  /** The table at an address, of that level, for the PASIDs from `base` on. As deep as there are levels, and never beyond the last PASID. */
  readFrom(address: bigint, level: number, base: number): void {
    const { pointersLg2, pasidBits, words } = this.shape;
    const end = Math.min(2 ** pasidBits, level === 0 ? Infinity : base + 2 ** pointersLg2[level - 1]!);
    const behindOne = level < pointersLg2.length ? 2 ** pointersLg2[level]! : 1;
    const perPage = level < pointersLg2.length ? PAGE_WORDS : PAGE_WORDS / words;
    for (let from = base, at = address; from < end; from += perPage * behindOne, at += 4096n) {
      const page = this.#page(at);
      if (page === EMPTY) continue;
      if (level === pointersLg2.length) this.entries.set(from, page);
      else this.#follow(page, level, from, end);
    }
  }

  #follow(page: BigUint64Array, level: number, from: number, end: number): void {
    const { pointersLg2, pointer } = this.shape;
    for (const [n, word] of page.entries()) {
      const base = from + n * 2 ** pointersLg2[level]!;
      if (base >= end) return;
      if (word & POINTER_PRESENT) this.readFrom(word & pointer, level + 1, base);
    }
  }

  /** 4096 bytes from an address on, a multiple of 64; what is not RAM of the parent reads as zero. */
  #page(address: bigint): BigUint64Array {
    const known = this.pages.get(address);
    if (known !== undefined) return known;
    const read = this.#read(address);
    const old = this.before.get(address);
    const page = old !== undefined && old.every((word, n) => word === read[n]) ? old : read;
    this.pages.set(address, page);
    return page;
  }

  #read(address: bigint): BigUint64Array {
    const offset = Number(address & 0xfffn) / 8;
    const low = this.#words(Number(address >> 12n));
    if (offset === 0) return low ?? EMPTY;
    const high = this.#words(Number(address >> 12n) + 1);
    if (low === undefined && high === undefined) return EMPTY;
    const both = new BigUint64Array(PAGE_WORDS);
    both.set((low ?? EMPTY).subarray(offset));
    both.set((high ?? EMPTY).subarray(0, offset), PAGE_WORDS - offset);
    return both;
  }

  /** A copy of a page of the parent, if there is RAM behind it. */
  #words(page: number): BigUint64Array | undefined {
    const bytes = ramBehind(this.space.parent!, page);
    if (bytes === undefined) return undefined;
    this.memory.add(bytes.byteOffset / 4096);
    return new BigUint64Array(bytes.slice().buffer);
  }
}

/** The bytes of RAM behind a page of a space that has maps. */
function ramBehind(space: Ioasid, page: number): Uint8Array | undefined {
  const { process }: { process: Process } = space.context;
  for (let at: Ioasid | undefined = space, target = page; at !== undefined; at = at.parent) {
    const area = at.areas.find(target)?.value;
    if (area === undefined) return undefined;
    target = area.target + target - area.first;
    if (at.parent === undefined) return process.find(target)?.offset === undefined ? undefined : process.bytes(firstByte(target), 4096);
  }
  return undefined;
}

function isSameShape(a: PasidTableShape, b: PasidTableShape): boolean {
  return a.pasidBits === b.pasidBits && a.words === b.words && a.present === b.present && a.pointersLg2.join() === b.pointersLg2.join();
}

function compare(before: ReadonlyMap<number, BigUint64Array>, now: ReadonlyMap<number, BigUint64Array>, shape: PasidTableShape): PasidChange[] {
  const changes: PasidChange[] = [];
  for (const base of [...new Set([...before.keys(), ...now.keys()])].sort((a, b) => a - b)) {
    const [old, fresh] = [before.get(base) ?? EMPTY, now.get(base) ?? EMPTY];
    if (old !== fresh) comparePages(old, fresh, base, shape, changes);
  }
  return changes;
}

function comparePages(old: BigUint64Array, fresh: BigUint64Array, base: number, shape: PasidTableShape, changes: PasidChange[]): void {
  const { words, present, pasidBits } = shape;
  const count = Math.min(PAGE_WORDS / words, 2 ** pasidBits - base);
  for (let n = 0; n < count; n++) {
    const was = (old[n * words]! & present) !== 0n;
    const is = (fresh[n * words]! & present) !== 0n;
    if (was !== is) changes.push({ pasid: base + n, change: is ? "added" : "removed" });
    else if (is && !same(old, fresh, n * words, words)) changes.push({ pasid: base + n, change: "changed" });
  }
}

function same(a: BigUint64Array, b: BigUint64Array, first: number, words: number): boolean {
  for (let at = first; at < first + words; at++) if (a[at] !== b[at]) return false;
  return true;
}
