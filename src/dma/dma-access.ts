// One access of a device, made or refused: translated piece by piece, cut where runs and slots end, and moved only when all of it is
// translated, inside one section. It does not wait; dma-view.ts does. Nothing is allocated for an access that is made.
// Imports engine, dma-fault (types). iova is 64 bits, in two halves.
import type { EngineAccess, Span } from "../engine/access.js";
import * as L from "../engine/layout.js";
import type { Port, RawFault } from "../engine/port.js";
import type { DmaFaultDetails, DmaFaultReason } from "./dma-fault.js";

export type Access = "r" | "w";
const NEED = { r: L.PERM_R, w: L.PERM_W } as const;
const TWO32 = 2 ** 32;
const HPA_HIGH = 0xffffff;
const NO_BYTES = new Uint8Array(0);
const PAGE = 4096n;
/** Most pages that are looked at to be asked for at once. */
const MOST_PAGES = 32;

/** Who the view belongs to. Asked when it matters: a device may be bound, and a PASID attached, after the view is made. */
export interface Requester {
  name: string;
  /** What faults report. */
  binding(): { label: number; cookie: bigint | undefined } | undefined;
  /** The engine's route of its requests. */
  route(): number;
  /** The vPASID that faults report; undefined: DMA without one. */
  pasid(): number | undefined;
  /** The device can ask for pages. */
  pageRequests: boolean;
  /** Something was put in the queue of what devices report. */
  reported(): void;
  /** Who is told what views of the host's thread have written, in memory offsets; nobody on other threads. */
  written?: { readonly watching: number; wrote(first: number, last: number): void } | undefined;
}

/** Bytes from an address to the end of the aligned run of 2^lg2 bytes around it. */
function runRest(low: number, high: number, lg2: number): number {
  // A power is many times as slow as a shift, and nearly all runs are pages.
  if (lg2 <= 30) return (1 << lg2) - (low & ((1 << lg2) - 1));
  if (lg2 > 52) return Number.MAX_SAFE_INTEGER;
  const size = 2 ** lg2;
  return lg2 === 31 ? size - (low & (size - 1)) : size - ((high % 2 ** (lg2 - 32)) * TWO32 + low);
}

/** low may be beyond 2^32. */
function addressOf(low: number, high: number): bigint {
  return BigInt(high) * 0x100000000n + BigInt(low);
}

/** A view of so few bytes costs more than they do. */
const FEW_BYTES = 32;

function copy(from: Uint8Array, at: number, into: Uint8Array, to: number, length: number): void {
  if (length > FEW_BYTES) into.set(from.subarray(at, at + length), to);
  else for (let n = 0; n < length; n++) into[to + n] = from[at + n]!;
}

export class DmaAccess {
  readonly #engine: EngineAccess;
  readonly #port: Port;
  readonly #requester: Requester;
  /** The access being made: its parts as memory offsets (-1: reads as zero) and lengths, in order; arrays only grow. */
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  #parts = 0;
  #low = 0;
  #high = 0;
  #bytes: Uint8Array = NO_BYTES;
  #kind: Access = "r";
  /** Why it is refused. */
  #refusal: DmaFaultDetails | undefined;
  readonly #span: Span = { kind: "memory", offset: 0, bytes: 0 };
  /** Log2 of the last run: lanes are laid that far apart. */
  #strideLg2 = 12;
  /** The record of the last refusal; undefined when the engine made none. */
  record: RawFault | undefined;

  constructor(engine: EngineAccess, port: Port, requester: Requester) {
    this.#engine = engine;
    this.#port = port;
    this.#requester = requester;
  }

  /** The host-physical address of one byte, or why it is refused. */
  translate(low: number, high: number, access: Access): bigint | DmaFaultDetails {
    const translated = this.#port.translateHalves(low, high, this.#requester.route(), NEED[access]);
    const { result } = this.#port;
    if (!translated) return this.#refused(low, high, access, 0, result);
    return (result >> L.RESULT_IDENTITY_BIT) & 1n ? addressOf(low, high) : BigInt.asUintN(56, result);
  }

  /** Reads `bytes` full from the address on, or writes them there: why that cannot be done now, or undefined once it is done. */
  make(low: number, high: number, bytes: Uint8Array, access: Access): DmaFaultDetails | undefined {
    this.#low = low;
    this.#high = high;
    this.#bytes = bytes;
    this.#kind = access;
    this.#refusal = undefined;
    this.#port.batch(this.#translateAndMove);
    this.#bytes = NO_BYTES;
    if (this.#refusal === undefined && access === "w") this.#tell();
    return this.#refusal;
  }

  /** What the access that was made last has written. */
  #tell(): void {
    const { written } = this.#requester;
    if (written === undefined || written.watching === 0) return;
    // Who is told may make accesses of its own.
    const parts = Array.from({ length: this.#parts }, (_none, n) => [this.#offsets[n]!, this.#lengths[n]!] as const);
    for (const [offset, length] of parts) written.wrote(offset, offset + length - 1);
  }

  /** The refusals of an access, from `first` on and one a page, for which pages could be asked: up to one for which they could not. */
  missing(first: bigint, end: bigint, access: Access): RawFault[] {
    const { requests, capacity } = this.#port;
    const route = this.#requester.route();
    let lanes = 0;
    for (let at = first; at < end && lanes < Math.min(MOST_PAGES, capacity); at = (at & -PAGE) + PAGE, lanes++) {
      requests.set([Number(at & 0xffffffffn), Number(at >> 32n), route, NEED[access]], lanes * 4);
    }
    this.#port.translate(lanes);
    const refused = this.#port.takeFaults().sort((a, b) => a.lane - b.lane);
    this.#port.takeOverflow();
    const beyond = refused.findIndex(({ recoverable }) => !recoverable);
    return beyond < 0 ? refused : refused.slice(0, beyond);
  }

  readonly #translateAndMove = (): void => {
    const { length } = this.#bytes;
    this.#parts = 0;
    for (let done = 0; done < length;) {
      done = this.#translateFrom(done, length);
      if (done < 0) return;
    }
    this.#move();
  };

  #move(): void {
    const bytes = this.#bytes;
    for (let n = 0, at = 0; n < this.#parts; n++) {
      const offset = this.#offsets[n]!;
      const length = this.#lengths[n]!;
      if (offset < 0) bytes.fill(0, at, at + length);
      else if (this.#kind === "w") copy(bytes, at, this.#engine.bytes(offset + length), offset, length);
      else copy(this.#engine.bytes(offset + length), offset, bytes, at, length);
      at += length;
    }
  }

  /** Translates one batch of the access from `start` on: how far the access is translated, or -1: refused. Lanes within a run are skipped. */
  #translateFrom(start: number, length: number): number {
    const port = this.#port;
    const { requests } = port;
    const low = this.#low;
    const high = this.#high;
    const need = NEED[this.#kind];
    const route = this.#requester.route();
    let lanes = 0;
    for (let at = start; at < length && lanes < port.capacity; lanes++) {
      const sum = low + at;
      const laneHigh = high + Math.floor(sum / TWO32);
      if (laneHigh >= TWO32) break;
      requests[lanes * 4] = sum;
      requests[lanes * 4 + 1] = laneHigh;
      requests[lanes * 4 + 2] = route;
      requests[lanes * 4 + 3] = need;
      at += runRest(sum >>> 0, laneHigh, this.#strideLg2);
    }
    // The access runs past 2^64: there is no such address.
    if (lanes === 0) return this.#refuse(this.#details("address-width", 0, 0, this.#kind));
    return this.#collect(start, length, lanes, port.translate(lanes) !== 0);
  }

  #collect(start: number, length: number, lanes: number, refused: boolean): number {
    const { requests, results } = this.#port;
    const low = this.#low;
    const high = this.#high;
    let done = start;
    for (let lane = 0; lane < lanes && done < length; lane++) {
      const iovaLow = (low + done) >>> 0;
      const iovaHigh = high + Math.floor((low + done) / TWO32);
      const laneLow = requests[lane * 4] ?? 0;
      const laneHigh = requests[lane * 4 + 1] ?? 0;
      if (laneHigh < iovaHigh || (laneHigh === iovaHigh && laneLow < iovaLow)) continue;
      if (laneHigh !== iovaHigh || laneLow !== iovaLow) break;
      const resultLow = results[lane * 2] ?? 0;
      const resultHigh = results[lane * 2 + 1] ?? 0;
      if (resultHigh >>> 31) return this.#refuse(this.#refused(iovaLow, iovaHigh, this.#kind, lane, addressOf(resultLow, resultHigh)));
      const identity = (resultHigh >>> 30) & 1;
      const lg2 = (resultHigh >>> 24) & 0x3f;
      this.#strideLg2 = identity ? 30 : Math.min(lg2, 30);
      const n = Math.min(runRest(iovaLow, iovaHigh, lg2), length - done);
      if (!this.#place(resultLow, identity ? iovaHigh : resultHigh & HPA_HIGH, n, iovaLow, iovaHigh)) return -1;
      done += n;
    }
    // Lanes beyond the ones used may have left records of refusals that never happened.
    if (refused) this.#port.takeFaults();
    return done;
  }

  /** Cuts [hpa, hpa + length) where slots end; false: some of it has no bytes that the access could use. */
  #place(hpaLow: number, hpaHigh: number, length: number, iovaLow: number, iovaHigh: number): boolean {
    const span = this.#span;
    for (let at = 0; at < length; ) {
      const sum = hpaLow + at;
      const found = this.#engine.locate(sum >>> 0, hpaHigh + Math.floor(sum / TWO32), span);
      if (!found || span.kind === "device" || (span.kind === "zero" && this.#kind === "w")) {
        const reason = found ? `${span.kind as "device" | "zero"}-memory` as const : "no-memory";
        this.#refuse(this.#details(reason, iovaLow + at, iovaHigh, this.#kind));
        return false;
      }
      const n = Math.min(span.bytes, length - at);
      this.#offsets[this.#parts] = span.kind === "zero" ? -1 : span.offset;
      this.#lengths[this.#parts++] = n;
      at += n;
    }
    return true;
  }

  #refuse(details: DmaFaultDetails): -1 {
    this.#refusal = details;
    return -1;
  }

  #details(reason: DmaFaultReason, iovaLow: number, iovaHigh: number, access: Access, record?: RawFault): DmaFaultDetails {
    const binding = this.#requester.binding();
    this.record = record;
    return {
      reason,
      iova: addressOf(iovaLow, iovaHigh),
      access,
      device: this.#requester.name,
      label: binding?.label,
      cookie: binding?.cookie,
      pasid: this.#requester.pasid(),
      level: record && record.stage !== 0 ? record.level : -1,
      stage: record?.stage ?? 0,
      pte: record?.pte ?? 0n,
      recoverable: record?.recoverable ?? false,
    };
  }

  /** Why a lane was refused, from its record; "dropped" if the ring had no room for it. */
  #refused(iovaLow: number, iovaHigh: number, access: Access, lane: number, result: bigint): DmaFaultDetails {
    const wanted = L.REASON_NAMES[Number(result & 0xffn)];
    const record = this.#port.takeFaults().findLast((fault) => fault.lane === lane && fault.reason === wanted);
    this.#port.takeOverflow();
    return this.#details(record?.reason ?? "dropped", iovaLow, iovaHigh, access, record);
  }
}
