// The uAPI on a real engine, at its limits: full pools, open sections, both ends of a 64-bit space. Ranges are first..last.
import { describe, expect, it } from "vitest";
import { createHost, IOASID_DMA_UNMAP_FLAG_ALL, type HostOptions } from "../../src/index.js";
import { refusal } from "./uapi-fake.js";

const HVA = 0x40000000n;
const K4 = 4096n;
const GB = 1n << 30n;

/** Few frames, so that they run out soon. */
const SMALL: HostOptions = {
  memory: { ram: 0x100000, arena: 0x180000 }, routes: 8, domains: 4, ports: { count: 1, iotlbSets: 64, lanes: 64, faults: 4 },
};

/** dev1 is bound, 1 MiB of RAM is at HVA, nothing is attached. */
async function start(options: HostOptions = {}) {
  const host = await createHost({ ...SMALL, ...options });
  const [fd, dev] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
  dev.bindIoasidFd({ ioasidFd: fd });
  host.process.mmap({ hva: HVA, size: 0x100000n });
  return { host, fd, dev, ioasid: fd.alloc(), dma: host.device("dev1").dma() };
}

describe("a section of the calling thread", () => {
  it("refuses with EDEADLK all that changes tables or routes, and afterwards lets it through", async () => {
    const { host, fd, dev, ioasid, dma } = await start();
    const map = (iova: bigint) => fd.dmaMap({ ioasid, iova, vaddr: HVA, size: K4 });
    map(0n);
    host.port.batch(() => void refusal(() => dev.attachIoasid({ ioasid }), "EDEADLK"));
    expect(host.engine.framesUsed).toBe(0);
    dev.attachIoasid({ ioasid });
    const changes = [
      () => map(K4), () => fd.dmaUnmap({ ioasid, iova: 0n, size: K4 }), () => dev.detachIoasid({ ioasid }), () => dev.close(),
      () => fd.close(),
    ];
    for (const change of changes) {
      host.port.batch(() => void refusal(change, "EDEADLK"));
      expect(fd.getInfo({ ioasid })).toMatchObject({ devices: ["dev1"], mappings: 1, locked: K4 });
      expect(dma.translate(0n, "r")).toBe(0x100000000n);
    }
    for (const change of changes.slice(0, 3)) change();
    expect(fd.getInfo({ ioasid })).toMatchObject({ devices: [], mappings: 1 });
  });
});

describe("maps made before the attach", () => {
  it("may be many more than the tables that they need have frames", async () => {
    const { host, fd, dev, ioasid, dma } = await start();
    const pages = 2n * BigInt(host.engine.frames);
    for (let i = 0n; i < pages; i++) fd.dmaMap({ ioasid, iova: 2n * i * K4, vaddr: HVA + (i % 256n) * K4, size: K4 });
    dev.attachIoasid({ ioasid });
    expect(dma.translate(2n * (pages - 1n) * K4 + 5n, "w")).toBe(0x100000000n + ((pages - 1n) % 256n) * K4 + 5n);
    expect(fd.dmaUnmap({ ioasid, flags: IOASID_DMA_UNMAP_FLAG_ALL }).size).toBe(pages * K4);
    dev.detachIoasid({ ioasid });
    expect(host.engine.framesUsed).toBe(0);
  });

  it("that need more frames than there are end the attach with ENOMEM, and stay as they were", async () => {
    const { host, fd, dev, ioasid } = await start();
    for (let i = 4n; i < BigInt(host.engine.frames); i++) fd.dmaMap({ ioasid, iova: i * GB, vaddr: HVA, size: K4 });
    const before = fd.getInfo({ ioasid });
    refusal(() => dev.attachIoasid({ ioasid }), "ENOMEM", "ioasid");
    expect(host.engine.framesUsed).toBe(0);
    expect(fd.getInfo({ ioasid })).toEqual(before);
  });
});

describe("what has run out", () => {
  it("is ENOMEM for frames at a map, with nothing half mapped", async () => {
    const { host, fd, dev, ioasid, dma } = await start();
    dev.attachIoasid({ ioasid });
    let iova = 0n;
    const map = () => fd.dmaMap({ ioasid, iova, vaddr: HVA, size: K4 });
    while (host.engine.framesUsed < host.engine.frames - 1) {
      map();
      iova += GB;
    }
    const before = [fd.getInfo({ ioasid }), host.engine.framesUsed];
    refusal(map, "ENOMEM", "size");
    expect([fd.getInfo({ ioasid }), host.engine.framesUsed]).toEqual(before);
    expect(() => dma.translate(iova, "r")).toThrow("not-present");
    fd.dmaUnmap({ ioasid, iova: 0n, size: K4 });
    map();
    expect(dma.translate(iova, "r")).toBe(0x100000000n);
  });

  it("is not reached by a map of many scattered pieces that share their tables, and refuses all of them when it is", async () => {
    const pages = 256n;
    const { host, fd, dev, ioasid, dma } = await start();
    dev.attachIoasid({ ioasid });
    // Neighbours in hva that are backed from the end of RAM to its beginning: as many pieces as pages.
    host.process.munmap(HVA, 0x100000n);
    const backing = Array.from({ length: Number(pages) }, (_, i) => host.process.mmap({ hva: HVA + BigInt(i) * K4, size: K4 }).hpa);
    for (let i = 0n; i < pages; i++) host.process.munmap(HVA + i * K4, K4);
    for (let i = pages - 1n; i >= 0n; i--) host.process.mmap({ hva: HVA + i * K4, size: K4 });
    const [free, iova] = [host.engine.frames - host.engine.framesUsed, 0x40000000n - (pages / 2n) * K4];
    expect(free).toBeLessThan(2 * Number(pages));
    fd.dmaMap({ ioasid, iova, vaddr: HVA, size: pages * K4 });
    // One page of either half of the range, in the order of backing.
    expect(dma.translate(iova, "r")).toBe(backing.at(-1));
    expect(dma.translate(iova + (pages - 1n) * K4, "r")).toBe(backing[0]);
    // Two leaf tables, two above them, one above these.
    expect(host.engine.frames - host.engine.framesUsed).toBe(free - 5);
    fd.dmaUnmap({ ioasid, iova, size: pages * K4 });
    for (let at = 4n; host.engine.frames - host.engine.framesUsed > 4; at++) fd.dmaMap({ ioasid, iova: at << 39n, vaddr: HVA, size: K4 });
    const before = host.engine.framesUsed;
    refusal(() => fd.dmaMap({ ioasid, iova, vaddr: HVA, size: pages * K4 }), "ENOMEM", "size");
    expect(host.engine.framesUsed).toBe(before);
    expect(() => dma.translate(iova, "r")).toThrow("not-present");
  });

  it("is ENOSPC for domains and for slots", async () => {
    const devices = [{ name: "dev1", rid: 1 }, { name: "dev2", rid: 2 }];
    const { host, fd, dev, ioasid } = await start({ domains: 1, slots: 2, devices });
    const dev2 = host.open("/dev/vfio/devices/dev2");
    dev2.bindIoasidFd({ ioasidFd: fd });
    dev.attachIoasid({ ioasid });
    refusal(() => dev2.attachIoasid({ ioasid: fd.alloc() }), "ENOSPC");
    dev2.attachIoasid({ ioasid });
    host.process.mmap({ hva: 0n, size: K4, backing: "zero" });
    refusal(() => host.process.mmap({ hva: K4, size: K4, backing: "zero" }), "ENOSPC");
  });
});

describe("addresses", () => {
  it("that the IOMMU cannot put out are EINVAL at the map, and at the attach when the map was there before", async () => {
    const { host, fd, dev, ioasid } = await start({ iommus: [{ outputWidth: 40 }] });
    host.process.mmap({ hva: 0n, size: K4, backing: { device: 1n << 40n } });
    const map = () => fd.dmaMap({ ioasid, iova: 0n, vaddr: 0n, size: K4 });
    map();
    refusal(() => dev.attachIoasid({ ioasid }), "EINVAL", "ioasid");
    fd.dmaUnmap({ ioasid, iova: 0n, size: K4 });
    dev.attachIoasid({ ioasid });
    refusal(map, "EINVAL", "vaddr");
    expect(host.process.mmap({ hva: K4, size: K4, backing: "zero" }).hpa).toBe((1n << 40n) - K4);
  });

  it("at both ends of a 64-bit space go with one unmap", async () => {
    const { fd, dev, ioasid, dma } = await start({ iommus: [{ preset: "amd" }] });
    dev.attachIoasid({ ioasid });
    const last = 2n ** 64n - K4;
    const both = () => [0n, last].forEach((iova) => fd.dmaMap({ ioasid, iova, vaddr: HVA + (iova & K4), size: K4 }));
    both();
    expect([dma.translate(0n, "r"), dma.translate(2n ** 64n - 1n, "r")]).toEqual([0x100000000n, 0x100001fffn]);
    expect(fd.dmaUnmap({ ioasid, flags: IOASID_DMA_UNMAP_FLAG_ALL }).size).toBe(2n * K4);
    for (const iova of [0n, last]) expect(() => dma.translate(iova, "r")).toThrow("not-present");
    both();
  });
});
