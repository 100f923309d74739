// RFC 5.4, nesting in hardware: the guest's own I/O page table is bound to the child, and the IOMMU walks it and the parent's table. The
// guest changes its table by plain stores; what it invalidates, the user passes on.
// Run it with `node examples/flow-5-4.mjs` after `npm run build`. `ioasid flows 5.4` runs the same as scenarios, on VT-d and SMMUv3.
import {
  IOASID_ALLOC, IOASID_BIND_PGTABLE, IOASID_CREATE_NESTING, IOASID_DEVICE_GET_INFO, IOASID_DMA_MAP, IOASID_INVALIDATE_CACHE,
  IOASID_INVALIDATE_RANGE, O_RDWR, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD,
} from "ioasid";
import { GB, guestBytes, guestWords, hex, makeMachine, tryRead } from "./machine.mjs";

const mode = O_RDWR;
const host = await makeMachine({ preset: "vtd-scalable", stage: 2 });
const { open, ioctl } = host;
guestBytes(host, 0x1000, 8).fill(0x5a);
guestBytes(host, 0x3000, 8).fill(0x33);

// Before the guest boots: dev2 is in the GPA space.
const device_fd2 = open("/dev/vfio/devices/dev2", mode);
const ioasid_fd = open("/dev/ioasid", mode);
const label = ioctl(device_fd2, VFIO_BIND_IOASID_FD, ioasid_fd);
const gpa_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
ioctl(device_fd2, VFIO_ATTACH_IOASID, { ioasid: gpa_ioasid });
ioctl(ioasid_fd, IOASID_DMA_MAP, { ioasid: gpa_ioasid, iova: 0, vaddr: 0x40000000, size: GB });
const { nesting } = ioctl(ioasid_fd, IOASID_DEVICE_GET_INFO, label);
console.log(`dev2's IOMMU walks guests' tables of these kinds: ${nesting.hardware.join(", ")}`);

// The guest builds an x86-64 table of four levels at GPA 0x10000 with one page, GIOVA 0x2000 -> GPA 0x1000. Bits: present, writable, user.
const PRESENT = 7n;
const giova_pgtable = 0x10000;
guestWords(host, giova_pgtable, 1)[0] = 0x11000n | PRESENT;
guestWords(host, 0x11000, 1)[0] = 0x12000n | PRESENT;
guestWords(host, 0x12000, 1)[0] = 0x13000n | PRESENT;
/** The entry of GIOVA 0x2000. */
const entry = () => guestWords(host, 0x13000 + 2 * 8, 1);
entry()[0] = 0x1000n | PRESENT;

/* After boots */
/* Make GIOVA space nested on GPA space */
const giova_ioasid = ioctl(ioasid_fd, IOASID_CREATE_NESTING, gpa_ioasid);

/* Attach dev2 to the new address space (child)
 * Note dev2 is still attached to gpa_ioasid (parent) */
ioctl(device_fd2, VFIO_ATTACH_IOASID, { ioasid: giova_ioasid });

/* Bind guest I/O page table */
const bind_data = {
  ioasid: giova_ioasid,
  addr: giova_pgtable,
  format: { kind: "x86-64", levels: 4 },
};
ioctl(ioasid_fd, IOASID_BIND_PGTABLE, bind_data);

const dma = host.device("dev2").dma();
console.log(`dev2 reads ${tryRead(dma, 0x2000)} at GIOVA 0x2000; the guest's entry is ${hex(entry()[0])}: accessed`);
dma.writeSync(0x2008, Uint8Array.of(1));
console.log(`dev2 writes; the entry is ${hex(entry()[0])}: dirty`);

// The guest changes the entry, and invalidates the page. Before that the IOMMU may use the old one; afterwards it must not.
const inv_data = { ioasid: giova_ioasid, granularity: IOASID_INVALIDATE_RANGE, iova: 0x2000, size: 4096 };
const invalidate = () => ioctl(ioasid_fd, IOASID_INVALIDATE_CACHE, inv_data);
entry()[0] = 0x3000n | PRESENT;
console.log(`${invalidate().handled} invalidation handled; dev2 reads ${tryRead(dma, 0x2000)}`);

// What the guest writes can end in a fault, of the stage that refuses, but never outside its memory.
entry()[0] = 0x80000000n | PRESENT;
invalidate();
console.log(`outside the guest:   ${tryRead(dma, 0x2000)}`);
entry()[0] = 0n;
invalidate();
console.log(`not in its table:    ${tryRead(dma, 0x2000)}`);
