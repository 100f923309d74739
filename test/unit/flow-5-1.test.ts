// Flow 5.1 of the RFC, with the second device of the review, typed in line by line; then DMA of both devices.
import { beforeEach, describe, expect, it } from "vitest";
import {
  createHost, IOASID_ALLOC, IOASID_DMA_MAP, IOASID_DMA_UNMAP, O_RDWR, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD,
  VFIO_DETACH_IOASID,
} from "../../src/index.js";
import { faultOf, GB, HVA } from "./space-host.js";

/** The first bytes of the guest's memory are RAM; the rest reads as zeros, so that 1 GB costs nothing. */
const RAM = 0x200000n;
const mode = O_RDWR;

type Host = Awaited<ReturnType<typeof createHost>>;
let host: Host;
let ram: { hpa: bigint };
let zeros: { hpa: bigint };

beforeEach(async () => {
  host = await createHost({
    memory: { ram: 0x400000 },
    iommus: [{ name: "vtd0", preset: "vtd" }],
    devices: [{ name: "dev1", rid: 0x20 }, { name: "dev2", rid: 0x28 }],
  });
  ram = host.process.mmap({ hva: HVA, size: RAM });
  zeros = host.process.mmap({ hva: HVA + RAM, size: GB - RAM, backing: "zero" });
});

/** The mail's lines, in its order. `&at_data` and `&dma_map` become the objects themselves. */
function flow() {
  const { open, ioctl } = host;

  /* Bind device to IOASID fd */
  const device_fd = open("/dev/vfio/devices/dev1", mode);
  const ioasid_fd = open("/dev/ioasid", mode);
  const label = ioctl(device_fd, VFIO_BIND_IOASID_FD, ioasid_fd);

  /* Attach device to IOASID */
  const gpa_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
  const at_data = { ioasid: gpa_ioasid };
  ioctl(device_fd, VFIO_ATTACH_IOASID, at_data);

  /* Setup GPA mapping */
  const dma_map = {
    ioasid: gpa_ioasid,
    iova: 0, // GPA
    vaddr: 0x40000000, // HVA
    size: GB,
  };
  ioctl(ioasid_fd, IOASID_DMA_MAP, dma_map);

  /* The second device shares the address space */
  const device2_fd = open("/dev/vfio/devices/dev2", mode);
  const label2 = ioctl(device2_fd, VFIO_BIND_IOASID_FD, ioasid_fd);
  ioctl(device2_fd, VFIO_ATTACH_IOASID, at_data);
  return { ioctl, device_fd, device2_fd, ioasid_fd, gpa_ioasid, at_data, label, label2 };
}

describe("flow 5.1", () => {
  it("translates every page of both devices to the memory of the process", () => {
    flow();
    for (const name of ["dev1", "dev2"]) {
      const dma = host.device(name).dma();
      for (const iova of [0n, 0x1234n, RAM - 1n]) expect(dma.translate(iova, "w")).toBe(ram.hpa + iova);
      for (const iova of [RAM, GB / 2n + 5n, GB - 1n]) expect(dma.translate(iova, "r")).toBe(zeros.hpa + iova - RAM);
    }
  });

  it("lets one device read what the other one and the process have written", () => {
    flow();
    const [dma1, dma2] = [host.device("dev1").dma(), host.device("dev2").dma()];
    const bytes = Uint8Array.from({ length: 10000 }, (_, i) => i * 7);
    dma1.writeSync(0xff0n, bytes);
    expect(dma2.readSync(0xff0n, bytes.length)).toEqual(bytes);
    expect(host.process.bytes(HVA + 0xff0n, bytes.length)).toEqual(bytes);
    host.process.bytes(HVA, 3).set([1, 2, 3]);
    expect([...dma2.readSync(0n, 3)]).toEqual([1, 2, 3]);
    expect([...dma2.readSync(RAM - 2n, 4)].slice(2)).toEqual([0, 0]);
  });

  it("refuses what lies outside the map, naming the device by its label", () => {
    const { label, label2 } = flow();
    expect([label, label2]).toEqual([1, 2]);
    expect(faultOf(() => host.device("dev1").dma().translate(GB, "r"))).toMatchObject({ iova: GB, label, device: "dev1" });
    expect(faultOf(() => host.device("dev2").dma().readSync(GB - 2n, 4))).toMatchObject({ label: label2, device: "dev2" });
  });

  it("ends with the unmap for both devices, and with the detach for one", () => {
    const { ioctl, device_fd, ioasid_fd, at_data, gpa_ioasid } = flow();
    const [dma1, dma2] = [host.device("dev1").dma(), host.device("dev2").dma()];
    dma1.translate(0n, "r");
    ioctl(device_fd, VFIO_DETACH_IOASID, at_data);
    expect(faultOf(() => dma1.translate(0n, "r")).iova).toBe(0n);
    expect(dma2.translate(0n, "r")).toBe(ram.hpa);
    ioctl(device_fd, VFIO_ATTACH_IOASID, at_data);
    expect(dma1.translate(0n, "r")).toBe(ram.hpa);
    expect(ioctl(ioasid_fd, IOASID_DMA_UNMAP, { ioasid: gpa_ioasid, iova: 0, size: GB })).toEqual({ size: GB });
    for (const dma of [dma1, dma2]) faultOf(() => dma.translate(0n, "r"));
    expect(host.process.locked).toBe(0n);
  });

  it("leaves nothing behind when the fds are closed", () => {
    const { device_fd, device2_fd, ioasid_fd } = flow();
    expect(host.process.locked).toBe(GB);
    device_fd.close();
    faultOf(() => host.device("dev1").dma().translate(0n, "r"));
    expect(host.device("dev2").dma().translate(0n, "r")).toBe(ram.hpa);
    ioasid_fd.close();
    faultOf(() => host.device("dev2").dma().translate(0n, "r"));
    device2_fd.close();
    host.process.munmap(HVA, RAM);
    host.process.munmap(HVA + RAM, GB - RAM);
    expect([host.labelOf("dev1"), host.labelOf("dev2"), host.process.locked]).toEqual([undefined, undefined, 0n]);
  });
});
