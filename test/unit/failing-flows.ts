// What is done to a host in the tests of failing allocations: the flows of the RFC's section 5, and what they leave out. Every call
// is an `ioctl` of the host, and DMA between the calls fills the IOTLB, so that a failed call could spoil what it holds.
import {
  createHost, DmaFault, IOASID_ALLOC, IOASID_ALLOC_IOASID, IOASID_ALLOC_IOASID_PGTABLE, IOASID_BIND_PGTABLE, IOASID_CREATE_NESTING, IOASID_DMA_MAP,
  IOASID_DMA_UNMAP, IOASID_FREE, IOASID_GET_DIRTY_BITMAP, IOASID_GET_INFO, IOASID_INVALIDATE_CACHE, IOASID_PAGE_RESPONSE,
  IOASID_PAGE_RESPONSE_RANGE, IOASID_REGISTER_MEMORY,
  IOASID_SET_DIRTY_TRACKING, IOASID_UNBIND_PGTABLE, IOASID_UNREGISTER_MEMORY, IoctlError, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD,
  VFIO_DETACH_IOASID, VFIO_UNBIND_IOASID_FD, type GuestTableFormat, type HostOptions, type IoasidFd, type IommuOptions, type SimulatedHost,
  type VfioDeviceFd,
} from "../../src/index.js";
import * as L from "../../src/engine/layout.js";
import { encoderOf } from "../oracle/reference/encode.js";
import { asRequest, FaultingDevice } from "./fault-device.js";

const HVA = 0x40000000n;
const K4 = 4096n;
const M2 = 1n << 21n;
const GB = 1n << 30n;

export interface Flow {
  readonly name: string;
  readonly options: HostOptions;
  readonly run: (host: SimulatedHost) => void;
}

const DEVICES = [{ name: "dev1", rid: 0x20 }, { name: "dev2", rid: 0x28 }, { name: "dev3", rid: 0x29 }];

function options(iommu: IommuOptions, more: Partial<HostOptions> = {}): HostOptions {
  return {
    memory: { ram: 0x100000, arena: 3 << 20 }, routes: 16, domains: 16, slots: 8, ports: { count: 1, iotlbSets: 64, lanes: 16, faults: 16 },
    iommus: [iommu], devices: DEVICES, ...more,
  };
}

/** The process: 1 MiB of RAM at HVA, then zeros, in two parts that do not follow each other in host-physical memory. */
function start(host: SimulatedHost): { fd: IoasidFd; devices: VfioDeviceFd[] } {
  host.process.mmap({ hva: HVA, size: 0x100000n });
  host.process.mmap({ hva: HVA + M2, size: GB - M2, backing: "zero" });
  host.process.mmap({ hva: HVA + 0x100000n, size: M2 - 0x100000n, backing: "zero" });
  const fd = host.open("/dev/ioasid");
  const devices = DEVICES.map(({ name }) => {
    const file = host.open(`/dev/vfio/devices/${name}`) as VfioDeviceFd;
    host.ioctl(file, VFIO_BIND_IOASID_FD, fd);
    return file;
  });
  return { fd, devices };
}

/** Reads and writes at addresses by all devices; what is refused is refused. */
function dma(host: SimulatedHost, ...iovas: bigint[]): void {
  for (const { name } of DEVICES) {
    const view = host.device(name).dma();
    for (const iova of iovas) {
      for (const access of ["r", "w"] as const) {
        try {
          view.translate(iova, access);
        } catch (error) {
          if (!(error instanceof DmaFault)) throw error;
        }
      }
    }
  }
}

/** A call that must be refused, whatever is left to allocate. */
function refused(call: () => unknown): void {
  try {
    call();
  } catch (error) {
    if (error instanceof IoctlError) return;
    throw error;
  }
  throw new Error("the call was not refused");
}

function flow51(host: SimulatedHost): void {
  const { fd, devices: [dev1, dev2] } = start(host);
  const ioasid = host.ioctl(fd, IOASID_ALLOC);
  host.ioctl(dev1!, VFIO_ATTACH_IOASID, { ioasid });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid, iova: 0n, vaddr: HVA, size: GB });
  dma(host, 0n, K4, M2, GB - K4);
  host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid });
  refused(() => host.ioctl(fd, IOASID_DMA_MAP, { ioasid, iova: 0n, vaddr: HVA, size: K4 }));
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid, iova: 5n * GB, vaddr: HVA, size: 3n * K4 });
  dma(host, 0n, 5n * GB);
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid, iova: 0n, size: GB });
  for (const device of [dev1!, dev2!]) host.ioctl(device, VFIO_DETACH_IOASID, { ioasid });
  host.ioctl(dev1!, VFIO_ATTACH_IOASID, { ioasid });
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid, flags: 2 });
  host.ioctl(dev1!, VFIO_DETACH_IOASID, { ioasid });
  host.ioctl(fd, IOASID_FREE, ioasid);
  host.ioctl(dev2!, VFIO_UNBIND_IOASID_FD);
}

function flow52(host: SimulatedHost): void {
  const { fd, devices: [dev1, dev2] } = start(host);
  host.ioctl(fd, IOASID_REGISTER_MEMORY, { vaddr: HVA, size: GB });
  const gpa = host.ioctl(fd, IOASID_ALLOC);
  for (const device of [dev1!, dev2!]) host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: gpa });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: gpa, iova: 0n, vaddr: HVA, size: GB });
  const giova = host.ioctl(fd, IOASID_ALLOC);
  host.ioctl(dev2!, VFIO_DETACH_IOASID, { ioasid: gpa });
  // Before the attach, so that the attach has tables to make.
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: giova, iova: 0x2000n, vaddr: HVA + K4, size: K4 });
  host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: giova });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: giova, iova: 2n * GB, vaddr: HVA + 0xff000n, size: 4n * K4 });
  dma(host, 0n, 0x2000n, 2n * GB, 2n * GB + K4);
  refused(() => host.ioctl(fd, IOASID_UNREGISTER_MEMORY, { vaddr: HVA, size: GB }));
  for (const ioasid of [gpa, giova]) host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid, flags: 2 });
  host.ioctl(fd, IOASID_UNREGISTER_MEMORY, { vaddr: HVA, size: GB });
}

/** Child areas over one, several, missing and half-missing maps of the parent, which then come, go, and come with other rights. */
function flow53(host: SimulatedHost): void {
  const { fd, devices: [dev1, dev2] } = start(host);
  const parent = host.ioctl(fd, IOASID_ALLOC);
  for (const device of [dev1!, dev2!]) host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: parent });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 0n, vaddr: HVA, size: 4n * M2 });
  const child = host.ioctl(fd, IOASID_CREATE_NESTING, parent);
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: GB, vaddr: M2 - K4, size: 3n * M2 });
  host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: child });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: 0x2000n, vaddr: 0x1000n, size: K4 });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: 3n * GB, vaddr: 3n * M2, size: 3n * M2, flags: 1 });
  dma(host, 0x1000n, 0x2000n, GB, 3n * GB, 3n * GB + 2n * M2);
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 4n * M2, vaddr: HVA + 9n * M2, size: 2n * M2 });
  dma(host, GB, 3n * GB + 2n * M2);
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid: parent, iova: 0n, size: 4n * M2 });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 0x1000n, vaddr: HVA + 0x3000n, size: K4, flags: 1 });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: M2, vaddr: HVA + M2 + K4, size: 3n * M2 });
  dma(host, 0x2000n, GB, 3n * GB);
  host.ioctl(dev2!, VFIO_DETACH_IOASID, { ioasid: child });
  host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: child });
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid: child, flags: 2 });
}

/** Four levels, two children each at the second: one map of the root reaches every descendant. */
function deepTree(host: SimulatedHost): void {
  const { fd, devices } = start(host);
  const root = host.ioctl(fd, IOASID_ALLOC);
  const spaces = [root];
  for (const device of devices) host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: root });
  for (const [n, device] of devices.entries()) {
    let above = root;
    for (let depth = 1; depth <= 3; depth++) {
      const ioasid = host.ioctl(fd, IOASID_CREATE_NESTING, above);
      const shift = BigInt(n + depth) * GB;
      // Half of them are mapped when the device comes.
      const map = (): void => host.ioctl(fd, IOASID_DMA_MAP, { ioasid, iova: shift, vaddr: above === root ? 0n : shift - GB, size: 2n * M2 + BigInt(depth) * K4 });
      if (depth % 2 === 1) map();
      host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid });
      if (depth % 2 === 0) map();
      spaces.push(above = ioasid);
    }
  }
  const iovas = [3n, 4n, 5n, 6n].flatMap((n) => [n * GB, n * GB + K4, n * GB + M2, n * GB + 2n * M2]);
  for (const [iova, size] of [[0n, M2], [M2, M2], [2n * M2, K4]] as const) {
    host.ioctl(fd, IOASID_DMA_MAP, { ioasid: root, iova, vaddr: HVA + M2 + iova, size });
    dma(host, ...iovas);
  }
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid: root, iova: M2, size: M2 });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: root, iova: M2, vaddr: HVA, size: M2, flags: 1 });
  dma(host, ...iovas);
  // In the middle of the tree.
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid: spaces[2]!, flags: 2 });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: spaces[2]!, iova: 2n * GB, vaddr: GB + K4, size: M2 });
  dma(host, ...iovas);
}

interface Guest {
  readonly format: GuestTableFormat;
  readonly leaves: number;
}
const X86: Guest = { format: { kind: "x86-64", levels: 4 }, leaves: L.FORMAT_X86_64 };
const ARM: Guest = { format: { kind: "aarch64-stage1", granule: 4096, inputWidth: 48 }, leaves: L.FORMAT_ARM_S1_4K };

/** Tables of four levels in the first pages of RAM, one leaf at address 0 of the guest. */
function writeTables(host: SimulatedHost, { leaves }: Guest): void {
  const encoder = encoderOf(leaves);
  const write = (page: bigint, pte: bigint): void => {
    const bytes = host.process.bytes(HVA + page * K4, 8);
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(0, pte, true);
  };
  for (const level of [3, 2, 1]) write(3n - BigInt(level), encoder.table((4n - BigInt(level)) * K4, level, level - 1));
  write(3n, encoder.leaf(0, { address: 5n * K4, lg2: 12, perm: 3, user: true, accessed: true, dirty: false }));
}

function flow54(guest: Guest): (host: SimulatedHost) => void {
  return (host) => {
    const { fd, devices: [dev1, dev2] } = start(host);
    writeTables(host, guest);
    const parent = host.ioctl(fd, IOASID_ALLOC);
    host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 0n, vaddr: HVA, size: 0x100000n });
    for (const device of [dev1!, dev2!]) host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: parent });
    const child = host.ioctl(fd, IOASID_CREATE_NESTING, parent);
    host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: child });
    host.ioctl(fd, IOASID_BIND_PGTABLE, { ioasid: child, addr: 0n, format: guest.format });
    dma(host, 0n, K4, 5n * K4);
    host.ioctl(fd, IOASID_INVALIDATE_CACHE, { ioasid: child, granularity: 1, iova: 0n, size: K4 });
    dma(host, 0n);
    host.ioctl(fd, IOASID_INVALIDATE_CACHE, { ioasid: child });
    refused(() => host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: 0n, vaddr: 0n, size: K4 }));
    host.ioctl(fd, IOASID_UNBIND_PGTABLE, child);
    host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: 0n, vaddr: 0n, size: 16n * K4 });
    // On a shadow: the second stage is not the root's own table.
    const bound = host.ioctl(fd, IOASID_ALLOC_IOASID_PGTABLE, { parent: child, addr: 0n, format: guest.format });
    host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: bound });
    dma(host, 0n, 5n * K4);
    host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid: parent, flags: 2 });
    host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 0n, vaddr: HVA, size: 0x100000n });
    dma(host, 0n, 5n * K4);
    host.ioctl(dev2!, VFIO_DETACH_IOASID, { ioasid: bound });
  };
}

/** dev2 and dev3 share a group: nothing reaches a space before both are there. */
function groups(host: SimulatedHost): void {
  const { fd, devices: [dev1, dev2, dev3] } = start(host);
  const [a, b] = [host.ioctl(fd, IOASID_ALLOC), host.ioctl(fd, IOASID_ALLOC)];
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: a, iova: 0n, vaddr: HVA, size: 4n * M2 });
  for (const device of [dev1!, dev2!]) host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: a });
  refused(() => host.ioctl(fd, IOASID_DMA_MAP, { ioasid: a, iova: GB, vaddr: HVA, size: K4 }));
  dma(host, 0n);
  host.ioctl(dev3!, VFIO_ATTACH_IOASID, { ioasid: a });
  const child = host.ioctl(fd, IOASID_CREATE_NESTING, a);
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: GB, vaddr: 0n, size: 4n * M2 });
  host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: child });
  dma(host, 0n, GB);
  host.ioctl(dev3!, VFIO_ATTACH_IOASID, { ioasid: child });
  dma(host, 0n, GB);
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: a, iova: 4n * M2, vaddr: HVA, size: K4 });
  host.ioctl(dev2!, VFIO_DETACH_IOASID, { ioasid: child });
  dma(host, 0n, GB);
  host.ioctl(dev3!, VFIO_DETACH_IOASID, { ioasid: child });
  for (const device of [dev3!, dev2!]) host.ioctl(device, VFIO_DETACH_IOASID, { ioasid: a });
  for (const device of [dev2!, dev3!]) host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: b });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: b, iova: 0n, vaddr: HVA, size: K4 });
}

function dirtyTracking(host: SimulatedHost): void {
  const { fd, devices: [dev1, dev2] } = start(host);
  const parent = host.ioctl(fd, IOASID_ALLOC);
  host.ioctl(fd, IOASID_SET_DIRTY_TRACKING, { ioasid: parent, enable: true });
  for (const device of [dev1!, dev2!]) host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: parent });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 0n, vaddr: HVA, size: 4n * M2 });
  const child = host.ioctl(fd, IOASID_CREATE_NESTING, parent);
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: GB, vaddr: K4, size: M2 });
  host.ioctl(fd, IOASID_SET_DIRTY_TRACKING, { ioasid: child, enable: true });
  host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: child });
  const report = (ioasid: number, iova: bigint, clear: boolean): unknown => host.ioctl(fd, IOASID_GET_DIRTY_BITMAP, { ioasid, iova, size: M2, pageSize: 4096, clear });
  dma(host, K4, 2n * M2, GB + K4);
  report(child, GB, false);
  // Dirty leaves, cached as such, while a map below and above fails.
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: 3n * GB, vaddr: 4n * M2, size: M2 });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 4n * M2, vaddr: HVA + 4n * M2, size: 2n * M2 });
  dma(host, GB, 3n * GB, 4n * M2);
  report(parent, 0n, true);
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid: parent, iova: 0n, size: 4n * M2 });
  host.ioctl(dev2!, VFIO_DETACH_IOASID, { ioasid: child });
  dma(host, 4n * M2);
  host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: child });
  host.ioctl(fd, IOASID_SET_DIRTY_TRACKING, { ioasid: parent, enable: false });
  report(child, GB, true);
  host.ioctl(fd, IOASID_GET_INFO, child);
  dma(host, 3n * GB);
}

/** Page requests of both devices in spaces that are attached, detached and unbound around them; some are answered, some not. */
function pageRequests(guest: Guest): (host: SimulatedHost) => void {
  return (host) => {
    const { fd, devices: [dev1, dev2] } = start(host);
    writeTables(host, guest);
    const parent = host.ioctl(fd, IOASID_ALLOC_IOASID, { pageRequests: true });
    for (const device of [dev1!, dev2!]) host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: parent });
    host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 0n, vaddr: HVA, size: 0x100000n });
    const child = host.ioctl(fd, IOASID_ALLOC_IOASID_PGTABLE, { parent, addr: 0n, format: guest.format });
    host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: child });
    const [one, two] = ["dev1", "dev2"].map((name) => new FaultingDevice(host, name)) as [FaultingDevice, FaultingDevice];
    one.ask([GB, GB + K4]);
    two.ask([K4]);
    two.ask([2n * K4]);
    two.event(3n * K4);
    host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: GB, vaddr: HVA + M2, size: K4 });
    const { cookie } = asRequest(fd.faults.read(1)[0]);
    host.ioctl(fd, IOASID_PAGE_RESPONSE, { cookie, code: 0 });
    refused(() => host.ioctl(fd, IOASID_PAGE_RESPONSE, { cookie, code: 0 }));
    host.ioctl(fd, IOASID_PAGE_RESPONSE_RANGE, { ioasid: child, iova: K4, size: K4, code: 0 });
    dma(host, GB, K4);
    host.ioctl(fd, IOASID_UNBIND_PGTABLE, child);
    host.ioctl(fd, IOASID_BIND_PGTABLE, { ioasid: child, addr: 0n, format: guest.format });
    two.ask([4n * K4]);
    host.ioctl(dev2!, VFIO_DETACH_IOASID, { ioasid: child });
    host.ioctl(dev2!, VFIO_ATTACH_IOASID, { ioasid: child });
    one.ask([2n * GB]);
    host.ioctl(dev1!, VFIO_DETACH_IOASID, { ioasid: parent });
    if (fd.faults.pending !== 0) throw new Error(`${fd.faults.pending} groups wait for spaces that are gone`);
  };
}

const STAGE2: IommuOptions = { preset: "vtd-scalable", stage: 2 };
const GROUPED = { devices: DEVICES.map((device, n) => ({ ...device, group: n === 0 ? 1 : 2 })) };

export const FLOWS: readonly Flow[] = [
  { name: "flow 5.1", options: options({}), run: flow51 },
  { name: "flow 5.2", options: options({}), run: flow52 },
  { name: "flow 5.3 on VT-d", options: options({}), run: flow53 },
  { name: "flow 5.3 on SMMUv3", options: options({ preset: "smmuv3", stage: 2 }), run: flow53 },
  { name: "flow 5.3 on AMD-Vi", options: options({ preset: "amd" }), run: flow53 },
  { name: "flow 5.4 on VT-d", options: options(STAGE2), run: flow54(X86) },
  { name: "flow 5.4 on SMMUv3", options: options({ preset: "smmuv3", stage: 2 }), run: flow54(ARM) },
  { name: "flow 5.4 on AMD-Vi", options: options({ preset: "amd" }), run: flow54(X86) },
  { name: "a tree of depth 4", options: options({}), run: deepTree },
  { name: "a tree of depth 4, first stage", options: options({ preset: "vtd-scalable" }), run: deepTree },
  { name: "page requests on VT-d", options: options(STAGE2), run: pageRequests(X86) },
  { name: "page requests on AMD-Vi", options: options({ preset: "amd" }), run: pageRequests(X86) },
  { name: "groups", options: options({}, GROUPED), run: groups },
  { name: "dirty tracking", options: options(STAGE2), run: dirtyTracking },
];

export function makeHost({ options }: Pick<Flow, "options">): Promise<SimulatedHost> {
  return createHost(options);
}
