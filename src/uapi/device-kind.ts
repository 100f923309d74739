// What kinds of devices there are to user space, as far as PASIDs go: the eight of the RFC's second version (July 2021), which
// sorts what section 4 of the first one describes. Data, not behaviour. Imports types only.
// vPASID: what the user names; pPASID: what the device's requests carry. A pPASID never reaches the user.

import type { IommuModel } from "../iommu/model.js";

/** What the user may do with PASIDs: nothing; nothing, but the device has one of its own; attach spaces to PASIDs. */
export type PasidUse = "none" | "default" | "user";

export interface DeviceKind {
  /** 1..8, as the RFC's second version numbers them. */
  readonly type: number;
  /** A physical device, or a share of one that software in the host mediates. */
  readonly kind: "pdev" | "mdev";
  readonly pasids: PasidUse;
  /** The user's own table leads from PASIDs to tables: nobody attaches them one by one. */
  readonly delegated: boolean;
  /** The pPASID is the vPASID; false: it is taken from a pool, and the driver path replaces one by the other. */
  readonly identical: boolean;
  /** The pool: of the requester id, or one of the whole host, so that a VM can use one pPASID for a space on all devices. */
  readonly pool: "rid" | "global" | null;
  /** It takes work by ENQCMD, whose PASID comes from the CPU. */
  readonly enqcmd: boolean;
}

const KIND = { delegated: false, identical: true, pool: null, enqcmd: false } as const;

export const DEVICE_KINDS: readonly DeviceKind[] = [
  { ...KIND, type: 1, kind: "pdev", pasids: "none" },
  { ...KIND, type: 2, kind: "mdev", pasids: "none" },
  { ...KIND, type: 3, kind: "mdev", pasids: "default", identical: false, pool: "rid" },
  { ...KIND, type: 4, kind: "pdev", pasids: "user", delegated: true, pool: "rid" },
  { ...KIND, type: 5, kind: "pdev", pasids: "user", pool: "rid" },
  { ...KIND, type: 6, kind: "mdev", pasids: "user", identical: false, pool: "rid" },
  { ...KIND, type: 7, kind: "pdev", pasids: "user", pool: "rid", enqcmd: true },
  { ...KIND, type: 8, kind: "mdev", pasids: "user", identical: false, pool: "global", enqcmd: true },
];

/** The kind with these properties behind such an IOMMU; undefined when there is none. */
export function deviceKind(kind: "pdev" | "mdev", pasids: PasidUse, enqcmd: boolean, model: IommuModel): DeviceKind | undefined {
  if (pasids !== "none" && model.pasidBits === 0) return undefined;
  const delegated = kind === "pdev" && pasids === "user" && !enqcmd && model.pasidTable === "guest";
  return DEVICE_KINDS.find((each) =>
    each.kind === kind && each.pasids === pasids && each.enqcmd === enqcmd && each.delegated === delegated);
}
