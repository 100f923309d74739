// Arguments and results of the calls in requests.ts, as C structures would list them. Imports types only, of iommu/ too.
// Ranges are inclusive, first..last. Structures: RFC sections 2.1 and 2.2; what the RFC leaves "to be decided" says so.

import type { GuestTableFormat } from "../iommu/guest-table.js";
import type { OpenFile } from "./open-file.js";

/** An address or a size in bytes, 0..2^64-1. A number must be a safe integer. */
export type U64 = bigint | number;
/** An open fd, by object or by its number. */
export type FdArgument = number | OpenFile;

/** With `dryRun: true` a call checks everything, changes nothing, and throws what it would have thrown. */
export interface DryRun {
  readonly dryRun?: boolean;
}

// --- Arguments: /dev/ioasid ----------------------------------------------------------------------------------------------
export interface CheckExtension {
  /** `IOASID_EXT_*`; numbers that are not known answer 0. */
  readonly extension: number;
}

export interface MemoryRange {
  /** First host virtual address of memory that the process has mapped, and bytes; multiples of 4096. */
  readonly vaddr: U64;
  readonly size: U64;
}

export interface IoasidArgument {
  readonly ioasid: number;
}

export interface CreateNesting extends DryRun {
  /** The ioasid whose input addresses the child puts out. */
  readonly parent: number;
}

export interface AsksForPages {
  /**
   * DMA that finds a page missing asks for it (fault queue), if the device can; else it is refused. Default: only in spaces with a
   * guest's table.
   */
  readonly pageRequests?: boolean;
}

/** Without a parent: a root, managed with map and unmap, whose maps are of the process's memory. */
export interface AllocIoasid extends DryRun, AsksForPages {
  readonly parent?: number;
}

export interface DmaMap extends DryRun {
  readonly ioasid: number;
  /** First I/O virtual address; a multiple of the ioasid's alignment, as is `size`. */
  readonly iova: U64;
  /** A root: host virtual address of the first byte, of memory that the process has mapped. A child: address in its parent. */
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

/** What a guest's table looks like. */
export type PgtableFormat = GuestTableFormat;

export interface BindPgtable extends DryRun {
  /** A child that has neither maps nor a table. */
  readonly ioasid: number;
  /** Address of the table's root in the parent; a multiple of 4096, or of 64 where the format permits it. */
  readonly addr: U64;
  readonly format: PgtableFormat;
}

export interface AllocIoasidPgtable extends DryRun, AsksForPages {
  readonly parent: number;
  readonly addr: U64;
  readonly format: PgtableFormat;
}

/** One thing that the guest invalidated. */
export interface Invalidation {
  /** `IOASID_INVALIDATE_ALL` (default) or `IOASID_INVALIDATE_RANGE`. */
  readonly granularity?: number;
  /** With RANGE: first address and bytes, multiples of 4096. */
  readonly iova?: U64;
  readonly size?: U64;
  /** Label of the only device that is meant. Default: every attached one. */
  readonly device?: number;
  /** `IOASID_CACHE_*`, at least one. Default: the IOTLB and device TLBs. */
  readonly caches?: number;
  /** Only leaves have changed. Default false. */
  readonly leaf?: boolean;
}

/** One invalidation, or several at once. */
export type InvalidateCache = ({ readonly ioasid: number } & Invalidation) | {
  readonly ioasid: number;
  readonly entries: readonly Invalidation[];
};

export interface PageResponse {
  /** Of the requests of a group. */
  readonly cookie: U64;
  /** `IOASID_PAGE_RESPONSE_*`. */
  readonly code: number;
}

export interface PageResponseRange {
  readonly ioasid: number;
  /** First address and bytes, multiples of 4096: each group with a page in there is completed. */
  readonly iova: U64;
  readonly size: U64;
  /** `IOASID_PAGE_RESPONSE_*`. */
  readonly code: number;
  /** Only groups with this PASID. Default: all, with and without. */
  readonly pasid?: number;
}

export interface SetDirtyTracking {
  readonly ioasid: number;
  readonly enable: boolean;
}

export interface GetDirtyBitmap {
  readonly ioasid: number;
  readonly iova: U64;
  readonly size: U64;
  /** Bytes that a bit of the bitmap stands for: a power of two from 4096 up; iova and size are multiples of it. */
  readonly pageSize: number;
  /** What is reported is clean afterwards. Default true. */
  readonly clear?: boolean;
}

export interface DeviceArgument {
  /** The label that VFIO_BIND_IOASID_FD answered. */
  readonly label: number;
}

// --- Arguments: device and group fds ----------------------------------------------------------------------------------------
export interface BindIoasidFd {
  readonly ioasidFd: FdArgument;
  /** 64 bits that faults of this device carry; 0 when absent. */
  readonly cookie?: U64;
}

export interface UnbindIoasidFd {
  /** When given it must be the fd that the device is bound to. */
  readonly ioasidFd?: FdArgument;
}

/** Attach and detach take the same structure; `dryRun` is for attach. */
export interface AttachIoasid extends DryRun {
  readonly ioasid: number;
  /** `IOASID_ATTACH_USER_PASID`, or 0. */
  readonly flags?: number;
  /** With that flag: the vPASID, 1..2^20-1 and within the device's bits, whose DMA this is about. */
  readonly userPasid?: number;
}

export interface GroupGetDeviceFd {
  /** Name of a device of the group. */
  readonly name: string;
}

// --- Arguments: /dev/kvm -------------------------------------------------------------------------------------------------------
export interface MapPasid {
  /** The vPASID that the guest's ENQCMD names. */
  readonly userPasid: number;
  readonly ioasidFd: FdArgument;
  readonly ioasid: number;
}

export interface UnmapPasid {
  readonly userPasid: number;
  /** When given they must be what the vPASID stands for. */
  readonly ioasidFd?: FdArgument;
  readonly ioasid?: number;
}

// --- Results -------------------------------------------------------------------------------------------------------------
export interface AddressRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** What a device's IOMMU can do for spaces nested on another. */
export interface NestingInfo {
  /** Children that are mapped: this software merges them with their parent. */
  readonly software: boolean;
  /** Kinds of guest tables that the IOMMU walks above the parent's; empty: none. */
  readonly hardware: readonly PgtableFormat["kind"][];
}

export type IoasidKind = "kernel" | "child" | "software-nested" | "hardware-nested";

/** What IOASID_GET_INFO answers. The format and what depends on it are only known while a device is attached. */
export interface IoasidInfo {
  readonly ioasid: number;
  /** "child": nested on a parent, and neither mapped nor bound so far. */
  readonly kind: IoasidKind;
  readonly parent: number | null;
  readonly children: readonly number[];
  /** Names of the attached devices. */
  readonly devices: readonly string[];
  /** The page-table format; null while no device is attached. */
  readonly format: string | null;
  /** Bits of an I/O virtual address: those of the bound table, or 64 while no device is attached. */
  readonly addressWidth: number;
  /** Where maps may lie, ascending, reserved ranges taken out; nowhere while a table is bound. */
  readonly permitted: readonly AddressRange[];
  readonly reserved: readonly (AddressRange & { readonly why: string })[];
  /** Bytes; iova and size of a map are multiples of it. 4096 while no device is attached. */
  readonly alignment: number;
  /** Bit n set: the hardware has pages of 2^n bytes. 0 while no device is attached. */
  readonly pageSizes: bigint;
  /** Whether a map may be writable without being readable; false while no device is attached. */
  readonly writeOnly: boolean;
  /** What children of this ioasid may be; nothing of hardware while no device is attached. */
  readonly nesting: NestingInfo & {
    /** How many levels can be nested below. */
    readonly softwareDepth: "unlimited" | 0;
    readonly hardwareDepth: 0 | 1;
  };
  /** The bound table; null without one. */
  readonly pgtable: { readonly addr: bigint; readonly format: PgtableFormat } | null;
  readonly dirtyTracking: { readonly supported: boolean; readonly enabled: boolean };
  /** DMA here asks for missing pages; false while no device is attached. */
  readonly pageRequests: boolean;
  /** Bits of a PASID; 0: none. */
  readonly pasidBits: number;
  /** Number of maps. */
  readonly mappings: number;
  /** Bytes that this ioasid has charged to the lock limit; with `accounting: "fd"` all ioasids of the fd together. */
  readonly locked: bigint;
  /** Bytes that registered memory has charged, all that the process has charged, and its limit. */
  readonly lockedRegistered: bigint;
  readonly lockedTotal: bigint;
  readonly lockLimit: bigint;
}

/** What IOASID_DEVICE_GET_INFO answers, from bind on. */
export interface DeviceInfo {
  readonly label: number;
  readonly name: string;
  readonly kind: "pdev" | "mdev";
  /** 1..8: the kinds of devices of the RFC's second version. */
  readonly type: number;
  /** Name of the device that an mdev is a share of. */
  readonly parent: string | null;
  readonly group: number;
  readonly iommu: string;
  readonly preset: string;
  /** Format of the tables that map and unmap fill. */
  readonly format: string;
  readonly addressWidth: number;
  readonly outputWidth: number;
  readonly permitted: readonly AddressRange[];
  readonly reserved: readonly (AddressRange & { readonly why: string })[];
  readonly alignment: number;
  readonly pageSizes: bigint;
  readonly writeOnly: boolean;
  readonly nesting: NestingInfo;
  readonly dirtyTracking: boolean;
  /** It can ask for pages. */
  readonly pageRequests: boolean;
  /** Bits of a PASID that spaces can be attached to; 0: none. */
  readonly pasidBits: number;
  readonly pasids: {
    /** The user's PASID table serves the device: nobody needs to attach spaces one by one. */
    readonly delegated: boolean;
    /** It takes ENQCMD, and then: the CPU must translate the PASID (KVM_MAP_PASID), or must not. */
    readonly cpu: boolean;
    readonly cpuTranslated: boolean;
  };
  /** Who keeps the table that leads from a PASID to a table; null without PASIDs. */
  readonly pasidTable: "host" | "guest" | null;
}

export interface GroupMember {
  readonly name: string;
  /** null while the device is not bound. */
  readonly label: number | null;
}

/** What IOASID_GET_GROUP_STATE answers: each group that has a device attached to the ioasid. */
export interface GroupState {
  readonly groups: readonly {
    readonly group: number;
    readonly attached: readonly GroupMember[];
    /** Empty: the ioasid takes effect for this group. */
    readonly missing: readonly GroupMember[];
  }[];
}

export interface DirtyBitmap {
  /** Bit n % 8 of byte n / 8: page n from iova on was written. */
  readonly bitmap: Uint8Array;
  /** Bits set. */
  readonly dirty: number;
}
