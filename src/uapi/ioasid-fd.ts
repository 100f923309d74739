// The file behind /dev/ioasid: a container of I/O address spaces, and the calls on them.
// May import arguments.ts, errno.ts, ids.ts, ioasid.ts, open-file.ts, process.ts, requests.ts. Calls: RFC section 2.1.

import { checkStruct, takeU32, takeU64 } from "./arguments.js";
import type { Device } from "./device.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import { Ids } from "./ids.js";
import { Ioasid } from "./ioasid.js";
import { type FileTable, OpenFile } from "./open-file.js";
import type { Process } from "./process.js";
import {
  type AllocIoasid, type Call, type Calls, type CheckExtension, type DmaMap, type DmaUnmap, IOASID_ALLOC, IOASID_ALLOC_IOASID,
  IOASID_CHECK_EXTENSION, IOASID_DMA_MAP, IOASID_DMA_MAP_FLAG_READ, IOASID_DMA_MAP_FLAG_WRITE, IOASID_DMA_UNMAP,
  IOASID_DMA_UNMAP_FLAG_ALL, IOASID_EXT_MAP_BEFORE_ATTACH, IOASID_EXT_MAP_TYPE1V2, IOASID_EXT_UNMAP_ALL, IOASID_FREE,
  IOASID_GET_INFO, type IoasidArgument, type IoasidInfo, REQUESTS,
} from "./requests.js";

const CHECK = REQUESTS[IOASID_CHECK_EXTENSION];
const ALLOC = REQUESTS[IOASID_ALLOC];
const ALLOC_IOASID = REQUESTS[IOASID_ALLOC_IOASID];
const FREE = REQUESTS[IOASID_FREE];
const GET_INFO = REQUESTS[IOASID_GET_INFO];
const MAP = REQUESTS[IOASID_DMA_MAP];
const UNMAP = REQUESTS[IOASID_DMA_UNMAP];
const CLOSE: Call = { name: "close", fields: new Set() };
/** The flags of a map are the engine's PERM_R and PERM_W. */
const MAP_FLAGS = IOASID_DMA_MAP_FLAG_READ | IOASID_DMA_MAP_FLAG_WRITE;
/** An ioasid is an ioctl's return value, which must not look negative. */
const LAST_IOASID = 2 ** 31 - 1;

export interface IoasidFdOptions {
  readonly process: Process;
  /** Refuse what is asked of an ioasid before its first attach, as the RFC does. */
  readonly strictAttach: boolean;
}

export class IoasidFd extends OpenFile<"ioasid"> implements Calls<"ioasid"> {
  readonly #options: IoasidFdOptions;
  readonly #ids = new Ids(LAST_IOASID);
  readonly #ioasids = new Map<number, Ioasid>();
  /** The devices bound to this fd. Bind and unbind keep it. */
  readonly devices = new Set<Device>();

  constructor(number: number, files: FileTable, options: IoasidFdOptions) {
    super("ioasid", number, files);
    this.#options = options;
  }

  /** 1 when the fd has the extension, else 0. All calls throw IoctlError: EBADF (closed), EFAULT and EINVAL (bad arguments). */
  checkExtension(arg: CheckExtension): 0 | 1 {
    this.use(CHECK);
    checkStruct(CHECK, arg);
    switch (takeU32(CHECK, "extension", arg.extension)) {
      case IOASID_EXT_MAP_TYPE1V2:
      case IOASID_EXT_UNMAP_ALL:
        return 1;
      case IOASID_EXT_MAP_BEFORE_ATTACH:
        return this.#options.strictAttach ? 0 : 1;
      default:
        return 0;
    }
  }

  /** A new ioasid without maps or devices, 1..2^31-1. */
  alloc(): number {
    return this.#alloc(ALLOC);
  }

  /** The same under the name that all allocations share. @throws IoctlError EOPNOTSUPP with a parent. */
  allocIoasid(arg: AllocIoasid = {}): number {
    this.use(ALLOC_IOASID);
    checkStruct(ALLOC_IOASID, arg);
    if (arg.parent !== undefined) {
      const hint = "leave the parent out: this ioasid will map the process's memory itself";
      const details = { field: "parent", value: arg.parent, hint };
      throw new IoctlError("EOPNOTSUPP", ALLOC_IOASID.name, "nesting is not supported", details);
    }
    return this.#alloc(ALLOC_IOASID);
  }

  #alloc(call: Call): number {
    this.use(call);
    const number = this.#ids.take();
    if (number === undefined) throw new IoctlError("ENOSPC", call.name, `fd ${this.number} has used up its ioasids`);
    this.#ioasids.set(number, new Ioasid(number, this.#options.process, this.#options.strictAttach));
    return number;
  }

  /** Removes an ioasid and its maps. @throws IoctlError ENOENT, EBUSY while a device is attached. */
  free(arg: IoasidArgument): void {
    this.use(FREE);
    checkStruct(FREE, arg);
    const ioasid = this.find(FREE, arg.ioasid);
    const [device] = ioasid.devices;
    if (device !== undefined) {
      const conflict = { kind: "device", device: device.name } as const;
      const details = { field: "ioasid", value: ioasid.number, conflict, hint: "detach it first" };
      throw new IoctlError("EBUSY", FREE.name, `${device.name} is attached to ioasid ${ioasid.number}`, details);
    }
    ioasid.destroy();
    this.#ioasids.delete(ioasid.number);
  }

  /** Format, limits and charge of an ioasid. @throws IoctlError ENOENT; ENODEV before the first attach with `strictAttach`. */
  getInfo(arg: IoasidArgument): IoasidInfo {
    this.use(GET_INFO);
    checkStruct(GET_INFO, arg);
    return this.find(GET_INFO, arg.ioasid).info(GET_INFO);
  }

  /**
   * Maps memory of the process, and pins it.
   * @throws IoctlError ENOENT (no such ioasid), EINVAL (empty, misaligned, flags, not permitted by the IOMMU), EOVERFLOW (runs
   * past 2^64), EEXIST (overlaps a map), EFAULT (memory is missing or protected), ENOMEM (lock limit, page tables), EOPNOTSUPP (a
   * write-only map that the format cannot express), EDEADLK (a section is open), ENODEV (never attached, with `strictAttach`).
   */
  dmaMap(arg: DmaMap): void {
    this.use(MAP);
    checkStruct(MAP, arg);
    const ioasid = this.find(MAP, arg.ioasid);
    const flags = arg.flags === undefined ? MAP_FLAGS : takeU32(MAP, "flags", arg.flags);
    if (flags === 0 || flags > MAP_FLAGS) throw badFlags(MAP, flags, "READ (1), WRITE (2) or both; without flags a map has both");
    ioasid.map(arg.iova, arg.vaddr, arg.size, flags);
  }

  /**
   * Removes the maps in a range, whole ones only, and answers their bytes. An empty range is no error: 0.
   * Once it has returned, no DMA reaches the memory through them.
   * @throws IoctlError ENOENT (no such ioasid), EINVAL (empty, misaligned, flags, a map lies across an end), EOVERFLOW, EDEADLK,
   * ENODEV.
   */
  dmaUnmap(arg: DmaUnmap): { readonly size: bigint } {
    this.use(UNMAP);
    checkStruct(UNMAP, arg);
    const ioasid = this.find(UNMAP, arg.ioasid);
    const flags = arg.flags === undefined ? 0 : takeU32(UNMAP, "flags", arg.flags);
    if (flags === 0) return { size: ioasid.unmap(arg.iova, arg.size) };
    if (flags !== IOASID_DMA_UNMAP_FLAG_ALL) throw badFlags(UNMAP, flags, "ALL (2)");
    for (const field of ["iova", "size"] as const) {
      const value = takeU64(UNMAP, field, arg[field] ?? 0n);
      if (value === 0n) continue;
      throw new IoctlError("EINVAL", UNMAP.name, `${field} must be 0 with the flag ALL`, { field, value });
    }
    return { size: ioasid.unmapAll() };
  }

  /** Detaches and unbinds the devices of this fd, unmaps and frees everything. @throws IoctlError EBADF, EDEADLK. */
  close(): void {
    this.use(CLOSE);
    for (const ioasid of this.#ioasids.values()) if (ioasid.inSection) throw inSection(CLOSE);
    for (const device of this.devices) {
      device.attached?.detach(CLOSE, device);
      device.binding = undefined;
    }
    this.devices.clear();
    for (const ioasid of this.#ioasids.values()) ioasid.destroy();
    this.#ioasids.clear();
    this.end();
  }

  /** The ioasid of this fd with that number. @throws IoctlError EINVAL when it is no u32, ENOENT when there is none. */
  find(call: Call, number: number): Ioasid {
    const ioasid = this.#ioasids.get(number) ?? this.#ioasids.get(takeU32(call, "ioasid", number));
    if (ioasid !== undefined) return ioasid;
    const known = [...this.#ioasids.keys()];
    const hint = known.length === 0 ? "it has none yet: IOASID_ALLOC makes one" : `it has ${known.join(", ")}`;
    const reason = `fd ${this.number} has no ioasid ${number}`;
    throw new IoctlError("ENOENT", call.name, reason, { field: "ioasid", value: number, hint });
  }
}

function badFlags(call: Call, flags: number, known: string): IoctlError {
  const reason = `flags 0x${flags.toString(16)} are not known`;
  return new IoctlError("EINVAL", call.name, reason, { field: "flags", value: flags, hint: `flags are ${known}` });
}
