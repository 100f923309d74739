// Binding devices to an ioasid fd and attaching them to its spaces: routes, labels, tables, and the errno of every refusal.
import { describe, expect, it } from "vitest";
import type { IommuModel } from "../../src/iommu/model.js";
import type { VfioDeviceFd } from "../../src/uapi/device-fd.js";
import { fakeMachine, fakeModel, refusal } from "./uapi-fake.js";

const HVA = 0x7000_0000n;
const K4 = 4096n;

/** Two devices (behind the IOMMUs given), both bound; `a` and `b` are ioasids, 64 KiB of RAM is at HVA. */
function bound(models: IommuModel[] = [fakeModel()], behind = [0, 0]) {
  const machine = fakeMachine({ models, behind });
  const { open, process } = machine.host;
  const fd = open("/dev/ioasid");
  const devs = behind.map((_, i) => open(`/dev/vfio/devices/dev${i + 1}`)) as [VfioDeviceFd, VfioDeviceFd];
  for (const dev of devs) dev.bindIoasidFd({ ioasidFd: fd });
  process.mmap({ hva: HVA, size: 0x10000n });
  return { ...machine, fd, devs, dev1: devs[0], dev2: devs[1], a: fd.alloc(), b: fd.alloc() };
}

describe("bind", () => {
  it("answers a label that is never used again, and keeps the cookie with it", () => {
    const { host } = fakeMachine();
    const fd = host.open("/dev/ioasid");
    const [dev1, dev2] = [host.open("/dev/vfio/devices/dev1"), host.open("/dev/vfio/devices/dev2")];
    expect(dev1.bindIoasidFd({ ioasidFd: fd, cookie: 2n ** 64n - 1n })).toBe(1);
    expect(dev2.bindIoasidFd({ ioasidFd: fd.number })).toBe(2);
    expect(host.labelOf("dev1")).toEqual({ label: 1, cookie: 2n ** 64n - 1n, name: "dev1" });
    expect(host.labelOf("dev2")).toEqual({ label: 2, cookie: 0n, name: "dev2" });
    expect(host.labelOf("dev3")).toBeUndefined();
    dev1.unbindIoasidFd();
    expect(host.labelOf("dev1")).toBeUndefined();
    expect(dev1.bindIoasidFd({ ioasidFd: host.open("/dev/ioasid"), cookie: 7 })).toBe(3);
    expect(host.labelOf("dev1")).toEqual({ label: 3, cookie: 7n, name: "dev1" });
  });

  it("is refused with EBUSY for a device that is bound, through this fd or another", () => {
    const { host, fd, dev1 } = bound();
    const again = host.open("/dev/vfio/devices/dev1");
    const error = refusal(() => dev1.bindIoasidFd({ ioasidFd: fd }), "EBUSY", "ioasidFd");
    expect(error.conflict).toEqual({ kind: "device", device: "dev1" });
    refusal(() => again.bindIoasidFd({ ioasidFd: host.open("/dev/ioasid") }), "EBUSY", "ioasidFd");
    dev1.unbindIoasidFd();
    expect(again.bindIoasidFd({ ioasidFd: fd })).toBe(3);
  });

  it("is refused with EBADF for what is no open fd of this host, EBADFD for one of another kind", () => {
    const { host } = fakeMachine();
    const dev1 = host.open("/dev/vfio/devices/dev1");
    const closed = host.open("/dev/ioasid");
    closed.close();
    const foreign = fakeMachine().host.open("/dev/ioasid");
    for (const bad of [closed, closed.number, foreign, 99, -1, "3", {}, null]) {
      refusal(() => dev1.bindIoasidFd({ ioasidFd: bad as never }), "EBADF", "ioasidFd");
    }
    for (const kind of [dev1, dev1.number]) refusal(() => dev1.bindIoasidFd({ ioasidFd: kind }), "EBADFD", "ioasidFd");
    refusal(() => dev1.bindIoasidFd({} as never), "EINVAL", "ioasidFd");
    expect(host.labelOf("dev1")).toBeUndefined();
  });

  it("is refused with EINVAL for a cookie that is no u64", () => {
    const { host } = fakeMachine();
    const [fd, dev1] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
    for (const cookie of [-1n, 2n ** 64n, 1.5, "1"]) {
      refusal(() => dev1.bindIoasidFd({ ioasidFd: fd, cookie: cookie as bigint }), "EINVAL", "cookie");
    }
    expect(host.labelOf("dev1")).toBeUndefined();
  });
});

describe("unbind", () => {
  it("is refused with EINVAL when the device is not bound through this fd, or bound to another ioasid fd", () => {
    const { host, fd, dev1 } = bound();
    const again = host.open("/dev/vfio/devices/dev1");
    expect(refusal(() => again.unbindIoasidFd(), "EINVAL", "fd").hint).toContain(`fd ${dev1.number}`);
    refusal(() => dev1.unbindIoasidFd({ ioasidFd: host.open("/dev/ioasid") }), "EINVAL", "ioasidFd");
    refusal(() => dev1.unbindIoasidFd({ ioasidFd: 99 }), "EBADF", "ioasidFd");
    dev1.unbindIoasidFd({ ioasidFd: fd });
    expect(refusal(() => dev1.unbindIoasidFd(), "EINVAL", "fd").hint).toContain("VFIO_BIND_IOASID_FD");
  });

  it("is refused with EBUSY while the device is attached", () => {
    const { host, dev1, a } = bound();
    dev1.attachIoasid({ ioasid: a });
    expect(refusal(() => dev1.unbindIoasidFd(), "EBUSY", "ioasid").conflict).toEqual({ kind: "ioasid", ioasid: a });
    expect(host.labelOf("dev1")?.label).toBe(1);
    dev1.detachIoasid({ ioasid: a });
    dev1.unbindIoasidFd();
  });
});

describe("attach", () => {
  it("makes the table for the first device, shares it with the next, and drops it with the last", () => {
    const { iommus: [iommu], dev1, dev2, a } = bound();
    dev1.attachIoasid({ ioasid: a, flags: 0 });
    dev2.attachIoasid({ ioasid: a });
    expect([...iommu!.domains].map(({ rids }) => [...rids])).toEqual([[8, 16]]);
    dev1.detachIoasid({ ioasid: a });
    expect([...iommu!.domains].map(({ rids }) => [...rids])).toEqual([[16]]);
    dev2.detachIoasid({ ioasid: a });
    expect(iommu!.domains.size).toBe(0);
  });

  it("keeps the maps when the last device leaves, for the next one, of whatever model", () => {
    const models = [fakeModel(), fakeModel({ format: 1, addressWidth: 39 })];
    const { iommus: [first, second], fd, dev1, dev2, a } = bound(models, [0, 1]);
    dev1.attachIoasid({ ioasid: a });
    fd.dmaMap({ ioasid: a, iova: 0x3000n, vaddr: HVA, size: K4 });
    dev1.detachIoasid({ ioasid: a });
    dev2.attachIoasid({ ioasid: a });
    expect(first!.domains.size).toBe(0);
    expect([...second!.domains].map(({ pages }) => [...pages.keys()])).toEqual([[0x3000n]]);
  });

  it("is refused with EINVAL for a device that is not bound through this fd", () => {
    const { host, a } = bound();
    const again = host.open("/dev/vfio/devices/dev1");
    refusal(() => again.attachIoasid({ ioasid: a }), "EINVAL", "fd");
    refusal(() => again.detachIoasid({ ioasid: a }), "EINVAL", "fd");
  });

  it("is refused with ENOENT for an ioasid that the bound fd does not have", () => {
    const { host, dev1 } = bound();
    const other = host.open("/dev/ioasid");
    for (let i = 0; i < 5; i++) other.alloc();
    refusal(() => dev1.attachIoasid({ ioasid: 5 }), "ENOENT", "ioasid");
    refusal(() => dev1.detachIoasid({ ioasid: 5 }), "ENOENT", "ioasid");
    for (const bad of [undefined, -1, "1"]) refusal(() => dev1.attachIoasid({ ioasid: bad as never }), "EINVAL", "ioasid");
  });

  it("is refused with EOPNOTSUPP for an unknown flag, and for a PASID that the device has not, EINVAL for flags that are no u32", () => {
    const { dev1, a } = bound();
    refusal(() => dev1.attachIoasid({ ioasid: a, flags: 1, userPasid: 1 }), "EOPNOTSUPP", "flags");
    refusal(() => dev1.attachIoasid({ ioasid: a, flags: 1 }), "EINVAL", "userPasid");
    for (const flags of [2, 3, 0xffffffff]) refusal(() => dev1.attachIoasid({ ioasid: a, flags }), "EOPNOTSUPP", "flags");
    for (const flags of [-1, 0.5, "0"]) {
      refusal(() => dev1.attachIoasid({ ioasid: a, flags: flags as number }), "EINVAL", "flags");
    }
    refusal(() => dev1.detachIoasid({ ioasid: a, flags: 2 }), "EOPNOTSUPP", "flags");
  });

  it("is refused with EBUSY for a device that is attached, here or elsewhere", () => {
    const { dev1, a, b } = bound();
    dev1.attachIoasid({ ioasid: a });
    for (const ioasid of [a, b]) {
      const error = refusal(() => dev1.attachIoasid({ ioasid }), "EBUSY", "ioasid");
      expect(error.conflict).toEqual({ kind: "ioasid", ioasid: a });
    }
  });

  it("is refused with EINVAL when the device's IOMMU is of another model, allowed behind another of the same", () => {
    const same = [fakeModel(), fakeModel({ reserved: [{ first: 0x9000n, last: 0x9fffn, why: "firmware" }] })];
    const { iommus, fd, dev1, dev2, a } = bound(same, [0, 1]);
    dev1.attachIoasid({ ioasid: a });
    dev2.attachIoasid({ ioasid: a });
    expect([...iommus[0]!.domains].map(({ rids }) => [...rids])).toEqual([[8, 16]]);
    expect(iommus[1]!.domains.size).toBe(0);
    refusal(() => fd.dmaMap({ ioasid: a, iova: 0x9000n, vaddr: HVA, size: K4 }), "EINVAL", "iova");
    dev2.detachIoasid({ ioasid: a });
    fd.dmaMap({ ioasid: a, iova: 0x9000n, vaddr: HVA, size: K4 });
    const refused = refusal(() => dev2.attachIoasid({ ioasid: a }), "EINVAL", "ioasid");
    expect(refused.conflict).toMatchObject({ kind: "mapping", first: 0x9000n });

    const other = bound([fakeModel(), fakeModel({ addressWidth: 39 })], [0, 1]);
    other.dev1.attachIoasid({ ioasid: other.a });
    const error = refusal(() => other.dev2.attachIoasid({ ioasid: other.a }), "EINVAL", "ioasid");
    expect(error.conflict).toEqual({ kind: "device", device: "dev1" });
    expect(error.message).toContain("dev2 (fake, 39 bits) is of another model than that of dev1 (fake, 48 bits)");
    other.dev2.attachIoasid({ ioasid: other.b });
  });

  it.each([
    ["the width", { addressWidth: 39 }, 2n ** 39n, K4],
    ["a reserved range", { reserved: [{ first: 0x1000n, last: 0x1fffn, why: "x" }] }, 0n, 0x2000n],
    ["the granule", { granule: 65536 }, 0x10000n, K4],
  ])("is refused with EINVAL when a map that is there breaks %s", (_what, change, iova, size) => {
    const { iommus: [iommu], fd, dev1, a } = bound([fakeModel(change)]);
    fd.dmaMap({ ioasid: a, iova: 0x40000n, vaddr: HVA, size: 0x10000n });
    fd.dmaMap({ ioasid: a, iova, vaddr: HVA, size });
    const error = refusal(() => dev1.attachIoasid({ ioasid: a }), "EINVAL", "ioasid");
    expect(error.conflict).toEqual({ kind: "mapping", ioasid: a, first: iova, last: iova + size - 1n });
    expect(error.hint).toContain("permitted are");
    expect(iommu!.domains.size).toBe(0);
    fd.dmaUnmap({ ioasid: a, iova, size });
    dev1.attachIoasid({ ioasid: a });
  });
});

describe("detach", () => {
  it("is refused with ENOENT when the device is not attached there", () => {
    const { dev1, a, b } = bound();
    expect(refusal(() => dev1.detachIoasid({ ioasid: a }), "ENOENT", "ioasid").hint).toContain("none");
    dev1.attachIoasid({ ioasid: a });
    expect(refusal(() => dev1.detachIoasid({ ioasid: b }), "ENOENT", "ioasid").hint).toContain(`ioasid ${a}`);
    dev1.detachIoasid({ ioasid: a });
    refusal(() => dev1.detachIoasid({ ioasid: a }), "ENOENT", "ioasid");
  });
});

describe("free", () => {
  it("is refused with EBUSY while a device is attached, with ENOENT twice", () => {
    const { fd, dev1, a } = bound();
    dev1.attachIoasid({ ioasid: a });
    expect(refusal(() => fd.free({ ioasid: a }), "EBUSY", "ioasid").conflict).toEqual({ kind: "device", device: "dev1" });
    dev1.detachIoasid({ ioasid: a });
    fd.free({ ioasid: a });
    refusal(() => fd.free({ ioasid: a }), "ENOENT", "ioasid");
    for (const bad of [undefined, -1, 2 ** 32, "1"]) refusal(() => fd.free({ ioasid: bad as never }), "EINVAL", "ioasid");
  });

  it("never gives a number again", () => {
    const { fd, a, b } = bound();
    fd.free({ ioasid: b });
    expect(fd.alloc()).toBeGreaterThan(b);
    expect([a, b]).toEqual([1, 2]);
  });
});

describe("allocation", () => {
  it("with a parent makes a child; of a parent that there is not, ENOENT", () => {
    const { fd, a } = bound();
    const child = fd.allocIoasid({ parent: a });
    expect(fd.getInfo({ ioasid: child })).toMatchObject({ kind: "child", parent: a });
    expect(fd.getInfo({ ioasid: a })).toMatchObject({ kind: "kernel", parent: null, children: [child] });
    expect(refusal(() => fd.allocIoasid({ parent: 99 }), "ENOENT", "parent").value).toBe(99);
  });
});

/** What GET_INFO says where nothing special is asked for. */
const PLAIN = {
  nesting: { software: true, hardware: [], softwareDepth: "unlimited", hardwareDepth: 0 }, pgtable: null,
  dirtyTracking: { supported: false, enabled: false }, pageRequests: false, pasidBits: 0, lockedRegistered: 0n, lockLimit: 2n ** 64n - 1n,
};

describe("GET_INFO", () => {
  it("knows no format before an attach, and after the last detach", () => {
    const { fd, dev1, a } = bound();
    const unattached = {
      ioasid: a, kind: "kernel", parent: null, children: [], devices: [], format: null, addressWidth: 64, permitted: [{ first: 0n, last: 2n ** 64n - 1n }], reserved: [],
      alignment: 4096, pageSizes: 0n, writeOnly: false, ...PLAIN, mappings: 0, locked: 0n, lockedTotal: 0n,
    };
    expect(fd.getInfo({ ioasid: a })).toEqual(unattached);
    dev1.attachIoasid({ ioasid: a });
    dev1.detachIoasid({ ioasid: a });
    expect(fd.getInfo({ ioasid: a })).toEqual(unattached);
  });

  it("tells format, limits and charge while a device is attached", () => {
    const reserved = [{ first: 0x1000n, last: 0x1fffn, why: "x" }];
    const { fd, dev1, dev2, a } = bound([fakeModel({ addressWidth: 32, reserved, granule: 16384 })]);
    dev1.attachIoasid({ ioasid: a });
    dev2.attachIoasid({ ioasid: a });
    fd.dmaMap({ ioasid: a, iova: 0x4000n, vaddr: HVA, size: 0x4000n });
    fd.dmaMap({ ioasid: a, iova: 0x8000n, vaddr: HVA, size: 0x4000n });
    expect(fd.getInfo({ ioasid: a })).toEqual({
      ioasid: a, kind: "kernel", parent: null, children: [], devices: ["dev1", "dev2"], format: "fake", addressWidth: 32,
      permitted: [{ first: 0n, last: 0xfffn }, { first: 0x2000n, last: 0xffffffffn }], reserved, alignment: 16384,
      pageSizes: 0x40201000n, writeOnly: true, ...PLAIN, mappings: 2, locked: 0x4000n, lockedTotal: 0x4000n,
    });
    refusal(() => fd.getInfo({ ioasid: 9 }), "ENOENT", "ioasid");
  });
});

describe("CHECK_EXTENSION", () => {
  it("answers 1 for what there is, 0 for any other number, and says whether maps may come before an attach", () => {
    const { fd } = bound();
    expect([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xffffffff].map((extension) => fd.checkExtension({ extension }))).toEqual([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    const strict = fakeMachine({ strictAttach: true }).host.open("/dev/ioasid");
    expect(strict.checkExtension({ extension: 3 })).toBe(0);
    for (const bad of [-1, 2 ** 32, 1.5, "1", undefined]) {
      refusal(() => fd.checkExtension({ extension: bad as never }), "EINVAL", "extension");
    }
  });
});
