// Answers to page requests: by cookie, by range, by what takes the DMA elsewhere, and by a queue that is full. RFC section 5.6.
import { describe, expect, it } from "vitest";
import {
  createHost, IOASID_ATTACH_USER_PASID, IOASID_PAGE_RESPONSE, IOASID_PAGE_RESPONSE_FAILURE, IOASID_PAGE_RESPONSE_INVALID,
  IOASID_PAGE_RESPONSE_RANGE, IOASID_PAGE_RESPONSE_SUCCESS, type HostOptions, type IommuOptions, type PgtableFormat,
} from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { type Asked, asRequest, FaultingDevice } from "./fault-device.js";
import { childOf, gpaSpace, GuestPages, HVA, K4, spaces, type Spaces } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

const X86: PgtableFormat = { kind: "x86-64", levels: 4 };
const VTD: IommuOptions = { preset: "vtd-scalable", stage: 2 };
const flags = IOASID_ATTACH_USER_PASID;
const SUCCESS = IOASID_PAGE_RESPONSE_SUCCESS;
const INVALID = IOASID_PAGE_RESPONSE_INVALID;
const FAILURE = IOASID_PAGE_RESPONSE_FAILURE;

/** Both devices are in a root that asks for pages, and has none; dev1 is with PASID 5 in another. */
async function asking(options: HostOptions & { count?: number } = {}) {
  const it = await spaces({ iommus: [VTD], ...options });
  const [root, other] = [0, 0].map(() => it.fd.allocIoasid({ pageRequests: true })) as [number, number];
  for (const dev of it.devs) dev.attachIoasid({ ioasid: root });
  it.devs[0]!.attachIoasid({ ioasid: other, flags, userPasid: 5 });
  return { ...it, root, other, dev1: new FaultingDevice(it.host, "dev1"), dev2: new FaultingDevice(it.host, "dev2") };
}

/** dev2 has a guest's table, without anything in it. */
async function bound() {
  const it = await gpaSpace({ iommus: [VTD] });
  const table = new GuestPages(it.host, FORMAT_X86_64);
  const child = it.fd.allocIoasidPgtable({ parent: it.gpa, addr: table.root, format: X86 });
  it.devs[1]!.attachIoasid({ ioasid: child });
  return { ...it, table, child, dev2: new FaultingDevice(it.host, "dev2") };
}

const cookieOf = ({ fd }: Pick<Spaces, "fd">): number => asRequest(fd.faults.read().at(-1)).cookie;

/** The code that the device has by now; "waits" if it has none. */
const soFar = ({ answer }: Asked): Promise<unknown> => Promise.race([answer, new Promise((resolve) => setImmediate(resolve, "waits"))]);

describe("IOASID_PAGE_RESPONSE", () => {
  it.each([SUCCESS, INVALID, FAILURE])("hands code %i to the device, and to no other", async (code) => {
    const it = await asking();
    const [first, second] = [it.dev1.ask([0x1000n]), it.dev1.ask([0x1000n])];
    const [cookie] = it.fd.faults.read().map((record) => asRequest(record).cookie);
    it.host.ioctl(it.fd, IOASID_PAGE_RESPONSE, { cookie: cookie!, code });
    expect(await first.answer).toBe(code);
    expect(await soFar(second)).toBe("waits");
    expect(it.fd.faults.pending).toBe(1);
  });

  it("completes a group of many pages at once, read or not", async () => {
    const it = await asking();
    const asked = it.dev1.ask([0x1000n, 0x2000n, 0x3000n]);
    const { cookie } = asRequest(it.fd.faults.read(1)[0]);
    it.dev2.event(0x9000n);
    it.fd.pageResponse({ cookie: BigInt(cookie), code: SUCCESS });
    expect(await asked.answer).toBe(SUCCESS);
    expect(it.fd.faults.read()).toMatchObject([{ kind: "event", iova: 0x9000n }]);
  });

  it("is ENOENT for a cookie that nobody has, that has been answered, or that is another fd's, and says which", async () => {
    const it = await asking();
    const other = it.host.open("/dev/ioasid");
    const asked = it.dev1.ask([0x1000n]);
    const cookie = cookieOf(it);
    const refused = (fd: typeof other, number: number) => refusal(() => fd.pageResponse({ cookie: number, code: SUCCESS }), "ENOENT", "cookie");
    expect(refused(other, cookie)).toMatchObject({ call: "IOASID_PAGE_RESPONSE", value: cookie, hint: expect.stringContaining("another ioasid fd") });
    expect(refused(it.fd, cookie + 1).hint).toContain("come with the requests");
    expect(await soFar(asked)).toBe("waits");
    it.fd.pageResponse({ cookie, code: FAILURE });
    for (const fd of [it.fd, other]) expect(refused(fd, cookie).hint).toContain("has been answered");
    expect(await asked.answer).toBe(FAILURE);
  });

  it("is EINVAL for a code or a cookie that is none, and answers nobody", async () => {
    const it = await asking();
    const asked = it.dev1.ask([0x1000n]);
    const cookie = cookieOf(it);
    for (const code of [3, 15, 2 ** 32 - 1]) {
      expect(refusal(() => it.fd.pageResponse({ cookie, code }), "EINVAL", "code")).toMatchObject({ value: code, hint: expect.stringContaining("SUCCESS (0)") });
    }
    for (const code of [-1, 0.5, "0", undefined, null]) refusal(() => it.fd.pageResponse({ cookie, code: code as never }), "EINVAL", "code");
    for (const bad of [-1, 0.5, "1", undefined, 1n << 64n]) refusal(() => it.fd.pageResponse({ cookie: bad as never, code: 0 }), "EINVAL", "cookie");
    refusal(() => it.fd.pageResponse({ cookie, code: 0, extra: 1 } as never), "EINVAL", "extra");
    refusal(() => it.fd.pageResponse(undefined as never), "EFAULT");
    expect(await soFar(asked)).toBe("waits");
    it.fd.close();
    refusal(() => it.fd.pageResponse({ cookie, code: 0 }), "EBADF", "fd");
  });

  it("after the device gave up is no error, and wakes nobody else", async () => {
    const it = await asking();
    const gone = it.dev1.ask([0x1000n]);
    it.dev1.stalls.close(gone.group);
    const next = it.dev1.ask([0x2000n]);
    const [cookie] = it.fd.faults.read().map((record) => asRequest(record).cookie);
    it.fd.pageResponse({ cookie: cookie!, code: INVALID });
    expect(await soFar(next)).toBe("waits");
  });
});

describe("IOASID_PAGE_RESPONSE_RANGE", () => {
  it("completes each group with a page in the range, and counts groups", async () => {
    const it = await asking();
    const low = it.dev1.ask([0x1000n, 0x2000n]);
    const across = it.dev2.ask([0x2fffn, 0x8000n]);
    const high = it.dev1.ask([0x3000n]);
    const elsewhere = it.dev1.ask([0x2000n], "r", 5);
    const range = { ioasid: it.root, iova: 0x2000n, size: K4, code: SUCCESS };
    expect(it.host.ioctl(it.fd, IOASID_PAGE_RESPONSE_RANGE, range)).toEqual({ completed: 2 });
    expect([await low.answer, await across.answer, await soFar(high), await soFar(elsewhere)]).toEqual([SUCCESS, SUCCESS, "waits", "waits"]);
    expect(it.fd.pageResponseRange(range)).toEqual({ completed: 0 });
    // What was answered unread is not there to be answered again.
    expect(it.fd.faults.read()).toMatchObject([{ iova: 0x3000n }, { iova: 0x2000n, pasid: 5 }]);
    expect(it.fd.pageResponseRange({ ...range, iova: 0n, size: 1n << 48n, code: FAILURE })).toEqual({ completed: 1 });
    expect(await high.answer).toBe(FAILURE);
  });

  it("with a PASID means only groups of that PASID", async () => {
    const it = await asking();
    it.devs[1]!.attachIoasid({ ioasid: it.other, flags, userPasid: 6 });
    const [five, six] = [it.dev1.ask([0x1000n], "r", 5), it.dev2.ask([0x1000n], "r", 6)];
    const range = { ioasid: it.other, iova: 0n, size: 0x10000n, code: SUCCESS };
    expect(it.fd.pageResponseRange({ ...range, pasid: 7 })).toEqual({ completed: 0 });
    expect(it.fd.pageResponseRange({ ...range, pasid: 6 })).toEqual({ completed: 1 });
    expect([await six.answer, await soFar(five)]).toEqual([SUCCESS, "waits"]);
    expect(it.fd.pageResponseRange(range)).toEqual({ completed: 1 });
  });

  it("refuses a space that is none, a code, and a range that is empty, misaligned or too long; then nothing is answered", async () => {
    const it = await asking();
    const asked = it.dev1.ask([0x1000n]);
    const range = { ioasid: it.root, iova: 0n, size: 0x10000n, code: SUCCESS };
    refusal(() => it.fd.pageResponseRange({ ...range, ioasid: 99 }), "ENOENT", "ioasid");
    refusal(() => it.fd.pageResponseRange({ ...range, code: 3 }), "EINVAL", "code");
    refusal(() => it.fd.pageResponseRange({ ...range, size: 0 }), "EINVAL", "size");
    refusal(() => it.fd.pageResponseRange({ ...range, iova: 1 }), "EINVAL", "iova");
    refusal(() => it.fd.pageResponseRange({ ...range, iova: 0xffff_ffff_ffff_f000n, size: 0x2000 }), "EOVERFLOW", "size");
    refusal(() => it.fd.pageResponseRange({ ...range, pasid: -1 }), "EINVAL", "pasid");
    expect(await soFar(asked)).toBe("waits");
  });
});

describe("what waits is answered INVALID", () => {
  it("at the detach of its device and PASID, and nothing else is", async () => {
    const it = await asking();
    const [plain, five, dev2] = [it.dev1.ask([0x1000n]), it.dev1.ask([0x1000n], "r", 5), it.dev2.ask([0x1000n])];
    it.devs[0]!.detachIoasid({ ioasid: it.other, flags, userPasid: 5 });
    expect([await five.answer, await soFar(plain), await soFar(dev2)]).toEqual([INVALID, "waits", "waits"]);
    expect(it.fd.faults.read()).toMatchObject([{ pasid: null, device: it.labels[0] }, { device: it.labels[1] }]);
    it.devs[0]!.detachIoasid({ ioasid: it.root });
    expect([await plain.answer, await soFar(dev2)]).toEqual([INVALID, "waits"]);
    expect(it.fd.faults.pending).toBe(1);
  });

  it("at the detach from a child, while what waited for the parent goes on waiting", async () => {
    const it = await asking();
    const parent = it.dev2.ask([0x1000n]);
    const child = it.fd.allocIoasid({ parent: it.root, pageRequests: true });
    it.devs[1]!.attachIoasid({ ioasid: child });
    const below = it.dev2.ask([0x1000n]);
    expect(it.fd.faults.read()).toMatchObject([{ ioasid: it.root }, { ioasid: child }]);
    it.devs[1]!.detachIoasid({ ioasid: child });
    expect([await below.answer, await soFar(parent)]).toEqual([INVALID, "waits"]);
  });

  it("when the group moves because another device of it was detached", async () => {
    const it = await spaces({ iommus: [VTD], devices: [{ name: "dev1", rid: 8, group: 3 }, { name: "dev2", rid: 16, group: 3 }] });
    const root = it.fd.allocIoasid({ pageRequests: true });
    for (const dev of it.devs) dev.attachIoasid({ ioasid: root });
    const asked = new FaultingDevice(it.host, "dev2").ask([0x1000n]);
    it.devs[0]!.detachIoasid({ ioasid: root });
    expect(await asked.answer).toBe(INVALID);
  });

  it("at the unbind of the table", async () => {
    const it = await bound();
    const asked = it.dev2.ask([0x7000n]);
    it.fd.unbindPgtable({ ioasid: it.child });
    expect(await asked.answer).toBe(INVALID);
    expect(it.fd.faults.read()).toEqual([]);
  });

  it("at the close of either fd: the device's in the middle of its fault, or the ioasid fd", async () => {
    for (const close of ["device", "ioasid"] as const) {
      const it = await asking();
      const asked = it.dev1.ask([0x1000n]);
      const half = it.dev1.push([it.dev1.refused(0x2000n), it.dev1.refused(0x3000n)], true);
      (close === "device" ? it.devs[0]! : it.fd).close();
      expect(await asked.answer).toBe(INVALID);
      // The rest of the group comes to a device that is nobody's any more.
      const rest = it.dev1.push([it.dev1.refused(0x4000n)], false, half.group);
      expect(await rest.answer).toBe(INVALID);
      if (close === "device") expect(it.fd.faults.read()).toEqual([]);
    }
  });

  it("when it is found after the DMA was led elsewhere: reported by another thread in the meantime", async () => {
    const it = await asking();
    const fault = it.dev1.refused(0x1000n);
    const group = it.dev1.stalls.open()!;
    it.devs[0]!.detachIoasid({ ioasid: it.root });
    it.dev1.queue.push(fault, { group, last: true });
    expect(it.fd.faults.read()).toEqual([]);
    expect(await it.dev1.stalls.wait(group, 1000)).toBe(INVALID);
  });

  it("and a space that is attached cannot be freed, nor its device unbound, before that", async () => {
    const it = await asking();
    const asked = it.dev1.ask([0x1000n], "r", 5);
    refusal(() => it.fd.free({ ioasid: it.other }), "EBUSY", "ioasid");
    refusal(() => it.devs[0]!.unbindIoasidFd(), "EBUSY", "ioasid");
    expect(await soFar(asked)).toBe("waits");
    it.devs[0]!.detachIoasid({ ioasid: it.other, flags, userPasid: 5 });
    it.fd.free({ ioasid: it.other });
    expect([await asked.answer, it.fd.faults.pending]).toEqual([INVALID, 0]);
  });

  it("when an ancestor lacks the page that the child's map stands for: that is an event of the ancestor", async () => {
    const it = await gpaSpace({ iommus: [VTD] });
    const child = it.fd.allocIoasid({ parent: it.gpa, pageRequests: true });
    it.devs[1]!.attachIoasid({ ioasid: child });
    it.map(child, 0x7000, 0x5000_0000);
    const dev2 = new FaultingDevice(it.host, "dev2");
    const asked = dev2.ask([0x7000n, 0x9000n]);
    expect(await asked.answer).toBe(INVALID);
    expect(it.fd.faults.read()).toMatchObject([{ kind: "event", ioasid: it.gpa, child, ipa: 0x5000_0000n, iova: 0x7000n }]);
    dev2.ask([0x9000n]);
    expect(it.fd.faults.read()).toMatchObject([{ kind: "request", ioasid: child, iova: 0x9000n }]);
  });
});

describe("a queue that is full", () => {
  const depth = 32;
  const iovas = (n: number) => Array.from({ length: n }, (_, page) => BigInt(page + 1) * K4);

  it("takes a group whole or not at all, and lets the device of the others try again", async () => {
    const it = await asking({ faultQueue: { depth } });
    const waits = it.dev1.ask(iovas(31));
    expect(await it.dev2.ask(iovas(2)).answer).toBe(SUCCESS);
    expect(it.fd.faults.dropped).toBe(2);
    // The room of the last record is the overflow's.
    expect(await it.dev2.ask(iovas(1)).answer).toBe(SUCCESS);
    const records = it.fd.faults.read();
    expect(records).toHaveLength(32);
    expect(records.at(-1)).toEqual({ kind: "overflow", dropped: 3 });
    expect(await soFar(waits)).toBe("waits");
  });

  it("says how many records it dropped as soon as there is room, then takes others again", async () => {
    const it = await asking({ faultQueue: { depth } });
    for (let n = 0; n < depth + 5; n++) it.dev1.event(BigInt(n) * K4);
    expect([it.fd.faults.dropped, it.fd.faults.ring.head]).toEqual([5, depth]);
    expect(it.fd.faults.read(1)).toMatchObject([{ kind: "event", iova: 0n }]);
    it.dev1.event(0x10_0000n);
    const rest = it.fd.faults.read();
    expect(rest.slice(0, 31)).toMatchObject(iovas(31).map((iova) => ({ kind: "event", iova })));
    expect(rest.slice(31)).toEqual([{ kind: "overflow", dropped: 6 }]);
    const asked = it.dev1.ask(iovas(32));
    expect(it.fd.faults.read()).toHaveLength(32);
    expect(await soFar(asked)).toBe("waits");
  });

  it("is one of requests that nobody answers, too, read or not: a user who never answers costs no memory", async () => {
    const it = await asking({ faultQueue: { depth } });
    for (const page of iovas(depth)) it.dev1.ask([page]);
    expect(it.fd.faults.read()).toHaveLength(depth);
    const more = iovas(100).map((page) => it.dev2.ask([page]));
    expect(await Promise.all(more.map(({ answer }) => answer))).toEqual(more.map(() => SUCCESS));
    expect(it.fd.faults.pending).toBe(depth);
    expect(it.fd.faults.read()).toEqual([{ kind: "overflow", dropped: 100 }]);
    expect(it.fd.pageResponseRange({ ioasid: it.root, iova: 0n, size: 1n << 47n, code: FAILURE })).toEqual({ completed: depth });
    it.dev2.ask([0x1000n]);
    expect(it.fd.faults.read()).toMatchObject([{ kind: "request" }]);
  });

  it("gives back the room of requests that a detach has answered", async () => {
    const it = await asking({ faultQueue: { depth } });
    for (const page of iovas(16)) {
      it.dev1.ask([page], "r", 5);
      it.dev2.event(page);
    }
    await it.dev2.ask([0x1000n]).answer;
    it.devs[0]!.detachIoasid({ ioasid: it.other, flags, userPasid: 5 });
    it.dev2.ask([0x1000n]);
    const records = it.fd.faults.read();
    expect(records.slice(0, 16)).toMatchObject(iovas(16).map((iova) => ({ kind: "event", iova })));
    expect(records.slice(16)).toMatchObject([{ kind: "overflow", dropped: 1 }, { kind: "request", device: it.labels[1] }]);
  });
});

it("a queue of the engine that was full makes incomplete groups try again, and everybody hears of it", async () => {
  const it = await asking({ faultQueue: { depth: 2048 } });
  const { dev1, host } = it;
  const [half, whole] = [dev1.push([dev1.refused(0x1000n)], true), dev1.ask([0x2000n])];
  const event = dev1.refused(0x9000n);
  let lost = 0;
  for (let n = 0; n < 5000; n++) if (!dev1.queue.push(event)) lost++;
  expect(lost).toBeGreaterThan(0);
  const records = it.fd.faults.read();
  expect(await half.answer).toBe(SUCCESS);
  expect(await soFar(whole)).toBe("waits");
  expect(records.at(-1)).toEqual({ kind: "overflow", dropped: lost });
  expect(host.faultCounters.lost).toBe(lost);
  // Its last request, come late, makes a group of what is left.
  dev1.push([dev1.refused(0x3000n)], false, half.group);
  expect(it.fd.faults.read()).toMatchObject([{ kind: "request", iova: 0x3000n, last: true }]);
});

describe("a space that asks for pages", () => {
  it("and is managed by the kernel can be filled on demand", async () => {
    const it = await asking();
    it.fd.faults.onRecord = (record) => {
      // The probes below are events.
      if (record.kind !== "request") return;
      const { cookie, ioasid, iova } = record;
      it.map(ioasid, iova & ~0xfffn, HVA + (iova & ~0xfffn));
      it.fd.pageResponse({ cookie, code: SUCCESS });
    };
    for (const iova of [0x1000n, 0x5678n]) {
      expect(it.dma(1, iova)).toBe("not-present");
      expect(await it.dev1.ask([iova]).answer).toBe(SUCCESS);
      expect(it.dma(1, iova)).toBe(iova);
    }
  });

  it("is by default one with a guest's table, while it has it", async () => {
    const it = await bound();
    const unasked = childOf(it, it.gpa, [1]);
    expect([it.gpa, it.child, unasked].map((ioasid) => it.info(ioasid).pageRequests)).toEqual([false, true, false]);
    const parent = new FaultingDevice(it.host, "dev1").ask([1n << 40n]);
    expect(await parent.answer).toBe(INVALID);
    it.fd.unbindPgtable({ ioasid: it.child });
    expect(it.info(it.child).pageRequests).toBe(false);
    it.fd.bindPgtable({ ioasid: it.child, addr: it.table.root, format: X86 });
    expect(it.info(it.child).pageRequests).toBe(true);
  });

  it("is what the user says: also none with a guest's table, and a child with maps", async () => {
    const it = await bound();
    it.devs[1]!.detachIoasid({ ioasid: it.child });
    const without = it.fd.allocIoasidPgtable({ parent: it.gpa, addr: it.table.root, format: X86, pageRequests: false });
    it.devs[1]!.attachIoasid({ ioasid: without });
    expect(it.info(without).pageRequests).toBe(false);
    expect(await it.dev2.ask([0x7000n]).answer).toBe(INVALID);
    const child = it.fd.allocIoasid({ parent: it.gpa, pageRequests: true });
    expect(it.info(child).pageRequests).toBe(false);
    it.devs[0]!.attachIoasid({ ioasid: child });
    expect(it.info(child).pageRequests).toBe(true);
    for (const pageRequests of [1, "true", null]) {
      refusal(() => it.fd.allocIoasid({ pageRequests: pageRequests as never }), "EINVAL", "pageRequests");
    }
  });

  it("needs an IOMMU that passes them on: else EOPNOTSUPP at the attach, or at the allocation of a child", async () => {
    for (const iommu of [{ preset: "vtd" }, { ...VTD, pageRequests: false }] as const) {
      const it = await gpaSpace({ iommus: [iommu] });
      const root = it.fd.allocIoasid({ pageRequests: true });
      it.devs[0]!.detachIoasid({ ioasid: it.gpa });
      const error = refusal(() => it.devs[0]!.attachIoasid({ ioasid: root }), "EOPNOTSUPP", "ioasid");
      expect(error).toMatchObject({ value: root, conflict: { kind: "device", device: "dev1" }, message: expect.stringContaining("makes no page requests") });
      expect(it.info(root).devices).toEqual([]);
      refusal(() => it.fd.allocIoasid({ parent: it.gpa, pageRequests: true }), "EOPNOTSUPP", "pageRequests");
      expect(it.info(it.gpa).children).toEqual([]);
      expect(it.fd.deviceGetInfo({ label: it.labels[0]! }).pageRequests).toBe(false);
    }
  });

  it("is asked by the devices that can: an option, by default whether their IOMMU can", async () => {
    const devices = [{ name: "dev1", rid: 8 }, { name: "dev2", rid: 16, pageRequests: false }];
    const it = await spaces({ iommus: [VTD], devices });
    expect(it.labels.map((label) => it.fd.deviceGetInfo({ label }).pageRequests)).toEqual([true, false]);
    expect(devices.map(({ name }) => it.host.device(name).token().pageRequests)).toEqual([true, false]);
    await expect(createHost({ devices: [{ name: "dev1", rid: 8, pageRequests: true }] })).rejects.toMatchObject({ code: "BAD_OPTION", field: "devices.pageRequests" });
    await expect(createHost({ devices: [{ name: "dev1", rid: 8, pageRequests: 1 as never }] })).rejects.toMatchObject({ field: "devices.pageRequests" });
  });
});

it("100,000 faults are asked for, read and answered in the memory of the first ones", async () => {
  const it = await asking({ faultQueue: { depth: 64 } });
  const { ring } = it.fd.faults;
  const fault = it.dev1.refused(0x1000n);
  let [answered, last] = [0, 0];
  const rounds = 100_000 / 50;
  for (let round = 0; round < rounds; round++) {
    const groups = Array.from({ length: 50 }, () => it.dev1.stalls.open()!);
    for (const group of groups) it.dev1.queue.push(fault, { group, last: true });
    for (const record of it.fd.faults.read()) {
      const { cookie } = asRequest(record);
      expect(cookie).toBeGreaterThan(last);
      it.fd.pageResponse({ cookie: (last = cookie), code: SUCCESS });
      answered++;
    }
    for (const group of groups) it.dev1.stalls.close(group);
    if (it.fd.faults.pending !== 0 || ring.head - ring.tail !== 0) throw new Error(`round ${round} left something`);
  }
  expect([answered, ring.head, it.fd.faults.dropped]).toEqual([100_000, 100_000, 0]);
  expect(() => ring.getUint8(64 * 64)).toThrow(RangeError);
  expect(it.host.faultCounters).toEqual({ unowned: 0, lost: 0 });
});
