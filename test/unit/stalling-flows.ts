// What the flows of failing-flows.ts leave out, for the tests of stalls: ends of files, lists, mediated devices with PASIDs, PASID
// tables that come and go with PASIDs attached beside them, memory that is no RAM.
import {
  IOASID_ALLOC, IOASID_ALLOC_IOASID_PASID_TABLE, IOASID_ALLOC_IOASID_PGTABLE, IOASID_CREATE_NESTING, IOASID_DMA_MAP, IOASID_DMA_UNMAP, IOASID_FREE,
  IOASID_INVALIDATE_CACHE, IOASID_UNBIND_PASID_TABLE, KVM_MAP_PASID, KVM_UNMAP_PASID, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD, VFIO_DETACH_IOASID,
  VFIO_UNBIND_IOASID_FD, type HostOptions, type SimulatedHost,
} from "../../src/index.js";
import { GuestPasidTable, PASID_KINDS } from "./guest-pasid-tables.js";
import type { Flow } from "./failing-flows.js";

const HVA = 0x40000000n;
const K4 = 4096n;

function options(more: HostOptions): HostOptions {
  return { memory: { ram: 0x100000, arena: 3 << 20 }, routes: 64, domains: 32, slots: 8, ports: { count: 1, iotlbSets: 64, lanes: 16, faults: 16 }, ...more };
}

/** dev1 alone, dev2 and dev3 in a group: closed while attached, with maps, children and a PASID. */
function closes(host: SimulatedHost): void {
  host.process.mmap({ hva: HVA, size: 0x10000n });
  const fd = host.open("/dev/ioasid");
  const devices = ["dev1", "dev2", "dev3"].map((name) => host.open(`/dev/vfio/devices/${name}`));
  for (const device of devices) host.ioctl(device as never, VFIO_BIND_IOASID_FD, fd);
  const [one, two, three] = devices as never[];
  const parent = host.ioctl(fd, IOASID_ALLOC);
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, entries: [0n, 2n, 4n].map((page) => ({ iova: page * K4, vaddr: HVA + page * K4, size: K4 })) });
  for (const device of [one, two, three]) host.ioctl(device!, VFIO_ATTACH_IOASID, { ioasid: parent });
  const child = host.ioctl(fd, IOASID_CREATE_NESTING, parent);
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: child, iova: 0n, vaddr: 0n, size: 4n * K4 });
  for (const device of [one, two, three]) host.ioctl(device!, VFIO_ATTACH_IOASID, { ioasid: child });
  host.ioctl(one!, VFIO_ATTACH_IOASID, { ioasid: parent, flags: 1, userPasid: 7 });
  host.device("dev1").dma().translate(0n);
  host.device("dev1").dma(7).translate(0n);
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, entries: [{ iova: K4, vaddr: HVA + K4, size: K4 }, { iova: 8n * K4, vaddr: HVA, size: 2n * K4 }] });
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid: parent, entries: [{ iova: 0n, size: K4 }, { iova: 8n * K4, size: 2n * K4 }] });
  host.close(one!);
  host.close(fd);
  host.close(two!);
  host.process.munmap(HVA, 0x10000n);
}

/** Slots that come and go while a device uses others. */
function slots(host: SimulatedHost): void {
  host.process.mmap({ hva: HVA, size: 16n * K4, backing: "zero" });
  host.process.mmap({ hva: HVA + 16n * K4, size: K4, backing: { device: 0x9000_0000n } });
  const fd = host.open("/dev/ioasid");
  const device = host.open("/dev/vfio/devices/dev1");
  host.ioctl(device, VFIO_BIND_IOASID_FD, fd);
  const ioasid = host.ioctl(fd, IOASID_ALLOC);
  host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid, iova: 0n, vaddr: HVA, size: 17n * K4 });
  host.device("dev1").dma().translate(0n);
  host.ioctl(fd, IOASID_DMA_UNMAP, { ioasid, flags: 2 });
  host.process.munmap(HVA + 16n * K4, K4);
  host.process.mmap({ hva: HVA + 16n * K4, size: K4, backing: { device: 0x9000_0000n } });
  host.process.munmap(HVA, 16n * K4);
  host.ioctl(device, VFIO_DETACH_IOASID, { ioasid });
  host.ioctl(fd, IOASID_FREE, ioasid);
  host.ioctl(device, VFIO_UNBIND_IOASID_FD);
}

/** Two shares of a device with PASIDs of the host's pools, and a VM that names them. */
function mediated(host: SimulatedHost): void {
  host.process.mmap({ hva: HVA, size: 0x10000n });
  const fd = host.open("/dev/ioasid");
  const [a, b] = ["a", "b"].map((name) => host.open(`/dev/vfio/devices/${name}`)) as never[];
  for (const device of [a, b]) host.ioctl(device!, VFIO_BIND_IOASID_FD, fd);
  const spaces = [host.ioctl(fd, IOASID_ALLOC), host.ioctl(fd, IOASID_ALLOC)];
  for (const ioasid of spaces) host.ioctl(fd, IOASID_DMA_MAP, { ioasid, iova: 0n, vaddr: HVA, size: 4n * K4 });
  host.ioctl(a!, VFIO_ATTACH_IOASID, { ioasid: spaces[0]! });
  for (const userPasid of [1, 2, 3]) host.ioctl(a!, VFIO_ATTACH_IOASID, { ioasid: spaces[userPasid % 2]!, flags: 1, userPasid });
  host.ioctl(b!, VFIO_ATTACH_IOASID, { ioasid: spaces[1]!, flags: 1, userPasid: 9 });
  const vm = host.open("/dev/kvm");
  host.ioctl(vm, KVM_MAP_PASID, { ioasidFd: fd, ioasid: spaces[1]!, userPasid: 5 });
  for (const pasid of [1, 2, 3]) host.device("a").dma(pasid).translate(0n);
  host.ioctl(vm, KVM_UNMAP_PASID, { userPasid: 5 });
  host.ioctl(a!, VFIO_DETACH_IOASID, { ioasid: spaces[1]!, flags: 1, userPasid: 1 });
  host.ioctl(b!, VFIO_DETACH_IOASID, { ioasid: spaces[1]!, flags: 1, userPasid: 9 });
  host.close(vm);
  host.close(a!);
}

/** A PASID table comes, is told of changes, and goes, beside spaces that are attached with PASIDs of the same device. */
function besidePasids(host: SimulatedHost): void {
  host.process.mmap({ hva: HVA, size: 0x100000n });
  const fd = host.open("/dev/ioasid");
  const device = host.open("/dev/vfio/devices/dev1");
  host.ioctl(device, VFIO_BIND_IOASID_FD, fd);
  const { format } = PASID_KINDS[0]!;
  const table = new GuestPasidTable(host, format, 0x80000n);
  table.set(1, 0n);
  const parent = host.ioctl(fd, IOASID_ALLOC);
  host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: parent });
  host.ioctl(fd, IOASID_DMA_MAP, { ioasid: parent, iova: 0n, vaddr: HVA, size: 0x100000n });
  const guest = { parent, addr: 0x4000n, format: { kind: "x86-64", levels: 4 } } as const;
  const spaces = [1, 2].map((userPasid) => {
    const ioasid = host.ioctl(fd, IOASID_ALLOC_IOASID_PGTABLE, guest);
    host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid, flags: 1, userPasid });
    return ioasid;
  });
  const all = host.ioctl(fd, IOASID_ALLOC_IOASID_PASID_TABLE, { parent, addr: table.root, format });
  host.ioctl(device, VFIO_ATTACH_IOASID, { ioasid: all });
  host.ioctl(fd, IOASID_INVALIDATE_CACHE, { ioasid: spaces[0]!, granularity: 2, pasid: 1 });
  host.ioctl(fd, IOASID_INVALIDATE_CACHE, { ioasid: all, entries: [{ granularity: 2, pasid: 1 }, { granularity: 0 }] });
  host.ioctl(device, VFIO_DETACH_IOASID, { ioasid: spaces[1]!, flags: 1, userPasid: 2 });
  host.ioctl(fd, IOASID_UNBIND_PASID_TABLE, all);
  host.ioctl(device, VFIO_DETACH_IOASID, { ioasid: all });
  host.close(fd);
}

const GROUPED = [{ name: "dev1", rid: 0x20, group: 1 }, { name: "dev2", rid: 0x28, group: 2 }, { name: "dev3", rid: 0x29, group: 2 }];
const SHARES = [{ name: "pf", rid: 0x20 }, ...["a", "b"].map((name) => ({ name, parent: "pf", enqcmd: true }))];

export const STALLING: readonly Flow[] = [
  { name: "files that are closed", options: options({ iommus: [{ preset: "vtd-scalable" }], devices: GROUPED }), run: closes },
  { name: "slots", options: options({}), run: slots },
  { name: "mediated devices", options: options({ iommus: [{ preset: "vtd-scalable" }], devices: SHARES }), run: mediated },
  { name: "a PASID table beside PASIDs", options: options({ iommus: [{ preset: "vtd-scalable", stage: 2 }], pasidTables: 2 }), run: besidePasids },
];
