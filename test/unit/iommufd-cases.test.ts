// Cases of the kernel's selftest for iommufd (tools/testing/selftests/iommu), by their names, as far as they say something about
// these calls: an IOAS or a HWPT of the kernel's is an ioasid here, a nested HWPT a child with a table, a mock domain a device.
// Errnos that differ are those of VFIO type1, which the RFC's map and unmap follow, and are said at each case.
//
// What does not translate, and why:
// - cmd_length, cmd_ex_fail: structures here have named fields, not a size in bytes; an unknown field is EINVAL.
// - global_options, ioas_option_huge_pages, option_huge_pages: there are no options; a host's are given when it is made.
// - set_iommu_cmd, vfio_ioas, get_info: they are of the compatibility with VFIO containers, or of its growing structures.
// - change_process.basic: a host has one process.
// - area_auto_iova, reserved_overflow: the user chooses every iova, as in the RFC.
// - area_allowed: there is no list of allowed ranges; GET_INFO has the permitted ones.
// - copy_area, copy_sweep, user_copy: there is no copy of a map; several ioasids map the same memory.
// - access_*: software devices that pin by iova do not exist; DMA of devices is checked instead.
// - dmabuf_*, and the file variants: memory comes from `mmap` of the process alone.
// - ro_unshare: memory of the process has no copy-on-write.
// - pasid_*: an attach without a PASID is the only one so far. viommu_*, vdevice_*, hw_queue: there are no such objects.
// - the dirty-tracking variants 64M and 128M of small pages: more of what 320k shows.
// - the page-fault parts of alloc_hwpt_nested and of all: faults are no uAPI yet.
import { describe, expect, it } from "vitest";
import { IOASID_DMA_UNMAP_FLAG_ALL, IOASID_INVALIDATE_RANGE, type IommuOptions, type PgtableFormat } from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { childOf, GuestPages, HVA, K4, M2, spaces } from "./space-host.js";
import { ioctlAny, refusal } from "./uapi-fake.js";

const X86: PgtableFormat = { kind: "x86-64", levels: 4 };
const NESTING: IommuOptions = { preset: "vtd-scalable", stage: 2 };

/** One ioasid; the first `domains` devices are attached to it. */
async function machine(domains: number, iommu: IommuOptions = NESTING) {
  const it = await spaces({ iommus: [iommu], count: Math.max(domains, 2) });
  const ioas = it.fd.alloc();
  for (const dev of it.devs.slice(0, domains)) dev.attachIoasid({ ioasid: ioas });
  return { ...it, ioas, locked: () => it.host.process.locked };
}

describe("iommufd", () => {
  it("simple_close: opening and closing leaves nothing", async () => {
    const { host } = await spaces();
    const frames = host.engine.framesUsed;
    for (let n = 0; n < 3; n++) host.open("/dev/ioasid").close();
    expect([host.engine.framesUsed, host.process.locked]).toEqual([frames, 0n]);
  });

  // "Destroy" is FREE; a null pointer is a missing argument; numbers below the base belong to no call.
  it("cmd_fail: id 0 is ENOENT, a missing structure EFAULT, an unknown number ENOTTY", async () => {
    const { fd } = await spaces();
    refusal(() => fd.free({ ioasid: 0 }), "ENOENT", "ioasid");
    refusal(() => ioctlAny(fd, 0x3b44), "EFAULT");
    for (const request of [0x3b3f, 0x3b80, 0]) refusal(() => ioctlAny(fd, request), "ENOTTY", "request");
  });

  it("simple_ioctls: the extension of type1 v2 is there", async () => {
    expect((await spaces()).fd.checkExtension({ extension: 1 })).toBe(1);
  });

  // Without an IOAS the kernel answers ENODEV; here the call names its ioasid, so it is ENOENT.
  it("unmap_cmd, map_cmd, info_cmd: flag bit 31 is EINVAL, no ioasid ENOENT", async () => {
    const { fd } = await spaces();
    const map = { ioasid: 1, iova: 0, vaddr: HVA, size: K4 };
    for (const call of [() => fd.dmaMap(map), () => fd.dmaUnmap({ ioasid: 1, iova: 0, size: K4 }), () => fd.getInfo({ ioasid: 1 })]) {
      refusal(call, "ENOENT", "ioasid");
    }
    fd.alloc();
    refusal(() => fd.dmaMap({ ...map, flags: 2 ** 31 }), "EINVAL", "flags");
    refusal(() => fd.dmaUnmap({ ioasid: 1, iova: 0, size: K4, flags: 2 ** 31 }), "EINVAL", "flags");
  });
});

describe.each([["no_domain", 0], ["mock_domain", 1], ["two_mock_domain", 2]])("iommufd_ioas, %s", (_variant, domains) => {
  it("ioas_auto_destroy, ioas_area_auto_destroy: close frees ten areas too", async () => {
    const { host, fd, ioas, map, dma, locked } = await machine(domains);
    for (let n = 0n; n < 10n; n++) map(ioas, n * 2n * K4, HVA + n * K4);
    expect(locked()).toBe(10n * K4);
    fd.close();
    expect([locked(), dma(1, 0), host.engine.framesUsed]).toEqual([0n, "blocked", 0]);
  });

  it("ioas_destroy, ioas_area_destroy: EBUSY with a device, whatever is mapped; possible without", async () => {
    const { fd, devs, ioas, map, locked } = await machine(domains);
    map(ioas, 0, HVA);
    if (domains > 0) expect(refusal(() => fd.free({ ioasid: ioas }), "EBUSY", "ioasid").conflict).toEqual({ kind: "device", device: "dev1" });
    for (const dev of devs.slice(0, domains)) dev.detachIoasid({ ioasid: ioas });
    fd.free({ ioasid: ioas });
    expect(locked()).toBe(0n);
    refusal(() => fd.free({ ioasid: ioas }), "ENOENT", "ioasid");
  });

  // An explicit empty range is ENOENT in iommufd and no error in type1; splitting is ENOENT there and EINVAL here.
  it("area: ten maps and unmaps, both halves of a split, five ways to overlap, and twice everything", async () => {
    const { fd, ioas, map, unmap } = await machine(domains);
    expect(unmap(ioas, 0x1000000)).toBe(0n);
    for (let n = 0n; n < 10n; n++) map(ioas, 0x1000000n + n * K4, HVA);
    for (let n = 0n; n < 10n; n++) expect(unmap(ioas, 0x1000000n + n * K4)).toBe(K4);
    map(ioas, 0x1000000, HVA, 0x4000);
    for (const [iova, size] of [[0x1000000, 0x2000], [0x1002000, 0x2000]] as const) refusal(() => unmap(ioas, iova, size), "EINVAL", "iova");
    for (const [iova, size] of [[0x1000000, 0x4000], [0x1001000, 0x2000], [0xfff000, 0x6000], [0xfff000, 0x2000], [0x1003000, 0x2000]] as const) {
      refusal(() => map(ioas, iova, HVA, size), "EEXIST", "iova");
    }
    expect([1, 2].map(() => fd.dmaUnmap({ ioasid: ioas, flags: IOASID_DMA_UNMAP_FLAG_ALL }).size)).toEqual([0x4000n, 0n]);
  });

  it("unmap_fully_contained_areas: partial cover at either end removes nothing, a wide range exactly what it holds", async () => {
    const { ioas, map, unmap, info } = await machine(domains);
    for (let n = 0n; n < 4n; n++) map(ioas, 0x100000n + n * 0x10000n, HVA, 0x8000);
    refusal(() => unmap(ioas, 0x104000, 0x24000), "EINVAL", "iova");
    refusal(() => unmap(ioas, 0x100000, 0x14000), "EINVAL", "iova");
    expect(info(ioas).mappings).toBe(4);
    expect(unmap(ioas, 0x108000, 0x28000)).toBe(0x10000n);
    expect([info(ioas).mappings, unmap(ioas, 0, 0x1000000)]).toEqual([2, 0x10000n]);
  });

  // The ranges are those that GET_INFO permits.
  it("iova_ranges: everything without a device; what its IOMMU translates, around what is reserved, with one", async () => {
    const { ioas, info } = await machine(domains, { ...NESTING, reserved: [{ first: 0x10000n, last: 0x1ffffn, why: "test" }] });
    expect(info(ioas)).toMatchObject(domains === 0 ? { permitted: [{ first: 0n, last: (1n << 64n) - 1n }], alignment: 4096 } : {
      permitted: [{ first: 0n, last: 0xffffn }, { first: 0x20000n, last: (1n << 48n) - 1n }], alignment: 4096,
    });
  });

  // The process's memory cannot go while it is mapped, so no attach finds it gone.
  it("fork_gone, fork_present: mapped memory stays, and a later attach finds it", async () => {
    const { host, devs, ioas, map, dma } = await machine(domains);
    map(ioas, 0, HVA);
    refusal(() => host.process.munmap(HVA, M2), "EBUSY", "hva");
    if (domains < 2) devs[1]!.attachIoasid({ ioasid: ioas });
    expect(dma(2, 0)).toBe(0n);
  });

  it("get_hw_info: each bound device says what it can, PASIDs among it; any other label is ENOENT", async () => {
    const { fd, labels } = await machine(domains);
    for (const label of labels) expect(fd.deviceGetInfo({ label })).toMatchObject({ label, pasidBits: 20, dirtyTracking: true });
    refusal(() => fd.deviceGetInfo({ label: 0 }), "ENOENT", "label");
    const other = await spaces();
    expect(other.fd.deviceGetInfo({ label: other.labels[0]! })).toMatchObject({ pasidBits: 0, dirtyTracking: false });
  });

  it("hwpt_attach: a second device joins what the first one is attached to; nothing is ENOENT", async () => {
    const { devs, ioas, map, dma } = await machine(domains);
    map(ioas, 0, HVA);
    const late = devs[1]!;
    if (domains < 2) late.attachIoasid({ ioasid: ioas });
    expect(dma(2, 0)).toBe(0n);
    late.detachIoasid({ ioasid: ioas });
    refusal(() => late.attachIoasid({ ioasid: ioas + 1 }), "ENOENT", "ioasid");
  });
});

describe("iommufd_ioas", () => {
  // The mock's page is half a page; here the granule of 16 KiB is more than one.
  it.each([[false], [true]])("ioas_iova_alloc: lengths that are no pages of the device are EINVAL when there is one (%s)", async (attached) => {
    const { ioas, map, unmap } = await machine(attached ? 1 : 0, { preset: "smmuv3", granule: 16384 });
    for (let pages = 1n; pages <= 8n; pages++) {
      const call = () => map(ioas, 0, HVA, pages * K4);
      if (attached && pages % 4n !== 0n) refusal(call, "EINVAL", "iova");
      else {
        call();
        unmap(ioas, 0, pages * K4);
      }
      refusal(() => map(ioas, 0, HVA, pages * K4 + 2048n), "EINVAL", "size");
    }
  });

  // Alignment comes with a device. Maps that do not fit are EADDRINUSE in iommufd; here the attach does not fit them, EINVAL.
  it("ioas_align_change: a device with larger pages comes when all maps fit it, and misaligned ones are EINVAL then", async () => {
    const { devs, ioas, map, unmap, info } = await machine(0, { preset: "smmuv3", granule: 65536 });
    map(ioas, 0x10000, HVA, 0x10000);
    map(ioas, 0x21000, HVA, 0x1000);
    expect(refusal(() => devs[0]!.attachIoasid({ ioasid: ioas }), "EINVAL", "ioasid").conflict)
      .toEqual({ kind: "mapping", ioasid: ioas, first: 0x21000n, last: 0x21fffn });
    unmap(ioas, 0x21000);
    devs[0]!.attachIoasid({ ioasid: ioas });
    expect(info(ioas).alignment).toBe(65536);
    refusal(() => map(ioas, 0x21000, HVA), "EINVAL", "iova");
  });

  // The flags of HWPT_ALLOC do not exist; nested on nested is ENOSPC (the depth is used up); the order of cleaning up is the same.
  it("alloc_hwpt_nested: what cannot be a parent or a table, two children, and who has to go first", async () => {
    const it = await machine(2);
    const { fd, devs, ioas } = it;
    it.map(ioas, 0, HVA, M2);
    const nest = (parent: number, format: unknown = X86) => fd.allocIoasidPgtable({ parent, addr: 0x100000, format: format as PgtableFormat });
    refusal(() => nest(0), "ENOENT", "parent");
    refusal(() => nest(ioas, { kind: "none" }), "EOPNOTSUPP", "format.kind");
    refusal(() => nest(ioas, { kind: "x86-64" }), "EINVAL", "format.levels");
    const [one, two] = [nest(ioas), nest(ioas)];
    refusal(() => nest(one), "ENOSPC", "parent");
    for (const dev of devs) dev.attachIoasid({ ioasid: one });
    refusal(() => fd.free({ ioasid: one }), "EBUSY", "ioasid");
    // Replace: detach and attach.
    for (const dev of devs) {
      dev.detachIoasid({ ioasid: one });
      dev.attachIoasid({ ioasid: two });
    }
    fd.free({ ioasid: one });
    refusal(() => fd.free({ ioasid: two }), "EBUSY", "ioasid");
    for (const dev of devs) refusal(() => dev.detachIoasid({ ioasid: ioas }), "EBUSY", "ioasid");
    for (const dev of devs) dev.detachIoasid({ ioasid: two });
    for (const dev of devs) dev.detachIoasid({ ioasid: ioas });
    expect(refusal(() => fd.free({ ioasid: ioas }), "EBUSY", "ioasid").conflict).toEqual({ kind: "ioasid", ioasid: two });
    fd.free({ ioasid: two });
    fd.free({ ioasid: ioas });
  });

  // The mock's four IOTLB entries are four pages here. iommufd carries out the entries before a bad one; here none is.
  it("alloc_hwpt_nested, invalidation: one entry, two, all, and nothing when one is bad", async () => {
    const at = await machine(1);
    at.map(at.ioas, 0, HVA, M2);
    const table = new GuestPages(at.host, FORMAT_X86_64);
    const pages = [0n, 1n, 2n, 3n].map((n) => n * K4);
    const point = (to: bigint) => pages.forEach((iova) => table.map(iova, to + iova));
    const seen = () => pages.map((iova) => at.dma(1, iova));
    point(0x8000n);
    const child = childOf(at, at.ioas, [1]);
    at.fd.bindPgtable({ ioasid: child, addr: table.root, format: X86 });
    const entry = (n: number) => ({ granularity: IOASID_INVALIDATE_RANGE, iova: n * 4096, size: 4096 });
    const cached = seen();
    point(0x10000n);
    refusal(() => at.fd.invalidateCache({ ioasid: child, entries: [entry(0), { ...entry(1), granularity: 0xdadbeef }] }), "EOPNOTSUPP", "entries[1].granularity");
    refusal(() => at.fd.invalidateCache({ ioasid: child, entries: [{ ...entry(0), iova: 1 }] }), "EINVAL", "entries[0].iova");
    refusal(() => at.fd.invalidateCache({ ioasid: at.ioas }), "EINVAL", "ioasid");
    expect(seen()).toEqual(cached);
    expect(at.fd.invalidateCache({ ioasid: child, entries: [entry(0)] })).toEqual({ handled: 1 });
    expect(seen()[0]).toBe(0x10000n);
    expect(at.fd.invalidateCache({ ioasid: child, entries: [entry(2), entry(3)] })).toEqual({ handled: 2 });
    expect(seen().slice(2)).toEqual([0x12000n, 0x13000n]);
    expect(at.fd.invalidateCache({ ioasid: child })).toEqual({ handled: 1 });
    expect(seen()).toEqual(pages.map((iova) => 0x10000n + iova));
  });
});

describe.each([["one_domain", 1], ["two_domains", 2]])("iommufd_mock_domain, %s", (_variant, domains) => {
  it("basic: one page reaches every domain; EFAULT when half or all of the memory is missing, and nothing stays", async () => {
    const { ioas, map, dma, unmap, info } = await machine(domains);
    map(ioas, 0, HVA);
    for (let n = 1; n <= domains; n++) expect(dma(n, 0, "w")).toBe(0n);
    expect(unmap(ioas, 0)).toBe(K4);
    for (const vaddr of [HVA - K4, HVA - 0x10000n]) refusal(() => map(ioas, 0, vaddr, 0x2000), "EFAULT", "vaddr");
    expect([info(ioas).mappings, dma(1, 0)]).toEqual([0, "not-present"]);
  });

  // Copies are left out; references to pages are the charge.
  it("all_aligns, all_aligns_copy: every start and end, with a domain that comes and goes meanwhile", async () => {
    const { host, devs, ioas, map, unmap, dma, locked } = await machine(domains);
    const [last] = devs.slice(domains - 1);
    for (let start = 0n; start < 8n; start++) {
      for (let end = start + 1n; end <= 8n; end++) {
        const [from, size] = [start * K4, (end - start) * K4];
        map(ioas, from, HVA + from, size);
        expect(locked()).toBe(size);
        host.process.bytes(HVA + from, 2).set([Number(start), Number(end)]);
        expect([...host.device(`dev${domains}`).dma().readSync(from, 2)]).toEqual([Number(start), Number(end)]);
        if (domains > 1) last!.detachIoasid({ ioasid: ioas });
        for (const at of [from, from + size - 1n]) expect(dma(1, at)).toBe(at);
        for (const at of [from - K4, from + size]) if (at >= 0n) expect(dma(1, at)).toBe("not-present");
        if (domains > 1) last!.attachIoasid({ ioasid: ioas });
        expect(dma(domains, from)).toBe(from);
        expect(unmap(ioas, from, size)).toBe(size);
        expect(locked()).toBe(0n);
      }
    }
  });

  // There is no replace: a device is detached and attached. Its old table goes with the last device.
  it("replace: a device moves between spaces, there and back, and the table it leaves alone is gone", async () => {
    const { host, fd, devs, ioas, map, dma } = await machine(domains);
    map(ioas, 0, HVA);
    const other = fd.alloc();
    map(other, 0, HVA + K4);
    const frames = host.engine.framesUsed;
    for (let n = 0; n < 2; n++) {
      for (const [from, to, lands] of [[ioas, other, K4], [other, ioas, 0n]] as const) {
        for (const dev of devs.slice(0, domains)) dev.detachIoasid({ ioasid: from });
        expect(host.engine.framesUsed).toBe(0);
        for (const dev of devs.slice(0, domains)) dev.attachIoasid({ ioasid: to });
        expect([dma(1, 0), dma(domains, 0), host.engine.framesUsed]).toEqual([lands, lands, frames]);
      }
    }
  });

  it("alloc_hwpt: unknown flags are EOPNOTSUPP at the attach; of two spaces the one with a device is EBUSY", async () => {
    const { fd, devs, ioas } = await machine(domains);
    refusal(() => devs[0]!.detachIoasid({ ioasid: ioas, flags: 2 ** 31 }), "EOPNOTSUPP", "flags");
    const other = fd.alloc();
    for (const dev of devs.slice(0, domains)) {
      dev.detachIoasid({ ioasid: ioas });
      refusal(() => dev.attachIoasid({ ioasid: other, flags: 2 }), "EOPNOTSUPP", "flags");
      dev.attachIoasid({ ioasid: other });
    }
    refusal(() => fd.free({ ioasid: other }), "EBUSY", "ioasid");
    fd.free({ ioasid: ioas });
  });
});

describe("iommufd_dirty_tracking", () => {
  it("enforce_dirty: a device without dirty bits does not come to a space that tracks, and no space of its own does", async () => {
    const it = await machine(0, { preset: "vtd" });
    it.fd.setDirtyTracking({ ioasid: it.ioas, enable: true });
    refusal(() => it.devs[0]!.attachIoasid({ ioasid: it.ioas }), "EINVAL", "ioasid");
    const own = it.fd.alloc();
    it.devs[0]!.attachIoasid({ ioasid: own });
    refusal(() => it.fd.setDirtyTracking({ ioasid: own, enable: true }), "EOPNOTSUPP", "ioasid");
  });

  it("device_dirty_capability: the device says it", async () => {
    const [with_, without] = [await machine(1), await machine(1, { preset: "vtd" })];
    expect([with_, without].map(({ fd, labels }) => fd.deviceGetInfo({ label: labels[0]! }).dirtyTracking)).toEqual([true, false]);
  });

  it("set_dirty_tracking: on and off as often as one likes; bits of before are gone", async () => {
    const { fd, ioas, map, dma, info } = await machine(1);
    map(ioas, 0, HVA);
    for (let n = 0; n < 3; n++) {
      fd.setDirtyTracking({ ioasid: ioas, enable: true });
      expect(fd.getDirtyBitmap({ ioasid: ioas, iova: 0, size: K4, pageSize: 4096 }).dirty).toBe(0);
      dma(1, 0, "w");
      expect(fd.getDirtyBitmap({ ioasid: ioas, iova: 0, size: K4, pageSize: 4096, clear: false }).dirty).toBe(1);
      fd.setDirtyTracking({ ioasid: ioas, enable: false });
      expect(info(ioas).dirtyTracking.enabled).toBe(false);
    }
  });

  // Every second page is written. The variants' buffers are maps of single pages; the huge ones have leaves of 2 MiB.
  describe.each([
    ["8k", 0x2000, 4096], ["16k", 0x4000, 4096], ["64k", 0x10000, 4096], ["128k", 0x20000, 4096], ["320k", 0x50000, 4096],
    ["64M_huge", 1 << 26, 1 << 21], ["128M_huge", 1 << 27, 1 << 21],
  ])("%s", (_size, bytes, page) => {
    /** Where a bitmap begins: at the buffer, at a page of it, and at a byte of the whole bitmap. */
    const OFFSETS = [0, 1, 8].map((pages) => pages * page).filter((offset) => offset < bytes);

    it.each([["get_dirty_bitmap", true], ["get_dirty_bitmap_no_clear", false]])("%s: exactly what was written, once or again", async (_name, clear) => {
      const { fd, ioas, map, dma, host } = await machine(1);
      const base = BigInt(bytes);
      // The zeros begin 2 MiB after HVA.
      if (page > 4096) map(ioas, base, HVA + M2, bytes);
      else for (let at = 0; at < bytes; at += page) map(ioas, base + BigInt(at), HVA + BigInt(at));
      expect(host.engine.framesUsed).toBeLessThan(host.engine.frames);
      for (const offset of OFFSETS) {
        fd.setDirtyTracking({ ioasid: ioas, enable: true });
        for (let at = 0; at < bytes; at += 2 * page) dma(1, base + BigInt(at), "w");
        const ask = { ioasid: ioas, iova: base + BigInt(offset), size: bytes - offset, pageSize: page, clear };
        const wanted = new Uint8Array(Math.ceil((bytes - offset) / page / 8));
        for (let at = 0; at < bytes - offset; at += page) {
          if (((at + offset) / page) % 2 === 0) wanted[at / page >> 3]! |= 1 << ((at / page) & 7);
        }
        expect(fd.getDirtyBitmap(ask).bitmap).toEqual(wanted);
        expect(fd.getDirtyBitmap(ask).bitmap).toEqual(clear ? new Uint8Array(wanted.length) : wanted);
      }
    });
  });
});

describe("vfio_compat_mock_domain, Ver1v2", () => {
  it("map: sizes, an empty unmap, ALL with anything but 0, and 16 small pages in any order", async () => {
    const { fd, ioas, map, unmap } = await machine(1);
    map(ioas, 0x1000000, HVA, M2);
    expect([unmap(ioas, 0x1000000, M2), unmap(ioas, 0x1000000, M2)]).toEqual([M2, 0n]);
    const all = { ioasid: ioas, flags: IOASID_DMA_UNMAP_FLAG_ALL };
    refusal(() => fd.dmaUnmap({ ...all, iova: 0, size: K4 }), "EINVAL", "size");
    refusal(() => fd.dmaUnmap({ ...all, iova: K4, size: 0 }), "EINVAL", "iova");
    expect(fd.dmaUnmap({ ...all, iova: 0, size: 0 }).size).toBe(0n);
    const order = Array.from({ length: 16 }, (_, n) => BigInt((n * 7 + 3) % 16));
    for (const n of order) map(ioas, 0x1000000n + n * K4, HVA + n * K4);
    for (const n of order.reverse()) expect(unmap(ioas, 0x1000000n + n * K4)).toBe(K4);
  });

  // ENOENT in the kernel's compatibility layer, EINVAL in type1 itself.
  it("huge_map: no sixteenth of a large map goes alone", async () => {
    const { ioas, map, unmap, info } = await machine(1);
    map(ioas, 0x1000000, HVA, M2);
    for (let n = 0n; n < 16n; n++) refusal(() => unmap(ioas, 0x1000000n + n * (M2 / 16n), M2 / 16n), "EINVAL", "iova");
    expect(info(ioas).mappings).toBe(1);
    expect(unmap(ioas, 0x1000000, M2)).toBe(M2);
  });
});
