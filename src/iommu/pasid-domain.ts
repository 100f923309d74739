// A guest's PASID table as an IOMMU sees it: a domain that leads DMA of all PASIDs of a requester id by what the guest wrote. It has
// no table of the kernel's, so it is never mapped. Imports the engine's types and layout, domain.ts.
import * as L from "../engine/layout.js";
import type { PasidTableOptions } from "../engine/engine.js";
import { Domain } from "./domain.js";
import type { Iommu } from "./iommu.js";

/** A table takes at most this part of all domains for entries in force, and never more than so many. */
const POOL_PART = 16;
const MOST_ENTRIES = 64;

export class PasidDomain extends Domain {
  readonly table: number;

  /** @internal Iommu.createPasidDomain() makes them. Throws EngineError NO_DOMAINS. */
  constructor(iommu: Iommu, options: Omit<PasidTableOptions, "cache">) {
    super(iommu, options.stage2);
    const { engine } = iommu;
    const cache = Math.min(MOST_ENTRIES, Math.floor(engine.word(L.ENGINE_DOMAIN_CAPACITY) / POOL_PART));
    this.table = engine.createPasidTable({ ...options, cache });
  }

  /** All DMA of the rid, with and without PASIDs, goes by the table from now on. */
  override attach(rid: number): "ok" | "no-route" | "in-section" {
    const { engine } = this.iommu;
    const route = engine.route(rid);
    if (route === L.ROUTE_NONE) return "no-route";
    return engine.attachPasidTable(route, this.table) === L.STATUS_OK ? "ok" : "in-section";
  }

  /** Drops what is cached of the page tables of all PASIDs, or of one, or of [iova, iova + size) of that. */
  invalidatePasid(pasid: number, iova?: bigint, size?: bigint): void {
    const last = iova === undefined || size === undefined ? undefined : iova + size - 1n;
    this.iommu.engine.invalidatePasid(this.table, pasid, iova, last);
  }

  /** Drops the entry of a PASID, or of all, with everything that is cached of their page tables. */
  dropPasids(pasid?: number): void {
    this.iommu.engine.dropPasids(this.table, pasid);
  }

  override invalidate(): void {
    this.dropPasids();
  }

  override destroy(): "ok" | "in-section" {
    const status = this.iommu.engine.destroyPasidTable(this.table);
    if (status === L.STATUS_ATTACHED) throw new Error(`PASID table ${this.table} is destroyed while requester ids use it`);
    return status === L.STATUS_OK ? "ok" : "in-section";
  }
}
