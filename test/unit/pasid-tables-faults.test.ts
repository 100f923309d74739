// Who is told of what a PASID table's DMA is refused: the space that is bound for the PASID, that of all PASIDs, or the parent of that one.
import { describe, expect, it } from "vitest";
import { createHost, DmaFault, IOASID_ATTACH_USER_PASID } from "../../src/index.js";
import { GuestPasidTable, PASID_KINDS, type PasidKind } from "./guest-pasid-tables.js";
import { GuestPages, HVA, K4, RW } from "./space-host.js";

const flags = IOASID_ATTACH_USER_PASID;
const [VTD, SMMU, , , AMD] = PASID_KINDS as readonly [PasidKind, PasidKind, PasidKind, PasidKind, PasidKind];
const THREE = [VTD, SMMU, AMD].map((kind) => [kind.name, kind] as const);
const MAPPED = 0x100000n;
const IOVA = 0x2000n;
/** A present entry of VT-d's for pass-through, with tables of 48 bits. */
const PASS = 0x109n;

/** A root that maps the guest's tables, and pages 0x10 to 0x1f of its memory; a device there, and in an ioasid of all PASIDs below `between`, or the root. */
async function machine({ iommu, format, leaves }: PasidKind, { pageRequests = false, between = false, over = {} } = {}) {
  const host = await createHost({ memory: { ram: 0x400000 }, iommus: [iommu], devices: [{ name: "dev1", rid: 0x20 }] });
  host.process.mmap({ hva: HVA, size: 0x200000n });
  const [fd, device] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
  device.bindIoasidFd({ ioasidFd: fd });
  const root = fd.allocIoasid({ pageRequests });
  const map = (ioasid: number, iova: bigint, size: bigint, vaddr = iova): void => fd.dmaMap({ ioasid, iova, vaddr, size, flags: RW });
  map(root, MAPPED, 0x100000n, HVA + MAPPED);
  map(root, 0x10000n, 0x10000n, HVA + 0x10000n);
  device.attachIoasid({ ioasid: root });
  const parent = between ? fd.createNesting({ parent: root }) : root;
  if (between) {
    map(parent, MAPPED, 0x100000n);
    map(parent, 0x10000n, 0x8000n);
    device.attachIoasid({ ioasid: parent });
  }
  const table = new GuestPasidTable(host, format);
  const pages = new GuestPages(host, leaves, MAPPED);
  const all = fd.allocIoasidPasidTable({ parent, addr: table.root, format: { ...format, ...over } });
  table.set(5, pages.root);
  device.attachIoasid({ ioasid: all });
  const view = (pasid?: number) => host.device("dev1").dma({ pasid, timeout: Infinity });
  return { host, fd, device, root, parent, all, table, pages, view };
}

describe("DMA that a PASID table lets through to the parent's table", () => {
  const CASES: [kind: PasidKind, pasid: number | undefined, over: object][] = [[VTD, 5, {}], [SMMU, undefined, { without: "bypass" }], [AMD, undefined, {}]];
  it.each(CASES.map((one) => [one[0].name, ...one] as const))("of %s asks for no page, also if the parent would", async (_name, kind, pasid, over) => {
    const { fd, root, all, table, view } = await machine(kind, { pageRequests: true, over });
    if (pasid !== undefined) table.write(table.words(pasid, 1n).at(-1)![0], PASS);
    const [fault] = await Promise.all([view(pasid).read(0x30008n, 1).catch((error: unknown) => error as DmaFault)]);
    expect([(fault as DmaFault).reason, (fault as DmaFault).recoverable]).toEqual(["not-present", false]);
    expect(fd.faults.read()).toMatchObject([{ kind: "event", ioasid: root, child: all, iova: 0x30008n, ipa: 0x30008n }]);
  });

  it("tells of the parent of the table, not of that of a space which is bound for the PASID", async () => {
    const { fd, device, root, parent, pages, table, view } = await machine(VTD, { between: true });
    const tracker = fd.allocIoasidPgtable({ parent: root, addr: pages.root, format: VTD.pgtable });
    device.attachIoasid({ ioasid: tracker, flags, userPasid: 5 });
    table.write(table.words(5, 1n).at(-1)![0], PASS);
    expect(() => view(5).readSync(0x19008n, 1)).toThrow(DmaFault);
    expect(fd.faults.read()).toMatchObject([{ kind: "event", ioasid: parent, child: tracker, ipa: 0x19008n }]);
  });
});

describe.each(THREE)("%s: what the parent lacks", (_name, kind) => {
  it("is told with its address, also if that is 0", async () => {
    const { fd, parent, all, pages, view } = await machine(kind, { between: true });
    // The address of the access is one that the parent has.
    pages.map(0x10000n, 0n);
    expect(() => view(5).readSync(0x10000n, 1)).toThrow(DmaFault);
    expect(fd.faults.read()).toMatchObject([{ kind: "event", ioasid: parent, child: all, ipa: 0n }]);
  });

  it("is an event of the table's parent where the space that is bound for the PASID has another", async () => {
    const { fd, device, root, parent, pages, view } = await machine(kind, { between: true });
    const tracker = fd.allocIoasidPgtable({ parent: root, addr: pages.root, format: kind.pgtable });
    device.attachIoasid({ ioasid: tracker, flags, userPasid: 5 });
    pages.map(IOVA, 0x19000n);
    expect(() => view(5).readSync(IOVA, 1)).toThrow(DmaFault);
    expect(fd.faults.read()).toMatchObject([{ kind: "event", ioasid: parent, child: tracker, ipa: 0x19000n }]);
  });
});

it("a page that a space lacks which wants no requests is an event of that space, whatever the ioasid of all PASIDs wants", async () => {
  const { fd, device, root, pages, view } = await machine(VTD);
  const tracker = fd.allocIoasidPgtable({ parent: root, addr: pages.root, format: VTD.pgtable, pageRequests: false });
  device.attachIoasid({ ioasid: tracker, flags, userPasid: 5 });
  const reason = await view(5).read(IOVA, Number(2n * K4)).then(() => "done", (error: unknown) => (error as DmaFault).reason);
  expect(reason).toBe("page-request-invalid");
  const record = { kind: "event", ioasid: tracker, child: null, pasid: 5, reason: "not-present" };
  expect(fd.faults.read()).toMatchObject([{ ...record, iova: IOVA }, { ...record, iova: IOVA + K4 }]);
});
