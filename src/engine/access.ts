// What any thread may do with an engine: look, open ports, and follow addresses. It changes nothing that is translated; that is
// the host thread's (engine.ts). Imports module, layout, port, report-queue, stalls, errors.
import { EngineError } from "./errors.js";
import { ReportQueue } from "./report-queue.js";
import * as L from "./layout.js";
import type { EngineExports } from "./module.js";
import { Port } from "./port.js";
import { Stalls } from "./stalls.js";

export type SlotKind = "memory" | "zero" | "device";

/** Part of a slot from some address on. */
export interface Span {
  kind: SlotKind;
  /** Memory offset of the address; 0 unless the kind is "memory". */
  offset: number;
  /** From the address to the end of the slot. */
  bytes: number;
}

const SLOT_KIND_NAMES = [undefined, "memory", "zero", "device"] as const;

export class EngineAccess {
  /** @internal Engine.create() and connectEngine() make them. `thread` is the number under which this thread's ports are known. */
  constructor(
    readonly memory: WebAssembly.Memory,
    /** Other threads can have ports. */
    readonly shared: boolean,
    /** Address of the engine header. */
    readonly address: number,
    readonly thread: number,
    /** @internal */
    readonly exports: EngineExports,
  ) {}

  #view = new Uint32Array(0);
  #signed = new Int32Array(0);
  #bytes: Uint8Array = new Uint8Array(0);
  #reports: ReportQueue | undefined;
  #stalls: Stalls | undefined;

  // A memory that grows takes the bytes of the views over it, or, if it is shared, leaves them what they have: the engine's own among it.
  // To ask a view for its length costs nothing; to ask the memory for its buffer costs more than a translation.

  /** The memory as words, the engine's own at least. @internal */
  words32(): Uint32Array {
    if (this.#view.length === 0) this.#view = new Uint32Array(this.memory.buffer);
    return this.#view;
  }

  /** The memory as bytes, up to `end` at least. @internal */
  bytes(end: number): Uint8Array {
    if (this.#bytes.length < end) this.#bytes = new Uint8Array(this.memory.buffer);
    return this.#bytes;
  }

  /** As words32, for Atomics. @internal */
  signedWords(): Int32Array {
    if (this.#signed.length === 0) this.#signed = new Int32Array(this.memory.buffer);
    return this.#signed;
  }

  /** Where views report to the host. @internal */
  get reports(): ReportQueue {
    return (this.#reports ??= new ReportQueue(this));
  }

  /** Accesses that wait for pages. @internal */
  get stalls(): Stalls {
    return (this.#stalls ??= new Stalls(this));
  }

  /** A word of the engine header; `offset` is L.ENGINE_*. */
  word(offset: number): number {
    return this.words32()[(this.address + offset) >>> 2] ?? 0;
  }

  /** The route of (rid, pasid), made blocked if new; L.ROUTE_NONE when the table is full. Throws EngineError BAD_ARGUMENT: rid has 31 bits, a PASID 20. */
  route(rid: number, pasid: number = L.NO_PASID): number {
    if (!Number.isInteger(rid) || rid < 0 || rid >= 2 ** 31) throw notOf("rid", rid, 31);
    if (pasid !== L.NO_PASID && (!Number.isInteger(pasid) || pasid < 0 || pasid >= 2 ** 20)) throw notOf("pasid", pasid, 20);
    return this.exports.internRoute(this.address, rid, pasid);
  }

  /**
   * Where the bytes from hpa on are, as far as they lie in one slot; false if no slot has it. Fills `span`. On a thread that is
   * not the host's, inside a section: slots come and go.
   */
  locate(hpaLow: number, hpaHigh: number, span: Span): boolean {
    const slot = this.exports.slotAt(this.address, hpaLow, hpaHigh) >>> 0;
    if (slot === 0) return false;
    const words = this.words32();
    const at = slot >>> 2;
    const word = (offset: number): number => words[at + (offset >>> 2)] ?? 0;
    const within = (hpaHigh - word(L.SLOT_FIRST + 4)) * 2 ** 32 + (hpaLow - word(L.SLOT_FIRST));
    span.bytes = (word(L.SLOT_LAST + 4) - hpaHigh) * 2 ** 32 + (word(L.SLOT_LAST) - hpaLow) + 1;
    span.kind = SLOT_KIND_NAMES[word(L.SLOT_KIND)] ?? "device";
    span.offset = span.kind === "memory" ? word(L.SLOT_OFFSET) + within : 0;
    return true;
  }

  /** A port of this thread. Throws EngineError NO_PORTS. */
  openPort(): Port {
    const address = this.exports.openPort(this.address, this.thread) >>> 0;
    if (address === 0) throw new EngineError("NO_PORTS", "all ports are open (option `ports.count`)");
    return new Port(this.memory, this.exports, address);
  }
}

function notOf(field: string, value: unknown, bits: number): EngineError {
  return new EngineError("BAD_ARGUMENT", `route wants an integer of ${bits} bits, not ${String(value)}`, field, value);
}
