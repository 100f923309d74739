// Guests' tables bound to children: bind, unbind, both in one step with the allocation, and what is refused at bind and at attach.
import { describe, expect, it } from "vitest";
import { type IommuOptions, type PgtableFormat } from "../../src/index.js";
import { FORMAT_ARM_S1_4K, FORMAT_X86_64 } from "../../src/engine/layout.js";
import { childOf, GB, gpaSpace, GuestPages, HVA, K4, spaces } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

const X86: PgtableFormat = { kind: "x86-64", levels: 4 };
const ARM: PgtableFormat = { kind: "aarch64-stage1", granule: 4096, inputWidth: 48 };
const VTD: IommuOptions = { preset: "vtd-scalable", stage: 2 };
const SMMU: IommuOptions = { preset: "smmuv3", stage: 2 };

/** The RFC's root, and a guest's table that maps 0x2000 to 0x1000. */
async function machine(iommu: IommuOptions = VTD, layout = FORMAT_X86_64) {
  const it = await gpaSpace({ iommus: [iommu] });
  const table = new GuestPages(it.host, layout);
  table.map(0x2000n, 0x1000n);
  const bind = (ioasid: number, format = X86, addr = table.root) => it.fd.bindPgtable({ ioasid, addr, format });
  return { ...it, table, bind };
}

describe("a guest's table", () => {
  it("may be bound before the attach as well as after it", async () => {
    const { fd, devs, gpa, bind, dma } = await machine();
    const child = fd.createNesting({ parent: gpa });
    bind(child);
    expect(dma(2, 0x2000)).toBe(0x2000n);
    devs[1]!.attachIoasid({ ioasid: child });
    expect([dma(2, 0x2000), dma(1, 0x2000)]).toEqual([0x1000n, 0x2000n]);
  });

  it("may be bound in one step with the allocation", async () => {
    const { fd, devs, gpa, table, dma, info } = await machine();
    const child = fd.allocIoasidPgtable({ parent: gpa, addr: table.root, format: X86 });
    expect(info(child)).toMatchObject({ kind: "hardware-nested", parent: gpa, devices: [], pgtable: { addr: table.root, format: X86 } });
    devs[1]!.attachIoasid({ ioasid: child });
    expect([dma(2, 0x2000), dma(2, 0x1000)]).toEqual([0x1000n, "not-present"]);
  });

  it("may be described before any device is there; the attach checks it then", async () => {
    const it = await spaces({ iommus: [SMMU] });
    const root = it.fd.alloc();
    it.map(root, 0, HVA, GB);
    const [good, bad] = [ARM, X86].map((format) => it.fd.allocIoasidPgtable({ parent: root, addr: 0x100000, format }));
    it.devs[0]!.attachIoasid({ ioasid: root });
    const error = refusal(() => it.devs[0]!.attachIoasid({ ioasid: bad! }), "EINVAL", "ioasid");
    expect(error).toMatchObject({ value: bad, conflict: { kind: "ioasid", ioasid: bad }, message: expect.stringContaining("dev1 cannot walk") });
    expect(it.info(bad!).devices).toEqual([]);
    const table = new GuestPages(it.host, FORMAT_ARM_S1_4K);
    table.map(0x2000n, 0x1000n);
    it.devs[0]!.attachIoasid({ ioasid: good! });
    expect(it.dma(1, 0x2000)).toBe(0x1000n);
  });

  it("gives way to nothing at the unbind, then to maps or to another table", async () => {
    const it = await machine();
    const { fd, bind, dma, map, unmap, info, host } = it;
    const child = childOf(it, it.gpa);
    bind(child);
    expect(dma(2, 0x2000)).toBe(0x1000n);
    fd.unbindPgtable({ ioasid: child });
    expect([dma(2, 0x2000), info(child).kind]).toEqual(["not-present", "child"]);
    map(child, 0x9000, 0x5000);
    expect(dma(2, 0x9000)).toBe(0x5000n);
    unmap(child, 0x9000);
    const other = new GuestPages(host, FORMAT_X86_64, 0x180000n);
    other.map(0x2000n, 0x6000n);
    bind(child, X86, other.root);
    expect([dma(2, 0x2000), dma(2, 0x9000)]).toEqual([0x6000n, "not-present"]);
  });

  it("stays bound while devices come and go", async () => {
    const it = await machine();
    const { devs, bind, dma, host } = it;
    const child = childOf(it, it.gpa, [1, 2]);
    bind(child);
    const domains = host.engine.framesUsed;
    for (const dev of devs) dev.detachIoasid({ ioasid: child });
    expect([dma(1, 0x2000), dma(2, 0x2000)]).toEqual([0x2000n, 0x2000n]);
    for (const dev of devs) dev.attachIoasid({ ioasid: child });
    expect([dma(1, 0x2000), dma(2, 0x2000), host.engine.framesUsed]).toEqual([0x1000n, 0x1000n, domains]);
  });

  it("takes no maps and no unmaps, and nothing can be nested on it", async () => {
    const it = await machine();
    const child = childOf(it, it.gpa);
    it.bind(child);
    for (const call of [() => it.map(child, 0, 0), () => it.unmap(child, 0), () => it.fd.dmaUnmap({ ioasid: child, flags: 2 })]) {
      expect(refusal(call, "EBUSY", "ioasid")).toMatchObject({ value: child, conflict: { kind: "ioasid", ioasid: child } });
    }
    for (const call of [
      () => it.fd.createNesting({ parent: child }), () => it.fd.allocIoasid({ parent: child }),
      () => it.fd.allocIoasidPgtable({ parent: child, addr: 0x100000, format: X86 }),
    ]) expect(refusal(call, "ENOSPC", "parent")).toMatchObject({ value: child, conflict: { kind: "ioasid", ioasid: child } });
    expect(it.info(child).nesting).toEqual({ software: false, hardware: [], softwareDepth: 0, hardwareDepth: 0 });
  });

  it("may have 5 levels", async () => {
    const { host, devs, fd, gpa, dma } = await machine();
    const table = new GuestPages(host, FORMAT_X86_64, 0x180000n, 5);
    table.map((1n << 50n) + 0x2000n, 0x3000n);
    const child = fd.allocIoasidPgtable({ parent: gpa, addr: table.root, format: { kind: "x86-64", levels: 5 } });
    devs[1]!.attachIoasid({ ioasid: child });
    expect([dma(2, (1n << 50n) + 0x2000n), dma(2, 0x2000)]).toEqual([0x3000n, "not-present"]);
  });
});

describe("binding is refused", () => {
  it("with EINVAL for a root, EBUSY for a child with maps, children or dirty tracking, EEXIST for one with a table", async () => {
    const it = await machine();
    const child = childOf(it, it.gpa);
    expect(refusal(() => it.bind(it.gpa), "EINVAL", "ioasid").value).toBe(it.gpa);
    it.map(child, 0x5000, 0x1000);
    expect(refusal(() => it.bind(child), "EBUSY", "ioasid").conflict).toEqual({ kind: "mapping", ioasid: child, first: 0x5000n, last: 0x5fffn });
    it.unmap(child, 0x5000);
    const grandchild = it.fd.createNesting({ parent: child });
    expect(refusal(() => it.bind(child), "EBUSY", "ioasid").conflict).toEqual({ kind: "ioasid", ioasid: grandchild });
    it.fd.free({ ioasid: grandchild });
    it.fd.setDirtyTracking({ ioasid: child, enable: true });
    expect(refusal(() => it.bind(child), "EBUSY", "ioasid").hint).toContain("IOASID_SET_DIRTY_TRACKING");
    it.fd.setDirtyTracking({ ioasid: child, enable: false });
    it.bind(child);
    expect(refusal(() => it.bind(child), "EEXIST", "ioasid")).toMatchObject({ value: child, hint: expect.stringContaining("UNBIND") });
    it.fd.unbindPgtable({ ioasid: child });
    refusal(() => it.fd.unbindPgtable({ ioasid: child }), "ENOENT", "ioasid");
  });

  it("with EFAULT for an address that the parent does not map, in both forms", async () => {
    const { fd, gpa, bind, info } = await machine();
    const child = fd.createNesting({ parent: gpa });
    for (const addr of [GB, 1n << 40n]) {
      for (const call of [() => bind(child, X86, addr), () => fd.allocIoasidPgtable({ parent: gpa, addr, format: X86 })]) {
        expect(refusal(call, "EFAULT", "addr")).toMatchObject({ value: addr, conflict: { kind: "ioasid", ioasid: gpa } });
      }
    }
    expect(info(gpa).children).toEqual([child]);
    expect(info(child).kind).toBe("child");
  });

  it.each([
    ["a kind that does not exist", { kind: "vax" }, "EOPNOTSUPP", "format.kind", "vax"],
    ["another machine's kind", ARM, "EOPNOTSUPP", "format.kind", "aarch64-stage1"],
    ["a number of levels", { kind: "x86-64", levels: 3 }, "EINVAL", "format.levels", 3],
    ["missing levels", { kind: "x86-64" }, "EINVAL", "format.levels", undefined],
    ["an unknown field", { ...X86, granule: 4096 }, "EINVAL", "format.granule", 4096],
    ["no object", 4, "EINVAL", "format", 4], ["nothing", undefined, "EINVAL", "format", undefined],
  ] as const)("for %s, naming the field and its value", async (_what, format, errno, field, value) => {
    const { fd, gpa, table: { root: addr }, info } = await machine();
    const child = fd.createNesting({ parent: gpa });
    const given = { addr, format: format as PgtableFormat };
    for (const call of [() => fd.bindPgtable({ ioasid: child, ...given }), () => fd.allocIoasidPgtable({ parent: gpa, ...given })]) {
      const error = refusal(call, errno, field);
      expect(error).toMatchObject({ value, hint: expect.stringMatching(/./) });
    }
    expect(info(gpa).children).toEqual([child]);
  });

  it.each([[4n], [0x100008n], [1n << 48n], [(1n << 64n) - K4]])("with EINVAL for the address %d", async (addr) => {
    const { fd, gpa, bind } = await machine();
    expect(refusal(() => bind(fd.createNesting({ parent: gpa }), X86, addr), "EINVAL", "addr").value).toBe(addr);
  });

  it.each([
    ["VT-d in legacy mode", { preset: "vtd" }], ["a first stage", { preset: "vtd-scalable" }], ["SMMUv3 stage 1", { preset: "smmuv3" }],
    ["AMD-Vi without nesting", { preset: "amd", nesting: false }],
  ] as [string, IommuOptions][])("with EOPNOTSUPP on %s, which nests in software only", async (_name, iommu) => {
    const it = await gpaSpace({ iommus: [iommu] });
    const child = childOf(it, it.gpa);
    for (const format of [X86, ARM]) {
      const error = refusal(() => it.fd.bindPgtable({ ioasid: child, addr: 0x100000, format }), "EOPNOTSUPP", "format.kind");
      expect(error).toMatchObject({ value: format.kind, hint: expect.stringContaining("nest in software") });
    }
    it.map(child, 0x8000, 0x2000);
    expect(it.dma(2, 0x8000)).toBe(0x2000n);
  });
});

describe("devices behind two IOMMUs of one format, of which one walks guests' tables", () => {
  /** dev1 is behind VT-d in legacy mode, dev2 behind VT-d in scalable mode. */
  async function mixed() {
    const it = await gpaSpace({
      iommus: [{ name: "legacy", preset: "vtd" }, { name: "scalable", ...VTD }],
      devices: [{ name: "dev1", rid: 8, iommu: "legacy" }, { name: "dev2", rid: 16, iommu: "scalable" }],
    });
    const table = new GuestPages(it.host, FORMAT_X86_64);
    table.map(0x2000n, 0x1000n);
    return { ...it, table, bind: (ioasid: number) => it.fd.bindPgtable({ ioasid, addr: table.root, format: X86 }) };
  }

  it("share the parent; the one that can is attached to the table, the other one refused", async () => {
    const it = await mixed();
    expect(it.info(it.gpa).nesting).toMatchObject({ hardware: ["x86-64"], hardwareDepth: 1 });
    const child = it.fd.createNesting({ parent: it.gpa });
    it.bind(child);
    for (const order of [[2, 1], [1]]) {
      for (const n of order) {
        const attach = () => it.devs[n - 1]!.attachIoasid({ ioasid: child });
        if (n === 2) attach();
        else expect(refusal(attach, "EINVAL", "ioasid").message).toContain("dev1 cannot walk");
      }
      expect([it.dma(1, 0x2000), it.dma(2, 0x2000)]).toEqual([0x2000n, order.length > 1 ? 0x1000n : 0x2000n]);
      if (order.length > 1) it.devs[1]!.detachIoasid({ ioasid: child });
    }
  });

  it("keep a child unbound while the one that cannot is attached to it", async () => {
    const it = await mixed();
    for (const devices of [[1, 2], [2, 1]]) {
      const child = childOf(it, it.gpa, devices);
      refusal(() => it.bind(child), "EOPNOTSUPP", "format.kind");
      it.devs[0]!.detachIoasid({ ioasid: child });
      it.bind(child);
      expect([it.dma(1, 0x2000), it.dma(2, 0x2000)]).toEqual([0x2000n, 0x1000n]);
      it.devs[1]!.detachIoasid({ ioasid: child });
    }
  });
});

it("a table that the parent unmaps under the child faults, and works again once it is mapped", async () => {
  const it = await machine(SMMU, FORMAT_ARM_S1_4K);
  const child = childOf(it, it.gpa);
  it.bind(child, ARM);
  expect(it.dma(2, 0x2000)).toBe(0x1000n);
  it.unmap(it.gpa, 0, GB);
  expect(it.dma(2, 0x2000)).toBe("not-present");
  it.map(it.gpa, 0, HVA, GB);
  expect(it.dma(2, 0x2000)).toBe(0x1000n);
});
