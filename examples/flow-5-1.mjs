// RFC 5.1, a simple example: dev1 is assigned to a guest, whose GPA space is managed by maps. dev2 then shares the space.
// Run it with `node examples/flow-5-1.mjs` after `npm run build`. `ioasid flows 5.1` runs the same as a scenario.
import { IOASID_ALLOC, IOASID_DMA_MAP, IOASID_DMA_UNMAP, O_RDWR, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD } from "ioasid";
import { GB, guestBytes, hex, HVA, makeMachine, tryRead } from "./machine.mjs";

const mode = O_RDWR;
const host = await makeMachine({ preset: "vtd" });
// The RFC's calls are functions of the host, so that its lines can be typed as they are.
const { open, ioctl } = host;
guestBytes(host, 0x1000, 8).set([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);

/* Bind device to IOASID fd */
const device_fd = open("/dev/vfio/devices/dev1", mode);
const ioasid_fd = open("/dev/ioasid", mode);
// The label names the device in faults.
const label = ioctl(device_fd, VFIO_BIND_IOASID_FD, ioasid_fd);
console.log(`dev1 is bound, its label is ${label}`);

// A device model has a view of memory through the IOMMU. A bound device that is attached to nothing is blocked.
const dma1 = host.device("dev1").dma();
console.log(`bound only:   ${tryRead(dma1, 0x1000)}`);

/* Attach device to IOASID */
const gpa_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
const at_data = { ioasid: gpa_ioasid };
ioctl(device_fd, VFIO_ATTACH_IOASID, at_data);
console.log(`attached:     ${tryRead(dma1, 0x1000)}`);

/* Setup GPA mapping */
const dma_map = {
  ioasid: gpa_ioasid,
  iova: 0, // GPA
  vaddr: 0x40000000, // HVA
  size: GB,
};
ioctl(ioasid_fd, IOASID_DMA_MAP, dma_map);
console.log(`mapped:       dev1 reads ${tryRead(dma1, 0x1000)} at GPA 0x1000, which is at bus address ${hex(dma1.translate(0x1000))}`);

/* The second device shares the address space */
const device2_fd = open("/dev/vfio/devices/dev2", mode);
ioctl(device2_fd, VFIO_BIND_IOASID_FD, ioasid_fd);
ioctl(device2_fd, VFIO_ATTACH_IOASID, at_data);
const dma2 = host.device("dev2").dma();
dma2.writeSync(0x1ff8, new TextEncoder().encode("across two pages"));
console.log(`dev2 writes, dev1 reads "${new TextDecoder().decode(dma1.readSync(0x1ff8, 16))}"`);
console.log(`outside:      ${tryRead(dma2, GB)}`);

// What is mapped is pinned, and charged to the lock limit of the process, until it is unmapped.
console.log(`charged:      ${host.process.locked} bytes of memory from ${hex(HVA)} on`);
const { size } = ioctl(ioasid_fd, IOASID_DMA_UNMAP, { ioasid: gpa_ioasid, iova: 0, size: GB });
console.log(`unmapped ${size} bytes, charged ${host.process.locked}: ${tryRead(dma2, 0x1000)}`);
