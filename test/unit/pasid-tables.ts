// A guest with a PASID table of each kind above tables of our own: the words that it writes, and an engine that reads them.
// Imports the engine and the fixture. Guest-physical addresses; stage 2 leads gpa 0..GUEST_LAST to RAM.
import type { DomainOptions, EngineOptions, PasidTableOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { fixture, RW, VTD48, type Fixture } from "./engine-fixture.js";

export const RAM = 0x1_0000_0000n;
export const GUEST_LAST = 0x7ffffn;
export const ROOT = 0x1000n;
/** PASID p has its page tables in four pages from here on; its page of data, iova IOVA, lies at DATA + p pages. */
const TABLES = 0x20000n;
export const DATA = 0x60000n;
export const IOVA = 0x123000n;
export const PAGE = 0x1000n;

export interface Kind {
  readonly options: Omit<PasidTableOptions, "stage2">;
  readonly stage2: DomainOptions;
  /** Bits of a pointer, and of a leaf that may be written. */
  readonly table: bigint;
  readonly leaf: bigint;
  /** Makes `tables`, the root of page tables, the entry of a PASID; undefined takes it away. */
  readonly set: (write: (gpa: bigint, word: bigint) => void, pasid: number, tables: bigint | undefined) => void;
}

const X86 = { stage2: { ...VTD48, outputWidth: 46 }, table: 0x27n, leaf: 0x67n } as const;
const ARM = {
  stage2: { format: L.FORMAT_ARM_S2_4K, levels: 3, width: 40, outputWidth: 44 }, table: 0x3n, leaf: 0x443n,
} as const;
const COMMON = { root: ROOT, pasidBits: 9, layout: 0, without: "zero", outputWidth: 40, cache: 4 } as const;
/** V, AA64, IPS 40 bits, T0SZ 16, EPD1. */
export const CD = 0x0000_0202_c000_0010n;
const LEAF_PAGE = 0x10000n;

function writeCd(write: (gpa: bigint, word: bigint) => void, at: bigint, tables: bigint | undefined): void {
  write(at, tables === undefined ? 0n : CD);
  write(at + 8n, tables ?? 0n);
}

const twoLevels = (leafLg2: number): Kind["set"] => (write, pasid, tables) => {
  write(ROOT + BigInt(pasid >> leafLg2) * 8n, LEAF_PAGE | 1n);
  writeCd(write, LEAF_PAGE + BigInt(pasid % 2 ** leafLg2) * 64n, tables);
};

const gcr3 = (levels: number): Kind["set"] => (write, pasid, tables) => {
  let at = ROOT;
  for (let level = levels - 1; level > 0; level--) {
    const next = LEAF_PAGE + BigInt(level) * PAGE;
    write(at + BigInt((pasid >> (9 * level)) & 511) * 8n, next | 1n);
    at = next;
  }
  write(at + BigInt(pasid & 511) * 8n, tables === undefined ? 0n : tables | 1n);
};

export const KINDS: readonly [name: string, kind: Kind][] = [
  ["VT-d directory and table", {
    ...X86, options: { ...COMMON, kind: L.PASID_TABLE_VTD },
    set(write, pasid, tables) {
      write(ROOT + BigInt(pasid >> 6) * 8n, LEAF_PAGE | 1n);
      const at = LEAF_PAGE + BigInt(pasid & 63) * 64n;
      write(at, tables === undefined ? 0n : 0x41n);
      write(at + 16n, tables ?? 0n);
    },
  }],
  ["SMMUv3 linear", { ...ARM, options: { ...COMMON, kind: L.PASID_TABLE_SMMUV3, without: "blocked" }, set: (write, pasid, tables) => writeCd(write, ROOT + BigInt(pasid) * 64n, tables) }],
  ["SMMUv3 two levels of 4 KiB", { ...ARM, options: { ...COMMON, kind: L.PASID_TABLE_SMMUV3, layout: 1, without: "blocked" }, set: twoLevels(6) }],
  ["SMMUv3 two levels of 64 KiB", { ...ARM, options: { ...COMMON, kind: L.PASID_TABLE_SMMUV3, layout: 2, without: "blocked" }, set: twoLevels(10) }],
  ["GCR3 of one level", { ...X86, options: { ...COMMON, kind: L.PASID_TABLE_GCR3, layout: 1 }, set: gcr3(1) }],
  ["GCR3 of two levels", { ...X86, options: { ...COMMON, kind: L.PASID_TABLE_GCR3, layout: 2 }, set: gcr3(2) }],
  ["GCR3 of three levels", { ...X86, options: { ...COMMON, kind: L.PASID_TABLE_GCR3, layout: 3 }, set: gcr3(3) }],
];

export interface Guest extends Fixture {
  table: number;
  kind: Kind;
  write: (gpa: bigint, word: bigint) => void;
  /** Gives the PASID page tables of the `n`-th area, that lead IOVA to page DATA + n; or none. */
  enter: (pasid: number, n?: number) => void;
  leave: (pasid: number) => void;
  /** The route of a PASID of rid 0x20. */
  pasid: (n: number) => number;
}

/** A guest with an attached table; its stage 2 is `domain`, and `route` that of rid 0x20 without PASID. */
export async function guest(kind: Kind, changes: Partial<PasidTableOptions> = {}, engineOptions: EngineOptions = {}): Promise<Guest> {
  const its = await fixture(kind.stage2, { domains: 32, ...engineOptions });
  const { engine, domain, route } = its;
  engine.addSlot(RAM, RAM + GUEST_LAST, "memory", engine.ram.offset);
  engine.map(domain, 0n, GUEST_LAST, RAM, RW, 12);
  const words = new BigUint64Array(engine.memory.buffer, engine.ram.offset, Number(GUEST_LAST + 1n) / 8);
  const write = (gpa: bigint, word: bigint): void => { words[Number(gpa) / 8] = word; };
  const enter = (pasid: number, n = pasid): void => {
    const root = TABLES + BigInt(n % 16) * 4n * PAGE;
    write(root, (root + PAGE) | kind.table);
    write(root + PAGE, (root + 2n * PAGE) | kind.table);
    write(root + 2n * PAGE, (root + 3n * PAGE) | kind.table);
    write(root + 3n * PAGE + 0x123n * 8n, (DATA + BigInt(n % 16) * PAGE) | kind.leaf);
    kind.set(write, pasid, root);
  };
  const table = engine.createPasidTable({ ...kind.options, stage2: domain, ...changes });
  engine.attachPasidTable(route, table);
  return {
    ...its, table, kind, write, enter, leave: (pasid) => kind.set(write, pasid, undefined), pasid: (n) => engine.route(0x20, n),
  };
}
