// What a PASID table is made from, and the arguments that the module takes for it. Imports layout, errors, access.
import type { EngineAccess } from "./access.js";
import type { ReadWord } from "./domain-options.js";
import { EngineError } from "./errors.js";
import * as L from "./layout.js";

export interface PasidTableOptions {
  /** L.PASID_TABLE_* */
  kind: number;
  /** Address of the table (of the directory), in the space that `stage2` translates. */
  root: bigint;
  /** Bits of a PASID; those with more are refused. At most 20. */
  pasidBits: number;
  /** Arm: S1Fmt, 0 (linear), 1 or 2 (two levels, leaves of 4 or 64 KiB). AMD: levels, 1..3. VT-d: 0. */
  layout: number;
  /** AMD: levels of every guest's page table. */
  guestLevels?: 4 | 5;
  /** What DMA without PASID gets: the entry of PASID 0, `stage2` alone, or nothing. */
  without: keyof typeof WITHOUT;
  /** The domain, of kernel-managed tables, that translates every address in the table and all that leaves it. */
  stage2: number;
  /** Bits of an address that leaves stage 1; where an entry has more it is refused. 12..52. */
  outputWidth: number;
  /** VT-d: entries may ask for five levels. Default false. */
  fiveLevels?: boolean;
  /** Arm: accessed flags (1), and dirty state (2), may be set by hardware. Default 0. */
  httu?: 0 | 1 | 2;
  /** Arm: log2 of the granules that tables may have. Default all. */
  granules?: readonly number[];
  /** Devices may ask for pages that a stage 1 does not have. Default false. */
  pageRequests?: boolean;
  /** Entries that may be in force at once, each a domain (Arm: two): others are read at each access. 0..65536. */
  cache: number;
}

const WITHOUT = { zero: L.PASID_WITHOUT_ZERO, bypass: L.PASID_WITHOUT_BYPASS, blocked: L.PASID_WITHOUT_BLOCKED } as const;
const HTTU = [0, L.PASID_SET_ACCESSED, L.PASID_SET_ACCESSED | L.PASID_SET_DIRTY] as const;
const GRANULES = [12, 14, 16];
/** PCI: no PASID has more. */
const MOST_BITS = 20;
/** What `layout` may be, by kind, and the PASID bits that it decodes. */
const LAYOUTS: ReadonlyMap<number, readonly [first: number, last: number]> = new Map([
  [L.PASID_TABLE_VTD, [0, 0]], [L.PASID_TABLE_SMMUV3, [0, 2]], [L.PASID_TABLE_GCR3, [1, 3]],
]);
const GCR3_BITS = 9;

function bad(why: string, field: keyof PasidTableOptions, value: unknown): never {
  throw new EngineError("BAD_ARGUMENT", why, field, value);
}

function inside(field: keyof PasidTableOptions, value: number, first: number, last: number): number {
  return Number.isInteger(value) && value >= first && value <= last ? value : bad(`must be an integer in ${first}..${last}`, field, value);
}

function flagsOf({ kind, guestLevels, fiveLevels = false, httu = 0, granules = GRANULES, pageRequests = false }: PasidTableOptions): number {
  const five = kind === L.PASID_TABLE_GCR3 ? guestLevels === 5 : fiveLevels;
  const sizes = granules.map((lg2) => GRANULES.includes(lg2) ? 1 << lg2 : bad("are 12, 14 and 16", "granules", lg2));
  return (five ? L.PASID_FIVE_LEVELS : 0) | HTTU[httu] | (pageRequests ? L.PASID_PAGE_REQUESTS : 0) | sizes.reduce((all, one) => all | one, 0);
}

/** The arguments, in the order in which the module takes them. `word` reads domains. Throws EngineError BAD_ARGUMENT. */
export function pasidTableArguments(options: PasidTableOptions, word: ReadWord): [
  kind: number, root: bigint, bits: number, layout: number, without: number, stage2: number, outputWidth: number, flags: number, cache: number,
] {
  const { kind, root, pasidBits, layout, without, stage2, outputWidth, httu = 0, cache } = options;
  const layouts = LAYOUTS.get(kind) ?? bad("is no kind of PASID table", "kind", kind);
  inside("layout", layout, ...layouts);
  const most = kind === L.PASID_TABLE_GCR3 ? Math.min(MOST_BITS, GCR3_BITS * layout) : MOST_BITS;
  inside("pasidBits", pasidBits, 0, most);
  // Descriptors are 64 bytes; the other tables are pages.
  const alignment = kind === L.PASID_TABLE_SMMUV3 ? 64n : 4096n;
  if (root < 0n || root >> 52n || root % alignment) bad(`must be a multiple of ${alignment} below 2^52`, "root", root);
  if (!Object.hasOwn(WITHOUT, without)) bad("must be zero, bypass or blocked", "without", without);
  inside("httu", httu, 0, 2);
  inside("outputWidth", outputWidth, 12, 52);
  inside("cache", cache, 0, 1 << 16);
  if (word(stage2, L.DOMAIN_STATE) !== L.DOMAIN_LIVE) bad("is no domain", "stage2", stage2);
  if (word(stage2, L.DOMAIN_FLAGS) & (L.DOMAIN_GUEST | L.DOMAIN_NESTED | L.DOMAIN_HALVES)) bad("has not a table of the kernel's alone", "stage2", stage2);
  return [kind, root, pasidBits, layout, WITHOUT[without], stage2, outputWidth, flagsOf(options), cache];
}

/** PASID of a route; L.NO_PASID for one without. */
export function routePasid(engine: EngineAccess, route: number): number {
  const key = new DataView(engine.memory.buffer).getBigUint64(engine.word(L.ENGINE_ROUTE_KEYS) + route * 8, true);
  return Number(BigInt.asUintN(32, key - 1n));
}
