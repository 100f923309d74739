// IOASID_DMA_MAP and IOASID_DMA_UNMAP with a list of entries: in a tree of spaces whatever the same calls one by one do, all of
// it or nothing, with the first entry that is refused named; and one wait for a list. Ranges are first..last, inclusive.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ENGINE_EPOCH } from "../../src/engine/layout.js";
import { type ErrnoName, type HostOptions, IOASID_DMA_MAP, IOASID_DMA_UNMAP, IoctlError, type MapEntry, type UnmapEntry } from "../../src/index.js";
import { failEachAllocation, noteFds } from "../oracle/fail-each.js";
import { hostDigest } from "../oracle/host-digest.js";
import { GB, HVA, K4, M2, R, refusedWhole, RW, spaces, W } from "./space-host.js";
import { runs } from "./table-plans.js";
import { fakeMachine, refusal } from "./uapi-fake.js";

const IOMMUS: [name: string, iommu: NonNullable<HostOptions["iommus"]>[number]][] = [
  ["VT-d", { preset: "vtd-scalable", stage: 2 }], ["AMD-Vi", { preset: "amd" }], ["SMMUv3", { preset: "smmuv3", stage: 2 }],
];

/** Ioasids 1 to 4: a root, its child, that one's child, another child of the root; dev1 is in 3, dev2 in 4. */
async function tree(iommu: NonNullable<HostOptions["iommus"]>[number], tracks = false) {
  const it = await spaces({ iommus: [iommu], lockLimit: 64n * M2, ports: { count: 3, iotlbSets: 64, lanes: 64, faults: 64 } });
  const { fd, devs: [dev1, dev2] } = it;
  for (const parent of [undefined, 1, 2, 1]) fd.allocIoasid(parent === undefined ? {} : { parent });
  for (const ioasid of [1, 2, 3]) dev1!.attachIoasid({ ioasid });
  for (const ioasid of [1, 4]) dev2!.attachIoasid({ ioasid });
  if (tracks) for (const ioasid of [1, 3]) fd.setDirtyTracking({ ioasid, enable: true });
  return it;
}
type Tree = Awaited<ReturnType<typeof tree>>;

const digest = ({ host, fd }: Tree): unknown => hostDigest(host, [fd]);

/**
 * How pinned pages are cut into runs is left out: memory that was pinned and let go again joins what lay beside it, and of a refused list
 * the maps before the refusal were pinned. The pages themselves, and what they are charged, are compared; how often each is pinned shows when it is unmapped.
 */
const withoutRuns = (state: unknown): unknown =>
  JSON.parse(JSON.stringify(state, (key, value: unknown) => (key === "runs" && typeof value === "number" ? undefined : typeof value === "bigint" ? `${value}` : value)));

const page = fc.oneof({ weight: 3, arbitrary: fc.nat(40) }, fc.constantFrom(510, 511, 512, 513, 1023, 1024));
const pages = fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 6 }) }, fc.constantFrom(0, 512, 513, 5000));
const list = fc.array(fc.record({ at: page, to: page, pages, flags: fc.constantFrom(RW, RW, RW, R, W, 4), unaligned: fc.nat(30) }), { minLength: 1, maxLength: 8 });
const history = fc.array(fc.record({ space: fc.integer({ min: 1, max: 4 }), unmaps: fc.boolean(), list, whole: fc.nat(2) }), { minLength: 2, maxLength: 14 });

function outcome<T>(call: () => T): { value: T } | { error: IoctlError } {
  try {
    return { value: call() };
  } catch (error) {
    if (error instanceof IoctlError) return { error };
    throw error;
  }
}

/** One call for each entry: what the list must answer, and the entry that is refused, before which all is taken back. */
function oneByOne(it: Tree, ioasid: number, entries: readonly MapEntry[]): { n: number; error: IoctlError } | undefined {
  for (const [n, entry] of entries.entries()) {
    const made = outcome(() => it.fd.dmaMap({ ioasid, ...entry }));
    if ("value" in made) continue;
    for (const { iova, size } of entries.slice(0, n)) it.fd.dmaUnmap({ ioasid, iova, size });
    return { n, error: made.error };
  }
  return undefined;
}

describe.each(IOMMUS)("%s: a list", (_name, iommu) => {
  it("leaves what the same calls one by one leave, and is refused as the first of them that is refused", async () => {
    await fc.assert(fc.asyncProperty(history, fc.boolean(), async (steps, tracks) => {
      const [many, one] = [await tree(iommu, tracks), await tree(iommu, tracks)];
      for (const { space: ioasid, unmaps, list: plan, whole } of steps) {
        const before = digest(many);
        const address = (n: number, unaligned = false): bigint => BigInt(n) * K4 + (unaligned ? 5n : 0n);
        if (unmaps) {
          const entries: UnmapEntry[] = plan.map(({ at, pages: n, unaligned }) => ({ iova: address(at, unaligned === 0), size: address(whole > 0 ? 3 * n : n) }));
          const removed = outcome(() => many.fd.dmaUnmap({ ioasid, entries }).size);
          if ("value" in removed) {
            expect(entries.reduce((sum, entry) => sum + one.fd.dmaUnmap({ ioasid, ...entry }).size, 0n)).toBe(removed.value);
          } else {
            const [, n, field] = /^entries\[(\d+)\]\.(iova|size)$/.exec(removed.error.field!)!;
            refusal(() => one.fd.dmaUnmap({ ioasid, ...entries[Number(n)]! }), removed.error.errno, field);
            expect(withoutRuns(digest(many))).toEqual(withoutRuns(before));
          }
        } else {
          const entries: MapEntry[] = plan.map(({ at, to, pages: n, flags, unaligned }) => ({
            iova: address(at, unaligned === 0), vaddr: address(to) + (ioasid === 1 ? HVA : 0n), size: address(n), flags,
          }));
          const dry = outcome(() => many.fd.dmaMap({ ioasid, entries, dryRun: true }));
          expect(withoutRuns(digest(many))).toEqual(withoutRuns(before));
          const mapped = outcome(() => many.fd.dmaMap({ ioasid, entries }));
          expect("error" in dry ? dry.error.message : undefined).toBe("error" in mapped ? mapped.error.message : undefined);
          const refused = oneByOne(one, ioasid, entries);
          expect("error" in mapped).toBe(refused !== undefined);
          if ("error" in mapped) {
            expect(mapped.error).toMatchObject({ errno: refused!.error.errno, field: `entries[${refused!.n}].${refused!.error.field}`, value: refused!.error.value });
            expect(withoutRuns(digest(many))).toEqual(withoutRuns(before));
          }
        }
        expect(withoutRuns(digest(many))).toEqual(withoutRuns(digest(one)));
      }
    }), { numRuns: runs(12) });
  });
});

/** The root has a map at page 16; the child has none. */
async function mapped() {
  const it = await tree({ preset: "vtd-scalable", stage: 2 });
  it.map(1, 16n * K4, HVA, 4n * K4);
  return it;
}
const entry = (at: number, more: Partial<Record<keyof MapEntry, unknown>> = {}): MapEntry =>
  ({ iova: BigInt(at) * K4, vaddr: HVA + BigInt(at) * K4, size: K4, ...more }) as MapEntry;
const good = [entry(0), entry(2)];

const MAPS: [why: string, arg: Record<string, unknown>, errno: ErrnoName, field: string][] = [
  ["no array", { entries: 5 }, "EINVAL", "entries"],
  ["null", { entries: null }, "EINVAL", "entries"],
  ["a field of an entry beside it", { entries: good, iova: 0n }, "EINVAL", "iova"],
  ["flags beside it", { entries: good, flags: 1 }, "EINVAL", "flags"],
  ["an entry that is none", { entries: [...good, 7] }, "EINVAL", "entries[2]"],
  ["a missing entry", { entries: [entry(0), undefined] }, "EFAULT", "entries[1]"],
  ["an unknown field", { entries: [entry(0), { ...entry(1), dryRun: true }] }, "EINVAL", "entries[1].dryRun"],
  ["a missing iova", { entries: [entry(0, { iova: undefined })] }, "EINVAL", "entries[0].iova"],
  ["a misaligned vaddr", { entries: [entry(0), entry(1, { vaddr: HVA + 5n })] }, "EINVAL", "entries[1].vaddr"],
  ["an empty entry", { entries: [entry(0), entry(1, { size: 0n })] }, "EINVAL", "entries[1].size"],
  ["unknown flags", { entries: [entry(0), entry(1, { flags: 8 })] }, "EINVAL", "entries[1].flags"],
  ["one past 2^64", { entries: [entry(0), entry(1, { iova: (1n << 64n) - K4, size: 2n * K4 })] }, "EOVERFLOW", "entries[1].size"],
  ["one beyond the IOMMU", { entries: [entry(0), entry(1, { iova: 1n << 60n })] }, "EINVAL", "entries[1].iova"],
  ["one over a map", { entries: [entry(0), entry(17)] }, "EEXIST", "entries[1].iova"],
  ["one over another", { entries: [entry(0), entry(4, { size: 4n * K4 }), entry(5)] }, "EEXIST", "entries[2].iova"],
  ["one over another, listed before it", { entries: [entry(7), entry(4, { size: 4n * K4 })] }, "EEXIST", "entries[1].iova"],
  ["memory that is not there", { entries: [entry(0), entry(1, { vaddr: 0x1000n })] }, "EFAULT", "entries[1].vaddr"],
  ["more memory than may be locked", { entries: [entry(0), entry(0x10000, { vaddr: HVA, size: 65n * M2 })] }, "ENOMEM", "entries[1].size"],
  ["more tables than there is memory", { entries: Array.from({ length: 2100 }, (_none, n) => entry(1024 * (n + 1), { vaddr: HVA + K4 })) }, "ENOMEM", "entries"],
];
const UNMAPS: [why: string, arg: Record<string, unknown>, errno: ErrnoName, field: string][] = [
  ["no array", { entries: {} }, "EINVAL", "entries"],
  ["a range beside it", { entries: [], size: 5n }, "EINVAL", "size"],
  ["the flag ALL beside it", { entries: [], flags: 2 }, "EINVAL", "flags"],
  ["an entry that is none", { entries: ["all"] }, "EINVAL", "entries[0]"],
  ["flags in an entry", { entries: [{ iova: 0n, size: K4, flags: 2 }] }, "EINVAL", "entries[0].flags"],
  ["a missing size", { entries: [{ iova: 0n }] }, "EINVAL", "entries[0].size"],
  ["a misaligned iova", { entries: [{ iova: 16n * K4, size: 4n * K4 }, { iova: 1n, size: K4 }] }, "EINVAL", "entries[1].iova"],
  ["one that cuts a map", { entries: [{ iova: 0n, size: K4 }, { iova: 16n * K4, size: 2n * K4 }] }, "EINVAL", "entries[1].iova"],
];

describe("a list is refused whole", () => {
  it.each(MAPS)("maps: %s", async (_why, arg, errno, field) => {
    const it = await mapped();
    const error = refusedWhole(it, [1, 2, 3, 4], [0n, K4, 16n * K4], () => it.fd.dmaMap({ ioasid: 1, ...arg } as never)) as IoctlError;
    expect(error).toMatchObject({ name: "IoctlError", errno, field, call: "IOASID_DMA_MAP" });
    if (field.startsWith("entries[")) expect(error.message).toContain(field.replace(/\..*/, ": "));
    it.fd.dmaMap({ ioasid: 1, entries: good });
  });

  it.each(UNMAPS)("unmaps: %s", async (_why, arg, errno, field) => {
    const it = await mapped();
    const error = refusedWhole(it, [1, 2, 3, 4], [0n, 16n * K4], () => it.fd.dmaUnmap({ ioasid: 1, ...arg } as never)) as IoctlError;
    expect(error).toMatchObject({ name: "IoctlError", errno, field, call: "IOASID_DMA_UNMAP" });
  });

  it.each([["range", "EINVAL", "vaddr"], ["align", "EINVAL", "vaddr"], ["perm", "EOPNOTSUPP", "flags"]] as const)(
    "by a table, for %s", (map, errno, field) => {
      const { host, refuse } = fakeMachine();
      const [fd, dev] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
      dev.bindIoasidFd({ ioasidFd: fd });
      const ioasid = fd.alloc();
      dev.attachIoasid({ ioasid });
      host.process.mmap({ hva: HVA, size: 4n * K4 });
      refuse.map = map;
      refusal(() => fd.dmaMap({ ioasid, entries: good }), errno, `entries[0].${field}`);
      expect([fd.getInfo({ ioasid }).mappings, host.process.locked]).toEqual([0, 0n]);
    });

  it("inside a section, in a bound space and a space that is not there", async () => {
    const it = await mapped();
    it.host.engine.openPort().batch(() => {
      refusal(() => it.fd.dmaMap({ ioasid: 1, entries: good }), "EDEADLK");
      refusal(() => it.fd.dmaUnmap({ ioasid: 1, entries: [{ iova: 16n * K4, size: 4n * K4 }] }), "EDEADLK");
    });
    refusal(() => it.fd.dmaMap({ ioasid: 9, entries: good }), "ENOENT", "ioasid");
    refusal(() => it.fd.dmaUnmap({ ioasid: 9, entries: [] }), "ENOENT", "ioasid");
    expect(it.info(1)).toMatchObject({ mappings: 1, locked: 4n * K4 });
  });

  it("at whichever allocation fails, with three spaces below", async () => {
    const it = await tree({ preset: "vtd-scalable", stage: 2 });
    for (const ioasid of [2, 3, 4]) it.map(ioasid, 0, 0, GB);
    const { counts } = failEachAllocation(it.host);
    noteFds(it.host);
    const entries = [entry(0), entry(0x300, { vaddr: HVA + 5n * K4 }), entry(0x8000, { vaddr: HVA }), entry(0x200, { vaddr: HVA, size: 4n * K4 })];
    it.host.ioctl(it.fd, IOASID_DMA_MAP, { ioasid: 1, entries });
    expect(counts.get(IOASID_DMA_MAP)).toBe(1);
    expect([it.dma(1, 0x300000n), it.dma(2, 0x8000000n), it.dma(1, 0x203000n)]).toEqual([5n * K4, 0n, 3n * K4]);
    expect(it.host.ioctl(it.fd, IOASID_DMA_UNMAP, { ioasid: 1, entries: entries.map(({ iova, size }) => ({ iova, size })) })).toEqual({ size: 7n * K4 });
    expect([it.dma(1, 0x300000n), it.dma(2, 0x8000000n), it.dma(1, 0x203000n)]).toEqual(Array(3).fill("not-present"));
  });
});

describe("a list", () => {
  it("that is empty changes nothing", async () => {
    const it = await mapped();
    it.fd.dmaMap({ ioasid: 1, entries: [] });
    expect(it.fd.dmaUnmap({ ioasid: 1, entries: [] })).toEqual({ size: 0n });
    expect(it.info(1).mappings).toBe(1);
  });

  it("charges a page that several entries have once, and keeps what it did when some go", async () => {
    const it = await spaces();
    it.devs[0]!.attachIoasid({ ioasid: it.fd.alloc() });
    it.map(1, 16n * K4, HVA, 4n * K4);
    it.fd.dmaMap({ ioasid: 1, entries: [entry(0), entry(1, { vaddr: HVA }), entry(2, { flags: R })] });
    expect(it.info(1)).toMatchObject({ mappings: 4, locked: 4n * K4 });
    expect(it.fd.dmaUnmap({ ioasid: 1, entries: [{ iova: 2n * K4, size: K4 }, { iova: 0n, size: 2n * K4 }, { iova: 0n, size: 2n * K4 }] })).toEqual({ size: 3n * K4 });
    expect([it.dma(1, 0), it.dma(1, 16n * K4), it.info(1).mappings]).toEqual(["not-present", 0n, 1]);
  });

  it("of unmaps waits once for each table, however many entries and areas of children there are", async () => {
    const it = await tree({ preset: "vtd-scalable", stage: 2 });
    const entries = Array.from({ length: 50 }, (_none, n) => entry(3 * n));
    it.fd.dmaMap({ ioasid: 1, entries });
    for (const ioasid of [2, 4]) it.fd.dmaMap({ ioasid, entries: entries.map(({ iova }) => ({ iova: BigInt(iova) + GB, vaddr: iova, size: K4 })) });
    const epoch = it.host.engine.word(ENGINE_EPOCH);
    expect(it.fd.dmaUnmap({ ioasid: 1, entries: entries.map(({ iova, size }) => ({ iova, size })) }).size).toBe(50n * K4);
    // The epoch goes on by 2 for each wait: of the root and its two children.
    expect(it.host.engine.word(ENGINE_EPOCH) - epoch).toBe(6);
  });
});
