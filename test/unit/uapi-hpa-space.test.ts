// Host-physical addresses: RAM first fit and aligned where that is possible, device ranges, windows of zeros from the top.
import { describe, expect, it } from "vitest";
import { HpaSpace } from "../../src/uapi/hpa-space.js";

const LAST = 2 ** 20 - 1;
const ram = (firstPage: number, pages: number, offset = firstPage * 4096) =>
  ({ hpa: BigInt(firstPage) * 4096n, size: BigInt(pages) * 4096n, offset });

describe("RAM", () => {
  it("is placed at a multiple of its size rounded down to a power of two, in the first range that fits", () => {
    const space = new HpaSpace([ram(3, 29)], LAST);
    expect(space.takeRam(8)?.page).toBe(8);
    expect(space.takeRam(1)?.page).toBe(3);
    expect(space.takeRam(5)?.page).toBe(16);
    expect(space.takeRam(4)?.page).toBe(4);
  });

  it("gives all of a range that cannot be aligned", () => {
    const space = new HpaSpace([ram(3, 29, 0x40000)], LAST);
    expect(space.takeRam(29)).toEqual({ page: 3, offset: 0x40000 });
    expect(space.takeRam(1)).toBeUndefined();
    expect(space.freeRam).toBe(0n);
  });

  it("is whole again once everything came back, in any order", () => {
    for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]]) {
      const space = new HpaSpace([ram(0, 24)], LAST);
      const taken = [8, 8, 8].map((pages) => space.takeRam(pages)!);
      for (const i of order) space.giveRam(taken[i]!.page, 8, taken[i]!.offset);
      expect(space.takeRam(24)).toEqual({ page: 0, offset: 0 });
    }
  });

  it("does not join neighbours whose bytes are apart", () => {
    const space = new HpaSpace([ram(0, 4, 0x10000), ram(4, 4, 0x90000)], LAST);
    const [a, b] = [space.takeRam(4)!, space.takeRam(4)!];
    expect([a.offset, b.offset]).toEqual([0x10000, 0x90000]);
    space.giveRam(b.page, 4, b.offset);
    space.giveRam(a.page, 4, a.offset);
    expect(space.takeRam(8)).toBeUndefined();
    expect(space.freeRam).toBe(8n * 4096n);
  });
});

describe("slots", () => {
  it("of devices may not touch RAM or each other, and can be taken again after their release", () => {
    const space = new HpaSpace([ram(0, 16)], LAST);
    expect(space.claim(15, 2)).toMatchObject({ first: 0, last: 15 });
    expect(space.claim(16, 4)).toBeUndefined();
    expect(space.claim(19, 1)).toMatchObject({ first: 16, last: 19 });
    space.release(16);
    expect(space.claim(19, 1)).toBeUndefined();
  });

  it("of zeros come from the top down, aligned, around what is taken, and never beyond what the IOMMUs can put out", () => {
    const space = new HpaSpace([ram(0, 16)], LAST);
    expect(space.takeTop(256)).toBe(LAST + 1 - 256);
    expect(space.claim(LAST - 300, 1)).toBeUndefined();
    expect(space.takeTop(64)).toBe(LAST + 1 - 384);
    space.release(LAST + 1 - 256);
    expect(space.takeTop(256)).toBe(LAST + 1 - 256);
    expect(space.takeTop(LAST + 1)).toBeUndefined();
    expect(space.claim(LAST + 100, 1)).toBeUndefined();
    expect(space.takeTop(1)).toBe(LAST - 256);
  });
});
