// Opening and closing: paths, numbers, what a closed file leaves behind, and every call on one.
import { describe, expect, it } from "vitest";
import { REQUESTS, type RequestNumber } from "../../src/uapi/requests.js";
import { fakeMachine, ioctlAny, refusal } from "./uapi-fake.js";

const HVA = 0x7000_0000n;
const K4 = 4096n;

function attached() {
  const machine = fakeMachine();
  const { open, process } = machine.host;
  const [fd, dev1, dev2] = [open("/dev/ioasid"), open("/dev/vfio/devices/dev1"), open("/dev/vfio/devices/dev2")];
  const ioasid = fd.alloc();
  for (const dev of [dev1, dev2]) {
    dev.bindIoasidFd({ ioasidFd: fd });
    dev.attachIoasid({ ioasid });
  }
  process.mmap({ hva: HVA, size: K4 });
  fd.dmaMap({ ioasid, iova: 0n, vaddr: HVA, size: K4 });
  return { ...machine, fd, dev1, dev2, ioasid };
}

describe("open", () => {
  it("numbers files from 3 up, the lowest free number first", () => {
    const { open } = fakeMachine().host;
    const files = [open("/dev/ioasid"), open("/dev/vfio/devices/dev1"), open("/dev/ioasid", 2)];
    expect(files.map(({ number }) => number)).toEqual([3, 4, 5]);
    files[1]!.close();
    expect(open("/dev/vfio/devices/dev2").number).toBe(4);
    expect(open("/dev/ioasid").number).toBe(6);
  });

  it("is refused with ENOENT for any other path, with the paths that there are", () => {
    const { host } = fakeMachine();
    for (const path of ["/dev/ioasid/", "/dev/iommu", "", "/dev/vfio/devices/", "/dev/vfio/devices/dev3", "dev1", undefined, 3]) {
      const error = refusal(() => host.open(path as string), "ENOENT", "path");
      expect([error.call, error.hint]).toEqual(["open", "there are /dev/ioasid, /dev/kvm, /dev/vfio/devices/dev1, /dev/vfio/devices/dev2, /dev/vfio/1, /dev/vfio/2"]);
    }
  });

  it("is refused with EINVAL for a mode that does not read and write", () => {
    const { host } = fakeMachine();
    for (const mode of [0, 1, 3, -1, 2.5, "rw", null]) refusal(() => host.open("/dev/ioasid", mode as number), "EINVAL", "mode");
    expect(host.open("/dev/ioasid", 2 | 0o2000000).number).toBe(3);
  });
});

describe("a host", () => {
  it("lists its devices", () => {
    const { host } = fakeMachine();
    expect(host.devices().map(({ name, rid }) => [name, rid])).toEqual([["dev1", 8], ["dev2", 16]]);
  });

  it("answers EBADF to calls on what is no open fd of its own", () => {
    const { host } = fakeMachine();
    const foreign = fakeMachine().host.open("/dev/ioasid");
    for (const fd of [3, -1, 1.5, "3", undefined, {}, foreign]) {
      expect(refusal(() => host.ioctl(fd as never, 0x3b43), "EBADF", "fd").call).toBe("ioctl");
      expect(refusal(() => host.close(fd as never), "EBADF", "fd").call).toBe("close");
    }
    const { number } = host.open("/dev/ioasid");
    host.close(number);
    refusal(() => host.close(number), "EBADF", "fd");
  });
});

describe("a closed fd", () => {
  it("answers EBADF to every call and to close, also once its number is another file's", () => {
    const { host, fd, dev1 } = attached();
    const files = { ioasid: fd, device: dev1, group: host.open("/dev/vfio/1"), kvm: host.open("/dev/kvm") };
    for (const file of Object.values(files)) file.close();
    host.open("/dev/ioasid");
    host.open("/dev/vfio/devices/dev1");
    host.open("/dev/vfio/1");
    host.open("/dev/kvm");
    for (const [number, { name, fd: kind, method }] of Object.entries(REQUESTS)) {
      const file = files[kind];
      expect(refusal(() => (file as unknown as Record<string, () => void>)[method]!(), "EBADF", "fd").call).toBe(name);
      expect(refusal(() => ioctlAny(file, Number(number)), "EBADF", "fd").call).toBe(name);
      refusal(() => host.ioctl(file, Number(number) as RequestNumber, ...([] as never)), "EBADF", "fd");
    }
    refusal(() => ioctlAny(fd, 1), "EBADF", "fd");
    for (const file of Object.values(files)) expect(refusal(() => file.close(), "EBADF", "fd").call).toBe("close");
    expect([fd.closed, host.open("/dev/ioasid").closed]).toEqual([true, false]);
  });
});

describe("closing", () => {
  it("a device fd detaches and unbinds what was bound through it, and leaves the rest", () => {
    const { host, iommus: [iommu], fd, dev1, ioasid } = attached();
    const again = host.open("/dev/vfio/devices/dev1");
    again.close();
    expect(host.labelOf("dev1")?.name).toBe("dev1");
    dev1.close();
    expect(host.labelOf("dev1")).toBeUndefined();
    expect([...iommu!.domains].map(({ rids }) => [...rids])).toEqual([[16]]);
    expect(fd.getInfo({ ioasid })).toMatchObject({ devices: ["dev2"], mappings: 1 });
    host.open("/dev/vfio/devices/dev1").bindIoasidFd({ ioasidFd: fd });
  });

  it("the last device of an ioasid takes the table with it, not the maps", () => {
    const { iommus: [iommu], fd, dev1, dev2, ioasid } = attached();
    dev1.close();
    dev2.close();
    expect(iommu!.domains.size).toBe(0);
    expect(fd.getInfo({ ioasid })).toMatchObject({ devices: [], mappings: 1, locked: K4 });
  });

  it("an ioasid fd detaches and unbinds its devices, and frees all spaces, maps and pins", () => {
    const { host, iommus: [iommu], fd, dev1, ioasid } = attached();
    const other = host.open("/dev/ioasid");
    const kept = other.alloc();
    other.dmaMap({ ioasid: kept, iova: 0n, vaddr: HVA, size: K4 });
    expect(host.process.locked).toBe(2n * K4);
    fd.close();
    expect(iommu!.domains.size).toBe(0);
    expect([host.labelOf("dev1"), host.labelOf("dev2")]).toEqual([undefined, undefined]);
    expect(host.process.locked).toBe(K4);
    expect(other.getInfo({ ioasid: kept }).mappings).toBe(1);
    refusal(() => dev1.attachIoasid({ ioasid }), "EINVAL", "fd");
    dev1.bindIoasidFd({ ioasidFd: other });
    dev1.attachIoasid({ ioasid: kept });
    dev1.close();
    other.close();
    host.process.munmap(HVA, K4);
  });
});
