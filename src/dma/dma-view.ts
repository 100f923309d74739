// A device's view of memory through its IOMMU: translate, read, write. An access that waits for pages holds no section, and starts
// over. Imports engine, dma-access, page-requests, and the uAPI's error. iova is 64 bits.
import { EngineError } from "../engine/errors.js";
import type { EngineAccess } from "../engine/access.js";
import { HOST_THREAD } from "../engine/layout.js";
import type { Port } from "../engine/port.js";
import { IoctlError } from "../uapi/errno.js";
import { type Access, type Attempt, DmaAccess, type Requester } from "./dma-access.js";
import { DmaFault, type DmaFaultReason } from "./dma-fault.js";
import { checkWait, PageRequests, type PageWait, Tries } from "./page-requests.js";

export type { Access } from "./dma-access.js";

function checkIova(call: string, iova: unknown): bigint {
  const value = typeof iova === "number" && Number.isSafeInteger(iova) ? BigInt(iova) : iova;
  if (typeof value === "bigint" && value >= 0n && value < 1n << 64n) return value;
  throw new EngineError("BAD_ARGUMENT", `${call} wants an address of 64 bits, not ${String(iova)}`, "iova", iova);
}

function reading(call: string, iova: unknown, bytes: Uint8Array): Attempt {
  return {
    iova: checkIova(call, iova), length: bytes.length, access: "r",
    move: (memory, offset, at, length) => {
      if (offset < 0) bytes.fill(0, at, at + length);
      else bytes.set(memory.subarray(offset, offset + length), at);
    },
  };
}

function writing(call: string, iova: unknown, bytes: Uint8Array): Attempt {
  if (!(bytes instanceof Uint8Array)) throw new EngineError("BAD_ARGUMENT", `${call} wants a Uint8Array`, "bytes", bytes);
  return {
    iova: checkIova(call, iova), length: bytes.length, access: "w",
    move: (memory, offset, at, length) => memory.set(bytes.subarray(at, at + length), offset),
  };
}

function because(fault: DmaFault, reason: DmaFaultReason): DmaFault {
  return new DmaFault({ ...fault, reason });
}

function wouldDeadlock(call: string, { iova }: DmaFault): IoctlError {
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
    const address = checkIova("translate", iova);
    if (access !== "r" && access !== "w") {
      throw new EngineError("BAD_ARGUMENT", `translate wants "r" or "w", not ${String(access)}`, "access", access);
    }
    const answer = this.#access.translate(address, access);
    if (answer instanceof DmaFault) throw this.#final(answer);
    return answer;
  }

  /**
   * Reads `into` full, or `length` bytes into a new array. Throws DmaFault (and leaves `into` as it was) if any part is refused: it
   * does not wait for pages.
   */
  readSync(iova: bigint | number, into: number | Uint8Array): Uint8Array {
    const bytes = this.#target("readSync", into);
    this.#once(reading("readSync", iova, bytes));
    return bytes;
  }

  /** Writes all of `bytes`. Throws DmaFault, with nothing written, if any part is refused. */
  writeSync(iova: bigint | number, bytes: Uint8Array): void {
    this.#once(writing("writeSync", iova, bytes));
  }

  /** As readSync; but what pages could mend is asked for, and once they are there the access starts over. */
  async read(iova: bigint | number, into: number | Uint8Array): Promise<Uint8Array> {
    const bytes = this.#target("read", into);
    await this.#patiently(reading("read", iova, bytes));
    return bytes;
  }

  /** As writeSync, and waits as `read` does. */
  async write(iova: bigint | number, bytes: Uint8Array): Promise<void> {
    await this.#patiently(writing("write", iova, bytes));
  }

  /**
   * As `read`, on a thread that may stand still meanwhile. Throws IoctlError EDEADLK where it would have to wait on the host's
   * thread, which has to answer, or inside a section, which the answer may have to wait for.
   */
  readBlocking(iova: bigint | number, into: number | Uint8Array): Uint8Array {
    const bytes = this.#target("readBlocking", into);
    this.#standing("readBlocking", reading("readBlocking", iova, bytes));
    return bytes;
  }

  /** As `write`, on a thread that may stand still meanwhile. Throws as readBlocking. */
  writeBlocking(iova: bigint | number, bytes: Uint8Array): void {
    this.#standing("writeBlocking", writing("writeBlocking", iova, bytes));
  }

  #once(attempt: Attempt): void {
    const fault = this.#access.make(attempt);
    if (fault !== undefined) throw this.#final(fault);
  }

  async #patiently(attempt: Attempt): Promise<void> {
    const tries = new Tries(this.#requests.wait.retries);
    for (let fault = this.#access.make(attempt); fault !== undefined; fault = this.#access.make(attempt)) {
      const pause = this.#nextTry(fault, tries);
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
      const refusal = await this.#requests.ask(this.#access.missing(attempt, fault.iova));
      if (refusal !== undefined) throw because(fault, refusal);
    }
  }

  #standing(call: string, attempt: Attempt): void {
    const tries = new Tries(this.#requests.wait.retries);
    for (let fault = this.#access.make(attempt); fault !== undefined; fault = this.#access.make(attempt)) {
      const pause = this.#nextTry(fault, tries);
      if (this.#thread === HOST_THREAD || this.#port.inSection) throw wouldDeadlock(call, fault);
      if (pause > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause);
      const refusal = this.#requests.askBlocking(this.#access.missing(attempt, fault.iova));
      if (refusal !== undefined) throw because(fault, refusal);
    }
  }

  /** Milliseconds to wait before the next try. Throws the fault when there is none. */
  #nextTry(fault: DmaFault, tries: Tries): number {
    if (!fault.recoverable || !this.#mayAsk) throw this.#final(fault);
    const pause = tries.next(fault.iova);
    if (pause === undefined) throw because(fault, "page-request-retries");
    return pause;
  }

  /** The access is over: its fault, which is reported. */
  #final(fault: DmaFault): DmaFault {
    if (this.#access.record !== undefined) this.#requests.report(this.#access.record);
    return fault;
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
