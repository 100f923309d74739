// A device's view of memory through its IOMMU: translate, read, write. An access is cut where runs and slots end; all of it
// is translated before the first byte moves, inside one section. Imports engine, dma-fault. iova is 64 bits.
import { EngineError } from "../engine/errors.js";
import type { EngineAccess, Span } from "../engine/access.js";
import * as L from "../engine/layout.js";
import type { Port, RawFault } from "../engine/port.js";
import { DmaFault, type DmaFaultReason } from "./dma-fault.js";

export type Access = "r" | "w";
const NEED = { r: L.PERM_R, w: L.PERM_W } as const;
const TWO32 = 2 ** 32;
const HPA_HIGH = 0xffffff;

/** Who the view belongs to. Asked when it matters: a device may be bound, and a PASID attached, after the view is made. */
export interface Requester {
  name: string;
  /** What faults report. */
  binding(): { label: number; cookie: bigint | undefined } | undefined;
  /** The engine's route of its requests. */
  route(): number;
  /** The vPASID that faults report; undefined: DMA without one. */
  pasid(): number | undefined;
}

function checkIova(call: string, iova: unknown): bigint {
  const value = typeof iova === "number" && Number.isSafeInteger(iova) ? BigInt(iova) : iova;
  if (typeof value === "bigint" && value >= 0n && value < 1n << 64n) return value;
  throw new EngineError("BAD_ARGUMENT", `${call} wants an address of 64 bits, not ${String(iova)}`, "iova", iova);
}

/** Bytes from an address to the end of the aligned run of 2^lg2 bytes around it. */
function runRest(low: number, high: number, lg2: number): number {
  if (lg2 > 52) return Number.MAX_SAFE_INTEGER;
  const size = 2 ** lg2;
  return lg2 <= 31 ? size - (low & (size - 1)) : size - ((high % 2 ** (lg2 - 32)) * TWO32 + low);
}

export class DmaView {
  readonly #engine: EngineAccess;
  readonly #port: Port;
  readonly #requester: Requester;
  /** The access being made: memory offsets (-1: reads as zero) and lengths, in order. */
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  readonly #span: Span = { kind: "memory", offset: 0, bytes: 0 };
  /** Size of the last run: lanes are laid that far apart. */
  #stride = 4096;

  /** @internal HostDevice.dma() makes views. */
  constructor(engine: EngineAccess, port: Port, requester: Requester) {
    this.#engine = engine;
    this.#port = port;
    this.#requester = requester;
  }

  /** The PASID that its faults tell; undefined: DMA without one. */
  get pasid(): number | undefined {
    return this.#requester.pasid();
  }

  /** Host-physical address that an access to iova would use. Throws DmaFault; EngineError BAD_ARGUMENT for a bad argument. */
  translate(iova: bigint | number, access: Access = "r"): bigint {
    const address = checkIova("translate", iova);
    const need = this.#need("translate", access);
    const low = Number(address & 0xffffffffn);
    const high = Number(address >> 32n);
    if (!this.#port.translateHalves(low, high, this.#requester.route(), need)) throw this.#refused(low, high, access, 0, this.#port.result);
    const { result } = this.#port;
    return (result >> L.RESULT_IDENTITY_BIT) & 1n ? address : BigInt.asUintN(56, result);
  }

  /**
   * Reads `into` full, or `length` bytes into a new array. Throws DmaFault (and leaves `into` as it was) if any part is refused.
   */
  readSync(iova: bigint | number, into: number | Uint8Array): Uint8Array {
    const bytes = typeof into === "number" ? new Uint8Array(this.#length(into)) : into;
    if (!(bytes instanceof Uint8Array)) throw new EngineError("BAD_ARGUMENT", "readSync wants a length or a Uint8Array", "into", into);
    this.#access(checkIova("readSync", iova), bytes.length, "r", (memory, offset, at, length) => {
      if (offset < 0) bytes.fill(0, at, at + length);
      else bytes.set(memory.subarray(offset, offset + length), at);
    });
    return bytes;
  }

  /** Writes all of `bytes`. Throws DmaFault, with nothing written, if any part is refused. */
  writeSync(iova: bigint | number, bytes: Uint8Array): void {
    if (!(bytes instanceof Uint8Array)) throw new EngineError("BAD_ARGUMENT", "writeSync wants a Uint8Array", "bytes", bytes);
    this.#access(checkIova("writeSync", iova), bytes.length, "w", (memory, offset, at, length) => {
      memory.set(bytes.subarray(at, at + length), offset);
    });
  }

  /** As readSync. A device that can wait for its page requests waits here. */
  async read(iova: bigint | number, into: number | Uint8Array): Promise<Uint8Array> {
    return this.readSync(iova, into);
  }

  /** As writeSync. */
  async write(iova: bigint | number, bytes: Uint8Array): Promise<void> {
    this.writeSync(iova, bytes);
  }

  #need(call: string, access: Access): number {
    if (access === "r" || access === "w") return NEED[access];
    throw new EngineError("BAD_ARGUMENT", `${call} wants "r" or "w", not ${String(access)}`, "access", access);
  }

  #length(length: number): number {
    if (Number.isInteger(length) && length >= 0 && length <= 0xffffffff) return length;
    throw new EngineError("BAD_ARGUMENT", `must be an integer in 0..4294967295, not ${length}`, "length", length);
  }

  #access(iova: bigint, length: number, access: Access, move: (memory: Uint8Array, offset: number, at: number, n: number) => void): void {
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
