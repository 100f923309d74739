// IOASID_SET_DIRTY_TRACKING and IOASID_GET_DIRTY_BITMAP: which pages DMA wrote, in the terms of each space on its way.
import { describe, expect, it } from "vitest";
import { type IommuOptions, type PgtableFormat } from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { childOf, GuestPages, HVA, K4, M2, R, spaces, type Spaces } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

const MODELS: [name: string, iommu: IommuOptions][] = [
  ["VT-d, second stage", { preset: "vtd-scalable", stage: 2 }], ["VT-d, first stage", { preset: "vtd-scalable" }],
  ["SMMUv3, stage 1", { preset: "smmuv3" }], ["SMMUv3, stage 2", { preset: "smmuv3", stage: 2 }], ["AMD-Vi", { preset: "amd" }],
];

/** A root that maps 16 single pages from 0 on, with all devices; tracking is on. */
async function machine(iommu: IommuOptions = MODELS[0]![1], count = 2) {
  const it = await spaces({ iommus: [iommu], count });
  const root = it.fd.alloc();
  for (const dev of it.devs) dev.attachIoasid({ ioasid: root });
  for (let n = 0n; n < 16n; n++) it.map(root, n * K4, HVA + n * K4);
  it.fd.setDirtyTracking({ ioasid: root, enable: true });
  return { ...it, root };
}

function write({ host }: Spaces, device: number, ...iovas: (bigint | number)[]): void {
  for (const iova of iovas) host.device(`dev${device}`).dma().writeSync(iova, Uint8Array.of(1));
}

interface Asked {
  iova?: bigint | number;
  size?: bigint | number;
  pageSize?: number;
  clear?: boolean;
}

/** Numbers of the bits that are set; the count must agree. */
function dirty({ fd }: Spaces, ioasid: number, { iova = 0, size = 0x10000, pageSize = 4096, clear = true }: Asked = {}): number[] {
  const { bitmap, dirty: count } = fd.getDirtyBitmap({ ioasid, iova, size, pageSize, clear });
  expect(bitmap).toHaveLength(Math.ceil(Number(BigInt(size)) / pageSize / 8));
  const bits = [...bitmap].flatMap((byte, at) => Array.from({ length: 8 }, (_, bit) => (byte >> bit) & 1 ? at * 8 + bit : -1)).filter((bit) => bit >= 0);
  expect(bits).toHaveLength(count);
  return bits;
}

describe.each(MODELS)("dirty pages on %s", (_name, iommu) => {
  it("are those that DMA wrote, and clean once they are reported; reads and failed writes leave none", async () => {
    const it = await machine(iommu);
    it.host.device("dev1").dma().readSync(0n, 0x10000);
    expect(dirty(it, it.root)).toEqual([]);
    write(it, 1, 0, 0x3000, 0x3fff);
    write(it, 2, 0xf123);
    expect(() => write(it, 1, 0x10000)).toThrow("not-present");
    expect(dirty(it, it.root)).toEqual([0, 3, 15]);
    expect(dirty(it, it.root)).toEqual([]);
    write(it, 1, 0x3000);
    expect(dirty(it, it.root)).toEqual([3]);
  });

  it("stay dirty when they are only looked at", async () => {
    const it = await machine(iommu);
    write(it, 1, 0x2000);
    for (let n = 0; n < 2; n++) expect(dirty(it, it.root, { clear: false })).toEqual([2]);
    write(it, 1, 0x4000);
    expect(dirty(it, it.root)).toEqual([2, 4]);
    expect(dirty(it, it.root, { clear: false })).toEqual([]);
  });
});

describe("a range", () => {
  it("may begin and end at any page; only what lies in it is reported and cleaned", async () => {
    const it = await machine();
    write(it, 1, ...Array.from({ length: 16 }, (_, n) => n * 4096));
    expect(dirty(it, it.root, { iova: 0x3000, size: 0x5000 })).toEqual([0, 1, 2, 3, 4]);
    expect(dirty(it, it.root, { iova: 0x1000, size: 0xb000 })).toEqual([0, 1, 7, 8, 9, 10]);
    expect(dirty(it, it.root)).toEqual([0, 12, 13, 14, 15]);
  });

  it("may have holes, which are clean, and lie where nothing is mapped at all, beyond the width too", async () => {
    const it = await machine();
    it.unmap(it.root, 0x4000);
    write(it, 1, 0x3000, 0x5000);
    expect(dirty(it, it.root, { size: 0x400000 })).toEqual([3, 5]);
    expect(dirty(it, it.root, { iova: 1n << 40n })).toEqual([]);
    expect(dirty(it, it.root, { iova: 1n << 50n, size: 0x2000 })).toEqual([]);
    write(it, 1, 0x3000);
    expect(dirty(it, it.root, { iova: 0, size: 1n << 52n, pageSize: 2 ** 40 })).toEqual([0]);
  });

  it("is reported in larger pages when they are asked for: one bit for all of them", async () => {
    const it = await machine();
    write(it, 1, 0x1000, 0x2000, 0x3000, 0xb000);
    expect(dirty(it, it.root, { pageSize: 0x4000, clear: false })).toEqual([0, 2]);
    expect(dirty(it, it.root, { pageSize: 0x10000, clear: false })).toEqual([0]);
    expect(dirty(it, it.root, { iova: 0x8000, size: 0x8000, pageSize: 0x2000 })).toEqual([1]);
    expect(dirty(it, it.root)).toEqual([1, 2, 3]);
  });

  it("of a part of a large leaf is clean once it is reported; the rest of the leaf stays dirty", async () => {
    const it = await machine();
    const iova = 4n * M2;
    // The RAM is one aligned leaf of 2 MiB.
    it.map(it.root, iova, HVA, M2);
    write(it, 1, iova + 0x5000n);
    const all = Array.from({ length: 16 }, (_, n) => n);
    expect(dirty(it, it.root, { iova: iova + 0x10000n })).toEqual(all);
    expect(dirty(it, it.root, { iova: iova + 0x10000n })).toEqual([]);
    expect(dirty(it, it.root, { iova })).toEqual(all);
    expect(dirty(it, it.root, { iova, size: M2 })).toHaveLength(512 - 32);
    expect(dirty(it, it.root, { iova, size: M2 })).toEqual([]);
    write(it, 1, iova + M2 - 1n);
    expect(dirty(it, it.root, { iova, size: M2, pageSize: 2 ** 21 })).toEqual([0]);
  });

  it.each([
    ["an empty one", { size: 0 }, "size"], ["a misaligned iova", { iova: 0x800 }, "iova"], ["a misaligned size", { size: 0x1800 }, "size"],
    ["a page of 2048", { pageSize: 2048 }, "pageSize"], ["a page of 0", { pageSize: 0 }, "pageSize"], ["12288", { pageSize: 12288 }, "pageSize"],
    ["a bigint", { pageSize: 4096n as never }, "pageSize"], ["a string", { pageSize: "4096" as never }, "pageSize"],
    ["iova no multiple of it", { iova: 0x1000, pageSize: 0x2000 }, "iova"], ["size no multiple of it", { size: 0x3000, pageSize: 0x2000 }, "size"],
    ["too many bits", { size: 1n << 40n }, "size"], ["a clear that is no boolean", { clear: 1 as never }, "clear"],
  ] as [string, Asked, string][])("with %s is EINVAL, and cleans nothing", async (_what, asked, field) => {
    const it = await machine();
    write(it, 1, 0);
    expect(refusal(() => dirty(it, it.root, asked), "EINVAL", field).hint).toMatch(/./);
    expect(dirty(it, it.root)).toEqual([0]);
  });

  it("past 2^64 is EOVERFLOW", async () => {
    const it = await machine();
    refusal(() => dirty(it, it.root, { iova: (1n << 64n) - K4, size: 0x2000 }), "EOVERFLOW", "size");
  });
});

describe("tracking", () => {
  it("begins clean, each time it is switched on, and is EOPNOTSUPP to ask for while it is off", async () => {
    const it = await machine();
    write(it, 1, 0x1000);
    it.fd.setDirtyTracking({ ioasid: it.root, enable: true });
    expect(dirty(it, it.root)).toEqual([]);
    write(it, 1, 0x2000);
    it.fd.setDirtyTracking({ ioasid: it.root, enable: false });
    expect(it.info(it.root).dirtyTracking).toEqual({ supported: true, enabled: false });
    expect(refusal(() => dirty(it, it.root), "EOPNOTSUPP", "ioasid")).toMatchObject({ value: it.root, hint: expect.stringContaining("SET_DIRTY") });
    write(it, 1, 0x3000);
    it.fd.setDirtyTracking({ ioasid: it.root, enable: true });
    expect(dirty(it, it.root)).toEqual([]);
    refusal(() => it.fd.setDirtyTracking({ ioasid: it.root, enable: 1 as never }), "EINVAL", "enable");
  });

  it("may be on before any device comes, and survives the last one, with what it wrote", async () => {
    const it = await spaces();
    const root = it.fd.alloc();
    it.fd.setDirtyTracking({ ioasid: root, enable: true });
    it.map(root, 0, HVA, 0x10000);
    it.devs[0]!.attachIoasid({ ioasid: it.fd.alloc() });
    // The default IOMMU, VT-d in legacy mode, has no dirty bits.
    const error = refusal(() => it.devs[1]!.attachIoasid({ ioasid: root }), "EINVAL", "ioasid");
    expect(error).toMatchObject({ value: root, conflict: { kind: "device", device: "dev2" } });
    const other = await machine();
    write(other, 1, 0x2000);
    for (const dev of other.devs) dev.detachIoasid({ ioasid: other.root });
    expect(dirty(other, other.root)).toEqual([2]);
    other.devs[0]!.attachIoasid({ ioasid: other.root });
    expect(dirty(other, other.root)).toEqual([]);
    write(other, 1, 0x4000);
    expect(dirty(other, other.root)).toEqual([4]);
  });

  it("forgets a page with its map", async () => {
    const it = await machine();
    write(it, 1, 0x2000, 0x3000);
    it.unmap(it.root, 0x2000);
    it.map(it.root, 0x2000, HVA);
    expect(dirty(it, it.root)).toEqual([3]);
  });

  it.each([["vtd", {}], ["smmuv3", { dirtyTracking: false }], ["amd", { dirtyTracking: false }]] as const)(
    "is EOPNOTSUPP on %s with %j, and says which device is in the way", async (preset, options) => {
      const it = await spaces({ iommus: [{ preset, ...options }] });
      const root = it.fd.alloc();
      it.devs[0]!.attachIoasid({ ioasid: root });
      expect(it.info(root).dirtyTracking).toEqual({ supported: false, enabled: false });
      const error = refusal(() => it.fd.setDirtyTracking({ ioasid: root, enable: true }), "EOPNOTSUPP", "ioasid");
      expect(error).toMatchObject({ value: root, conflict: { kind: "device", device: "dev1" }, hint: expect.stringContaining("DEVICE_GET_INFO") });
    });

  it("is EOPNOTSUPP on a guest's table, whose writes are the parent's", async () => {
    const it = await machine();
    it.map(it.root, 0x100000, HVA + 0x100000n, 0x10000);
    const table = new GuestPages(it.host, FORMAT_X86_64);
    table.map(0x8000n, 0x2000n);
    const child = childOf(it, it.root);
    it.fd.bindPgtable({ ioasid: child, addr: table.root, format: { kind: "x86-64", levels: 4 } satisfies PgtableFormat });
    refusal(() => it.fd.setDirtyTracking({ ioasid: child, enable: true }), "EOPNOTSUPP", "ioasid");
    refusal(() => dirty(it, child), "EOPNOTSUPP", "ioasid");
    dirty(it, it.root);
    write(it, 2, 0x8000);
    expect(dirty(it, it.root)).toEqual([2]);
    expect(dirty(it, it.root)).toEqual([]);
    write(it, 2, 0x8000);
    expect(dirty(it, it.root)).toEqual([2]);
  });
});

describe("spaces nested in software", () => {
  it("report the same write in the child's terms and in the parent's, each until it is asked for", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    it.map(child, 0x100000, 0x4000, 0x4000);
    it.fd.setDirtyTracking({ ioasid: child, enable: true });
    const ofChild = { iova: 0x100000, size: 0x4000 };
    write(it, 2, 0x101000);
    write(it, 1, 0x7000);
    expect(dirty(it, child, ofChild)).toEqual([1]);
    expect(dirty(it, child, ofChild)).toEqual([]);
    expect(dirty(it, it.root)).toEqual([5, 7]);
    expect(dirty(it, it.root)).toEqual([]);
    write(it, 2, 0x103000);
    expect(dirty(it, it.root, { clear: false })).toEqual([7]);
    expect(dirty(it, child, ofChild)).toEqual([3]);
    expect(dirty(it, it.root)).toEqual([7]);
  });

  it("may track in one of them only, a grandchild's writes among it", async () => {
    const it = await machine(undefined, 3);
    const child = childOf(it, it.root, [2, 3]);
    const grandchild = childOf(it, child, [3]);
    it.map(child, 0x100000, 0, 0x10000);
    it.map(grandchild, 0x200000, 0x102000, 0x2000);
    write(it, 3, 0x201000);
    expect(dirty(it, it.root)).toEqual([3]);
    it.fd.setDirtyTracking({ ioasid: it.root, enable: false });
    it.fd.setDirtyTracking({ ioasid: child, enable: true });
    write(it, 3, 0x200000);
    write(it, 2, 0x105000);
    write(it, 1, 0x7000);
    expect(dirty(it, child, { iova: 0x100000 })).toEqual([2, 5]);
    refusal(() => dirty(it, grandchild, { iova: 0x200000 }), "EOPNOTSUPP", "ioasid");
  });

  it("keep for the parent what was written before the child was unmapped, left, or its parent's page went", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    it.map(child, 0x100000, 0x4000, 0x4000);
    write(it, 2, 0x100000);
    it.unmap(child, 0x100000, 0x4000);
    expect(dirty(it, it.root)).toEqual([4]);
    it.map(child, 0x100000, 0x4000, 0x4000);
    write(it, 2, 0x101000);
    it.devs[1]!.detachIoasid({ ioasid: child });
    expect(dirty(it, it.root)).toEqual([5]);
    it.devs[1]!.attachIoasid({ ioasid: child });
    it.fd.setDirtyTracking({ ioasid: child, enable: true });
    write(it, 2, 0x102000);
    it.unmap(it.root, 0x6000);
    expect(dirty(it, child, { iova: 0x100000, size: 0x4000 })).toEqual([2]);
    expect(dirty(it, it.root)).toEqual([]);
  });

  it("count two areas over one page of the parent apart in the child, and once in the parent", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    it.fd.setDirtyTracking({ ioasid: child, enable: true });
    it.map(child, 0x100000, 0x4000);
    it.map(child, 0x101000, 0x4000);
    it.map(child, 0x102000, 0x4000, 0x1000, R);
    write(it, 2, 0x101000);
    expect(dirty(it, it.root)).toEqual([4]);
    expect(dirty(it, child, { iova: 0x100000, size: 0x3000 })).toEqual([1]);
  });

  it("stay tracked when a child is made, mapped or left under a parent that tracks", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    it.map(child, 0x100000, 0x4000);
    it.fd.setDirtyTracking({ ioasid: child, enable: true });
    write(it, 2, 0x100000);
    it.fd.setDirtyTracking({ ioasid: child, enable: false });
    expect(dirty(it, it.root)).toEqual([4]);
    write(it, 2, 0x100000);
    expect(dirty(it, it.root)).toEqual([4]);
  });
});
