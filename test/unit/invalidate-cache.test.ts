// IOASID_INVALIDATE_CACHE: one invalidation or several, what each field may be, and that one bad entry leaves all undone.
import { beforeEach, describe, expect, it } from "vitest";
import {
  IOASID_CACHE_DEVICE_TLB, IOASID_CACHE_IOTLB, IOASID_INVALIDATE_ALL, IOASID_INVALIDATE_RANGE, type ErrnoName, type InvalidateCache,
} from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { childOf, gpaSpace, GuestPages, K4 } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

const RANGE = { granularity: IOASID_INVALIDATE_RANGE, iova: 0x2000, size: K4 };

let at: Awaited<ReturnType<typeof machine>>;
beforeEach(async () => (at = await machine()));

/** dev2 is on the guest's table, which maps 0x2000 and 0x3000 to themselves, both cached. */
async function machine() {
  const it = await gpaSpace({ iommus: [{ preset: "vtd-scalable", stage: 2 }] });
  const table = new GuestPages(it.host, FORMAT_X86_64);
  for (const iova of [0x2000n, 0x3000n]) table.map(iova, iova);
  const child = childOf(it, it.gpa);
  it.fd.bindPgtable({ ioasid: child, addr: table.root, format: { kind: "x86-64", levels: 4 } });
  const see = () => [it.dma(2, 0x2000), it.dma(2, 0x3000)];
  expect(see()).toEqual([0x2000n, 0x3000n]);
  /** Fields may be anything. */
  const invalidate = (fields: object) => it.fd.invalidateCache({ ioasid: child, ...fields } as InvalidateCache);
  return { ...it, table, child, see, invalidate };
}

/** Both pages elsewhere in the guest's table; what is cached does not change by that. */
function move(): void {
  at.table.map(0x2000n, 0x7000n);
  at.table.map(0x3000n, 0x8000n);
}

describe("an invalidation", () => {
  it("of everything is what a call without more says, and one with ALL", () => {
    for (const fields of [{}, { granularity: IOASID_INVALIDATE_ALL }, { leaf: true }, { caches: IOASID_CACHE_IOTLB }]) {
      move();
      expect(at.invalidate(fields)).toEqual({ handled: 1 });
      expect(at.see()).toEqual([0x7000n, 0x8000n]);
      for (const iova of [0x2000n, 0x3000n]) at.table.map(iova, iova);
      expect(at.invalidate({ entries: [fields] })).toEqual({ handled: 1 });
      expect(at.see()).toEqual([0x2000n, 0x3000n]);
    }
  });

  it("of a range is for its pages, whatever else is seen", () => {
    move();
    expect(at.invalidate(RANGE)).toEqual({ handled: 1 });
    expect(at.see()[0]).toBe(0x7000n);
    expect(at.invalidate({ ...RANGE, iova: 0x3000, device: at.labels[1], caches: IOASID_CACHE_IOTLB | IOASID_CACHE_DEVICE_TLB, leaf: true }))
      .toEqual({ handled: 1 });
    expect(at.see()).toEqual([0x7000n, 0x8000n]);
  });

  it("may have several entries, also none, and answers how many it handled", () => {
    move();
    expect(at.invalidate({ entries: [] })).toEqual({ handled: 0 });
    const both = [RANGE, { ...RANGE, iova: 0x3000 }];
    expect(at.invalidate({ entries: both })).toEqual({ handled: 2 });
    expect(at.see()).toEqual([0x7000n, 0x8000n]);
  });

  it("reaches up to the end of the address space", () => {
    expect(at.invalidate({ ...RANGE, iova: 0, size: (1n << 64n) - K4 })).toEqual({ handled: 1 });
    const high = 0xffff_8000_0000_0000n;
    at.table.map(high, 0x5000n);
    expect(at.dma(2, high)).toBe(0x5000n);
    at.table.map(high, 0x6000n);
    expect(at.invalidate({ ...RANGE, iova: high, size: 1n << 47n })).toEqual({ handled: 1 });
    expect(at.dma(2, high)).toBe(0x6000n);
  });

  it("is possible while no device is attached: nothing is cached then", () => {
    at.devs[1]!.detachIoasid({ ioasid: at.child });
    expect(at.invalidate(RANGE)).toEqual({ handled: 1 });
    expect(refusal(() => at.invalidate({ device: at.labels[1] }), "EINVAL", "device").hint).toContain("none");
  });
});

/** Field and value as the error names them in the form without entries. */
const REFUSED: [what: string, fields: object, errno: ErrnoName, field: string, value: unknown][] = [
  ["an unknown granularity", { granularity: 3 }, "EOPNOTSUPP", "granularity", 3],
  ["a granularity that is no number", { granularity: "ALL" }, "EINVAL", "granularity", "ALL"],
  ["a misaligned iova", { ...RANGE, iova: 0x2800 }, "EINVAL", "iova", 0x2800n],
  ["a misaligned size", { ...RANGE, size: 0x800 }, "EINVAL", "size", 0x800n],
  ["an empty range", { ...RANGE, size: 0 }, "EINVAL", "size", 0n],
  ["a range without iova", { granularity: 1, size: K4 }, "EINVAL", "iova", undefined],
  ["a range without size", { granularity: 1, iova: 0 }, "EINVAL", "size", undefined],
  ["a range past 2^64", { ...RANGE, iova: (1n << 64n) - K4, size: 2n * K4 }, "EOVERFLOW", "size", 2n * K4],
  ["a range of everything", { granularity: 0, iova: 0, size: K4 }, "EINVAL", "iova", 0],
  ["a size of everything", { size: K4 }, "EINVAL", "size", K4],
  ["a cache that is none", { caches: 8 }, "EOPNOTSUPP", "caches", 8], ["no cache", { caches: 0 }, "EOPNOTSUPP", "caches", 0],
  ["a device that is attached elsewhere", { device: 1 }, "EINVAL", "device", 1], ["an unknown device", { device: 99 }, "EINVAL", "device", 99],
  ["a leaf that is no boolean", { leaf: 1 }, "EINVAL", "leaf", 1],
];

describe.each(REFUSED)("an invalidation with %s", (_what, fields, errno, field, value) => {
  it(`is ${errno} for ${field}`, () => {
    const error = refusal(() => at.invalidate(fields), errno, field);
    expect(error).toMatchObject({ value, call: "IOASID_INVALIDATE_CACHE", hint: expect.stringMatching(/./) });
    expect(error.message).toContain(field);
  });

  it("is carried out in no part when it is one entry of several, and is named by its number", () => {
    move();
    const before = at.see();
    const error = refusal(() => at.invalidate({ entries: [RANGE, {}, fields] }), errno, `entries[2].${field}`);
    expect(error).toMatchObject({ value, hint: expect.stringMatching(/./) });
    expect(at.see()).toEqual(before);
  });
});

describe("entries", () => {
  it.each([
    ["a field beside them", { entries: [], iova: 0 }, "EINVAL", "iova"], ["no array", { entries: 4 }, "EINVAL", "entries"],
    ["null among them", { entries: [null] }, "EFAULT", undefined], ["a hole among them", { entries: new Array(2) }, "EFAULT", undefined],
    ["a number among them", { entries: [{}, 7] }, "EINVAL", undefined], ["an unknown field", { entries: [{ range: 1 }] }, "EINVAL", "range"],
  ] as [string, object, ErrnoName, string | undefined][])("are refused with %s", (_what, fields, errno, field) => {
    expect(refusal(() => at.invalidate(fields), errno, field).hint).toMatch(/./);
  });
});

describe("a space without a guest's table", () => {
  it("cannot be invalidated: EINVAL for a root, a mapped child, and one whose table is unbound", () => {
    const mapped = at.fd.createNesting({ parent: at.gpa });
    at.map(mapped, 0, 0);
    at.fd.unbindPgtable({ ioasid: at.child });
    for (const ioasid of [at.gpa, mapped, at.child]) {
      const error = refusal(() => at.fd.invalidateCache({ ioasid }), "EINVAL", "ioasid");
      expect(error).toMatchObject({ value: ioasid, hint: expect.stringMatching(/./) });
    }
    refusal(() => at.fd.invalidateCache({ ioasid: 77 }), "ENOENT", "ioasid");
  });
});
