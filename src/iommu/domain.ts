// A domain: what an IOMMU sees of one ioasid. Turns the engine's status words into names, and makes a map of several pieces
// all-or-nothing. Imports engine. Ranges at the engine are first..last, inclusive.
import * as L from "../engine/layout.js";
import type { Engine } from "../engine/engine.js";
import type { Iommu } from "./iommu.js";

/** [iova, iova + size) -> [hpa, hpa + size); perm is L.PERM_*. */
export interface Piece {
  iova: bigint;
  hpa: bigint;
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

export class Domain {
  readonly #engine: Engine;

  /** @internal Iommu.createDomain() makes domains; `index` is the engine's. */
  constructor(readonly iommu: Iommu, readonly index: number) {
    this.#engine = iommu.engine;
  }

  /** Maps all pieces or none. Their iovas ascend, and they do not overlap each other. */
  map(pieces: readonly Piece[]): MapStatus {
    if (pieces.length > 1) {
      const status = this.#plan(pieces);
      if (status !== "ok") return status;
    }
    for (const { iova, hpa, size, perm } of pieces) {
      const status = this.#engine.map(this.index, iova, iova + size - 1n, hpa, perm);
      if (status === L.STATUS_OK) continue;
      if (pieces.length > 1) throw new Error(`a planned map failed: ${mapStatus(status)}`);
      return mapStatus(status);
    }
    return "ok";
  }

  /** Would all pieces go in? */
  #plan(pieces: readonly Piece[]): MapStatus {
    let tables = 0;
    let after: bigint | undefined;
    for (const { iova, hpa, size, perm } of pieces) {
      const last = iova + size - 1n;
      const plan = this.#engine.planMap(this.index, iova, last, hpa, perm, after);
      if (plan.status !== L.STATUS_OK) return mapStatus(plan.status);
      tables += plan.tables;
      after = last;
    }
    return this.#engine.canTakeTables(this.index, tables) ? "ok" : "no-frames";
  }

  /** Removes [iova, iova + size): bytes removed, or why not. Afterwards nothing translates by what was removed. */
  unmap(iova: bigint, size: bigint): bigint | UnmapRefusal {
    const bytes = this.#engine.unmap(this.index, iova, iova + size - 1n);
    if (bytes === L.UNMAP_SPLIT) return "split";
    if (bytes === L.UNMAP_IN_SECTION) return "in-section";
    return bytes === L.UNMAP_REFUSED ? "refused" : bytes;
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
