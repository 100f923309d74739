// A device's view of memory through its IOMMU: translate, read, write. An access that waits for pages holds no section, and starts
// over. Imports engine, dma-access, page-requests, and the uAPI's error. iova is 64 bits.
import { EngineError } from "../engine/errors.js";
import type { EngineAccess } from "../engine/access.js";
import { HOST_THREAD } from "../engine/layout.js";
import type { Port, RawFault } from "../engine/port.js";
import { IoctlError } from "../uapi/errno.js";
import { type Access, DmaAccess, type Requester } from "./dma-access.js";
import { DmaFault, type DmaFaultDetails, type DmaFaultReason } from "./dma-fault.js";
import { checkWait, PageRequests, type PageWait, Tries } from "./page-requests.js";

export type { Access } from "./dma-access.js";

function checkIova(call: string, iova: unknown): bigint | number {
  if (typeof iova === "number" && Number.isSafeInteger(iova) && iova >= 0) return iova;
  if (typeof iova === "bigint" && iova >= 0n && iova < 1n << 64n) return iova;
  throw new EngineError("BAD_ARGUMENT", `${call} wants an address of 64 bits, not ${String(iova)}`, "iova", iova);
}

function lowOf(iova: bigint | number): number {
  return typeof iova === "number" ? iova >>> 0 : Number(iova & 0xffffffffn);
}

function highOf(iova: bigint | number): number {
  return typeof iova === "number" ? Math.floor(iova / 2 ** 32) : Number(iova >> 32n);
}

function checkBytes(call: string, bytes: Uint8Array): void {
  if (!(bytes instanceof Uint8Array)) throw new EngineError("BAD_ARGUMENT", `${call} wants a Uint8Array`, "bytes", bytes);
}

function because(refusal: DmaFaultDetails, reason: DmaFaultReason): DmaFault {
  return new DmaFault({ ...refusal, reason });
}

function wouldDeadlock(call: string, { iova }: DmaFaultDetails): IoctlError {
  const hint = "await `read` or `write` there, outside of sections";
  return new IoctlError("EDEADLK", call, `the page at iova 0x${iova.toString(16)} has to be asked for, and this thread has to answer`,
    { field: "iova", value: iova, hint });
}

export class DmaView {
  readonly #thread: number;
  readonly #port: Port;
  readonly #access: DmaAccess;
  readonly #requests: PageRequests;
  readonly #mayAsk: boolean;
  readonly #pasid: () => number | undefined;

  /** @internal HostDevice.dma() makes views. Throws EngineError BAD_ARGUMENT. */
  constructor(engine: EngineAccess, port: Port, requester: Requester, wait: PageWait = {}) {
    this.#thread = engine.thread;
    this.#port = port;
    this.#access = new DmaAccess(engine, port, requester);
    this.#requests = new PageRequests(engine, () => requester.reported(), checkWait(wait));
    this.#mayAsk = requester.pageRequests;
    this.#pasid = () => requester.pasid();
  }

  /** The PASID that its faults tell; undefined: DMA without one. */
  get pasid(): number | undefined {
    return this.#pasid();
  }

  /**
   * Host-physical address that an access to iova would use. Throws DmaFault, as an access that does not wait; EngineError BAD_ARGUMENT
   * for a bad argument.
   */
  translate(iova: bigint | number, access: Access = "r"): bigint {
    checkIova("translate", iova);
    if (access !== "r" && access !== "w") {
      throw new EngineError("BAD_ARGUMENT", `translate wants "r" or "w", not ${String(access)}`, "access", access);
    }
    const answer = this.#access.translate(lowOf(iova), highOf(iova), access);
    if (typeof answer !== "bigint") throw this.#final(answer);
    return answer;
  }

  /**
   * Reads `into` full, or `length` bytes into a new array. Throws DmaFault (and leaves `into` as it was) if any part is refused: it
   * does not wait for pages.
   */
  readSync(iova: bigint | number, into: number | Uint8Array): Uint8Array {
    const bytes = this.#target("readSync", into);
    this.#once(checkIova("readSync", iova), bytes, "r");
    return bytes;
  }

  /** Writes all of `bytes`. Throws DmaFault, with nothing written, if any part is refused. */
  writeSync(iova: bigint | number, bytes: Uint8Array): void {
    checkBytes("writeSync", bytes);
    this.#once(checkIova("writeSync", iova), bytes, "w");
  }

  /** As readSync; but what pages could mend is asked for, and once they are there the access starts over. */
  async read(iova: bigint | number, into: number | Uint8Array): Promise<Uint8Array> {
    const bytes = this.#target("read", into);
    await this.#patiently(checkIova("read", iova), bytes, "r");
    return bytes;
  }

  /** As writeSync, and waits as `read` does. */
  async write(iova: bigint | number, bytes: Uint8Array): Promise<void> {
    checkBytes("write", bytes);
    await this.#patiently(checkIova("write", iova), bytes, "w");
  }

  /**
   * As `read`, on a thread that may stand still meanwhile. Throws IoctlError EDEADLK where it would have to wait on the host's
   * thread, which has to answer, or inside a section, which the answer may have to wait for.
   */
  readBlocking(iova: bigint | number, into: number | Uint8Array): Uint8Array {
    const bytes = this.#target("readBlocking", into);
    this.#standing("readBlocking", checkIova("readBlocking", iova), bytes, "r");
    return bytes;
  }

  /** As `write`, on a thread that may stand still meanwhile. Throws as readBlocking. */
  writeBlocking(iova: bigint | number, bytes: Uint8Array): void {
    checkBytes("writeBlocking", bytes);
    this.#standing("writeBlocking", checkIova("writeBlocking", iova), bytes, "w");
  }

  #once(iova: bigint | number, bytes: Uint8Array, access: Access): void {
    const refusal = this.#access.make(lowOf(iova), highOf(iova), bytes, access);
    if (refusal !== undefined) throw this.#final(refusal);
  }

  async #patiently(iova: bigint | number, bytes: Uint8Array, access: Access): Promise<void> {
    const tries = new Tries(this.#requests.wait.retries);
    for (;;) {
      const refusal = this.#access.make(lowOf(iova), highOf(iova), bytes, access);
      if (refusal === undefined) return;
      const pause = this.#nextTry(refusal, tries);
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
      const verdict = await this.#requests.ask(this.#missing(refusal, iova, bytes));
      if (verdict !== undefined) throw because(refusal, verdict);
    }
  }

  #standing(call: string, iova: bigint | number, bytes: Uint8Array, access: Access): void {
    const tries = new Tries(this.#requests.wait.retries);
    for (;;) {
      const refusal = this.#access.make(lowOf(iova), highOf(iova), bytes, access);
      if (refusal === undefined) return;
      const pause = this.#nextTry(refusal, tries);
      if (this.#thread === HOST_THREAD || this.#port.inSection) throw wouldDeadlock(call, refusal);
      if (pause > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause);
      const verdict = this.#requests.askBlocking(this.#missing(refusal, iova, bytes));
      if (verdict !== undefined) throw because(refusal, verdict);
    }
  }

  /** What is missing from there on to the end of the access. */
  #missing({ iova: first, access }: DmaFaultDetails, iova: bigint | number, bytes: Uint8Array): RawFault[] {
    return this.#access.missing(first, BigInt(iova) + BigInt(bytes.length), access);
  }

  /** Milliseconds to wait before the next try. Throws the fault when there is none. */
  #nextTry(refusal: DmaFaultDetails, tries: Tries): number {
    if (!refusal.recoverable || !this.#mayAsk) throw this.#final(refusal);
    const pause = tries.next(refusal.iova);
    if (pause === undefined) throw because(refusal, "page-request-retries");
    return pause;
  }

  /** The access is over: its fault, which is reported. */
  #final(refusal: DmaFaultDetails): DmaFault {
    if (this.#access.record !== undefined) this.#requests.report(this.#access.record);
    return new DmaFault(refusal);
  }

  #target(call: string, into: number | Uint8Array): Uint8Array {
    const bytes = typeof into === "number" ? new Uint8Array(this.#length(into)) : into;
    if (bytes instanceof Uint8Array) return bytes;
    throw new EngineError("BAD_ARGUMENT", `${call} wants a length or a Uint8Array`, "into", into);
  }

  #length(length: number): number {
    if (Number.isInteger(length) && length >= 0 && length <= 0xffffffff) return length;
    throw new EngineError("BAD_ARGUMENT", `must be an integer in 0..4294967295, not ${length}`, "length", length);
  }
}
