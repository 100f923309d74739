// What the requests of each device carry: physical devices have a requester id of their own; an mdev has its parent's, and a PASID
// of its own that tells it from the others. May import iommu/ (types) and device.ts, host.ts (types), pasid-pool.ts.

import type { Iommu } from "../iommu/iommu.js";
import type { DeviceParts } from "./device.js";
import type { DeviceSpec } from "./host.js";
import { PasidPool } from "./pasid-pool.js";

/** The DMA of an mdev without PASIDs is done by software in the host: its requests have ids that no device on a bus can have. */
const FIRST_SOFTWARE_RID = 0x10000;

type Identity = Pick<DeviceParts, "rid" | "ownPasid" | "pool">;

export class RequesterIds {
  readonly #iommus: ReadonlyMap<string, Iommu>;
  readonly #global: PasidPool;
  readonly #pools = new Map<number, PasidPool>();
  #nextSoftwareRid = FIRST_SOFTWARE_RID;

  constructor(iommus: ReadonlyMap<string, Iommu>) {
    this.#iommus = iommus;
    const bits = [...iommus.values()].map(({ model }) => model.pasidBits).filter((each) => each > 0);
    this.#global = PasidPool.global(Math.min(20, ...bits));
  }

  of({ rid, iommu, kind }: DeviceSpec): Identity {
    if (kind.kind === "pdev") return { rid, ownPasid: undefined, pool: undefined };
    if (kind.pasids === "none") return { rid: this.#nextSoftwareRid++, ownPasid: undefined, pool: undefined };
    const own = this.#poolOf(rid, this.#iommus.get(iommu)!.model.pasidBits);
    return { rid, ownPasid: own.take(), pool: kind.pool === "global" ? this.#global : own };
  }

  #poolOf(rid: number, bits: number): PasidPool {
    const pool = this.#pools.get(rid) ?? PasidPool.ofRid(bits);
    this.#pools.set(rid, pool);
    return pool;
  }
}
