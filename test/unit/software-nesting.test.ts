// Spaces nested on others by maps: what a child's map lands on, at any depth, and what each change of an ancestor makes of it.
import { describe, expect, it } from "vitest";
import { type IommuOptions, type LeafRun } from "../../src/index.js";
import { childOf, GB, HVA, K4, M2, R, RAM, RW, spaces, type Spaces, W } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

/** A root with all devices; nothing is mapped. */
async function machine(iommu: IommuOptions = {}, count = 2) {
  const it = await spaces({ iommus: [iommu], count });
  const root = it.fd.alloc();
  for (const dev of it.devs) dev.attachIoasid({ ioasid: root });
  return { ...it, root };
}

const pages = (n: number): bigint[] => Array.from({ length: n }, (_, i) => BigInt(i) * K4);
const landings = ({ dma }: Spaces, device: number, from: bigint, n: number) => pages(n).map((at) => dma(device, from + at));

/** The leaves of a space's table. */
function leaves(it: Spaces, device: number, ioasid: number, first = 0n, last = 4n * GB - 1n): LeafRun[] {
  let space = it.devs[device - 1]!.device.attached!;
  while (space.number !== ioasid) space = space.parent!;
  return it.host.engine.leafRuns(space.domain!.index, first, last);
}

describe("a chain of spaces", () => {
  it("of any depth translates through all of them, each device at its own depth", async () => {
    const depth = 6;
    const it = await machine({}, depth + 1);
    it.map(it.root, 0, HVA, 0x10000);
    const chain = [it.root];
    for (let n = 1; n <= depth; n++) {
      // Each level moves its addresses by 16 MiB, and reaches one page less.
      const devices = Array.from({ length: depth + 1 - n }, (_, i) => n + 1 + i);
      chain.push(childOf(it, chain.at(-1)!, devices));
      const from = BigInt(n - 1) << 24n;
      it.map(chain[n]!, BigInt(n) << 24n, n === 1 ? K4 : from + K4 * BigInt(n), 0x10000n - K4 * BigInt(n));
    }
    for (let n = 0; n <= depth; n++) {
      const start = BigInt(n) << 24n;
      const offset = K4 * BigInt((n * (n + 1)) / 2);
      expect(it.dma(n + 1, start)).toBe(offset < 0x10000n ? offset : "not-present");
    }
    it.unmap(it.root, 0, 0x10000);
    for (let n = 0; n <= depth; n++) expect(it.dma(n + 1, BigInt(n) << 24n)).toBe("not-present");
    it.map(it.root, 0x3000, HVA + 0x8000n);
    // 0x3000 of the root is the first page of the second level.
    expect([it.dma(1, 0x3000), it.dma(2, (1n << 24n) + 0x2000n), it.dma(3, 2n << 24n)]).toEqual([0x8000n, 0x8000n, 0x8000n]);
  });

  it("permits what every level permits", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    const grandchild = childOf(it, child);
    const rights = [R, W, RW];
    let page = 0n;
    for (const top of rights) for (const middle of rights) for (const low of rights) {
      const at = page++ * K4;
      it.map(it.root, at, HVA + at, K4, top);
      it.map(child, at, at, K4, middle);
      it.map(grandchild, at, at, K4, low);
      const both = top & middle & low;
      const none = both === 0 ? "not-present" : undefined;
      expect([it.dma(2, at, "r"), it.dma(2, at, "w")]).toEqual([
        both & R ? at : none ?? "read-denied", both & W ? at : none ?? "write-denied",
      ]);
    }
  });

  it("is extended below a map that is there already, and above one that waits", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    const grandchild = childOf(it, child);
    it.map(grandchild, 0x5000, 0x6000);
    it.map(child, 0x6000, 0x7000);
    expect(it.dma(2, 0x5000)).toBe("not-present");
    it.map(it.root, 0x7000, HVA);
    expect(it.dma(2, 0x5000, "w")).toBe(0n);
    it.unmap(child, 0x6000);
    expect(it.dma(2, 0x5000)).toBe("not-present");
    it.map(child, 0x4000, 0x7000, 0x1000);
    it.map(child, 0x6000, 0x7000, 0x1000, R);
    expect([it.dma(2, 0x5000), it.dma(2, 0x5000, "w")]).toEqual([0n, "write-denied"]);
  });
});

describe("an area of a child", () => {
  it("may span several parent maps, holes, and other rights, page by page", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    it.map(it.root, 0x1000, HVA + 0x8000n);
    it.map(it.root, 0x2000, HVA + 0x3000n, 0x2000, R);
    it.map(it.root, 0x5000, HVA, 0x1000, W);
    it.map(child, 0x100000, 0, 0x7000);
    expect(landings(it, 2, 0x100000n, 7)).toEqual(["not-present", 0x8000n, 0x3000n, 0x4000n, "not-present", "read-denied", "not-present"]);
    expect(it.dma(2, 0x102000, "w")).toBe("write-denied");
    expect(it.dma(2, 0x105000, "w")).toBe(0n);
    expect(it.info(child)).toMatchObject({ mappings: 1, locked: 0n });
    expect(it.unmap(child, 0x100000, 0x7000)).toBe(0x7000n);
    expect(landings(it, 2, 0x100000n, 7)).toEqual(pages(7).map(() => "not-present"));
  });

  it("follows exactly the pages of the parent that change, seen in every other one's leaves", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    for (const at of pages(16)) it.map(it.root, at, HVA + at);
    it.map(child, 0x100000, 0x4000, 0x8000);
    it.map(child, 0x200000, 0, 0x10000);
    for (const gone of [3n, 4n, 11n, 12n]) {
      it.unmap(it.root, gone * K4);
      const first = pages(8).map((at) => (at + 0x4000n === gone * K4 ? "not-present" : at + 0x4000n));
      const second = pages(16).map((at) => (at === gone * K4 ? "not-present" : at));
      expect([landings(it, 2, 0x100000n, 8), landings(it, 2, 0x200000n, 16)]).toEqual([first, second]);
      it.map(it.root, gone * K4, HVA + gone * K4);
    }
    expect(it.unmap(it.root, 0, 0x10000)).toBe(0x10000n);
    expect([...landings(it, 2, 0x100000n, 8), ...landings(it, 2, 0x200000n, 16)]).toEqual(pages(24).map(() => "not-present"));
  });

  it("may overlap others of its space on one parent page, each of its own right", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    it.map(child, 0x10000, 0x1000, 0x3000);
    it.map(child, 0x20000, 0x2000, 0x3000, R);
    it.map(child, 0x30000, 0x2000);
    it.map(child, 0x40000, 0x2000);
    const at = (access: "r" | "w") => [0x11000, 0x20000, 0x30000, 0x40000].map((iova) => it.dma(2, iova, access));
    it.map(it.root, 0x2000, HVA + 0x9000n);
    expect(at("r")).toEqual([0x9000n, 0x9000n, 0x9000n, 0x9000n]);
    expect(at("w")).toEqual([0x9000n, "write-denied", 0x9000n, 0x9000n]);
    it.unmap(child, 0x30000);
    expect(at("r")).toEqual([0x9000n, 0x9000n, "not-present", 0x9000n]);
    it.unmap(it.root, 0x2000);
    expect(at("r")).toEqual(Array(4).fill("not-present"));
    it.map(it.root, 0, HVA, 0x10000);
    expect(at("r")).toEqual([0x2000n, 0x2000n, "not-present", 0x2000n]);
  });

  it("is refused where the parent can never map: beyond its width, in its reserved ranges", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    for (const vaddr of [1n << 48n, 0xfee00000n, 0xfeeff000n]) {
      const error = refusal(() => it.map(child, 0, vaddr), "EINVAL", "vaddr");
      expect(error).toMatchObject({ value: vaddr, conflict: { kind: "ioasid", ioasid: it.root }, hint: expect.stringContaining("permitted are") });
    }
    expect(refusal(() => it.map(child, 0xfee00000n, 0), "EINVAL", "iova").conflict).toMatchObject({ kind: "reserved" });
    expect(it.info(child).mappings).toBe(0);
  });

  it("that was mapped before any device came, to where the parent can never map, ends the attach with EINVAL", async () => {
    const it = await spaces();
    const root = it.fd.alloc();
    const child = it.fd.createNesting({ parent: root });
    it.map(child, 0x5000, 0xfee00000n);
    it.devs[0]!.attachIoasid({ ioasid: root });
    const error = refusal(() => it.devs[0]!.attachIoasid({ ioasid: child }), "EINVAL", "ioasid");
    expect(error.conflict).toEqual({ kind: "mapping", ioasid: child, first: 0x5000n, last: 0x5fffn });
  });
});

describe("the shadow", () => {
  it("has no leaf that spans two of the parent's, though their memory is contiguous", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    for (const at of pages(512)) it.map(it.root, at, HVA + at);
    it.map(child, 0, 0, M2);
    expect(leaves(it, 2, child)).toEqual([{ first: 0n, last: M2 - 1n, hpa: RAM, perm: RW, lg2: 12 }]);
    it.unmap(it.root, 0x5000);
    expect(it.dma(2, 0x5000)).toBe("not-present");
    expect(leaves(it, 2, child)).toHaveLength(2);
  });

  it("has leaves as large as the parent's where both addresses permit it, smaller ones elsewhere", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    it.map(it.root, 0, HVA, GB);
    expect(leaves(it, 2, it.root).every(({ lg2 }) => lg2 >= 21)).toBe(true);
    it.map(child, M2, M2, M2);
    it.map(child, 4n * M2 + K4, 2n * M2, M2);
    const runs = leaves(it, 2, child);
    expect(runs.filter(({ first }) => first < 4n * M2)).toMatchObject([{ first: M2, last: 2n * M2 - 1n, lg2: 21 }]);
    expect(runs.filter(({ first }) => first > 4n * M2)).toMatchObject([{ lg2: 12 }]);
  });

  it.each([
    // The order in which root, child and grandchild get their map.
    [[0, 1, 2]], [[0, 2, 1]], [[1, 0, 2]], [[1, 2, 0]], [[2, 0, 1]], [[2, 1, 0]],
  ])("keeps to the parent's small leaves where its own address and the memory would fit a large one, in the order %j", async (order) => {
    const it = await machine();
    const child = childOf(it, it.root);
    const grandchild = childOf(it, child);
    // The root's addresses are a page off those of the memory, the child's are not.
    const maps = [() => it.map(it.root, K4, HVA, M2), () => it.map(child, 0, K4, M2), () => it.map(grandchild, 2n * M2, 0, M2)];
    for (const n of order) maps[n]!();
    for (const ioasid of [it.root, child, grandchild]) expect(leaves(it, 2, ioasid)).toMatchObject([{ hpa: RAM, lg2: 12 }]);
    expect(it.dma(2, 3n * M2 - 1n)).toBe(M2 - 1n);
    it.unmap(child, 0, M2);
    expect([leaves(it, 2, child), leaves(it, 2, grandchild), it.dma(2, 2n * M2)]).toEqual([[], [], "not-present"]);
  });

  it.each([
    ["map of the parent", true], ["map of the child", false],
  ])("is the same whichever comes last: here the %s", async (_which, parentLast) => {
    const it = await machine();
    const child = childOf(it, it.root);
    const grandchild = childOf(it, child);
    const steps = [
      () => {
        it.map(it.root, 0, HVA, 0x7000);
        it.map(it.root, 0x7000, HVA + 0x7000n, M2 - 0x7000n, R);
        it.map(it.root, M2, HVA + M2, 3n * M2);
      },
      () => it.map(child, M2, 0, 4n * M2),
      () => it.map(grandchild, 0, M2 + K4, 3n * M2),
    ];
    for (const step of parentLast ? steps.reverse() : steps) step();
    const parents = { child: leaves(it, 2, it.root), grandchild: leaves(it, 2, child) };
    const runs = { child: leaves(it, 2, child), grandchild: leaves(it, 2, grandchild) };
    expect(runs.child).toMatchObject([
      { first: M2, last: M2 + 0x6fffn, hpa: RAM, perm: RW, lg2: 12 },
      { first: M2 + 0x7000n, last: 2n * M2 - 1n, perm: R, lg2: 12 },
      { first: 2n * M2, last: 5n * M2 - 1n, perm: RW, lg2: 21 },
    ]);
    expect(runs.grandchild.map(({ first, last, lg2 }) => [first, last, lg2])).toEqual([
      [0n, 0x5fffn, 12], [0x6000n, M2 - 0x1001n, 12], [M2 - K4, 3n * M2 - 1n, 12],
    ]);
    for (const [space, target] of [["child", -M2], ["grandchild", M2 + K4]] as const) {
      for (const run of runs[space]) {
        const size = 1n << BigInt(run.lg2);
        for (let at = run.first; at < run.last; at += size) {
          const above = parents[space].find(({ first, last }) => first <= at + target && at + target <= last)!;
          const leaf = 1n << BigInt(above.lg2);
          expect((at + target) / leaf).toBe((at + target + size - 1n) / leaf);
        }
      }
    }
  });

  it("goes with the last device, and is built anew for the next from what the parent maps then", async () => {
    const it = await machine();
    const child = childOf(it, it.root);
    it.map(it.root, 0, HVA, 0x4000);
    it.map(child, 0x10000, 0, 0x4000);
    it.devs[1]!.detachIoasid({ ioasid: child });
    it.unmap(it.root, 0, 0x4000);
    it.map(it.root, 0x1000, HVA);
    it.devs[1]!.attachIoasid({ ioasid: child });
    expect(landings(it, 2, 0x10000n, 4)).toEqual(["not-present", 0n, "not-present", "not-present"]);
  });
});

describe("two children of one parent", () => {
  it("do not see each other, and both see the parent's change", async () => {
    const it = await machine({}, 3);
    const [one, two] = [childOf(it, it.root, [2]), childOf(it, it.root, [3])];
    it.map(it.root, 0, HVA, 0x4000);
    it.map(one, 0x10000, 0, 0x2000);
    it.map(two, 0x10000, 0x1000, 0x2000);
    expect([it.dma(2, 0x10000), it.dma(3, 0x10000)]).toEqual([0n, 0x1000n]);
    it.unmap(two, 0x10000, 0x2000);
    expect([it.dma(2, 0x11000), it.dma(3, 0x10000)]).toEqual([0x1000n, "not-present"]);
    it.map(two, 0x10000, 0x1000, 0x2000);
    it.unmap(it.root, 0, 0x4000);
    expect([it.dma(2, 0x11000), it.dma(3, 0x10000)]).toEqual(["not-present", "not-present"]);
    it.map(it.root, 0x1000, HVA + 0x7000n);
    expect([it.dma(1, 0x1000), it.dma(2, 0x11000), it.dma(3, 0x10000)]).toEqual([0x7000n, 0x7000n, 0x7000n]);
  });
});

describe.each([
  ["VT-d with a first stage", { preset: "vtd-scalable" }], ["SMMUv3 with stage 1", { preset: "smmuv3" }],
  ["SMMUv3 with stage 2 and 16-KiB pages", { preset: "smmuv3", stage: 2, granule: 16384 }],
  ["SMMUv3 with 64-KiB pages", { preset: "smmuv3", granule: 65536 }], ["AMD-Vi", { preset: "amd" }],
] as [string, IommuOptions][])("nesting in software on %s", (_name, iommu) => {
  it("merges, intersects, and follows the parent in its own page size", async () => {
    const it = await machine(iommu);
    const page = it.info(it.root).alignment;
    const at = (n: number): bigint => BigInt(n * page);
    const child = childOf(it, it.root);
    it.map(child, at(8), at(1), at(2));
    it.map(it.root, at(1), HVA + at(3), at(1));
    it.map(it.root, at(2), HVA + at(1), at(1), R);
    expect([it.dma(2, at(8), "w"), it.dma(2, at(9)), it.dma(2, at(9), "w"), it.dma(2, at(10))]).toEqual([
      at(3), at(1), "write-denied", "not-present",
    ]);
    it.unmap(it.root, at(1), at(1));
    expect([it.dma(2, at(8)), it.dma(2, at(9))]).toEqual(["not-present", at(1)]);
    if (page === 4096) return;
    refusal(() => it.map(child, at(16), 0x1000, at(1)), "EINVAL", "vaddr");
    refusal(() => it.map(child, 0x1000, at(1), at(1)), "EINVAL", "iova");
  });
});
