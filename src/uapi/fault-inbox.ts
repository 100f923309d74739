// What the kernel keeps for the fault queue of one ioasid fd: the ring of unread records, and the groups of page requests that wait
// for an answer. May import engine/ (types), device.ts, ioasid.ts (types), ids.ts, fault-record.ts, fault-ring.ts,
// requests.ts.
//
// A full queue. SMMUv3 discards page requests for which there is no room, and answers the last one of a group with Success itself, so
// that the device asks again (IHI 0070, 8.1 "PRI queue overflow"). VT-d loses them too (status bit PRO, "Page Request Overflow"), and
// AMD-Vi can answer by itself (PPR Automatic Response); that they answer Success is an assumption. So it is here: a group goes in whole
// or not at all; then it is answered SUCCESS and counted, and an overflow record tells, once there is room.
//
// A device may give up while its request waits for an answer, and ask anew. So that a user who never answers costs no memory, requests
// that wait for an answer are as many as the ring has records at most; beyond that the queue is full as well.

import type { Device } from "./device.js";
import type { FaultEvent, FaultRecord, PageRequest } from "./fault-record.js";
import { FaultRing } from "./fault-ring.js";
import type { Ids } from "./ids.js";
import type { Ioasid } from "./ioasid.js";
import { IOASID_PAGE_RESPONSE_SUCCESS } from "./requests.js";

/** Page requests that a device made together, complete. */
export interface RequestGroup {
  readonly device: Device;
  readonly vpasid: number | undefined;
  /** Where its DMA was led. */
  readonly space: Ioasid;
  /** The number that the device waits under. */
  readonly group: number;
  readonly pages: readonly { readonly iova: bigint; readonly access: string }[];
}

interface Pending extends RequestGroup {
  /** Its records in the ring. */
  unread: number;
}

export class FaultInbox {
  readonly ring: FaultRing;
  readonly #cookies: Ids;
  readonly #answerDevice: (group: number, code: number) => void;
  readonly #pending = new Map<number, Pending>();
  /** Requests of the groups in `#pending`. */
  #waiting = 0;
  /** Dropped records that no overflow record tells yet. */
  #untold = 0;
  #dropped = 0;

  constructor(depth: number, cookies: Ids, answerDevice: (group: number, code: number) => void) {
    this.ring = new FaultRing(depth);
    this.#cookies = cookies;
    this.#answerDevice = answerDevice;
  }

  /** Records dropped since the fd was opened. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Groups that wait for an answer. */
  get pending(): number {
    return this.#pending.size;
  }

  has(cookie: number): boolean {
    return this.#pending.has(cookie);
  }

  /** Puts a complete group in, or answers it as a full queue does. */
  deliver(group: RequestGroup): void {
    const { device, vpasid, space, pages } = group;
    this.#tell();
    if (pages.length > this.ring.room || this.#waiting + pages.length > this.ring.depth) {
      this.lose(pages.length);
      this.#answerDevice(group.group, IOASID_PAGE_RESPONSE_SUCCESS);
      return;
    }
    const { label, cookie: deviceCookie } = device.binding!;
    const cookie = this.#cookies.take()!;
    const head: Omit<PageRequest, "iova" | "access" | "last"> = {
      kind: "request", cookie, ioasid: space.number, device: label, deviceCookie, pasid: vpasid ?? null, group: group.group,
    };
    pages.forEach((page, n) => this.ring.put({ ...head, ...page, last: n === pages.length - 1 }));
    this.#pending.set(cookie, { ...group, unread: pages.length });
    this.#waiting += pages.length;
  }

  event(record: FaultEvent): void {
    this.#tell();
    if (this.ring.room === 0) this.lose(1);
    else this.ring.put(record);
  }

  /** Records for this fd were dropped, here or on the way. */
  lose(records: number): void {
    this.#dropped += records;
    if (this.#untold === 0 && this.ring.addToOverflow(records)) return;
    this.#untold += records;
    this.#tell();
  }

  #tell(): void {
    if (this.#untold === 0 || this.ring.room === 0) return;
    this.ring.put({ kind: "overflow", dropped: this.#untold });
    this.#untold = 0;
  }

  /** The oldest record, taken out. */
  take(): FaultRecord | undefined {
    const record = this.ring.take();
    this.#tell();
    if (record?.kind !== "request") return record;
    const group = this.#pending.get(record.cookie);
    if (group !== undefined) group.unread--;
    return record;
  }

  /** Answers one group; false when no such group waits. */
  answer(cookie: number, code: number): boolean {
    return this.#answer(this.#pending.has(cookie) ? [cookie] : [], code) === 1;
  }

  /** Answers all groups that match, and says how many they were. */
  answerAll(matches: (group: RequestGroup) => boolean, code: number): number {
    return this.#answer([...this.#pending].filter(([, group]) => matches(group)).map(([cookie]) => cookie), code);
  }

  /** What the user has not read of an answered group, it need not read any more. */
  #answer(cookies: readonly number[], code: number): number {
    const unread = new Set<number>();
    for (const cookie of cookies) {
      const group = this.#pending.get(cookie)!;
      this.#pending.delete(cookie);
      this.#waiting -= group.pages.length;
      if (group.unread > 0) unread.add(cookie);
      this.#answerDevice(group.group, code);
    }
    if (unread.size > 0) this.ring.removeRequests(unread);
    return cookies.length;
  }
}
