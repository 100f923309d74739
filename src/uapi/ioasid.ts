// An I/O address space: its maps, the memory that they pin, the devices attached to it, and the table that the IOMMU walks.
// May import iommu/ and, of this folder, all but the open files and the host. Ranges are inclusive, first..last, in pages of
// 4 KiB. Semantics: VFIO type1 v2, under the names of the RFC (section 2.1).
// Maps live here; the table is made from them when the first device attaches, and goes when the last one leaves.

import type { Domain, Piece } from "../iommu/domain.js";
import { compatible } from "../iommu/model.js";
import { AddressLimits, NO_LIMITS } from "./address-limits.js";
import { firstByte, takeLast, takePages, toBigint } from "./arguments.js";
import type { Device } from "./device.js";
import { inSection, withErrno } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import {
  attachRefused, cannotTake, exceedsLimit, type MapArguments, mapRefused, notAccessible, notPermitted, otherModel, overlaps,
  splits,
} from "./ioasid-errors.js";
import type { Pins } from "./pins.js";
import type { Backing, Process } from "./process.js";
import { type Entry, RangeMap } from "./range-map.js";
import {
  type Call, IOASID_DMA_MAP, IOASID_DMA_UNMAP, type IoasidInfo, REQUESTS, type U64, VFIO_ATTACH_IOASID,
} from "./requests.js";

const MAP = REQUESTS[IOASID_DMA_MAP];
const UNMAP = REQUESTS[IOASID_DMA_UNMAP];
const ATTACH = REQUESTS[VFIO_ATTACH_IOASID];

/** One map: the page of host virtual addresses that its first page stands for, and PERM_R | PERM_W. */
interface Area {
  readonly hva: number;
  readonly perm: number;
}

export class Ioasid {
  readonly number: number;
  readonly #process: Process;
  readonly #strictAttach: boolean;
  readonly #areas = new RangeMap<Area>();
  readonly #pins: Pins;
  readonly #devices = new Set<Device>();
  #limits = NO_LIMITS;
  #domain: Domain | undefined;
  #wasAttached = false;

  /** @param strictAttach refuse maps, unmaps and questions until a device has been attached once (ENODEV). */
  constructor(number: number, process: Process, strictAttach: boolean) {
    this.number = number;
    this.#process = process;
    this.#strictAttach = strictAttach;
    this.#pins = process.addPins(number);
  }

  get devices(): ReadonlySet<Device> {
    return this.#devices;
  }

  /** Whether a change would have to wait for a section of this very thread. */
  get inSection(): boolean {
    return this.#domain?.inSection ?? false;
  }

  /** Maps bytes of the process's memory at `vaddr` to `iova`. `perm` is PERM_R, PERM_W or both. Errors: `IoasidFd.dmaMap`. */
  map(iova: U64, vaddr: U64, size: U64, perm: number): void {
    this.#requireAttached(MAP);
    const first = takePages(MAP, "iova", iova);
    const hva = takePages(MAP, "vaddr", vaddr);
    const pages = takePages(MAP, "size", size);
    const last = takeLast(MAP, "iova", first, pages);
    const hvaLast = takeLast(MAP, "vaddr", hva, pages);
    const refusal = this.#limits.refusal(first, last);
    if (refusal !== undefined) throw notPermitted(first, last, refusal, this.#limits);
    const other = this.#areas.firstIn(first, last);
    if (other !== undefined) throw overlaps(first, last, other, this.number);
    const backings = this.#process.resolve(hva, hvaLast, perm);
    if (typeof backings === "number") throw notAccessible(hva, backings, this.#process.find(backings) !== undefined);
    this.#checkLimit(backings, hva, hvaLast);
    if (this.#domain !== undefined) {
      const args = { iova: toBigint(iova), vaddr: toBigint(vaddr), size: toBigint(size), flags: perm };
      const single = backings.length === 1;
      const status = this.#domain.map(single ? [pieceOf(args, backings[0]!)] : piecesOf(first, hva, hvaLast, perm, backings));
      if (status !== "ok") throw mapRefused(status, args);
    }
    for (const { first, last, charged } of backings) this.#pins.pin(Math.max(first, hva), Math.min(last, hvaLast), charged);
    this.#areas.insert(first, last, { hva, perm });
  }

  #checkLimit(backings: readonly Backing[], hva: number, hvaLast: number): void {
    const { account } = this.#process;
    if (account.pages + (hvaLast - hva + 1) <= account.limitPages) return;
    let fresh = 0;
    for (const { first, last, charged } of backings) {
      if (charged) fresh += this.#pins.countFresh(Math.max(first, hva), Math.min(last, hvaLast));
    }
    if (account.pages + fresh > account.limitPages) throw exceedsLimit(account, fresh);
  }

  /** Removes the maps that lie in the range, and answers their bytes; 0 when there are none. */
  unmap(iova: U64 | undefined, size: U64 | undefined): bigint {
    this.#requireAttached(UNMAP);
    const first = takePages(UNMAP, "iova", iova);
    const last = takeLast(UNMAP, "iova", first, takePages(UNMAP, "size", size));
    const area = this.#areas.firstIn(first, last);
    if (area === undefined) return 0n;
    if (area.first === first && area.last === last) return this.#remove([area], toBigint(size!));
    const areas = this.#areas.overlapping(first, last);
    const cut = area.first < first ? area : areas.at(-1)!;
    if (cut.first < first || cut.last > last) throw splits(first, last, cut, this.number);
    return this.#remove(areas, bytesOf(areas));
  }

  /** Removes every map, and answers their bytes. */
  unmapAll(): bigint {
    this.#requireAttached(UNMAP);
    if (this.#areas.size === 0) return 0n;
    const areas = [...this.#areas];
    return this.#remove(areas, bytesOf(areas));
  }

  #remove(areas: readonly Entry<Area>[], bytes: bigint): bigint {
    if (this.#domain !== undefined) this.#unmapTable(this.#domain, areas, bytes);
    for (const { first, last, value } of areas) {
      this.#areas.remove(first);
      this.#pins.unpin(value.hva, value.hva + last - first);
    }
    return bytes;
  }

  #unmapTable(domain: Domain, areas: readonly Entry<Area>[], bytes: bigint): void {
    const first = firstByte(areas[0]!.first);
    const removed = withErrno(UNMAP, () => domain.unmap(first, areas.length === 1 ? bytes : firstByte(areas.at(-1)!.last + 1) - first));
    if (removed === "in-section") throw inSection(UNMAP);
    if (removed !== bytes) throw new Error(`ioasid ${this.number}: the table lost ${removed} of ${bytes} bytes`);
  }

  /**
   * Routes the device's DMA here. The first device brings the table.
   * @throws IoctlError EINVAL when its IOMMU is of another model than that here or cannot take the maps, ENOMEM, ENOSPC, EDEADLK.
   */
  attach(device: Device): void {
    if (device.iommu.engine.inSection) throw inSection(ATTACH);
    const fresh = this.#domain === undefined;
    const limits = this.#limitsWith(device);
    const domain = this.#domain ?? this.#build(device);
    const status = withErrno(ATTACH, () => domain.attach(device.rid));
    if (status !== "ok") {
      if (fresh) domain.destroy();
      throw attachRefused(ATTACH, status, this.number, device.name);
    }
    this.#domain = domain;
    this.#limits = limits;
    this.#devices.add(device);
    this.#wasAttached = true;
    device.attached = this;
  }

  /** The limits once the device is here, all maps checked against them. */
  #limitsWith(device: Device): AddressLimits {
    const [resident] = this.#devices;
    if (resident !== undefined && !compatible(resident.iommu.model, device.iommu.model)) {
      throw otherModel(ATTACH, this.number, device, resident);
    }
    for (const each of this.#devices) if (each.iommu === device.iommu) return this.#limits;
    const limits = limitsOf([...this.#devices, device]);
    for (const area of this.#areas) {
      if (limits.refusal(area.first, area.last) === undefined) continue;
      throw cannotTake(ATTACH, this.number, device.name, area, limits);
    }
    return limits;
  }

  /** A table with all maps. Nothing leads to it yet, so one that cannot take them all is just dropped. */
  #build(device: Device): Domain {
    const domain = withErrno(ATTACH, () => device.iommu.createDomain());
    for (const { first, last, value } of this.#areas) {
      const hvaLast = value.hva + last - first;
      const backings = this.#process.resolve(value.hva, hvaLast, value.perm) as readonly Backing[];
      const status = domain.map(piecesOf(first, value.hva, hvaLast, value.perm, backings));
      if (status === "ok") continue;
      domain.destroy();
      throw attachRefused(ATTACH, status, this.number, device.name);
    }
    return domain;
  }

  /** Blocks the device's DMA. The last device takes the table with it; the maps stay. @throws IoctlError EDEADLK. */
  detach(call: Call, device: Device): void {
    const domain = this.#domain!;
    if (withErrno(call, () => domain.detach(device.rid)) === "in-section") throw inSection(call);
    this.#devices.delete(device);
    device.attached = undefined;
    this.#limits = limitsOf([...this.#devices]);
    if (this.#devices.size > 0) return;
    this.#domain = undefined;
    withErrno(call, () => domain.destroy());
  }

  info(call: Call): IoasidInfo {
    this.#requireAttached(call);
    const limits = this.#limits;
    const model = this.#domain?.iommu.model;
    return {
      ioasid: this.number,
      devices: [...this.#devices].map(({ name }) => name),
      format: model?.formatName ?? null,
      addressWidth: limits.width,
      permitted: limits.permitted(),
      reserved: limits.reserved.map(({ first, last, why }) => ({ first, last, why })),
      alignment: limits.granulePages * 4096,
      pageSizes: model?.pageSizes ?? 0n,
      writeOnly: model?.writeOnly ?? false,
      mappings: this.#areas.size,
      locked: firstByte(this.#pins.charged),
      lockedTotal: this.#process.locked,
      lockLimit: this.#process.account.limit,
    };
  }

  /** Forgets all maps and gives back their pins. No device may be attached. */
  destroy(): void {
    this.#areas.clear();
    this.#process.dropPins(this.#pins);
  }

  #requireAttached(call: Call): void {
    if (!this.#strictAttach || this.#wasAttached) return;
    const hint = "attach a device first, or make the host without strictAttach";
    const details = { field: "ioasid", value: this.number, hint };
    throw new IoctlError("ENODEV", call.name, `ioasid ${this.number} was never attached`, details);
  }
}

function limitsOf(devices: readonly Device[]): AddressLimits {
  const iommus = new Set(devices.map(({ iommu }) => iommu));
  return iommus.size === 0 ? NO_LIMITS : new AddressLimits([...iommus].map(({ model }) => model));
}

function bytesOf(areas: readonly Entry<Area>[]): bigint {
  let pages = 0;
  for (const { first, last } of areas) pages += last - first + 1;
  return firstByte(pages);
}

/** The one piece of a map that lies in one mapping of the process. */
function pieceOf({ iova, vaddr, size, flags }: MapArguments, backing: Backing): Piece {
  return { iova, hpa: vaddr + backing.delta, size, perm: flags };
}

/** The host-physical ranges behind pages of the process, joined where one continues the other. */
function piecesOf(page: number, hva: number, hvaLast: number, perm: number, backings: readonly Backing[]): Piece[] {
  const pieces: Piece[] = [];
  for (const { first, last, delta } of backings) {
    const from = Math.max(first, hva);
    const start = firstByte(from);
    const size = firstByte(Math.min(last, hvaLast) + 1) - start;
    const before = pieces.at(-1);
    if (before !== undefined && before.hpa + before.size === start + delta) before.size += size;
    else pieces.push({ iova: firstByte(page + from - hva), hpa: start + delta, size, perm });
  }
  return pieces;
}
