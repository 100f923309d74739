// RFC 5.7, PASID tables of the guest: bound once, as one ioasid of all PASIDs, for each kind of IOMMU that there is. The guest gives its
// processes entries by plain stores; a user whose guest has no caching mode learns of them from a watch.
// Run it with `node examples/flow-5-7.mjs` after `npm run build`. `ioasid flows 5.7` runs it step by step, and with a space for each table.
import {
  IOASID_ALLOC, IOASID_ALLOC_IOASID_PASID_TABLE, IOASID_DMA_MAP, IOASID_INVALIDATE_CACHE, IOASID_INVALIDATE_PASID, VFIO_ATTACH_IOASID,
  VFIO_BIND_IOASID_FD,
} from "ioasid";
import { ContextDescriptors, Gcr3Table, GuestPages, GuestProcess, GuestRam, VtdPasidTable } from "./lib/guest.mjs";
import { GB, HVA, makeMachine, tryRead } from "./machine.mjs";

const SOURCE = 0x2000n;

/** @param makeTable of the guest, in its RAM @param kind of the page tables that it leads to */
async function run(iommu, makeTable, kind) {
  const host = await makeMachine(iommu);
  const { open, ioctl } = host;
  const device_fd1 = open("/dev/vfio/devices/dev1");
  const ioasid_fd = open("/dev/ioasid");
  ioctl(device_fd1, VFIO_BIND_IOASID_FD, ioasid_fd);
  const gpa_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);
  ioctl(device_fd1, VFIO_ATTACH_IOASID, { ioasid: gpa_ioasid });
  ioctl(ioasid_fd, IOASID_DMA_MAP, { ioasid: gpa_ioasid, iova: 0, vaddr: HVA, size: GB });

  /* After boots: the guest's table, and a space for all PASIDs of dev1 */
  const ram = new GuestRam(host);
  const table = makeTable(ram);
  const { addr, format } = table;
  const pasids_ioasid = ioctl(ioasid_fd, IOASID_ALLOC_IOASID_PASID_TABLE, { parent: gpa_ioasid, addr, format });
  ioctl(device_fd1, VFIO_ATTACH_IOASID, { ioasid: pasids_ioasid });
  console.log(`${iommu.preset}: the guest's ${format.kind} table at GPA 0x${addr.toString(16)} is ioasid ${pasids_ioasid}`);
  const watch = ioasid_fd.watchPasidTable({ ioasid: pasids_ioasid }, (changes) => {
    for (const { pasid, change } of changes) console.log(`  the guest has ${change} PASID ${pasid}`);
  });

  // Two processes, each with a page of its own at the same address.
  const processes = new Map([[1, "first"], [40, "other"]]);
  for (const [pasid, text] of processes) {
    const process = new GuestProcess(new GuestPages(ram, kind));
    ram.bytes(process.populate(SOURCE), 5).set(Buffer.from(text));
    for (const { gpa, length } of table.set(pasid, process.pages)) watch.notifyWrite(gpa, length);
  }
  const read = (pasid) => tryRead(host.device("dev1").dma(pasid), SOURCE, 5).replace(/^[0-9a-f]+$/, (digits) => Buffer.from(digits, "hex").toString());
  for (const pasid of [1, 40, 41]) console.log(`  PASID ${pasid}: ${read(pasid)}`);

  // The first process ends.
  table.clear(1);
  watch.scan();
  ioctl(ioasid_fd, IOASID_INVALIDATE_CACHE, { ioasid: pasids_ioasid, granularity: IOASID_INVALIDATE_PASID, pasid: 1 });
  console.log(`  PASID 1: ${read(1)}`);
  watch.close();
}

await run({ preset: "vtd-scalable", stage: 2 }, (ram) => new VtdPasidTable(ram), "x86-64");
await run({ preset: "smmuv3", stage: 2 }, (ram) => new ContextDescriptors(ram), "aarch64-stage1");
await run({ preset: "amd" }, (ram) => new Gcr3Table(ram), "x86-64");
