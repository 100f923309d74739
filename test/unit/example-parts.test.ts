// The parts of the examples: the device that copies memory, and the guest's tables, which the decoders of configuration structures read.
import { describe, expect, it } from "vitest";
import { completion, CopyDevice, descriptor, DONE, REFUSED, UNKNOWN } from "../../examples/lib/copy-device.mjs";
import { ContextDescriptors, FaultHandler, GuestPages as Pages, GuestProcess, GuestRam, Gcr3Table, READ, VtdPasidTable } from "../../examples/lib/guest.mjs";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { IOASID_ATTACH_USER_PASID, IOASID_PAGE_RESPONSE_INVALID, IOASID_PAGE_RESPONSE_SUCCESS } from "../../src/index.js";
import { contextDescriptor } from "../../src/iommu/structures/smmuv3-cd.js";
import { pasidEntry } from "../../src/iommu/structures/vtd-pasid.js";
import { childOf, gpaSpace, GuestPages, HVA, spaces } from "./space-host.js";

const PASID = 5;
const flags = IOASID_ATTACH_USER_PASID;
const IOMMUS = [{ preset: "vtd-scalable", stage: 2 } as const];

/** dev1 takes ENQCMD; a process of the guest has PASID 5, and pages at 0x1000 (source), 0x2000 (target, read-only at 0x3000). */
async function machine(room?: number) {
  const it = await gpaSpace({ iommus: IOMMUS, devices: [{ name: "dev1", rid: 8, enqcmd: true }] });
  const pages = new GuestPages(it.host, FORMAT_X86_64);
  const process = new GuestProcess(pages);
  const [source, target] = [process.populate(0x1000n), process.populate(0x2000n)];
  process.populate(0x3000n, READ);
  const gva = it.fd.createNesting({ parent: it.gpa });
  it.devs[0]!.attachIoasid({ ioasid: gva, flags, userPasid: PASID });
  it.fd.bindPgtable({ ioasid: gva, addr: pages.root, format: pages.format });
  const handler = new FaultHandler(
    ({ ioasid, device, pasid }) => (ioasid === gva && device === it.labels[0] && pasid === PASID ? process : undefined),
    (cookie, success) => it.fd.pageResponse({ cookie, code: success ? IOASID_PAGE_RESPONSE_SUCCESS : IOASID_PAGE_RESPONSE_INVALID }),
  );
  it.fd.faults.onRecord = (record) => handler.handle(record);
  const device = new CopyDevice(it.host.device("dev1"), room === undefined ? {} : { room });
  const ram = pages.ram;
  for (let n = 0; n < 64; n++) ram.bytes(source, 64)[n] = n;
  return { ...it, device, ram, source, target, process, done: (at = 0xf00n) => completion(ram.bytes(target + at, 32)) };
}

const COPY = { source: 0x1000n, destination: 0x2000n, length: 64, completion: 0x2f00n, tag: 77n };

describe("the device that copies memory", () => {
  it("does work that ENQCMD brings, with its PASID, and reports it", async () => {
    const { host, device, ram, target, done } = await machine();
    const kvm = host.open("/dev/kvm");
    expect(kvm.enqcmd({ name: "dev1" }, PASID, descriptor(COPY))).toEqual({ accepted: false, why: "no-portal" });
    device.openPortal();
    expect(kvm.enqcmd({ name: "dev1" }, PASID, descriptor(COPY))).toEqual({ accepted: true });
    expect(done().status).toBe(0);
    await device.idle();
    expect(done()).toEqual({ status: DONE, copied: 64n, refused: 0n, tag: 77n });
    expect([...ram.bytes(target, 64)]).toEqual(Array.from({ length: 64 }, (_, n) => n));
    device.closePortal();
    expect(kvm.enqcmd({ name: "dev1" }, PASID, descriptor(COPY)).accepted).toBe(false);
  });

  it("takes as much as it has room for", async () => {
    const { device, done } = await machine(2);
    const taken = [0, 1, 2].map((n) => device.doorbell(descriptor({ ...COPY, completion: 0x2f00n + BigInt(n) * 32n }), PASID));
    expect(taken).toEqual([true, true, false]);
    await device.idle();
    expect([0xf00n, 0xf20n, 0xf40n].map((at) => done(at).status)).toEqual([DONE, DONE, 0]);
    expect(device.doorbell(descriptor(COPY), PASID)).toBe(true);
    await device.idle();
  });

  it("tells what was refused, what it does not know, and counts what it can tell nobody", async () => {
    const { device, done } = await machine();
    const run = async (work: Partial<typeof COPY> & { operation?: number }, pasid?: number): Promise<void> => {
      expect(device.doorbell(descriptor({ ...COPY, ...work }), pasid)).toBe(true);
      await device.idle();
    };
    await run({ destination: 0x3000n }, PASID);
    expect(done()).toEqual({ status: REFUSED, copied: 0n, refused: 0x3000n, tag: 77n });
    await run({ source: 0n, length: 8192 }, PASID);
    expect(done()).toMatchObject({ status: REFUSED, copied: 0n, refused: 0n });
    await run({ source: 0x1000n, destination: 0x2000n, length: 4096 + 64 }, PASID);
    expect(done()).toMatchObject({ status: REFUSED, copied: 4096n, refused: 0x3000n });
    await run({ operation: 9 }, PASID);
    expect(done()).toMatchObject({ status: UNKNOWN, copied: 0n });
    expect(device.lost).toBe(0);
    await run({ completion: 0x9000n }, PASID);
    await run({}, PASID + 1);
    expect(device.lost).toBe(2);
  });
});

describe("the guest's fault handler", () => {
  it("answers groups: with success if every page of them can be made", async () => {
    const { process } = await machine();
    process.reserve(0x10000n, 0x11fffn);
    const answers: [number, boolean][] = [];
    const handler = new FaultHandler(({ pasid }) => (pasid === PASID ? process : undefined), (cookie, success) => answers.push([cookie, success]));
    const ask = (cookie: number, iova: bigint, last: boolean, pasid = PASID) => handler.handle({ kind: "request", cookie, iova, access: "w", last, pasid });
    ask(1, 0x10000n, false);
    ask(2, 0x11000n, false);
    expect(answers).toEqual([]);
    ask(2, 0x12000n, false);
    ask(1, 0x11000n, true);
    ask(2, 0x10000n, true);
    ask(3, 0x10000n, true, PASID + 1);
    handler.handle({ kind: "overflow", dropped: 3 });
    handler.handle({ kind: "event", iova: 0x10000n });
    expect(answers).toEqual([[1, true], [2, false], [3, false]]);
  });

  it("lets a device go on that asks for its pages", async () => {
    const { device, process, ram, source, done } = await machine();
    process.reserve(0x10000n, 0x13fffn);
    ram.bytes(source + 0xfc0n, 64).fill(7);
    expect(device.doorbell(descriptor({ ...COPY, source: 0x1fc0n, destination: 0x10fe0n, length: 64 }), PASID)).toBe(true);
    await device.idle();
    expect(done()).toEqual({ status: DONE, copied: 64n, refused: 0n, tag: 77n });
    const at = (iova: bigint) => ram.bytes((process.pages.entry(iova) & 0xffff_f000n) + (iova & 0xfffn), 32);
    expect([...at(0x10fe0n), ...at(0x11000n)]).toEqual(Array.from({ length: 64 }, () => 7));
    device.doorbell(descriptor({ ...COPY, destination: 0x14000n }), PASID);
    await device.idle();
    expect(done()).toMatchObject({ status: REFUSED, refused: 0x14000n });
  });
});

describe("the guest", () => {
  it("makes the pages of its processes when they are touched, as far as they are theirs", async () => {
    const { process } = await machine();
    process.reserve(0x10000n, 0x11fffn);
    process.reserve(0x20000n, 0x20fffn, READ);
    const touched = [[0x10008n, "r"], [0x11ff8n, "w"], [0x12000n, "r"], [0x20000n, "r"], [0x20000n, "w"]] as const;
    expect(touched.map(([iova, access]) => process.touch(iova, access))).toEqual([true, true, false, true, false]);
    const entry = process.pages.entry(0x10000n);
    expect(entry & 3n).toBe(3n);
    expect(process.touch(0x10ff0n, "w")).toBe(true);
    expect(process.pages.entry(0x10000n)).toBe(entry);
    expect([process.pages.entry(0x12000n), process.pages.entry(0x20000n) & 3n]).toEqual([0n, 1n]);
  });

  it("gives memory out once, aligned and zeroed", async () => {
    const { host } = await spaces();
    const ram = new GuestRam(host, { hva: HVA, first: 0x3000n });
    ram.bytes(0x3000, 0x20000).fill(0xff);
    expect([ram.take(), ram.take(0x4000n), ram.take()]).toEqual([0x3000n, 0x4000n, 0x8000n]);
    expect([ram.bytes(0x3000, 0x6000).some(Boolean), ram.bytes(0x9000, 1)[0]]).toEqual([false, 0xff]);
    expect(() => ram.bytes(1n << 40n, 8)).toThrow(/EFAULT/);
  });

  /** RAM, and what reads it as an IOMMU does whose second stage maps everything to itself. */
  async function tables() {
    const { host } = await spaces();
    const ram = new GuestRam(host, { hva: HVA });
    return { ram, memory: { read64: (gpa: bigint) => ram.words(gpa)[0] } };
  }

  it("keeps VT-d's directory and tables of PASIDs", async () => {
    const { ram, memory } = await tables();
    const table = new VtdPasidTable(ram, 14);
    const [four, five] = [new Pages(ram), new Pages(ram, "x86-64", 5)];
    const unit = { haw: 40, firstStage: true, fiveLevels: true, pasidBits: 14, secondStage: true, nested: true } as Parameters<typeof pasidEntry>[3];
    const look = (pasid: number) => pasidEntry(memory, table.addr, pasid, unit, []);
    expect(look(100)).toMatchObject({ reason: "pasid-dir-entry-not-present" });
    const written = table.set(100, four);
    table.set(0x3fff, five);
    expect(written).toEqual([{ gpa: table.addr + 8n, length: 8 }, { gpa: expect.any(BigInt), length: 24 }]);
    expect(ram.words(written[1]!.gpa, 3)[2]).toBe(four.root);
    expect(look(100)).toMatchObject({ entry: { kind: "first", firstLevels: 4, firstTable: four.root } });
    expect(look(0x3fff)).toMatchObject({ entry: { kind: "first", firstLevels: 5, firstTable: five.root } });
    expect(look(101)).toMatchObject({ reason: "pasid-entry-not-present" });
    table.clear(100);
    expect(look(100)).toMatchObject({ reason: "pasid-entry-not-present" });
  });

  it.each([["linear", 0], ["two-level-4k", 1], ["two-level-64k", 2]] as const)("keeps context descriptors: %s", async (layout, format) => {
    const { ram, memory } = await tables();
    const table = new ContextDescriptors(ram, layout, 12);
    const pages = new Pages(ram, "aarch64-stage1");
    const unit = { aarch64: true, abortOnly: true, stallModel: 1, httu: 0, ttendian: 2, outputWidth: 48, granules: [12], hierarchicalAttributeDisable: true } as unknown as Parameters<typeof contextDescriptor>[2];
    const fetch = (address: bigint) => ({ word: memory.read64(address) ?? 0n });
    const look = (pasid: number) => contextDescriptor({ pointer: table.addr, substreamBits: 12, format, defaultSubstream: 0 }, pasid, unit, fetch, []);
    table.set(3, pages);
    table.set(4095, pages);
    for (const pasid of [3, 4095]) {
      expect(look(pasid)).toMatchObject({ context: { lower: { guestRoot: pages.root, width: 48, levels: 4 }, record: true } });
      expect((look(pasid) as { context: object }).context).not.toHaveProperty("upper");
    }
    expect(look(4)).toMatchObject({ event: "C_BAD_CD" });
    expect(table.clear(3)).toEqual([{ gpa: expect.any(BigInt), length: 8 }]);
    expect(look(3)).toMatchObject({ event: "C_BAD_CD" });
  });

  it.each([1, 2, 3] as const)("keeps %i levels of GCR3 tables, each of which takes 9 bits of a PASID", async (levels) => {
    const { ram } = await tables();
    const table = new Gcr3Table(ram, levels);
    const pages = new Pages(ram);
    const pasid = 0x2a5b3 & ((1 << (9 * levels)) - 1);
    const look = () => [...Array(levels).keys()].reverse().reduce((at, level) => {
      const word = ram.words((at & ~0xfffn) + BigInt((pasid >> (9 * level)) & 511) * 8n)[0]!;
      return (at & 1n) === 1n ? word : 0n;
    }, table.addr | 1n);
    expect(look()).toBe(0n);
    expect(table.set(pasid, pages)).toHaveLength(levels);
    expect(look()).toBe(pages.root | 1n);
    expect(table.clear(pasid)).toHaveLength(1);
    expect(look()).toBe(0n);
  });

  it("has Arm tables that its IOMMU walks, pages and blocks", async () => {
    const it = await gpaSpace({ iommus: [{ preset: "smmuv3", stage: 2 }] });
    const pages = new Pages(new GuestRam(it.host, { hva: HVA }), "aarch64-stage1");
    pages.map(0x5000n, 0x7000n);
    pages.map(0x6000n, 0x7000n, READ);
    pages.map(1n << 30n, 0n, READ, 1);
    const ioasid = childOf(it, it.gpa);
    it.fd.bindPgtable({ ioasid, addr: pages.root, format: pages.format });
    expect([it.dma(2, 0x5008n, "w"), it.dma(2, 0x6008n), it.dma(2, 0x6008n, "w"), it.dma(2, (1n << 30n) + 0x1234n)]).toEqual([0x7008n, 0x7008n, "write-denied", 0x1234n]);
  });
});
