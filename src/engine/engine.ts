// The engine: one arena in one memory, and the calls that change what it translates. Control plane only: addresses are
// bigint, ranges first..last, inclusive. The data plane is Port. Imports the rest of this folder.
import { domainFlags, ruleOf, type DomainOptions } from "./domain-options.js";
import { engineSizes, type EngineOptions } from "./engine-options.js";
import { EngineError, integerIn } from "./errors.js";
import * as L from "./layout.js";
import { placeEngine, type Placement } from "./memory.js";
import { instantiate, loadModule, type EngineExports } from "./module.js";
import { Port } from "./port.js";
import { appendLeafRun, MOST_AREAS, readLeafRuns, readRanges, writeAreas, type LeafRun, type MergeArea, type Range } from "./records.js";
import { readWalk, type Walk } from "./walk-record.js";

export type { DomainOptions } from "./domain-options.js";
export type { EngineOptions } from "./engine-options.js";
export type { LeafRun, MergeArea, Range } from "./records.js";

export type SlotKind = "memory" | "zero" | "device";

/** Part of a slot from some address on. */
export interface Span {
  kind: SlotKind;
  /** Memory offset of the address; 0 unless the kind is "memory". */
  offset: number;
  /** From the address to the end of the slot. */
  bytes: number;
}

const SLOT_KINDS = { memory: L.SLOT_MEMORY, zero: L.SLOT_ZERO, device: L.SLOT_DEVICE } as const;
const SLOT_KIND_NAMES = [undefined, "memory", "zero", "device"] as const;

/** Leaves as large as they come. */
const NO_CAP = 63;

export class Engine {
  readonly memory: WebAssembly.Memory;
  readonly shared: boolean;
  /** Address of the engine header. */
  readonly address: number;
  /** Memory offset and bytes of the RAM of an owned memory. */
  readonly ram: { offset: number; length: number };
  /** Frames for page tables. */
  readonly frames: number;
  /** @internal */
  readonly exports: EngineExports;
  readonly #arena: { first: number; last: number };

  private constructor(place: Placement, exports: EngineExports, frames: number) {
    this.memory = place.memory;
    this.shared = place.shared;
    this.address = place.arenaOffset;
    this.ram = { offset: place.ramOffset, length: place.ramLength };
    this.frames = frames;
    this.exports = exports;
    this.#arena = { first: place.arenaOffset, last: place.arenaOffset + place.arenaLength - 1 };
  }

  /** Throws EngineError BAD_OPTION naming the field, or NO_ARENA if the arena cannot hold what is asked. */
  static async create(options: EngineOptions = {}): Promise<Engine> {
    const sizes = engineSizes(options);
    const place = placeEngine(options.memory);
    const exports = instantiate(await loadModule(place.shared), place.memory);
    if (options.memory && "adopt" in options.memory) new Uint8Array(place.memory.buffer, place.arenaOffset, place.arenaLength).fill(0);
    const frames = exports.createEngine(place.arenaOffset, place.arenaLength, ...sizes) >>> 0;
    if (frames === 0) {
      throw new EngineError("NO_ARENA", `${place.arenaLength} bytes cannot hold these slots, routes, domains and ports`, "memory.arena",
        place.arenaLength);
    }
    return new Engine(place, exports, frames);
  }

  /** A word of the engine header; `offset` is L.ENGINE_*. */
  word(offset: number): number {
    return this.#words32()[(this.address + offset) >>> 2] ?? 0;
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
    const status = this.exports.addSlot(this.address, first, last, offset, SLOT_KINDS[kind]);
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

  /** Removes the slot that begins at `first`; false if there is none. */
  removeSlot(first: bigint): boolean {
    return this.exports.removeSlot(this.address, first) !== 0;
  }

  /** Where the bytes from hpa on are, as far as they lie in one slot; false if no slot has it. Fills `span`. */
  locate(hpaLow: number, hpaHigh: number, span: Span): boolean {
    const slot = this.exports.slotAt(this.address, hpaLow, hpaHigh) >>> 0;
    if (slot === 0) return false;
    const words = this.#words32();
    const at = slot >>> 2;
    const word = (offset: number): number => words[at + (offset >>> 2)] ?? 0;
    const within = (hpaHigh - word(L.SLOT_FIRST + 4)) * 2 ** 32 + (hpaLow - word(L.SLOT_FIRST));
    span.bytes = (word(L.SLOT_LAST + 4) - hpaHigh) * 2 ** 32 + (word(L.SLOT_LAST) - hpaLow) + 1;
    span.kind = SLOT_KIND_NAMES[word(L.SLOT_KIND)] ?? "device";
    span.offset = span.kind === "memory" ? word(L.SLOT_OFFSET) + within : 0;
    return true;
  }

  #view = new Uint32Array(0);

  /** The memory as words; made anew when the memory has grown. */
  #words32(): Uint32Array {
    if (this.#view.buffer !== this.memory.buffer) this.#view = new Uint32Array(this.memory.buffer);
    return this.#view;
  }

  /** A section of this thread is open: every change is refused. */
  get inSection(): boolean {
    return this.exports.inSection(this.address) !== 0;
  }

  /** The route of (rid, pasid), made blocked if new; L.ROUTE_NONE when the table is full. rid < 2^31. */
  route(rid: number, pasid: number = L.NO_PASID): number {
    return this.exports.internRoute(this.address, rid, pasid);
  }

  /** The three changes of a route; L.STATUS_OK or L.STATUS_IN_SECTION, which changed nothing. */
  blockRoute(route: number): number {
    return this.exports.blockRoute(this.address, route);
  }

  identityRoute(route: number): number {
    return this.exports.identityRoute(this.address, route);
  }

  /** The domain that a route leads to; undefined for one that is blocked or not translated. */
  routeDomain(route: number): number | undefined {
    const at = (this.word(L.ENGINE_ROUTES) + route * L.ROUTE_BYTES) >>> 2;
    const words = this.#words32();
    return words[at + (L.ROUTE_KIND >>> 2)] === L.ROUTE_TRANSLATE ? words[at + (L.ROUTE_DOMAIN >>> 2)] : undefined;
  }

  attachRoute(route: number, domain: number): number {
    return this.exports.attachRoute(this.address, route, domain);
  }

  /** Makes an empty domain, or one of a guest's table: its index. Throws EngineError NO_DOMAINS, NO_FRAMES, BAD_ARGUMENT or BAD_OPTION. */
  createDomain(options: DomainOptions): number {
    const { format, levels, width, outputWidth, guestRoot } = options;
    const domain = this.exports.createDomain(this.address, integerIn("format", format, 0, L.FORMATS - 1),
      integerIn("levels", levels, 1, L.MAX_LEVELS), ruleOf(options), integerIn("width", width, 12, 64),
      integerIn("outputWidth", outputWidth, 12, 52), domainFlags(options, (index, offset) => this.#domainWord(index, offset)), guestRoot ?? 0n,
      options.reservedTable ?? 0n, options.reservedLeaf ?? 0n, options.stage2 ?? 0, options.upper ?? 0) >>> 0;
    if (domain === L.DOMAIN_NONE) throw new EngineError("NO_DOMAINS", "all domains are in use (option `domains`)");
    if (domain === L.DOMAIN_BAD_SHAPE) {
      throw new EngineError("BAD_ARGUMENT", `format ${format} has no table of ${levels} levels for ${width} bits`, "levels", levels);
    }
    if (domain === L.DOMAIN_NO_FRAME) throw new EngineError("NO_FRAMES", "no frame is left for the root table (option `memory.arena`)");
    return domain;
  }

  /** A word of a domain's record; 0 for an index that is none. */
  #domainWord(domain: number, offset: number): number {
    const words = this.#words32();
    const header = this.address >>> 2;
    const capacity = words[header + (L.ENGINE_DOMAIN_CAPACITY >>> 2)] ?? 0;
    if (!Number.isInteger(domain) || domain < 0 || domain >= capacity) return 0;
    return words[((words[header + (L.ENGINE_DOMAINS >>> 2)] ?? 0) + domain * L.DOMAIN_BYTES + offset) >>> 2] ?? 0;
  }

  /** L.STATUS_OK, or unchanged: L.STATUS_IN_SECTION, L.STATUS_ATTACHED (a route still leads there). */
  destroyDomain(domain: number): number {
    return this.exports.destroyDomain(this.address, domain);
  }

  /** New IOTLB ids: nothing cached of the domain is used any more. */
  flushDomain(domain: number): void {
    this.exports.flushDomain(this.address, domain);
  }

  /** Drops cached translations of first..last, for tables that their owner changed. */
  invalidate(domain: number, first: bigint, last: bigint): void {
    this.exports.invalidateDomain(this.address, domain, first, last);
  }

  /** first..last -> hpa with L.PERM_*, in leaves of at most 2^cap bytes: a L.STATUS_*; all or nothing. */
  map(domain: number, first: bigint, last: bigint, hpa: bigint, perm: number, cap = NO_CAP): number {
    return this.exports.map(this.address, domain, first, last, hpa, perm, cap);
  }

  /**
   * What `map` would answer with frames enough, and the tables that it would take. Of ranges planned in ascending order,
   * `after` being the last address of the one before, each counts only the tables that those before do not need too.
   */
  planMap(
    domain: number, first: bigint, last: bigint, hpa: bigint, perm: number, after = ~first, cap = NO_CAP,
  ): { status: number; tables: number } {
    const plan = BigInt.asUintN(64, this.exports.planMap(this.address, domain, first, last, hpa, perm, after, cap));
    return { status: Number(plan & 0xffffffffn), tables: Number(plan >> 32n) };
  }

  /**
   * first..last of the child -> what the parent maps from gpa on, as far as both permit, in leaves that lie in one of the
   * parent's each: a L.STATUS_*; all or nothing. What the parent does not map stays empty. Both have tables of the same shape.
   */
  merge(child: number, parent: number, first: bigint, last: bigint, gpa: bigint, perm: number): number {
    return this.exports.merge(this.address, child, parent, first, last, gpa, perm);
  }

  /** The same for areas that ascend and do not overlap: all of them or none. */
  mergeAll(child: number, parent: number, areas: readonly MergeArea[]): number {
    let tables = 0;
    for (let at = 0; at < areas.length; at += MOST_AREAS) {
      const n = this.#writeAreas(areas, at);
      const plan = BigInt.asUintN(64, this.exports.planMerge(this.address, child, parent, n, at === 0 ? 1 : 0));
      if (plan & 0xffffffffn) return Number(plan & 0xffffffffn);
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

  /** Removes first..last: bytes removed, or L.UNMAP_*. When it returns, no port translates by what was removed. */
  unmap(domain: number, first: bigint, last: bigint): bigint {
    return BigInt.asUintN(64, this.exports.unmap(this.address, domain, first, last));
  }

  /** What is mapped in first..last. Leaves that begin before or end after it are cut. Throws EngineError BAD_ARGUMENT. */
  leafRuns(domain: number, first: bigint, last: bigint): LeafRun[] {
    const runs: LeafRun[] = [];
    this.#gather(first, last, (from) => this.exports.leafRuns(this.address, domain, from, last), (found) => {
      for (const run of readLeafRuns(this.memory, this.word(L.ENGINE_SCRATCH), found)) appendLeafRun(runs, run);
    });
    return runs;
  }

  /**
   * From now on writes are recorded: every leaf is clean, and cached writable only once it is dirty; or they are recorded no
   * more. L.STATUS_OK, or unchanged: L.STATUS_IN_SECTION, L.STATUS_NOT_OWNED.
   */
  trackDirty(domain: number, on: boolean): number {
    return this.exports.trackDirty(this.address, domain, on ? 1 : 0);
  }

  /**
   * Ranges of dirty leaves in first..last, ascending, neighbours joined. With `clear` the leaves that lie there whole are clean
   * afterwards. Throws EngineError BAD_ARGUMENT, or IN_SECTION when asked to clear: writes of the section would be missed.
   */
  collectDirty(domain: number, first: bigint, last: bigint, clear: boolean): Range[] {
    if (clear && this.inSection) throw new EngineError("IN_SECTION", "dirty bits are not cleared inside a section");
    const ranges: Range[] = [];
    this.#gather(first, last, (from) => this.exports.collectDirty(this.address, domain, from, last, clear ? 1 : 0), (found) => {
      for (const range of readRanges(this.memory, this.word(L.ENGINE_SCRATCH), found)) {
        const before = ranges.at(-1);
        if (before && before.last + 1n === range.first) before.last = range.last;
        else ranges.push(range);
      }
    });
    return ranges;
  }

  /** Calls from `first` on until all up to `last` is answered; each call fills the scratch area at most, and `take` empties it. */
  #gather(first: bigint, last: bigint, call: (from: bigint) => bigint, take: (found: number) => void): void {
    for (let from = first; ;) {
      const reached = BigInt.asUintN(64, call(from));
      const found = this.word(L.ENGINE_FOUND);
      if (found === L.RECORDS_REFUSED) {
        throw new EngineError("BAD_ARGUMENT", "is no range of a table of the kernel's", "first..last", `${first}..${last}`);
      }
      take(found);
      if (reached === last) return;
      from = reached + 1n;
    }
  }

  /**
   * For tests of what is all-or-nothing: of the next reservations (frames for tables, a domain's record, a new route) the n-th
   * fails, once, as if there were none left. 0: none fails.
   * @internal
   */
  failAllocation(n: number): void {
    const words = this.#words32();
    words[(this.address + L.ENGINE_FAIL_IN) >>> 2] = integerIn("n", n, 0, 0xffffffff);
    words[(this.address + L.ENGINE_GRANTED) >>> 2] = 0;
  }

  /** The exact walk: every entry on the way. Reads only; `need` is L.PERM_*. */
  walk(domain: number, iova: bigint, need: number): Walk {
    const out = this.address + L.ENGINE_WALK;
    this.exports.walk(this.address, domain, iova, need, out);
    return readWalk(this.memory, out);
  }

  /** A port of this thread. Throws EngineError NO_PORTS. */
  openPort(): Port {
    const address = this.exports.openPort(this.address) >>> 0;
    if (address === 0) throw new EngineError("NO_PORTS", "all ports are open (option `ports.count`)");
    return new Port(this.memory, this.exports, address);
  }
}
