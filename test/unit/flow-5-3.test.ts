// Flow 5.3 of the RFC, a space nested in software, typed in line by line; then changes of the parent under the child.
import { beforeEach, describe, expect, it } from "vitest";
import { IOASID_CREATE_NESTING, IOASID_DMA_MAP, IOASID_DMA_MAP_FLAG_READ, VFIO_ATTACH_IOASID, VFIO_DETACH_IOASID } from "../../src/index.js";
import { GB, gpaSpace, HVA, K4, M2, RAM } from "./space-host.js";

let machine: Awaited<ReturnType<typeof gpaSpace>>;
beforeEach(async () => (machine = await gpaSpace()));

/** The mail's lines after boot, in its order. */
function flow() {
  const { host: { ioctl }, fd: ioasid_fd, devs: [, device_fd2], gpa: gpa_ioasid } = machine;

  /* Make GIOVA space nested on GPA space */
  const giova_ioasid = ioctl(ioasid_fd, IOASID_CREATE_NESTING, gpa_ioasid);

  /* Attach dev2 to the new address space (child). Note dev2 is still attached to gpa_ioasid (parent) */
  const at_data = { ioasid: giova_ioasid };
  ioctl(device_fd2!, VFIO_ATTACH_IOASID, at_data);

  /* Setup a GIOVA->GPA mapping for giova_ioasid, which will be merged by the kernel with GPA->HVA mapping of gpa_ioasid */
  const dma_map = {
    ioasid: giova_ioasid,
    iova: 0x2000, // GIOVA
    vaddr: 0x1000, // GPA
    size: K4,
  };
  ioctl(ioasid_fd, IOASID_DMA_MAP, dma_map);
  return { ...machine, giova: giova_ioasid, at_data, ioctl };
}

describe("flow 5.3", () => {
  it("merges GIOVA to GPA with GPA to HVA for dev2, and leaves dev1 as it was", () => {
    const { dma, host } = flow();
    expect([dma(2, 0x2000, "w"), dma(2, 0x2fff), dma(2, 0x1000), dma(2, 0x3000), dma(2, 0)]).toEqual([
      0x1000n, 0x1fffn, "not-present", "not-present", "not-present",
    ]);
    expect([dma(1, 0x2000, "w"), dma(1, 0x1000)]).toEqual([0x2000n, 0x1000n]);
    host.device("dev2").dma().writeSync(0x2010n, Uint8Array.of(1, 2, 3));
    expect([...host.process.bytes(HVA + 0x1010n, 3)]).toEqual([1, 2, 3]);
  });

  it("charges the parent alone, though nothing is registered", () => {
    const { info, gpa, giova, host } = flow();
    expect(host.process.locked).toBe(GB);
    expect(info(gpa)).toMatchObject({ kind: "kernel", locked: GB, children: [giova], devices: ["dev1", "dev2"] });
    expect(info(giova)).toMatchObject({ kind: "software-nested", parent: gpa, locked: 0n, lockedTotal: GB, mappings: 1, devices: ["dev2"] });
  });

  it("falls back to the parent when dev2 leaves the child, and finds the map again when it returns", () => {
    const { ioctl, devs, dma, at_data } = flow();
    ioctl(devs[1]!, VFIO_DETACH_IOASID, at_data);
    expect([dma(2, 0x2000), dma(2, GB - 1n)]).toEqual([0x2000n, dma(1, GB - 1n)]);
    ioctl(devs[1]!, VFIO_ATTACH_IOASID, at_data);
    expect([dma(2, 0x2000), dma(2, 0x1000)]).toEqual([0x1000n, "not-present"]);
  });

  it("faults from the parent's unmap on, and translates again once the parent is mapped, to where it is then", () => {
    const { dma, unmap, map, gpa, giova, info } = flow();
    unmap(gpa, 0, GB);
    expect([dma(2, 0x2000), dma(1, 0x1000)]).toEqual(["not-present", "not-present"]);
    expect(info(giova).mappings).toBe(1);
    map(gpa, 0x1000, HVA + 0x5000n);
    expect([dma(2, 0x2000, "w"), dma(2, 0x2fff)]).toEqual([0x5000n, 0x5fffn]);
  });

  it("follows the parent to another permission and back", () => {
    const { dma, unmap, map, gpa } = flow();
    unmap(gpa, 0, GB);
    map(gpa, 0, HVA, GB, IOASID_DMA_MAP_FLAG_READ);
    expect([dma(2, 0x2000, "r"), dma(2, 0x2000, "w")]).toEqual([0x1000n, "write-denied"]);
    unmap(gpa, 0, GB);
    map(gpa, 0, HVA, GB);
    expect(dma(2, 0x2000, "w")).toBe(0x1000n);
  });

  it("loses exactly the part of an area of which one of several parent areas is unmapped", () => {
    const { dma, unmap, map, gpa, giova } = flow();
    unmap(gpa, 0, GB);
    for (const n of [0n, 1n, 2n]) map(gpa, 0x10000n + n * 0x2000n, HVA + 0x10000n + n * 0x2000n, 0x2000n);
    map(giova, 0x100000, 0x10000, 0x6000);
    const pages = () => [0n, 1n, 2n, 3n, 4n, 5n].map((n) => dma(2, 0x100000n + n * K4));
    const whole = [0x10000n, 0x11000n, 0x12000n, 0x13000n, 0x14000n, 0x15000n];
    expect(pages()).toEqual(whole);
    unmap(gpa, 0x12000, 0x2000);
    expect(pages()).toEqual([0x10000n, 0x11000n, "not-present", "not-present", 0x14000n, 0x15000n]);
    map(gpa, 0x13000, HVA + 0x3000n);
    expect(pages()).toEqual([0x10000n, 0x11000n, "not-present", 0x3000n, 0x14000n, 0x15000n]);
    map(gpa, 0x12000, HVA + 0x12000n);
    expect(pages()).toEqual([0x10000n, 0x11000n, 0x12000n, 0x3000n, 0x14000n, 0x15000n]);
  });

  it("gives the child large leaves where the parent has them", () => {
    const { host, giova, map, dma, devs } = flow();
    map(giova, 4n * M2, 2n * M2, 2n * M2);
    expect(dma(2, 4n * M2 + 5n)).toBe(dma(1, 2n * M2 + 5n));
    const { domain } = devs[1]!.device.attached!;
    expect(host.engine.leafRuns(domain!.index, 4n * M2, 6n * M2 - 1n).map(({ lg2 }) => lg2)).toEqual([21]);
    expect(host.engine.leafRuns(domain!.index, 0x2000n, 0x2fffn)).toMatchObject([{ hpa: RAM + 0x1000n, lg2: 12 }]);
  });
});
