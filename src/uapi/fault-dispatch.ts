// The host's drain: takes what the engine's queue holds, finds whose it is, gathers page requests until their group is complete, and
// puts both into the fault queue of the fd that the device is bound to. May import engine/ (types, layout), device.ts, ids.ts, ioasid-fd.ts
// (types), requests.ts, and the files that are named for faults. RFC section 5.6. Runs on the host's thread only.
//
// Until it is drained, what workers report waits in the engine's queue: every call of the uAPI and every look at a fault queue drains it,
// a view of the host's thread drains it as soon as it has reported, and while somebody awaits a record it is watched.

import type { FaultReport, ReportQueue } from "../engine/report-queue.js";
import type { RawFault } from "../engine/port-records.js";
import type { Stalls } from "../engine/stalls.js";
import type { Device } from "./device.js";
import { FaultInbox, type RequestGroup } from "./fault-inbox.js";
import { placeOf, RequesterIndex, type Requesting, spaceOf } from "./fault-owner.js";
import type { FaultEvent } from "./fault-record.js";
import { accessText } from "./fault-ring.js";
import { Ids } from "./ids.js";
import type { Ioasid } from "./ioasid.js";
import type { IoasidFd } from "./ioasid-fd.js";
import { IOASID_PAGE_RESPONSE_INVALID, IOASID_PAGE_RESPONSE_SUCCESS } from "./requests.js";

export interface FaultParts {
  readonly queue: Pick<ReportQueue, "head" | "take" | "takeDropped" | "waitBeyond">;
  /** Where accesses wait for the answer to their group. */
  readonly stalls: Pick<Stalls, "answer">;
  /** Records that the queue of an fd holds. */
  readonly depth: number;
  /** Other threads may report. */
  readonly shared: boolean;
  /** A section of this thread is open, in which the user's code could make no call. */
  readonly inSection: () => boolean;
}

export interface FaultCounters {
  /** Records of devices that were bound to no fd. */
  readonly unowned: number;
  /** Records that found the engine's queue full. */
  readonly lost: number;
}

/** A timer that long does nothing but keep a Node process alive. */
const KEEP_ALIVE_MS = 2 ** 30;

export class FaultDispatch {
  readonly #parts: FaultParts;
  readonly #devices: readonly Device[];
  readonly #requesters: RequesterIndex;
  readonly #cookies = new Ids(Number.MAX_SAFE_INTEGER);
  /** Page requests of groups that are not complete yet, by the group's number. */
  readonly #gathered = new Map<number, FaultReport[]>();
  #seen = -1;
  #draining = false;
  #unowned = 0;
  #lost = 0;
  #watchers = 0;
  #watching = false;
  #keepAlive: ReturnType<typeof setInterval> | undefined;

  constructor(parts: FaultParts, devices: readonly Device[]) {
    this.#parts = parts;
    this.#devices = devices;
    this.#requesters = new RequesterIndex(devices);
  }

  get counters(): FaultCounters {
    return { unowned: this.#unowned, lost: this.#lost };
  }

  inbox(): FaultInbox {
    return new FaultInbox(this.#parts.depth, this.#cookies, (group, code) => void this.#parts.stalls.answer(group, code));
  }

  /** Whether the host has ever given this cookie to somebody. */
  hasGiven(cookie: number): boolean {
    return this.#cookies.isTaken(cookie);
  }

  /** Whether a group with this cookie waits for an answer, on any fd. */
  isPending(cookie: number): boolean {
    return [...this.#users()].some(({ inbox }) => inbox.has(cookie));
  }

  /** Delivers everything that has been reported, and tells those who wait for it: at once, or after the section that is open. */
  drain(): void {
    if (!this.#deliver()) return;
    if (this.#parts.inSection()) queueMicrotask(this.#tell);
    else this.#tell();
  }

  /** False: nothing was reported. */
  #deliver(): boolean {
    const { queue } = this.#parts;
    if (this.#draining || queue.head === this.#seen) return false;
    this.#draining = true;
    try {
      this.#seen = queue.head;
      for (let report = queue.take(); report !== undefined; report = queue.take()) this.#report(report);
      const dropped = queue.takeDropped();
      if (dropped > 0) this.#recover(dropped);
    } finally {
      this.#draining = false;
    }
    return true;
  }

  readonly #tell = (): void => {
    for (const fd of this.#users()) fd.faults.arrived();
  };

  /** In the middle of a call: whoever waits is told after it. */
  #deliverInCall(): void {
    if (this.#deliver()) queueMicrotask(this.#tell);
  }

  /** The fds that devices are bound to. */
  #users(): Set<IoasidFd> {
    return new Set(this.#devices.flatMap(({ binding }) => (binding === undefined ? [] : [binding.ioasidFd])));
  }

  #report(report: FaultReport): void {
    if (report.request !== undefined) return this.#gather(report, report.request);
    const source = this.#requesters.find(report.rid, report.pasid);
    if (source?.device.binding === undefined) this.#unowned++;
    else source.device.binding.ioasidFd.inbox.event(eventOf(source, report));
  }

  #gather(report: FaultReport, { group, last }: { group: number; last: boolean }): void {
    const reports = this.#gathered.get(group);
    if (reports === undefined) this.#gathered.set(group, [report]);
    else reports.push(report);
    if (!last) return;
    const complete = this.#gathered.get(group)!;
    this.#gathered.delete(group);
    this.#complete(group, complete);
  }

  /** A group without an owner, or whose space makes no page requests any more, is one that a detach has overtaken. */
  #complete(group: number, reports: readonly FaultReport[]): void {
    const [{ rid, pasid }] = reports as readonly [FaultReport];
    const source = this.#requesters.find(rid, pasid);
    const space = source && spaceOf(source);
    if (source?.device.binding === undefined) this.#unowned += reports.length;
    const { hasTable = false, routed } = source?.device ?? {};
    // A PASID table lets all its DMA ask; a space that is there for one PASID may want no requests.
    const mayAsk = hasTable ? routed!.asksForPages : space?.asksForPages ?? false;
    if (source?.device.binding === undefined || space === undefined || !mayAsk) {
      this.#parts.stalls.answer(group, IOASID_PAGE_RESPONSE_INVALID);
      return;
    }
    const { inbox } = source.device.binding.ioasidFd;
    if (this.#tellEvents(source, space, reports, inbox)) this.#parts.stalls.answer(group, IOASID_PAGE_RESPONSE_INVALID);
    else inbox.deliver({ ...source, space, group, pages: reports.map(({ iova, access }) => ({ iova, access: accessText(access) })) });
  }

  /** What an ancestor lacks, no answer to a request of the child can bring: it is an event of the ancestor. So is all that the space does not ask for. */
  #tellEvents(source: Requesting, space: Ioasid, reports: readonly FaultReport[], inbox: FaultInbox): boolean {
    const final = space.asksForPages ? reports.filter((report) => placeOf(source, report)?.space !== space) : reports;
    for (const report of final) inbox.event(eventOf(source, report));
    return final.length > 0;
  }

  /**
   * The engine's queue was full. Groups that are not complete may have lost their last request, which the view has taken as answered:
   * SMMUv3 (IHI 0070, 8.1.1) has software ignore them. Those that have not are asked for again. Nobody knows whose the lost
   * records were, so everybody is told.
   */
  #recover(dropped: number): void {
    this.#lost += dropped;
    for (const group of this.#gathered.keys()) this.#parts.stalls.answer(group, IOASID_PAGE_RESPONSE_SUCCESS);
    this.#gathered.clear();
    for (const fd of this.#users()) fd.inbox.lose(dropped);
  }

  /**
   * After the DMA of these devices was led elsewhere: requests for the space that it came from are answered INVALID.
   * Those that workers have reported meanwhile are found by the drain.
   */
  detached(inbox: FaultInbox, devices: readonly Device[]): void {
    this.#deliverInCall();
    const moved = (group: RequestGroup): boolean => devices.includes(group.device) && spaceOf(group) !== group.space;
    inbox.answerAll(moved, IOASID_PAGE_RESPONSE_INVALID);
  }

  /** After a guest's table was taken away: what it lacked, nobody needs to bring any more. */
  unbound(inbox: FaultInbox, space: Ioasid): void {
    this.#deliverInCall();
    inbox.answerAll((group) => group.space === space, IOASID_PAGE_RESPONSE_INVALID);
  }

  /** Somebody waits for a record, or does not any more. What other threads report is looked for as long as anyone does. */
  watch(change: 1 | -1): void {
    this.#watchers += change;
    if (!this.#parts.shared) return;
    if (this.#watchers === 0) {
      clearInterval(this.#keepAlive);
      this.#keepAlive = undefined;
      return;
    }
    // A pending Atomics.waitAsync does not keep a Node process alive.
    this.#keepAlive ??= setInterval(() => undefined, KEEP_ALIVE_MS);
    if (!this.#watching) void this.#watch();
  }

  async #watch(): Promise<void> {
    this.#watching = true;
    try {
      while (this.#watchers > 0) {
        await this.#parts.queue.waitBeyond(this.#seen);
        this.drain();
      }
    } finally {
      this.#watching = false;
    }
  }
}

function eventOf(source: Requesting, fault: RawFault): FaultEvent {
  const { device: { binding }, vpasid } = source;
  const { iova, access, reason, stage, level } = fault;
  const space = spaceOf(source);
  const place = placeOf(source, fault);
  const elsewhere = place !== undefined && place.space !== space;
  return {
    kind: "event", ioasid: place?.space.number ?? null, child: elsewhere ? space!.number : null, ipa: elsewhere ? place.address : null,
    device: binding!.label, deviceCookie: binding!.cookie, pasid: vpasid ?? null, iova, access: accessText(access), reason,
    class: fault.class, stage, level,
  };
}
