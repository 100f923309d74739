// IOASID_DMA_MAP and IOASID_DMA_UNMAP on an ioasid with and without a device: what they do, and the errno of every refusal.
import { beforeEach, describe, expect, it } from "vitest";
import {
  type DmaMap, IOASID_DMA_MAP_FLAG_READ, IOASID_DMA_MAP_FLAG_WRITE, IOASID_DMA_UNMAP_FLAG_ALL, type U64,
} from "../../src/uapi/requests.js";
import type { IoasidFd } from "../../src/uapi/ioasid-fd.js";
import { fakeMachine, fakeModel, refusal, type Machine } from "./uapi-fake.js";

const HVA = 0x7000_0000n;
const K4 = 4096n;

let machine: Machine;
let fd: IoasidFd;
let ioasid: number;

/** 64 KiB of RAM at HVA, one device attached if asked. */
function start(options: Parameters<typeof fakeMachine>[0] & { attach?: boolean } = {}): void {
  const { attach = true, ...rest } = options;
  machine = fakeMachine(rest);
  fd = machine.host.open("/dev/ioasid");
  ioasid = fd.alloc();
  machine.host.process.mmap({ hva: HVA, size: 0x10000 });
  if (!attach) return;
  const dev = machine.host.open("/dev/vfio/devices/dev1");
  dev.bindIoasidFd({ ioasidFd: fd });
  dev.attachIoasid({ ioasid });
}

const map = (iova: U64, size: U64 = K4, vaddr: U64 = HVA, flags?: number): void =>
  fd.dmaMap({ ioasid, iova, vaddr, size, ...(flags !== undefined && { flags }) });
const unmap = (iova: U64, size: U64): bigint => fd.dmaUnmap({ ioasid, iova, size }).size;
/** iova -> hpa of every page in the only table. */
const table = (): [bigint, bigint][] => {
  const [domain] = machine.iommus[0]!.domains;
  return [...domain!.pages].map(([iova, { hpa }]): [bigint, bigint] => [iova, hpa]).sort(([a], [b]) => (a < b ? -1 : 1));
};

beforeEach(() => start());

describe("a map", () => {
  it("puts the memory of the process at the iova, with both permissions unless flags say less", () => {
    map(0x5000n);
    map(0x6000n, K4, HVA + K4, IOASID_DMA_MAP_FLAG_READ);
    map(0x7000n, K4, HVA, IOASID_DMA_MAP_FLAG_WRITE);
    map(0x8000n, K4, HVA, IOASID_DMA_MAP_FLAG_READ | IOASID_DMA_MAP_FLAG_WRITE);
    const [domain] = machine.iommus[0]!.domains;
    expect([...domain!.pages]).toEqual([
      [0x5000n, { hpa: 0x100000n, perm: 3 }], [0x6000n, { hpa: 0x101000n, perm: 1 }], [0x7000n, { hpa: 0x100000n, perm: 2 }],
      [0x8000n, { hpa: 0x100000n, perm: 3 }],
    ]);
  });

  it("takes numbers for addresses that are exact in one", () => {
    fd.dmaMap({ ioasid, iova: 0x5000, vaddr: Number(HVA), size: 0x2000 });
    expect(table()).toEqual([[0x5000n, 0x100000n], [0x6000n, 0x101000n]]);
  });

  it("goes over neighbouring mappings of the process, and joins what is contiguous", () => {
    const { process } = machine.host;
    process.mmap({ hva: HVA + 0x10000n, size: K4, backing: { device: 0x8000_0000n } });
    process.mmap({ hva: HVA + 0x11000n, size: K4, backing: { device: 0x8000_1000n } });
    map(0n, 0x4000n, HVA + 0xe000n);
    expect(table()).toEqual([[0n, 0x10e000n], [0x1000n, 0x10f000n], [0x2000n, 0x8000_0000n], [0x3000n, 0x8000_1000n]]);
  });

  it("may lie wherever the IOMMU translates, up to the last page", () => {
    map(2n ** 48n - K4);
    map(0n);
    expect(table().map(([iova]) => iova)).toEqual([0n, 2n ** 48n - K4]);
  });

  it("before the first attach is recorded, and is in the table after it", () => {
    start({ attach: false });
    map(0x5000n, 0x2000n);
    map(2n ** 40n);
    expect(machine.iommus[0]!.domains.size).toBe(0);
    const dev = machine.host.open("/dev/vfio/devices/dev1");
    dev.bindIoasidFd({ ioasidFd: fd });
    dev.attachIoasid({ ioasid });
    expect(table()).toEqual([[0x5000n, 0x100000n], [0x6000n, 0x101000n], [2n ** 40n, 0x100000n]]);
  });
});

describe("a map is refused", () => {
  const fields = ["iova", "vaddr", "size"] as const;
  const good = (): DmaMap => ({ ioasid, iova: 0x5000n, vaddr: HVA, size: K4 });

  it.each(fields)("with EINVAL when %s is missing, no integer, negative, too wide or misaligned", (field) => {
    for (const value of [undefined, null, "4096", 4096.5, NaN, -4096, -1n, 2n ** 64n, 2 ** 53, {}, 0x1001n, 0x1001]) {
      const error = refusal(() => fd.dmaMap({ ...good(), [field]: value } as DmaMap), "EINVAL", field);
      expect(error.value).toBe(value === 0x1001 ? 0x1001n : value);
    }
  });

  it("with EINVAL when it is empty", () => void refusal(() => map(0x5000n, 0n), "EINVAL", "size"));

  it("with EOVERFLOW when either range runs past 2^64", () => {
    refusal(() => map(2n ** 64n - K4, 0x2000n), "EOVERFLOW", "size");
    refusal(() => map(0n, 0x2000n, 2n ** 64n - K4), "EOVERFLOW", "size");
    refusal(() => map(K4, 2n ** 64n - K4), "EOVERFLOW", "size");
  });

  it("with EINVAL for flags that are 0, unknown, or no u32", () => {
    for (const flags of [0, 4, 7, 0x8000_0001, -1, 1.5, "3", 1n]) {
      refusal(() => map(0n, K4, HVA, flags as number), "EINVAL", "flags");
    }
  });

  it("with ENOENT for an ioasid that the fd does not have, EINVAL for what is no number of one", () => {
    const error = refusal(() => fd.dmaMap({ ...good(), ioasid: 9 }), "ENOENT", "ioasid");
    expect(error.hint).toBe(`it has ${ioasid}`);
    refusal(() => fd.dmaMap({ ...good(), ioasid: 0 }), "ENOENT", "ioasid");
    for (const bad of [-1, 0.5, "1", undefined, 2 ** 32, 1n]) {
      refusal(() => fd.dmaMap({ ...good(), ioasid: bad as number }), "EINVAL", "ioasid");
    }
    const other = machine.host.open("/dev/ioasid");
    expect(refusal(() => other.dmaMap(good()), "ENOENT", "ioasid").hint).toContain("IOASID_ALLOC");
  });

  it("with EEXIST when it overlaps a map in any way, naming it", () => {
    map(0x5000n, 0x3000n);
    const overlapping = [[0x5000n, 0x3000n], [0x4000n, 0x2000n], [0x7000n, 0x2000n], [0x6000n, K4], [0n, 0x10000n]] as const;
    for (const [iova, size] of overlapping) {
      const error = refusal(() => map(iova, size), "EEXIST", "iova");
      expect(error.conflict).toEqual({ kind: "mapping", ioasid, first: 0x5000n, last: 0x7fffn });
    }
    expect(refusal(() => map(0x5000n), "EEXIST", "iova").message).toBe(
      "IOASID_DMA_MAP: EEXIST (17): iova 0x5000..0x5fff overlaps the mapping 0x5000..0x7fff of ioasid 1. " +
        "Hint: unmap that mapping first",
    );
  });

  it("with EFAULT when part of the memory is missing or protected, naming the first address", () => {
    const { process } = machine.host;
    expect(refusal(() => map(0n, 0x2000n, HVA - K4), "EFAULT", "vaddr").message).toContain("0x6ffff000 is not mapped");
    expect(refusal(() => map(0n, 0x2000n, HVA + 0xf000n), "EFAULT", "vaddr").message).toContain("0x70010000 is not mapped");
    process.mmap({ hva: HVA + 0x10000n, size: K4, prot: "r" });
    process.mmap({ hva: HVA + 0x11000n, size: K4, prot: "w" });
    expect(refusal(() => map(0n, 0x2000n, HVA + 0xf000n), "EFAULT", "vaddr").message).toContain("0x70010000 does not permit");
    map(0n, 0x2000n, HVA + 0xf000n, IOASID_DMA_MAP_FLAG_READ);
    refusal(() => map(0x2000n, K4, HVA + 0x11000n), "EFAULT", "vaddr");
    map(0x2000n, K4, HVA + 0x11000n, IOASID_DMA_MAP_FLAG_WRITE);
  });

  it("with EINVAL beyond the width and in reserved ranges, with the permitted ranges in the hint", () => {
    const reserved = [{ first: 0xfee00000n, last: 0xfeefffffn, why: "interrupts" }];
    start({ models: [fakeModel({ addressWidth: 39, reserved })], behind: [0] });
    const permitted = "permitted are 0x0..0xfedfffff, 0xfef00000..0x7fffffffff, in multiples of 4096";
    expect(refusal(() => map(2n ** 39n), "EINVAL", "iova")).toMatchObject({ hint: permitted, conflict: undefined });
    refusal(() => map(2n ** 39n - K4, 0x2000n), "EINVAL", "iova");
    const error = refusal(() => map(0xfee00000n - K4, 0x2000n), "EINVAL", "iova");
    expect(error).toMatchObject({ hint: permitted, conflict: { kind: "reserved", first: 0xfee00000n, last: 0xfeefffffn } });
    expect(error.message).toContain("(interrupts)");
    map(0xfee00000n - K4);
  });

  it("with EINVAL when it is not made of the IOMMU's pages", () => {
    start({ models: [fakeModel({ granule: 16384 })], behind: [0] });
    refusal(() => map(0n, K4), "EINVAL", "iova");
    refusal(() => map(K4, 0x4000n), "EINVAL", "iova");
    map(0n, 0x4000n);
  });

  it("with ENODEV before the first attach when the host is strict, but not after it", () => {
    start({ attach: false, strictAttach: true });
    refusal(() => map(0n), "ENODEV", "ioasid");
    refusal(() => unmap(0n, K4), "ENODEV", "ioasid");
    refusal(() => fd.dmaUnmap({ ioasid, flags: IOASID_DMA_UNMAP_FLAG_ALL }), "ENODEV", "ioasid");
    refusal(() => fd.getInfo({ ioasid }), "ENODEV", "ioasid");
    const dev = machine.host.open("/dev/vfio/devices/dev1");
    dev.bindIoasidFd({ ioasidFd: fd });
    dev.attachIoasid({ ioasid });
    map(0n);
    dev.detachIoasid({ ioasid });
    expect(unmap(0n, K4)).toBe(K4);
  });
});

describe("an unmap", () => {
  it("removes one map and answers its bytes; the range is free again", () => {
    map(0x5000n, 0x3000n);
    expect(unmap(0x5000n, 0x3000n)).toBe(0x3000n);
    expect(table()).toEqual([]);
    map(0x6000n);
  });

  it("removes all maps that lie in the range, and only them", () => {
    for (const iova of [0x1000n, 0x3000n, 0x4000n, 0x8000n]) map(iova);
    expect(unmap(0x2000n, 0x6000n)).toBe(0x2000n);
    expect(table().map(([iova]) => iova)).toEqual([0x1000n, 0x8000n]);
  });

  it("of nothing is a success of 0 bytes, outside the width too", () => {
    expect(unmap(0x5000n, K4)).toBe(0n);
    expect(unmap(2n ** 60n, 2n ** 60n)).toBe(0n);
  });

  it("refuses to split a map at either end, naming it, and removes nothing", () => {
    map(0x4000n, 0x4000n);
    map(0x8000n, 0x4000n);
    const before = table();
    const cuts = [[0x4000n, K4, 0x4000n], [0x5000n, 0x7000n, 0x4000n], [0x4000n, 0x5000n, 0x8000n], [0x9000n, K4, 0x8000n]];
    for (const [iova, size, first] of cuts as [bigint, bigint, bigint][]) {
      expect(refusal(() => unmap(iova, size), "EINVAL", "iova").conflict).toMatchObject({ kind: "mapping", first });
      expect(table()).toEqual(before);
    }
  });

  it("with the flag ALL removes everything, and wants no range", () => {
    for (const iova of [0n, 0x3000n, 2n ** 47n]) map(iova);
    refusal(() => fd.dmaUnmap({ ioasid, iova: K4, flags: IOASID_DMA_UNMAP_FLAG_ALL }), "EINVAL", "iova");
    refusal(() => fd.dmaUnmap({ ioasid, size: K4, flags: IOASID_DMA_UNMAP_FLAG_ALL }), "EINVAL", "size");
    expect(fd.dmaUnmap({ ioasid, iova: 0n, size: 0, flags: IOASID_DMA_UNMAP_FLAG_ALL })).toEqual({ size: 0x3000n });
    expect(table()).toEqual([]);
    expect(fd.dmaUnmap({ ioasid, flags: IOASID_DMA_UNMAP_FLAG_ALL })).toEqual({ size: 0n });
  });

  it("is refused for a bad range, bad flags and an unknown ioasid", () => {
    for (const field of ["iova", "size"] as const) {
      for (const value of [undefined, "1", -1n, 2n ** 64n, 0x123n, 1.5]) {
        refusal(() => fd.dmaUnmap({ ioasid, iova: 0n, size: K4, [field]: value } as never), "EINVAL", field);
      }
    }
    refusal(() => unmap(0n, 0n), "EINVAL", "size");
    refusal(() => unmap(2n ** 64n - K4, 0x2000n), "EOVERFLOW", "size");
    for (const flags of [1, 3, 4, -2, 0.5]) refusal(() => fd.dmaUnmap({ ioasid, iova: 0n, size: K4, flags }), "EINVAL", "flags");
    refusal(() => fd.dmaUnmap({ ioasid: 7, iova: 0n, size: K4 }), "ENOENT", "ioasid");
  });
});
