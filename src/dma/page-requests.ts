// What a device does with an access that was refused: it asks for the pages and waits, as often as may be, or gives up and reports it.
// Page requests are the device's (PCI Express, Page Request Interface): the IOMMU only passes them on, so they are made here, on the
// device's own thread. Imports engine, dma-fault, and the uAPI's error.
import type { EngineAccess } from "../engine/access.js";
import { EngineError } from "../engine/errors.js";
import type { RawFault } from "../engine/port-records.js";
import { PAGE_RESPONSE_INVALID, PAGE_RESPONSE_SUCCESS } from "../engine/stalls.js";
import type { DmaFaultReason } from "./dma-fault.js";

/** How long, and how often, a device waits for pages. */
export interface PageWait {
  /** Milliseconds that it waits for one answer; Infinity: for ever. Default 10,000. */
  readonly timeout?: number;
  /** Answers of SUCCESS after which it still cannot go on, until it gives up. Default 16. */
  readonly retries?: number;
}

const PAGE_MASK = 0xfffn;
/** Milliseconds before an access that has got nowhere is tried again; twice as many each time, up to the longest. */
const FIRST_PAUSE = 1;
const LONGEST_PAUSE = 64;

/** Throws EngineError BAD_ARGUMENT. */
export function checkWait({ timeout = 10_000, retries = 16 }: PageWait): Required<PageWait> {
  if (typeof timeout !== "number" || !(timeout >= 0)) throw new EngineError("BAD_ARGUMENT", `must be milliseconds, not ${String(timeout)}`, "timeout", timeout);
  if (!Number.isInteger(retries) || retries < 0) throw new EngineError("BAD_ARGUMENT", `must be a number of tries, not ${String(retries)}`, "retries", retries);
  return { timeout, retries };
}

/** The tries of one access: how often it has not got beyond the same address. */
export class Tries {
  #at = -1n;
  #same = 0;

  constructor(private readonly most: number) {}

  /** Milliseconds to wait before one more try that begins to fail at `iova`; undefined: no more. */
  next(iova: bigint): number | undefined {
    this.#same = iova === this.#at ? this.#same + 1 : 0;
    this.#at = iova;
    if (this.#same > this.most) return undefined;
    return this.#same === 0 ? 0 : Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (this.#same - 1));
  }
}

export class PageRequests {
  constructor(private readonly engine: EngineAccess, private readonly reported: () => void, readonly wait: Required<PageWait>) {}

  /** An access was refused for good. */
  report(fault: RawFault): void {
    this.engine.reports.push(fault);
    this.reported();
  }

  /** Asks for the pages of these refusals, in order; undefined: try again, else why not. */
  async ask(refusals: readonly RawFault[]): Promise<DmaFaultReason | undefined> {
    const group = this.#send(refusals);
    if (group === undefined) return undefined;
    try {
      return verdict(await this.engine.stalls.wait(group, this.wait.timeout));
    } finally {
      this.engine.stalls.close(group);
    }
  }

  /** The same on a thread that may block. */
  askBlocking(refusals: readonly RawFault[]): DmaFaultReason | undefined {
    const group = this.#send(refusals);
    if (group === undefined) return undefined;
    try {
      return verdict(this.engine.stalls.waitBlocking(group, this.wait.timeout));
    } finally {
      this.engine.stalls.close(group);
    }
  }

  /**
   * The group that waits for an answer; undefined when nothing is missing any more, or there is no room for one more, or for the last of
   * its requests: then the device does what it does after an answer of Success, which is what the hardware gives it. VT-d 7.4 (page
   * request queue overflow), SMMUv3 8.1 (PRI queue overflow).
   */
  #send(refusals: readonly RawFault[]): number | undefined {
    if (refusals.length === 0) return undefined;
    const { stalls, reports } = this.engine;
    const group = stalls.open();
    if (group === undefined) return undefined;
    let sent = false;
    for (const [n, fault] of refusals.entries()) {
      sent = reports.push({ ...fault, iova: fault.iova & ~PAGE_MASK }, { group, last: n === refusals.length - 1 });
    }
    this.reported();
    if (sent) return group;
    stalls.close(group);
    return undefined;
  }
}

function verdict(answer: number | undefined): DmaFaultReason | undefined {
  if (answer === undefined) return "page-request-timeout";
  if (answer === PAGE_RESPONSE_SUCCESS) return undefined;
  return answer === PAGE_RESPONSE_INVALID ? "page-request-invalid" : "page-request-failed";
}
