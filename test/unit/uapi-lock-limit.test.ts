// Pinning on map: what is charged to the lock limit, when it is given back, and the refusal beyond the limit.
import { describe, expect, it } from "vitest";
import { IOASID_DMA_UNMAP_FLAG_ALL } from "../../src/uapi/requests.js";
import { fakeMachine, refusal } from "./uapi-fake.js";

const HVA = 0x7000_0000n;
const K4 = 4096n;

function machine(lockLimit: bigint) {
  const { host } = fakeMachine({ lockLimit });
  const fd = host.open("/dev/ioasid");
  host.process.mmap({ hva: HVA, size: 0x10000n });
  host.process.mmap({ hva: HVA + 0x10000n, size: 0x10000n, backing: { device: 0x8000_0000n } });
  const map = (ioasid: number, iova: bigint, vaddr: bigint, size: bigint) => fd.dmaMap({ ioasid, iova, vaddr, size });
  return { host, fd, map, a: fd.alloc(), b: fd.alloc(), locked: () => host.process.locked };
}

describe("a page", () => {
  it("is charged once for an ioasid, however many of its maps cover it, until the last of them is gone", () => {
    const { fd, map, a, locked } = machine(2n ** 64n - 1n);
    map(a, 0n, HVA, 0x4000n);
    map(a, 0x10000n, HVA, 0x4000n);
    map(a, 0x20000n, HVA + 0x3000n, 0x2000n);
    expect(locked()).toBe(0x5000n);
    fd.dmaUnmap({ ioasid: a, iova: 0n, size: 0x4000n });
    expect(locked()).toBe(0x5000n);
    fd.dmaUnmap({ ioasid: a, iova: 0x10000n, size: 0x4000n });
    expect(locked()).toBe(0x2000n);
    expect(fd.getInfo({ ioasid: a })).toMatchObject({ locked: 0x2000n, lockedTotal: 0x2000n });
    fd.dmaUnmap({ ioasid: a, flags: IOASID_DMA_UNMAP_FLAG_ALL });
    expect(locked()).toBe(0n);
  });

  it("is charged for each ioasid that maps it, and given back by free and close", () => {
    const { host, fd, map, a, b, locked } = machine(2n ** 64n - 1n);
    map(a, 0n, HVA, 0x4000n);
    map(b, 0n, HVA, 0x2000n);
    expect(fd.getInfo({ ioasid: b })).toMatchObject({ locked: 0x2000n, lockedTotal: 0x6000n });
    fd.free({ ioasid: a });
    expect(locked()).toBe(0x2000n);
    fd.close();
    expect(locked()).toBe(0n);
    host.process.munmap(HVA, 0x10000n);
  });

  it("of a device is pinned and never charged", () => {
    const { host, fd, map, a, locked } = machine(0x1000n);
    map(a, 0n, HVA + 0xf000n, 0x11000n);
    expect(locked()).toBe(0x1000n);
    refusal(() => host.process.munmap(HVA + 0x10000n, 0x10000n), "EBUSY", "hva");
    fd.dmaUnmap({ ioasid: a, flags: IOASID_DMA_UNMAP_FLAG_ALL });
    expect(locked()).toBe(0n);
    host.process.munmap(HVA + 0x10000n, 0x10000n);
  });
});

describe("the limit", () => {
  it("can be reached exactly, and refuses with ENOMEM what goes beyond it, naming limit, charge and request", () => {
    const { fd, map, a, b, locked } = machine(0x5fffn);
    map(a, 0n, HVA, 0x4000n);
    const error = refusal(() => map(b, 0n, HVA, 0x2000n), "ENOMEM", "size");
    expect(error.message).toBe(
      "IOASID_DMA_MAP: ENOMEM (12): 8192 bytes more would exceed the lock limit of 24575 (16384 are locked). " +
        "Hint: unmap something, or raise lockLimit of the host",
    );
    expect(locked()).toBe(0x4000n);
    expect(fd.getInfo({ ioasid: b })).toMatchObject({ mappings: 0, locked: 0n, lockLimit: 0x5fffn });
    map(b, 0n, HVA, 0x1000n);
    refusal(() => map(a, 0x8000n, HVA + 0x4000n, K4), "ENOMEM", "size");
  });

  it("counts only pages that are not charged yet", () => {
    const { map, a, locked } = machine(0x5000n);
    map(a, 0n, HVA, 0x4000n);
    expect(refusal(() => map(a, 0x10000n, HVA + 0x2000n, 0x4000n), "ENOMEM", "size").value).toBe(0x2000n);
    map(a, 0x10000n, HVA + 0x2000n, 0x3000n);
    expect(locked()).toBe(0x5000n);
  });

  it("of 0 lets only device memory through", () => {
    const { map, a } = machine(0n);
    refusal(() => map(a, 0n, HVA, K4), "ENOMEM", "size");
    map(a, 0n, HVA + 0x10000n, K4);
  });
});
