// What does one call cost that maps or unmaps one 4-KiB page? 256 pages in sequence, a call each, on outputs that do not follow
// each other: by the engine's call, and by the whole call of the uAPI with its checks, pins and lists. The arguments are there
// before; what the other call has to undo is not timed. Beside it stands what Linux takes for the same sequence, as a figure.
import * as L from "../../dist/engine/layout.js";
import { createHost } from "../../dist/index.js";
import { VTD } from "../formats.mjs";
import { emptyWorld, MIB, PAGE } from "../worlds.mjs";

const PAGES = 256;
const BASE = 2n ** 38n;
const FRAMES = 2n ** 42n;
/** iommu_map and iommu_unmap of Linux on VT-d tables of 48 bits, without its IOTLB and with a trivial page allocator. */
const LINUX_NS = { map: 21.6, unmap: 26.9 };

const pageAt = (base, n) => base + BigInt(n * PAGE);
const indexes = Array.from({ length: PAGES }, (_, n) => n);

async function engineCalls() {
  const { engine, domain } = await emptyWorld(VTD);
  const ranges = indexes.map((n) => ({ first: pageAt(BASE, n), last: pageAt(BASE, n + 1) - 1n, hpa: pageAt(FRAMES, 2 * n) }));
  const wanted = BigInt(PAGE);
  return {
    map() {
      for (const { first, last, hpa } of ranges) if (engine.map(domain, first, last, hpa, L.PERM_R | L.PERM_W) !== L.STATUS_OK) throw new Error("a map was refused");
    },
    unmap() {
      for (const { first, last } of ranges) if (engine.unmap(domain, first, last) !== wanted) throw new Error("an unmap removed other bytes");
    },
    unmapAll: () => engine.unmap(domain, BASE, pageAt(BASE, PAGES) - 1n),
  };
}

async function uapiCalls() {
  const HVA = 2n ** 40n;
  const host = await createHost({ memory: { ram: 0, arena: 8 * MIB } });
  host.process.mmap({ hva: HVA, size: BigInt(2 * PAGES * PAGE), backing: "zero" });
  const [fd, device] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
  device.bindIoasidFd({ ioasidFd: fd });
  const ioasid = fd.alloc();
  device.attachIoasid({ ioasid });
  const size = BigInt(PAGE);
  const maps = indexes.map((n) => ({ ioasid, iova: pageAt(BASE, n), vaddr: pageAt(HVA, 2 * n), size }));
  const unmaps = maps.map(({ iova }) => ({ ioasid, iova, size }));
  return {
    map() {
      for (const each of maps) fd.dmaMap(each);
    },
    unmap() {
      for (const each of unmaps) if (fd.dmaUnmap(each).size !== size) throw new Error("an unmap removed other bytes");
    },
    unmapAll: () => fd.dmaUnmap({ ioasid, iova: BASE, size: BigInt(PAGES * PAGE) }).size,
  };
}

function row(name, what, about, makeCalls) {
  return {
    name, about: `${what} of one 4-KiB page: ${about}`, unit: "call", baselines: [], reported: true,
    async prepare() {
      const { map, unmap, unmapAll } = await makeCalls();
      const output = new Float64Array(1);
      let mapped = false;
      const setMapped = (wanted) => {
        if (mapped && !wanted && unmapAll() !== BigInt(PAGES * PAGE)) throw new Error("not all was mapped");
        if (!mapped && wanted) map();
        mapped = wanted;
      };
      const variant = {
        name: "ioasid", calls: 1, output, items: PAGES,
        before: () => setMapped(what === "unmap"),
        run() {
          if (what === "map") map();
          else unmap();
          mapped = what === "map";
          output[0] = PAGES;
        },
      };
      const notes = ({ variants: [{ ns }] }) => [`${ns.toFixed(0)} ns, ${(ns / LINUX_NS[what]).toFixed(1)} times the ${LINUX_NS[what]} ns of Linux`];
      return { variants: [variant], notes };
    },
  };
}

export const rows = [
  row("call-map-4k", "map", "the engine's call", engineCalls), row("call-unmap-4k", "unmap", "the engine's call", engineCalls),
  row("uapi-map-4k", "map", "the whole uAPI call", uapiCalls), row("uapi-unmap-4k", "unmap", "the whole uAPI call", uapiCalls),
];
