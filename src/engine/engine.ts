// The engine: one arena in one memory, and the calls that change what it translates. Control plane only: addresses are
// bigint, ranges first..last, inclusive. The data plane is Port. One thread makes all changes: the one that made the engine.
// A change waits for the sections that are open on other threads. Imports access, token, module, memory, layout, errors.
import { EngineAccess, type SlotKind } from "./access.js";
import { EngineError, integerIn } from "./errors.js";
import * as L from "./layout.js";
import { placeEngine, type AdoptedMemory, type OwnedMemory, type Placement } from "./memory.js";
import { instantiate, loadModule, type EngineExports } from "./module.js";
import { readPorts, type PortView } from "./port-records.js";
import { hostHere, mayBlock, type EngineToken } from "./token.js";
import { readWalk, type Walk } from "./walk-record.js";

export interface EngineOptions {
  memory?: OwnedMemory | AdoptedMemory;
  /** Most slots (ranges of host-physical addresses). Default 1024. */
  slots?: number;
  /** Most (rid, pasid) pairs, a power of two, 8..2^20. Default 4096. One is reserved. */
  routes?: number;
  /** Most domains at once. Default 1024. */
  domains?: number;
  ports?: {
    /** Most ports at once. Default 8. */
    count?: number;
    /** Sets of 4 entries in each IOTLB, a power of two, 2..2^20. Default 1024. */
    iotlbSets?: number;
    /** Lanes of a batch, a multiple of 16. Default 4096. */
    lanes?: number;
    /** Fault records that a port keeps, a power of two, 4..2^20. Default 1024. */
    faults?: number;
  };
  /** The engine's code for that kind of memory, compiled already. Default: it is loaded from beside this file. */
  module?: WebAssembly.Module;
  /** First IOTLB id, 2..2^19-2, even. Only tests of the wrap need another than 2. */
  firstIotlbId?: number;
}

export interface DomainOptions {
  /** L.FORMAT_* */
  format: number;
  levels: number;
  /** Bits of an input address. */
  width: number;
  /**
   * What the bits above the width must be: all zero (default), equal to the sign bit, or all one (the half of Arm's TTBR1);
   * "-tbi": the same with the top byte ignored.
   */
  rule?: keyof typeof RULES;
  /** Bits of an output address, at most 52. An entry with a larger address is refused. */
  outputWidth: number;
  /** Bits that must be clear in pointers to tables and in leaves, beyond what the format and outputWidth say. Default 0. */
  reservedTable?: bigint;
  reservedLeaf?: bigint;
  /** Accessed bits: not looked at (default), set by the walk, or a leaf without it refuses. */
  accessed?: "ignore" | "set" | "fault";
  /** Dirty bits: not looked at (default), or set by writes. */
  dirty?: "ignore" | "set";
  /** L.OPTION_* of the format. Default 0. */
  options?: number;
  /** The guest owns the table: address of its start table, a multiple of 64; hpa, or what `stage2` translates. */
  guestRoot?: bigint;
  /** The domain, without one of its own, that translates a guest's table addresses and output. */
  stage2?: number;
  /** The guest's domain that serves iovas with bit 55 set. Arm stage 1 only; granule and options are each half's own. */
  upper?: number;
}

const SLOT_KINDS = { memory: L.SLOT_MEMORY, zero: L.SLOT_ZERO, device: L.SLOT_DEVICE } as const;
const RULES = {
  zero: L.RULE_ZERO, sign: L.RULE_SIGN, ones: L.RULE_ONES,
  "zero-tbi": L.RULE_ZERO | L.RULE_TBI, "sign-tbi": L.RULE_SIGN | L.RULE_TBI, "ones-tbi": L.RULE_ONES | L.RULE_TBI,
} as const;
const ACCESSED = { ignore: 0, set: L.DOMAIN_SET_ACCESSED, fault: L.DOMAIN_ACCESS_FAULT } as const;
const DIRTY = { ignore: 0, set: L.DOMAIN_SET_DIRTY } as const;
const MARKS = L.DOMAIN_SET_ACCESSED | L.DOMAIN_ACCESS_FAULT | L.DOMAIN_SET_DIRTY;
/** Formats with a second root for the upper half. */
const HALVES: ReadonlySet<number> = new Set([L.FORMAT_ARM_S1_4K, L.FORMAT_ARM_S1_16K, L.FORMAT_ARM_S1_64K]);

function powerOfTwo(field: string, value: unknown, first: number, last: number): number {
  const n = integerIn(field, value, first, last);
  if ((n & (n - 1)) !== 0) throw new EngineError("BAD_OPTION", `must be a power of two, not ${n}`, field, n);
  return n;
}

const lg2 = (n: number): number => 31 - Math.clz32(n);

export class Engine extends EngineAccess {
  /** Memory offset and bytes of the RAM of an owned memory. */
  readonly ram: { offset: number; length: number };
  /** Frames for page tables. */
  readonly frames: number;
  readonly #module: WebAssembly.Module;
  readonly #arena: { first: number; last: number };
  /** An unmap that has removed its range and could not wait for every port. */
  #unfinished: { domain: number; first: bigint; last: bigint; bytes: bigint } | undefined;

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
    const ports = options.ports ?? {};
    const slots = integerIn("slots", options.slots ?? 1024, 1, 1 << 20);
    const routes = powerOfTwo("routes", options.routes ?? 4096, 8, 1 << 20);
    const domains = integerIn("domains", options.domains ?? 1024, 1, 1 << 16);
    const count = integerIn("ports.count", ports.count ?? 8, 1, 1024);
    const sets = powerOfTwo("ports.iotlbSets", ports.iotlbSets ?? 1024, 2, 1 << 20);
    const lanes = integerIn("ports.lanes", ports.lanes ?? 4096, 16, 1 << 20);
    if (lanes % 16 !== 0) throw new EngineError("BAD_OPTION", `must be a multiple of 16, not ${lanes}`, "ports.lanes", lanes);
    const faults = powerOfTwo("ports.faults", ports.faults ?? 1024, 4, 1 << 20);
    const firstId = integerIn("firstIotlbId", options.firstIotlbId ?? 2, 2, L.ID_LIMIT - 2);
    if (firstId % 2 !== 0) throw new EngineError("BAD_OPTION", `must be even, not ${firstId}`, "firstIotlbId", firstId);
    const place = placeEngine(options.memory);
    const module = options.module ?? await loadModule(place.shared);
    const exports = instantiate(module, place.memory);
    if (options.memory && "adopt" in options.memory) new Uint8Array(place.memory.buffer, place.arenaOffset, place.arenaLength).fill(0);
    const frames = exports.createEngine(place.arenaOffset, place.arenaLength, slots, lg2(routes), domains, count, lg2(sets), lanes,
      faults, firstId) >>> 0;
    if (frames === 0) {
      throw new EngineError("NO_ARENA", `${place.arenaLength} bytes cannot hold these slots, routes, domains and ports`, "memory.arena",
        place.arenaLength);
    }
    return new Engine(place, module, exports, frames);
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
    const { format, levels, width, outputWidth, rule = "zero", guestRoot } = options;
    const domain = this.exports.createDomain(this.address, integerIn("format", format, 0, L.FORMATS - 1),
      integerIn("levels", levels, 1, L.MAX_LEVELS), RULES[rule], integerIn("width", width, 12, 64),
      integerIn("outputWidth", outputWidth, 12, 52), this.#domainFlags(options), guestRoot ?? 0n,
      options.reservedTable ?? 0n, options.reservedLeaf ?? 0n, options.stage2 ?? 0, options.upper ?? 0) >>> 0;
    if (domain === L.DOMAIN_BUSY || domain === L.DOMAIN_STALLED) this.#settled(domain === L.DOMAIN_BUSY ? L.STATUS_BUSY : L.STATUS_STALLED);
    if (domain === L.DOMAIN_NONE) throw new EngineError("NO_DOMAINS", "all domains are in use (option `domains`)");
    if (domain === L.DOMAIN_BAD_SHAPE) {
      throw new EngineError("BAD_ARGUMENT", `format ${format} has no table of ${levels} levels for ${width} bits`, "levels", levels);
    }
    if (domain === L.DOMAIN_NO_FRAME) throw new EngineError("NO_FRAMES", "no frame is left for the root table (option `memory.arena`)");
    return domain;
  }

  #domainFlags({ format, accessed = "ignore", dirty = "ignore", options = 0, guestRoot, stage2, upper }: DomainOptions): number {
    const bad = (why: string, field: string, value: unknown): never => {
      throw new EngineError("BAD_ARGUMENT", why, field, value);
    };
    if (guestRoot !== undefined && (guestRoot & 63n || guestRoot < 0n || guestRoot >> 56n)) {
      bad("must be a multiple of 64 below 2^56", "guestRoot", guestRoot);
    }
    const marks = ACCESSED[accessed] | DIRTY[dirty];
    if ((options & ~L.OPTIONS) !== 0) bad("has bits that are no option", "options", options);
    if (stage2 !== undefined) {
      if (guestRoot === undefined) bad("needs a guest's table (guestRoot) above it", "stage2", stage2);
      if (this.#domainWord(stage2, L.DOMAIN_STATE) === 0) bad("is no domain", "stage2", stage2);
      if (this.#domainWord(stage2, L.DOMAIN_FLAGS) & (L.DOMAIN_NESTED | L.DOMAIN_HALVES)) bad("has two stages or halves itself", "stage2", stage2);
    }
    if (upper !== undefined) {
      if (guestRoot === undefined) bad("needs a guest's table (guestRoot) beside it", "upper", upper);
      if (this.#domainWord(upper, L.DOMAIN_STATE) === 0) bad("is no domain", "upper", upper);
      if (!HALVES.has(format) || !HALVES.has(this.#domainWord(upper, L.DOMAIN_FORMAT))) bad("and the domain must be Arm stage 1", "upper", upper);
      if (((this.#domainWord(upper, L.DOMAIN_FLAGS) ^ marks) & MARKS) !== 0) bad("treats accessed and dirty bits otherwise", "upper", upper);
      if (!(this.#domainWord(upper, L.DOMAIN_FLAGS) & L.DOMAIN_GUEST)) bad("is no guest's table", "upper", upper);
      if (this.#domainWord(upper, L.DOMAIN_FLAGS) & L.DOMAIN_HALVES) bad("has halves itself", "upper", upper);
    }
    return (guestRoot === undefined ? 0 : L.DOMAIN_GUEST) | marks | options
      | (stage2 === undefined ? 0 : L.DOMAIN_NESTED) | (upper === undefined ? 0 : L.DOMAIN_HALVES);
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
    return this.#settled(this.exports.destroyDomain(this.address, domain));
  }

  /** New IOTLB ids: nothing cached of the domain is used any more. L.STATUS_OK, or unchanged: L.STATUS_IN_SECTION. */
  flushDomain(domain: number): number {
    return this.#settled(this.exports.flushDomain(this.address, domain));
  }

  /** Drops cached translations of first..last, for tables that their owner changed. L.STATUS_OK or L.STATUS_IN_SECTION. */
  invalidate(domain: number, first: bigint, last: bigint): number {
    return this.#settled(this.exports.invalidateDomain(this.address, domain, first, last));
  }

  /** first..last -> hpa with L.PERM_*: a L.STATUS_*; all or nothing. */
  map(domain: number, first: bigint, last: bigint, hpa: bigint, perm: number): number {
    return this.#settled(this.exports.map(this.address, domain, first, last, hpa, perm));
  }

  /**
   * What `map` would answer with frames enough, and the tables that it would take. Of ranges planned in ascending order,
   * `after` being the last address of the one before, each counts only the tables that those before do not need too.
   */
  planMap(
    domain: number, first: bigint, last: bigint, hpa: bigint, perm: number, after = ~first,
  ): { status: number; tables: number } {
    const plan = BigInt.asUintN(64, this.exports.planMap(this.address, domain, first, last, hpa, perm, after));
    return { status: this.#settled(Number(plan & 0xffffffffn)), tables: Number(plan >> 32n) };
  }

  /** Are there frames for that many more tables of the domain? */
  canTakeTables(domain: number, tables: number): boolean {
    return this.exports.canTakeTables(this.address, domain, tables) !== 0;
  }

  /**
   * Removes first..last: bytes removed, or L.UNMAP_*. When it returns, no port translates by what was removed. After PORT_STALLED
   * the same call waits again and answers what the first one would have.
   */
  unmap(domain: number, first: bigint, last: bigint): bigint {
    const begun = this.#unfinished;
    if (begun) return this.#finishUnmap(begun, domain, first, last);
    const bytes = BigInt.asUintN(64, this.exports.unmap(this.address, domain, first, last));
    return bytes >= L.UNMAP_STALLED ? this.#unmapRefused(bytes, domain, first, last) : bytes;
  }

  #unmapRefused(answer: bigint, domain: number, first: bigint, last: bigint): bigint {
    if (answer === L.UNMAP_STALLED) {
      const bytes = new DataView(this.memory.buffer).getBigUint64(this.address + L.ENGINE_UNFINISHED, true);
      if (bytes < L.UNMAP_STALLED) this.#unfinished = { domain, first, last, bytes };
    }
    return this.#settledBytes(answer);
  }

  #finishUnmap(begun: { domain: number; first: bigint; last: bigint; bytes: bigint }, domain: number, first: bigint, last: bigint): bigint {
    this.settle();
    this.#unfinished = undefined;
    return begun.domain === domain && begun.first === first && begun.last === last ? begun.bytes : this.unmap(domain, first, last);
  }

  /** Bytes of first..last in dirty leaves of a domain that tracks them, or L.UNMAP_IN_SECTION; clears the bits if asked. */
  clearDirty(domain: number, first: bigint, last: bigint, clear: boolean): bigint {
    return this.#settledBytes(BigInt.asUintN(64, this.exports.clearDirty(this.address, domain, first, last, clear ? 1 : 0)));
  }

  /** Waits once more for the ports that an earlier change has not seen leave their sections. Throws EngineError PORT_STALLED. */
  settle(): void {
    this.#settled(this.exports.waitAgain(this.address));
  }

  /**
   * The answer of a change, if it is one. Throws EngineError PORT_STALLED when a port of another thread has been inside a section
   * for over a second: a change that was under way is made, and `settle` waits for it again; until then no other is begun.
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
    const why = `port ${index} of thread ${thread} has been inside its section for over a second; if the thread has ended, endThread(${thread})`;
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

  /** Closes the ports of a thread that has ended, whatever it was doing: how many there were. */
  endThread(thread: number): number {
    integerIn("thread", thread, L.HOST_THREAD + 1, this.word(L.ENGINE_THREADS));
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
