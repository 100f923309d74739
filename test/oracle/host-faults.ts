// What becomes of a device's access, kept as plain objects: it is made, it is refused with an event, or it asks for pages and waits; and
// what ends its waiting. For comparison with the fault queues of a host (RFC section 5.6). May import host-model.ts, space-tree.ts.
import { PERM_R, PERM_W } from "../../src/engine/layout.js";
import type { HostDevice, HostFile, HostSpace } from "./host-model.js";
import { walkReference } from "./reference/walk.js";
import type { ModelSpace } from "./space-tree.js";

/** One record of a fault queue, but for its cookie. */
export interface ExpectedRecord {
  readonly kind: "request" | "event";
  readonly ioasid: number | null;
  readonly child: number | null;
  readonly device: number;
  readonly pasid: number | null;
  readonly iova: bigint;
  readonly access: string;
  readonly last: boolean;
}

/** An access of whole pages. */
export interface HostAccess {
  readonly device: HostDevice;
  readonly pasid: number | undefined;
  readonly first: number;
  readonly pages: number;
  readonly need: number;
}

/** Pages that an access waits for. */
export interface Waiting {
  readonly file: HostFile;
  readonly space: HostSpace;
  /** That its records tell: of vPASIDs that share a pPASID, the one attached first. */
  readonly pasid: number | undefined;
  readonly pages: readonly bigint[];
}

export type Outcome =
  | { readonly kind: "made" }
  | { readonly kind: "ended"; readonly reason: string | undefined; readonly records: readonly ExpectedRecord[] }
  | { readonly kind: "asks"; readonly waiting: Waiting; readonly records: readonly ExpectedRecord[] };

interface Refusal {
  readonly iova: bigint;
  /** Pages of the space that DMA is led to could mend it, and that space may ask. */
  readonly recoverable: boolean;
  /** Who lacks something; undefined: nobody, for the DMA is led nowhere. */
  readonly by: ModelSpace | undefined;
}

const bytes = (pages: number): bigint => BigInt(pages) << 12n;

/** The vPASID that records tell. */
export function toldPasid({ pasids, traits }: HostDevice, pasid: number | undefined): number | undefined {
  const space = pasid === undefined ? undefined : pasids.get(pasid);
  if (!traits.global || space === undefined) return pasid;
  return [...pasids].find(([, other]) => other === space)![0];
}

/** Where DMA is led. */
export function ledTo(device: HostDevice, pasid: number | undefined): HostSpace | undefined {
  return pasid === undefined ? device.target as HostSpace | undefined : device.pasids.get(pasid);
}

/** The first space from here to the root that has no map with this right. */
function lacking(space: ModelSpace, iova: bigint, need: number): ModelSpace | undefined {
  const page = space.pages.get(Number(iova >> 12n));
  if (page === undefined || (page.perm & need) !== need) return space;
  return space.parent && lacking(space.parent, bytes(page.target), need);
}

function refusalOf(space: HostSpace | undefined, iova: bigint, need: number): Refusal | undefined {
  if (space === undefined) return { iova, recoverable: false, by: undefined };
  if (space.table === undefined) {
    const by = lacking(space, iova, need);
    return by && { iova, recoverable: space.pageRequests === true, by };
  }
  let unread: bigint | undefined;
  const read = (address: bigint): bigint | null => {
    const word = space.table!.read(address);
    if (word === null) unread = address;
    return word;
  };
  const { reason, found } = walkReference({ ...space.table, read }, iova, need);
  // A table that the parent does not map, or an output that it does not: no answer to the child's request could bring either.
  if (unread !== undefined) return { iova, recoverable: false, by: lacking(space.parent!, unread, PERM_R) };
  if (reason !== "none") return { iova, recoverable: space.pageRequests ?? true, by: space };
  const by = lacking(space.parent!, found!.oa, need);
  return by && { iova, recoverable: false, by };
}

/** What becomes of one try of the access. */
export function outcomeOf(access: HostAccess): Outcome {
  const { device, pasid, first, pages, need } = access;
  const space = ledTo(device, pasid);
  const refusals = Array.from({ length: pages }, (_none, n) => refusalOf(space, bytes(first + n), need)).filter((each) => each !== undefined);
  if (refusals.length === 0) return { kind: "made" };
  if (!refusals[0]!.recoverable) return { kind: "ended", reason: undefined, records: isTold(access) ? [recordOf(access, refusals[0]!, "event")] : [] };
  const beyond = refusals.findIndex(({ recoverable }) => !recoverable);
  const asked = beyond < 0 ? refusals : refusals.slice(0, beyond);
  const foreign = asked.filter(({ by }) => by !== space);
  if (foreign.length > 0) return { kind: "ended", reason: "page-request-invalid", records: foreign.map((each) => recordOf(access, each, "event")) };
  const waiting = { file: device.file!, space: space!, pasid: toldPasid(device, pasid), pages: asked.map(({ iova }) => iova) };
  return { kind: "asks", waiting, records: asked.map((each, n) => recordOf(access, each, "request", n === asked.length - 1)) };
}

/** A mediated device has nothing to put in the place of a PASID that is not attached: then the IOMMU sees no request. */
function isTold({ device, pasid }: HostAccess): boolean {
  return device.file !== undefined && (device.traits.identical || pasid === undefined || device.pasids.has(pasid));
}

function recordOf({ device, pasid, need }: HostAccess, { iova, by }: Refusal, kind: "request" | "event", last = false): ExpectedRecord {
  const space = ledTo(device, pasid);
  return {
    kind, ioasid: by?.number ?? null, child: by === undefined || by === space ? null : space!.number, device: device.label!,
    pasid: toldPasid(device, pasid) ?? null, iova, access: need === PERM_W ? "w" : "r", last,
  };
}
