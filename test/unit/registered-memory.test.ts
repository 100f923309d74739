// IOASID_REGISTER_MEMORY and its inverse: what is charged where, what may be mapped, and when a registration ends.
import { describe, expect, it } from "vitest";
import { type HostOptions } from "../../src/index.js";
import { HVA, K4, M2, spaces } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

/** Two roots, a with dev1 and b with dev2. */
async function machine(options?: HostOptions) {
  const it = await spaces(options);
  const [a, b] = [it.fd.alloc(), it.fd.alloc()];
  [a, b].forEach((ioasid, n) => it.devs[n]!.attachIoasid({ ioasid }));
  const register = (vaddr: bigint | number, size: bigint | number) => it.fd.registerMemory({ vaddr, size });
  const unregister = (vaddr: bigint | number, size: bigint | number) => it.fd.unregisterMemory({ vaddr, size });
  return { ...it, a, b, register, unregister, locked: () => it.host.process.locked };
}

describe("registered memory", () => {
  it("is charged once, at once, however many spaces map it and however often", async () => {
    const { a, b, map, register, locked, info } = await machine();
    register(HVA, 0x10000n);
    expect(locked()).toBe(0x10000n);
    map(a, 0, HVA, 0x10000);
    map(b, 0, HVA, 0x8000);
    map(b, 0x100000, HVA, 0x10000);
    expect(locked()).toBe(0x10000n);
    expect(info(b)).toMatchObject({ locked: 0n, lockedRegistered: 0x10000n, lockedTotal: 0x10000n });
  });

  it("is charged by its pages of memory only: a device's are pinned and free", async () => {
    const { host, register, unregister, locked } = await machine();
    host.process.mmap({ hva: HVA - 0x4000n, size: 0x4000n, backing: { device: 1n << 40n } });
    register(HVA - 0x4000n, 0x5000n);
    expect(locked()).toBe(K4);
    refusal(() => host.process.munmap(HVA - 0x4000n, 0x4000n), "EBUSY", "hva");
    unregister(HVA - 0x4000n, 0x5000n);
    expect(locked()).toBe(0n);
    host.process.munmap(HVA - 0x4000n, 0x4000n);
  });

  it("may come in ranges that touch, and a map may lie across them, not beyond them", async () => {
    const { a, map, register, dma } = await machine();
    register(HVA, 0x2000n);
    register(HVA + 0x2000n, 0x2000n);
    map(a, 0, HVA + K4, 0x3000);
    expect(dma(1, 0x2fff, "w")).toBe(0x3fffn);
    for (const [vaddr, size] of [[HVA + 0x3000n, 0x2000], [HVA + 0x4000n, 0x1000], [HVA + M2, 0x1000]] as const) {
      const error = refusal(() => map(a, 0x10000, vaddr, size), "EPERM", "vaddr");
      expect(error).toMatchObject({ value: vaddr, hint: expect.stringContaining("register it") });
    }
  });

  it("restricts one fd only", async () => {
    const { host, register, map, a } = await machine();
    const other = host.open("/dev/ioasid");
    const ioasid = other.alloc();
    register(HVA, K4);
    other.dmaMap({ ioasid, iova: 0, vaddr: HVA + M2, size: K4 });
    expect(other.getInfo({ ioasid })).toMatchObject({ locked: K4, lockedRegistered: 0n, lockedTotal: 2n * K4 });
    refusal(() => map(a, 0, HVA + M2), "EPERM", "vaddr");
  });

  it("leaves maps that were there before as they are, and their charge", async () => {
    const { a, map, unmap, register, dma, locked } = await machine();
    map(a, 0, HVA + 0x8000n);
    register(HVA, K4);
    expect([dma(1, 0), locked()]).toEqual([0x8000n, 2n * K4]);
    expect(unmap(a, 0)).toBe(K4);
    expect(locked()).toBe(K4);
    refusal(() => map(a, 0, HVA + 0x8000n), "EPERM", "vaddr");
  });

  it("says nothing of a child's maps, which are of its parent", async () => {
    const { fd, devs, a, map, register, dma } = await machine();
    register(HVA, 0x2000n);
    map(a, 0, HVA, 0x2000);
    const child = fd.createNesting({ parent: a });
    devs[0]!.attachIoasid({ ioasid: child });
    map(child, 0x7000, 0x1000);
    map(child, 0x9000, 0x1000000);
    expect([dma(1, 0x7000), dma(1, 0x9000)]).toEqual([0x1000n, "not-present"]);
  });
});

describe("unregistering", () => {
  it("takes back exactly one registered range, and with the last one everything may be mapped again", async () => {
    const { a, map, register, unregister, locked } = await machine();
    register(HVA, 0x2000n);
    register(HVA + 0x2000n, 0x2000n);
    for (const [vaddr, size] of [[HVA, 0x4000n], [HVA, K4], [HVA + K4, K4], [HVA + 0x4000n, K4]] as const) {
      refusal(() => unregister(vaddr, size), "ENOENT", "vaddr");
    }
    unregister(HVA, 0x2000n);
    expect(locked()).toBe(0x2000n);
    refusal(() => map(a, 0, HVA), "EPERM", "vaddr");
    unregister(HVA + 0x2000n, 0x2000n);
    map(a, 0, HVA);
    expect(locked()).toBe(K4);
  });

  it("is refused while one page of the range is mapped, naming the ioasid, and possible after the unmap or the free", async () => {
    const { fd, devs, a, b, map, unmap, register, unregister, locked } = await machine();
    register(HVA, 0x4000n);
    register(HVA + 0x4000n, 0x4000n);
    map(a, 0, HVA + 0x3000n);
    map(b, 0, HVA + 0x4000n);
    expect(refusal(() => unregister(HVA, 0x4000n), "EBUSY", "vaddr")).toMatchObject({ value: HVA, conflict: { kind: "ioasid", ioasid: a } });
    unmap(a, 0);
    unregister(HVA, 0x4000n);
    expect(refusal(() => unregister(HVA + 0x4000n, 0x4000n), "EBUSY", "vaddr").conflict).toEqual({ kind: "ioasid", ioasid: b });
    devs[1]!.detachIoasid({ ioasid: b });
    fd.free({ ioasid: b });
    unregister(HVA + 0x4000n, 0x4000n);
    expect(locked()).toBe(0n);
  });

  it("happens at the close of the fd", async () => {
    const { host, fd, register, locked } = await machine();
    register(HVA, M2);
    refusal(() => host.process.munmap(HVA, M2), "EBUSY", "hva");
    fd.close();
    expect(locked()).toBe(0n);
    host.process.munmap(HVA, M2);
  });
});

describe("registering is refused", () => {
  it("with EEXIST for an overlap in any way, naming the range", async () => {
    const { register, locked } = await machine();
    register(HVA + 0x2000n, 0x2000n);
    for (const [at, size] of [[0x2000n, 0x2000n], [0x1000n, 0x2000n], [0x3000n, 0x2000n], [0n, 0x8000n]] as const) {
      const error = refusal(() => register(HVA + at, size), "EEXIST", "vaddr");
      expect(error.conflict).toEqual({ kind: "memory", first: HVA + 0x2000n, last: HVA + 0x3fffn });
    }
    expect(locked()).toBe(0x2000n);
  });

  it("with EFAULT where memory is missing, whole or in part, and with ENOMEM beyond the lock limit, leaving nothing pinned", async () => {
    const { host, register, locked } = await machine({ lockLimit: 0x3fffn });
    for (const vaddr of [HVA - K4, HVA - 0x10000n]) refusal(() => register(vaddr, 0x2000n), "EFAULT", "vaddr");
    const error = refusal(() => register(HVA, 0x4000n), "ENOMEM", "size");
    expect(error).toMatchObject({ value: 0x4000n, message: expect.stringContaining("limit of 16383 (0 are locked)") });
    expect(locked()).toBe(0n);
    register(HVA, 0x3000n);
    refusal(() => register(HVA + 0x3000n, K4), "ENOMEM", "size");
    host.process.mmap({ hva: 0n, size: K4, backing: { device: 1n << 40n } });
    register(0, K4);
  });
});
