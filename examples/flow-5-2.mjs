// RFC 5.2, several IOASIDs without nesting: a guest with a vIOMMU makes a GIOVA space for dev2; the user maps it to its own memory
// itself. Registered memory is charged once, however many spaces map it.
// Run it with `node examples/flow-5-2.mjs` after `npm run build`. `ioasid flows 5.2` runs the same as scenarios.
import {
  IOASID_ALLOC, IOASID_DMA_MAP, IOASID_REGISTER_MEMORY, O_RDWR, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD, VFIO_DETACH_IOASID,
} from "ioasid";
import { GB, guestBytes, makeMachine, tryRead } from "./machine.mjs";

/** The flow, with or without registered memory; answers the bytes charged at the end. */
async function flow(register) {
  const mode = O_RDWR;
  const host = await makeMachine({ preset: "vtd" });
  const { open, ioctl } = host;
  guestBytes(host, 0x1000, 8).fill(0x5a);

  const device_fd1 = open("/dev/vfio/devices/dev1", mode);
  const device_fd2 = open("/dev/vfio/devices/dev2", mode);
  const ioasid_fd = open("/dev/ioasid", mode);
  ioctl(device_fd1, VFIO_BIND_IOASID_FD, ioasid_fd);
  ioctl(device_fd2, VFIO_BIND_IOASID_FD, ioasid_fd);

  /* pre-register the virtual address range for accounting */
  const mem_info = { vaddr: 0x40000000, size: GB };
  if (register) ioctl(ioasid_fd, IOASID_REGISTER_MEMORY, mem_info);

  /* Attach dev1 and dev2 to gpa_ioasid */
  const gpa_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
  let at_data = { ioasid: gpa_ioasid };
  ioctl(device_fd1, VFIO_ATTACH_IOASID, at_data);
  ioctl(device_fd2, VFIO_ATTACH_IOASID, at_data);

  /* Setup GPA mapping */
  let dma_map = {
    ioasid: gpa_ioasid,
    iova: 0, // GPA
    vaddr: 0x40000000, // HVA
    size: GB,
  };
  ioctl(ioasid_fd, IOASID_DMA_MAP, dma_map);
  const [dma1, dma2] = [host.device("dev1").dma(), host.device("dev2").dma()];
  console.log(`  GPA 0x1000 before:     dev1 ${tryRead(dma1, 0x1000)}, dev2 ${tryRead(dma2, 0x1000)}`);

  /* After boot, guest enables an GIOVA space for dev2 */
  const giova_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);

  /* First detach dev2 from previous address space */
  at_data = { ioasid: gpa_ioasid };
  ioctl(device_fd2, VFIO_DETACH_IOASID, at_data);
  console.log(`  in between:            ${tryRead(dma2, 0x1000)}`);

  /* Then attach dev2 to the new address space */
  at_data = { ioasid: giova_ioasid };
  ioctl(device_fd2, VFIO_ATTACH_IOASID, at_data);

  /* Setup a shadow DMA mapping according to vIOMMU: GIOVA (0x2000) -> GPA (0x1000) -> HVA (0x40001000) */
  dma_map = {
    ioasid: giova_ioasid,
    iova: 0x2000, // GIOVA
    vaddr: 0x40001000, // HVA
    size: 4096,
  };
  ioctl(ioasid_fd, IOASID_DMA_MAP, dma_map);
  console.log(`  GIOVA 0x2000 after:    dev2 ${tryRead(dma2, 0x2000)}; dev1 still passes through: ${tryRead(dma1, 0x1000)}`);
  return host.process.locked;
}

console.log("Without registered memory:");
console.log(`  charged: 1 GB and ${(await flow(false)) - GB} bytes, the page that both spaces map counts twice`);
console.log("With registered memory:");
console.log(`  charged: 1 GB and ${(await flow(true)) - GB} bytes`);
