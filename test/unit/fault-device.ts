// A device that faults: its accesses go through a port, and what is refused there it reports as an event, or asks for as pages.
// The records are those of the real engine.
import type { SimulatedHost } from "../../src/create-host.js";
import { ReportQueue } from "../../src/engine/report-queue.js";
import { PERM_R, PERM_W } from "../../src/engine/layout.js";
import type { RawFault } from "../../src/engine/port-records.js";
import { Stalls } from "../../src/engine/stalls.js";
import type { FaultRecord, PageRequest } from "../../src/index.js";

const PERM = { r: PERM_R, w: PERM_W } as const;

export interface Asked {
  readonly group: number;
  /** The code that the device gets. */
  readonly answer: Promise<number | undefined>;
}

export class FaultingDevice {
  readonly queue: ReportQueue;
  readonly stalls: Stalls;

  constructor(readonly host: SimulatedHost, readonly name: string) {
    this.queue = new ReportQueue(host.engine);
    this.stalls = new Stalls(host.engine);
  }

  /** The engine's record of an access that is refused; throws if it is not. */
  refused(iova: bigint | number, access: "r" | "w" = "r", pasid?: number): RawFault {
    const { engine, port } = this.host;
    const device = this.host.devices().find(({ name }) => name === this.name)!;
    const requester = pasid === undefined ? device.requester : device.requesterOf(pasid)!;
    const address = BigInt(iova);
    port.takeFaults();
    const route = engine.route(requester.rid, requester.pasid);
    const done = port.translateHalves(Number(address & 0xffffffffn), Number(address >> 32n), route, PERM[access]);
    const [fault] = port.takeFaults();
    if (done || fault === undefined) throw new Error(`${this.name} was not refused at 0x${address.toString(16)}`);
    return fault;
  }

  event(iova: bigint | number, access: "r" | "w" = "r", pasid?: number): void {
    this.queue.push(this.refused(iova, access, pasid));
    this.host.drainFaults();
  }

  /** Asks for pages in one group. `unfinished`: the last request has not come yet. */
  ask(iovas: readonly (bigint | number)[], access: "r" | "w" = "r", pasid?: number, unfinished = false): Asked {
    return this.push(iovas.map((iova) => this.refused(iova, access, pasid)), unfinished);
  }

  push(faults: readonly RawFault[], unfinished = false, group = this.stalls.open()!): Asked {
    faults.forEach((fault, n) => this.queue.push(fault, { group, last: !unfinished && n === faults.length - 1 }));
    this.host.drainFaults();
    const answer = this.stalls.wait(group, 10_000);
    void answer.then(() => this.stalls.close(group));
    return { group, answer };
  }
}

/** The record, which must be a page request. */
export function asRequest(record: FaultRecord | undefined): PageRequest {
  if (record?.kind !== "request") throw new Error(`no page request, but ${record?.kind}`);
  return record;
}
