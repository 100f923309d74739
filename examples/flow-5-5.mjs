// RFC 5.5, guest SVA: a process of the guest shares its address space with a mediated device, and submits work to it by ENQCMD. Its own
// page table is the first stage of a PASID; the CPU replaces the guest's PASID by the one on the bus, which nobody here ever sees.
// Run it with `node examples/flow-5-5.mjs` after `npm run build`. `ioasid flows 5.5` runs the same as scenarios, and a physical device.
import {
  createHost, IOASID_ALLOC, IOASID_ATTACH_USER_PASID, IOASID_BIND_PGTABLE, IOASID_CREATE_NESTING, IOASID_DEVICE_GET_INFO, IOASID_DMA_MAP,
  IOASID_PAGE_RESPONSE_INVALID, KVM_MAP_PASID, O_RDWR, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD,
} from "ioasid";
import { completion, CopyDevice, descriptor, DONE } from "./lib/copy-device.mjs";
import { GuestPages, GuestProcess, GuestRam } from "./lib/guest.mjs";
import { GB, HVA, mapGuest } from "./machine.mjs";

const mode = O_RDWR;
const host = await createHost({
  memory: { ram: 0x400000 },
  iommus: [{ preset: "vtd-scalable", stage: 2 }],
  devices: [{ name: "dsa0", rid: 0x20 }, { name: "mdev1", parent: "dsa0", enqcmd: true }],
});
mapGuest(host);
const { open, ioctl } = host;

// Before the guest boots: the device is in the GPA space. Its driver in the host copies memory.
const device_fd1 = open("/dev/vfio/devices/mdev1", mode);
const ioasid_fd = open("/dev/ioasid", mode);
const kvm_fd = open("/dev/kvm", mode);
const label = ioctl(device_fd1, VFIO_BIND_IOASID_FD, ioasid_fd);
const gpa_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
ioctl(device_fd1, VFIO_ATTACH_IOASID, { ioasid: gpa_ioasid });
ioctl(ioasid_fd, IOASID_DMA_MAP, { ioasid: gpa_ioasid, iova: 0, vaddr: HVA, size: GB });
const device = new CopyDevice(host.device("mdev1"));
device.openPortal();
const { type, kind, parent, pasids } = ioctl(ioasid_fd, IOASID_DEVICE_GET_INFO, label);
console.log(`mdev1 is of type ${type}, ${kind} on ${parent}; the CPU must translate its PASIDs: ${pasids.cpuTranslated}`);

// The guest: a process with two pages.
const ram = new GuestRam(host);
const process = new GuestProcess(new GuestPages(ram));
const [SOURCE, TARGET] = [0x2000n, 0x7fff_0000_0000n];
const gpaOfSource = process.populate(SOURCE);
const gpaOfTarget = process.populate(TARGET);
ram.bytes(gpaOfSource, 13).set(Buffer.from("shared by SVA"));

/* After boots: a space for the process, nested on the GPA space */
const gva_ioasid = ioctl(ioasid_fd, IOASID_CREATE_NESTING, gpa_ioasid);

/* The guest's PASID, and how the CPU finds what stands for it */
const gpasid1 = 17;
ioctl(device_fd1, VFIO_ATTACH_IOASID, { ioasid: gva_ioasid, flags: IOASID_ATTACH_USER_PASID, userPasid: gpasid1 });
ioctl(kvm_fd, KVM_MAP_PASID, { ioasidFd: ioasid_fd, ioasid: gva_ioasid, userPasid: gpasid1 });

/* The process's page table */
ioctl(ioasid_fd, IOASID_BIND_PGTABLE, { ioasid: gva_ioasid, addr: process.pages.root, format: process.pages.format });

// The process copies from one of its addresses to another.
const COMPLETION = 0xf00n;
const work = (length) => descriptor({ source: SOURCE, destination: TARGET, length, completion: TARGET + COMPLETION });
async function submit(pasid, length) {
  const answer = kvm_fd.enqcmd({ name: "mdev1" }, pasid, work(length));
  await device.idle();
  return answer;
}
// What the process does not have the device asks for; this guest has nothing to add (page-faults.mjs has one that does).
ioasid_fd.faults.onRecord = ({ kind, cookie, last }) => {
  if (kind === "request" && last) ioasid_fd.pageResponse({ cookie, code: IOASID_PAGE_RESPONSE_INVALID });
};
const report = () => {
  const { status, copied, refused } = completion(ram.bytes(gpaOfTarget + COMPLETION, 32));
  return status === DONE ? `done, ${copied} bytes` : `refused at 0x${refused.toString(16)} after ${copied} bytes`;
};

console.log(`ENQCMD with PASID ${gpasid1}:`, await submit(gpasid1, 13));
console.log(`${report()}: the process has "${Buffer.from(ram.bytes(gpaOfTarget, 13)).toString()}"`);
console.log("ENQCMD with PASID 18:", await submit(18, 13));
await submit(gpasid1, 5000);
console.log(`more than the process has: ${report()}`);
