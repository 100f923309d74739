// The engine: one arena in one memory, and the calls that change what it translates. Control plane only: addresses are
// bigint, ranges first..last, inclusive. The data plane is Port. One thread makes all changes: the one that made the engine.
// A change waits for the sections that are open on other threads. Imports the rest of this folder.
import { EngineAccess, type SlotKind } from "./access.js";
import { domainFlags, ruleOf, type DomainOptions } from "./domain-options.js";
import { engineSizes, patienceOf, type EngineOptions } from "./engine-options.js";
import { EngineError, integerIn } from "./errors.js";
import { Gather } from "./gather.js";
import * as L from "./layout.js";
import { placeEngine, type Placement } from "./memory.js";
import { instantiate, loadModule, type EngineExports } from "./module.js";
import { pasidTableArguments, routePasid, type PasidTableOptions } from "./pasid-tables.js";
import { readPorts, type PortView } from "./port-records.js";
import { MOST_AREAS, MOST_MAPS, writeAreas, writeMaps, type LeafRun, type MergeArea, type Range } from "./records.js";
import { Removals } from "./removals.js";
import { Steps } from "./steps.js";
import { hostHere, mayBlock, type EngineToken } from "./token.js";
import { readWalk, type Walk } from "./walk-record.js";

export type { DomainOptions } from "./domain-options.js";
export type { EngineOptions } from "./engine-options.js";
export type { PasidTableOptions } from "./pasid-tables.js";
export type { LeafRun, MergeArea, Range } from "./records.js";

const SLOT_KINDS = { memory: L.SLOT_MEMORY, zero: L.SLOT_ZERO, device: L.SLOT_DEVICE } as const;

/** Leaves as large as they come. */
export const NO_CAP = 63;

export class Engine extends EngineAccess {
  /** Memory offset and bytes of the RAM of an owned memory. */
  readonly ram: { offset: number; length: number };
  /** Frames for page tables. */
  readonly frames: number;
  /** Changes that are made together, by the uAPI. @internal */
  readonly steps = new Steps();
  readonly #module: WebAssembly.Module;
  readonly #arena: { first: number; last: number };
  readonly #removals = new Removals(this);
  readonly #gather = new Gather(this, (status) => this.#settled(status));

  private constructor(place: Placement, module: WebAssembly.Module, exports: EngineExports, frames: number) {
    super(place.memory, place.shared, place.arenaOffset, L.HOST_THREAD, exports);
    this.ram = { offset: place.ramOffset, length: place.ramLength };
    this.frames = frames;
    this.#module = module;
    this.#arena = { first: place.arenaOffset, last: place.arenaOffset + place.arenaLength - 1 };
    hostHere(place.memory);
  }

  /** Throws EngineError BAD_OPTION naming the field, or NO_ARENA if the arena cannot hold what is asked. */
  static async create(options: EngineOptions = {}): Promise<Engine> {
    const sizes = engineSizes(options);
    const patience = patienceOf(options);
    const place = placeEngine(options.memory);
    const module = options.module ?? await loadModule(place.shared);
    const exports = instantiate(module, place.memory);
    if (options.memory && "adopt" in options.memory) new Uint8Array(place.memory.buffer, place.arenaOffset, place.arenaLength).fill(0);
    const frames = exports.createEngine(place.arenaOffset, place.arenaLength, ...sizes) >>> 0;
    if (frames === 0) {
      throw new EngineError("NO_ARENA", `${place.arenaLength} bytes cannot hold these slots, routes, domains and ports`, "memory.arena",
        place.arenaLength);
    }
    const engine = new Engine(place, module, exports, frames);
    engine.words32()[(engine.address + L.ENGINE_PATIENCE) >>> 2] = patience;
    return engine;
  }

  get framesUsed(): number {
    return this.word(L.ENGINE_FRAMES_USED);
  }

  /** Makes first..last a slot; `offset` is the memory offset of the first byte of a "memory" slot. Multiples of 4096. */
  addSlot(first: bigint, last: bigint, kind: SlotKind, offset = 0): void {
    if (first < 0n || last >= 1n << 56n || last < first || (first | (last + 1n)) & 0xfffn) {
      throw new EngineError("SLOT_RANGE", "a slot is whole 4-KiB pages below 2^56", "first..last", `${first}..${last}`);
    }
    const size = Number(last - first) + 1;
    if (kind === "memory") this.#checkBytes(offset, size);
    const status = this.#settled(this.exports.addSlot(this.address, first, last, offset, SLOT_KINDS[kind]));
    if (status === 1) throw new EngineError("SLOT_OVERLAP", "another slot has some of it", "first..last", `${first}..${last}`);
    if (status === 2) throw new EngineError("SLOT_LIMIT", "no room for another slot (option `slots`)", "first", first);
  }

  #checkBytes(offset: number, size: number): void {
    integerIn("offset", offset, 0, 0xffffffff);
    const last = offset + size - 1;
    if (offset % 4096 !== 0 || last >= this.memory.buffer.byteLength) {
      throw new EngineError("SLOT_RANGE", `${size} bytes from there are not whole pages of this memory`, "offset", offset);
    }
    if (offset <= this.#arena.last && last >= this.#arena.first) {
      throw new EngineError("SLOT_RANGE", "the slot would reach the engine's own arena", "offset", offset);
    }
  }

  /** Removes the slot that begins at `first`; false if there is none. Throws EngineError IN_SECTION, and as every change. */
  removeSlot(first: bigint): boolean {
    const status = this.#settled(this.exports.removeSlot(this.address, first));
    if (status === L.STATUS_IN_SECTION) throw new EngineError("IN_SECTION", "a slot is not removed inside a section of this thread");
    return status === 0;
  }

  /** A section of this thread is open: every change is refused. */
  get inSection(): boolean {
    return this.exports.inSection(this.address) !== 0;
  }

  /** The three changes of a route; L.STATUS_OK or L.STATUS_IN_SECTION, which changed nothing. */
  blockRoute(route: number): number {
    return this.#settled(this.exports.blockRoute(this.address, route));
  }

  identityRoute(route: number): number {
    return this.#settled(this.exports.identityRoute(this.address, route));
  }

  /** The domain that a route leads to; undefined for one that is blocked or not translated. */
  routeDomain(route: number): number | undefined {
    const at = (this.word(L.ENGINE_ROUTES) + route * L.ROUTE_BYTES) >>> 2;
    const words = this.words32();
    return words[at + (L.ROUTE_KIND >>> 2)] === L.ROUTE_TRANSLATE ? words[at + (L.ROUTE_DOMAIN >>> 2)] : undefined;
  }

  attachRoute(route: number, domain: number): number {
    return this.#settled(this.exports.attachRoute(this.address, route, domain));
  }

  /** Makes an empty domain, or one of a guest's table: its index. Throws EngineError NO_DOMAINS, NO_FRAMES, BAD_ARGUMENT or BAD_OPTION. */
  createDomain(options: DomainOptions): number {
    const { format, levels, width, outputWidth, guestRoot } = options;
    const domain = this.exports.createDomain(this.address, integerIn("format", format, 0, L.FORMATS - 1),
      integerIn("levels", levels, 1, L.MAX_LEVELS), ruleOf(options), integerIn("width", width, 12, 64),
      integerIn("outputWidth", outputWidth, 12, 52), domainFlags(options, (index, offset) => this.#domainWord(index, offset)), guestRoot ?? 0n,
      options.reservedTable ?? 0n, options.reservedLeaf ?? 0n, options.stage2 ?? 0, options.upper ?? 0) >>> 0;
    if (domain === L.DOMAIN_BUSY || domain === L.DOMAIN_STALLED) this.#settled(domain === L.DOMAIN_BUSY ? L.STATUS_BUSY : L.STATUS_STALLED);
    if (domain === L.DOMAIN_NONE) throw new EngineError("NO_DOMAINS", "all domains are in use (option `domains`)");
    if (domain === L.DOMAIN_BAD_SHAPE) {
      throw new EngineError("BAD_ARGUMENT", `format ${format} has no table of ${levels} levels for ${width} bits`, "levels", levels);
    }
    if (domain === L.DOMAIN_NO_FRAME) throw new EngineError("NO_FRAMES", "no frame is left for the root table (option `memory.arena`)");
    return domain;
  }

  /**
   * Makes a table that says for each PASID of the rids that it is attached to where DMA goes: its index. Throws EngineError
   * NO_DOMAINS, BAD_ARGUMENT.
   */
  createPasidTable(options: PasidTableOptions): number {
    const given = pasidTableArguments(options, (index, offset) => this.#domainWord(index, offset));
    const table = this.exports.createPasidTable(this.address, ...given) >>> 0;
    if (table === L.DOMAIN_BUSY || table === L.DOMAIN_STALLED) this.#settled(table === L.DOMAIN_BUSY ? L.STATUS_BUSY : L.STATUS_STALLED);
    if (table === L.DOMAIN_NONE) throw new EngineError("NO_DOMAINS", "no PASID table is left, or no domains for its entries (options `pasidTables`, `domains`)");
    return table;
  }

  /** L.STATUS_OK, or unchanged: L.STATUS_IN_SECTION, L.STATUS_ATTACHED (a rid still uses it). */
  destroyPasidTable(table: number): number {
    return this.#settled(this.exports.destroyPasidTable(this.address, this.#table(table)));
  }

  /**
   * All DMA of a rid, whose route without PASID this is, goes where the table says: what its PASIDs led to before, they do not any
   * more, and routes with a PASID are not attached (L.STATUS_ATTACHED). Blocking or attaching `route` takes the table away.
   * L.STATUS_OK, or L.STATUS_IN_SECTION. Throws EngineError BAD_ARGUMENT.
   */
  attachPasidTable(route: number, table: number): number {
    if (routePasid(this, route) !== L.NO_PASID) throw new EngineError("BAD_ARGUMENT", "is no route without PASID", "route", route);
    return this.#settled(this.exports.attachPasidTable(this.address, route, this.#table(table)));
  }

  /** The guest has changed the entry of that PASID, or any entry: nothing goes by the old one afterwards. L.STATUS_OK or L.STATUS_IN_SECTION. */
  dropPasids(table: number, pasid: number = L.NO_PASID): number {
    return this.#settled(this.exports.dropPasids(this.address, this.#table(table), pasid));
  }

  /** The guest has changed first..last of that PASID's page tables, or any of them. L.STATUS_OK or L.STATUS_IN_SECTION. */
  invalidatePasid(table: number, pasid: number, first?: bigint, last?: bigint): number {
    const whole = first === undefined || last === undefined ? 1 : 0;
    return this.#settled(this.exports.invalidatePasid(this.address, this.#table(table), pasid, first ?? 0n, last ?? 0n, whole));
  }

  #table(table: number): number {
    return integerIn("table", table, 0, this.word(L.ENGINE_PASID_TABLE_CAPACITY) - 1);
  }

  /** A word of a domain's record; 0 for an index that is none. */
  #domainWord(domain: number, offset: number): number {
    const words = this.words32();
    const header = this.address >>> 2;
    const capacity = words[header + (L.ENGINE_DOMAIN_CAPACITY >>> 2)] ?? 0;
    if (!Number.isInteger(domain) || domain < 0 || domain >= capacity) return 0;
    return words[((words[header + (L.ENGINE_DOMAINS >>> 2)] ?? 0) + domain * L.DOMAIN_BYTES + offset) >>> 2] ?? 0;
  }

  /** L.STATUS_OK, or unchanged: L.STATUS_IN_SECTION, L.STATUS_ATTACHED (a route still leads there). */
  destroyDomain(domain: number): number {
    const status = this.#settled(this.exports.destroyDomain(this.address, domain));
    if (status === L.STATUS_OK) this.#removals.forget(domain);
    return status;
  }

  /** New IOTLB ids: nothing cached of the domain is used any more. L.STATUS_OK, or unchanged: L.STATUS_IN_SECTION. */
  flushDomain(domain: number): number {
    return this.#settled(this.exports.flushDomain(this.address, domain));
  }

  /** Drops cached translations of first..last, for tables that their owner changed. L.STATUS_OK or L.STATUS_IN_SECTION. */
  invalidate(domain: number, first: bigint, last: bigint): number {
    return this.#settled(this.exports.invalidateDomain(this.address, domain, first, last));
  }

  /** first..last -> hpa with L.PERM_*, in leaves of at most 2^cap bytes: a L.STATUS_*; all or nothing. */
  map(domain: number, first: bigint, last: bigint, hpa: bigint, perm: number, cap = NO_CAP): number {
    return this.#settled(this.exports.map(this.address, domain, first, last, hpa, perm, cap));
  }

  /**
   * first..last of the child -> what the parent maps from gpa on, as far as both permit, in leaves that lie in one of the
   * parent's each: a L.STATUS_*; all or nothing. What the parent does not map stays empty. Both have tables of the same shape.
   */
  merge(child: number, parent: number, first: bigint, last: bigint, gpa: bigint, perm: number): number {
    return this.#settled(this.exports.merge(this.address, child, parent, first, last, gpa, perm));
  }

  /** The same for areas that ascend and do not overlap, whatever bits of addresses are ignored: all of them or none. */
  mergeAll(child: number, parent: number, areas: readonly MergeArea[]): number {
    if (areas.length <= MOST_AREAS) return this.#settled(this.exports.mergeMany(this.address, child, parent, this.#writeAreas(areas, 0)));
    let tables = 0;
    for (let at = 0; at < areas.length; at += MOST_AREAS) {
      const n = this.#writeAreas(areas, at);
      const plan = BigInt.asUintN(64, this.exports.planMerge(this.address, child, parent, n, at === 0 ? 1 : 0));
      if (plan & 0xffffffffn) return this.#settled(Number(plan & 0xffffffffn));
      tables += Number(plan >> 32n);
    }
    if (!this.canTakeTables(child, tables)) return L.STATUS_NO_FRAMES;
    for (let at = 0; at < areas.length; at += MOST_AREAS) {
      this.exports.putMerge(this.address, child, parent, this.#writeAreas(areas, at));
    }
    return L.STATUS_OK;
  }

  #writeAreas(areas: readonly MergeArea[], at: number): number {
    const some = areas.slice(at, at + MOST_AREAS);
    writeAreas(this.memory, this.word(L.ENGINE_SCRATCH), some);
    return some.length;
  }

  /** Are there frames for that many more tables of the domain? If so, they are promised to the maps that were planned. */
  canTakeTables(domain: number, tables: number): boolean {
    return this.exports.canTakeTables(this.address, domain, tables) !== 0;
  }

  /**
   * The maps first..last -> hpa with L.PERM_*, in leaves of at most 2^lg2 bytes: a L.STATUS_*; all or nothing. They ascend and do
   * not overlap: what does not ascend is L.STATUS_OVERLAP.
   */
  mapMany(domain: number, maps: readonly LeafRun[]): number {
    if (maps.length <= MOST_MAPS) return this.#settled(this.exports.mapMany(this.address, domain, this.#writeMaps(maps, 0)));
    const { status, tables } = this.planMany(domain, maps);
    if (status !== L.STATUS_OK) return status;
    if (!this.canTakeTables(domain, tables)) return L.STATUS_NO_FRAMES;
    for (let at = 0; at < maps.length; at += MOST_MAPS) this.exports.putMany(this.address, domain, this.#writeMaps(maps, at));
    return L.STATUS_OK;
  }

  /** What `mapMany` would answer with frames enough, and the tables that it would take. */
  planMany(domain: number, maps: readonly LeafRun[]): { status: number; tables: number } {
    let tables = 0;
    for (let at = 0; at < maps.length; at += MOST_MAPS) {
      const n = this.#writeMaps(maps, at);
      const plan = BigInt.asUintN(64, this.exports.planMany(this.address, domain, n, at === 0 ? 1 : 0));
      if (plan & 0xffffffffn) return { status: this.#settled(Number(plan & 0xffffffffn)), tables: 0 };
      tables += Number(plan >> 32n);
    }
    return { status: L.STATUS_OK, tables };
  }

  #writeMaps(maps: readonly LeafRun[], at: number): number {
    return writeMaps(this.memory, this.word(L.ENGINE_SCRATCH), maps, at);
  }

  /**
   * Removes first..last: bytes removed, or L.UNMAP_*. When it returns, no port translates by what was removed. After PORT_STALLED
   * the same call waits again and answers what the first one would have.
   */
  unmap(domain: number, first: bigint, last: bigint): bigint {
    return this.#settledBytes(this.#removals.unmap(domain, first, last));
  }

  /** The same for all ranges, or none: they are checked before the first is removed. One wait for each 256 of them. */
  unmapMany(domain: number, ranges: readonly Range[]): bigint {
    return this.#settledBytes(this.#removals.unmapMany(domain, ranges));
  }

  /** What is mapped in first..last. Leaves that begin before or end after it are cut. Throws EngineError BAD_ARGUMENT. */
  leafRuns(domain: number, first: bigint, last: bigint): LeafRun[] {
    return this.#gather.leafRuns(domain, first, last);
  }

  /**
   * From now on writes are recorded: every leaf is clean, and cached writable only once it is dirty; or they are recorded no
   * more. L.STATUS_OK, or unchanged: L.STATUS_IN_SECTION, L.STATUS_NOT_OWNED.
   */
  trackDirty(domain: number, on: boolean): number {
    return this.#settled(this.exports.trackDirty(this.address, domain, on ? 1 : 0));
  }

  /**
   * Ranges of dirty leaves in first..last, ascending, neighbours joined. With `clear` the leaves that lie there whole are clean
   * afterwards. Throws EngineError BAD_ARGUMENT, or IN_SECTION when asked to clear: writes of the section would be missed.
   */
  collectDirty(domain: number, first: bigint, last: bigint, clear: boolean): Range[] {
    if (clear && this.inSection) throw new EngineError("IN_SECTION", "dirty bits are not cleared inside a section");
    return this.#gather.dirty(domain, first, last, clear);
  }

  /**
   * The same with `clear`, each range told as soon as its leaves are clean, so that none is lost when a port stalls: then, also at the
   * end, throws EngineError PORT_STALLED, and what is written meanwhile may be of ranges that were told. Precondition: not in a section.
   */
  takeDirty(domain: number, first: bigint, last: bigint, take: (range: Range) => void): void {
    this.#gather.tellDirty(domain, first, last, true, take);
    if (this.word(L.ENGINE_STALLED) !== 0) this.#settled(L.STATUS_STALLED);
  }

  /**
   * For tests of what is all-or-nothing: of the next reservations (frames for tables, a domain's record, a new route) the n-th
   * fails, once, as if there were none left. 0: none fails.
   * @internal
   */
  failAllocation(n: number): void {
    const words = this.words32();
    words[(this.address + L.ENGINE_FAIL_IN) >>> 2] = integerIn("n", n, 0, 0xffffffff);
    words[(this.address + L.ENGINE_GRANTED) >>> 2] = 0;
  }

  /** A port holds up what was changed: the next change waits for it again, and makes first what was put off. @internal */
  get held(): boolean {
    return this.steps.stall !== undefined || this.word(L.ENGINE_STALLED) !== 0;
  }

  /** Waits for that port, and makes what was put off. Throws EngineError PORT_STALLED. Precondition: not in a section. @internal */
  finish(): void {
    this.settle();
    this.steps.finish();
  }

  /** Waits once more for the ports that an earlier change has not seen leave their sections. Throws EngineError PORT_STALLED. */
  settle(): void {
    this.#settled(this.exports.waitAgain(this.address));
  }

  /**
   * The answer of a change, if it is one. Throws EngineError PORT_STALLED when a port of another thread has been inside a section
   * for longer than `ports.patience`: a change that was under way is made, and `settle` waits for it again; until then no other is begun.
   * Throws BUSY when another thread is making a change, which only the host's thread may.
   */
  #settled(status: number): number {
    if (status === L.STATUS_BUSY) throw busy();
    if (status === L.STATUS_STALLED) throw this.#stalled(this.word(L.ENGINE_STALLED));
    return status;
  }

  #settledBytes(bytes: bigint): bigint {
    if (bytes === L.UNMAP_BUSY) this.#settled(L.STATUS_BUSY);
    if (bytes === L.UNMAP_STALLED) this.#settled(L.STATUS_STALLED);
    return bytes;
  }

  #stalled(port: number): EngineError {
    const { index, thread } = readPorts(this).find((each) => each.address === port) ?? { index: -1, thread: 0 };
    const why = `port ${index} of thread ${thread} has been inside its section for over ${this.word(L.ENGINE_PATIENCE) / 1000} s; if the thread has ended, endThread(${thread})`;
    return new EngineError("PORT_STALLED", why, "port", index);
  }

  /** The exact walk: every entry on the way. Reads only; `need` is L.PERM_*. */
  walk(domain: number, iova: bigint, need: number): Walk {
    const out = this.address + L.ENGINE_WALK;
    this.exports.walk(this.address, domain, iova, need, out);
    return readWalk(this.memory, out);
  }

  /**
   * A token with which one other thread can open ports (`connectEngine`, `connectDevice`). Throws EngineError NO_THREADS when
   * this engine cannot have ports on other threads, with what has to be different.
   */
  token(): EngineToken {
    if (!this.shared) {
      throw new EngineError("NO_THREADS", "ports on other threads need a shared memory (option `memory.shared`)", "memory.shared", false);
    }
    if (!mayBlock()) {
      throw new EngineError("NO_THREADS", "changes wait for the ports of other threads, and this thread may not wait: make the host in a worker");
    }
    return { memory: this.memory, module: this.#module, address: this.address, thread: this.exports.addThread(this.address) };
  }

  /** Closes the ports of a thread that has ended, and ends what its accesses waited for, whatever it was doing: how many ports there were. */
  endThread(thread: number): number {
    integerIn("thread", thread, L.HOST_THREAD + 1, this.word(L.ENGINE_THREADS));
    this.reports.unlock(thread);
    this.stalls.endThread(thread);
    return this.exports.endThread(this.address, thread);
  }

  /** All open ports, of all threads. */
  ports(): PortView[] {
    return readPorts(this);
  }
}

function busy(): EngineError {
  return new EngineError("BUSY", "another thread is changing this engine: all changes are the host thread's");
}
