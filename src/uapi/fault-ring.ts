// The ring that holds what the user has not read yet: a fixed number of records of 64 bytes in one ArrayBuffer, laid out as in
// fault-ring-layout.ts. Imports engine/ (names of reasons and classes), fault-record.ts. Nothing is allocated while records come and go.

import { CLASS_NAMES, PERM_PRIVILEGED_SHIFT, PERM_R, PERM_W, PERM_X, REASON_NAMES } from "../engine/layout.js";
import type { FaultEvent, FaultRecord, PageRequest } from "./fault-record.js";
import * as R from "./fault-ring-layout.js";

/** "r", "w", "x" of PERM_* bits, of either privilege. */
export function accessText(perm: number): string {
  const bits = perm | (perm >> PERM_PRIVILEGED_SHIFT);
  return (bits & PERM_R ? "r" : "") + (bits & PERM_W ? "w" : "") + (bits & PERM_X ? "x" : "");
}

function accessBits(text: string): number {
  return (text.includes("r") ? PERM_R : 0) | (text.includes("w") ? PERM_W : 0) | (text.includes("x") ? PERM_X : 0);
}

/** The view: what changes the ring is out of its reach. */
class Reader implements R.FaultRingView {
  readonly #ring: FaultRing;

  constructor(ring: FaultRing) {
    this.#ring = ring;
  }

  get depth(): number {
    return this.#ring.depth;
  }

  get head(): number {
    return this.#ring.head;
  }

  get tail(): number {
    return this.#ring.tail;
  }

  getUint8(offset: number): number {
    return this.#ring.getUint8(offset);
  }

  getUint32(offset: number): number {
    return this.#ring.getUint32(offset);
  }

  getBigUint64(offset: number): bigint {
    return this.#ring.getBigUint64(offset);
  }
}

export class FaultRing implements R.FaultRingView {
  readonly view: R.FaultRingView = new Reader(this);
  readonly depth: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #head = 0;
  #tail = 0;

  constructor(depth: number) {
    this.depth = depth;
    this.#bytes = new Uint8Array(depth * R.FAULT_RECORD_BYTES);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get head(): number {
    return this.#head;
  }

  get tail(): number {
    return this.#tail;
  }

  get used(): number {
    return this.#head - this.#tail;
  }

  get room(): number {
    return this.depth - this.used;
  }

  getUint8(offset: number): number {
    return this.#view.getUint8(offset);
  }

  getUint32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  getBigUint64(offset: number): bigint {
    return this.#view.getBigUint64(offset, true);
  }

  /** Precondition: there is room. */
  put(record: FaultRecord): void {
    const at = this.#slot(this.#head++);
    this.#bytes.fill(0, at, at + R.FAULT_RECORD_BYTES);
    if (record.kind === "overflow") {
      this.#view.setUint32(at + R.FAULT_RING_KIND, R.FAULT_RING_KIND_OVERFLOW, true);
      this.#view.setBigUint64(at + R.FAULT_RING_COOKIE, BigInt(record.dropped), true);
      return;
    }
    this.#putSource(at, record);
    if (record.kind === "request") this.#putRequest(at, record);
    else this.#putEvent(at, record);
  }

  #putSource(at: number, { device, deviceCookie, pasid, iova, access }: PageRequest | FaultEvent): void {
    const view = this.#view;
    view.setUint32(at + R.FAULT_RING_DEVICE, device, true);
    view.setBigUint64(at + R.FAULT_RING_DEVICE_COOKIE, deviceCookie, true);
    if (pasid !== null) view.setUint32(at + R.FAULT_RING_PASID, pasid, true);
    view.setUint32(at + R.FAULT_RING_FLAGS, pasid === null ? 0 : R.FAULT_RING_FLAG_PASID, true);
    view.setBigUint64(at + R.FAULT_RING_IOVA, iova, true);
    view.setUint8(at + R.FAULT_RING_ACCESS, accessBits(access));
  }

  #putRequest(at: number, { cookie, ioasid, group, last }: PageRequest): void {
    const view = this.#view;
    view.setUint32(at + R.FAULT_RING_KIND, R.FAULT_RING_KIND_REQUEST, true);
    view.setUint32(at + R.FAULT_RING_IOASID, ioasid, true);
    view.setBigUint64(at + R.FAULT_RING_COOKIE, BigInt(cookie), true);
    view.setUint32(at + R.FAULT_RING_GROUP, group, true);
    if (last) view.setUint32(at + R.FAULT_RING_FLAGS, this.getUint32(at + R.FAULT_RING_FLAGS) | R.FAULT_RING_FLAG_LAST, true);
  }

  #putEvent(at: number, { ioasid, child, ipa, reason, class: kind, stage, level }: FaultEvent): void {
    const view = this.#view;
    view.setUint32(at + R.FAULT_RING_KIND, R.FAULT_RING_KIND_EVENT, true);
    view.setUint32(at + R.FAULT_RING_IOASID, ioasid ?? 0, true);
    view.setUint32(at + R.FAULT_RING_CHILD, child ?? 0, true);
    view.setBigUint64(at + R.FAULT_RING_IPA, ipa ?? 0n, true);
    view.setUint8(at + R.FAULT_RING_REASON, REASON_NAMES.indexOf(reason));
    view.setUint8(at + R.FAULT_RING_CLASS_STAGE, CLASS_NAMES.indexOf(kind) | (stage << 4));
    view.setUint8(at + R.FAULT_RING_LEVEL, level);
  }

  /** Counts further records as dropped in the newest record, if that is an overflow; else false. */
  addToOverflow(dropped: number): boolean {
    if (this.used === 0) return false;
    const at = this.#slot(this.#head - 1);
    if (this.getUint32(at + R.FAULT_RING_KIND) !== R.FAULT_RING_KIND_OVERFLOW) return false;
    this.#view.setBigUint64(at + R.FAULT_RING_COOKIE, this.getBigUint64(at + R.FAULT_RING_COOKIE) + BigInt(dropped), true);
    return true;
  }

  /** The oldest record, taken out. */
  take(): FaultRecord | undefined {
    return this.used === 0 ? undefined : this.#read(this.#slot(this.#tail++));
  }

  #read(at: number): FaultRecord {
    const cookie = Number(this.getBigUint64(at + R.FAULT_RING_COOKIE));
    const kind = this.getUint32(at + R.FAULT_RING_KIND);
    if (kind === R.FAULT_RING_KIND_OVERFLOW) return { kind: "overflow", dropped: cookie };
    const flags = this.getUint32(at + R.FAULT_RING_FLAGS);
    const source = {
      device: this.getUint32(at + R.FAULT_RING_DEVICE),
      deviceCookie: this.getBigUint64(at + R.FAULT_RING_DEVICE_COOKIE),
      pasid: flags & R.FAULT_RING_FLAG_PASID ? this.getUint32(at + R.FAULT_RING_PASID) : null,
      iova: this.getBigUint64(at + R.FAULT_RING_IOVA),
      access: accessText(this.getUint8(at + R.FAULT_RING_ACCESS)),
    };
    const ioasid = this.getUint32(at + R.FAULT_RING_IOASID);
    if (kind === R.FAULT_RING_KIND_REQUEST) {
      return { kind: "request", cookie, ioasid, ...source, group: this.getUint32(at + R.FAULT_RING_GROUP), last: (flags & R.FAULT_RING_FLAG_LAST) !== 0 };
    }
    const child = this.getUint32(at + R.FAULT_RING_CHILD);
    const classStage = this.getUint8(at + R.FAULT_RING_CLASS_STAGE);
    return {
      kind: "event", ioasid: ioasid === 0 ? null : ioasid, child: child === 0 ? null : child, ...source,
      ipa: child === 0 ? null : this.getBigUint64(at + R.FAULT_RING_IPA), reason: REASON_NAMES[this.getUint8(at + R.FAULT_RING_REASON)]!,
      class: CLASS_NAMES[classStage & 0xf]!, stage: classStage >> 4, level: this.getUint8(at + R.FAULT_RING_LEVEL),
    };
  }

  /** Takes out the requests with these cookies, wherever they are; the rest keeps its order. */
  removeRequests(cookies: ReadonlySet<number>): void {
    let kept = this.#tail;
    for (let n = this.#tail; n < this.#head; n++) {
      const at = this.#slot(n);
      const gone = this.getUint32(at + R.FAULT_RING_KIND) === R.FAULT_RING_KIND_REQUEST && cookies.has(Number(this.getBigUint64(at + R.FAULT_RING_COOKIE)));
      if (gone) continue;
      if (kept !== n) this.#bytes.copyWithin(this.#slot(kept), at, at + R.FAULT_RECORD_BYTES);
      kept++;
    }
    this.#head = kept;
  }

  #slot(n: number): number {
    return (n % this.depth) * R.FAULT_RECORD_BYTES;
  }
}
