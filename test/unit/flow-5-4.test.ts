// Flow 5.4 of the RFC, a guest's table nested in hardware, typed in line by line, on each IOMMU that can; then what the guest
// changes in its table, and what its invalidations make of it.
import { describe, expect, it } from "vitest";
import {
  IOASID_BIND_PGTABLE, IOASID_CREATE_NESTING, IOASID_INVALIDATE_CACHE, IOASID_INVALIDATE_RANGE, type IommuOptions, type PgtableFormat,
  VFIO_ATTACH_IOASID,
} from "../../src/index.js";
import { FORMAT_ARM_S1_4K, FORMAT_X86_64 } from "../../src/engine/layout.js";
import { childOf, GB, gpaSpace, GuestPages, HVA, K4, M2, R } from "./space-host.js";

const X86: PgtableFormat = { kind: "x86-64", levels: 4 };
const ARM: PgtableFormat = { kind: "aarch64-stage1", granule: 4096, inputWidth: 48 };
const CASES: [name: string, iommu: IommuOptions, format: PgtableFormat, layout: number][] = [
  ["VT-d in scalable mode", { preset: "vtd-scalable", stage: 2 }, X86, FORMAT_X86_64],
  ["SMMUv3", { preset: "smmuv3", stage: 2 }, ARM, FORMAT_ARM_S1_4K],
  ["AMD-Vi", { preset: "amd" }, X86, FORMAT_X86_64],
];

/** The mail's lines after boot, in its order; the guest's table maps GIOVA 0x2000 to GPA 0x1000. */
async function flow(iommu: IommuOptions, format: PgtableFormat, layout: number, nested = false) {
  const it = await gpaSpace({ iommus: [iommu] });
  const { host: { ioctl }, fd: ioasid_fd, devs: [, device_fd2] } = it;
  const table = new GuestPages(it.host, layout);
  const giova_pgtable = table.root;
  table.map(0x2000n, 0x1000n);
  // The parent's addresses are the GPAs, in a nested parent too.
  const gpa_ioasid = nested ? childOf(it, it.gpa) : it.gpa;
  if (nested) it.map(gpa_ioasid, 0, 0, GB / 2n);

  /* Make GIOVA space nested on GPA space */
  const giova_ioasid = ioctl(ioasid_fd, IOASID_CREATE_NESTING, gpa_ioasid);

  /* Attach dev2 to the new address space (child). Note dev2 is still attached to gpa_ioasid (parent) */
  const at_data = { ioasid: giova_ioasid };
  ioctl(device_fd2!, VFIO_ATTACH_IOASID, at_data);

  /* Bind guest I/O page table  */
  const bind_data = {
    ioasid: giova_ioasid,
    addr: giova_pgtable,
    format, // and format information
  };
  ioctl(ioasid_fd, IOASID_BIND_PGTABLE, bind_data);
  return { ...it, ioctl, table, giova: giova_ioasid, parent: gpa_ioasid };
}

describe.each(CASES)("flow 5.4 on %s", (_name, ...machine) => {
  const [, format] = machine;

  it("walks the guest's table for dev2, and leaves dev1 as it was", async () => {
    const { dma, host } = await flow(...machine);
    expect([dma(2, 0x2000, "w"), dma(2, 0x2fff), dma(2, 0x1000), dma(2, 0x3000)]).toEqual([0x1000n, 0x1fffn, "not-present", "not-present"]);
    expect(dma(1, 0x2000, "w")).toBe(0x2000n);
    host.device("dev2").dma().writeSync(0x2010n, Uint8Array.of(7));
    expect(host.process.bytes(HVA + 0x1010n, 1)[0]).toBe(7);
  });

  it("charges the parent alone, and says which table is bound", async () => {
    const { info, gpa, giova, host, table } = await flow(...machine);
    expect(host.process.locked).toBe(GB);
    expect(info(gpa).locked).toBe(GB);
    expect(info(giova)).toMatchObject({
      kind: "hardware-nested", parent: gpa, locked: 0n, mappings: 0, format: format.kind, pgtable: { addr: table.root, format },
    });
  });

  it("sees a change of the guest's table after IOASID_INVALIDATE_CACHE of everything", async () => {
    const { dma, table, ioctl, fd, giova } = await flow(...machine);
    expect(dma(2, 0x2000)).toBe(0x1000n);
    table.map(0x2000n, 0x7000n);
    // Seen or not: either is right before the guest has asked.
    expect([0x1000n, 0x7000n]).toContain(dma(2, 0x2000));
    expect(ioctl(fd, IOASID_INVALIDATE_CACHE, giova)).toEqual({ handled: 1 });
    expect(dma(2, 0x2000)).toBe(0x7000n);
    table.clear(0x2000n);
    ioctl(fd, IOASID_INVALIDATE_CACHE, { ioasid: giova });
    expect(dma(2, 0x2000)).toBe("not-present");
  });

  it("sees a change after the invalidation of a range, large pages among it", async () => {
    const { dma, table, ioctl, fd, giova } = await flow(...machine);
    for (const n of [0n, 1n, 2n, 3n]) table.map(0x4000n + n * K4, 0x4000n + n * K4);
    table.map(2n * M2, 4n * M2, R, 1);
    const before = dma(2, 2n * M2 + 0x5000n);
    expect(before).toBe(dma(1, 4n * M2 + 0x5000n));
    for (const n of [0n, 1n, 2n, 3n]) dma(2, 0x4000n + n * K4);
    for (const n of [1n, 2n]) table.map(0x4000n + n * K4, 0xa000n + n * K4, R);
    table.map(2n * M2, 6n * M2, R, 1);
    const range = { granularity: IOASID_INVALIDATE_RANGE, iova: 0x5000, size: 0x2000 };
    expect(ioctl(fd, IOASID_INVALIDATE_CACHE, { ioasid: giova, entries: [range, { ...range, iova: 2n * M2, size: M2 }] })).toEqual({ handled: 2 });
    expect([0n, 1n, 2n, 3n].map((n) => dma(2, 0x4000n + n * K4))).toEqual([0x4000n, 0xb000n, 0xc000n, 0x7000n]);
    expect(dma(2, 0x5000, "w")).toBe("write-denied");
    expect(dma(2, 2n * M2 + 0x5000n)).toBe(dma(1, 6n * M2 + 0x5000n));
  });

  it("is checked by the parent: what it does not map or permit faults at stage 2, from the unmap on without invalidation", async () => {
    const { dma, table, unmap, map, gpa } = await flow(...machine);
    table.map(0x3000n, 4n * GB);
    expect(dma(2, 0x3000)).toBe("not-present");
    expect(dma(2, 0x2000)).toBe(0x1000n);
    unmap(gpa, 0, GB);
    expect(dma(2, 0x2000)).toBe("not-present");
    map(gpa, 0, HVA, 0x1000);
    map(gpa, 0x1000, HVA + 0x9000n, 0x1000, R);
    map(gpa, table.root, HVA + table.root, 0x10000);
    expect([dma(2, 0x2000), dma(2, 0x2000, "w")]).toEqual([0x9000n, "write-denied"]);
  });

  it("has the parent's shadow as second stage when the parent is nested itself", async () => {
    const { dma, gpa, parent, unmap, map } = await flow(...machine, true);
    expect(parent).not.toBe(gpa);
    expect(dma(2, 0x2000, "w")).toBe(0x1000n);
    // The grandparent gives the page other memory: seen through the parent's shadow, without invalidation.
    unmap(gpa, 0, GB);
    expect(dma(2, 0x2000)).toBe("not-present");
    map(gpa, 0x1000, HVA + 0x8000n);
    map(gpa, 0x100000, HVA + 0x100000n, 0x10000);
    expect([dma(2, 0x2000), dma(1, 0x1000)]).toEqual([0x8000n, 0x8000n]);
    unmap(parent, 0, GB / 2n);
    expect([dma(2, 0x2000), dma(1, 0x1000)]).toEqual(["not-present", 0x8000n]);
  });
});
