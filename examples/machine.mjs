// The machine of all examples: two devices, and 1 GB of guest memory from host virtual address 0x40000000 on, as in the RFC.
import { createHost } from "ioasid";

export const GB = 1n << 30n;
/** Where the process has the guest's memory: GPA 0 is here. */
export const HVA = 0x40000000n;
/** The first bytes are RAM; the rest reads as zeros, so that 1 GB costs nothing. */
export const RAM = 0x200000n;

/** @param iommu options of the host's IOMMU: { preset: "vtd" | "vtd-scalable" | "smmuv3" | "amd", stage?: 1 | 2, ... } */
export async function makeMachine(iommu) {
  const host = await createHost({
    memory: { ram: 0x400000 },
    iommus: [iommu],
    devices: [{ name: "dev1", rid: 0x20 }, { name: "dev2", rid: 0x28 }],
  });
  mapGuest(host);
  return host;
}

/** The guest's memory in the process. */
export function mapGuest(host) {
  host.process.mmap({ hva: HVA, size: RAM });
  host.process.mmap({ hva: HVA + RAM, size: GB - RAM, backing: "zero" });
}

/** Bytes of the guest's memory, to read and to write. Ask again each time: a view must not be kept. */
export function guestBytes(host, gpa, length) {
  return host.process.bytes(HVA + BigInt(gpa), length);
}

/** 64-bit words of the guest's memory: what a guest's page tables are made of. */
export function guestWords(host, gpa, count) {
  const { buffer, byteOffset } = guestBytes(host, gpa, count * 8);
  return new BigUint64Array(buffer, byteOffset, count);
}

export const hex = (value) => `0x${value.toString(16)}`;

/** What a DMA read answers, or why it was refused. */
export function tryRead(dma, iova, length = 8) {
  try {
    return Buffer.from(dma.readSync(iova, length)).toString("hex");
  } catch (fault) {
    return fault.message;
  }
}

/** What a call answers, or why it was refused. */
export function tryCall(call) {
  try {
    return call();
  } catch (error) {
    return error.message;
  }
}
