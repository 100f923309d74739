// The one user process of a host: which host virtual addresses are backed by what, and which of its pages are pinned.
// May import engine/ (slots, the memory) and, of this folder, arguments.ts, changes.ts, engine-errno.ts, errno.ts, hpa-space.ts, pins.ts,
// range-map.ts, requests.ts.
// Ranges are inclusive, first..last. Calls follow mmap(2) with MAP_FIXED_NOREPLACE, and munmap(2) of whole mappings.

import type { Engine } from "../engine/engine.js";
import { EngineError } from "../engine/errors.js";
import { PERM_R, PERM_W } from "../engine/layout.js";
import {
  checkStruct, firstByte, hex, hexPages, lastByte, show, takeLast, takePages, takeU32, takeU64, toBigint,
} from "./arguments.js";
import type { Changes } from "./changes.js";
import { inSection } from "./engine-errno.js";
import { IoctlError } from "./errno.js";
import { HpaSpace, type RamRange } from "./hpa-space.js";
import { LockAccount, type PinOwner, Pins } from "./pins.js";
import { RangeMap } from "./range-map.js";
import type { Call, U64 } from "./requests.js";
import { WrittenMemory } from "./written-memory.js";

/** RAM of the host, a window that reads as zeros, or memory of a device from this host-physical address on. */
export type BackingArgument = "ram" | "zero" | { readonly device: U64 };

export interface Mmap {
  /** First host virtual address and bytes; multiples of 4096. */
  readonly hva: U64;
  readonly size: U64;
  /** What the process, and so a device on its behalf, may do there; "rw" when absent. */
  readonly prot?: "r" | "w" | "rw";
  /** "ram" when absent. */
  readonly backing?: BackingArgument;
}

export interface Mapped {
  readonly hva: bigint;
  readonly size: bigint;
  /** Host-physical address of the first byte. */
  readonly hpa: bigint;
  /** Where the first byte is in the engine's memory; RAM only. RAM is not cleared. */
  readonly offset?: number;
}

/** One mapping of the process, in pages of host virtual addresses. */
export interface Backing {
  readonly first: number;
  readonly last: number;
  /** PERM_R | PERM_W that a device may be given. */
  readonly perm: number;
  /** hpa - hva of every byte. */
  readonly delta: bigint;
  /** Memory offset of the first byte; undefined unless the backing is RAM. */
  readonly offset: number | undefined;
  /** Device memory is pinned and never charged to the lock limit. */
  readonly charged: boolean;
}

const MMAP: Call = { name: "mmap", fields: new Set(["hva", "size", "prot", "backing"]) };
const MUNMAP: Call = { name: "munmap", fields: new Set(["hva", "size"]) };
const BYTES: Call = { name: "bytes", fields: new Set(["hva", "length"]) };
const DEVICE: Call = { name: "mmap", fields: new Set(["device"]) };
const PROT: ReadonlyMap<unknown, number> = new Map([["r", PERM_R], ["w", PERM_W], ["rw", PERM_R | PERM_W]]);
/** A host-physical address has at most 56 bits. */
const LAST_HPA_PAGE = 2 ** 44 - 1;

export class Process {
  readonly #engine: Engine;
  readonly #changes: Changes;
  readonly #hpas: HpaSpace;
  readonly #backings = new RangeMap<Backing>();
  readonly #pins = new Set<Pins>();
  /** Told by DMA views of the host's thread. */
  readonly writes = new WrittenMemory();
  /** What all pins have charged, and the limit. */
  readonly account: LockAccount;

  /** @param outputWidth bits of the host-physical addresses that every IOMMU of the host can put out, at most 56. */
  constructor(engine: Engine, changes: Changes, ram: readonly RamRange[], outputWidth: number, lockLimit: bigint) {
    this.#engine = engine;
    this.#changes = changes;
    this.#hpas = new HpaSpace(ram, 2 ** (outputWidth - 12) - 1);
    this.account = new LockAccount(lockLimit);
  }

  /** Bytes charged to the lock limit. */
  get locked(): bigint {
    return firstByte(this.account.pages);
  }

  /**
   * Backs a range of host virtual addresses.
   * @throws IoctlError EINVAL (misaligned, empty, unknown backing), EOVERFLOW (runs past 2^64), EEXIST (overlaps a mapping, or
   * the device memory overlaps RAM or a slot), ENOMEM (no free range of addresses is long enough), ENOSPC (no slot is free).
   */
  mmap(arg: Mmap): Mapped {
    return this.#changes.run(this, MMAP, arg, () => this.#mmap(arg));
  }

  #mmap(arg: Mmap): Mapped {
    checkStruct(MMAP, arg);
    const first = takePages(MMAP, "hva", arg.hva);
    const pages = takePages(MMAP, "size", arg.size);
    const last = takeLast(MMAP, "hva", first, pages);
    const [hva, size] = [toBigint(arg.hva), toBigint(arg.size)];
    const perm = PROT.get(arg.prot ?? "rw");
    if (perm === undefined) throw badMmap("prot", arg.prot, `must be "r", "w" or "rw"`);
    const other = this.#backings.firstIn(first, last);
    if (other !== undefined) throw overlapsMapping(hva, first, last, other);
    const { page, offset } = this.#place(arg.backing ?? "ram", pages);
    const hpa = firstByte(page);
    this.#backings.insert(first, last, { first, last, perm, delta: hpa - hva, offset, charged: !isDevice(arg.backing) });
    return offset === undefined ? { hva, size, hpa } : { hva, size, hpa, offset };
  }

  /** Finds host-physical addresses for a mapping, and makes the slot of what is no RAM. */
  #place(backing: unknown, pages: number): { page: number; offset: number | undefined } {
    if (backing === "ram") return this.#hpas.takeRam(pages) ?? outOfRam(pages, this.#hpas.freeRam);
    if (backing === "zero") {
      const page = this.#hpas.takeTop(pages);
      return this.#addSlot(page ?? outOfAddresses(pages), pages, "zero");
    }
    if (!isDevice(backing)) throw badMmap("backing", backing, `must be "ram", "zero" or { device: hpa }`);
    checkStruct(DEVICE, backing);
    const page = takePages(DEVICE, "device", backing.device);
    if (page + pages - 1 > LAST_HPA_PAGE) throw badMmap("device", backing.device, "must end within 56 bits");
    const taken = this.#hpas.claim(page, pages);
    if (taken !== undefined) throw overlapsSlot(page, pages, taken.first, taken.last);
    return this.#addSlot(page, pages, "device");
  }

  #addSlot(page: number, pages: number, kind: "zero" | "device"): { page: number; offset: undefined } {
    try {
      this.#engine.addSlot(firstByte(page), lastByte(page + pages - 1), kind);
    } catch (error) {
      if (error instanceof EngineError && error.code === "PORT_STALLED") this.#removeSlot(page);
      else this.#hpas.release(page);
      throw error;
    }
    return { page, offset: undefined };
  }

  /** One that was not added in time may be there or not. */
  #removeSlot(page: number): void {
    this.#engine.steps.take(() => {
      this.#engine.removeSlot(firstByte(page));
      this.#hpas.release(page);
    });
  }

  /**
   * Takes back exactly one `mmap`.
   * @throws IoctlError ENOENT when no mapping has exactly this range, EBUSY while a page of it is pinned, EDEADLK.
   */
  munmap(hva: U64, size: U64): void {
    this.#changes.run(this, MUNMAP, { hva, size }, () => this.#munmap(hva, size));
  }

  #munmap(hva: U64, size: U64): void {
    const first = takePages(MUNMAP, "hva", hva);
    const pages = takePages(MUNMAP, "size", size);
    const last = takeLast(MUNMAP, "hva", first, pages);
    const start = toBigint(hva);
    const backing = this.#backings.find(first)?.value;
    if (backing?.first !== first || backing.last !== last) {
      const hint = backing === undefined ? "nothing is there" : `the mapping there is ${hexPages(backing.first, backing.last)}`;
      const reason = `${hexPages(first, last)} is not one mapping`;
      throw new IoctlError("ENOENT", MUNMAP.name, reason, { field: "hva", value: start, hint });
    }
    for (const pins of this.#pins) if (pins.overlaps(first, last)) throw stillPinned(start, first, last, pins);
    const page = Number((start + backing.delta) >> 12n);
    if (backing.offset === undefined) {
      if (this.#engine.inSection) throw inSection(MUNMAP);
      this.#removeSlot(page);
    } else {
      this.#hpas.giveRam(page, pages, backing.offset);
    }
    this.#backings.remove(first);
  }

  /**
   * The bytes behind a range of RAM, as a new view: a memory that grows detaches the old ones, so do not keep it.
   * @throws IoctlError EINVAL when the range is empty, EFAULT when it is not mapped, no RAM, or not contiguous in the memory.
   */
  bytes(hva: U64, length: number): Uint8Array {
    const start = takeU64(BYTES, "hva", hva);
    if (takeU32(BYTES, "length", length) === 0) {
      throw new IoctlError("EINVAL", BYTES.name, "length is 0", { field: "length", value: 0 });
    }
    const found = this.resolve(Number(start >> 12n), Number((start + BigInt(length) - 1n) >> 12n), 0);
    if (typeof found === "number") throw notBytes(start, `${hex(firstByte(found))} is not mapped`);
    let next = found[0]!.offset;
    for (const { first, last, offset } of found) {
      if (offset === undefined) throw notBytes(start, `${hexPages(first, last)} is not RAM`);
      if (offset !== next) throw notBytes(start, `the RAM behind ${hex(firstByte(first))} does not follow that before it`);
      next = offset + (last - first + 1) * 4096;
    }
    const offset = found[0]!.offset! + Number(start - firstByte(found[0]!.first));
    return new Uint8Array(this.#engine.memory.buffer, offset, length);
  }

  /** The mapping that holds the page. */
  find(page: number): Backing | undefined {
    return this.#backings.find(page)?.value;
  }

  /** The mappings that together hold the range and give `perm`, ascending; or the first page that has none. */
  resolve(first: number, last: number, perm: number): readonly Backing[] | number {
    const found: Backing[] = [];
    for (let at = first; at <= last; ) {
      const backing = this.find(at);
      if (backing === undefined || (backing.perm & perm) !== perm) return at;
      found.push(backing);
      at = backing.last + 1;
    }
    return found;
  }

  /** Pins for a new owner; they keep what they cover mapped until `dropPins`. */
  addPins(owner: PinOwner): Pins {
    const pins = new Pins(this.account, owner);
    this.#pins.add(pins);
    return pins;
  }

  dropPins(pins: Pins): void {
    pins.clear();
    this.#pins.delete(pins);
  }
}

function isDevice(backing: unknown): backing is { readonly device: U64 } {
  return typeof backing === "object" && backing !== null && "device" in backing;
}

function badMmap(field: string, value: unknown, rule: string): IoctlError {
  return new IoctlError("EINVAL", MMAP.name, `${field} ${rule}, not ${show(value)}`, { field, value });
}

function notBytes(hva: bigint, reason: string): IoctlError {
  return new IoctlError("EFAULT", BYTES.name, reason, { field: "hva", value: hva });
}

function outOfRam(pages: number, free: bigint): never {
  const size = firstByte(pages);
  const reason = `no free range of RAM has ${size} bytes (${free} bytes are free in all)`;
  throw new IoctlError("ENOMEM", MMAP.name, reason, { field: "size", value: size });
}

function outOfAddresses(pages: number): never {
  const size = firstByte(pages);
  const reason = `no free range of host-physical addresses has ${size} bytes`;
  throw new IoctlError("ENOMEM", MMAP.name, reason, { field: "size", value: size });
}

function overlapsMapping(hva: bigint, first: number, last: number, other: { first: number; last: number }): IoctlError {
  const conflict = { kind: "memory", first: firstByte(other.first), last: lastByte(other.last) } as const;
  const reason = `${hexPages(first, last)} overlaps the mapping ${hexPages(other.first, other.last)}`;
  return new IoctlError("EEXIST", MMAP.name, reason, { field: "hva", value: hva, conflict });
}

function overlapsSlot(page: number, pages: number, first: number, last: number): IoctlError {
  const conflict = { kind: "slot", first: firstByte(first), last: lastByte(last) } as const;
  const reason = `host-physical ${hexPages(page, page + pages - 1)} overlaps ${hexPages(first, last)}, which is in use`;
  return new IoctlError("EEXIST", MMAP.name, reason, { field: "device", value: firstByte(page), conflict });
}

function stillPinned(hva: bigint, first: number, last: number, { owner: { name, ioasid } }: Pins): IoctlError {
  const conflict = ioasid === undefined ? {} : { conflict: { kind: "ioasid", ioasid } as const };
  const details = { field: "hva", value: hva, ...conflict, hint: "unmap and unregister it first" };
  return new IoctlError("EBUSY", MUNMAP.name, `${hexPages(first, last)} is pinned by ${name}`, details);
}
