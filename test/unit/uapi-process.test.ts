// The user process: mmap, munmap, its bytes, and what its limits refuse.
import { beforeEach, describe, expect, it } from "vitest";
import type { Mmap } from "../../src/uapi/process.js";
import { fakeMachine, fakeModel, refusal, type Machine } from "./uapi-fake.js";

const HVA = 0x7000_0000n;
const K4 = 4096n;
const MIB = 0x100000n;

let machine: Machine;
beforeEach(() => void (machine = fakeMachine()));
const mmap = (arg: Mmap) => machine.host.process.mmap(arg);
const munmap = (hva: bigint | number, size: bigint | number) => machine.host.process.munmap(hva, size);
const bytes = (hva: bigint | number, length: number) => machine.host.process.bytes(hva, length);

describe("mmap", () => {
  it("backs a range by RAM and says where it is", () => {
    expect(mmap({ hva: HVA, size: 0x2000 })).toEqual({ hva: HVA, size: 0x2000n, hpa: MIB, offset: 0x80000 });
    const second = mmap({ hva: 0, size: K4, prot: "r", backing: "ram" });
    expect(second).toEqual({ hva: 0n, size: K4, hpa: MIB + 0x2000n, offset: 0x82000 });
    expect(machine.slots.size).toBe(0);
  });

  it("backs a range by a device or by zeros, with a slot each", () => {
    expect(mmap({ hva: HVA, size: K4, backing: { device: 0x8000_0000 } })).toEqual({ hva: HVA, size: K4, hpa: 0x8000_0000n });
    const zeros = mmap({ hva: HVA + K4, size: 0x40000000n, backing: "zero" });
    expect(zeros).toEqual({ hva: HVA + K4, size: 0x40000000n, hpa: 2n ** 46n - 0x40000000n });
    expect([...machine.slots]).toEqual([
      [0x8000_0000n, { last: 0x8000_0fffn, kind: "device" }],
      [zeros.hpa, { last: 2n ** 46n - 1n, kind: "zero" }],
    ]);
  });

  it("keeps zeros within what every IOMMU can put out, and within 56 bits without one", () => {
    machine = fakeMachine({ models: [fakeModel({ outputWidth: 52 }), fakeModel({ outputWidth: 39 })] });
    expect(mmap({ hva: 0n, size: K4, backing: "zero" }).hpa).toBe(2n ** 39n - K4);
    machine = fakeMachine({ models: [], behind: [] });
    expect(mmap({ hva: 0n, size: K4, backing: "zero" }).hpa).toBe(2n ** 56n - K4);
  });

  it("reaches the end of the address space", () => {
    mmap({ hva: 2n ** 64n - K4, size: K4 });
    bytes(2n ** 64n - K4, 4096)[4095] = 7;
    expect(bytes(2n ** 64n - 1n, 1)).toEqual(new Uint8Array([7]));
    refusal(() => bytes(2n ** 64n - 1n, 2), "EFAULT", "hva");
  });

  it("is refused for bad fields", () => {
    const good: Mmap = { hva: HVA, size: K4 };
    for (const value of [undefined, "0", -1n, 2n ** 64n, 1.5, 0x123n]) {
      for (const field of ["hva", "size"]) refusal(() => mmap({ ...good, [field]: value } as never), "EINVAL", field);
    }
    refusal(() => mmap({ ...good, size: 0 }), "EINVAL", "size");
    refusal(() => mmap({ hva: 2n ** 64n - K4, size: 0x2000n }), "EOVERFLOW", "size");
    for (const prot of ["x", "", 3, "constructor"]) refusal(() => mmap({ ...good, prot: prot as never }), "EINVAL", "prot");
    for (const backing of ["rom", 1, {}, []]) refusal(() => mmap({ ...good, backing: backing as never }), "EINVAL", "backing");
    for (const device of [undefined, -1n, 0x123n, "0", 2n ** 56n, 2n ** 64n]) {
      refusal(() => mmap({ ...good, backing: { device: device as never } }), "EINVAL", "device");
    }
    refusal(() => mmap({ hva: 0n, size: 2n ** 60n, backing: { device: 0n } }), "EINVAL", "device");
    refusal(() => mmap({ ...good, backing: { device: 0n, kind: 1 } as never }), "EINVAL", "kind");
    refusal(() => mmap({ ...good, addr: 0 } as never), "EINVAL", "addr");
    refusal(() => mmap(undefined as never), "EFAULT");
    expect(machine.slots.size).toBe(0);
  });

  it("is refused with EEXIST over a mapping of the process, over RAM, and over another slot", () => {
    mmap({ hva: HVA, size: 0x2000n });
    const error = refusal(() => mmap({ hva: HVA - K4, size: 0x2000n }), "EEXIST", "hva");
    expect(error.conflict).toEqual({ kind: "memory", first: HVA, last: HVA + 0x1fffn });
    expect(error.call).toBe("mmap");
    refusal(() => mmap({ hva: 0n, size: K4, backing: { device: MIB } }), "EEXIST", "device");
    mmap({ hva: 0n, size: 0x2000n, backing: { device: 0x8000_0000n } });
    expect(refusal(() => mmap({ hva: 0x10000n, size: K4, backing: { device: 0x8000_1000n } }), "EEXIST", "device").conflict)
      .toEqual({ kind: "slot", first: 0x8000_0000n, last: 0x8000_1fffn });
  });

  it("is refused with ENOMEM when RAM, or room for zeros, has run out", () => {
    mmap({ hva: HVA, size: MIB - K4 });
    expect(refusal(() => mmap({ hva: 0n, size: 0x2000n }), "ENOMEM", "size").message).toContain("4096 bytes are free");
    mmap({ hva: 0n, size: K4 });
    refusal(() => mmap({ hva: 0x5000n, size: K4 }), "ENOMEM", "size");
    refusal(() => mmap({ hva: 2n ** 63n, size: 2n ** 50n, backing: "zero" }), "ENOMEM", "size");
  });

  it("leaves nothing behind when the engine refuses the slot", () => {
    for (const [code, errno] of [["SLOT_LIMIT", "ENOSPC"], ["SLOT_OVERLAP", "EEXIST"]] as const) {
      machine.refuse.addSlot = code;
      expect(refusal(() => mmap({ hva: HVA, size: K4, backing: { device: 0x8000_0000n } }), errno).call).toBe("mmap");
      refusal(() => mmap({ hva: HVA, size: K4, backing: "zero" }), errno);
    }
    machine.refuse.addSlot = "NO_ARENA";
    expect(() => mmap({ hva: HVA, size: K4, backing: "zero" })).toThrow("refused on demand");
    delete machine.refuse.addSlot;
    mmap({ hva: HVA, size: K4, backing: { device: 0x8000_0000n } });
    expect(mmap({ hva: 0n, size: K4, backing: "zero" }).hpa).toBe(2n ** 46n - K4);
  });
});

describe("munmap", () => {
  it("gives RAM, slots and addresses back", () => {
    for (let round = 0; round < 3; round++) {
      mmap({ hva: HVA, size: MIB });
      mmap({ hva: 0n, size: K4, backing: { device: 0x8000_0000n } });
      const { hpa } = mmap({ hva: K4, size: K4, backing: "zero" });
      expect(hpa).toBe(2n ** 46n - K4);
      munmap(HVA, MIB);
      munmap(0, 4096);
      munmap(K4, K4);
      expect(machine.slots.size).toBe(0);
    }
  });

  it("is refused with ENOENT for anything but one whole mapping", () => {
    mmap({ hva: HVA, size: 0x2000n });
    mmap({ hva: HVA + 0x2000n, size: 0x2000n });
    for (const [hva, size] of [[HVA, K4], [HVA, 0x4000n], [HVA + K4, K4], [HVA - K4, 0x3000n], [0n, K4]] as const) {
      expect(refusal(() => munmap(hva, size), "ENOENT", "hva").call).toBe("munmap");
    }
    refusal(() => munmap(HVA, 0n), "EINVAL", "size");
    refusal(() => munmap(HVA + 1n, K4), "EINVAL", "hva");
    refusal(() => munmap(2n ** 64n - K4, 0x2000n), "EOVERFLOW", "size");
    for (const bad of [undefined, "1", -1]) refusal(() => munmap(bad as never, K4), "EINVAL", "hva");
    munmap(HVA, 0x2000n);
    munmap(HVA + 0x2000n, 0x2000n);
  });

  it("is refused with EBUSY while a map pins part of it, naming the ioasid", () => {
    mmap({ hva: HVA, size: 0x4000n });
    const fd = machine.host.open("/dev/ioasid");
    const [a, b] = [fd.alloc(), fd.alloc()];
    fd.dmaMap({ ioasid: a, iova: 0n, vaddr: HVA + K4, size: K4 });
    fd.dmaMap({ ioasid: b, iova: 0n, vaddr: HVA + K4, size: K4 });
    expect(refusal(() => munmap(HVA, 0x4000n), "EBUSY", "hva").conflict).toEqual({ kind: "ioasid", ioasid: a });
    fd.dmaUnmap({ ioasid: a, iova: 0n, size: K4 });
    expect(refusal(() => munmap(HVA, 0x4000n), "EBUSY", "hva").conflict).toEqual({ kind: "ioasid", ioasid: b });
    fd.free({ ioasid: b });
    munmap(HVA, 0x4000n);
  });
});

describe("bytes", () => {
  it("are a view of the engine's memory, over neighbouring mappings that are contiguous in it", () => {
    mmap({ hva: HVA, size: 0x2000n });
    mmap({ hva: HVA + 0x2000n, size: 0x1000n });
    const view = bytes(HVA + 0x1ffen, 4);
    view.set([1, 2, 3, 4]);
    expect(view.byteOffset).toBe(0x81ffe);
    expect([...bytes(Number(HVA) + 0x2000, 2)]).toEqual([3, 4]);
    expect(bytes(HVA, 4)).not.toBe(bytes(HVA, 4));
  });

  it("are refused where nothing is mapped, where there is no RAM, and where it is not contiguous", () => {
    mmap({ hva: HVA + K4, size: K4 });
    mmap({ hva: HVA, size: K4 });
    mmap({ hva: HVA + 0x2000n, size: K4, backing: "zero" });
    expect(refusal(() => bytes(HVA + 0xfffn, 2), "EFAULT", "hva").message).toContain("does not follow");
    expect(refusal(() => bytes(HVA + 0x1fffn, 2), "EFAULT", "hva").message).toContain("not RAM");
    expect(refusal(() => bytes(HVA - 1n, 1), "EFAULT", "hva").message).toContain("0x6ffff000 is not mapped");
    expect(refusal(() => bytes(HVA + 0x2000n, 0x2000), "EFAULT", "hva").message).toContain("0x70003000 is not mapped");
    for (const length of [0, -1, 1.5, "1", 2 ** 32, undefined]) refusal(() => bytes(HVA, length as number), "EINVAL", "length");
    refusal(() => bytes(-1n, 1), "EINVAL", "hva");
  });
});
