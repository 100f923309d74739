// Where the pages come from that a space maps: the process's memory for a root, the parent's addresses for a child. Both check
// what is asked, say which host-physical ranges lie behind it now, and keep the books. May import iommu/ and, of this folder,
// what a space is made of. Ranges are inclusive, first..last, in pages of 4 KiB.

import type { Domain, MapStatus, Piece } from "../iommu/domain.js";
import { firstByte, hexPages } from "./arguments.js";
import { IoctlError } from "./errno.js";
import { exceedsLimit, notAccessible } from "./ioasid-errors.js";
import type { Ioasid } from "./ioasid.js";
import { outsideParent } from "./nesting-errors.js";
import type { Pins } from "./pins.js";
import type { Backing, Process } from "./process.js";
import type { RegisteredMemory } from "./registered-memory.js";
import { IOASID_DMA_MAP, REQUESTS } from "./requests.js";

const MAP = REQUESTS[IOASID_DMA_MAP];

/** One map: pages first..last of the space stand for those from `target` on, which may be used with PERM_R | PERM_W of `perm`. */
export interface Area {
  readonly space: Ioasid;
  readonly first: number;
  readonly last: number;
  readonly target: number;
  readonly perm: number;
}

export interface MapSource {
  /** Pages that the space has charged to the lock limit. */
  readonly charged: number;
  /** The pins, if it pins. */
  readonly pins: Pins | undefined;
  /** @throws IoctlError when the area may not be mapped. */
  admit(area: Area): void;
  /** What lies behind the area now, ascending; parts may be missing. */
  pieces(area: Area): Piece[];
  /** Maps what lies behind the area in a table. */
  fill(domain: Domain, area: Area): MapStatus;
  /** The same for several areas of a space, ascending: all or none. */
  fillAll(domain: Domain, areas: readonly Area[]): MapStatus;
  keep(area: Area): void;
  drop(area: Area): void;
}

function targetLast({ first, last, target }: Area): number {
  return target + last - first;
}

/** Memory of the process: pinned, and charged unless it is registered. Maps of what shares `pins` charge a page once. */
export class ProcessSource implements MapSource {
  readonly pins: Pins;
  readonly #process: Process;
  readonly #registered: RegisteredMemory;

  constructor(process: Process, registered: RegisteredMemory, pins: Pins) {
    this.pins = pins;
    this.#process = process;
    this.#registered = registered;
  }

  get charged(): number {
    return this.pins.charged;
  }

  admit(area: Area): void {
    const { target, perm } = area;
    const last = targetLast(area);
    const backings = this.#process.resolve(target, last, perm);
    if (typeof backings === "number") throw notAccessible(MAP, target, backings, this.#process.find(backings) !== undefined);
    if (!this.#registered.inUse) return this.#checkLimit(backings, target, last);
    if (this.#registered.covers(target, last)) return;
    const reason = `the process's memory ${hexPages(target, last)} is not registered, and registration is in use`;
    const hint = "register it too, or unregister everything";
    throw new IoctlError("EPERM", MAP.name, reason, { field: "vaddr", value: firstByte(target), hint });
  }

  #checkLimit(backings: readonly Backing[], first: number, last: number): void {
    const { account } = this.#process;
    if (account.pages + (last - first + 1) <= account.limitPages) return;
    let fresh = 0;
    for (const backing of backings) {
      if (backing.charged) fresh += this.pins.countFresh(Math.max(backing.first, first), Math.min(backing.last, last));
    }
    if (account.pages + fresh > account.limitPages) throw exceedsLimit(MAP, account, fresh);
  }

  /** Joined where one continues the other. */
  pieces(area: Area): Piece[] {
    const pieces: Piece[] = [];
    for (const { first, last, delta } of this.#backings(area)) {
      const from = Math.max(first, area.target);
      const start = firstByte(from);
      const size = firstByte(Math.min(last, targetLast(area)) + 1) - start;
      const before = pieces.at(-1);
      if (before !== undefined && before.hpa + before.size === start + delta) before.size += size;
      else pieces.push({ iova: firstByte(area.first + from - area.target), hpa: start + delta, size, perm: area.perm });
    }
    return pieces;
  }

  /** Pinned memory stays mapped, so this cannot fail. */
  #backings(area: Area): readonly Backing[] {
    return this.#process.resolve(area.target, targetLast(area), area.perm) as readonly Backing[];
  }

  fill(domain: Domain, area: Area): MapStatus {
    return domain.map(this.pieces(area));
  }

  fillAll(domain: Domain, areas: readonly Area[]): MapStatus {
    return domain.map(areas.flatMap((area) => this.pieces(area)));
  }

  keep(area: Area): void {
    const free = this.#registered.inUse;
    for (const { first, last, charged } of this.#backings(area)) {
      this.pins.pin(Math.max(first, area.target), Math.min(last, targetLast(area)), charged && !free);
    }
  }

  drop(area: Area): void {
    this.pins.unpin(area.target, targetLast(area));
  }
}

/** Addresses of the parent: what it maps there now. Nothing is pinned or charged, the parent has done that. */
export class ParentSource implements MapSource {
  readonly charged = 0;
  readonly pins = undefined;
  readonly #parent: Ioasid;

  constructor(parent: Ioasid) {
    this.#parent = parent;
  }

  /** What the parent does not map yet may be mapped; what it can never map may not. */
  admit(area: Area): void {
    const refusal = this.#parent.limits.refusal(area.target, targetLast(area));
    if (refusal !== undefined) throw outsideParent(MAP, area.target, targetLast(area), this.#parent, refusal);
  }

  pieces(area: Area): Piece[] {
    const domain = this.#parent.domain;
    if (domain === undefined) return [];
    const from = firstByte(area.target);
    const pieces: Piece[] = [];
    for (const { first, last, hpa, perm, lg2 } of domain.leafRuns(from, firstByte(targetLast(area) + 1) - from)) {
      if ((perm & area.perm) === 0) continue;
      pieces.push({ iova: firstByte(area.first) + first - from, hpa, size: last - first + 1n, perm: perm & area.perm, cap: lg2 });
    }
    return pieces;
  }

  fill(domain: Domain, { first, last, target, perm }: Area): MapStatus {
    return domain.merge(this.#parent.domain!, firstByte(first), firstByte(target), firstByte(last - first + 1), perm);
  }

  fillAll(domain: Domain, areas: readonly Area[]): MapStatus {
    return domain.mergeAll(this.#parent.domain!, areas.map(({ first, last, target, perm }) =>
      ({ iova: firstByte(first), target: firstByte(target), size: firstByte(last - first + 1), perm })));
  }

  keep(area: Area): void {
    this.#parent.dependents.insert(area.target, targetLast(area), area);
  }

  drop(area: Area): void {
    this.#parent.dependents.remove(area.target, targetLast(area), area);
  }}
