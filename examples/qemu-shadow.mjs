// What QEMU does in RFC 5.2 for a guest with a vIOMMU: it reads the guest's I/O page table, and shadows it through the uAPI. The guest
// here drives an emulated VT-d: a second-stage table of four levels in its memory, and an invalidation after each change.
// Run it with `node examples/qemu-shadow.mjs` after `npm run build`.
import {
  IOASID_ALLOC, IOASID_DMA_MAP, IOASID_DMA_UNMAP, IOASID_REGISTER_MEMORY, O_RDWR, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD,
} from "ioasid";
import { GB, guestBytes, guestWords, hex, HVA, makeMachine, RAM, tryRead } from "./machine.mjs";

const LEVELS = 4;
const READ = 1n;
const WRITE = 2n;
const PAGE_SIZE = 1n << 7n;
const ADDRESS = 0xffffffffff000n;
/** log2 of what one entry of a level stands for; level 0 is the leaf table. */
const spanLg2 = (level) => 12n + 9n * BigInt(level);
const indexAt = (iova, level) => Number((iova >> spanLg2(level)) & 511n);

// --- The guest: its driver fills the table. ---------------------------------------------------------------------------------
class GuestDriver {
  constructor(host, root) {
    this.host = host;
    this.root = root;
    this.nextTable = root + 0x1000n;
  }

  /** The entry of an address at a level, tables made on the way. */
  #entry(iova, level) {
    let table = this.root;
    for (let at = LEVELS - 1; at > level; at--) {
      const words = guestWords(this.host, table, 512);
      const index = indexAt(iova, at);
      if (words[index] === 0n) {
        words[index] = this.nextTable | READ | WRITE;
        this.nextTable += 0x1000n;
      }
      table = words[index] & ADDRESS;
    }
    return guestWords(this.host, table + BigInt(indexAt(iova, level) * 8), 1);
  }

  map(iova, gpa, perm = READ | WRITE) {
    this.#entry(iova, 0)[0] = gpa | perm;
  }

  /** 2 MiB in one entry. */
  mapLarge(iova, gpa) {
    this.#entry(iova, 1)[0] = gpa | READ | WRITE | PAGE_SIZE;
  }

  unmap(iova) {
    this.#entry(iova, 0)[0] = 0n;
  }
}

// --- QEMU: reads the table, and keeps the GIOVA space equal to it. -----------------------------------------------------------
/** The leaves of the guest's table that lie in first..last: { iova, gpa, size, flags }. What a guest may write there is not trusted. */
function* leaves(host, table, first, last, level = LEVELS - 1, base = 0n, perm = READ | WRITE) {
  if (table + 4096n > RAM) return; // A table outside the guest's RAM leads nowhere.
  const words = guestWords(host, table, 512).slice();
  for (const [index, entry] of words.entries()) {
    const size = 1n << spanLg2(level);
    const iova = base + BigInt(index) * size;
    const granted = perm & entry;
    if (granted === 0n || iova > last || iova + size - 1n < first) continue;
    if (level === 0 || entry & PAGE_SIZE) yield { iova, gpa: entry & ADDRESS & -size, size, flags: Number(granted) };
    else yield* leaves(host, entry & ADDRESS, first, last, level - 1, iova, granted);
  }
}

class Shadow {
  /** What is mapped now, by iova. */
  maps = new Map();

  constructor(host, ioasidFd, ioasid, root) {
    Object.assign(this, { host, ioasidFd, ioasid, root });
  }

  /** The guest has invalidated first..last: what is mapped there becomes what its table says. */
  sync(first, last) {
    const { host, ioasidFd, ioasid, maps } = this;
    const wanted = new Map([...leaves(host, this.root, first, last)].map((leaf) => [leaf.iova, leaf]));
    const counts = { mapped: 0, unmapped: 0, refused: 0 };
    for (const { iova, gpa, size, flags } of [...maps.values()]) {
      const leaf = wanted.get(iova);
      if (iova > last || iova + size - 1n < first || (leaf && leaf.gpa === gpa && leaf.size === size && leaf.flags === flags)) continue;
      host.ioctl(ioasidFd, IOASID_DMA_UNMAP, { ioasid, iova, size });
      maps.delete(iova);
      counts.unmapped++;
    }
    for (const leaf of wanted.values()) {
      if (maps.has(leaf.iova)) continue;
      try {
        host.ioctl(ioasidFd, IOASID_DMA_MAP, { ioasid, iova: leaf.iova, vaddr: HVA + leaf.gpa, size: leaf.size, flags: leaf.flags });
        maps.set(leaf.iova, leaf);
        counts.mapped++;
      } catch (error) {
        // A guest may map what it does not have: its device will fault there.
        console.log(`  refused for the guest: ${error.message}`);
        counts.refused++;
      }
    }
    return `${counts.mapped} mapped, ${counts.unmapped} unmapped, ${counts.refused} refused`;
  }
}

// --- The machine, as in flow 5.2. --------------------------------------------------------------------------------------------
const host = await makeMachine({ preset: "vtd" });
const { open, ioctl } = host;
const device_fd2 = open("/dev/vfio/devices/dev2", O_RDWR);
const ioasid_fd = open("/dev/ioasid", O_RDWR);
ioctl(device_fd2, VFIO_BIND_IOASID_FD, ioasid_fd);
ioctl(ioasid_fd, IOASID_REGISTER_MEMORY, { vaddr: HVA, size: GB });
const giova_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
ioctl(device_fd2, VFIO_ATTACH_IOASID, { ioasid: giova_ioasid });

const root = 0x10000n;
const guest = new GuestDriver(host, root);
const shadow = new Shadow(host, ioasid_fd, giova_ioasid, root);
const dma = host.device("dev2").dma();
guestBytes(host, 0x1000, 8).fill(0x5a);
guestBytes(host, 0x3000, 8).fill(0x33);

guest.map(0x2000n, 0x1000n);
guest.map(0x3000n, 0x3000n, READ);
guest.mapLarge(0x40000000n, 0x200000n);
console.log(`global invalidation:        ${shadow.sync(0n, (1n << 48n) - 1n)}`);
console.log(`dev2 at GIOVA 0x2000:       ${tryRead(dma, 0x2000)}, bus address ${hex(dma.translate(0x2000))}`);
console.log(`dev2 at GIOVA 0x3000:       ${tryRead(dma, 0x3000)}`);
console.log(`dev2 at GIOVA 0x40100000:   ${tryRead(dma, 0x40100000)}`);

guest.map(0x2000n, 0x3000n);
console.log(`the guest changes a page:   ${shadow.sync(0x2000n, 0x2fffn)}`);
console.log(`dev2 at GIOVA 0x2000:       ${tryRead(dma, 0x2000)}`);

guest.unmap(0x2000n);
console.log(`the guest unmaps it:        ${shadow.sync(0x2000n, 0x2fffn)}`);
console.log(`dev2 at GIOVA 0x2000:       ${tryRead(dma, 0x2000)}`);

guest.map(0x5000n, 0x80000000n);
console.log(`the guest maps too much:    ${shadow.sync(0x5000n, 0x5fffn)}`);
console.log(`dev2 at GIOVA 0x5000:       ${tryRead(dma, 0x5000)}`);
console.log(`charged: ${host.process.locked} bytes for registered memory, whatever the guest maps`);
