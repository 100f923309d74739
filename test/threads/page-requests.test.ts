// Page requests of devices on other threads: the host's thread hears of them, answers, and takes the space away under them.
import { afterEach, describe, expect, it } from "vitest";
import type { PageWait } from "../../src/dma/page-requests.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { asRequest } from "../unit/fault-device.js";
import { gpaSpace, GuestPages, HVA, K4 } from "../unit/space-host.js";
import { closeThreads, start, type OtherThread } from "./other-thread.js";

const [SUCCESS, INVALID, FAILURE] = [0, 1, 2];
/** A worker that was never woken would wait that long: the test has ended by then. */
const LONG = 600_000;

afterEach(closeThreads);

/** A device on a thread of its own. */
class Device {
  #next = 0;

  constructor(readonly thread: OtherThread) {}

  /** Begins an access; its number, with which `ending` tells what became of it. */
  begin(method: "read" | "write" | "readSync" | "writeSync" | "readBlocking" | "writeBlocking", iova: bigint, what: number | Uint8Array, section = false): number {
    const n = this.#next++;
    this.thread.worker.postMessage({ n, method, args: [iova, what], section });
    return n;
  }

  ending(): Promise<unknown> {
    return this.thread.hear();
  }
}

/** dev2 is attached to a child with an empty guest's table; all memory is shared. */
async function guest({ threads = 1, wait = { timeout: LONG } as PageWait } = {}) {
  const it = await gpaSpace({
    iommus: [{ preset: "vtd-scalable", stage: 2 }], memory: { ram: 0x400000, arena: 0x800000, shared: true },
    ports: { count: 8, iotlbSets: 64, lanes: 64, faults: 64 },
  });
  const pages = new GuestPages(it.host, FORMAT_X86_64);
  const gva = it.fd.allocIoasidPgtable({ parent: it.gpa, addr: pages.root, format: { kind: "x86-64", levels: 4 } });
  it.devs[1]!.attachIoasid({ ioasid: gva });
  const token = it.host.device("dev2").token();
  const workers: Device[] = [];
  for (let n = 0; n < threads; n++) workers.push(new Device(await start(it.host.engine, "accesses", { device: token, wait })));
  const request = async () => asRequest(await it.fd.faults.next({ timeout: 60_000 }));
  return { ...it, pages, gva, worker: workers[0]!, workers, request };
}

describe.each(["read", "readBlocking"] as const)("a worker's %s of a page that is missing", (method) => {
  it("goes on once the host has answered SUCCESS", async () => {
    const { fd, pages, gva, labels, host, worker, request } = await guest();
    host.process.bytes(HVA + 0x5000n, 4).set([1, 2, 3, 4]);
    worker.begin(method, 0x7002n, 2);
    const asked = await request();
    expect(asked).toMatchObject({ ioasid: gva, device: labels[1], pasid: null, iova: 0x7000n, access: "r", last: true });
    expect(fd.faults.pending).toBe(1);
    pages.map(0x7000n, 0x5000n);
    fd.pageResponse({ cookie: asked.cookie, code: SUCCESS });
    expect(await worker.ending()).toEqual({ n: 0, bytes: [3, 4] });
    expect(fd.faults.read()).toEqual([]);
  });

  it.each([[INVALID, "page-request-invalid"], [FAILURE, "page-request-failed"]])("answered %i ends with %s", async (code, reason) => {
    const { fd, worker, request } = await guest();
    worker.begin(method, 0x7000n, 8);
    fd.pageResponse({ cookie: (await request()).cookie, code });
    expect(await worker.ending()).toEqual({ n: 0, refused: reason });
  });

  it("is given up after its time, and an answer that comes later goes nowhere", async () => {
    const { fd, worker, request } = await guest({ wait: { timeout: 30 } });
    worker.begin(method, 0x7000n, 8);
    expect(await worker.ending()).toEqual({ n: 0, refused: "page-request-timeout" });
    const late = await request();
    worker.begin(method, 0x8000n, 8);
    const next = await request();
    fd.pageResponse({ cookie: late.cookie, code: INVALID });
    expect(await worker.ending()).toEqual({ n: 1, refused: "page-request-timeout" });
    expect(next.iova).toBe(0x8000n);
  });

  it("is given up after so many answers that changed nothing", async () => {
    const { fd, worker, request } = await guest({ wait: { timeout: LONG, retries: 2 } });
    worker.begin(method, 0x7000n, 8);
    for (let n = 0; n < 3; n++) fd.pageResponse({ cookie: (await request()).cookie, code: SUCCESS });
    expect(await worker.ending()).toEqual({ n: 0, refused: "page-request-retries" });
    expect(fd.faults.read()).toEqual([]);
  });

  it("ends with a detach, read by the host or not", async () => {
    for (const read of [true, false]) {
      const { fd, devs, gva, worker, host, request } = await guest();
      const { head } = host.engine.reports;
      worker.begin(method, 0x7000n, 8);
      if (read) await request();
      else while (host.engine.reports.head === head) await new Promise((resolve) => setTimeout(resolve, 1));
      devs[1]!.detachIoasid({ ioasid: gva });
      expect(await worker.ending()).toEqual({ n: 0, refused: "page-request-invalid" });
      expect(fd.faults.pending).toBe(0);
    }
  });
});

describe.each(["write", "writeBlocking"] as const)("a worker's %s", (method) => {
  it("over several pages asks for them as one group, and moves nothing before all are there", async () => {
    const { fd, pages, host, worker, request } = await guest();
    worker.begin(method, 0x7ffen, Uint8Array.of(1, 2, 3, 4));
    const group = [await request(), await request()];
    expect(group.map(({ iova, access, last, cookie }) => [iova, access, last, cookie]))
      .toEqual([[0x7000n, "w", false, group[0]!.cookie], [0x8000n, "w", true, group[0]!.cookie]]);
    pages.map(0x7000n, 0x5000n);
    expect([...host.process.bytes(HVA + 0x5ffen, 2)]).toEqual([0, 0]);
    pages.map(0x8000n, 0x9000n);
    fd.pageResponse({ cookie: group[0]!.cookie, code: SUCCESS });
    expect(await worker.ending()).toEqual({ n: 0 });
    expect([...host.process.bytes(HVA + 0x5ffen, 2), ...host.process.bytes(HVA + 0x9000n, 2)]).toEqual([1, 2, 3, 4]);
  });
});

describe("what a worker may not ask for", () => {
  it("is an event: an access that cannot wait, and one that no page could mend", async () => {
    const { fd, gva, labels, worker } = await guest();
    const common = { kind: "event", ioasid: gva, child: null, device: labels[1], pasid: null };
    worker.begin("readSync", 0x7004n, 4);
    expect(await worker.ending()).toEqual({ n: 0, refused: "not-present" });
    expect(await fd.faults.next({ timeout: 60_000 })).toMatchObject({ ...common, iova: 0x7004n, access: "r", reason: "not-present", stage: 1 });
    worker.begin("writeBlocking", 1n << 60n, Uint8Array.of(1));
    expect(await worker.ending()).toEqual({ n: 1, refused: "address-width" });
    expect(await fd.faults.next({ timeout: 60_000 })).toMatchObject({ ...common, iova: 1n << 60n, access: "w", reason: "address-width" });
    expect(fd.faults.pending).toBe(0);
  });

  it("is refused inside a section, where the answer might wait for it", async () => {
    const { fd, worker } = await guest();
    worker.begin("readBlocking", 0x7000n, 4, true);
    expect(await worker.ending()).toEqual({ n: 0, refused: "EDEADLK" });
    expect(fd.faults.read()).toEqual([]);
  });
});

describe("several workers", () => {
  it("wait each for pages of their own, and each gets what it asked for", async () => {
    const READS = 6;
    const { fd, pages, host, workers, request } = await guest({ threads: 3 });
    const iovaOf = (worker: number, n: number): bigint => 0x10000n + BigInt(worker * READS + n) * K4;
    const gpaOf = (iova: bigint): bigint => 0x40000n + (iova - 0x10000n);
    workers.forEach((device, worker) => {
      for (let n = 0; n < READS; n++) {
        host.process.bytes(HVA + gpaOf(iovaOf(worker, n)), 2).set([worker, n]);
        device.begin("read", iovaOf(worker, n), 2);
      }
    });
    const asked = [];
    for (let n = 0; n < workers.length * READS; n++) asked.push(await request());
    expect(new Set(asked.map(({ iova }) => iova)).size).toBe(workers.length * READS);
    expect(fd.faults.pending).toBe(workers.length * READS);
    // The newest first: an answer must find the one that waits for it.
    for (const { iova, cookie } of asked.reverse()) {
      pages.map(iova, gpaOf(iova));
      fd.pageResponse({ cookie, code: SUCCESS });
    }
    for (const [worker, device] of workers.entries()) {
      const answers = [];
      for (let n = 0; n < READS; n++) answers.push(await device.ending() as { n: number; bytes: number[] });
      answers.sort((a, b) => a.n - b.n);
      expect(answers).toEqual(Array.from({ length: READS }, (_none, n) => ({ n, bytes: [worker, n] })));
    }
    expect(fd.faults.read()).toEqual([]);
  });

  it("that stand still are all woken by one answer to the range, and one that has ended is waited for by nobody", async () => {
    const { fd, gva, workers, request } = await guest({ threads: 3 });
    for (const [n, device] of workers.entries()) device.begin("readBlocking", 0x7000n + BigInt(n) * K4, 2);
    for (let n = 0; n < workers.length; n++) await request();
    await workers[2]!.thread.worker.terminate();
    await workers[2]!.thread.ended();
    expect(fd.pageResponseRange({ ioasid: gva, iova: 0, size: 1n << 40n, code: INVALID })).toEqual({ completed: 3 });
    for (const n of [0, 1]) expect(await workers[n]!.ending()).toEqual({ n: 0, refused: "page-request-invalid" });
    expect(fd.faults.pending).toBe(0);
  });
});
