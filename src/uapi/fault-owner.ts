// Whose fault it is: the device and vPASID behind the requester id and PASID of a request, and the space of the tree that refused.
// May import engine/ (layout, types), arguments.ts, and types of this folder. Ranges are inclusive, first..last.

import { NO_PASID, PERM_PRIVILEGED_SHIFT, PERM_R, PERM_W, PERM_X } from "../engine/layout.js";
import type { RawFault } from "../engine/port-records.js";
import type { Device } from "./device.js";
import type { Ioasid } from "./ioasid.js";

export interface Requesting {
  readonly device: Device;
  /** undefined: DMA without a PASID of the user's. */
  readonly vpasid: number | undefined;
}

/** Devices by what their requests carry. */
export class RequesterIndex {
  readonly #byRid = new Map<number, Device[]>();

  constructor(devices: Iterable<Device>) {
    for (const device of devices) {
      const others = this.#byRid.get(device.rid);
      if (others === undefined) this.#byRid.set(device.rid, [device]);
      else others.push(device);
    }
  }

  /**
   * undefined: nobody's, as the PASID of a mediated device that is attached to nothing any more. Mediated devices of one parent that
   * take ENQCMD share the PASID of a space that several of them are attached to: then it is the first of them.
   */
  find(rid: number, pasid: number): Requesting | undefined {
    const devices = this.#byRid.get(rid) ?? [];
    const own = devices.find(({ requester }) => (requester.pasid ?? NO_PASID) === pasid);
    if (own !== undefined) return { device: own, vpasid: undefined };
    for (const device of devices) {
      if (device.kind.identical) continue;
      for (const [vpasid, { ppasid }] of device.pasids) if (ppasid === pasid) return { device, vpasid };
    }
    const physical = devices.find(({ kind }) => kind.identical);
    return physical && { device: physical, vpasid: pasid };
  }
}

/**
 * Where the DMA is led; undefined: nowhere, it is blocked. A PASID table leads all DMA of its device; who has told of the table of one
 * PASID, by attaching a space that it is bound to, is the one to hear of it.
 */
export function spaceOf({ device: { routed, pasids }, vpasid }: Requesting): Ioasid | undefined {
  if (vpasid === undefined) return routed;
  const attached = pasids.get(vpasid)?.space;
  if (routed?.pasidTable === undefined) return attached;
  return attached?.pgtable === undefined ? routed : attached;
}

/** A space, and an address in it. */
export interface Place {
  readonly space: Ioasid;
  readonly address: bigint;
}

/** These refuse before any space is asked. */
const NOWHERE: ReadonlySet<RawFault["reason"]> = new Set<RawFault["reason"]>(["blocked", "no-route"]);
/** What is not there, or not permitted, may come from an ancestor: a shadow holds what all of them have. */
const MERGED: ReadonlySet<RawFault["reason"]> = new Set<RawFault["reason"]>(["not-present", "read-denied", "write-denied", "execute-denied"]);

/**
 * Who refused an access: of a guest's table stage 1 is the space that the DMA was led to, stage 2 the parent of the space that leads it;
 * of kernel-managed tables, the space on the way to the root that lacks the map. undefined: no space.
 */
export function placeOf(source: Requesting, fault: RawFault): Place | undefined {
  const space = spaceOf(source);
  if (space === undefined || NOWHERE.has(fault.reason)) return undefined;
  const { hasTable, routed } = source.device;
  const below = space.guestTable !== undefined && fault.stage === 2;
  const start = below ? { space: (hasTable ? routed! : space).parent!, address: fault.ipa } : { space, address: fault.iova };
  return MERGED.has(fault.reason) ? lacking(start, fault.access) : start;
}

/** The first space from here to the root that does not map the address with these rights; where we began, if all do by now. */
function lacking(start: Place, access: number): Place {
  const bits = access | (access >> PERM_PRIVILEGED_SHIFT);
  const need = (bits & PERM_W) | (bits & (PERM_R | PERM_X) ? PERM_R : 0);
  let { space, address } = start;
  for (;;) {
    const area = space.areas.find(Number(address >> 12n));
    if (area === undefined || (need & ~area.value.perm) !== 0) return { space, address };
    if (space.parent === undefined) return start;
    address += BigInt(area.value.target - area.first) << 12n;
    space = space.parent;
  }
}
