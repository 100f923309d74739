// Flow 5.2 of the RFC, several spaces without nesting, typed in line by line: with and without the registration that it recommends.
import { beforeEach, describe, expect, it } from "vitest";
import {
  createHost, IOASID_ALLOC, IOASID_DMA_MAP, IOASID_REGISTER_MEMORY, O_RDWR, VFIO_ATTACH_IOASID, VFIO_BIND_IOASID_FD, VFIO_DETACH_IOASID,
} from "../../src/index.js";
import { refusal } from "./uapi-fake.js";
import { faultOf, GB, HVA, K4, RAM } from "./space-host.js";

const mode = O_RDWR;
const SIZE = 0x200000n;

type Host = Awaited<ReturnType<typeof createHost>>;
let host: Host;

beforeEach(async () => (host = await machine()));

async function machine(lockLimit?: bigint): Promise<Host> {
  const made = await createHost({
    memory: { ram: 0x400000 }, devices: [{ name: "dev1", rid: 0x20 }, { name: "dev2", rid: 0x28 }],
    ...(lockLimit !== undefined && { lockLimit }),
  });
  made.process.mmap({ hva: HVA, size: SIZE });
  made.process.mmap({ hva: HVA + SIZE, size: GB - SIZE, backing: "zero" });
  return made;
}

/** The mail's lines, in its order; the registration only when it is asked for. */
function flow(register: boolean) {
  const { open, ioctl } = host;

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
  let dma_map: { ioasid: number; iova: number; vaddr: number; size: bigint } = {
    ioasid: gpa_ioasid,
    iova: 0, // GPA
    vaddr: 0x40000000, // HVA
    size: GB,
  };
  ioctl(ioasid_fd, IOASID_DMA_MAP, dma_map);
  const [dma1, dma2] = [host.device("dev1").dma(), host.device("dev2").dma()];
  const before = dma2.translate(0x1000n, "w");

  /* After boot, guest enables an GIOVA space for dev2 */
  const giova_ioasid = ioctl(ioasid_fd, IOASID_ALLOC);

  /* First detach dev2 from previous address space */
  at_data = { ioasid: gpa_ioasid };
  ioctl(device_fd2, VFIO_DETACH_IOASID, at_data);
  const between = faultOf(() => dma2.translate(0x1000n, "r")).reason;

  /* Then attach dev2 to the new address space */
  at_data = { ioasid: giova_ioasid };
  ioctl(device_fd2, VFIO_ATTACH_IOASID, at_data);

  /* Setup a shadow DMA mapping according to vIOMMU: GIOVA (0x2000) -> GPA (0x1000) -> HVA (0x40001000) */
  dma_map = {
    ioasid: giova_ioasid,
    iova: 0x2000, // GIOVA
    vaddr: 0x40001000, // HVA
    size: K4,
  };
  ioctl(ioasid_fd, IOASID_DMA_MAP, dma_map);
  return { ioasid_fd, device_fd1, device_fd2, gpa_ioasid, giova_ioasid, dma1, dma2, before, between, mem_info };
}

describe.each([["with", true], ["without", false]] as const)("flow 5.2 %s registration", (_with, register) => {
  it("moves dev2 to a space of its own, through a time without any", () => {
    const { dma1, dma2, before, between } = flow(register);
    expect([before, between]).toEqual([RAM + 0x1000n, "blocked"]);
    expect(dma2.translate(0x2000n, "w")).toBe(RAM + 0x1000n);
    expect(dma2.translate(0x2fffn, "r")).toBe(RAM + 0x1fffn);
    for (const iova of [0n, 0x1000n, 0x1fffn, 0x3000n, GB - 1n]) expect(faultOf(() => dma2.translate(iova, "r")).reason).toBe("not-present");
    for (const iova of [0n, 0x2000n, SIZE - 1n]) expect(dma1.translate(iova, "w")).toBe(RAM + iova);
  });

  it("lets dev1 read under its GPA what dev2 writes under its GIOVA, across the page's end or not at all", () => {
    const { dma1, dma2 } = flow(register);
    dma2.writeSync(0x2ff0n, Uint8Array.from({ length: 16 }, (_, n) => n + 1));
    expect([...dma1.readSync(0x1ff0n, 16)]).toEqual(Array.from({ length: 16 }, (_, n) => n + 1));
    expect(faultOf(() => dma2.writeSync(0x2ff8n, new Uint8Array(16))).iova).toBe(0x3000n);
    expect([...host.process.bytes(HVA + 0x1ff8n, 8)]).toEqual([9, 10, 11, 12, 13, 14, 15, 16]);
  });
});

describe("the charge of flow 5.2", () => {
  it("counts the page of both spaces twice without registration", () => {
    const { ioasid_fd, gpa_ioasid, giova_ioasid } = flow(false);
    expect(host.process.locked).toBe(GB + K4);
    expect(ioasid_fd.getInfo({ ioasid: gpa_ioasid })).toMatchObject({ locked: GB, lockedRegistered: 0n, lockedTotal: GB + K4 });
    expect(ioasid_fd.getInfo({ ioasid: giova_ioasid })).toMatchObject({ locked: K4, lockedRegistered: 0n, lockedTotal: GB + K4 });
  });

  it("counts every page once, where it is registered, with registration", () => {
    const { ioasid_fd, gpa_ioasid, giova_ioasid } = flow(true);
    expect(host.process.locked).toBe(GB);
    for (const ioasid of [gpa_ioasid, giova_ioasid]) {
      expect(ioasid_fd.getInfo({ ioasid })).toMatchObject({ locked: 0n, lockedRegistered: GB, lockedTotal: GB });
    }
  });

  it("fits a limit of 1 GB with registration only; without, the last map is refused with the numbers", async () => {
    host = await machine(GB);
    flow(true);
    host = await machine(GB);
    const error = refusal(() => flow(false), "ENOMEM", "size");
    expect(error).toMatchObject({ call: "IOASID_DMA_MAP", value: K4 });
    expect(error.message).toContain(`limit of ${GB} (${GB} are locked)`);
  });

  it("ends when both spaces are unmapped and the registration is taken back", () => {
    const { ioasid_fd, gpa_ioasid, giova_ioasid, mem_info } = flow(true);
    for (const ioasid of [gpa_ioasid, giova_ioasid]) {
      const error = refusal(() => ioasid_fd.unregisterMemory(mem_info), "EBUSY", "vaddr");
      expect(error.conflict).toEqual({ kind: "ioasid", ioasid });
      ioasid_fd.dmaUnmap({ ioasid, flags: 2 });
      expect(host.process.locked).toBe(GB);
    }
    ioasid_fd.unregisterMemory(mem_info);
    expect(host.process.locked).toBe(0n);
  });
});
