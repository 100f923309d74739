// DMA views: bytes across pages, runs and slots; nothing moves when any part is refused; faults that say who and where.
import { beforeEach, describe, expect, it } from "vitest";
import { createHost, DmaFault, EngineError, type DmaView, type SimulatedHost } from "../../src/index.js";

const HVA = 0x10000000n;
let host: SimulatedHost;
let view: DmaView;
let map: (iova: bigint, vaddr: bigint, size: bigint, flags?: number) => void;
let unmap: (iova: bigint, size: bigint) => void;

beforeEach(async () => {
  host = await createHost({ memory: { ram: 1 << 20 }, devices: [{ name: "dev1", rid: 0x20 }, { name: "dev2", rid: 0x28 }] });
  const ioasidFd = host.open("/dev/ioasid");
  const deviceFd = host.open("/dev/vfio/devices/dev1");
  deviceFd.bindIoasidFd({ ioasidFd, cookie: 77n });
  const ioasid = ioasidFd.alloc();
  deviceFd.attachIoasid({ ioasid });
  map = (iova, vaddr, size, flags) => ioasidFd.dmaMap({ ioasid, iova, vaddr, size, ...(flags === undefined ? {} : { flags }) });
  unmap = (iova, size) => void ioasidFd.dmaUnmap({ ioasid, iova, size });
  view = host.device("dev1").dma();
});

const pattern = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
function faultOf(use: () => unknown): DmaFault {
  try {
    use();
  } catch (error) {
    if (error instanceof DmaFault) return error;
    throw error;
  }
  throw new Error("no fault");
}

describe("bytes", () => {
  it("go to the pages that the space names, in the order of the iova", () => {
    host.process.mmap({ hva: HVA, size: 0x8000n });
    // Four pages, backwards.
    for (let page = 0n; page < 4n; page++) map(0x40000n + page * 4096n, HVA + (3n - page) * 4096n, 4096n);
    const bytes = pattern(3 * 4096);
    view.writeSync(0x40800n, bytes);
    expect(view.readSync(0x40800n, bytes.length)).toEqual(bytes);
    const memory = host.process.bytes(HVA, 0x4000);
    expect(memory.subarray(0x3800, 0x4000)).toEqual(bytes.subarray(0, 0x800));
    expect(memory.subarray(0x2000, 0x3000)).toEqual(bytes.subarray(0x800, 0x1800));
    expect(memory.subarray(0, 0x800)).toEqual(bytes.subarray(0x2800, 0x3000));
  });

  it("cross slots: RAM, then memory that reads as zero", async () => {
    host.process.mmap({ hva: HVA, size: 0x1000n });
    host.process.mmap({ hva: HVA + 0x1000n, size: 0x2000n, backing: "zero" });
    map(0n, HVA, 0x3000n);
    view.writeSync(0xff0n, new Uint8Array(16).fill(9));
    const into = new Uint8Array(0x1020).fill(5);
    await view.read(0xff0n, into);
    expect(into.subarray(0, 16)).toEqual(new Uint8Array(16).fill(9));
    expect(into.subarray(16)).toEqual(new Uint8Array(0x1010));
    expect(faultOf(() => view.writeSync(0xff8n, new Uint8Array(16)))).toMatchObject({ reason: "zero-memory", iova: 0x1000n });
    expect(view.readSync(0xff0n, 16)).toEqual(new Uint8Array(16).fill(9));
  });

  it("of large and small pages side by side, more than a batch holds", async () => {
    const big = await createHost({ memory: { ram: 8 << 20 }, ports: { lanes: 16 } });
    const ioasidFd = big.open("/dev/ioasid");
    const deviceFd = big.open("/dev/vfio/devices/dev1");
    deviceFd.bindIoasidFd({ ioasidFd });
    const ioasid = ioasidFd.alloc();
    deviceFd.attachIoasid({ ioasid });
    big.process.mmap({ hva: 0x40000000n, size: 0x600000n });
    // 100 small pages, a block of 2 MiB, 100 small pages.
    ioasidFd.dmaMap({ ioasid, iova: 0x19c000n, vaddr: 0x40401000n, size: 0x64000n });
    ioasidFd.dmaMap({ ioasid, iova: 0x200000n, vaddr: 0x40200000n, size: 0x200000n });
    ioasidFd.dmaMap({ ioasid, iova: 0x400000n, vaddr: 0x40501000n, size: 0x64000n });
    const dma = big.device("dev1").dma();
    const bytes = pattern(0x2c7000);
    dma.writeSync(0x19c800n, bytes);
    expect(Buffer.compare(dma.readSync(0x19c800n, bytes.length), bytes)).toBe(0);
    expect(big.process.bytes(0x40401800n, 64)).toEqual(bytes.slice(0, 64));
    expect(big.process.bytes(0x40501000n, 64)).toEqual(bytes.slice(0x263800, 0x263840));
  });

  it("of length 0 ask nothing", () => {
    expect(view.readSync(0x123456n, 0)).toEqual(new Uint8Array(0));
    view.writeSync(0n, new Uint8Array(0));
  });
});

describe("refusals", () => {
  beforeEach(() => {
    host.process.mmap({ hva: HVA, size: 0x4000n });
    map(0n, HVA, 0x2000n);
    map(0x3000n, HVA + 0x3000n, 0x1000n, 1);
  });

  it("name the device, the first refused address, and where the walk ended; nothing was moved", () => {
    const fault = faultOf(() => view.writeSync(0x1ff0n, pattern(0x20)));
    expect(fault).toMatchObject({ reason: "not-present", iova: 0x2000n, access: "w", device: "dev1", cookie: 77n, level: 0, stage: 2 });
    expect(fault.label).toBeGreaterThan(0);
    expect(fault.message).toContain("write of iova 0x2000 refused: not-present");
    expect(view.readSync(0x1ff0n, 16)).toEqual(new Uint8Array(16));
    const into = new Uint8Array(0x20).fill(7);
    expect(faultOf(() => view.readSync(0x1ff0n, into)).iova).toBe(0x2000n);
    expect(into).toEqual(new Uint8Array(0x20).fill(7));
  });

  it("a read-only page reads and does not write, warm and cold", async () => {
    expect(view.translate(0x3000n)).toBe(view.translate(0x3000n, "r"));
    expect(faultOf(() => view.translate(0x3010n, "w"))).toMatchObject({ reason: "write-denied", iova: 0x3010n });
    expect(faultOf(() => view.writeSync(0x3010n, pattern(4)))).toMatchObject({ reason: "write-denied" });
    await expect(view.write(0x3010n, pattern(4))).rejects.toBeInstanceOf(DmaFault);
  });

  it("map then use, unmap then fault, immediately", () => {
    for (let round = 0; round < 5; round++) {
      map(0x8000n, HVA, 0x1000n);
      expect(view.readSync(0x8000n, 8)).toHaveLength(8);
      unmap(0x8000n, 0x1000n);
      expect(faultOf(() => view.readSync(0x8000n, 8)).reason).toBe("not-present");
    }
  });

  it("a device without a space is blocked, and says that it has no label", () => {
    const other = host.device("dev2").dma();
    expect(faultOf(() => other.readSync(0n, 1))).toMatchObject({ reason: "blocked", device: "dev2", label: undefined, stage: 0, level: -1 });
  });

  it("addresses too wide, and accesses past 2^64", () => {
    expect(faultOf(() => view.readSync(1n << 48n, 1)).reason).toBe("address-width");
    expect(faultOf(() => view.readSync((1n << 64n) - 4n, 8)).reason).toBe("address-width");
  });

  it("device memory belongs to the embedder", () => {
    host.process.mmap({ hva: 0x70000000n, size: 0x1000n, backing: { device: 0x9000000000n } });
    map(0x10000n, 0x70000000n, 0x1000n);
    expect(view.translate(0x10004n)).toBe(0x9000000004n);
    expect(faultOf(() => view.readSync(0x10004n, 4)).reason).toBe("device-memory");
  });

  it("wrong arguments are typed errors that name the field", () => {
    const field = (use: () => unknown): string | undefined => {
      try {
        use();
      } catch (error) {
        if (error instanceof EngineError) return error.field;
      }
      return undefined;
    };
    for (const iova of [-1n, 1n << 64n, -1, 1.5, "0", null]) expect(field(() => view.readSync(iova as bigint, 1))).toBe("iova");
    for (const length of [-1, 1.5, 2 ** 33]) expect(field(() => view.readSync(0n, length))).toBe("length");
    expect(field(() => view.readSync(0n, "4" as unknown as number))).toBe("into");
    expect(field(() => view.writeSync(0n, [1] as unknown as Uint8Array))).toBe("bytes");
    expect(field(() => view.translate(0n, "x" as "r"))).toBe("access");
    expect(field(() => host.device("nobody"))).toBe("name");
  });
});

describe("hosts that cannot be", () => {
  it.each([
    [{ iommus: [] }, "iommus"], [{ iommus: [{ preset: "x" as "vtd" }] }, "iommus.preset"], [{ iommus: [{ addressWidth: 40 }] }, "iommus.addressWidth"],
    [{ iommus: [{ preset: "amd" as const, addressWidth: 50 }] }, "iommus.addressWidth"], [{ iommus: [{ outputWidth: 53 }] }, "iommus.outputWidth"],
    [{ iommus: [{ name: "a" }, { name: "a" }] }, "iommus.name"], [{ devices: [{ name: "a/b", rid: 1 }] }, "devices.name"],
    [{ devices: [{ name: "a", rid: 1 }, { name: "a", rid: 2 }] }, "devices.name"], [{ devices: [{ name: "a", rid: 1 }, { name: "b", rid: 1 }] }, "devices.rid"],
    [{ devices: [{ name: "a", rid: 65536 }] }, "devices.rid"], [{ devices: [{ name: "a", rid: 1, iommu: "none" }] }, "devices.iommu"],
    [{ lockLimit: -1n }, "lockLimit"], [{ ram: [{ hpa: 0n, offset: 0, size: 4096n }] }, "ram"], [{ strictAttach: 1 as unknown as boolean }, "strictAttach"],
  ])("%#: names %s", async (options, field) => {
    await expect(createHost(options)).rejects.toThrow(expect.objectContaining({ name: "EngineError", field }));
  });
});
