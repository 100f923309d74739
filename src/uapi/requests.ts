// Names, numbers, arguments and results of the calls: the one table behind the methods of the fds and `ioctl()`.
// Imports types only. Ranges are inclusive, first..last. Calls and structures: RFC "/dev/ioasid uAPI proposal" of May 2021,
// sections 2.1 (ioasid fd) and 2.2 (device fd), in the spelling of its section 5; ALLOC_IOASID is a name from Gunthorpe's review.

import type { OpenFile } from "./open-file.js";

// --- Numbers: type ';' (0x3b) in bits 15..8, no size and no direction -----------------------------------------------
// The RFC names a base for /dev/ioasid without a value: 0x40 here. VFIO's base is 100.
export const IOASID_CHECK_EXTENSION = 0x3b40; // base + 0
export const IOASID_ALLOC = 0x3b43; // base + 3
export const IOASID_FREE = 0x3b44; // base + 4
export const IOASID_GET_INFO = 0x3b45; // base + 5
export const IOASID_DMA_MAP = 0x3b46; // base + 6
export const IOASID_DMA_UNMAP = 0x3b47; // base + 7
export const IOASID_ALLOC_IOASID = 0x3b4e; // base + 14
export const VFIO_BIND_IOASID_FD = 0x3b7a; // 100 + 22
export const VFIO_UNBIND_IOASID_FD = 0x3b7b; // 100 + 23
export const VFIO_ATTACH_IOASID = 0x3b7c; // 100 + 24
export const VFIO_DETACH_IOASID = 0x3b7d; // 100 + 25
/** Section 2 of the RFC spells the two mapping calls this way, section 5 the other. */
export const IOASID_MAP_DMA = IOASID_DMA_MAP;
export const IOASID_UNMAP_DMA = IOASID_DMA_UNMAP;

// --- Flags and extensions --------------------------------------------------------------------------------------------
export const IOASID_DMA_MAP_FLAG_READ = 1;
export const IOASID_DMA_MAP_FLAG_WRITE = 2;
export const IOASID_DMA_UNMAP_FLAG_ALL = 2;
/** Maps and unmaps follow VFIO type1 v2: overlaps are refused, only whole mappings are removed. */
export const IOASID_EXT_MAP_TYPE1V2 = 1;
/** `IOASID_DMA_UNMAP_FLAG_ALL` is understood. */
export const IOASID_EXT_UNMAP_ALL = 2;
/** An ioasid takes maps before its first attach; off when the host was made with `strictAttach`. */
export const IOASID_EXT_MAP_BEFORE_ATTACH = 3;

// --- Arguments ---------------------------------------------------------------------------------------------------------
/** An address or a size in bytes, 0..2^64-1. A number must be a safe integer. */
export type U64 = bigint | number;
/** An open fd, by object or by its number. */
export type FdArgument = number | OpenFile;

export interface CheckExtension {
  /** `IOASID_EXT_*`; numbers that are not known answer 0. */
  readonly extension: number;
}

export interface IoasidArgument {
  readonly ioasid: number;
}

/** No member yet means: a root, managed with map and unmap. */
export interface AllocIoasid {
  /** Nesting on a parent: refused with EOPNOTSUPP. */
  readonly parent?: number;
}

export interface DmaMap {
  readonly ioasid: number;
  /** First I/O virtual address; a multiple of the ioasid's alignment, as is `size`. */
  readonly iova: U64;
  /** Host virtual address of the first byte, of memory that the process has mapped. */
  readonly vaddr: U64;
  readonly size: U64;
  /** `IOASID_DMA_MAP_FLAG_*`, at least one; absent: readable and writable. */
  readonly flags?: number;
}

export interface DmaUnmap {
  readonly ioasid: number;
  /** With `IOASID_DMA_UNMAP_FLAG_ALL` both are 0 or absent, else both are needed. */
  readonly iova?: U64;
  readonly size?: U64;
  readonly flags?: number;
}

export interface BindIoasidFd {
  readonly ioasidFd: FdArgument;
  /** 64 bits that faults of this device carry; 0 when absent. */
  readonly cookie?: U64;
}

export interface UnbindIoasidFd {
  /** When given it must be the fd that the device is bound to. */
  readonly ioasidFd?: FdArgument;
}

/** Attach and detach take the same structure. */
export interface AttachIoasid {
  readonly ioasid: number;
  /** No flag is known yet: anything but 0 is EOPNOTSUPP. */
  readonly flags?: number;
}

// --- Results -------------------------------------------------------------------------------------------------------------
export interface AddressRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** What IOASID_GET_INFO answers. The format and what depends on it are only known while a device is attached. */
export interface IoasidInfo {
  readonly ioasid: number;
  /** Names of the attached devices. */
  readonly devices: readonly string[];
  /** The page-table format; null while no device is attached. */
  readonly format: string | null;
  /** Bits of an I/O virtual address: 64 while no device is attached. */
  readonly addressWidth: number;
  /** Where maps may lie, ascending, reserved ranges taken out. */
  readonly permitted: readonly AddressRange[];
  readonly reserved: readonly (AddressRange & { readonly why: string })[];
  /** Bytes; iova and size of a map are multiples of it. 4096 while no device is attached. */
  readonly alignment: number;
  /** Bit n set: the hardware has pages of 2^n bytes. 0 while no device is attached. */
  readonly pageSizes: bigint;
  /** Whether a map may be writable without being readable; false while no device is attached. */
  readonly writeOnly: boolean;
  /** Number of maps. */
  readonly mappings: number;
  /** Bytes that this ioasid has charged to the lock limit. */
  readonly locked: bigint;
  /** Bytes that the whole process has charged, and its limit. */
  readonly lockedTotal: bigint;
  readonly lockLimit: bigint;
}

// --- The table -----------------------------------------------------------------------------------------------------------
export type FileKind = "ioasid" | "device";

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
  [IOASID_ALLOC]: Shape<"ioasid", "alloc", [], never, number>;
  [IOASID_ALLOC_IOASID]: Shape<"ioasid", "allocIoasid", [AllocIoasid?], never, number>;
  [IOASID_FREE]: Shape<"ioasid", "free", [IoasidArgument], number, void>;
  [IOASID_GET_INFO]: Shape<"ioasid", "getInfo", [IoasidArgument], number, IoasidInfo>;
  [IOASID_DMA_MAP]: Shape<"ioasid", "dmaMap", [DmaMap], never, void>;
  [IOASID_DMA_UNMAP]: Shape<"ioasid", "dmaUnmap", [DmaUnmap], never, { readonly size: bigint }>;
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
  [IOASID_ALLOC_IOASID]: spec("ioasid", "allocIoasid", "IOASID_ALLOC_IOASID", ["parent"]),
  [IOASID_FREE]: spec("ioasid", "free", "IOASID_FREE", ["ioasid"], "ioasid"),
  [IOASID_GET_INFO]: spec("ioasid", "getInfo", "IOASID_GET_INFO", ["ioasid"], "ioasid"),
  [IOASID_DMA_MAP]: spec("ioasid", "dmaMap", "IOASID_DMA_MAP", ["ioasid", "iova", "vaddr", "size", "flags"]),
  [IOASID_DMA_UNMAP]: spec("ioasid", "dmaUnmap", "IOASID_DMA_UNMAP", ["ioasid", "iova", "size", "flags"]),
  [VFIO_BIND_IOASID_FD]: spec("device", "bindIoasidFd", "VFIO_BIND_IOASID_FD", ["ioasidFd", "cookie"], "ioasidFd"),
  [VFIO_UNBIND_IOASID_FD]: spec("device", "unbindIoasidFd", "VFIO_UNBIND_IOASID_FD", ["ioasidFd"], "ioasidFd"),
  [VFIO_ATTACH_IOASID]: spec("device", "attachIoasid", "VFIO_ATTACH_IOASID", ["ioasid", "flags"]),
  [VFIO_DETACH_IOASID]: spec("device", "detachIoasid", "VFIO_DETACH_IOASID", ["ioasid", "flags"]),
};

const BY_NUMBER: ReadonlyMap<unknown, RequestSpec> = new Map(
  Object.entries(REQUESTS).map(([number, found]): [unknown, RequestSpec] => [Number(number), found]),
);

/** The request with this number, if there is one; anything may be passed. */
export function findRequest(request: unknown): RequestSpec | undefined {
  return BY_NUMBER.get(request);
}
