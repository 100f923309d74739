// What the engine's memory says of its domains, routes, ports and invalidations, read as plain words for the oracles.
// May import the layout constants, the reference and memory-words.ts; ranges are first..last, inclusive.
import {
  DOMAIN_ACCESS_FAULT, DOMAIN_BIAS, DOMAIN_BYTES, DOMAIN_FLAGS, DOMAIN_FORMAT, DOMAIN_GUEST, DOMAIN_HALVES, DOMAIN_HIGH, DOMAIN_ID, DOMAIN_LIVE,
  DOMAIN_INPUT_LG2, DOMAIN_LARGE_LG2, DOMAIN_LEVELS, DOMAIN_NESTED, DOMAIN_OUTPUT_LG2, DOMAIN_PASID, DOMAIN_RESERVED_LEAF,
  DOMAIN_RESERVED_TABLE, DOMAIN_ROOT, DOMAIN_ROUTES, DOMAIN_SET_ACCESSED, DOMAIN_SET_DIRTY, DOMAIN_SMALL_LG2, DOMAIN_STAGE2,
  DOMAIN_STATE, DOMAIN_TABLE, DOMAIN_UPPER, DOMAIN_USERS, ENGINE_DOMAIN_CAPACITY, ENGINE_DOMAINS, ENGINE_LOCK, ENGINE_PASID_TABLE_CAPACITY, ENGINE_PASID_TABLES, ENGINE_PORT_CAPACITY, ENGINE_PORT_STRIDE, ENGINE_PORTS,
  ENGINE_RING, ENGINE_RING_HEAD, ENGINE_ROUTE_BEFORE, ENGINE_ROUTE_KEYS, ENGINE_ROUTE_MASK, ENGINE_ROUTES, ID_LIMIT, OPTIONS, PASID_TABLE_BYTES, PASID_TABLE_STAGE2, PASID_TABLE_STATE, PORT_HASH_SHIFT, PORT_IOTLB, PORT_STATE,
  RING_CLEAR, RING_DROP_IDS, RING_ENTRIES, RING_ENTRY_BYTES, RING_KIND, RING_SPAN, RING_TAG, ROUTE_BYTES, ROUTE_DOMAIN, ROUTE_FIRST, ROUTE_KIND,
  ROUTE_NEXT, ROUTE_SECOND, ROUTE_TABLE, ROUTE_TRANSLATE, TAG_ID_SHIFT,
} from "../../src/engine/layout.js";
import { slotMemory } from "./guest-memory.js";
import { readU32, readU64, wordsOf } from "./memory-words.js";
import { architectureOf } from "./reference/formats.js";
import { field, type ReferenceDomain, type Rule } from "./reference/types.js";

/** All that an oracle needs of an engine: the memory, and the address of the engine header in it. */
export interface EngineView {
  readonly memory: WebAssembly.Memory;
  readonly address: number;
}

/** What an oracle found wrong. */
export class OracleError extends Error {
  override readonly name = "OracleError";
}

export interface LiveDomain {
  readonly index: number;
  /** Small class, large class. */
  readonly ids: readonly [number, number];
  readonly pageLg2: readonly [number, number];
  /** Entries of a table; start tables side by side. */
  readonly entries: number;
  readonly startTables: number;
  /** The guest owns the table: it may change it at any time, so that a walk of ours is an oracle only while it does not. */
  readonly guest: boolean;
  readonly tracksDirty: boolean;
  readonly table: ReferenceDomain;
  /** Changes whenever a walk that was right for this domain may be so no longer although the table's words are equal. */
  readonly signature: string;
}

export interface IdOwner {
  readonly domain: LiveDomain;
  readonly pageLg2: number;
}

/** 2^45: page numbers of one id. */
export const TAG_PAGES = 2 ** Number(TAG_ID_SHIFT);

export function header(engine: EngineView, offset: number): number {
  return readU32(engine.memory, engine.address + offset);
}

export function liveDomains(engine: EngineView): LiveDomain[] {
  const base = header(engine, ENGINE_DOMAINS);
  const words = wordsOf(engine.memory);
  const live: LiveDomain[] = [];
  for (let index = 0; index < header(engine, ENGINE_DOMAIN_CAPACITY); index++) {
    const record = base + index * DOMAIN_BYTES;
    if (words[(record + DOMAIN_STATE) >>> 2] === DOMAIN_LIVE) live.push(readDomain(engine, index, record));
  }
  return live;
}

/** HIGH is ones from the width up, but for an ignored top byte; BIAS says what the bits there must be. */
function ruleOf(high: bigint, bias: bigint, width: number): Rule {
  const tbi = width < 64 && high >> 63n === 0n ? "-tbi" : "";
  if (bias === 0n) return `zero${tbi}`;
  return bias >> BigInt(width) === 0n ? `sign${tbi}` : `ones${tbi}`;
}

/** The table of a domain, with those of the other domains that it needs. */
function readTable(engine: EngineView, record: number): ReferenceDomain {
  const { memory } = engine;
  const word = (offset: number): number => readU32(memory, record + offset);
  const other = (offset: number): ReferenceDomain => readTable(engine, header(engine, ENGINE_DOMAINS) + word(offset) * DOMAIN_BYTES);
  const flags = word(DOMAIN_FLAGS);
  const width = word(DOMAIN_INPUT_LG2);
  const outputWidth = word(DOMAIN_OUTPUT_LG2);
  // The engine adds the address bits beyond the output width to those that its domain reserves.
  const further = (offset: number): bigint => {
    const bits = readU64(memory, record + offset);
    return bits & ~field(bits, outputWidth, 51);
  };
  return {
    format: word(DOMAIN_FORMAT), levels: word(DOMAIN_LEVELS), width, outputWidth,
    rule: ruleOf(readU64(memory, record + DOMAIN_HIGH), readU64(memory, record + DOMAIN_BIAS), width),
    root: readU64(memory, record + DOMAIN_ROOT),
    read: flags & DOMAIN_GUEST ? slotMemory(engine) : (address) => readU64(memory, Number(address)),
    reservedTable: further(DOMAIN_RESERVED_TABLE), reservedLeaf: further(DOMAIN_RESERVED_LEAF),
    accessed: flags & DOMAIN_SET_ACCESSED ? "set" : flags & DOMAIN_ACCESS_FAULT ? "fault" : "ignore",
    dirty: flags & DOMAIN_SET_DIRTY ? "set" : "ignore", options: flags & OPTIONS,
    ...(flags & DOMAIN_NESTED ? { stage2: other(DOMAIN_STAGE2) } : {}),
    ...(flags & DOMAIN_HALVES ? { upper: other(DOMAIN_UPPER) } : {}),
  };
}

function readDomain(engine: EngineView, index: number, record: number): LiveDomain {
  const { memory } = engine;
  const flags = readU32(memory, record + DOMAIN_FLAGS);
  const id = readU32(memory, record + DOMAIN_ID);
  const table = readTable(engine, record);
  const { indexBits, pageLg2 } = architectureOf(table.format);
  const { format, levels, width, rule, outputWidth, root, reservedTable, reservedLeaf } = table;
  return {
    index, table, ids: [id, id + 1], entries: 2 ** indexBits,
    startTables: 2 ** Math.max(0, width! - pageLg2 - indexBits * levels),
    pageLg2: [readU32(memory, record + DOMAIN_SMALL_LG2), readU32(memory, record + DOMAIN_LARGE_LG2)],
    guest: (flags & DOMAIN_GUEST) !== 0, tracksDirty: (flags & DOMAIN_SET_DIRTY) !== 0,
    signature: [index, format, levels, width, rule, outputWidth, root, flags, reservedTable, reservedLeaf].join(),
  };
}

/** Who owns each IOTLB id now. Throws an OracleError when two live domains share one, or one is no id at all. */
export function idOwners(domains: readonly LiveDomain[]): Map<number, IdOwner> {
  const owners = new Map<number, IdOwner>();
  for (const domain of domains) {
    domain.ids.forEach((id, large) => {
      if (id < 1 || id >= ID_LIMIT) throw new OracleError(`domain ${domain.index}: IOTLB id ${id} is none`);
      const other = owners.get(id)?.domain.index;
      if (other !== undefined) throw new OracleError(`domains ${other} and ${domain.index} share IOTLB id ${id}`);
      owners.set(id, { domain, pageLg2: domain.pageLg2[large]! });
    });
  }
  return owners;
}

/**
 * Every translating route is in the list of exactly its domain, which is live, and carries the ids that this domain has
 * now; every other route carries none. A route that kept an old id would hit entries that no invalidation reaches.
 * Routes that are in no list are looked at only if `every` is true.
 */
export function checkRoutes(engine: EngineView, domains: readonly LiveDomain[], every: boolean): void {
  const words = wordsOf(engine.memory);
  const base = header(engine, ENGINE_ROUTES) >>> 2;
  const count = header(engine, ENGINE_ROUTE_MASK) + 1;
  const word = (index: number, offset: number): number => words[base + ((index * ROUTE_BYTES + offset) >>> 2)]!;
  const listed = new Map<number, number>();
  for (const domain of domains) {
    const record = header(engine, ENGINE_DOMAINS) + domain.index * DOMAIN_BYTES;
    let before = 0;
    for (let index = readU32(engine.memory, record + DOMAIN_ROUTES); index !== 0; index = word(index, ROUTE_NEXT)) {
      const noted = readU32(engine.memory, header(engine, ENGINE_ROUTE_BEFORE) + index * 4);
      if (noted !== before) throw new OracleError(`route ${index} is behind route ${before} of domain ${domain.index}, not behind ${noted}`);
      before = index;
      if (index >= count || listed.has(index)) throw new OracleError(`route ${index} is in two lists, or in one twice`);
      listed.set(index, domain.index);
      if (word(index, ROUTE_KIND) !== ROUTE_TRANSLATE || word(index, ROUTE_DOMAIN) !== domain.index) {
        throw new OracleError(`route ${index} is in the list of domain ${domain.index} and does not lead there`);
      }
      checkClassWords(engine, index, domain);
    }
  }
  for (let index = 0; every && index < count; index++) {
    const translates = word(index, ROUTE_KIND) === ROUTE_TRANSLATE;
    if (translates && !listed.has(index)) throw new OracleError(`route ${index} translates and is in no domain's list`);
    // The id is the upper 19 bits of a class word.
    if (!translates && (word(index, ROUTE_FIRST + 4) >>> 13 || word(index, ROUTE_SECOND + 4) >>> 13)) {
      throw new OracleError(`route ${index} does not translate and carries an IOTLB id`);
    }
  }
}

function checkClassWords(engine: EngineView, index: number, domain: LiveDomain): void {
  const route = header(engine, ENGINE_ROUTES) + index * ROUTE_BYTES;
  const wanted = domain.ids.map((id, large) => (BigInt(id) << TAG_ID_SHIFT) | BigInt(domain.pageLg2[large]!));
  for (const offset of [ROUTE_FIRST, ROUTE_SECOND]) {
    const held = readU64(engine.memory, route + offset);
    if (wanted.includes(held)) continue;
    throw new OracleError(`route ${index} carries ${hex(held)}, domain ${domain.index} has ${wanted.map(hex).join()}`);
  }
}

/** Looks at the lock before a port that holds it counts as one that never gives it back. */
const MOST_LOOKS = 1e6;

/** Runs `look` while no port publishes an entry of a PASID table: with the engine's lock, unless a change or a port that is stuck has it. */
export function withoutPublications(engine: EngineView, look: () => void): void {
  const words = new Int32Array(engine.memory.buffer);
  const lock = (engine.address + ENGINE_LOCK) >>> 2;
  let holder = Atomics.compareExchange(words, lock, 0, 1);
  for (let looks = MOST_LOOKS; holder !== 0 && holder !== 1 && looks > 0; looks--) holder = Atomics.compareExchange(words, lock, 0, 1);
  try {
    look();
  } finally {
    if (holder === 0) Atomics.store(words, lock, 0);
  }
}

export function hasPasidTables(engine: EngineView): boolean {
  const words = wordsOf(engine.memory);
  const base = header(engine, ENGINE_PASID_TABLES);
  for (let n = 0; n < header(engine, ENGINE_PASID_TABLE_CAPACITY); n++) {
    if (words[(base + n * PASID_TABLE_BYTES + PASID_TABLE_STATE) >>> 2]) return true;
  }
  return false;
}

/** The domain that a route leads to, or led to before it was blocked; 0 for a route that is none. */
export function domainOfRoute(engine: EngineView, route: number): number {
  if (route > header(engine, ENGINE_ROUTE_MASK)) return 0;
  return readU32(engine.memory, header(engine, ENGINE_ROUTES) + route * ROUTE_BYTES + ROUTE_DOMAIN);
}

/** 1 + the PASID table that the rid of a route is attached to, 0 for none. */
export function tableOfRid(engine: EngineView, route: number): number {
  const words = wordsOf(engine.memory);
  const keys = header(engine, ENGINE_ROUTE_KEYS) >>> 2;
  // A key is rid 63..33, PASID + 1 below: that of a rid without PASID has the low word 0.
  const own = words[keys + route * 2 + 1]! | 1;
  const last = header(engine, ENGINE_ROUTE_MASK);
  for (let index = 1; index <= last; index++) {
    if (words[keys + index * 2] === 0 && words[keys + index * 2 + 1] === own >>> 0) return readU32(engine.memory, header(engine, ENGINE_ROUTES) + index * ROUTE_BYTES + ROUTE_TABLE);
  }
  return 0;
}

/**
 * Entries of PASID tables: a published one is nested on its table's stage 2, no two of a table are of one PASID, and routes that
 * lead there are of rids that the table serves. Users of every domain are those that there are.
 */
export function checkPools(engine: EngineView, domains: readonly LiveDomain[]): void {
  const word = (index: number, offset: number): number => readU32(engine.memory, header(engine, ENGINE_DOMAINS) + index * DOMAIN_BYTES + offset);
  const users = new Map<number, number>();
  const seen = new Set<string>();
  for (const { index } of domains) {
    const flags = word(index, DOMAIN_FLAGS);
    for (const [flag, offset] of [[DOMAIN_NESTED, DOMAIN_STAGE2], [DOMAIN_HALVES, DOMAIN_UPPER]] as const) {
      if (flags & flag) users.set(word(index, offset), (users.get(word(index, offset)) ?? 0) + 1);
    }
    const table = word(index, DOMAIN_TABLE);
    if (table === 0 || !(flags & DOMAIN_NESTED)) continue;
    const key = `PASID ${word(index, DOMAIN_PASID)} of PASID table ${table - 1}`;
    if (seen.has(key)) throw new OracleError(`${key} is published twice`);
    seen.add(key);
    const record = header(engine, ENGINE_PASID_TABLES) + (table - 1) * PASID_TABLE_BYTES;
    if (word(index, DOMAIN_STAGE2) !== readU32(engine.memory, record + PASID_TABLE_STAGE2)) throw new OracleError(`${key} lies above another stage 2`);
    for (let route = word(index, DOMAIN_ROUTES); route !== 0; route = readU32(engine.memory, header(engine, ENGINE_ROUTES) + route * ROUTE_BYTES + ROUTE_NEXT)) {
      if (tableOfRid(engine, route) !== table) throw new OracleError(`route ${route} is led by ${key}, which its rid has not`);
    }
  }
  for (const { index } of domains) {
    const counted = word(index, DOMAIN_USERS);
    if (counted !== (users.get(index) ?? 0)) throw new OracleError(`domain ${index} counts ${counted} users, has ${users.get(index) ?? 0}`);
  }
}

export interface PortView {
  readonly address: number;
  readonly iotlb: number;
  readonly sets: number;
}

export function openPorts(engine: EngineView): PortView[] {
  const { memory } = engine;
  const ports: PortView[] = [];
  for (let n = 0; n < header(engine, ENGINE_PORT_CAPACITY); n++) {
    const address = header(engine, ENGINE_PORTS) + n * header(engine, ENGINE_PORT_STRIDE);
    if (!readU32(memory, address + PORT_STATE)) continue;
    const sets = 2 ** (64 - readU32(memory, address + PORT_HASH_SHIFT));
    ports.push({ address, iotlb: readU32(memory, address + PORT_IOTLB), sets });
  }
  return ports;
}

/** Tags dropped: page..page + span of an id, or everything. */
export type Drop = { readonly id: number; readonly page: number; readonly span: number } | "all";

export function covers(drop: Drop, id: number, page: number): boolean {
  if (drop === "all") return true;
  const distance = (id - drop.id) * TAG_PAGES + (page - drop.page);
  return distance >= 0 && distance <= drop.span;
}

export function ringHead(engine: EngineView): number {
  return header(engine, ENGINE_RING_HEAD);
}

/** What the ring holds from `tail` on. A reader that fell behind by more than a ring has to drop everything. */
export function dropsSince(engine: EngineView, tail: number): Drop[] {
  const count = (ringHead(engine) - tail) >>> 0;
  if (count > RING_ENTRIES) return ["all"];
  const drops: Drop[] = [];
  for (let n = 0; n < count; n++) {
    const entry = header(engine, ENGINE_RING) + ((tail + n) & (RING_ENTRIES - 1)) * RING_ENTRY_BYTES;
    const kind = readU32(engine.memory, entry + RING_KIND);
    const tag = readU64(engine.memory, entry + RING_TAG);
    const page = Number(BigInt.asUintN(Number(TAG_ID_SHIFT), tag));
    const span = kind === RING_DROP_IDS ? 2 * TAG_PAGES - 1 : readU32(engine.memory, entry + RING_SPAN);
    drops.push(kind === RING_CLEAR ? "all" : { id: Number(tag >> TAG_ID_SHIFT), page, span });
  }
  return drops;
}

export function hex(word: bigint | number): string {
  return `0x${word.toString(16)}`;
}
