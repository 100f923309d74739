// One access of a device, made or refused: translated piece by piece, cut where runs and slots end, and moved only when all of it is
// translated, inside one section. It does not wait; dma-view.ts does. Imports engine, dma-fault. iova is 64 bits.
import type { EngineAccess, Span } from "../engine/access.js";
import * as L from "../engine/layout.js";
import type { Port, RawFault } from "../engine/port.js";
import { DmaFault, type DmaFaultReason } from "./dma-fault.js";

export type Access = "r" | "w";
const NEED = { r: L.PERM_R, w: L.PERM_W } as const;
const TWO32 = 2 ** 32;
const HPA_HIGH = 0xffffff;
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
}

export type Move = (memory: Uint8Array, offset: number, at: number, n: number) => void;

/** An access as it is made, again and again. */
export interface Attempt {
  readonly iova: bigint;
  readonly length: number;
  readonly access: Access;
  readonly move: Move;
}

/** Bytes from an address to the end of the aligned run of 2^lg2 bytes around it. */
function runRest(low: number, high: number, lg2: number): number {
  if (lg2 > 52) return Number.MAX_SAFE_INTEGER;
  const size = 2 ** lg2;
  return lg2 <= 31 ? size - (low & (size - 1)) : size - ((high % 2 ** (lg2 - 32)) * TWO32 + low);
}

export class DmaAccess {
  readonly #engine: EngineAccess;
  readonly #port: Port;
  readonly #requester: Requester;
  /** The access being made: memory offsets (-1: reads as zero) and lengths, in order. */
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  readonly #span: Span = { kind: "memory", offset: 0, bytes: 0 };
  /** Size of the last run: lanes are laid that far apart. */
  #stride = 4096;
  /** The record of the last fault; undefined when the engine made none. */
  record: RawFault | undefined;

  constructor(engine: EngineAccess, port: Port, requester: Requester) {
    this.#engine = engine;
    this.#port = port;
    this.#requester = requester;
  }

  /** The host-physical address of one byte, or why it is refused. */
  translate(iova: bigint, access: Access): bigint | DmaFault {
    const low = Number(iova & 0xffffffffn);
    const high = Number(iova >> 32n);
    const translated = this.#port.translateHalves(low, high, this.#requester.route(), NEED[access]);
    const { result } = this.#port;
    if (!translated) return this.#refused(low, high, access, 0, result);
    return (result >> L.RESULT_IDENTITY_BIT) & 1n ? iova : BigInt.asUintN(56, result);
  }

  /** Why the access cannot be made now; undefined once it is made. */
  make({ iova, length, access, move }: Attempt): DmaFault | undefined {
    try {
      this.#translateAndMove(iova, length, access, move);
      return undefined;
    } catch (error) {
      if (error instanceof DmaFault) return error;
      throw error;
    }
  }

  /** The refusals of an access, from `first` on and one a page, for which pages could be asked: up to one for which they could not. */
  missing({ iova, length, access }: Attempt, first: bigint): RawFault[] {
    const end = iova + BigInt(length);
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

  #translateAndMove(iova: bigint, length: number, access: Access, move: Move): void {
    const low = Number(iova & 0xffffffffn);
    const high = Number(iova >> 32n);
    this.#port.batch(() => {
      this.#offsets.length = 0;
      this.#lengths.length = 0;
      for (let done = 0; done < length; ) done = this.#translateFrom(low, high, done, length, access);
      const memory = new Uint8Array(this.#engine.memory.buffer);
      let at = 0;
      for (let i = 0; i < this.#lengths.length; i++) {
        const n = this.#lengths[i] ?? 0;
        move(memory, this.#offsets[i] ?? 0, at, n);
        at += n;
      }
    });
  }

  /** Translates one batch of the access from `start` on: how far the access is translated. Lanes within a run are skipped. */
  #translateFrom(low: number, high: number, start: number, length: number, access: Access): number {
    const port = this.#port;
    const { requests } = port;
    const need = NEED[access];
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
      at += runRest(sum >>> 0, laneHigh, Math.log2(this.#stride));
    }
    // The access runs past 2^64: there is no such address.
    if (lanes === 0) throw this.#fault("address-width", 0, 0, access);
    const refused = port.translate(lanes) !== 0;
    return this.#collect(low, high, start, length, access, lanes, refused);
  }

  #collect(low: number, high: number, start: number, length: number, access: Access, lanes: number, refused: boolean): number {
    const { requests, results } = this.#port;
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
      if (resultHigh >>> 31) throw this.#refused(iovaLow, iovaHigh, access, lane, (BigInt(resultHigh) << 32n) | BigInt(resultLow));
      const identity = (resultHigh >>> 30) & 1;
      const lg2 = (resultHigh >>> 24) & 0x3f;
      this.#stride = identity ? 2 ** 30 : 2 ** Math.min(lg2, 30);
      const n = Math.min(runRest(iovaLow, iovaHigh, lg2), length - done);
      this.#place(resultLow, identity ? iovaHigh : resultHigh & HPA_HIGH, n, access, iovaLow, iovaHigh);
      done += n;
    }
    // Lanes beyond the ones used may have left records of refusals that never happened.
    if (refused) this.#port.takeFaults();
    return done;
  }

  /** Cuts [hpa, hpa + length) where slots end. */
  #place(hpaLow: number, hpaHigh: number, length: number, access: Access, iovaLow: number, iovaHigh: number): void {
    const span = this.#span;
    for (let at = 0; at < length; ) {
      const sum = hpaLow + at;
      const found = this.#engine.locate(sum >>> 0, hpaHigh + Math.floor(sum / TWO32), span);
      if (!found || span.kind === "device" || (span.kind === "zero" && access === "w")) {
        throw this.#fault(found ? `${span.kind as "device" | "zero"}-memory` : "no-memory", iovaLow + at, iovaHigh, access);
      }
      const n = Math.min(span.bytes, length - at);
      this.#offsets.push(span.kind === "zero" ? -1 : span.offset);
      this.#lengths.push(n);
      at += n;
    }
  }

  #fault(reason: DmaFaultReason, iovaLow: number, iovaHigh: number, access: Access, record?: RawFault): DmaFault {
    const binding = this.#requester.binding();
    this.record = record;
    return new DmaFault({
      reason,
      iova: BigInt(iovaHigh) * 0x100000000n + BigInt(iovaLow),
      access,
      device: this.#requester.name,
      label: binding?.label,
      cookie: binding?.cookie,
      pasid: this.#requester.pasid(),
      level: record && record.stage !== 0 ? record.level : -1,
      stage: record?.stage ?? 0,
      pte: record?.pte ?? 0n,
      recoverable: record?.recoverable ?? false,
    });
  }

  /** The fault of a refused lane, from its record; "dropped" if the ring had no room for it. */
  #refused(iovaLow: number, iovaHigh: number, access: Access, lane: number, result: bigint): DmaFault {
    const wanted = L.REASON_NAMES[Number(result & 0xffn)];
    const record = this.#port.takeFaults().findLast((fault) => fault.lane === lane && fault.reason === wanted);
    this.#port.takeOverflow();
    return this.#fault(record?.reason ?? "dropped", iovaLow, iovaHigh, access, record);
  }
}
