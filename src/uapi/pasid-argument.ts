// The check of every PASID that a caller names. May import arguments.ts, device.ts (types), pasid-errors.ts, requests.ts.

import { takeU32 } from "./arguments.js";
import type { Device } from "./device.js";
import { badPasid } from "./pasid-errors.js";
import type { Call } from "./requests.js";

/** PCI: a PASID has 20 bits. */
export const LAST_PASID = 2 ** 20 - 1;

/** A PASID of user space, for whatever device: 0 is none. @throws IoctlError EINVAL. */
export function takePasid(call: Call, field: string, value: number | undefined): number {
  const pasid = takeU32(call, field, value);
  if (pasid === 0 || pasid > LAST_PASID) throw badPasid(call, field, pasid, LAST_PASID);
  return pasid;
}

/** One that the device's requests can carry. @throws IoctlError EINVAL. */
export function requireCarried(call: Call, field: string, { iommu: { model } }: Device, pasid: number): void {
  const last = 2 ** model.pasidBits - 1;
  if (pasid > last) throw badPasid(call, field, pasid, last);
}
