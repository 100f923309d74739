// DMA views, all hits: what a read of 4 KiB costs beside the copy itself, and whether a PASID costs anything. Addresses are given
// as numbers, and every read goes into the same buffer.
import { mapReader } from "../baselines/dma.mjs";
import { createHost, IOASID_ATTACH_USER_PASID } from "../../dist/index.js";
import { randomBelow } from "../random.mjs";
import { MIB, PAGE } from "../worlds.mjs";

const PAGES = 1024;
const READS = 256;
const IOVA = 2 ** 38;
const HVA = 2 ** 40;
const PASID = 5;

/** A device with a space whose pages lie in RAM in another order than in the space, and bytes in them that tell which is which. */
async function dmaWorld(preset) {
  const host = await createHost({ iommus: [{ preset }], memory: { ram: PAGES * PAGE, arena: 16 * MIB } });
  const { hpa } = host.process.mmap({ hva: BigInt(HVA), size: BigInt(PAGES * PAGE) });
  const [fd, device] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
  device.bindIoasidFd({ ioasidFd: fd });
  const ioasid = fd.alloc();
  device.attachIoasid({ ioasid });
  // Prime to the number of pages.
  const behind = (n) => (n * 617) % PAGES;
  for (let n = 0; n < PAGES; n++) {
    fd.dmaMap({ ioasid, iova: BigInt(IOVA + n * PAGE), vaddr: BigInt(HVA + behind(n) * PAGE), size: BigInt(PAGE) });
  }
  const span = { kind: "memory", offset: 0, bytes: 0 };
  const found = host.engine.locate(Number(hpa % 2n ** 32n), Number(hpa / 2n ** 32n), span);
  if (!found || span.kind !== "memory" || span.bytes < PAGES * PAGE) throw new Error("the memory does not lie in one piece");
  const { memory } = host.engine;
  const words = new Uint32Array(memory.buffer, span.offset, PAGES * PAGE / 4);
  words.forEach((_, n) => { words[n] = Math.imul(n, 0x9e3779b1); });
  const pages = new Map(Array.from({ length: PAGES }, (_, n) => [IOVA / PAGE + n, { offset: span.offset + behind(n) * PAGE, perm: 3 }]));
  return { host, device, ioasid, pages, bytes: new Uint8Array(memory.buffer) };
}

/** Reads of `length` bytes at random addresses, by read(iova, into): the answers are made from three bytes of each. */
function reads(name, length, read) {
  const random = randomBelow(length);
  const addresses = Array.from({ length: READS }, () => IOVA + random(PAGES - 1) * PAGE + random(PAGE / 16) * 16);
  const into = new Uint8Array(length);
  const output = new Float64Array(READS);
  return {
    name, calls: 1, output, items: READS,
    run() {
      for (let n = 0; n < READS; n++) {
        read(addresses[n], into);
        output[n] = into[0] * 65536 + into[length >>> 1] * 256 + into[length - 1];
      }
    },
  };
}

export const rows = [
  {
    name: "dma-view-copy", about: "read of 4 KiB, which nearly always crosses a page, through a DMA view", unit: "read", baselines: ["Map<number>"], reported: true,
    async prepare() {
      const { host, pages, bytes } = await dmaWorld("vtd");
      const view = host.device("dev1").dma();
      const variants = [reads("ioasid", PAGE, (iova, into) => view.readSync(iova, into)), reads("Map<number>", PAGE, mapReader(bytes, pages))];
      return { variants, notes: () => [] };
    },
  },
  {
    name: "pasid-hit", about: "read of 64 bytes through a DMA view with a PASID", unit: "read", baselines: ["no PASID"],
    async prepare() {
      const { host, device, ioasid } = await dmaWorld("vtd-scalable");
      device.attachIoasid({ ioasid, flags: IOASID_ATTACH_USER_PASID, userPasid: PASID });
      const [withPasid, without] = [host.device("dev1").dma(PASID), host.device("dev1").dma()];
      const variants = [reads("ioasid", 64, (iova, into) => withPasid.readSync(iova, into)), reads("no PASID", 64, (iova, into) => without.readSync(iova, into))];
      return { variants, notes: () => [] };
    },
  },
];
