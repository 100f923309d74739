// DMA through the PASID tables of guests: without a PASID, with PASIDs that a table does not have, and what becomes of pages that are
// missing below an entry: who is asked for them, and who is to blame.
import { describe, expect, it } from "vitest";
import { Gcr3Table, GuestPages as LibraryPages, GuestRam } from "../../examples/lib/guest.mjs";
import { createHost, DmaFault, IOASID_ATTACH_USER_PASID, type DmaFaultReason } from "../../src/index.js";
import { PERM_R } from "../../src/engine/layout.js";
import { asRequest } from "./fault-device.js";
import { PASID_KINDS, pasidMachine, type PasidKind } from "./guest-pasid-tables.js";
import { GB, gpaSpace, HVA, K4, RAM } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

const flags = IOASID_ATTACH_USER_PASID;
const IOVA = 0x2000n;
const [VTD, SMMU, , , AMD] = PASID_KINDS as readonly [PasidKind, PasidKind, PasidKind, PasidKind, PasidKind];
const THREE = [VTD, SMMU, AMD].map((kind) => [kind.name, kind] as const);

describe("DMA without a PASID", () => {
  const CASES: [kind: PasidKind, without: string | undefined, zero: boolean, lands: bigint | DmaFaultReason][] = [
    [SMMU, undefined, true, "blocked"], [SMMU, "terminate", true, "blocked"], [SMMU, "bypass", true, IOVA],
    [SMMU, "zero", true, 0x5000n], [SMMU, "zero", false, "pasid-not-present"],
    [AMD, undefined, true, IOVA], [AMD, "bypass", true, IOVA], [AMD, "zero", true, 0x5000n], [AMD, "zero", false, "pasid-not-present"],
    [VTD, undefined, true, 0x5000n], [VTD, undefined, false, "pasid-not-present"],
  ];
  it.each(CASES.map((one) => [one[0].name, ...one] as const))("of %s, %s", async (_name, kind, without, zero, lands) => {
    const { all, devs, pages, table, land } = await pasidMachine(kind);
    pages.map(IOVA, 0x5000n);
    if (zero) table.set(0, pages.root);
    table.set(5, pages.root);
    devs[0]!.attachIoasid({ ioasid: all(without === undefined ? {} : { without }) });
    expect([land(), land(5)]).toEqual([lands, 0x5000n]);
  });
});

describe.each(THREE)("%s: a PASID", (_name, kind) => {
  it("beyond the table is out of its range, whatever follows it in memory", async () => {
    const { all, devs, land } = await pasidMachine(kind);
    // GCR3: 9 bits a level. VT-d: a directory has 2^7 entries at least, for tables of 2^6 (PDTS).
    const bits = new Map([[AMD, 9], [VTD, 13]]).get(kind) ?? 8;
    devs[0]!.attachIoasid({ ioasid: all(kind === AMD ? {} : { pasidBits: bits }) });
    expect([land(2 ** bits - 1), land(2 ** bits), land(0xfffff)]).toEqual(["pasid-not-present", "pasid-range", "pasid-range"]);
  });

  it("0 is an entry like the others, where DMA without a PASID is not led there", async () => {
    const { all, devs, host, pages, table } = await pasidMachine(kind);
    pages.map(IOVA, 0x5000n);
    table.set(0, pages.root);
    devs[0]!.attachIoasid({ ioasid: all() });
    const { engine, port } = host;
    expect(port.translateNumber(Number(IOVA), engine.route(host.device("dev1").rid, 0), PERM_R)).toBe(Number(RAM + 0x5000n));
  });
});

it("AMD-Vi: three levels of a GCR3 table decode twenty bits of a PASID", async () => {
  const it = await gpaSpace({ iommus: [{ preset: "amd", pasidBits: 20 }] });
  const ram = new GuestRam(it.host, { hva: HVA });
  const table = new Gcr3Table(ram, 3);
  const ioasid = it.fd.allocIoasidPasidTable({ parent: it.gpa, addr: table.addr, format: table.format });
  it.devs[0]!.attachIoasid({ ioasid });
  for (const pasid of [1, 0x200, 0x40000, 0xfffff]) {
    const pages = new LibraryPages(ram);
    pages.map(IOVA, BigInt(pasid & 0xff) * K4);
    table.set(pasid, pages);
    expect(it.host.device("dev1").dma(pasid).translate(IOVA) - RAM).toBe(BigInt(pasid & 0xff) * K4);
  }
  expect(() => it.host.device("dev1").dma(2).translate(IOVA)).toThrow(expect.objectContaining({ reason: "pasid-not-present" }));
});

it("a mediated device is not attached to a PASID table", async () => {
  const host = await createHost({ memory: { ram: 0x400000 }, iommus: [VTD.iommu], devices: [{ name: "card", rid: 0x28 }, { name: "m1", parent: "card" }] });
  host.process.mmap({ hva: HVA, size: 0x200000n });
  const [fd, device] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/m1")];
  device.bindIoasidFd({ ioasidFd: fd });
  const gpa = fd.alloc();
  device.attachIoasid({ ioasid: gpa });
  fd.dmaMap({ ioasid: gpa, iova: 0, vaddr: HVA, size: 0x200000 });
  const ioasid = fd.createNesting({ parent: gpa });
  const table = { ioasid, addr: 0x140000, format: VTD.format };
  fd.bindPasidTable(table);
  refusal(() => device.attachIoasid({ ioasid }), "EINVAL", "ioasid");
  fd.unbindPasidTable({ ioasid });
  device.attachIoasid({ ioasid });
  refusal(() => fd.bindPasidTable(table), "EINVAL", "ioasid");
});

describe.each(THREE)("%s: a page that is missing", (_name, kind) => {
  it("is asked for with the ioasid of all PASIDs, the device and the PASID; the access goes on once it is there", async () => {
    const { all, devs, fd, host, labels, pages, table } = await pasidMachine(kind);
    const ioasid = all();
    table.set(5, pages.root);
    devs[0]!.attachIoasid({ ioasid });
    host.process.bytes(HVA + 0x5000n, 1).set([9]);
    const read = host.device("dev1").dma(5).read(IOVA, 1);
    const record = asRequest(fd.faults.read()[0]);
    expect(record).toMatchObject({ ioasid, device: labels[0], pasid: 5, iova: IOVA, access: "r", last: true });
    pages.map(IOVA, 0x5000n);
    fd.pageResponse({ cookie: record.cookie, code: 0 });
    expect([...await read]).toEqual([9]);
  });

  it("is asked of the space that is attached with that PASID and has its table", async () => {
    const { all, devs, fd, gpa, host, pages, table } = await pasidMachine(kind);
    table.set(5, pages.root);
    table.set(6, pages.root);
    devs[0]!.attachIoasid({ ioasid: all() });
    const tracker = fd.allocIoasidPgtable({ parent: gpa, addr: pages.root, format: kind.pgtable });
    devs[0]!.attachIoasid({ ioasid: tracker, flags, userPasid: 5 });
    const reads = [5, 6].map((pasid) => host.device("dev1").dma(pasid).read(IOVA, 1).catch((error: unknown) => (error as DmaFault).reason));
    const [five, six] = fd.faults.read().map(asRequest) as [ReturnType<typeof asRequest>, ReturnType<typeof asRequest>];
    expect([five.ioasid, five.pasid, six.pasid]).toEqual([tracker, 5, 6]);
    expect(six.ioasid).not.toBe(tracker);
    for (const { cookie } of [five, six]) fd.pageResponse({ cookie, code: 1 });
    expect(await Promise.all(reads)).toEqual(["page-request-invalid", "page-request-invalid"]);
  });

  it("of the parent is an event of the parent, with the address there and the child", async () => {
    const { all, devs, fd, gpa, host, labels, pages, table } = await pasidMachine(kind);
    const ioasid = all();
    pages.map(IOVA, GB + 0x3000n);
    table.set(5, pages.root);
    devs[0]!.attachIoasid({ ioasid });
    expect(() => host.device("dev1").dma(5).readSync(IOVA + 8n, 1)).toThrow(DmaFault);
    expect(fd.faults.read()).toMatchObject([
      { kind: "event", ioasid: gpa, child: ioasid, device: labels[0], pasid: 5, iova: IOVA + 8n, ipa: GB + 0x3008n, reason: "not-present", class: "input", stage: 2 },
    ]);
  });
});
