// What becomes of a device's access, kept as plain objects: it is made, it is refused with an event, or it asks for pages and waits; and
// what ends its waiting. For comparison with the fault queues of a host (RFC section 5.6). May import host-model.ts, space-tree.ts.
import { PERM_R, PERM_W } from "../../src/engine/layout.js";
import type { HostDevice, HostFile, HostSpace } from "./host-model.js";
import type { ReferenceDomain } from "./reference/types.js";
import { walkReference } from "./reference/walk.js";
import type { ModelSpace } from "./space-tree.js";

/** One record of a fault queue, but for its cookie. */
export interface ExpectedRecord {
  readonly kind: "request" | "event";
  readonly ioasid: number | null;
  readonly child: number | null;
  /** Of an event: the address in `ioasid`, where that is not the space that the DMA was led to. */
  readonly ipa: bigint | null;
  /** Of an event: why a PASID table refused; "access" if it is none. */
  readonly reason: string | null;
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
  readonly device: HostDevice;
  readonly space: HostSpace;
  /** That its records tell: of vPASIDs that share a pPASID, the one attached first. */
  readonly pasid: number | undefined;
  readonly pages: readonly bigint[];
}

export type Outcome =
  | { readonly kind: "made" }
  | { readonly kind: "ended"; readonly reason: string | undefined; readonly records: readonly ExpectedRecord[] }
  | { readonly kind: "asks"; readonly waiting: Waiting; readonly records: readonly ExpectedRecord[] };

/** A space that lacks something, and where. */
interface Place {
  readonly space: ModelSpace;
  readonly address: bigint;
}

interface Refusal {
  readonly iova: bigint;
  /** Pages of the space that DMA is led to could mend it, and that space may ask. */
  readonly recoverable: boolean;
  /** Who lacks something; undefined: nobody, for the DMA is led nowhere. */
  readonly by: Place | undefined;
  /** Of a PASID table's entry. */
  readonly reason?: string;
}

const bytes = (pages: number): bigint => BigInt(pages) << 12n;

/** The vPASID that records tell. */
export function toldPasid({ pasids, traits }: HostDevice, pasid: number | undefined): number | undefined {
  const space = pasid === undefined ? undefined : pasids.get(pasid);
  if (!traits.global || space === undefined) return pasid;
  return [...pasids].find(([, other]) => other === space)![0];
}

/**
 * Whose DMA it is: where it is led; under a PASID table, which leads all, the space that is attached with the PASID and has told of its
 * page table, or else that of the PASID table.
 */
export function ledTo(device: HostDevice, pasid: number | undefined): HostSpace | undefined {
  const target = device.target as HostSpace | undefined;
  const attached = pasid === undefined ? target : device.pasids.get(pasid);
  return target?.pasidTable !== undefined && attached?.table === undefined ? target : attached;
}

/** The first space from here to the root that has no map with this right, and the address in it. */
function lacking(space: ModelSpace, address: bigint, need: number): Place | undefined {
  const page = space.pages.get(Number(address >> 12n));
  if (page === undefined || (page.perm & need) !== need) return { space, address };
  return space.parent && lacking(space.parent, bytes(page.target) | (address & 0xfffn), need);
}

/** By a guest's page table above `parent`; `owner` has to bring what that lacks, if it may be asked for. */
function refusalOfTable(table: ReferenceDomain, parent: ModelSpace, owner: HostSpace, asks: boolean, iova: bigint, need: number): Refusal | undefined {
  let unread: bigint | undefined;
  const read = (address: bigint): bigint | null => {
    const word = table.read(address);
    if (word === null) unread = address;
    return word;
  };
  const { reason, found } = walkReference({ ...table, read }, iova, need);
  // A table that the parent does not map, or an output that it does not: no answer to the child's request could bring either.
  if (unread !== undefined) return { iova, recoverable: false, by: lacking(parent, unread, PERM_R) };
  if (reason === "none") return refusalOfParent(parent, found!.oa, iova, need);
  return { iova, recoverable: asks && ASKED.has(reason), by: { space: owner, address: iova } };
}

/** What a page can mend. */
const ASKED: ReadonlySet<string> = new Set(["not-present", "read-denied", "write-denied"]);

function refusalOfParent(parent: ModelSpace, address: bigint, iova: bigint, need: number): Refusal | undefined {
  const by = lacking(parent, address, need);
  return by && { iova, recoverable: false, by };
}

function refusalOfPasid({ pasidTable, pageRequests }: HostSpace, pasid: number, owner: HostSpace, iova: bigint, need: number): Refusal | undefined {
  const refused = (reason: string): Refusal => ({ iova, recoverable: false, by: { space: owner, address: iova }, reason });
  if (!pasidTable!.has(pasid)) return refused("pasid-range");
  const reading = pasidTable!.entry(pasid);
  const { parent } = pasidTable!;
  if (reading.kind === "refused") return refused(reading.reason);
  if (reading.kind === "unread") return refusalOfParent(parent, reading.address, iova, PERM_R);
  if (reading.kind === "pass") return refusalOfParent(parent, iova, iova, need);
  return refusalOfTable(pasidTable!.domainOf(reading), parent, owner, pageRequests ?? true, iova, need);
}

function refusalOf({ device, pasid, need }: HostAccess, iova: bigint): Refusal | undefined {
  const space = ledTo(device, pasid);
  if (space === undefined) return { iova, recoverable: false, by: undefined };
  const target = device.target as HostSpace | undefined;
  if (target?.pasidTable !== undefined) return refusalOfPasid(target, pasid ?? 0, space, iova, need);
  if (space.table !== undefined) return refusalOfTable(space.table, space.parent!, space, space.pageRequests ?? true, iova, need);
  const by = lacking(space, iova, need);
  return by && { iova, recoverable: space.pageRequests === true, by };
}

/** What becomes of one try of the access. */
export function outcomeOf(access: HostAccess): Outcome {
  const { device, pasid, first, pages } = access;
  const space = ledTo(device, pasid);
  const refusals = Array.from({ length: pages }, (_none, n) => refusalOf(access, bytes(first + n))).filter((each) => each !== undefined);
  if (refusals.length === 0) return { kind: "made" };
  if (!refusals[0]!.recoverable) return { kind: "ended", reason: undefined, records: isTold(access) ? [recordOf(access, refusals[0]!, "event")] : [] };
  const beyond = refusals.findIndex(({ recoverable }) => !recoverable);
  const asked = beyond < 0 ? refusals : refusals.slice(0, beyond);
  // The PASID table lets its devices ask; the space that is to hear of it may want no requests.
  const final = space!.pageRequests === false ? asked : asked.filter(({ by }) => by!.space !== space);
  if (final.length > 0) return { kind: "ended", reason: "page-request-invalid", records: final.map((each) => recordOf(access, each, "event")) };
  const waiting = { file: device.file!, device, space: space!, pasid: toldPasid(device, pasid), pages: asked.map(({ iova }) => iova) };
  return { kind: "asks", waiting, records: asked.map((each, n) => recordOf(access, each, "request", n === asked.length - 1)) };
}

/** A mediated device has nothing to put in the place of a PASID that is not attached: then the IOMMU sees no request. */
function isTold({ device, pasid }: HostAccess): boolean {
  return device.file !== undefined && (device.traits.identical || pasid === undefined || device.pasids.has(pasid));
}

function recordOf({ device, pasid, need }: HostAccess, { iova, by, reason = "access" }: Refusal, kind: "request" | "event", last = false): ExpectedRecord {
  const space = ledTo(device, pasid);
  const elsewhere = by !== undefined && by.space !== space;
  const isEvent = kind === "event";
  return {
    kind, ioasid: by?.space.number ?? null, child: elsewhere ? space!.number : null, ipa: elsewhere && isEvent ? by.address : null,
    reason: isEvent ? reason : null, device: device.label!, pasid: toldPasid(device, pasid) ?? null, iova, access: need === PERM_W ? "w" : "r", last,
  };
}
