// I/O page faults: devices ask for pages that a space lacks, the user is told, and answers. RFC section 5.6.
import { describe, expect, it } from "vitest";
import { DmaFault, IoctlError, type FaultRecord, type IoasidFd, type PageRequest } from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { asRequest } from "./fault-device.js";
import { gpaSpace, GuestPages, HVA, K4, R, RW, type Spaces } from "./space-host.js";

const SCALABLE = { iommus: [{ preset: "vtd-scalable", stage: 2 }] } as const;
const [SUCCESS, INVALID, FAILURE] = [0, 1, 2];

/** dev2 is attached to a child with an empty guest's table. */
export async function guest(options = {}) {
  const it = await gpaSpace({ ...SCALABLE, ...options });
  const pages = new GuestPages(it.host, FORMAT_X86_64);
  const gva = it.fd.allocIoasidPgtable({ parent: it.gpa, addr: pages.root, format: { kind: "x86-64", levels: 4 } });
  it.devs[1]!.attachIoasid({ ioasid: gva });
  const view = it.host.device("dev2").dma();
  return { ...it, pages, gva, view };
}

/** How an access ends: its bytes, or why it was refused. */
const ending = (access: Promise<unknown>): Promise<unknown> => access.then((value) => value ?? "done", (error: unknown) => (error as DmaFault).reason);

/** The records, which are all page requests; at least one. */
function requests(records: readonly FaultRecord[]): [PageRequest, ...PageRequest[]] {
  expect(records).not.toEqual([]);
  return records.map(asRequest) as [PageRequest, ...PageRequest[]];
}

function refused(call: () => unknown): IoctlError {
  try {
    call();
  } catch (error) {
    if (error instanceof IoctlError) return error;
    throw error;
  }
  throw new Error("not refused");
}

describe("a page request", () => {
  it("tells the space, the device, the page and the access, and the read goes on once the page is there", async () => {
    const { fd, pages, gva, labels, view, host } = await guest();
    host.process.bytes(HVA + 0x5000n, 4).set([1, 2, 3, 4]);
    const read = view.read(0x7003n, 1);
    const [record] = fd.faults.read();
    expect(record).toEqual({
      kind: "request", cookie: expect.any(Number), ioasid: gva, device: labels[1], deviceCookie: 0n, pasid: null, iova: 0x7000n, access: "r",
      group: expect.any(Number), last: true,
    });
    pages.map(0x7000n, 0x5000n);
    fd.pageResponse({ cookie: (record as { cookie: number }).cookie, code: SUCCESS });
    expect([...await read]).toEqual([4]);
    expect(fd.faults.read()).toEqual([]);
  });

  it("of an access over several pages is one group, in order, the last one marked, and has one answer", async () => {
    const { fd, pages, view } = await guest();
    pages.map(0x8000n, 0x5000n);
    const write = view.write(0x7ffen, new Uint8Array(3 * 4096));
    const group = requests(fd.faults.read());
    expect(group.map(({ iova, access, last }) => [iova, access, last])).toEqual([[0x7000n, "w", false], [0x9000n, "w", false], [0xa000n, "w", true]]);
    expect(new Set(group.map(({ cookie }) => cookie)).size).toBe(1);
    for (const iova of [0x7000n, 0x9000n, 0xa000n]) pages.map(iova, 0x6000n);
    fd.pageResponse({ cookie: group[0]!.cookie, code: SUCCESS });
    expect(await ending(write)).toBe("done");
  });

  it.each([[INVALID, "page-request-invalid"], [FAILURE, "page-request-failed"]])("answered %i ends the access with %s", async (code, reason) => {
    const { fd, view } = await guest();
    const read = ending(view.read(0x7000n, 8));
    const [{ cookie }] = requests(fd.faults.read());
    fd.pageResponse({ cookie, code });
    expect(await read).toBe(reason);
    expect(fd.faults.read()).toEqual([]);
  });

  it("is made for a write to what may only be read", async () => {
    const { fd, pages, view } = await guest();
    pages.map(0x7000n, 0x5000n, R);
    const write = ending(view.write(0x7000n, Uint8Array.of(1)));
    const [{ cookie, access }] = requests(fd.faults.read());
    expect(access).toBe("w");
    pages.map(0x7000n, 0x5000n, RW);
    fd.pageResponse({ cookie, code: SUCCESS });
    expect(await write).toBe("done");
  });

  it("is an event when the access cannot wait", async () => {
    const { fd, gva, labels, view } = await guest();
    expect(() => view.readSync(0x7004n, 4)).toThrow(DmaFault);
    expect(fd.faults.read()).toEqual([{
      kind: "event", ioasid: gva, child: null, device: labels[1], deviceCookie: 0n, pasid: null, iova: 0x7004n, ipa: null, access: "r", reason: "not-present",
      class: "input", stage: 1, level: 3,
    }]);
  });
});

describe("responses", () => {
  it("to a cookie that was never given, is answered, or belongs to another fd are refused", async () => {
    const { fd, view, host } = await guest();
    const read = ending(view.read(0x7000n, 8));
    const [{ cookie }] = requests(fd.faults.read());
    const other = host.open("/dev/ioasid");
    expect(refused(() => other.pageResponse({ cookie, code: INVALID }))).toMatchObject({ errno: "ENOENT", field: "cookie", value: cookie });
    expect(refused(() => fd.pageResponse({ cookie: cookie + 1, code: INVALID }))).toMatchObject({ errno: "ENOENT", hint: expect.stringContaining("cookies come with") });
    expect(refused(() => fd.pageResponse({ cookie, code: 3 }))).toMatchObject({ errno: "EINVAL", field: "code", value: 3 });
    expect(refused(() => fd.pageResponse({ cookie: -1, code: 0 }))).toMatchObject({ errno: expect.stringMatching("EINVAL|EOVERFLOW"), field: "cookie", value: -1 });
    fd.pageResponse({ cookie, code: INVALID });
    expect(refused(() => fd.pageResponse({ cookie, code: INVALID }))).toMatchObject({ errno: "ENOENT", hint: expect.stringContaining("has been answered") });
    expect(await read).toBe("page-request-invalid");
  });

  it("by range complete every group that waits for a page of it", async () => {
    const { fd, pages, gva, gpa, view } = await guest();
    const reads = [0x7000n, 0x8000n, 0x9000n].map((iova) => ending(view.read(iova, 2)));
    expect(requests(fd.faults.read())).toHaveLength(3);
    expect(fd.pageResponseRange({ ioasid: gpa, iova: 0x7000, size: 0x3000, code: SUCCESS })).toEqual({ completed: 0 });
    for (const iova of [0x7000n, 0x8000n]) pages.map(iova, 0x5000n);
    expect(fd.pageResponseRange({ ioasid: gva, iova: 0x7000, size: 0x2000, code: SUCCESS })).toEqual({ completed: 2 });
    expect(await Promise.all(reads.slice(0, 2))).toEqual([new Uint8Array(2), new Uint8Array(2)]);
    expect(fd.pageResponseRange({ ioasid: gva, iova: 0, size: 1n << 40n, code: INVALID, pasid: 3 })).toEqual({ completed: 0 });
    expect(fd.pageResponseRange({ ioasid: gva, iova: 0, size: 1n << 40n, code: INVALID })).toEqual({ completed: 1 });
    expect(await reads[2]).toBe("page-request-invalid");
  });
});

describe("what waits is answered INVALID, and its unread records are gone,", () => {
  const ways: [string, (it: Spaces & { gva: number }) => void][] = [
    ["by a detach", ({ devs, gva }) => devs[1]!.detachIoasid({ ioasid: gva })],
    ["by an unbind of the table", ({ fd, gva }) => fd.unbindPgtable({ ioasid: gva })],
    ["by a close of the device", ({ devs }) => devs[1]!.close()],
    ["by a close of the fd", ({ fd }) => fd.close()],
  ];
  it.each(ways)("%s", async (_name, act) => {
    const it = await guest();
    const [read, unread] = [ending(it.view.read(0x7000n, 8)), ending(it.view.read(0x8000n, 8))];
    const [{ cookie }] = requests(it.fd.faults.read(1));
    act(it);
    expect(await Promise.all([read, unread])).toEqual(["page-request-invalid", "page-request-invalid"]);
    if (it.fd.closed) return;
    expect(it.fd.faults.read()).toEqual([]);
    expect(refused(() => it.fd.pageResponse({ cookie, code: SUCCESS })).errno).toBe("ENOENT");
  });
});

describe("a device", () => {
  it("gives up after its time, and an answer that comes later goes nowhere", async () => {
    const { fd, pages, host } = await guest();
    const view = host.device("dev2").dma({ timeout: 20 });
    expect(await ending(view.read(0x7000n, 8))).toBe("page-request-timeout");
    const [{ cookie }] = requests(fd.faults.read());
    const again = ending(host.device("dev2").dma().read(0x7000n, 8));
    fd.pageResponse({ cookie, code: INVALID });
    const [next] = requests(fd.faults.read());
    pages.map(0x7000n, 0x5000n);
    fd.pageResponse({ cookie: next.cookie, code: SUCCESS });
    expect(await again).toEqual(new Uint8Array(8));
  });

  it("gives up after so many answers that changed nothing", async () => {
    const { fd, host } = await guest();
    const view = host.device("dev2").dma({ retries: 3 });
    let answered = 0;
    fd.faults.onRecord = (record) => {
      fd.pageResponse({ cookie: asRequest(record).cookie, code: SUCCESS });
      answered++;
    };
    expect(await ending(view.read(0x7000n, 8))).toBe("page-request-retries");
    expect(answered).toBe(4);
  });

  it("that makes no page requests, or whose IOMMU has none, ends at once", async () => {
    const without = await guest({ devices: [{ name: "dev1", rid: 0x20 }, { name: "dev2", rid: 0x28, pageRequests: false }] });
    expect(await ending(without.view.read(0x7000n, 8))).toBe("not-present");
    expect(without.fd.faults.read()).toMatchObject([{ kind: "event", reason: "not-present" }]);
    const none = await guest({ iommus: [{ preset: "vtd-scalable", stage: 2, pageRequests: false }] });
    expect(await ending(none.view.read(0x7000n, 8))).toBe("not-present");
    expect(none.fd.deviceGetInfo({ label: none.labels[1]! }).pageRequests).toBe(false);
  });
});

describe("a space of maps", () => {
  it("asks for pages if it was allocated so: they are mapped on demand", async () => {
    const it = await gpaSpace(SCALABLE);
    const { fd, devs, host } = it;
    devs[0]!.detachIoasid({ ioasid: it.gpa });
    const lazy = fd.allocIoasid({ pageRequests: true });
    devs[0]!.attachIoasid({ ioasid: lazy });
    expect(fd.getInfo({ ioasid: lazy }).pageRequests).toBe(true);
    fd.faults.onRecord = (record) => {
      const { cookie, iova, ioasid, last } = asRequest(record);
      fd.dmaMap({ ioasid, iova, vaddr: HVA + iova, size: K4 });
      if (last) fd.pageResponse({ cookie, code: SUCCESS });
    };
    host.process.bytes(HVA + 0x3000n, 1).set([7]);
    expect([...await host.device("dev1").dma().read(0x3000n, 1)]).toEqual([7]);
    await host.device("dev1").dma().write(0x5ff0n, new Uint8Array(0x4000));
    expect(fd.getInfo({ ioasid: lazy }).mappings).toBe(6);
  });

  it("that was not is an event", async () => {
    const { fd, host, unmap, gpa } = await gpaSpace(SCALABLE);
    unmap(gpa, 0, 1n << 30n);
    expect(await ending(host.device("dev1").dma().read(0x3000n, 1))).toBe("not-present");
    expect(fd.faults.read()).toMatchObject([{ kind: "event", ioasid: gpa, child: null, ipa: null, stage: 2 }]);
  });

  it("cannot take a device whose IOMMU has no page requests once they were asked for", async () => {
    const { fd, devs, gpa } = await gpaSpace({ iommus: [{ preset: "vtd" }] });
    devs[0]!.detachIoasid({ ioasid: gpa });
    const lazy = fd.allocIoasid({ pageRequests: true });
    expect(refused(() => devs[0]!.attachIoasid({ ioasid: lazy }))).toMatchObject({ errno: "EOPNOTSUPP", field: "ioasid" });
  });
});

/** Answers every request with the page that it asks for. */
function serve(fd: IoasidFd, pages: GuestPages, overflows: number[] = []): void {
  fd.faults.onRecord = (record) => {
    if (record.kind === "overflow") return void overflows.push(record.dropped);
    const { cookie, iova } = asRequest(record);
    pages.map(iova, 0x5000n);
    fd.pageResponse({ cookie, code: SUCCESS });
  };
}

describe("a full queue", () => {
  it("lets devices try again: all are served in the end", async () => {
    const { fd, pages, view } = await guest({ faultQueue: { depth: 32 } });
    const reads = Array.from({ length: 100 }, (_none, n) => ending(view.read(0x8000n + BigInt(n) * K4, 1)));
    const records = fd.faults.read();
    expect(records.map(({ kind }) => kind)).toEqual([...Array<string>(32).fill("request"), "overflow"]);
    const overflows: number[] = [];
    serve(fd, pages, overflows);
    for (const { cookie, iova } of requests(records.slice(0, 32))) {
      pages.map(iova, 0x5000n);
      fd.pageResponse({ cookie, code: SUCCESS });
    }
    expect(await Promise.all(reads)).toEqual(reads.map(() => new Uint8Array(1)));
  });

  it("of the machine does so too: two can wait at once, and four reports", async () => {
    const { fd, host, pages } = await guest({ faultQueue: { records: 4, stalls: 2 } });
    serve(fd, pages);
    const reads = Array.from({ length: 10 }, (_none, n) => ending(host.device("dev2").dma().read(0x8000n + BigInt(n) * K4, 1)));
    expect(await Promise.all(reads)).toEqual(reads.map(() => new Uint8Array(1)));
    expect(await ending(host.device("dev2").dma().write(0x20000n, new Uint8Array(3 * 4096)))).toBe("done");
  });

  it("of the machine that is never read ends the access after its tries", async () => {
    const { host } = await guest({ faultQueue: { records: 4, stalls: 1 } });
    const waits = ending(host.device("dev2").dma({ timeout: 500 }).read(0x8000n, 1));
    expect(await ending(host.device("dev2").dma({ retries: 2 }).read(0x9000n, 1))).toBe("page-request-retries");
    expect(await waits).toBe("page-request-timeout");
  });
});

it("an access that stands still is refused where it would have to wait on the thread that answers", async () => {
  const { fd, pages, view, host } = await guest();
  pages.map(0x7000n, 0x5000n);
  host.process.bytes(HVA + 0x5000n, 1).set([3]);
  expect([...view.readBlocking(0x7000n, 1)]).toEqual([3]);
  for (const access of [() => view.readBlocking(0x8000n, 1), () => view.writeBlocking(0x8000n, Uint8Array.of(1)), () => host.port.batch(() => view.readBlocking(0x8000n, 1))]) {
    expect(refused(access)).toMatchObject({ errno: "EDEADLK", field: "iova", value: 0x8000n });
  }
  expect(fd.faults.read()).toEqual([]);
});

it("awaits records, streams them, and ends with the fd", async () => {
  const { fd, view, labels } = await guest();
  expect(await fd.faults.next({ timeout: 5 })).toBeUndefined();
  const waiting = fd.faults.next();
  expect(() => view.readSync(0x7000n, 4)).toThrow(DmaFault);
  expect(await waiting).toMatchObject({ kind: "event", device: labels[1] });
  const seen: FaultRecord[] = [];
  const stream = (async () => {
    for await (const record of fd.faults) seen.push(record);
  })();
  for (let n = 0; n < 3; n++) expect(() => view.readSync(0x7000n + BigInt(n) * K4, 4)).toThrow(DmaFault);
  await new Promise((resolve) => setTimeout(resolve, 1));
  fd.close();
  await stream;
  expect(seen.map((record) => record.kind === "event" && record.iova)).toEqual([0x7000n, 0x8000n, 0x9000n]);
});

it("queues and answers 100,000 page requests in the same memory", async () => {
  const { fd, gva, host } = await guest();
  const view = host.device("dev2").dma({ retries: 0 });
  const { byteLength } = host.engine.memory.buffer;
  for (let n = 0; n < 100; n++) {
    const reads = Array.from({ length: 1000 }, (_none, i) => ending(view.read(BigInt(i) * K4, 1)));
    expect(fd.faults.read()).toHaveLength(1000);
    expect(fd.pageResponseRange({ ioasid: gva, iova: 0, size: 1n << 40n, code: INVALID })).toEqual({ completed: 1000 });
    await Promise.all(reads);
  }
  expect(fd.faults.ring.depth).toBe(1024);
  expect(fd.faults.pending).toBe(0);
  expect(host.engine.memory.buffer.byteLength).toBe(byteLength);
});
