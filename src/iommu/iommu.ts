// One simulated host IOMMU: a model and the engine that it translates in. Imports engine and its own folder.
import type { DomainOptions, Engine } from "../engine/engine.js";
import { ROUTE_NONE } from "../engine/layout.js";
import { Domain } from "./domain.js";
import type { IommuModel } from "./model.js";

export class Iommu {
  constructor(readonly engine: Engine, readonly name: string, readonly model: IommuModel) {}

  /** An empty domain of the model's format, which may track writes from the start, and ask for missing pages. Throws EngineError NO_FRAMES or NO_DOMAINS. */
  createDomain({ trackDirty = false, pageRequests = false }: { trackDirty?: boolean; pageRequests?: boolean } = {}): Domain {
    const { format, levels, inputWidth, rule, outputWidth } = this.model;
    const dirty = trackDirty ? "set" : "ignore";
    return new Domain(this, this.engine.createDomain({ format, levels, width: inputWidth, rule, outputWidth, dirty, pageRequests }));
  }

  /** A domain of a guest's table (guestRoot). Throws EngineError NO_DOMAINS, BAD_ARGUMENT or BAD_OPTION. */
  createGuestDomain(options: DomainOptions): Domain {
    return new Domain(this, this.engine.createDomain(options));
  }

  /** Makes sure that DMA of (rid, pasid) can be led somewhere: false when the engine has no route left. */
  reserveRoute(rid: number, pasid?: number): boolean {
    return this.engine.route(rid, pasid) !== ROUTE_NONE;
  }
}
