// PASID tables of guests through the calls: the ioasid of all PASIDs, and the first proposal's separate spaces that are tracked.
import { describe, expect, it } from "vitest";
import { IOASID_ATTACH_USER_PASID, IOASID_CACHE_PASID, type PasidChange, type PasidTableFormat } from "../../src/index.js";
import { PASID_KINDS, pasidMachine, type PasidKind } from "./guest-pasid-tables.js";
import { GB, GuestPages, K4, refusedWhole } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

const flags = IOASID_ATTACH_USER_PASID;
const IOVA = 0x2000n;

/** Page tables that lead IOVA to 0x1000 and to 0x3000, and the first of them for PASID 5. */
async function machine(kind: PasidKind) {
  const it = await pasidMachine(kind);
  const two = new GuestPages(it.host, kind.leaves, 0x110000n);
  it.pages.map(IOVA, 0x1000n);
  two.map(IOVA, 0x3000n);
  it.table.set(5, it.pages.root);
  return { ...it, one: it.pages, two };
}

describe.each(PASID_KINDS.map((kind) => [kind.name, kind] as const))("a PASID table of %s", (_name, kind) => {
  it("has all PASIDs of the devices that are attached, and of no others", async () => {
    const { all, devs, land, info, gpa, table } = await machine(kind);
    const ioasid = all();
    expect(land(5)).toBe("blocked");
    devs[0]!.attachIoasid({ ioasid });
    expect([land(5), land(6), land(5, "dev2"), land(undefined, "dev2")]).toEqual([0x1000n, "pasid-not-present", "blocked", IOVA]);
    expect(info(ioasid)).toMatchObject({ kind: "pasid-table", parent: gpa, pgtable: null, pasidTable: { addr: table.root, format: kind.format } });
    devs[0]!.detachIoasid({ ioasid });
    expect([land(5), land()]).toEqual(["blocked", IOVA]);
  });

  it("may be bound to an attached child, and taken away from it", async () => {
    const { fd, devs, gpa, land, table } = await machine(kind);
    const ioasid = fd.createNesting({ parent: gpa });
    devs[0]!.attachIoasid({ ioasid });
    const bind = { ioasid, addr: table.root, format: kind.format };
    fd.bindPasidTable({ ...bind, dryRun: true });
    expect(land(5)).toBe("blocked");
    fd.bindPasidTable(bind);
    expect(land(5)).toBe(0x1000n);
    expect(refusal(() => fd.bindPasidTable(bind), "EEXIST", "ioasid").message).toContain("IOASID_UNBIND_PASID_TABLE");
    fd.unbindPasidTable({ ioasid });
    expect([land(5), land()]).toEqual(["blocked", "not-present"]);
    refusal(() => fd.unbindPasidTable({ ioasid }), "ENOENT", "ioasid");
  });

  it("is followed once it is said what has changed", async () => {
    const { fd, all, devs, land, one, two, table } = await machine(kind);
    const ioasid = all();
    devs[0]!.attachIoasid({ ioasid });
    expect(land(5)).toBe(0x1000n);
    one.map(IOVA, 0x4000n);
    expect(land(5)).toBe(0x1000n);
    fd.invalidateCache({ ioasid, granularity: 1, iova: IOVA, size: K4, pasid: 5 });
    expect(land(5)).toBe(0x4000n);
    one.map(IOVA, 0x5000n);
    fd.invalidateCache({ ioasid, granularity: 2, pasid: 5, caches: 1 });
    expect(land(5)).toBe(0x5000n);
    table.set(5, two.root);
    fd.invalidateCache({ ioasid, granularity: 2, pasid: 5 });
    expect(land(5)).toBe(0x3000n);
    table.set(5, undefined);
    expect(land(5)).toBe(0x3000n);
    fd.invalidateCache({ ioasid });
    expect(land(5)).toBe("pasid-not-present");
  });

  it("tells a watch what the guest has changed, also when a device wrote it", async () => {
    const { fd, all, devs, host, table, one, two } = await machine(kind);
    const ioasid = all();
    devs[0]!.attachIoasid({ ioasid });
    const heard: PasidChange[] = [];
    const watch = fd.watchPasidTable({ ioasid }, (changes) => heard.push(...changes));
    expect(watch.scan()).toEqual([]);
    table.set(7, two.root);
    table.set(5, undefined);
    expect(watch.scan()).toEqual([{ pasid: 5, change: "removed" }, { pasid: 7, change: "added" }]);
    table.set(7, one.root);
    const [at] = table.words(7, one.root).at(-1)!;
    expect(watch.notifyWrite(0x1000n, 8)).toEqual([]);
    expect(watch.notifyWrite(at, 8)).toEqual([{ pasid: 7, change: "changed" }]);
    heard.length = 0;
    for (const [gpa, word] of table.words(9, one.root)) host.device("dev2").dma().writeSync(gpa, new Uint8Array(new BigUint64Array([word]).buffer));
    expect(heard.at(0)).toEqual({ pasid: 9, change: "added" });
    watch.close();
    table.set(9, undefined);
    expect(watch.scan()).toEqual([]);
  });

  it("may lie outside RAM, or point at itself: DMA is refused, and looking into it ends", async () => {
    const { fd, all, devs, land, table, host } = await machine(kind);
    const ioasid = all();
    devs[0]!.attachIoasid({ ioasid });
    const watch = fd.watchPasidTable({ ioasid });
    const words = new BigUint64Array(512);
    for (const pointer of [table.root, 8n * GB, 0x000f_ffff_ffff_f000n]) {
      words.fill(pointer | 1n | (1n << 31n));
      host.process.bytes(0x40000000n + table.root, 4096).set(new Uint8Array(words.buffer));
      fd.invalidateCache({ ioasid });
      expect(typeof land(5)).toBe("string");
      watch.scan();
    }
  });

  it("leads separate spaces, attached with PASIDs before or after it, that say who is meant", async () => {
    const { fd, all, devs, land, gpa, one, two, table } = await machine(kind);
    const child = (addr: bigint, userPasid: number): number => {
      const tracker = fd.allocIoasidPgtable({ parent: gpa, addr, format: kind.pgtable });
      devs[0]!.attachIoasid({ ioasid: tracker, flags, userPasid });
      return tracker;
    };
    child(two.root, 5);
    expect(land(5)).toBe(0x3000n);
    const ioasid = all();
    devs[0]!.attachIoasid({ ioasid });
    expect(land(5)).toBe(0x1000n);
    table.set(6, two.root);
    const tracker = child(one.root, 6);
    expect(land(6)).toBe(0x3000n);
    two.map(IOVA, 0x6000n);
    expect(land(6)).toBe(0x3000n);
    fd.invalidateCache({ ioasid: tracker, granularity: 1, iova: IOVA, size: K4 });
    expect(land(6)).toBe(0x6000n);
    table.set(6, one.root);
    fd.invalidateCache({ ioasid: tracker, granularity: 2, pasid: 6, caches: IOASID_CACHE_PASID });
    expect(land(6)).toBe(0x1000n);
    devs[0]!.detachIoasid({ ioasid });
    expect([land(5), land(6)]).toEqual([0x6000n, 0x1000n]);
  });

  it("may be told alone of a change where it has all DMA, also if a space that is attached beside it leads another device later", async () => {
    const { fd, all, devs, land, gpa, one } = await machine(kind);
    const ioasid = fd.allocIoasidPgtable({ parent: gpa, addr: one.root, format: kind.pgtable });
    devs[1]!.attachIoasid({ ioasid });
    expect(land(undefined, "dev2")).toBe(0x1000n);
    devs[0]!.attachIoasid({ ioasid, flags, userPasid: 5 });
    devs[1]!.detachIoasid({ ioasid });
    const table = all();
    devs[0]!.attachIoasid({ ioasid: table });
    one.map(IOVA, 0x4000n);
    fd.invalidateCache({ ioasid: table, granularity: 1, iova: IOVA, size: K4, pasid: 5 });
    devs[1]!.attachIoasid({ ioasid });
    expect([land(5), land(undefined, "dev2")]).toEqual([0x4000n, 0x4000n]);
  });

  it("ends with the device that is closed, and with the fd", async () => {
    const { fd, all, devs, land } = await machine(kind);
    const ioasid = all();
    devs[0]!.attachIoasid({ ioasid });
    expect(land(5)).toBe(0x1000n);
    refusal(() => fd.free({ ioasid }), "EBUSY", "ioasid");
    devs[0]!.close();
    expect([land(5), land()]).toEqual(["blocked", "blocked"]);
    devs[1]!.attachIoasid({ ioasid });
    expect(land(5, "dev2")).toBe(0x1000n);
    fd.close();
    expect(land(5, "dev2")).toBe("blocked");
  });
});

it("a watch looks at as many PASIDs as the table has that is bound now", async () => {
  const { fd, devs, gpa, one, two, table } = await machine(PASID_KINDS[0]!);
  const ioasid = fd.createNesting({ parent: gpa });
  const bind = (pasidBits: number): void => fd.bindPasidTable({ ioasid, addr: table.root, format: { kind: "vtd-scalable", pasidBits } });
  devs[0]!.attachIoasid({ ioasid });
  // The first of the directory's entries that a table of 13 bits has not, with a table of its own.
  const [at] = table.words(7, two.root).at(-1)!;
  table.write(table.root + 0x400n, (at & ~0xfffn) | 0x1000n | 1n);
  table.write((at & ~0xfffn) + 0x1000n + 16n, one.root);
  table.write((at & ~0xfffn) + 0x1000n, 0x41n);
  bind(13);
  const watch = fd.watchPasidTable({ ioasid });
  fd.unbindPasidTable({ ioasid });
  bind(14);
  expect(watch.scan()).toEqual([{ pasid: 5, change: "removed" }, { pasid: 5, change: "added" }, { pasid: 8192, change: "added" }]);
  table.write((at & ~0xfffn) + 0x1000n, 0n);
  expect(watch.scan()).toEqual([{ pasid: 8192, change: "removed" }]);
  fd.unbindPasidTable({ ioasid });
  bind(13);
  expect(watch.scan().map(({ change }) => change)).toEqual(["removed", "added"]);
});

describe("a bad PASID table", () => {
  const [vtd, smmu] = [PASID_KINDS[0]!, PASID_KINDS[1]!];
  const CASES: [format: unknown, errno: "EINVAL" | "EOPNOTSUPP", field: string][] = [
    [7, "EINVAL", "format"], [{ kind: "x86-64", levels: 4 }, "EOPNOTSUPP", "format.kind"], [{ kind: "amd-gcr3", levels: 1 }, "EOPNOTSUPP", "format.kind"],
    [{ kind: "vtd-scalable", pasidBits: 21 }, "EINVAL", "format.pasidBits"], [{ kind: "vtd-scalable", pasidBits: 12 }, "EINVAL", "format.pasidBits"], [{ kind: "vtd-scalable", levels: 1 }, "EINVAL", "format.levels"],
    [{ kind: "smmuv3-cd", layout: "flat", pasidBits: 4 }, "EINVAL", "format.layout"], [{ kind: "smmuv3-cd", layout: "linear" }, "EINVAL", "format.pasidBits"],
  ];
  it.each(CASES)("%j is refused as %s of %s, and nothing has changed", async (format, errno, field) => {
    const it = await machine(vtd);
    const call = () => it.fd.allocIoasidPasidTable({ parent: it.gpa, addr: it.table.root, format: format as PasidTableFormat });
    const error = refusedWhole(it, [it.gpa], [0n], call);
    expect(error).toMatchObject({ field, errno });
    expect((error as { hint?: string }).hint).not.toBe(undefined);
  });

  it("is one that is misaligned, unmapped in the parent, or has more PASIDs than the IOMMU", async () => {
    const { fd, gpa } = await machine({ ...smmu, iommu: { ...smmu.iommu, pasidBits: 8 } });
    const alloc = (addr: bigint, pasidBits = 8) => fd.allocIoasidPasidTable({ parent: gpa, addr, format: { kind: "smmuv3-cd", layout: "linear", pasidBits } });
    refusal(() => alloc(0x140020n), "EINVAL", "addr");
    refusal(() => alloc(5n * GB), "EFAULT", "addr");
    refusal(() => alloc(1n << 50n), "EINVAL", "addr");
    refusal(() => alloc(0x140000n, 9), "EOPNOTSUPP", "format.pasidBits");
  });

  it("takes no PASID at attach, no maps, no children, and a PASID of its own at invalidation", async () => {
    const { fd, devs, all, map } = await machine(vtd);
    const ioasid = all();
    refusal(() => devs[0]!.attachIoasid({ ioasid, flags, userPasid: 5 }), "EINVAL", "flags");
    devs[0]!.attachIoasid({ ioasid });
    refusal(() => map(ioasid, 0, 0), "EBUSY", "ioasid");
    refusal(() => fd.createNesting({ parent: ioasid }), "ENOSPC", "parent");
    refusal(() => fd.setDirtyTracking({ ioasid, enable: true }), "EOPNOTSUPP", "ioasid");
    refusal(() => fd.invalidateCache({ ioasid, granularity: 1, iova: 0n, size: K4 }), "EINVAL", "pasid");
    refusal(() => fd.invalidateCache({ ioasid, granularity: 2, pasid: 8192 }), "EINVAL", "pasid");
    refusal(() => fd.invalidateCache({ ioasid, pasid: 4 }), "EINVAL", "pasid");
    expect(fd.invalidateCache({ ioasid, granularity: 2, pasid: 0 })).toEqual({ handled: 1 });
  });
});

describe("a table that is bound per PASID", () => {
  it("is invalidated by range, by PASID, and whole; its accessed and dirty bits are set by DMA with the PASID", async () => {
    const kind = PASID_KINDS[0]!;
    const { fd, devs, gpa, one, land, host } = await machine(kind);
    const ioasid = fd.allocIoasidPgtable({ parent: gpa, addr: one.root, format: kind.pgtable });
    devs[0]!.attachIoasid({ ioasid, flags, userPasid: 5 });
    const ways = [{ granularity: 1, iova: IOVA, size: K4, pasid: 5 }, { granularity: 2, pasid: 5 }, {}];
    for (const [n, way] of ways.entries()) {
      const before = land(5);
      one.map(IOVA, BigInt(n + 4) * K4);
      expect(land(5)).toBe(before);
      fd.invalidateCache({ ioasid, ...way });
      expect(land(5)).toBe(BigInt(n + 4) * K4);
    }
    refusal(() => fd.invalidateCache({ ioasid, granularity: 2, pasid: 6 }), "EINVAL", "pasid");
    // The leaf is the third entry of the last table, the fourth page from the root on.
    const { buffer, byteOffset } = host.process.bytes(0x40000000n + one.root + 3n * K4 + 16n, 8);
    const leaf = new DataView(buffer, byteOffset, 8);
    leaf.setBigUint64(0, leaf.getBigUint64(0, true) & ~0x60n, true);
    fd.invalidateCache({ ioasid });
    land(5);
    expect(leaf.getBigUint64(0, true) & 0x60n).toBe(0x20n);
    land(5, "dev1", IOVA, "w");
    expect(leaf.getBigUint64(0, true) & 0x60n).toBe(0x60n);
  });
});
