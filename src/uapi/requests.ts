// Names and numbers of the calls: the one table behind the methods of the fds and `ioctl()`. Their arguments and results are in
// request-types.ts. Imports types, and codes of engine/. Calls: RFC "/dev/ioasid uAPI proposal" of May 2021, sections 2.1 (ioasid fd) and 2.2
// (device fd), in the spelling of its section 5. The ALLOC_IOASID names, and the group fd, are from Gunthorpe's review of it.

import type { VfioDeviceFd } from "./device-fd.js";
import type {
  AllocIoasid, AllocIoasidPgtable, AttachIoasid, BindIoasidFd, BindPgtable, CheckExtension, CreateNesting, DeviceArgument, DeviceInfo,
  DirtyBitmap, DmaMap, DmaUnmap, FdArgument, GetDirtyBitmap, GroupGetDeviceFd, GroupState, InvalidateCache, IoasidArgument,
  IoasidInfo, MapPasid, MemoryRange, PageResponse, PageResponseRange, SetDirtyTracking, UnbindIoasidFd, UnmapPasid,
} from "./request-types.js";

export type * from "./request-types.js";

// --- Numbers: type ';' (0x3b) in bits 15..8, no size and no direction -----------------------------------------------
// The RFC names a base for /dev/ioasid without a value: 0x40 here. VFIO's base is 100.
export const IOASID_CHECK_EXTENSION = 0x3b40; // base + 0
export const IOASID_REGISTER_MEMORY = 0x3b41; // base + 1
export const IOASID_UNREGISTER_MEMORY = 0x3b42; // base + 2
export const IOASID_ALLOC = 0x3b43; // base + 3
export const IOASID_FREE = 0x3b44; // base + 4
export const IOASID_GET_INFO = 0x3b45; // base + 5
export const IOASID_DMA_MAP = 0x3b46; // base + 6
export const IOASID_DMA_UNMAP = 0x3b47; // base + 7
export const IOASID_CREATE_NESTING = 0x3b48; // base + 8
export const IOASID_BIND_PGTABLE = 0x3b49; // base + 9
export const IOASID_UNBIND_PGTABLE = 0x3b4a; // base + 10
export const IOASID_INVALIDATE_CACHE = 0x3b4d; // base + 13
// From here on what the review asks for and the RFC lacks.
export const IOASID_ALLOC_IOASID = 0x3b4e; // base + 14
export const IOASID_ALLOC_IOASID_PGTABLE = 0x3b4f; // base + 15
export const IOASID_PAGE_RESPONSE = 0x3b51; // base + 17
export const IOASID_PAGE_RESPONSE_RANGE = 0x3b52; // base + 18
export const IOASID_SET_DIRTY_TRACKING = 0x3b53; // base + 19
export const IOASID_GET_DIRTY_BITMAP = 0x3b54; // base + 20
export const IOASID_GET_GROUP_STATE = 0x3b55; // base + 21
export const IOASID_DEVICE_GET_INFO = 0x3b56; // base + 22
// Type 0xae, KVM's.
export const KVM_MAP_PASID = 0xaef0;
export const KVM_UNMAP_PASID = 0xaef1;
export const VFIO_GROUP_GET_DEVICE_FD = 0x3b6a; // 100 + 6, VFIO's own
export const VFIO_BIND_IOASID_FD = 0x3b7a; // 100 + 22
export const VFIO_UNBIND_IOASID_FD = 0x3b7b; // 100 + 23
export const VFIO_ATTACH_IOASID = 0x3b7c; // 100 + 24
export const VFIO_DETACH_IOASID = 0x3b7d; // 100 + 25
/** Section 2 of the RFC spells the two mapping calls this way, section 5 the other. */
export const IOASID_MAP_DMA = IOASID_DMA_MAP;
export const IOASID_UNMAP_DMA = IOASID_DMA_UNMAP;

// --- Flags and extensions --------------------------------------------------------------------------------------------
/** Attach and detach: `userPasid` is there. */
export const IOASID_ATTACH_USER_PASID = 1;
export const IOASID_DMA_MAP_FLAG_READ = 1;
export const IOASID_DMA_MAP_FLAG_WRITE = 2;
export const IOASID_DMA_UNMAP_FLAG_ALL = 2;
/** Maps and unmaps follow VFIO type1 v2: overlaps are refused, only whole mappings are removed. */
export const IOASID_EXT_MAP_TYPE1V2 = 1;
/** `IOASID_DMA_UNMAP_FLAG_ALL` is understood. */
export const IOASID_EXT_UNMAP_ALL = 2;
/** An ioasid takes maps before its first attach; off when the host was made with `strictAttach`. */
export const IOASID_EXT_MAP_BEFORE_ATTACH = 3;
/** `IOASID_REGISTER_MEMORY`, nesting by maps, nesting by a bound table, dirty tracking, groups of several devices. */
export const IOASID_EXT_REGISTER_MEMORY = 4;
export const IOASID_EXT_NESTING = 5;
export const IOASID_EXT_USER_PGTABLE = 6;
export const IOASID_EXT_DIRTY_TRACKING = 7;
export const IOASID_EXT_MULTIDEV_GROUP = 8;
/** Devices ask for pages, and what they report is in the fault queue of the fd. */
export const IOASID_EXT_PAGE_REQUESTS = 9;
/** What a device does then: it tries again; it gives up, because there is no such page; it gives up, because something failed. */
export {
  PAGE_RESPONSE_FAILURE as IOASID_PAGE_RESPONSE_FAILURE, PAGE_RESPONSE_INVALID as IOASID_PAGE_RESPONSE_INVALID,
  PAGE_RESPONSE_SUCCESS as IOASID_PAGE_RESPONSE_SUCCESS,
} from "../engine/stalls.js";
export const IOASID_INVALIDATE_ALL = 0;
export const IOASID_INVALIDATE_RANGE = 1;
/** Caches that an invalidation is for. */
export const IOASID_CACHE_IOTLB = 1;
export const IOASID_CACHE_DEVICE_TLB = 2;

// --- The table -----------------------------------------------------------------------------------------------------------
export type FileKind = "ioasid" | "device" | "group" | "kvm";

/** Arguments `args` of the method, what `ioctl()` takes in place of the structure, and the result. */
interface Shape<K extends FileKind, M extends string, Args extends unknown[], ByValue, Result> {
  fd: K;
  method: M;
  args: Args;
  byValue: ByValue;
  result: Result;
}

export interface Requests {
  [IOASID_CHECK_EXTENSION]: Shape<"ioasid", "checkExtension", [CheckExtension], number, 0 | 1>;
  [IOASID_REGISTER_MEMORY]: Shape<"ioasid", "registerMemory", [MemoryRange], never, void>;
  [IOASID_UNREGISTER_MEMORY]: Shape<"ioasid", "unregisterMemory", [MemoryRange], never, void>;
  [IOASID_ALLOC]: Shape<"ioasid", "alloc", [], never, number>;
  [IOASID_ALLOC_IOASID]: Shape<"ioasid", "allocIoasid", [AllocIoasid?], never, number>;
  [IOASID_FREE]: Shape<"ioasid", "free", [IoasidArgument], number, void>;
  [IOASID_GET_INFO]: Shape<"ioasid", "getInfo", [IoasidArgument], number, IoasidInfo>;
  [IOASID_DMA_MAP]: Shape<"ioasid", "dmaMap", [DmaMap], never, void>;
  [IOASID_DMA_UNMAP]: Shape<"ioasid", "dmaUnmap", [DmaUnmap], never, { readonly size: bigint }>;
  [IOASID_CREATE_NESTING]: Shape<"ioasid", "createNesting", [CreateNesting], number, number>;
  [IOASID_BIND_PGTABLE]: Shape<"ioasid", "bindPgtable", [BindPgtable], never, void>;
  [IOASID_UNBIND_PGTABLE]: Shape<"ioasid", "unbindPgtable", [IoasidArgument], number, void>;
  [IOASID_INVALIDATE_CACHE]: Shape<"ioasid", "invalidateCache", [InvalidateCache], number, { readonly handled: number }>;
  [IOASID_ALLOC_IOASID_PGTABLE]: Shape<"ioasid", "allocIoasidPgtable", [AllocIoasidPgtable], never, number>;
  [IOASID_PAGE_RESPONSE]: Shape<"ioasid", "pageResponse", [PageResponse], never, void>;
  [IOASID_PAGE_RESPONSE_RANGE]: Shape<"ioasid", "pageResponseRange", [PageResponseRange], never, { readonly completed: number }>;
  [IOASID_SET_DIRTY_TRACKING]: Shape<"ioasid", "setDirtyTracking", [SetDirtyTracking], never, void>;
  [IOASID_GET_DIRTY_BITMAP]: Shape<"ioasid", "getDirtyBitmap", [GetDirtyBitmap], never, DirtyBitmap>;
  [IOASID_GET_GROUP_STATE]: Shape<"ioasid", "getGroupState", [IoasidArgument], number, GroupState>;
  [IOASID_DEVICE_GET_INFO]: Shape<"ioasid", "deviceGetInfo", [DeviceArgument], number, DeviceInfo>;
  [KVM_MAP_PASID]: Shape<"kvm", "mapPasid", [MapPasid], never, void>;
  [KVM_UNMAP_PASID]: Shape<"kvm", "unmapPasid", [UnmapPasid], number, void>;
  [VFIO_GROUP_GET_DEVICE_FD]: Shape<"group", "getDeviceFd", [GroupGetDeviceFd], string, VfioDeviceFd>;
  [VFIO_BIND_IOASID_FD]: Shape<"device", "bindIoasidFd", [BindIoasidFd], FdArgument, number>;
  [VFIO_UNBIND_IOASID_FD]: Shape<"device", "unbindIoasidFd", [UnbindIoasidFd?], FdArgument, void>;
  [VFIO_ATTACH_IOASID]: Shape<"device", "attachIoasid", [AttachIoasid], never, void>;
  [VFIO_DETACH_IOASID]: Shape<"device", "detachIoasid", [AttachIoasid], never, void>;
}

export type RequestNumber = keyof Requests;
/** What follows the request number in `ioctl()`: the structure, or the bare value where the RFC passes one. */
export type IoctlArgs<R extends RequestNumber> = Requests[R]["args"] | [Requests[R]["byValue"]];
export type IoctlResult<R extends RequestNumber> = Requests[R]["result"];
/** The methods that an fd of a kind must have. */
export type Calls<K extends FileKind> = {
  [R in RequestNumber as Requests[R]["fd"] extends K ? Requests[R]["method"] : never]: (
    ...args: Requests[R]["args"]
  ) => IoctlResult<R>;
};

/** A call as errors name it, and the fields of its structure. */
export interface Call {
  readonly name: string;
  readonly fields: ReadonlySet<string>;
}

export interface RequestSpec<S extends { fd: FileKind; method: string } = Requests[RequestNumber]> extends Call {
  readonly fd: S["fd"];
  readonly method: S["method"];
  /** The field that a bare value stands for, where the RFC passes one. */
  readonly byValue: string | undefined;
}

function spec<const S extends { fd: FileKind; method: string }>(
  fd: S["fd"],
  method: S["method"],
  name: string,
  fields: readonly string[] = [],
  byValue?: string,
): RequestSpec<S> {
  return { fd, method, name, fields: new Set(fields), byValue };
}

export const REQUESTS: { readonly [R in RequestNumber]: RequestSpec<Requests[R]> } = {
  [IOASID_CHECK_EXTENSION]: spec("ioasid", "checkExtension", "IOASID_CHECK_EXTENSION", ["extension"], "extension"),
  [IOASID_ALLOC]: spec("ioasid", "alloc", "IOASID_ALLOC"),
  [IOASID_REGISTER_MEMORY]: spec("ioasid", "registerMemory", "IOASID_REGISTER_MEMORY", ["vaddr", "size"]),
  [IOASID_UNREGISTER_MEMORY]: spec("ioasid", "unregisterMemory", "IOASID_UNREGISTER_MEMORY", ["vaddr", "size"]),
  [IOASID_ALLOC_IOASID]: spec("ioasid", "allocIoasid", "IOASID_ALLOC_IOASID", ["parent", "pageRequests", "dryRun"]),
  [IOASID_FREE]: spec("ioasid", "free", "IOASID_FREE", ["ioasid"], "ioasid"),
  [IOASID_GET_INFO]: spec("ioasid", "getInfo", "IOASID_GET_INFO", ["ioasid"], "ioasid"),
  [IOASID_DMA_MAP]: spec("ioasid", "dmaMap", "IOASID_DMA_MAP", ["ioasid", "iova", "vaddr", "size", "flags", "dryRun"]),
  [IOASID_DMA_UNMAP]: spec("ioasid", "dmaUnmap", "IOASID_DMA_UNMAP", ["ioasid", "iova", "size", "flags"]),
  [IOASID_CREATE_NESTING]: spec("ioasid", "createNesting", "IOASID_CREATE_NESTING", ["parent", "dryRun"], "parent"),
  [IOASID_BIND_PGTABLE]: spec("ioasid", "bindPgtable", "IOASID_BIND_PGTABLE", ["ioasid", "addr", "format", "dryRun"]),
  [IOASID_UNBIND_PGTABLE]: spec("ioasid", "unbindPgtable", "IOASID_UNBIND_PGTABLE", ["ioasid"], "ioasid"),
  [IOASID_INVALIDATE_CACHE]: spec("ioasid", "invalidateCache", "IOASID_INVALIDATE_CACHE",
    ["ioasid", "entries", "granularity", "iova", "size", "device", "caches", "leaf"], "ioasid"),
  [IOASID_ALLOC_IOASID_PGTABLE]: spec("ioasid", "allocIoasidPgtable", "IOASID_ALLOC_IOASID_PGTABLE",
    ["parent", "addr", "format", "pageRequests", "dryRun"]),
  [IOASID_PAGE_RESPONSE]: spec("ioasid", "pageResponse", "IOASID_PAGE_RESPONSE", ["cookie", "code"]),
  [IOASID_PAGE_RESPONSE_RANGE]: spec("ioasid", "pageResponseRange", "IOASID_PAGE_RESPONSE_RANGE", ["ioasid", "iova", "size", "code", "pasid"]),
  [IOASID_SET_DIRTY_TRACKING]: spec("ioasid", "setDirtyTracking", "IOASID_SET_DIRTY_TRACKING", ["ioasid", "enable"]),
  [IOASID_GET_DIRTY_BITMAP]: spec("ioasid", "getDirtyBitmap", "IOASID_GET_DIRTY_BITMAP", ["ioasid", "iova", "size", "pageSize", "clear"]),
  [IOASID_GET_GROUP_STATE]: spec("ioasid", "getGroupState", "IOASID_GET_GROUP_STATE", ["ioasid"], "ioasid"),
  [IOASID_DEVICE_GET_INFO]: spec("ioasid", "deviceGetInfo", "IOASID_DEVICE_GET_INFO", ["label"], "label"),
  [KVM_MAP_PASID]: spec("kvm", "mapPasid", "KVM_MAP_PASID", ["userPasid", "ioasidFd", "ioasid"]),
  [KVM_UNMAP_PASID]: spec("kvm", "unmapPasid", "KVM_UNMAP_PASID", ["userPasid", "ioasidFd", "ioasid"], "userPasid"),
  [VFIO_GROUP_GET_DEVICE_FD]: spec("group", "getDeviceFd", "VFIO_GROUP_GET_DEVICE_FD", ["name"], "name"),
  [VFIO_BIND_IOASID_FD]: spec("device", "bindIoasidFd", "VFIO_BIND_IOASID_FD", ["ioasidFd", "cookie"], "ioasidFd"),
  [VFIO_UNBIND_IOASID_FD]: spec("device", "unbindIoasidFd", "VFIO_UNBIND_IOASID_FD", ["ioasidFd"], "ioasidFd"),
  [VFIO_ATTACH_IOASID]: spec("device", "attachIoasid", "VFIO_ATTACH_IOASID", ["ioasid", "flags", "userPasid", "dryRun"]),
  [VFIO_DETACH_IOASID]: spec("device", "detachIoasid", "VFIO_DETACH_IOASID", ["ioasid", "flags", "userPasid"]),
};

const BY_NUMBER: ReadonlyMap<unknown, RequestSpec> = new Map(
  Object.entries(REQUESTS).map(([number, found]): [unknown, RequestSpec] => [Number(number), found]),
);

/** The request with this number, if there is one; anything may be passed. */
export function findRequest(request: unknown): RequestSpec | undefined {
  return BY_NUMBER.get(request);
}
