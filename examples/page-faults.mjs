// RFC 5.6, I/O page faults: a process of the guest has memory whose pages appear only when they are touched, and a device copies there. The
// device asks for the pages and waits; the user passes the requests on to the guest, and the guest's answers back.
// Run it with `node examples/page-faults.mjs` after `npm run build`. `ioasid flows 5.6` runs it step by step.
import {
  IOASID_ALLOC, IOASID_ALLOC_IOASID_PGTABLE, IOASID_ATTACH_USER_PASID, IOASID_DMA_MAP, IOASID_PAGE_RESPONSE, IOASID_PAGE_RESPONSE_INVALID,
  IOASID_PAGE_RESPONSE_SUCCESS, O_RDWR, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD,
} from "ioasid";
import { completion, CopyDevice, descriptor, DONE } from "./lib/copy-device.mjs";
import { FaultHandler, GuestPages, GuestProcess, GuestRam } from "./lib/guest.mjs";
import { GB, hex, HVA, makeMachine } from "./machine.mjs";

const host = await makeMachine({ preset: "vtd-scalable", stage: 2 });
const { open, ioctl } = host;

// The GPA space, and in it a process that has 16 pages from 1 GiB on, none of them there yet, and one page for completions that is.
const device_fd1 = open("/dev/vfio/devices/dev1", O_RDWR);
const ioasid_fd = open("/dev/ioasid", O_RDWR);
const label = ioctl(device_fd1, VFIO_BIND_IOASID_FD, ioasid_fd);
const gpa_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
ioctl(device_fd1, VFIO_ATTACH_IOASID, { ioasid: gpa_ioasid });
ioctl(ioasid_fd, IOASID_DMA_MAP, { ioasid: gpa_ioasid, iova: 0, vaddr: HVA, size: GB });

const ram = new GuestRam(host);
const process = new GuestProcess(new GuestPages(ram));
const HEAP = 1n << 30n;
const REPORT = 0x7000n;
process.reserve(HEAP, HEAP + 0xffffn);
const report = process.populate(REPORT);

const { root, format } = process.pages;
const gva_ioasid = ioctl(ioasid_fd, IOASID_ALLOC_IOASID_PGTABLE, { parent: gpa_ioasid, addr: root, format });
const gpasid1 = 17;
ioctl(device_fd1, VFIO_ATTACH_IOASID, { ioasid: gva_ioasid, flags: IOASID_ATTACH_USER_PASID, userPasid: gpasid1 });

// The user's loop: each record is injected into the guest, whose fault handler fills the table; its answer completes the request.
const answers = new Map([[true, IOASID_PAGE_RESPONSE_SUCCESS], [false, IOASID_PAGE_RESPONSE_INVALID]]);
const guest = new FaultHandler(
  ({ ioasid, device, pasid }) => (ioasid === gva_ioasid && device === label && pasid === gpasid1 ? process : undefined),
  (cookie, success) => ioctl(ioasid_fd, IOASID_PAGE_RESPONSE, { cookie, code: answers.get(success) }),
);
async function serveFaults() {
  for await (const record of ioasid_fd.faults) {
    if (record.kind === "request") console.log(`  ${record.access} of ${hex(record.iova)}, PASID ${record.pasid}, cookie ${record.cookie}${record.last ? "" : ", more of the group follow"}`);
    guest.handle(record);
  }
}
const serving = serveFaults();

// The device copies 100 bytes over two pages that are missing, to two more.
const device = new CopyDevice(host.device("dev1"));
async function copy(source, destination, length) {
  console.log(`copy ${length} bytes from ${hex(source)} to ${hex(destination)}`);
  device.doorbell(descriptor({ source, destination, length, completion: REPORT }), gpasid1);
  await device.idle();
  const { status, copied, refused } = completion(ram.bytes(report, 32));
  console.log(status === DONE ? `done: ${copied} bytes` : `refused at ${hex(refused)}, after ${copied} bytes`);
}
await copy(HEAP + 0xfd0n, HEAP + 0x4fd0n, 100);
await copy(HEAP + 0xfd0n, HEAP + 0x4fd0n, 100);
await copy(HEAP, HEAP + 0xf000n, 8192);

ioasid_fd.close();
await serving;
