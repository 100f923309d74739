// The file behind /dev/ioasid: a container of I/O address spaces, and the calls on them.
// May import, of this folder, all but the host and the other files. Calls: RFC section 2.1; the rest is from the review of it.

import { checkStruct, show, takeBoolean, takeOptionalBoolean, takeU32 } from "./arguments.js";
import { bindTable, takeTable, unbindTable } from "./bound-table.js";
import type { Device } from "./device.js";
import { detachAll } from "./attach.js";
import { dirtyBitmap, setTracking } from "./dirty-calls.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import type { FaultDispatch } from "./fault-dispatch.js";
import type { FaultInbox } from "./fault-inbox.js";
import { FaultQueue } from "./fault-queue.js";
import { Ids } from "./ids.js";
import { deviceInfo, findLabelled, groupState, ioasidInfo } from "./info.js";
import { invalidate } from "./invalidation.js";
import { Ioasid, type IoasidContext } from "./ioasid.js";
import { map, takeMapFlags, takeUnmapAll, unmap, unmapAll } from "./ioasid-maps.js";
import { mapList, unmapList } from "./map-lists.js";
import { requirePageRequests, stillInUse, tooDeep } from "./nesting-errors.js";
import { type FileTable, OpenFile } from "./open-file.js";
import { respond, respondRange } from "./page-response.js";
import { bindPasidTable, takePasidTable, unbindPasidTable } from "./pasid-table.js";
import { type PasidChange, PasidTableWatch, WATCH } from "./pasid-watch.js";
import type { Pins } from "./pins.js";
import type { Process } from "./process.js";
import { RegisteredMemory } from "./registered-memory.js";
import * as R from "./requests.js";

const CALL = R.REQUESTS;
const CLOSE: R.Call = { name: "close", fields: new Set() };
/** An ioasid is an ioctl's return value, which must not look negative. */
const LAST_IOASID = 2 ** 31 - 1;
const EXTENSIONS: ReadonlySet<number> = new Set([
  R.IOASID_EXT_MAP_TYPE1V2, R.IOASID_EXT_UNMAP_ALL, R.IOASID_EXT_REGISTER_MEMORY, R.IOASID_EXT_NESTING, R.IOASID_EXT_USER_PGTABLE,
  R.IOASID_EXT_DIRTY_TRACKING, R.IOASID_EXT_MULTIDEV_GROUP, R.IOASID_EXT_PAGE_REQUESTS, R.IOASID_EXT_PASID_TABLE,
]);

export interface IoasidFdOptions {
  readonly process: Process;
  /** Refuse what is asked of an ioasid before its first attach, as the RFC does. */
  readonly strictAttach: boolean;
  readonly accounting: Accounting;
  readonly faults: FaultDispatch;
}

/** What charges a page that several maps cover once: each ioasid (the RFC's rule), or the whole fd. */
export type Accounting = "ioasid" | "fd";

/** The guest's table that a space is allocated with. */
type TableOf = Pick<Ioasid, "pgtable"> | Pick<Ioasid, "pasidTable">;

/**
 * All calls throw IoctlError: EBADF (closed), EFAULT and EINVAL (bad arguments), and what they name. A refused call has changed
 * nothing; but ETIMEDOUT, when a port of another thread does not leave its section: then the same call goes on where it stopped (changes.ts).
 */
export class IoasidFd extends OpenFile<"ioasid"> implements R.Calls<"ioasid"> {
  readonly #context: IoasidContext;
  readonly #ids = new Ids(LAST_IOASID);
  /** Parents before their children. */
  readonly #ioasids = new Map<number, Ioasid>();
  /** The devices bound to this fd. Bind and unbind keep it. */
  readonly devices = new Set<Device>();
  /** What devices report: missing pages that they wait for, and accesses that were refused. */
  readonly faults: FaultQueue;
  /** @internal The other end of `faults`. */
  readonly inbox: FaultInbox;
  readonly #dispatch: FaultDispatch;

  constructor(number: number, files: FileTable, { process, strictAttach, accounting, faults }: IoasidFdOptions) {
    super("ioasid", number, files);
    this.#dispatch = faults;
    this.inbox = faults.inbox();
    this.faults = new FaultQueue(this.inbox, faults);
    const pins = accounting === "fd" ? process.addPins({ name: `maps of the ioasids of fd ${number}` }) : undefined;
    this.#context = { process, registered: new RegisteredMemory(process), pins, strictAttach, tracking: 0 };
  }

  /** 1 when the fd has the extension, else 0. */
  checkExtension(arg: R.CheckExtension): 0 | 1 {
    const call = this.#take(R.IOASID_CHECK_EXTENSION, arg);
    const extension = takeU32(call, "extension", arg.extension);
    if (extension === R.IOASID_EXT_MAP_BEFORE_ATTACH) return this.#context.strictAttach ? 0 : 1;
    return EXTENSIONS.has(extension) ? 1 : 0;
  }

  /**
   * Pins and charges memory of the process once, however many ioasids map it. While any is registered, only registered memory is
   * mapped, and maps charge nothing. @throws IoctlError EOVERFLOW, EEXIST (overlaps a registered range), EFAULT (memory is missing),
   * ENOMEM (lock limit).
   */
  registerMemory(arg: R.MemoryRange): void {
    this.#change(R.IOASID_REGISTER_MEMORY, arg, () => this.#context.registered.register(arg));
  }

  /** Takes back exactly one registration. @throws IoctlError EOVERFLOW, ENOENT (no such range), EBUSY (a map uses it). */
  unregisterMemory(arg: R.MemoryRange): void {
    this.#change(R.IOASID_UNREGISTER_MEMORY, arg, () => this.#context.registered.unregister(arg, this.#pins()));
  }

  /** All spaces, parents before their children. */
  get spaces(): Iterable<Ioasid> {
    return this.#ioasids.values();
  }

  *#pins(): Iterable<Pins> {
    for (const { source } of this.#ioasids.values()) if (source.pins !== undefined) yield source.pins;
  }

  /** A new ioasid without maps or devices, 1..2^31-1. */
  alloc(): number {
    return this.change(CALL[R.IOASID_ALLOC], undefined, () => this.#alloc(CALL[R.IOASID_ALLOC]));
  }

  /** A child of `parent`: what it puts out are addresses of the parent. @throws IoctlError ENOENT, ENODEV, EDEADLK, ENOSPC (depth). */
  createNesting(arg: R.CreateNesting): number {
    return this.#change(R.IOASID_CREATE_NESTING, arg, (call) => this.#nest(call, arg.parent, takeBoolean(call, "dryRun", arg.dryRun)));
  }

  /** `alloc` and `createNesting` under the name that all allocations share. With `dryRun` the answer is 0. */
  allocIoasid(arg: R.AllocIoasid = {}): number {
    return this.#change(R.IOASID_ALLOC_IOASID, arg, (call) => {
      const dryRun = takeBoolean(call, "dryRun", arg.dryRun);
      const pageRequests = takeOptionalBoolean(call, "pageRequests", arg.pageRequests);
      return arg.parent === undefined ? this.#alloc(call, undefined, dryRun, pageRequests) : this.#nest(call, arg.parent, dryRun, pageRequests);
    });
  }

  /** `createNesting` and `bindPgtable` in one step. @throws IoctlError as both. */
  allocIoasidPgtable(arg: R.AllocIoasidPgtable): number {
    return this.#change(R.IOASID_ALLOC_IOASID_PGTABLE, arg, (call) => {
      const dryRun = takeBoolean(call, "dryRun", arg.dryRun);
      const pageRequests = takeOptionalBoolean(call, "pageRequests", arg.pageRequests);
      return this.#nest(call, arg.parent, dryRun, pageRequests, (parent) => ({ pgtable: takeTable(call, parent, arg) }));
    });
  }

  /** `createNesting` and `bindPasidTable` in one step. @throws IoctlError as both. */
  allocIoasidPasidTable(arg: R.AllocIoasidPasidTable): number {
    return this.#change(R.IOASID_ALLOC_IOASID_PASID_TABLE, arg, (call) => {
      const dryRun = takeBoolean(call, "dryRun", arg.dryRun);
      const pageRequests = takeOptionalBoolean(call, "pageRequests", arg.pageRequests);
      return this.#nest(call, arg.parent, dryRun, pageRequests, (parent) => ({ pasidTable: takePasidTable(call, parent, arg) }));
    });
  }

  #nest(call: R.Call, number: number, dryRun: boolean, pageRequests?: boolean, take?: (parent: Ioasid) => TableOf): number {
    const parent = this.find(call, number, "parent");
    parent.requireReady(call, "parent");
    if (parent.guestTable !== undefined) throw tooDeep(call, parent);
    if (pageRequests === true) requirePageRequests(call, parent);
    const given = take?.(parent);
    const child = this.#alloc(call, parent, dryRun, pageRequests);
    if (!dryRun) Object.assign(this.#ioasids.get(child)!, given);
    return child;
  }

  #alloc(call: R.Call, parent?: Ioasid, dryRun = false, pageRequests?: boolean): number {
    if (this.#ids.exhausted) {
      throw new IoctlError("ENOSPC", call.name, `fd ${this.number} has used up its ioasids`, { hint: "open /dev/ioasid anew" });
    }
    if (dryRun) return 0;
    const number = this.#ids.take()!;
    this.#ioasids.set(number, new Ioasid(number, this.#context, parent, pageRequests));
    return number;
  }

  /** Removes an ioasid and its maps. @throws IoctlError ENOENT, EBUSY while a device is attached, a child is there, or a VM uses it. */
  free(arg: R.IoasidArgument): void {
    this.#change(R.IOASID_FREE, arg, (call) => {
      const ioasid = this.find(call, arg.ioasid);
      if (ioasid.devices.size > 0 || ioasid.children.size > 0 || ioasid.kvmUsers > 0) throw stillInUse(call, ioasid);
      ioasid.destroy();
      this.#ioasids.delete(ioasid.number);
    });
  }

  /** Kind, format, limits and charge of an ioasid. @throws IoctlError ENOENT, EDEADLK; ENODEV before the first attach with `strictAttach`. */
  getInfo(arg: R.IoasidArgument): R.IoasidInfo {
    const call = this.#take(R.IOASID_GET_INFO, arg);
    const ioasid = this.find(call, arg.ioasid);
    ioasid.requireReady(call);
    return ioasidInfo(ioasid);
  }

  /** What a bound device, and the IOMMU before it, can do. @throws IoctlError ENOENT when no bound device has the label. */
  deviceGetInfo(arg: R.DeviceArgument): R.DeviceInfo {
    const call = this.#take(R.IOASID_DEVICE_GET_INFO, arg);
    return deviceInfo(findLabelled(call, this.number, this.devices, arg.label));
  }

  /** Which devices of the groups here are attached, and which are missing. @throws IoctlError ENOENT. */
  getGroupState(arg: R.IoasidArgument): R.GroupState {
    return groupState(this.find(this.#take(R.IOASID_GET_GROUP_STATE, arg), arg.ioasid));
  }

  /**
   * Maps memory of the process, and pins it; in a child: addresses of the parent, whatever the parent maps there now or later.
   * @throws IoctlError ENOENT (no such ioasid), EINVAL (empty, misaligned, flags, not permitted by the IOMMU), EOVERFLOW (runs
   * past 2^64), EEXIST (overlaps a map), EFAULT (memory is missing or protected), EPERM (not registered), ENOMEM (lock limit, page
   * tables), EOPNOTSUPP (a write-only map that the format cannot express), EBUSY (a table is bound), EDEADLK (a section is open, or
   * a group partly attached), ENODEV (never attached, with `strictAttach`).
   */
  dmaMap(arg: R.DmaMap): void {
    this.#change(R.IOASID_DMA_MAP, arg, (call) => {
      const ioasid = this.find(call, arg.ioasid);
      const dryRun = takeBoolean(call, "dryRun", arg.dryRun);
      if ("entries" in arg && arg.entries !== undefined) return mapList(ioasid, arg, dryRun);
      const entry = arg as R.MapEntry;
      map(ioasid, entry, takeMapFlags(call, entry.flags), dryRun);
    });
  }

  /**
   * Removes the maps in a range, whole ones only, and answers their bytes. An empty range is no error: 0.
   * Once it has returned, no DMA reaches the memory through them, nor through any space nested on them.
   * @throws IoctlError ENOENT (no such ioasid), EINVAL (empty, misaligned, flags, a map lies across an end), EOVERFLOW, EBUSY (a
   * table is bound), EDEADLK, ENODEV.
   */
  dmaUnmap(arg: R.DmaUnmap): { readonly size: bigint } {
    return this.#change(R.IOASID_DMA_UNMAP, arg, (call) => {
      const ioasid = this.find(call, arg.ioasid);
      if ("entries" in arg && arg.entries !== undefined) return { size: unmapList(ioasid, arg) };
      const range = arg as R.UnmapRange;
      return { size: takeUnmapAll(call, range) ? unmapAll(ioasid) : unmap(ioasid, range.iova, range.size) };
    });
  }

  /**
   * Gives a child a guest's table in place of maps: the IOMMU walks it in the parent's addresses.
   * @throws IoctlError ENOENT, EINVAL (no child, a bad format), EOPNOTSUPP (the IOMMU has no such tables), EBUSY (it has maps or
   * children, or tracks dirty pages), EEXIST (it has a table), EFAULT (the parent does not map `addr`), ENOSPC, EDEADLK, ENODEV.
   */
  bindPgtable(arg: R.BindPgtable): void {
    this.#change(R.IOASID_BIND_PGTABLE, arg, (call) => bindTable(call, this.find(call, arg.ioasid), arg, takeBoolean(call, "dryRun", arg.dryRun)));
  }

  /** Takes the table away: nothing is mapped then. @throws IoctlError ENOENT (no ioasid, no table), ENOMEM, ENOSPC, EDEADLK, ENODEV. */
  unbindPgtable(arg: R.IoasidArgument): void {
    this.#change(R.IOASID_UNBIND_PGTABLE, arg, (call) => {
      const ioasid = this.find(call, arg.ioasid);
      unbindTable(ioasid);
      this.#dispatch.unbound(this.inbox, ioasid);
    });
  }

  /** Lets a device that waits for pages go on. @throws IoctlError EINVAL (code), ENOENT (no group with that cookie waits on this fd). */
  pageResponse(arg: R.PageResponse): void {
    this.#take(R.IOASID_PAGE_RESPONSE, arg);
    respond(this.inbox, this.#dispatch, arg);
  }

  /** The same for all that wait for a page of a range; answers how many groups. @throws IoctlError ENOENT, EINVAL, EOVERFLOW. */
  pageResponseRange(arg: R.PageResponseRange): { readonly completed: number } {
    const ioasid = this.find(this.#take(R.IOASID_PAGE_RESPONSE_RANGE, arg), arg.ioasid);
    return { completed: respondRange(this.inbox, ioasid, arg) };
  }

  /** @internal DMA of these devices may be led elsewhere now: nobody answers what they asked of the space before. */
  answerMoved(devices: readonly Device[]): void {
    this.#dispatch.detached(this.inbox, devices);
  }

  /**
   * Gives a child a guest's PASID table: it has all PASIDs of the devices there.
   * @throws IoctlError as `bindPgtable`; EBUSY (attached with a PASID), EINVAL (a mediated device is attached), too.
   */
  bindPasidTable(arg: R.BindPasidTable): void {
    this.#change(R.IOASID_BIND_PASID_TABLE, arg, (call) => bindPasidTable(call, this.find(call, arg.ioasid), arg, takeBoolean(call, "dryRun", arg.dryRun)));
  }

  /** Takes it away: nothing is mapped then. @throws IoctlError ENOENT (no ioasid, no table), ENOMEM, ENOSPC, EDEADLK, ENODEV. */
  unbindPasidTable(arg: R.IoasidArgument): void {
    this.#change(R.IOASID_UNBIND_PASID_TABLE, arg, (call) => {
      const ioasid = this.find(call, arg.ioasid);
      unbindPasidTable(ioasid);
      this.#dispatch.unbound(this.inbox, ioasid);
    });
  }

  /**
   * Says which entries of a bound PASID table the guest has changed: at `notifyWrite`, at `scan`, and, through `onChange` alone, when
   * a DMA view of this thread writes there. @throws IoctlError EBADF, ENOENT, EINVAL (no PASID table is bound).
   */
  watchPasidTable(arg: R.IoasidArgument, onChange?: (changes: readonly PasidChange[]) => void): PasidTableWatch {
    this.use(WATCH);
    checkStruct(WATCH, arg);
    return new PasidTableWatch(this.find(WATCH, arg.ioasid), onChange);
  }

  /**
   * Once it has returned, nothing is translated by what the guest's table said before it changed; answers the entries handled.
   * @throws IoctlError ENOENT, EINVAL (no table is bound, misaligned, a device that is not attached), EOVERFLOW, EOPNOTSUPP
   * (granularity, caches), EDEADLK, ENODEV; then no entry was handled.
   */
  invalidateCache(arg: R.InvalidateCache): { readonly handled: number } {
    return this.#change(R.IOASID_INVALIDATE_CACHE, arg, (call) => ({ handled: invalidate(this.find(call, arg.ioasid), arg) }));
  }

  /** Pages are clean when tracking begins. @throws IoctlError ENOENT, EINVAL, EOPNOTSUPP (the IOMMU cannot, a table is bound), EDEADLK, ENODEV. */
  setDirtyTracking(arg: R.SetDirtyTracking): void {
    this.#change(R.IOASID_SET_DIRTY_TRACKING, arg, (call) => setTracking(this.find(call, arg.ioasid), arg));
  }

  /**
   * Pages that DMA wrote, through this ioasid or one nested on it. @throws IoctlError ENOENT, EINVAL (misaligned, empty, page size),
   * EOVERFLOW, EOPNOTSUPP (it does not track), EDEADLK, ENODEV.
   */
  getDirtyBitmap(arg: R.GetDirtyBitmap): R.DirtyBitmap {
    return this.#change(R.IOASID_GET_DIRTY_BITMAP, arg, (call) => dirtyBitmap(this.find(call, arg.ioasid), arg));
  }

  /** Detaches and unbinds the devices of this fd, unmaps and frees everything. @throws IoctlError EBADF, EDEADLK. */
  close(): void {
    this.change(CLOSE, undefined, () => {
      for (const ioasid of this.#ioasids.values()) if (ioasid.inSection) throw inSection(CLOSE);
      for (const device of this.devices) {
        detachAll(device);
        device.binding = undefined;
      }
      this.devices.clear();
      this.afterwards(() => this.#release());
    });
  }

  /** Once no DMA reaches anything of the fd. */
  #release(): void {
    for (const ioasid of [...this.#ioasids.values()].reverse()) ioasid.destroy();
    this.#ioasids.clear();
    const { process, registered, pins } = this.#context;
    registered.destroy();
    if (pins !== undefined) process.dropPins(pins);
    this.end();
    this.faults.close();
  }

  /** Some VM replaces PASIDs for devices of this fd. */
  get translatesPasids(): boolean {
    for (const { kvmUsers } of this.#ioasids.values()) if (kvmUsers > 0) return true;
    return false;
  }

  /** A call that changes something, once its argument is a structure. */
  #change<T>(request: R.RequestNumber, arg: unknown, change: (call: R.Call) => T): T {
    const call = CALL[request];
    return this.change(call, arg, () => {
      checkStruct(call, arg);
      return change(call);
    });
  }

  /** The call of one that changes nothing, once its fd is open and its argument a structure. */
  #take(request: R.RequestNumber, arg: unknown): R.Call {
    const call = CALL[request];
    this.use(call);
    checkStruct(call, arg);
    return call;
  }

  /** The ioasid of this fd with that number. @throws IoctlError EINVAL when it is no u32, ENOENT when there is none. */
  find(call: R.Call, number: number, field = "ioasid"): Ioasid {
    const ioasid = this.#ioasids.get(number) ?? this.#ioasids.get(takeU32(call, field, number));
    if (ioasid !== undefined) return ioasid;
    const known = [...this.#ioasids.keys()];
    const hint = known.length === 0 ? "it has none yet: IOASID_ALLOC makes one" : `it has ${known.join(", ")}`;
    throw new IoctlError("ENOENT", call.name, `fd ${this.number} has no ioasid ${show(number)}`, { field, value: number, hint });
  }
}
