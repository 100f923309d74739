// Which invalidations of a guest's caches a host takes, kept as rules over plain objects: of a bound page table, of a PASID table, and of a
// space that is attached with a PASID where a PASID table has the DMA. May import host-model.ts.
import type { ErrnoName } from "../../src/uapi/errno.js";
import { broken, type HostFile, type HostModel, type HostSpace, onSpace } from "./host-model.js";

/** IOASID_INVALIDATE_CACHE of one entry, but for its ioasid. */
export interface InvalidationPlan {
  readonly granularity?: number;
  readonly iova?: bigint;
  readonly size?: bigint;
  readonly pasid?: number;
  readonly caches?: number;
}

const ALL = 0;
const RANGE = 1;
const PASID = 2;
const CACHES = 7;

/** The PASIDs that devices are attached to the space with. */
function attachedPasids(model: HostModel, space: HostSpace): number[] {
  return model.devices.flatMap(({ pasids }) => [...pasids].filter(([, other]) => other === space).map(([pasid]) => pasid));
}

/** Some device is attached there with a PASID, and a PASID table has its DMA: the space says whose entry is meant. */
function tracks(model: HostModel, space: HostSpace): boolean {
  return model.devices.some((device) => device.pasidTable !== undefined && [...device.pasids.values()].includes(space));
}

export function invalidate(model: HostModel, file: HostFile, number: number, plan: InvalidationPlan): ErrnoName[] {
  const { granularity = ALL, iova, size, pasid, caches } = plan;
  return onSpace(file, number, (space) => {
    const isRange = granularity === RANGE;
    const needsPasid = granularity === PASID || (isRange && (space.pasidTable !== undefined || pasid !== undefined));
    const known = (value: number): boolean => (space.pasidTable !== undefined ? space.pasidTable.has(value) : attachedPasids(model, space).includes(value));
    return broken(
      [!space.hasTable && !tracks(model, space), "EINVAL"],
      [caches !== undefined && (caches === 0 || caches > CACHES), "EOPNOTSUPP"],
      [granularity > PASID, "EOPNOTSUPP"],
      [!isRange && (iova !== undefined || size !== undefined), "EINVAL"],
      [isRange && (iova === undefined || size === undefined || size === 0n), "EINVAL"],
      [granularity === ALL && pasid !== undefined, "EINVAL"],
      [needsPasid && (pasid === undefined || !known(pasid)), "EINVAL"],
    );
  });
}
