// PASIDs: spaces attached to PASIDs of a device, mediated devices and the PASIDs that the driver path puts in place of the
// user's, and the CPU's table behind ENQCMD. RFC sections 1, 2.3, 4 and 5.5.
import { describe, expect, it } from "vitest";
import { createHost, DmaFault, IOASID_ATTACH_USER_PASID, KVM_MAP_PASID, type HostOptions, type IoasidFd } from "../../src/index.js";
import { refusal } from "./uapi-fake.js";

const HVA = 0x4000_0000n;
const flags = IOASID_ATTACH_USER_PASID;
const SCALABLE = { preset: "vtd-scalable", stage: 2 } as const;

async function machine(options: HostOptions = {}) {
  const host = await createHost({ memory: { ram: 0x400000 }, iommus: [SCALABLE], devices: [{ name: "dev1", rid: 0x20 }, { name: "dev2", rid: 0x28 }], ...options });
  const { hpa } = host.process.mmap({ hva: HVA, size: 0x100000n });
  const fd = host.open("/dev/ioasid");
  const open = (name: string) => {
    const file = host.open(`/dev/vfio/devices/${name}`);
    file.bindIoasidFd({ ioasidFd: fd });
    return file;
  };
  return { host, hpa, fd, open };
}

/** A root that maps one page at iova 0x1000 to the n-th page of the process. */
function space(fd: IoasidFd, n: number): number {
  const ioasid = fd.alloc();
  fd.dmaMap({ ioasid, iova: 0x1000, vaddr: HVA + BigInt(n) * 0x1000n, size: 0x1000 });
  return ioasid;
}

function reasonOf(access: () => unknown): string {
  try {
    access();
  } catch (error) {
    return (error as DmaFault).reason;
  }
  return "none";
}

it("a device with mediated shares is opened neither by its own path nor by its group's", async () => {
  const { host } = await machine({ devices: [{ name: "card", rid: 0x20, group: 4 }, { name: "m1", parent: "card" }] });
  refusal(() => host.open("/dev/vfio/devices/card"), "EBUSY", "path");
  const error = refusal(() => host.open("/dev/vfio/4").getDeviceFd({ name: "card" }), "EBUSY", "name");
  expect([error.call, error.conflict]).toEqual(["VFIO_GROUP_GET_DEVICE_FD", { kind: "device", device: "m1" }]);
});

describe("a PASID of a physical device", () => {
  it("leads to the space attached to it, beside the one without a PASID, until it is detached", async () => {
    const { host, hpa, fd, open } = await machine();
    const dev1 = open("dev1");
    const [plain, a, b] = [space(fd, 0), space(fd, 1), space(fd, 2)];
    dev1.attachIoasid({ ioasid: plain });
    dev1.attachIoasid({ ioasid: a, flags, userPasid: 5 });
    dev1.attachIoasid({ ioasid: b, flags, userPasid: 0xfffff });
    const at = (pasid?: number) => host.device("dev1").dma(pasid).translate(0x1000n) - hpa;
    expect([at(), at(5), at(0xfffff)]).toEqual([0n, 0x1000n, 0x2000n]);
    expect(reasonOf(() => at(6))).toBe("blocked");
    dev1.detachIoasid({ ioasid: a, flags, userPasid: 5 });
    expect(reasonOf(() => at(5))).toBe("blocked");
    expect([at(), at(0xfffff)]).toEqual([0n, 0x2000n]);
  });

  it("may stand for a space under other numbers on another device, and under two on one", async () => {
    const { host, hpa, fd, open } = await machine();
    const [dev1, dev2] = [open("dev1"), open("dev2")];
    const a = space(fd, 3);
    dev1.attachIoasid({ ioasid: a, flags, userPasid: 1 });
    dev1.attachIoasid({ ioasid: a, flags, userPasid: 2 });
    dev2.attachIoasid({ ioasid: a, flags, userPasid: 3 });
    const at = (name: string, pasid: number) => host.device(name).dma(pasid).translate(0x1000n) - hpa;
    expect([at("dev1", 1), at("dev1", 2), at("dev2", 3)]).toEqual([0x3000n, 0x3000n, 0x3000n]);
    dev1.detachIoasid({ ioasid: a, flags, userPasid: 1 });
    expect(reasonOf(() => at("dev1", 1))).toBe("blocked");
    expect(at("dev1", 2)).toBe(0x3000n);
    expect(fd.getInfo({ ioasid: a }).devices).toEqual(["dev1", "dev2"]);
    refusal(() => fd.free({ ioasid: a }), "EBUSY", "ioasid");
  });

  it("is refused where it is none, is taken, or leads nowhere", async () => {
    const { fd, open } = await machine();
    const dev1 = open("dev1");
    const [a, b] = [space(fd, 0), space(fd, 1)];
    for (const userPasid of [0, 2 ** 20, -1, 1.5]) refusal(() => dev1.attachIoasid({ ioasid: a, flags, userPasid }), "EINVAL", "userPasid");
    refusal(() => dev1.attachIoasid({ ioasid: a, flags }), "EINVAL", "userPasid");
    refusal(() => dev1.attachIoasid({ ioasid: a, userPasid: 1 }), "EINVAL", "userPasid");
    dev1.attachIoasid({ ioasid: a, flags, userPasid: 1 });
    expect(refusal(() => dev1.attachIoasid({ ioasid: b, flags, userPasid: 1 }), "EBUSY", "userPasid").conflict).toEqual({ kind: "ioasid", ioasid: a });
    refusal(() => dev1.detachIoasid({ ioasid: b, flags, userPasid: 1 }), "ENOENT", "ioasid");
    refusal(() => dev1.detachIoasid({ ioasid: a }), "ENOENT", "ioasid");
    refusal(() => dev1.unbindIoasidFd(), "EBUSY", "ioasid");
  });

  it("of a child asks for the parent by any route, and keeps it attached", async () => {
    const { host, hpa, fd, open } = await machine();
    const dev1 = open("dev1");
    const gpa = space(fd, 4);
    const child = fd.createNesting({ parent: gpa });
    refusal(() => dev1.attachIoasid({ ioasid: child, flags, userPasid: 9 }), "EINVAL", "ioasid");
    dev1.attachIoasid({ ioasid: gpa });
    dev1.attachIoasid({ ioasid: child, flags, userPasid: 9 });
    fd.dmaMap({ ioasid: child, iova: 0x7000, vaddr: 0x1000, size: 0x1000 });
    expect(host.device("dev1").dma(9).translate(0x7000n) - hpa).toBe(0x4000n);
    expect(refusal(() => dev1.detachIoasid({ ioasid: gpa }), "EBUSY", "ioasid").conflict).toEqual({ kind: "ioasid", ioasid: child });
    dev1.close();
    expect(fd.getInfo({ ioasid: gpa }).devices).toEqual([]);
  });

  it("is for devices that have a group of their own", async () => {
    const { fd, open } = await machine({ devices: [{ name: "dev1", rid: 0x20, group: 1 }, { name: "dev2", rid: 0x28, group: 1 }] });
    const dev1 = open("dev1");
    refusal(() => dev1.attachIoasid({ ioasid: space(fd, 0), flags, userPasid: 1 }), "EINVAL", "flags");
  });

  it("leads to a guest's table only, where the guest keeps the table of PASIDs", async () => {
    const { fd, open } = await machine({ iommus: [{ preset: "amd" }] });
    const dev1 = open("dev1");
    const gpa = space(fd, 0);
    refusal(() => dev1.attachIoasid({ ioasid: gpa, flags, userPasid: 1 }), "EINVAL", "ioasid");
    dev1.attachIoasid({ ioasid: gpa });
    const child = fd.createNesting({ parent: gpa });
    dev1.attachIoasid({ ioasid: child, flags, userPasid: 1 });
    refusal(() => fd.dmaMap({ ioasid: child, iova: 0x1000, vaddr: 0x1000, size: 0x1000 }), "EINVAL", "ioasid");
    refusal(() => dev1.attachIoasid({ ioasid: child, flags, userPasid: 0x10000 }), "EINVAL", "userPasid");
  });

  it("does not exist where the IOMMU has none", async () => {
    const { fd, open } = await machine({ iommus: [{ preset: "vtd" }] });
    refusal(() => open("dev1").attachIoasid({ ioasid: space(fd, 0), flags, userPasid: 1 }), "EOPNOTSUPP", "flags");
  });
});

const MDEVS = [
  { name: "dsa0", rid: 0x40 }, { name: "m1", parent: "dsa0" }, { name: "m2", parent: "dsa0" }, { name: "m3", parent: "dsa0", pasids: "default" as const },
  { name: "m4", parent: "dsa0", pasids: "none" as const },
];

describe("mediated devices", () => {
  it("share a requester id and are told apart by a PASID of their own", async () => {
    const { host, hpa, fd, open } = await machine({ devices: MDEVS });
    const names = ["m1", "m2", "m3", "m4"];
    names.forEach((name, n) => {
      const file = open(name);
      file.attachIoasid({ ioasid: space(fd, n) });
    });
    expect(names.map((name) => host.device(name).dma().translate(0x1000n) - hpa)).toEqual([0n, 0x1000n, 0x2000n, 0x3000n]);
    refusal(() => host.open("/dev/vfio/devices/dsa0"), "EBUSY", "path");
  });

  it("have vPASIDs of their own, and faults tell the device and the vPASID", async () => {
    const { host, hpa, fd, open } = await machine({ devices: MDEVS });
    const [m1, m2, m3] = [open("m1"), open("m2"), open("m3")];
    const [a, b] = [space(fd, 1), space(fd, 2)];
    m1.attachIoasid({ ioasid: a, flags, userPasid: 7 });
    m2.attachIoasid({ ioasid: b, flags, userPasid: 7 });
    const dma = host.device("m1").dma(7);
    expect([dma.translate(0x1000n) - hpa, host.device("m2").dma(7).translate(0x1000n) - hpa]).toEqual([0x1000n, 0x2000n]);
    expect(() => dma.readSync(0x5000n, 4)).toThrow(/^m1 \(label 1\): read of iova 0x5000 with PASID 7 refused: not-present/);
    m1.detachIoasid({ ioasid: a, flags, userPasid: 7 });
    expect(reasonOf(() => dma.translate(0x1000n))).toBe("no-route");
    m1.attachIoasid({ ioasid: b, flags, userPasid: 7 });
    expect(dma.translate(0x1000n) - hpa).toBe(0x2000n);
    expect(refusal(() => m3.attachIoasid({ ioasid: a, flags, userPasid: 7 }), "EOPNOTSUPP", "flags").hint).toContain("one of its own");
  });

  it("are reported with the kinds of the RFC", async () => {
    const { fd, open } = await machine({
      iommus: [SCALABLE, { name: "amd", preset: "amd" }, { name: "old", preset: "vtd" }],
      devices: [
        { name: "t1", rid: 8, iommu: "old" }, { name: "dsa0", rid: 16 }, { name: "t2", parent: "dsa0", pasids: "none" },
        { name: "t3", parent: "dsa0", pasids: "default" }, { name: "t4", rid: 24, iommu: "amd" }, { name: "t5", rid: 32 },
        { name: "t6", parent: "dsa0" }, { name: "t7", rid: 40, enqcmd: true }, { name: "t8", parent: "dsa0", enqcmd: true },
      ],
    });
    const infos = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => {
      const file = open(`t${n}`);
      return fd.deviceGetInfo({ label: file.device.binding!.label });
    });
    expect(infos.map(({ type }) => type)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(infos.map(({ kind, parent }) => [kind, parent])).toEqual([
      ["pdev", null], ["mdev", "dsa0"], ["mdev", "dsa0"], ["pdev", null], ["pdev", null], ["mdev", "dsa0"], ["pdev", null], ["mdev", "dsa0"],
    ]);
    expect(infos.map(({ pasidBits }) => pasidBits)).toEqual([0, 0, 0, 16, 20, 20, 20, 20]);
    expect(infos.map(({ pasids }) => pasids.cpu)).toEqual([false, false, false, false, false, false, true, true]);
    expect(infos.map(({ pasids }) => pasids.cpuTranslated)).toEqual([false, false, false, false, false, false, false, true]);
    expect(infos.map(({ pasids }) => pasids.delegated)).toEqual([false, false, false, true, false, false, false, false]);
  });

  it.each([
    [{ name: "m", parent: "none" }, "devices.parent"], [{ name: "m", parent: "dsa0", rid: 1 }, "devices.rid"],
    [{ name: "m", parent: "dsa0", iommu: "iommu0" }, "devices.iommu"], [{ name: "p", rid: 1, pasids: "default" }, "devices.pasids"],
    [{ name: "p", rid: 1, pasids: "none", enqcmd: true }, "devices.enqcmd"], [{ name: "p", rid: 1, pasids: "some" }, "devices.pasids"],
    [{ name: "p" }, "devices.rid"],
  ])("%j is refused for %s", async (device, field) => {
    await expect(createHost({ iommus: [SCALABLE], devices: [{ name: "dsa0", rid: 0x40 }, device as never] })).rejects.toMatchObject({ code: expect.stringMatching(/BAD/), field });
  });
});

describe("ENQCMD", () => {
  const ENQ = [{ name: "dsa0", rid: 0x40 }, { name: "dsa1", rid: 0x48 }, { name: "m1", parent: "dsa0", enqcmd: true }, { name: "m2", parent: "dsa1", enqcmd: true }];

  it("reaches a mediated device with the PASID that the CPU puts in place of the guest's", async () => {
    const { host, hpa, fd, open } = await machine({ devices: ENQ });
    const [m1, m2] = [open("m1"), open("m2")];
    const kvm = host.open("/dev/kvm");
    const gva = space(fd, 6);
    refusal(() => kvm.mapPasid({ userPasid: 3, ioasidFd: fd, ioasid: gva }), "ENODEV", "ioasid");
    m1.attachIoasid({ ioasid: gva, flags, userPasid: 3 });
    m2.attachIoasid({ ioasid: gva, flags, userPasid: 3 });
    host.ioctl(kvm, KVM_MAP_PASID, { userPasid: 3, ioasidFd: fd, ioasid: gva });
    const seen: [string, number, bigint][] = [];
    for (const name of ["m1", "m2"]) {
      host.device(name).onEnqcmd((descriptor, dma) => {
        seen.push([name, descriptor[0]!, dma.translate(0x1000n) - hpa]);
        return descriptor[0] !== 0xff;
      });
    }
    const descriptor = new Uint8Array(64).fill(1);
    expect(kvm.enqcmd(host.device("m1"), 3, descriptor)).toEqual({ accepted: true });
    expect(kvm.enqcmd(host.device("m2"), 3, descriptor)).toEqual({ accepted: true });
    expect(kvm.enqcmd(host.device("m1"), 3, descriptor.fill(0xff))).toEqual({ accepted: false, why: "retry" });
    expect(kvm.enqcmd(host.device("m1"), 4, descriptor)).toEqual({ accepted: false, why: "pasid-translation" });
    expect(seen).toEqual([["m1", 1, 0x6000n], ["m2", 1, 0x6000n], ["m1", 0xff, 0x6000n]]);
    refusal(() => fd.free({ ioasid: gva }), "EBUSY", "ioasid");
    kvm.unmapPasid({ userPasid: 3, ioasidFd: fd, ioasid: gva });
    expect(kvm.enqcmd(host.device("m1"), 3, descriptor)).toEqual({ accepted: false, why: "pasid-translation" });
    refusal(() => kvm.unmapPasid({ userPasid: 3 }), "ENOENT", "userPasid");
    host.device("m1").onEnqcmd(undefined);
    expect(kvm.enqcmd(host.device("m1"), 3, descriptor)).toEqual({ accepted: false, why: "no-portal" });
  });

  it("of a physical device carries the guest's PASID as it is, and excludes mediated ones", async () => {
    const { host, hpa, fd, open } = await machine({ devices: [...ENQ, { name: "p1", rid: 0x50, enqcmd: true }] });
    const [m1, p1] = [open("m1"), open("p1")];
    const kvm = host.open("/dev/kvm");
    const gva = space(fd, 2);
    m1.attachIoasid({ ioasid: gva, flags, userPasid: 3 });
    p1.attachIoasid({ ioasid: gva, flags, userPasid: 8 });
    expect(refusal(() => kvm.mapPasid({ userPasid: 3, ioasidFd: fd, ioasid: gva }), "EOPNOTSUPP", "ioasidFd").conflict).toEqual({ kind: "device", device: "p1" });
    let at = 0n;
    host.device("p1").onEnqcmd((_descriptor, dma) => {
      at = dma.translate(0x1000n) - hpa;
      return true;
    });
    expect(kvm.enqcmd({ name: "p1" }, 8, new Uint8Array(64))).toEqual({ accepted: true });
    expect(at).toBe(0x2000n);
    p1.close();
    kvm.mapPasid({ userPasid: 3, ioasidFd: fd, ioasid: gva });
    refusal(() => host.open("/dev/vfio/devices/p1").bindIoasidFd({ ioasidFd: fd }), "EOPNOTSUPP", "ioasidFd");
  });

  it("is refused for what is no PASID, no descriptor, no device, no fd", async () => {
    const { host, fd, open } = await machine({ devices: ENQ });
    const m1 = open("m1");
    const kvm = host.open("/dev/kvm");
    const [a, b] = [space(fd, 0), space(fd, 1)];
    m1.attachIoasid({ ioasid: a, flags, userPasid: 3 });
    m1.attachIoasid({ ioasid: b, flags, userPasid: 4 });
    for (const userPasid of [0, 2 ** 20]) refusal(() => kvm.mapPasid({ userPasid, ioasidFd: fd, ioasid: a }), "EINVAL", "userPasid");
    refusal(() => kvm.mapPasid({ userPasid: 3, ioasidFd: 99, ioasid: a }), "EBADF", "ioasidFd");
    refusal(() => kvm.mapPasid({ userPasid: 3, ioasidFd: m1, ioasid: a }), "EBADFD", "ioasidFd");
    refusal(() => kvm.mapPasid({ userPasid: 3, ioasidFd: fd, ioasid: 99 }), "ENOENT", "ioasid");
    kvm.mapPasid({ userPasid: 3, ioasidFd: fd, ioasid: a });
    kvm.mapPasid({ userPasid: 3, ioasidFd: fd, ioasid: a });
    expect(refusal(() => kvm.mapPasid({ userPasid: 3, ioasidFd: fd, ioasid: b }), "EEXIST", "userPasid").conflict).toEqual({ kind: "ioasid", ioasid: a });
    refusal(() => kvm.unmapPasid({ userPasid: 3, ioasid: b }), "ENOENT", "userPasid");
    refusal(() => kvm.enqcmd({ name: "m1" }, 3, new Uint8Array(63)), "EINVAL", "descriptor");
    refusal(() => kvm.enqcmd({ name: "m9" }, 3, new Uint8Array(64)), "ENODEV", "device");
    fd.close();
    expect(kvm.enqcmd({ name: "m1" }, 3, new Uint8Array(64)).accepted).toBe(false);
    refusal(() => kvm.unmapPasid({ userPasid: 3 }), "ENOENT", "userPasid");
  });
});
