// The guest of a host machine, as far as IOMMUs see it: two page tables, of which every level but the last is there once, and a PASID table,
// in the last pages of the process's memory. Spaces have them at the place where they expect themselves. Nothing here says what has changed.
import type { SimulatedHost } from "../../src/index.js";
import * as L from "../../src/engine/layout.js";
import { guestTable } from "../../src/iommu/guest-table.js";
import { slotMemory } from "../oracle/guest-memory.js";
import type { HostSpace } from "../oracle/host-model.js";
import { ModelPasidTable } from "../oracle/host-pasid-table.js";
import { encoderOf } from "../oracle/reference/encode.js";
import type { Memory, ReferenceDomain } from "../oracle/reference/types.js";

/** The first page of the process's memory. */
export const MEMORY = 2 ** 20;
/** Pages that devices read and write; the guest's tables follow. */
const DATA_PAGES = 12;
/** Where spaces have the tables: two chains of four page tables, then the PASID directory and two PASID tables. */
export const TABLES_AT = 64;
const CHAIN = 4;
const CHAINS = 2;
const DIRECTORY = CHAIN * CHAINS;
const PASID_TABLES = 2;
/** What is mapped of them at once: page tables, or the PASID table. */
export const TABLE_AREAS = [[0, DIRECTORY], [DIRECTORY, 1 + PASID_TABLES]] as const;
export const TABLES_FROM = DATA_PAGES;
export const FORMAT = { kind: "x86-64", levels: 4 } as const;
/** PASIDs of which the guest writes entries: some for each PASID table, and more than are in force at once. */
export const GUEST_PASIDS = [0, 1, 7, 0x41, 0x42];

const bytes = (pages: number): bigint => BigInt(pages) << 12n;
const ACCESSED = 1n << 5n;
const PRESENT = 1n;
/** PGTT: first stage, pass-through; AW of 48 bits. */
const FIRST = 1n << 6n;
const PASS = (4n << 6n) | (2n << 2n);

/** The page of spaces where a chain begins. */
export const rootOf = (chain: number): number => TABLES_AT + chain * CHAIN;
export const DIRECTORY_AT = bytes(TABLES_AT + DIRECTORY);

/** Words 0, 2 and 4 of entries: some that DMA can go by, and others that refuse it, each by another rule, or lead nowhere. */
const ENTRIES: readonly (readonly [first: bigint, third: bigint, fifth?: bigint])[] = [
  [PRESENT | FIRST, bytes(rootOf(0))], [PRESENT | FIRST, bytes(rootOf(1))], [PRESENT | PASS, 0n],
  [0n, 0n], [FIRST, bytes(rootOf(1))],
  // Reserved bits: of the first word, the third, the last ones, and an address beyond all.
  [PRESENT | FIRST | (1n << 10n), bytes(rootOf(0))], [PRESENT | FIRST, bytes(rootOf(0)) | (1n << 8n)], [PRESENT | FIRST, bytes(rootOf(0)), 1n],
  [PRESENT | FIRST, 1n << 60n],
  // A second stage, which is the host's; pass-through without a width.
  [PRESENT | (2n << 6n), bytes(rootOf(0))], [PRESENT | (4n << 6n), 0n],
  // Page tables where the parent has nothing; a table that is none of the root's level, on its own and as one of five levels.
  [PRESENT | FIRST, bytes(0x300)], [PRESENT | FIRST, bytes(rootOf(0) + 1)], [PRESENT | FIRST, bytes(rootOf(1)) | (1n << 2n)],
];
export const ENTRY_KINDS = ENTRIES.length;
/** The first so many are those that DMA can go by. */
export const GOOD_ENTRIES = 3;

/** Of the directory: the table, or nothing, a reserved bit, a table where the parent has nothing. */
const POINTERS: readonly ((table: bigint) => bigint)[] = [
  (table) => table | PRESENT, (table) => table, (table) => table | PRESENT | (1n << 5n), () => bytes(0x301) | PRESENT,
];
export const POINTER_KINDS = POINTERS.length;

export class MachineGuest {
  constructor(private readonly host: SimulatedHost) {
    const { table } = encoderOf(L.FORMAT_X86_64);
    for (let chain = 0; chain < CHAINS; chain++) {
      for (const level of [3, 2, 1]) this.#write(chain * CHAIN + 3 - level, 0, table(bytes(rootOf(chain) + 4 - level), level, level - 1) | ACCESSED);
    }
    for (let n = 0; n < PASID_TABLES; n++) this.point(n, 0);
  }

  static get pages(): number {
    return TABLES_FROM + DIRECTORY + 1 + PASID_TABLES;
  }

  /** Leads a page of a chain to a page of the parent, or nowhere; answers whether it led anywhere before. */
  lead(chain: number, page: number, to: number | undefined, perm: number): boolean {
    const leaf = { address: bytes(to ?? 0), lg2: 12, perm, user: true, accessed: true, dirty: true };
    const table = (chain + 1) * CHAIN - 1;
    const was = (this.#view(table).getBigUint64(page * 8, true) & PRESENT) !== 0n;
    this.#write(table, page, to === undefined ? 0n : encoderOf(L.FORMAT_X86_64).leaf(0, leaf));
    return was;
  }

  /** Writes the entry of one of the guest's PASIDs. */
  enter(pasid: number, kind: number): void {
    const [first, third, fifth = 0n] = ENTRIES[kind]!;
    const at = (pasid & 63) * 8;
    for (const [word, value] of [[2, third], [4, fifth], [0, first]] as const) this.#write(DIRECTORY + 1 + (pasid >> 6), at + word, value);
  }

  /** Writes an entry of the directory, for the PASIDs from 64 `n` on. */
  point(n: number, kind: number): void {
    this.#write(DIRECTORY, n, POINTERS[kind]!(bytes(TABLES_AT + DIRECTORY + 1 + n)));
  }

  /** The chain that a table begins with, if it is one. */
  chainOf(root: bigint): number | undefined {
    return [0, 1].find((chain) => bytes(rootOf(chain)) === root);
  }

  /** A page table as the reference walker reads it, in the parent's addresses. */
  pageTable(parent: HostSpace, root: bigint): ReferenceDomain {
    const options = guestTable(this.host.iommus.get("iommu0")!.model, FORMAT, root);
    if ("reason" in options) throw new Error(options.reason);
    const { guestRoot, format, levels, width, outputWidth, rule = "zero", accessed = "ignore", dirty = "ignore" } = options;
    return { format, levels, width, outputWidth, rule, accessed, dirty, root: guestRoot!, read: this.#memoryOf(parent) };
  }

  pasidTable(parent: HostSpace, directory: bigint, pasidBits: number): ModelPasidTable {
    return new ModelPasidTable(directory, pasidBits, parent, this.pageTable(parent, 0n));
  }

  #memoryOf(parent: HostSpace): Memory {
    const memory = slotMemory(this.host.engine);
    return (address) => {
      const at = parent.translate(address);
      return at && (at.perm & L.PERM_R) !== 0 ? memory(at.hpa) : null;
    };
  }

  #view(table: number): DataView {
    const words = this.host.process.bytes(bytes(MEMORY + TABLES_FROM + table), 4096);
    return new DataView(words.buffer, words.byteOffset, 4096);
  }

  #write(table: number, word: number, value: bigint): void {
    this.#view(table).setBigUint64(word * 8, value, true);
  }
}
