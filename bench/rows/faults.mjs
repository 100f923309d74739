// I/O page faults: from a device that finds a page missing through the fault queue to the guest, its answer, and the try that
// succeeds, on one thread and with the device on another; many that wait at once; and PASIDs that the table of a guest is read for
// anew. Wall time: several threads, and promises, take part. Reported, without gates.
import { Worker } from "node:worker_threads";
import { GuestPages, GuestRam, VtdPasidTable } from "../../examples/lib/guest.mjs";
import { PERM_R } from "../../dist/engine/layout.js";
import {
  createHost, IOASID_INVALIDATE_RANGE, IOASID_PAGE_RESPONSE_INVALID, IOASID_PAGE_RESPONSE_SUCCESS, WorkerGroup,
} from "../../dist/index.js";
import { MIB, PAGE } from "../worlds.mjs";

const HVA = 2n ** 30n;
const RAM = 8 * MIB;
const IOVA = 0x7000n;
/** Rounds, and what is done in each. */
const ROUNDS = 15;
const TRIPS = 500;
const WAITING = 1000;
const QUEUED = 100_000;
const PASIDS = 256;

/** A device with a GPA space, and RAM of a guest in it. */
async function guestWorld(options = {}) {
  const host = await createHost({ iommus: [{ preset: "vtd-scalable", stage: 2 }], memory: { ram: RAM, arena: 16 * MIB, shared: true }, ...options });
  host.process.mmap({ hva: HVA, size: BigInt(RAM) });
  const [fd, device] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
  device.bindIoasidFd({ ioasidFd: fd });
  const gpa = fd.alloc();
  device.attachIoasid({ ioasid: gpa });
  fd.dmaMap({ ioasid: gpa, iova: 0, vaddr: HVA, size: RAM });
  return { host, fd, device, gpa, ram: new GuestRam(host, { hva: HVA }) };
}

/** The same with a child of which a guest's empty table is bound, and its device there. */
async function faultWorld(options) {
  const world = await guestWorld(options);
  const pages = new GuestPages(world.ram);
  const gva = world.fd.allocIoasidPgtable({ parent: world.gpa, addr: pages.root, format: pages.format });
  world.device.attachIoasid({ ioasid: gva });
  return { ...world, pages, gva, page: world.ram.take() };
}

const quantile = (values, q) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))];

function answer(ns, note) {
  const spread = `quartiles ${quantile(ns, 0.25).toFixed(0)} .. ${quantile(ns, 0.75).toFixed(0)} ns`;
  return { variants: [{ name: "wall time", ns: quantile(ns, 0.5) }], notes: [`${spread}; ${note}`] };
}

/** Every request finds its page, for one try: it is gone again before the next. */
function serve({ fd, pages, gva, page }) {
  fd.faults.onRecord = ({ kind, cookie, iova }) => {
    if (kind !== "request") throw new Error(`a record is ${kind}`);
    pages.map(iova, page);
    fd.pageResponse({ cookie, code: IOASID_PAGE_RESPONSE_SUCCESS });
  };
  return () => {
    pages.clear(IOVA);
    fd.invalidateCache({ ioasid: gva, granularity: IOASID_INVALIDATE_RANGE, iova: IOVA, size: PAGE });
  };
}

async function oneThread() {
  const world = await faultWorld();
  const takeAway = serve(world);
  const view = world.host.device("dev1").dma();
  const into = new Uint8Array(8);
  const ns = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const start = performance.now();
    for (let n = 0; n < TRIPS; n++) {
      await view.read(IOVA, into);
      takeAway();
    }
    if (round > 0) ns.push((performance.now() - start) * 1e6 / TRIPS);
  }
  world.fd.close();
  return answer(ns, "removal of the page and its invalidation included");
}

async function twoThreads() {
  const world = await faultWorld();
  const { host, fd, pages, page } = world;
  const token = host.device("dev1").token();
  // The worker touches a new page each time: nothing has to be taken away.
  let heard;
  const results = new Promise((resolve) => { heard = resolve; });
  const group = await WorkerGroup.start(host.engine, 1, () => new Worker(new URL("../fault-worker.mjs", import.meta.url)),
    (engineToken) => ({ engineToken, token, trips: TRIPS, rounds: ROUNDS }), { heard });
  for (let left = TRIPS * (ROUNDS + 1); left > 0; left--) {
    const { cookie, iova } = await fd.faults.next();
    pages.map(iova, page);
    fd.pageResponse({ cookie, code: IOASID_PAGE_RESPONSE_SUCCESS });
  }
  const ns = await results;
  await group.close();
  fd.close();
  return answer(ns, "the device stands still on a worker, the host awaits the record");
}

async function manyAtOnce() {
  const { host, fd, gva } = await faultWorld();
  const view = host.device("dev1").dma();
  const before = host.engine.memory.buffer.byteLength;
  const ns = [];
  for (let done = 0; done < QUEUED; done += WAITING) {
    const start = performance.now();
    const reads = Array.from({ length: WAITING }, (_, n) => view.read(BigInt(n * PAGE), 1).catch(() => undefined));
    if (fd.faults.read().length !== WAITING) throw new Error("some requests are missing");
    const { completed } = fd.pageResponseRange({ ioasid: gva, iova: 0, size: 1n << 40n, code: IOASID_PAGE_RESPONSE_INVALID });
    if (completed !== WAITING) throw new Error(`${completed} were completed`);
    await Promise.all(reads);
    ns.push((performance.now() - start) * 1e6 / WAITING);
  }
  const grown = host.engine.memory.buffer.byteLength - before;
  fd.close();
  return answer(ns, `${QUEUED} queued and answered, ${WAITING} at a time; the memory has grown by ${grown} bytes`);
}

/** One access with each of many PASIDs after their entries, or only what the IOTLB holds of them, were dropped. */
async function pasidMiss() {
  const { host, fd, device, gpa, ram } = await guestWorld({ domains: 8192 });
  const pages = new GuestPages(ram);
  pages.map(IOVA, ram.take());
  const table = new VtdPasidTable(ram);
  for (let pasid = 1; pasid <= PASIDS; pasid++) table.set(pasid, pages);
  const ioasid = fd.allocIoasidPasidTable({ parent: gpa, addr: table.addr, format: table.format });
  device.attachIoasid({ ioasid });
  const { engine, port } = host;
  const { rid } = host.device("dev1");
  // As many as are kept: the pool of the table.
  const routes = Array.from({ length: 64 }, (_, n) => engine.route(rid, n + 1));
  const time = (drop) => {
    const ns = [];
    for (let round = 0; round <= ROUNDS * 20; round++) {
      drop();
      const start = performance.now();
      for (const route of routes) if (port.translateNumber(Number(IOVA), route, PERM_R) < 0) throw new Error("a PASID was refused");
      if (round > 20) ns.push((performance.now() - start) * 1e6 / routes.length);
    }
    return ns;
  };
  const missed = time(() => fd.invalidateCache({ ioasid }));
  // Unmapping and mapping a page of the parent drops what is cached of everything nested there.
  const spare = BigInt(RAM);
  const walked = time(() => {
    fd.dmaMap({ ioasid: gpa, iova: spare, vaddr: HVA, size: PAGE });
    fd.dmaUnmap({ ioasid: gpa, iova: spare, size: PAGE });
  });
  fd.close();
  const middle = quantile(walked, 0.5);
  const ratio = { median: quantile(missed, 0.5) / middle, q1: quantile(missed, 0.25) / middle, q3: quantile(missed, 0.75) / middle };
  return { variants: [{ name: "entry read", ns: quantile(missed, 0.5) }, { name: "entry kept", ns: middle, ratio }], notes: [] };
}

const row = (name, about, unit, measure, baselines = []) => ({ name, about, unit, baselines, reported: true, measure });

export const rows = [
  row("fault-round-trip", "device, fault queue, response and retry on one thread", "fault", oneThread),
  row("fault-round-trip-threads", "the same with the device on a worker that stands still", "fault", twoThreads),
  row("fault-queue-100k", "page requests that wait by the thousand, answered by range", "fault", manyAtOnce),
  row("pasid-miss", "first access of a PASID after its entry was dropped", "access", pasidMiss, ["entry kept"]),
];
