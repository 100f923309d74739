// A host with a real engine for tests of spaces: 2 MiB of RAM at HVA and zeros behind them to 1 GB, devices bound to one fd, and
// tables of a guest in that RAM. Ranges are first..last, inclusive.
import { expect } from "vitest";
import { createHost, DmaFault, type DmaFaultReason, type HostOptions } from "../../src/index.js";
import { GuestPages as Pages, GuestRam } from "../../examples/lib/guest.mjs";
import type { SimulatedHost } from "../../src/create-host.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { liveDomains } from "../oracle/engine-state.js";
import { R, RW, W } from "./engine-fixture.js";

export { R, RW, W };
export const K4 = 4096n;
export const M2 = 1n << 21n;
export const GB = 1n << 30n;
export const HVA = 0x40000000n;
/** Host-physical address of the first byte of RAM, which is what HVA is backed by. */
export const RAM = 0x100000000n;

/** The fault that an access ends with. */
export function faultOf(access: () => unknown): DmaFault {
  try {
    access();
  } catch (error) {
    if (error instanceof DmaFault) return error;
    throw error;
  }
  throw new Error("the access was not refused");
}

/** Where an access lands, relative to RAM, or why it is refused. */
export type Landing = bigint | DmaFaultReason;

export interface Spaces {
  host: SimulatedHost;
  fd: ReturnType<typeof openFd>;
  /** The device fds, bound to `fd`, in the order of the host's devices. */
  devs: ReturnType<typeof openDevice>[];
  labels: number[];
  /** Where an access of device n (from 1) lands. */
  dma(device: number, iova: bigint | number, access?: "r" | "w"): Landing;
  /** Shorthands of fd.dmaMap and fd.dmaUnmap. */
  map(ioasid: number, iova: bigint | number, vaddr: bigint | number, size?: bigint | number, flags?: number): void;
  unmap(ioasid: number, iova: bigint | number, size?: bigint | number): bigint;
  info(ioasid: number): ReturnType<Spaces["fd"]["getInfo"]>;
}

const openFd = (host: SimulatedHost) => host.open("/dev/ioasid");
const openDevice = (host: SimulatedHost, name: string) => host.open(`/dev/vfio/devices/${name}`);

/** Devices dev1, dev2, ... behind the first IOMMU unless `options` says otherwise. */
export async function spaces(options: HostOptions & { count?: number } = {}): Promise<Spaces> {
  const { count = 2, ...rest } = options;
  const devices = Array.from({ length: count }, (_, n) => ({ name: `dev${n + 1}`, rid: 8 * (n + 4) }));
  const host = await createHost({
    memory: { ram: 0x400000, arena: 0x800000 }, routes: 64, domains: 64, ports: { count: 1, iotlbSets: 64, lanes: 64, faults: 64 }, devices, ...rest,
  });
  host.process.mmap({ hva: HVA, size: M2 });
  host.process.mmap({ hva: HVA + M2, size: GB - M2, backing: "zero" });
  const fd = openFd(host);
  const names = host.devices().map(({ name }) => name);
  const devs = names.map((name) => openDevice(host, name));
  const labels = devs.map((dev) => dev.bindIoasidFd({ ioasidFd: fd }));
  const views = names.map((name) => host.device(name).dma());
  return {
    host, fd, devs, labels,
    dma(device, iova, access = "r") {
      try {
        return views[device - 1]!.translate(iova, access) - RAM;
      } catch (error) {
        if (error instanceof DmaFault) return error.reason;
        throw error;
      }
    },
    map: (ioasid, iova, vaddr, size = K4, flags) => fd.dmaMap({ ioasid, iova, vaddr, size, ...(flags !== undefined && { flags }) }),
    unmap: (ioasid, iova, size = K4) => fd.dmaUnmap({ ioasid, iova, size }).size,
    info: (ioasid) => fd.getInfo({ ioasid }),
  };
}

/** A root with the RFC's map, 1 GB of HVA at 0, and all devices attached. */
export async function gpaSpace(options?: HostOptions & { count?: number }) {
  const it = await spaces(options);
  const gpa = it.fd.alloc();
  for (const dev of it.devs) dev.attachIoasid({ ioasid: gpa });
  it.map(gpa, 0, HVA, GB);
  return { ...it, gpa };
}

/** A child of the space, with the devices (from 1) attached. */
export function childOf({ fd, devs }: Spaces, parent: number, devices: readonly number[] = [2]): number {
  const ioasid = fd.createNesting({ parent });
  for (const n of devices) devs[n - 1]!.attachIoasid({ ioasid });
  return ioasid;
}

/** A guest's page table of 4-KiB tables, in RAM that the guest has at the same address as the process has at HVA; tables are taken from `root` on. */
export class GuestPages extends Pages {
  constructor(host: SimulatedHost, format: number, root = 0x100000n, levels = 4) {
    super(new GuestRam(host, { hva: HVA, first: root }), format === FORMAT_X86_64 ? "x86-64" : "aarch64-stage1", levels);
  }
}

/** All that a user can see of the spaces, and where the DMA of every device lands at some addresses. */
export function visible(it: Spaces, ioasids: readonly number[], iovas: readonly bigint[] = []): unknown {
  const { fd, host, devs } = it;
  return {
    infos: ioasids.map((ioasid) => tryCall(() => fd.getInfo({ ioasid }))), groups: ioasids.map((ioasid) => tryCall(() => fd.getGroupState({ ioasid }))), locked: host.process.locked,
    frames: host.engine.framesUsed, domains: liveDomains(host.engine).map(({ index }) => index), landings: devs.map((_, n) => iovas.map((iova) => [it.dma(n + 1, iova), it.dma(n + 1, iova, "w")])),
  };
}

function tryCall(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return String(error);
  }
}

/** The call is refused, and leaves everything as it was. */
export function refusedWhole(it: Spaces, ioasids: readonly number[], iovas: readonly bigint[], call: () => unknown): unknown {
  const before = visible(it, ioasids, iovas);
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  expect(visible(it, ioasids, iovas)).toEqual(before);
  return thrown;
}
