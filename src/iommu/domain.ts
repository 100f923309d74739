// A domain: what an IOMMU sees of one ioasid. Turns the engine's status words into names, and makes a map of several pieces
// all-or-nothing. Imports engine. Ranges at the engine are first..last, inclusive.
import * as L from "../engine/layout.js";
import { NO_CAP, type Engine, type LeafRun, type Range } from "../engine/engine.js";
import type { Iommu } from "./iommu.js";

/** [iova, iova + size) -> [hpa, hpa + size); perm is L.PERM_*. */
export interface Piece {
  iova: bigint;
  hpa: bigint;
  size: bigint;
  perm: number;
  /** Log2 of the largest leaf that may be used. */
  cap?: number;
}

/** [iova, iova + size) -> what the parent's domain maps from `target` on; perm is L.PERM_*. */
export interface Area {
  iova: bigint;
  target: bigint;
  size: bigint;
  perm: number;
}

const MAP_STATUS = ["ok", "overlap", "no-frames", "range", "align", "in-section", "not-owned", "perm"] as const;
export type MapStatus = (typeof MAP_STATUS)[number];
export type UnmapRefusal = "split" | "in-section" | "refused";

function mapStatus(status: number): MapStatus {
  const name = MAP_STATUS[status];
  if (name === undefined) throw new Error(`engine answered status ${status}`);
  return name;
}

function removed(bytes: bigint): bigint | UnmapRefusal {
  if (bytes === L.UNMAP_SPLIT) return "split";
  if (bytes === L.UNMAP_IN_SECTION) return "in-section";
  return bytes === L.UNMAP_REFUSED ? "refused" : bytes;
}

function asLeafRun({ iova, hpa, size, perm, cap }: Piece): LeafRun {
  return { first: iova, last: iova + size - 1n, hpa, perm, lg2: cap ?? NO_CAP };
}

export class Domain {
  readonly #engine: Engine;

  /** @internal Iommu.createDomain() makes domains; `index` is the engine's. */
  constructor(readonly iommu: Iommu, readonly index: number) {
    this.#engine = iommu.engine;
  }

  /** Maps all pieces or none. Their iovas ascend, and they do not overlap each other. */
  map(pieces: readonly Piece[]): MapStatus {
    if (pieces.length === 0) return "ok";
    if (pieces.length > 1) return mapStatus(this.#engine.mapMany(this.index, pieces.map(asLeafRun)));
    const { iova, hpa, size, perm, cap } = pieces[0]!;
    return mapStatus(this.#engine.map(this.index, iova, iova + size - 1n, hpa, perm, cap));
  }

  /** Would all pieces go in, with frames enough, and how many tables would they take? Their iovas ascend. */
  plan(pieces: readonly Piece[]): { status: MapStatus; tables: number } {
    const { status, tables } = this.#engine.planMany(this.index, pieces.map(asLeafRun));
    return { status: mapStatus(status), tables };
  }

  /** Are there frames for so many tables? If so, maps that were planned with no more than these cannot fail. */
  canTake(tables: number): boolean {
    return this.#engine.canTakeTables(this.index, tables);
  }

  /**
   * Maps [iova, iova + size) to what `parent`, a domain of the same model, maps from `target` on, as far as both permit: all
   * of it or nothing. What the parent does not map stays empty.
   */
  merge(parent: Domain, iova: bigint, target: bigint, size: bigint, perm: number): MapStatus {
    return mapStatus(this.#engine.merge(this.index, parent.index, iova, iova + size - 1n, target, perm));
  }

  /** The same for areas whose iovas ascend, and which do not overlap: all of them or none. */
  mergeAll(parent: Domain, areas: readonly Area[]): MapStatus {
    return mapStatus(this.#engine.mergeAll(this.index, parent.index, areas.map(({ iova, target, size, perm }) =>
      ({ first: iova, last: iova + size - 1n, gpa: target, perm }))));
  }

  /** What is mapped in [iova, iova + size), by size of leaf; leaves that reach beyond it are cut. */
  leafRuns(iova: bigint, size: bigint): LeafRun[] {
    return this.#engine.leafRuns(this.index, iova, iova + size - 1n);
  }

  /** Writes are recorded from now on, and no leaf counts as written before; or they are not recorded any more. */
  trackDirty(on: boolean): "ok" | "in-section" {
    const status = this.#engine.trackDirty(this.index, on);
    if (status === L.STATUS_NOT_OWNED) throw new Error(`domain ${this.index} has a guest's table: it tracks no writes for the kernel`);
    return status === L.STATUS_OK ? "ok" : "in-section";
  }

  /**
   * What was written of [iova, iova + size): ranges of whole leaves, cut to it, ascending. `clear`: leaves that lie in it whole
   * count as not written from now on. Precondition: not in a section, or no `clear`.
   */
  collectDirty(iova: bigint, size: bigint, clear: boolean): Range[] {
    return this.#engine.collectDirty(this.index, iova, iova + size - 1n, clear);
  }

  /** The same with `clear`, range by range: none is lost when a port stalls, for which it throws (EngineError PORT_STALLED). */
  takeDirty(iova: bigint, size: bigint, take: (range: Range) => void): void {
    this.#engine.takeDirty(this.index, iova, iova + size - 1n, take);
  }

  /** Removes [iova, iova + size): bytes removed, or why not. Afterwards nothing translates by what was removed. */
  unmap(iova: bigint, size: bigint): bigint | UnmapRefusal {
    return removed(this.#engine.unmap(this.index, iova, iova + size - 1n));
  }

  /** The same for all ranges, or none; one wait for the list. */
  unmapMany(ranges: readonly { readonly iova: bigint; readonly size: bigint }[]): bigint | UnmapRefusal {
    return removed(this.#engine.unmapMany(this.index, ranges.map(({ iova, size }) => ({ first: iova, last: iova + size - 1n }))));
  }

  /** Drops what is cached of [iova, iova + size), or of everything: the guest changed its table. */
  invalidate(iova?: bigint, size?: bigint): void {
    if (iova === undefined || size === undefined) this.#engine.flushDomain(this.index);
    else this.#engine.invalidate(this.index, iova, iova + size - 1n);
  }

  /** DMA of (rid, pasid) goes here from now on; a pair that went elsewhere is moved. */
  attach(rid: number, pasid?: number): "ok" | "no-route" | "in-section" {
    const route = this.#engine.route(rid, pasid);
    if (route === L.ROUTE_NONE) return "no-route";
    return this.#engine.attachRoute(route, this.index) === L.STATUS_OK ? "ok" : "in-section";
  }

  /** DMA of (rid, pasid) is blocked from now on. */
  detach(rid: number, pasid?: number): "ok" | "in-section" {
    const route = this.#engine.route(rid, pasid);
    if (route === L.ROUTE_NONE) return "ok";
    return this.#engine.blockRoute(route) === L.STATUS_OK ? "ok" : "in-section";
  }

  /** Gives the tables back. Precondition: nothing is attached. */
  destroy(): "ok" | "in-section" {
    const status = this.#engine.destroyDomain(this.index);
    if (status === L.STATUS_ATTACHED) throw new Error(`domain ${this.index} is destroyed while routes lead to it`);
    return status === L.STATUS_OK ? "ok" : "in-section";
  }

  /** A section of this thread is open: every change would be refused. */
  get inSection(): boolean {
    return this.#engine.inSection;
  }
}
