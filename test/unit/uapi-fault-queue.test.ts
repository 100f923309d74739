// The fault queue of an ioasid fd: what its records say, who gets them, and how they are read. RFC section 5.6.
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  createHost, FAULT_RECORD_BYTES, FAULT_RING_COOKIE, FAULT_RING_DEVICE, FAULT_RING_FLAG_LAST, FAULT_RING_FLAG_PASID, FAULT_RING_FLAGS, FAULT_RING_GROUP, FAULT_RING_IOASID,
  FAULT_RING_IOVA, FAULT_RING_KIND, FAULT_RING_KIND_EVENT, FAULT_RING_KIND_REQUEST, FAULT_RING_PASID, IOASID_ATTACH_USER_PASID, IOASID_PAGE_RESPONSE_SUCCESS,
  type FaultRecord, type HostOptions, type IommuOptions, type PgtableFormat,
} from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { asRequest, FaultingDevice } from "./fault-device.js";
import { childOf, gpaSpace, GuestPages, HVA, K4, spaces } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

const X86: PgtableFormat = { kind: "x86-64", levels: 4 };
const VTD: IommuOptions = { preset: "vtd-scalable", stage: 2 };
const flags = IOASID_ATTACH_USER_PASID;

/** dev2 has a guest's table above the RFC's root; nothing is in the table but 0x2000 -> 0x1000. */
async function bound(options: HostOptions = {}) {
  const it = await gpaSpace({ iommus: [VTD], ...options });
  const table = new GuestPages(it.host, FORMAT_X86_64);
  table.map(0x2000n, 0x1000n);
  const child = it.fd.allocIoasidPgtable({ parent: it.gpa, addr: table.root, format: X86 });
  it.devs[1]!.attachIoasid({ ioasid: child });
  return { ...it, table, child, dev1: new FaultingDevice(it.host, "dev1"), dev2: new FaultingDevice(it.host, "dev2") };
}

afterEach(() => {
  vi.useRealTimers();
});

describe("a page request", () => {
  it("says what is missing, for which device, and how to answer it", async () => {
    const { fd, devs, child, dev2, labels } = await bound();
    devs[1]!.detachIoasid({ ioasid: child });
    devs[1]!.attachIoasid({ ioasid: child, flags, userPasid: 7 });
    const { group } = dev2.ask([0x7123n], "w", 7);
    const [record, ...others] = fd.faults.read();
    expect(record).toEqual({
      kind: "request", cookie: expect.any(Number), ioasid: child, device: labels[1], deviceCookie: 0n, pasid: 7, iova: 0x7123n, access: "w", group, last: true,
    });
    expect(others).toEqual([]);
  });

  it("without a PASID has none, and tells the 64 bits that the bind gave", async () => {
    const host = await createHost({ memory: { ram: 0x100000 }, iommus: [VTD] });
    const [fd, file] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
    const label = file.bindIoasidFd({ ioasidFd: fd, cookie: 0xfedc_ba98_7654_3210n });
    const ioasid = fd.allocIoasid({ pageRequests: true });
    file.attachIoasid({ ioasid });
    new FaultingDevice(host, "dev1").ask([0xffff_ffff_f000n]);
    expect(fd.faults.read()).toMatchObject([
      { kind: "request", device: label, deviceCookie: 0xfedc_ba98_7654_3210n, pasid: null, ioasid, iova: 0xffff_ffff_f000n, access: "r" },
    ]);
  });

  it("comes when its group is complete, with the others of the group and under one cookie", async () => {
    const { fd, dev2 } = await bound();
    const faults = [0x7000n, 0x8000n, 0x9000n].map((iova) => dev2.refused(iova));
    const { group } = dev2.push(faults.slice(0, 2), true);
    expect(fd.faults.read()).toEqual([]);
    dev2.ask([0xa000n]);
    expect(fd.faults.read()).toMatchObject([{ iova: 0xa000n, last: true }]);
    dev2.push(faults.slice(2), false, group);
    const records = fd.faults.read().map(asRequest);
    expect(records.map(({ iova, last }) => [iova, last])).toEqual([[0x7000n, false], [0x8000n, false], [0x9000n, true]]);
    expect(new Set(records.map(({ cookie }) => cookie)).size).toBe(1);
    expect(records.every((record) => record.group === group)).toBe(true);
  });

  it("has a cookie that no other group of the host has", async () => {
    const { host, fd, devs, dev1, dev2, gpa } = await bound({ devices: [{ name: "dev1", rid: 8 }, { name: "dev2", rid: 16 }, { name: "dev3", rid: 24 }] });
    devs[2]!.detachIoasid({ ioasid: gpa });
    devs[2]!.unbindIoasidFd();
    const other = host.open("/dev/ioasid");
    devs[2]!.bindIoasidFd({ ioasidFd: other });
    devs[2]!.attachIoasid({ ioasid: other.allocIoasid({ pageRequests: true }) });
    const dev3 = new FaultingDevice(host, "dev3");
    expect(dev1.refused(1n << 40n).reason).toBe("not-present");
    const cookies: number[] = [];
    for (let n = 0; n < 4; n++) {
      dev2.ask([0x7000n]);
      dev3.ask([0x7000n]);
      for (const queue of [fd.faults, other.faults]) cookies.push(...queue.read().map((record) => asRequest(record).cookie));
    }
    expect(new Set(cookies).size).toBe(8);
  });
});

describe("an event", () => {
  it("of a one-stage table is the space's", async () => {
    const { fd, gpa, dev1, labels } = await bound();
    dev1.event(0x4000_0123n, "w");
    expect(fd.faults.read()).toEqual([{
      kind: "event", ioasid: gpa, child: null, ipa: null, device: labels[0], deviceCookie: 0n, pasid: null, iova: 0x4000_0123n, access: "w",
      reason: "not-present", class: "input", stage: 2, level: 2,
    }]);
  });

  it("of the guest's stage of two is the child's", async () => {
    const { fd, child, table, dev2, labels } = await bound();
    table.map(0x3000n, 0x1000n, 1);
    dev2.event(0x3000n, "w");
    expect(fd.faults.read()).toMatchObject([{ kind: "event", ioasid: child, child: null, ipa: null, device: labels[1], iova: 0x3000n, reason: "write-denied", stage: 1, level: 0 }]);
  });

  it("of the kernel's stage of two is the parent's, with the address there, and names the child", async () => {
    const { fd, gpa, child, table, dev2, labels } = await bound();
    table.map(0x3000n, 0x5000_0000n);
    dev2.event(0x3abcn);
    expect(fd.faults.read()).toMatchObject([{
      kind: "event", ioasid: gpa, child, ipa: 0x5000_0abcn, device: labels[1], iova: 0x3abcn, reason: "not-present", class: "input", stage: 2,
    }]);
  });

  it("of a guest's table that the parent does not map is the parent's, and says that a table was read", async () => {
    const { fd, gpa, child, table, dev2 } = await bound();
    const { host } = dev2;
    const { buffer, byteOffset } = host.process.bytes(HVA + table.root, 8);
    new DataView(buffer, byteOffset).setBigUint64(8, 0x5000_0007n, true);
    dev2.event(1n << 39n);
    expect(fd.faults.read()).toMatchObject([{ ioasid: gpa, child, ipa: 0x5000_0000n, iova: 1n << 39n, class: "table", stage: 2 }]);
  });

  it("of a shadow whose parent lacks the page is the parent's; of one that lacks it itself, the child's", async () => {
    const it = await gpaSpace({ iommus: [VTD] });
    const child = childOf(it, it.gpa);
    it.map(child, 0x7000, 0x5000_0000, 2n * K4);
    const dev2 = new FaultingDevice(it.host, "dev2");
    dev2.event(0x8010n, "w");
    dev2.event(0x9010n, "w");
    expect(it.fd.faults.read()).toMatchObject([
      { ioasid: it.gpa, child, ipa: 0x5000_1010n, iova: 0x8010n, reason: "not-present" }, { ioasid: child, child: null, ipa: null, iova: 0x9010n },
    ]);
  });

  it("of a shadow that an ancestor makes read-only is the ancestor's", async () => {
    const it = await spaces({ iommus: [VTD] });
    const root = it.fd.alloc();
    for (const dev of it.devs) dev.attachIoasid({ ioasid: root });
    it.map(root, 0x1000, HVA, K4, 1);
    const child = childOf(it, root);
    it.map(child, 0x7000, 0x1000);
    const own = 0x9000;
    it.map(child, own, 0x1000, K4, 1);
    const dev2 = new FaultingDevice(it.host, "dev2");
    dev2.event(0x7008n, "w");
    dev2.event(own, "w");
    expect(it.fd.faults.read()).toMatchObject([
      { ioasid: root, child, ipa: 0x1008n, reason: "write-denied" }, { ioasid: child, child: null, reason: "write-denied" },
    ]);
  });

  it("goes up as many levels as it takes", async () => {
    const it = await gpaSpace({ iommus: [VTD] });
    const chain = [it.gpa];
    for (let depth = 1; depth <= 4; depth++) {
      chain.push(childOf(it, chain.at(-1)!));
      // Each level moves by 1 MiB more; the second one has a hole, the root ends at 1 GB.
      it.map(chain.at(-1)!, BigInt(depth) * 0x10_0000n, BigInt(depth - 1) * 0x10_0000n, K4);
      if (depth !== 2) it.map(chain.at(-1)!, 0x4000_0000n, 0x4000_0000n, K4);
      it.map(chain.at(-1)!, 0x5000_0000n, 0x5000_0000n, K4);
    }
    const dev2 = new FaultingDevice(it.host, "dev2");
    expect(it.dma(2, 0x40_0000)).toBe(0n);
    dev2.event(0x4000_0000n);
    dev2.event(0x5000_0010n);
    dev2.event(0x6000_0000n);
    expect(it.fd.faults.read()).toMatchObject([
      { ioasid: chain[2], child: chain[4], ipa: 0x4000_0000n }, { ioasid: chain[0], child: chain[4], ipa: 0x5000_0010n, iova: 0x5000_0010n },
      { ioasid: chain[4], child: null, ipa: null },
    ]);
  });

  it("of a device that is attached to nothing, or to nothing that counts, has no space", async () => {
    const it = await gpaSpace({ iommus: [VTD], devices: [{ name: "dev1", rid: 8 }, { name: "dev2", rid: 16, group: 9 }, { name: "dev3", rid: 24, group: 9 }] });
    it.devs[0]!.detachIoasid({ ioasid: it.gpa });
    it.devs[2]!.detachIoasid({ ioasid: it.gpa });
    new FaultingDevice(it.host, "dev1").event(0x1000n);
    new FaultingDevice(it.host, "dev2").event(0x1000n, "w");
    new FaultingDevice(it.host, "dev2").event(0x1000n, "r", 5);
    expect(it.fd.faults.read()).toMatchObject([
      { ioasid: null, child: null, ipa: null, device: it.labels[0], reason: "blocked", class: "none", stage: 0, pasid: null },
      { ioasid: null, device: it.labels[1], access: "w", reason: "blocked" }, { ioasid: null, device: it.labels[1], reason: "blocked", pasid: 5 },
    ]);
  });

  it("of a device that nobody has bound is nobody's, and counted", async () => {
    const { host, fd, devs, gpa, dev1 } = await bound();
    devs[0]!.detachIoasid({ ioasid: gpa });
    devs[0]!.unbindIoasidFd();
    dev1.event(0x1000n);
    expect(fd.faults.read()).toEqual([]);
    expect(host.faultCounters).toEqual({ unowned: 1, lost: 0 });
  });

  it("is the fd's that the device is bound to, and no other's", async () => {
    const { host, fd, devs, gpa, dev1, dev2, labels } = await bound();
    devs[0]!.detachIoasid({ ioasid: gpa });
    devs[0]!.unbindIoasidFd();
    const other = host.open("/dev/ioasid");
    const label = devs[0]!.bindIoasidFd({ ioasidFd: other });
    dev1.event(0x1000n);
    dev2.event(0x9000n);
    expect(other.faults.read()).toMatchObject([{ device: label }]);
    expect(fd.faults.read()).toMatchObject([{ device: labels[1] }]);
  });
});

describe("a mediated device", () => {
  const devices = [
    { name: "pf", rid: 0x100 }, { name: "m1", parent: "pf" }, { name: "m2", parent: "pf" }, { name: "m3", parent: "pf", pasids: "default" as const },
  ];

  /** vPASID 5 of m1 and m2, each to a space of its own; the hardware's PASIDs are others. */
  async function mediated() {
    const host = await createHost({ memory: { ram: 0x400000 }, iommus: [VTD], devices });
    const fd = host.open("/dev/ioasid");
    const names = ["m1", "m2", "m3"];
    const files = names.map((name) => host.open(`/dev/vfio/devices/${name}`));
    const labels = files.map((file, n) => file.bindIoasidFd({ ioasidFd: fd, cookie: 100 + n }));
    const roots = files.map(() => fd.allocIoasid({ pageRequests: true }));
    files.forEach((file, n) => file.attachIoasid({ ioasid: roots[n]! }));
    const pasids = [0, 1].map(() => fd.allocIoasid({ pageRequests: true }));
    for (const n of [0, 1]) files[n]!.attachIoasid({ ioasid: pasids[n]!, flags, userPasid: 5 });
    const hardware = host.devices().flatMap(({ requester, pasids: own }) => [requester.pasid, ...[...own.values()].map(({ ppasid }) => ppasid)])
      .filter((pasid) => pasid !== undefined);
    return { host, fd, files, labels, roots, pasids, hardware, mdevs: names.map((name) => new FaultingDevice(host, name)) };
  }

  it("faults under its own label, cookie and vPASID, though all have one requester id", async () => {
    const { fd, labels, roots, pasids, mdevs } = await mediated();
    mdevs[0]!.ask([0x1000n], "r", 5);
    mdevs[1]!.ask([0x2000n], "w", 5);
    mdevs[1]!.event(0x3000n);
    mdevs[2]!.ask([0x4000n]);
    expect(fd.faults.read()).toMatchObject([
      { kind: "request", device: labels[0], deviceCookie: 100n, pasid: 5, ioasid: pasids[0], iova: 0x1000n },
      { kind: "request", device: labels[1], deviceCookie: 101n, pasid: 5, ioasid: pasids[1], iova: 0x2000n },
      { kind: "event", device: labels[1], pasid: null, ioasid: roots[1], iova: 0x3000n },
      { kind: "request", device: labels[2], deviceCookie: 102n, pasid: null, ioasid: roots[2], iova: 0x4000n },
    ]);
  });

  it("never tells what its requests carry on the bus: not in a record, not in the ring, not in an error", async () => {
    const { host, fd, files, pasids, hardware, mdevs } = await mediated();
    expect(new Set(hardware).size).toBe(5);
    expect(hardware).not.toContain(5);
    for (const mdev of mdevs) mdev.ask([0x100_0000n]);
    for (const n of [0, 1]) mdevs[n]!.event(0x100_0000n, "w", 5);
    // A pPASID that leads nowhere any more has no vPASID that could stand for it.
    const gone = mdevs[0]!.refused(0x100_0000n, "r", 5);
    files[0]!.detachIoasid({ ioasid: pasids[0]!, flags, userPasid: 5 });
    const stale = mdevs[0]!.push([gone]);
    mdevs[0]!.queue.push(gone);
    const { ring } = fd.faults;
    for (let n = ring.tail; n < ring.head; n++) {
      const at = n * FAULT_RECORD_BYTES;
      const vpasid = ring.getUint32(at + FAULT_RING_FLAGS) & FAULT_RING_FLAG_PASID ? 5 : 0;
      expect(ring.getUint32(at + FAULT_RING_PASID)).toBe(vpasid);
    }
    const records = fd.faults.read();
    expect(records).toHaveLength(5);
    for (const record of records) expect([null, 5]).toContain((record as { pasid: number | null }).pasid);
    expect(await stale.answer).toBe(1);
    expect(host.faultCounters.unowned).toBe(2);
    const texts = [
      refusal(() => fd.pageResponse({ cookie: 9999, code: 0 }), "ENOENT", "cookie"), refusal(() => fd.pageResponse({ cookie: 1, code: 3 }), "EINVAL", "code"),
    ].map(({ message, hint }) => `${message} ${hint}`).join();
    expect(texts).not.toMatch(/pasid/i);
  });
});

describe("reading", () => {
  it("takes records in order, as many as are wanted, and never waits", async () => {
    const { fd, dev2 } = await bound();
    for (const iova of [0x7000n, 0x8000n, 0x9000n]) dev2.event(iova);
    expect(fd.faults.read(2)).toMatchObject([{ iova: 0x7000n }, { iova: 0x8000n }]);
    expect(fd.faults.read()).toMatchObject([{ iova: 0x9000n }]);
    expect(fd.faults.read()).toEqual([]);
    for (const max of [0, -1, 1.5, NaN, "1"]) refusal(() => fd.faults.read(max as number), "EINVAL", "max");
    fd.close();
    refusal(() => fd.faults.read(), "EBADF");
  });

  it("nobody is called once the fd is closed, with what was left unread either", async () => {
    const { fd, dev2 } = await bound();
    dev2.event(0x7000n);
    fd.close();
    const heard: unknown[] = [];
    fd.faults.onRecord = (record) => heard.push(record);
    expect([heard, fd.faults.onRecord]).toEqual([[], undefined]);
  });

  it("the ring itself shows what is unread, at the documented offsets", async () => {
    const { fd, dev2, child, labels } = await bound();
    const { ring } = fd.faults;
    dev2.event(0x7000n);
    const { group } = dev2.ask([0x1234_5678_9000n]);
    expect([ring.depth, ring.tail, ring.head]).toEqual([1024, 0, 2]);
    expect(ring.getUint32(FAULT_RING_KIND)).toBe(FAULT_RING_KIND_EVENT);
    const at = FAULT_RECORD_BYTES;
    expect([FAULT_RING_KIND, FAULT_RING_FLAGS, FAULT_RING_IOASID, FAULT_RING_DEVICE, FAULT_RING_GROUP].map((offset) => ring.getUint32(at + offset)))
      .toEqual([FAULT_RING_KIND_REQUEST, FAULT_RING_FLAG_LAST, child, labels[1], group]);
    expect(ring.getBigUint64(at + FAULT_RING_IOVA)).toBe(0x1234_5678_9000n);
    const cookie = Number(ring.getBigUint64(at + FAULT_RING_COOKIE));
    expect(fd.faults.read()).toMatchObject([{ kind: "event" }, { kind: "request", cookie }]);
    expect([ring.tail, ring.head]).toEqual([2, 2]);
    expect(() => ring.getUint32(1024 * FAULT_RECORD_BYTES)).toThrow(RangeError);
    expect(Object.keys(ring)).toEqual([]);
  });

  it("`next` answers at once, or waits: first come, first served", async () => {
    const { fd, dev2 } = await bound();
    dev2.event(0x7000n);
    expect(await fd.faults.next()).toMatchObject({ iova: 0x7000n });
    const [first, second] = [fd.faults.next(), fd.faults.next()];
    for (const iova of [0x8000n, 0x9000n, 0xa000n]) dev2.event(iova);
    expect([await first, await second]).toMatchObject([{ iova: 0x8000n }, { iova: 0x9000n }]);
    expect(fd.faults.read()).toMatchObject([{ iova: 0xa000n }]);
  });

  it("`next` gives up after its time, and then takes nothing", async () => {
    const { fd, dev2 } = await bound();
    vi.useFakeTimers();
    const late = fd.faults.next({ timeout: 50 });
    const settled = vi.fn();
    const answered = late.then(settled);
    await vi.advanceTimersByTimeAsync(49);
    expect(settled).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    await answered;
    expect(settled).toHaveBeenCalledWith(undefined);
    dev2.event(0x7000n);
    expect(fd.faults.read()).toHaveLength(1);
    expect(await fd.faults.next({ timeout: 0 })).toBeUndefined();
    for (const timeout of [-1, 0.5, NaN, 2 ** 31, "5"]) {
      await expect(fd.faults.next({ timeout: timeout as number })).rejects.toMatchObject({ errno: "EINVAL", field: "timeout", value: timeout });
    }
    expect(vi.getTimerCount()).toBe(0);
  });

  it("the iterator goes on until the fd is closed, and so does whoever awaits", async () => {
    const { fd, dev2 } = await bound();
    const seen: FaultRecord[] = [];
    const loop = (async () => {
      for await (const record of fd.faults) seen.push(record);
    })();
    for (const iova of [0x7000n, 0x8000n]) {
      dev2.event(iova);
      await Promise.resolve();
    }
    await vi.waitFor(() => expect(seen).toMatchObject([{ iova: 0x7000n }, { iova: 0x8000n }]));
    const waiting = fd.faults.next();
    fd.close();
    await loop;
    expect(await waiting).toBeUndefined();
    expect(await fd.faults.next()).toBeUndefined();
  });

  it("a callback gets each record as soon as it is reported, and may answer it there", async () => {
    const { fd, dev2 } = await bound();
    const iovas: bigint[] = [];
    fd.faults.onRecord = (record) => {
      const { cookie, iova } = asRequest(record);
      iovas.push(iova);
      fd.pageResponse({ cookie, code: IOASID_PAGE_RESPONSE_SUCCESS });
    };
    const asked = [0x7000n, 0x8000n, 0x9000n].map((iova) => dev2.ask([iova]));
    expect(iovas).toEqual([0x7000n, 0x8000n, 0x9000n]);
    expect(await Promise.all(asked.map(({ answer }) => answer))).toEqual([0, 0, 0]);
    fd.faults.onRecord = undefined;
    dev2.event(0xa000n);
    expect(fd.faults.read()).toHaveLength(1);
    expect(() => { fd.faults.onRecord = 5 as never; }).toThrow(/EINVAL/);
  });

  it("a callback that is set late gets what is there; within a section it waits for its end", async () => {
    const { host, fd, dev2 } = await bound();
    dev2.event(0x7000n);
    const seen: FaultRecord[] = [];
    fd.faults.onRecord = (record) => seen.push(record);
    expect(seen).toHaveLength(1);
    host.port.batch(() => {
      dev2.event(0x8000n);
      expect(seen).toHaveLength(1);
    });
    await Promise.resolve();
    expect(seen).toMatchObject([{ iova: 0x7000n }, { iova: 0x8000n }]);
  });

  it("an error of a callback is not the device's, nor the call's that found the record", async () => {
    const { fd, dev2 } = await bound();
    const listeners = process.listeners("unhandledRejection");
    process.removeAllListeners("unhandledRejection");
    const rejected = new Promise((resolve) => process.once("unhandledRejection", resolve));
    try {
      fd.faults.onRecord = () => { throw new Error("of the reader"); };
      dev2.queue.push(dev2.refused(0x7000n));
      expect(fd.checkExtension({ extension: 9 })).toBe(1);
      expect(await rejected).toMatchObject({ message: "of the reader" });
    } finally {
      for (const each of listeners) process.on("unhandledRejection", each);
    }
  });
});

it("what is reported elsewhere is delivered by the next call, whichever it is", async () => {
  const { host, fd, devs, dev2 } = await bound();
  const other = host.open("/dev/ioasid");
  for (const call of [() => fd.checkExtension({ extension: 1 }), () => other.alloc(), () => devs[0]!.detachIoasid({ ioasid: 1 })]) {
    dev2.queue.push(dev2.refused(0x7000n));
    const { head } = fd.faults.ring;
    call();
    expect(fd.faults.ring.head).toBe(head + 1);
  }
});

it("with a shared memory whoever awaits hears of what is only pushed, and keeps the process alive meanwhile", async () => {
  const { host, fd, dev2 } = await bound({ memory: { ram: 0x400000, arena: 0x800000, shared: true } });
  const next = fd.faults.next();
  const timers = process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  expect(timers).toBeGreaterThan(0);
  dev2.queue.push(dev2.refused(0x7000n));
  expect(await next).toMatchObject({ iova: 0x7000n });
  expect(host.faultCounters).toEqual({ unowned: 0, lost: 0 });
});

it("a host's queues have 32 to 2^20 records, 1024 by default", async () => {
  for (const depth of [31, 2 ** 20 + 1, 32.5, "64"]) {
    await expect(createHost({ faultQueue: { depth: depth as number } })).rejects.toMatchObject({ code: "BAD_OPTION", field: "faultQueue.depth" });
  }
  const { fd } = await bound({ faultQueue: { depth: 33 } });
  expect(fd.faults.ring.depth).toBe(33);
});
