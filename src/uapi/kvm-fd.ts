// The file behind /dev/kvm, one VM: the table with which the CPU replaces the PASIDs that the guest's ENQCMD names (RFC sections
// 1 and 2.3). The user names a space that it owns, never a pPASID. May import arguments.ts, errno.ts, pasid-argument.ts, and the files' classes.
// ENQCMD and its translation: Intel SDM, "ENQCMD", and volume 3, "PASID Translation" (VM-execution control and exit reason 72).

import { checkStruct, show } from "./arguments.js";
import type { Device } from "./device.js";
import { IoctlError } from "./errno.js";
import type { Ioasid } from "./ioasid.js";
import { IoasidFd } from "./ioasid-fd.js";
import { type FileTable, OpenFile } from "./open-file.js";
import { takePasid } from "./pasid-argument.js";
import { pasidsAreReplaced } from "./pasid-errors.js";
import { type Call, type Calls, KVM_MAP_PASID, KVM_UNMAP_PASID, type MapPasid, REQUESTS, type UnmapPasid } from "./requests.js";

const MAP = REQUESTS[KVM_MAP_PASID];
const UNMAP = REQUESTS[KVM_UNMAP_PASID];
const ENQCMD: Call = { name: "enqcmd", fields: new Set() };
const CLOSE: Call = { name: "close", fields: new Set() };
/** Bytes of a descriptor. */
const DESCRIPTOR_BYTES = 64;

/** What became of an ENQCMD: taken by the device, or as the instruction fails. */
export type EnqcmdResult =
  | { readonly accepted: true }
  /** "retry": ZF is set, the device has no room; "pasid-translation": a VM exit, the CPU's table has no entry; "no-portal": the guest has no such device. */
  | { readonly accepted: false; readonly why: "retry" | "pasid-translation" | "no-portal" };

interface Entry {
  readonly space: Ioasid;
  readonly ioasidFd: IoasidFd;
}

export class KvmFd extends OpenFile<"kvm"> implements Calls<"kvm"> {
  readonly #files: FileTable;
  readonly #findDevice: (name: string) => Device | undefined;
  readonly #entries = new Map<number, Entry>();

  constructor(number: number, files: FileTable, findDevice: (name: string) => Device | undefined) {
    super("kvm", number, files);
    this.#files = files;
    this.#findDevice = findDevice;
  }

  /**
   * Makes the CPU replace a vPASID by the pPASID that devices which take ENQCMD share in the ioasid.
   * @throws IoctlError EINVAL (PASID), EBADF and EBADFD (ioasidFd), ENOENT (no such ioasid), ENODEV (no such device is attached there
   * with a PASID), EEXIST (the vPASID stands for another), EOPNOTSUPP (a pdev of the fd takes ENQCMD too: its PASIDs must not be replaced).
   */
  mapPasid(arg: MapPasid): void {
    this.change(MAP, arg, () => this.#map(arg));
  }

  #map(arg: MapPasid): void {
    checkStruct(MAP, arg);
    const pasid = takePasid(MAP, "userPasid", arg.userPasid);
    const ioasidFd = this.#takeIoasidFd(arg.ioasidFd);
    const space = ioasidFd.find(MAP, arg.ioasid);
    const pdev = [...ioasidFd.devices].find(({ kind }) => kind.enqcmd && kind.identical);
    if (pdev !== undefined) throw pasidsAreReplaced(MAP, pdev);
    if (space.globalPasid === undefined) throw noGlobalPasid(space);
    const taken = this.#find(pasid);
    if (taken?.space === space) return;
    if (taken !== undefined) throw isMapped(pasid, taken.space);
    this.#entries.set(pasid, { space, ioasidFd });
    space.kvmUsers++;
  }

  /** @throws IoctlError EINVAL (PASID), ENOENT (not mapped; or to another ioasid than the one given). */
  unmapPasid(arg: UnmapPasid): void {
    this.change(UNMAP, arg, () => this.#unmap(arg));
  }

  #unmap(arg: UnmapPasid): void {
    checkStruct(UNMAP, arg);
    const pasid = takePasid(UNMAP, "userPasid", arg.userPasid);
    const entry = this.#find(pasid);
    if (entry === undefined || (arg.ioasid ?? entry.space.number) !== entry.space.number || !this.#isFile(arg.ioasidFd, entry.ioasidFd)) {
      const where = entry && `it stands for ioasid ${entry.space.number} of fd ${entry.ioasidFd.number}`;
      const details = { field: "userPasid", value: pasid, hint: where ?? "KVM_MAP_PASID maps it" };
      throw new IoctlError("ENOENT", UNMAP.name, `PASID ${pasid} is not mapped${entry ? " so" : ""}`, details);
    }
    this.#entries.delete(pasid);
    entry.space.kvmUsers--;
  }

  #isFile(fd: unknown, file: IoasidFd): boolean {
    return fd === undefined || this.#files.find(fd) === file;
  }

  /** The entry of a vPASID; one of a space that went with its fd is gone too. */
  #find(pasid: number): Entry | undefined {
    const entry = this.#entries.get(pasid);
    if (entry?.ioasidFd.closed) this.#entries.delete(pasid);
    return entry?.ioasidFd.closed ? undefined : entry;
  }

  /**
   * The guest's ENQCMD: 64 bytes to a device's portal, with the vPASID that its CPU holds. The PASID is replaced for an mdev, and
   * goes as it is to a pdev.
   * @throws IoctlError EINVAL (PASID, descriptor), ENODEV (no such device).
   */
  enqcmd({ name }: { readonly name: string }, vpasid: number, descriptor: Uint8Array): EnqcmdResult {
    this.use(ENQCMD);
    const device = this.#findDevice(name);
    if (device === undefined) throw new IoctlError("ENODEV", ENQCMD.name, `no device ${show(name)}`, { field: "device", value: name });
    const pasid = takePasid(ENQCMD, "vpasid", vpasid);
    if (!(descriptor instanceof Uint8Array) || descriptor.length !== DESCRIPTOR_BYTES) {
      const reason = `a descriptor has ${DESCRIPTOR_BYTES} bytes`;
      throw new IoctlError("EINVAL", ENQCMD.name, reason, { field: "descriptor", value: descriptor });
    }
    if (!device.kind.enqcmd || device.binding === undefined || device.portal === undefined) return { accepted: false, why: "no-portal" };
    const ppasid = device.kind.identical ? pasid : this.#find(pasid)?.space.globalPasid;
    if (ppasid === undefined) return { accepted: false, why: "pasid-translation" };
    return device.portal(descriptor.slice(), ppasid) ? { accepted: true } : { accepted: false, why: "retry" };
  }

  /** @throws IoctlError EBADF. */
  close(): void {
    this.change(CLOSE, undefined, () => {
      for (const { space } of this.#entries.values()) space.kvmUsers--;
      this.#entries.clear();
      this.end();
    });
  }

  #takeIoasidFd(fd: unknown): IoasidFd {
    const file = this.#files.find(fd);
    if (file instanceof IoasidFd) return file;
    const details = { field: "ioasidFd", value: fd instanceof OpenFile ? fd.number : fd, hint: "pass an fd of /dev/ioasid, or its number" };
    if (file === undefined) throw new IoctlError("EBADF", MAP.name, `${show(details.value)} is no open fd of this host`, details);
    throw new IoctlError("EBADFD", MAP.name, `fd ${file.number} is no fd of /dev/ioasid`, details);
  }
}

function noGlobalPasid({ number: ioasid }: Ioasid): IoctlError {
  const hint = "attach a mediated device that takes ENQCMD there, with a PASID";
  return new IoctlError("ENODEV", MAP.name, `ioasid ${ioasid} has no PASID of the host's`, { field: "ioasid", value: ioasid, hint });
}

function isMapped(pasid: number, { number: ioasid }: Ioasid): IoctlError {
  const details = { field: "userPasid", value: pasid, conflict: { kind: "ioasid", ioasid }, hint: "KVM_UNMAP_PASID first" } as const;
  return new IoctlError("EEXIST", MAP.name, `PASID ${pasid} stands for ioasid ${ioasid}`, details);
}
