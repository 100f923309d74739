// RFC 5.3, nesting in software: the GIOVA space is a child of the GPA space. The user maps GIOVA to GPA, and does not think of its own
// addresses any more; the table that the IOMMU walks is merged from both levels, and follows every change of the parent.
// Run it with `node examples/flow-5-3.mjs` after `npm run build`. `ioasid flows 5.3` runs the same as a scenario.
import {
  IOASID_ALLOC, IOASID_CREATE_NESTING, IOASID_DMA_MAP, IOASID_DMA_MAP_FLAG_READ, IOASID_DMA_UNMAP, IOASID_GET_INFO, O_RDWR,
  VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD, VFIO_DETACH_IOASID,
} from "ioasid";
import { GB, guestBytes, hex, makeMachine, tryCall, tryRead } from "./machine.mjs";

const mode = O_RDWR;
const host = await makeMachine({ preset: "vtd" });
const { open, ioctl } = host;
guestBytes(host, 0x1000, 8).fill(0x5a);
guestBytes(host, 0x3000, 8).fill(0x33);

// Before the guest boots: both devices are in the GPA space.
const device_fd1 = open("/dev/vfio/devices/dev1", mode);
const device_fd2 = open("/dev/vfio/devices/dev2", mode);
const ioasid_fd = open("/dev/ioasid", mode);
ioctl(device_fd1, VFIO_BIND_IOASID_FD, ioasid_fd);
ioctl(device_fd2, VFIO_BIND_IOASID_FD, ioasid_fd);
const gpa_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
ioctl(device_fd1, VFIO_ATTACH_IOASID, { ioasid: gpa_ioasid });
ioctl(device_fd2, VFIO_ATTACH_IOASID, { ioasid: gpa_ioasid });
ioctl(ioasid_fd, IOASID_DMA_MAP, { ioasid: gpa_ioasid, iova: 0, vaddr: 0x40000000, size: GB });

/* After boots */
/* Make GIOVA space nested on GPA space */
const giova_ioasid = ioctl(ioasid_fd, IOASID_CREATE_NESTING, gpa_ioasid);

/* Attach dev2 to the new address space (child)
 * Note dev2 is still attached to gpa_ioasid (parent) */
const at_data = { ioasid: giova_ioasid };
ioctl(device_fd2, VFIO_ATTACH_IOASID, at_data);

/* Setup a GIOVA->GPA mapping for giova_ioasid, which will be merged by the kernel with GPA->HVA mapping of gpa_ioasid
 * to form a shadow mapping. */
const dma_map = {
  ioasid: giova_ioasid,
  iova: 0x2000, // GIOVA
  vaddr: 0x1000, // GPA
  size: 4096,
};
ioctl(ioasid_fd, IOASID_DMA_MAP, dma_map);

const dma1 = host.device("dev1").dma();
const dma2 = host.device("dev2").dma();
console.log(`GIOVA 0x2000 is at bus address ${hex(dma2.translate(0x2000))}, as is GPA 0x1000: ${hex(dma1.translate(0x1000))}`);
console.log(`dev2 reads ${tryRead(dma2, 0x2000)}; it is in the child alone: ${tryRead(dma2, 0x1000)}`);

// Locked accounting is only conducted for gpa_ioasid.
const locked = (ioasid) => ioctl(ioasid_fd, IOASID_GET_INFO, ioasid).locked;
console.log(`charged: ${locked(gpa_ioasid)} by the parent, ${locked(giova_ioasid)} by the child`);

// The parent loses its map: the child's area stays, without anything behind it.
ioctl(ioasid_fd, IOASID_DMA_UNMAP, { ioasid: gpa_ioasid, iova: 0, size: GB });
console.log(`parent unmapped:           ${tryRead(dma2, 0x2000)}`);

// It comes back read-only, and then elsewhere. Permissions are what both levels grant.
ioctl(ioasid_fd, IOASID_DMA_MAP, { ioasid: gpa_ioasid, iova: 0x1000, vaddr: 0x40001000, size: 4096, flags: IOASID_DMA_MAP_FLAG_READ });
console.log(`parent mapped read-only:   ${tryRead(dma2, 0x2000)}; ${tryCall(() => dma2.writeSync(0x2000, new Uint8Array(1)))}`);
ioctl(ioasid_fd, IOASID_DMA_UNMAP, { ioasid: gpa_ioasid, iova: 0x1000, size: 4096 });
ioctl(ioasid_fd, IOASID_DMA_MAP, { ioasid: gpa_ioasid, iova: 0x1000, vaddr: 0x40003000, size: 4096 });
console.log(`parent mapped elsewhere:   ${tryRead(dma2, 0x2000)}`);

// Detached from the child, the device is back in the parent.
ioctl(device_fd2, VFIO_DETACH_IOASID, at_data);
console.log(`detached from the child:   ${tryRead(dma2, 0x1000)}`);
