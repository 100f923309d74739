// IOASID_GET_INFO of each kind of space, IOASID_DEVICE_GET_INFO before any attach, and hosts with several different IOMMUs.
import { describe, expect, it } from "vitest";
import {
  IOASID_CHECK_EXTENSION, IOASID_EXT_DIRTY_TRACKING, IOASID_EXT_MAP_BEFORE_ATTACH, IOASID_EXT_MULTIDEV_GROUP, IOASID_EXT_NESTING, IOASID_EXT_PAGE_REQUESTS,
  IOASID_EXT_REGISTER_MEMORY, IOASID_EXT_USER_PGTABLE, type DeviceInfo, type IommuOptions, type PgtableFormat,
} from "../../src/index.js";
import { GB, gpaSpace, HVA, spaces } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

const X86: PgtableFormat = { kind: "x86-64", levels: 4 };
const NONE = { software: false, hardware: [], softwareDepth: 0, hardwareDepth: 0 };
const INTERRUPTS = { first: 0xfee00000n, last: 0xfeefffffn, why: "interrupt requests" };
const sizes = (...lg2s: number[]): bigint => lg2s.reduce((sum, lg2) => sum | (1n << BigInt(lg2)), 0n);
const below = (bits: number) => (1n << BigInt(bits)) - 1n;

describe("IOASID_GET_INFO", () => {
  it("of a space without devices knows its kind and its books, and promises nothing of hardware", async () => {
    const { fd, host } = await spaces();
    const root = fd.alloc();
    const child = fd.createNesting({ parent: root });
    const common = {
      children: [], devices: [], format: null, addressWidth: 64, permitted: [{ first: 0n, last: below(64) }], reserved: [], alignment: 4096,
      pageSizes: 0n, writeOnly: false, pgtable: null, dirtyTracking: { supported: false, enabled: false }, pageRequests: false, pasidBits: 0,
      nesting: { software: true, hardware: [], softwareDepth: "unlimited", hardwareDepth: 0 },
      mappings: 0, locked: 0n, lockedRegistered: 0n, lockedTotal: 0n, lockLimit: below(64),
    };
    expect(fd.getInfo({ ioasid: root })).toEqual({ ...common, ioasid: root, kind: "kernel", parent: null, children: [child] });
    expect(host.ioctl(fd, 0x3b45, child)).toEqual({ ...common, ioasid: child, kind: "child", parent: root });
  });

  it("of each kind of child on VT-d in scalable mode", async () => {
    const { fd, devs, gpa, info, map } = await gpaSpace({ iommus: [{ preset: "vtd-scalable", stage: 2 }] });
    expect(info(gpa)).toMatchObject({
      kind: "kernel", format: "vtd-second-stage", addressWidth: 48, reserved: [INTERRUPTS], alignment: 4096, pageSizes: sizes(12, 21, 30),
      permitted: [{ first: 0n, last: 0xfedfffffn }, { first: 0xfef00000n, last: below(48) }], writeOnly: true, mappings: 1, locked: GB,
      nesting: { software: true, hardware: ["x86-64"], softwareDepth: "unlimited", hardwareDepth: 1 },
      dirtyTracking: { supported: true, enabled: false }, pageRequests: false, pasidBits: 20,
    });
    const child = fd.createNesting({ parent: gpa });
    devs[1]!.attachIoasid({ ioasid: child });
    expect(info(child)).toMatchObject({ kind: "child", format: "vtd-second-stage", nesting: { hardwareDepth: 1 }, devices: ["dev2"] });
    map(child, 0x2000, 0x1000);
    expect(info(child)).toMatchObject({ kind: "software-nested", mappings: 1, locked: 0n, lockedTotal: GB });
    fd.dmaUnmap({ ioasid: child, flags: 2 });
    const format = { kind: "x86-64", levels: 5 } as const;
    fd.bindPgtable({ ioasid: child, addr: 0x100000, format });
    expect(info(child)).toMatchObject({
      kind: "hardware-nested", format: "x86-64", addressWidth: 57, permitted: [], mappings: 0, pgtable: { addr: 0x100000n, format }, nesting: NONE,
      dirtyTracking: { supported: false, enabled: false },
    });
    expect(info(gpa).children).toEqual([child]);
  });

  it("does not change with what the caller does to the format it gave, nor to the answer", async () => {
    const { fd, gpa, info, labels } = await gpaSpace({ iommus: [{ preset: "amd" }] });
    const device = () => fd.deviceGetInfo({ label: labels[0]! }).nesting.hardware;
    const format = { kind: "x86-64", levels: 4 } as { kind: "x86-64"; levels: 4 | 5 };
    const child = fd.allocIoasidPgtable({ parent: gpa, addr: 0x100000, format });
    format.levels = 5;
    expect(info(child).pgtable).toEqual({ addr: 0x100000n, format: X86 });
    (info(child).pgtable as { format: { levels: number } }).format.levels = 5;
    (info(gpa).permitted as unknown[]).length = 0;
    for (const hardware of [info(gpa).nesting.hardware, device()]) (hardware as string[]).length = 0;
    expect(device()).toEqual(["x86-64"]);
    expect(info(child).pgtable).toEqual({ addr: 0x100000n, format: X86 });
    expect(info(gpa)).toMatchObject({ permitted: expect.arrayContaining([expect.anything()]), nesting: { hardware: ["x86-64"] } });
  });

  it("speaks for all devices: what each of their IOMMUs can, and only while it is there", async () => {
    const { fd, devs, gpa, info } = await gpaSpace({
      iommus: [{ name: "old", preset: "vtd" }, { name: "new", preset: "vtd-scalable", stage: 2, reserved: [{ first: 0x80000000n, last: 0x8000ffffn, why: "test" }] }],
      devices: [{ name: "dev1", rid: 8, iommu: "old" }, { name: "dev2", rid: 16, iommu: "new" }],
    });
    expect(info(gpa)).toMatchObject({
      reserved: [{ first: 0x80000000n }, { first: 0xfee00000n }], dirtyTracking: { supported: false }, pageRequests: false, pasidBits: 0,
      nesting: { hardware: ["x86-64"] },
    });
    devs[0]!.detachIoasid({ ioasid: gpa });
    expect(info(gpa)).toMatchObject({
      reserved: [{ first: 0x80000000n }], dirtyTracking: { supported: true }, pageRequests: false, pasidBits: 20, nesting: { hardware: ["x86-64"] },
    });
    devs[0]!.attachIoasid({ ioasid: gpa });
    devs[1]!.detachIoasid({ ioasid: gpa });
    expect(info(gpa)).toMatchObject({
      reserved: [{ first: 0xfee00000n }], dirtyTracking: { supported: false }, pageRequests: false, pasidBits: 0, nesting: { hardware: [] },
    });
    expect(fd.getInfo({ ioasid: gpa }).mappings).toBe(1);
  });

  it("with strictAttach is ENODEV until the first attach, and stays possible after the last detach", async () => {
    const { fd, devs, info } = await spaces({ strictAttach: true });
    const ioasid = fd.alloc();
    expect(refusal(() => info(ioasid), "ENODEV", "ioasid")).toMatchObject({ value: ioasid, hint: expect.stringContaining("attach a device first") });
    for (const call of [() => fd.createNesting({ parent: ioasid }), () => fd.allocIoasidPgtable({ parent: ioasid, addr: 0, format: X86 })]) {
      expect(refusal(call, "ENODEV", "parent").value).toBe(ioasid);
    }
    fd.getGroupState({ ioasid });
    devs[0]!.attachIoasid({ ioasid });
    const child = fd.createNesting({ parent: ioasid });
    for (const call of [() => info(child), () => fd.bindPgtable({ ioasid: child, addr: 0, format: X86 }), () => fd.invalidateCache({ ioasid: child })]) {
      refusal(call, "ENODEV", "ioasid");
    }
    devs[0]!.detachIoasid({ ioasid });
    expect(info(ioasid).format).toBeNull();
  });
});

const VTD = { format: "vtd-second-stage", addressWidth: 48, outputWidth: 52, pageSizes: sizes(12, 21, 30), alignment: 4096, reserved: [INTERRUPTS], writeOnly: true };
const SCALABLE = { dirtyTracking: true, pageRequests: true, pasidBits: 20, pasidTable: "host" };
const SMMU = { addressWidth: 48, outputWidth: 48, reserved: [], permitted: [{ first: 0n, last: below(48) }], dirtyTracking: true, pageRequests: true, pasidBits: 20 };
const software = { software: true, hardware: [] };
const DEVICES: [iommu: IommuOptions, expected: object][] = [
  [{ preset: "vtd" }, { ...VTD, nesting: software, dirtyTracking: false, pageRequests: false, pasidBits: 0, pasidTable: null }],
  [{ preset: "vtd", addressWidth: 39, outputWidth: 46 }, { ...VTD, addressWidth: 39, outputWidth: 46 }],
  [{ preset: "vtd-scalable" }, {
    ...VTD, ...SCALABLE, format: "x86-64", addressWidth: 47, nesting: software, writeOnly: false,
    permitted: [{ first: 0n, last: 0xfedfffffn }, { first: 0xfef00000n, last: below(47) }],
  }],
  [{ preset: "vtd-scalable", stage: 2 }, { ...VTD, ...SCALABLE, nesting: { software: true, hardware: ["x86-64"] } }],
  [{ preset: "vtd-scalable", stage: 2, nesting: false }, { ...VTD, ...SCALABLE, nesting: software }],
  [{ preset: "smmuv3" }, { ...SMMU, format: "aarch64-stage1-4k", alignment: 4096, writeOnly: false, pasidTable: "host", nesting: software }],
  [{ preset: "smmuv3", stage: 2, granule: 16384 }, {
    ...SMMU, format: "aarch64-stage2-16k", alignment: 16384, pageSizes: sizes(14, 25), writeOnly: true, pasidTable: "guest",
    nesting: { software: true, hardware: ["aarch64-stage1"] },
  }],
  [{ preset: "smmuv3", granule: 65536, dirtyTracking: false }, { ...SMMU, dirtyTracking: false, alignment: 65536, pageSizes: sizes(16, 29) }],
  [{ preset: "amd" }, {
    format: "amd-v1", addressWidth: 64, outputWidth: 52, alignment: 4096, writeOnly: true, dirtyTracking: true, pageRequests: true, pasidBits: 16,
    pasidTable: "guest", nesting: { software: true, hardware: ["x86-64"] }, reserved: [INTERRUPTS, { first: 0xfd00000000n, last: 0xffffffffffn, why: expect.any(String) }],
  }],
  [{ preset: "amd", nesting: false }, { nesting: software, pasidBits: 0, pasidTable: null }],
];

describe("IOASID_DEVICE_GET_INFO", () => {
  it.each(DEVICES)("before any attach, behind %j", async (iommu, expected) => {
    const { fd, labels, host } = await spaces({ iommus: [{ name: "unit", ...iommu }], devices: [{ name: "nic", rid: 0x20, group: 5 }] });
    const found: DeviceInfo = fd.deviceGetInfo({ label: labels[0]! });
    expect(found).toMatchObject({ label: labels[0], name: "nic", kind: "pdev", group: 5, iommu: "unit", preset: iommu.preset, ...expected });
    expect(host.ioctl(fd, 0x3b56, labels[0]!)).toEqual(found);
  });

  it("agrees with what an attached space says", async () => {
    for (const [iommu] of DEVICES) {
      const { fd, devs, labels, info } = await spaces({ iommus: [iommu] });
      const ioasid = fd.allocIoasid({ pageRequests: iommu.preset !== undefined && iommu.preset !== "vtd" });
      devs[0]!.attachIoasid({ ioasid });
      const { format, addressWidth, permitted, reserved, alignment, pageSizes, writeOnly, pageRequests, pasidBits, nesting, dirtyTracking } =
        fd.deviceGetInfo({ label: labels[0]! });
      expect(info(ioasid)).toMatchObject({
        format, addressWidth, permitted, reserved, alignment, pageSizes, writeOnly, pageRequests, pasidBits, nesting,
        dirtyTracking: { supported: dirtyTracking },
      });
    }
  });

  it("is ENOENT for a label of another fd, of a device that was unbound, and for 0", async () => {
    const { host, fd, devs, labels } = await spaces();
    const other = host.open("/dev/ioasid");
    expect(refusal(() => other.deviceGetInfo({ label: labels[0]! }), "ENOENT", "label").hint).toContain("no device is bound");
    devs[0]!.unbindIoasidFd();
    for (const label of [0, labels[0]!, 99]) {
      expect(refusal(() => fd.deviceGetInfo({ label }), "ENOENT", "label")).toMatchObject({ value: label, hint: expect.stringContaining(`${labels[1]} (dev2)`) });
    }
  });
});

describe("a host with several different IOMMUs", () => {
  it("has a space for each model, over the same memory, and tells why a device cannot join another one's", async () => {
    const presets = [{ preset: "vtd" }, { preset: "smmuv3", stage: 2 }, { preset: "amd" }, { preset: "vtd-scalable" }] as const;
    const { fd, devs, map, dma, info, host } = await spaces({
      iommus: presets.map((each, n) => ({ name: `iommu${n}`, ...each })),
      devices: presets.map((_, n) => ({ name: `dev${n + 1}`, rid: 8 * n, iommu: `iommu${n}` })),
    });
    const roots = devs.map((dev) => {
      const ioasid = fd.alloc();
      dev.attachIoasid({ ioasid });
      map(ioasid, 0x10000, HVA, 0x4000);
      return ioasid;
    });
    expect(roots.map((_, n) => dma(n + 1, 0x11000, "w"))).toEqual(presets.map(() => 0x1000n));
    expect(new Set(roots.map((ioasid) => info(ioasid).format)).size).toBe(4);
    expect(host.process.locked).toBe(4n * 0x4000n);
    for (const [n, dev] of devs.entries()) {
      dev.detachIoasid({ ioasid: roots[n]! });
      for (const [m, ioasid] of roots.entries()) {
        if (m === n) continue;
        const error = refusal(() => dev.attachIoasid({ ioasid }), "EINVAL", "ioasid");
        expect(error).toMatchObject({ value: ioasid, conflict: { kind: "device", device: `dev${m + 1}` }, hint: expect.stringContaining("of its own") });
      }
      expect(dma(n + 1, 0x11000)).toBe("blocked");
      dev.attachIoasid({ ioasid: roots[n]! });
      expect(dma(n + 1, 0x11000)).toBe(0x1000n);
    }
    const child = fd.createNesting({ parent: roots[1]! });
    devs[1]!.attachIoasid({ ioasid: child });
    map(child, 0x90000, 0x12000);
    expect([dma(2, 0x90000), dma(1, 0x11000)]).toEqual([0x2000n, 0x1000n]);
    expect(info(child).format).toBe("aarch64-stage2-4k");
  });
});

it("CHECK_EXTENSION answers 1 for what this fd has", async () => {
  const { host, fd } = await spaces();
  for (const extension of [
    IOASID_EXT_REGISTER_MEMORY, IOASID_EXT_NESTING, IOASID_EXT_USER_PGTABLE, IOASID_EXT_DIRTY_TRACKING, IOASID_EXT_MULTIDEV_GROUP,
    IOASID_EXT_MAP_BEFORE_ATTACH, IOASID_EXT_PAGE_REQUESTS,
  ]) expect(host.ioctl(fd, IOASID_CHECK_EXTENSION, extension)).toBe(1);
  expect(fd.checkExtension({ extension: 10 })).toBe(0);
});
