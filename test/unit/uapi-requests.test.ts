// The request table: numbers, names, by-value forms, and what ioctl() does with a request that an fd does not have.
import { constants } from "node:os";
import { describe, expect, it } from "vitest";
import { ERRNO, ERRNO_NAME, IoctlError } from "../../src/uapi/errno.js";
import * as requests from "../../src/uapi/requests.js";
import { fakeMachine, ioctlAny, refusal } from "./uapi-fake.js";

const { REQUESTS, findRequest } = requests;

describe("errnos", () => {
  it("have the numbers of the system, where it has them", () => {
    const system = constants.errno as Readonly<Record<string, number | undefined>>;
    const known = Object.entries(ERRNO).filter(([name]) => system[name] !== undefined);
    expect(known.length).toBeGreaterThan(10);
    if (process.platform === "linux") for (const [name, code] of known) expect([name, code]).toEqual([name, system[name]]);
    for (const [name, code] of Object.entries(ERRNO)) expect(ERRNO_NAME.get(code)).toBe(name);
  });

  it("make one line of call, errno, reason and hint", () => {
    const error = new IoctlError("EEXIST", "IOASID_DMA_MAP", "it is there", { field: "iova", value: 1n, hint: "do not" });
    expect(error.message).toBe("IOASID_DMA_MAP: EEXIST (17): it is there. Hint: do not");
    expect(error).toMatchObject({ errno: "EEXIST", code: 17, call: "IOASID_DMA_MAP", field: "iova", value: 1n, hint: "do not" });
    expect(new IoctlError("ENOENT", "open", "no").message).toBe("open: ENOENT (2): no");
  });
});

describe("the table", () => {
  it("numbers the calls of /dev/ioasid from the base, those of a device from VFIO's", () => {
    const ioasid = (nr: number): number => 0x3b00 + 0x40 + nr;
    const vfio = (nr: number): number => 0x3b00 + 100 + nr;
    expect(Object.fromEntries(Object.entries(REQUESTS).map(([number, { name }]) => [name, Number(number)]))).toEqual({
      IOASID_CHECK_EXTENSION: ioasid(0), IOASID_REGISTER_MEMORY: ioasid(1), IOASID_UNREGISTER_MEMORY: ioasid(2), IOASID_ALLOC: ioasid(3), IOASID_FREE: ioasid(4), IOASID_GET_INFO: ioasid(5),
      IOASID_DMA_MAP: ioasid(6), IOASID_DMA_UNMAP: ioasid(7), IOASID_ALLOC_IOASID: ioasid(14),
      IOASID_CREATE_NESTING: ioasid(8), IOASID_BIND_PGTABLE: ioasid(9), IOASID_UNBIND_PGTABLE: ioasid(10),
      IOASID_INVALIDATE_CACHE: ioasid(13), IOASID_ALLOC_IOASID_PGTABLE: ioasid(15), IOASID_SET_DIRTY_TRACKING: ioasid(19),
      IOASID_PAGE_RESPONSE: ioasid(17), IOASID_PAGE_RESPONSE_RANGE: ioasid(18),
      IOASID_GET_DIRTY_BITMAP: ioasid(20), IOASID_GET_GROUP_STATE: ioasid(21), IOASID_DEVICE_GET_INFO: ioasid(22),
      VFIO_GROUP_GET_DEVICE_FD: vfio(6), KVM_MAP_PASID: 0xaef0, KVM_UNMAP_PASID: 0xaef1,
      VFIO_BIND_IOASID_FD: vfio(22), VFIO_UNBIND_IOASID_FD: vfio(23), VFIO_ATTACH_IOASID: vfio(24), VFIO_DETACH_IOASID: vfio(25),
    });
    expect([requests.IOASID_MAP_DMA, requests.IOASID_UNMAP_DMA]).toEqual([requests.IOASID_DMA_MAP, requests.IOASID_DMA_UNMAP]);
  });

  it("names every request as its constant is named, and its method after it", () => {
    for (const [number, { name, method }] of Object.entries(REQUESTS)) {
      expect((requests as Record<string, unknown>)[name]).toBe(Number(number));
      const words = name.toLowerCase().replace(/^(ioasid|vfio_group|vfio|kvm)_/, "").split("_");
      expect(method).toBe(words.map((word, i) => (i === 0 ? word : word[0]!.toUpperCase() + word.slice(1))).join(""));
    }
  });

  it("finds nothing under what is no number of a request", () => {
    for (const strange of [0, -1, 0x3b7e, "15174", "constructor", null, undefined, {}, 15174n]) {
      expect(findRequest(strange)).toBeUndefined();
    }
  });
});

describe("ioctl", () => {
  it("answers ENOTTY to an unknown request, and to one of the other kind of fd, which it names", () => {
    const { host } = fakeMachine();
    const ioasidFd = host.open("/dev/ioasid");
    const deviceFd = host.open("/dev/vfio/devices/dev1");
    for (const unknown of [0x3b4b, 0x3b63, -1, 1.5, NaN, "IOASID_ALLOC", undefined]) {
      for (const fd of [ioasidFd, deviceFd]) {
        expect(refusal(() => ioctlAny(fd, unknown), "ENOTTY", "request").call).toBe("ioctl");
      }
    }
    const attach = refusal(() => ioctlAny(ioasidFd, requests.VFIO_ATTACH_IOASID), "ENOTTY", "fd");
    expect([attach.call, attach.hint]).toEqual(["VFIO_ATTACH_IOASID", "the call is for an fd of /dev/vfio/devices/<name>"]);
    const alloc = refusal(() => host.ioctl(deviceFd, requests.IOASID_ALLOC), "ENOTTY", "fd");
    expect([alloc.call, alloc.hint]).toEqual(["IOASID_ALLOC", "the call is for an fd of /dev/ioasid"]);
  });

  it("takes fds and single values bare, as the RFC's section 5 passes them", () => {
    const { host } = fakeMachine();
    const { open, ioctl } = host;
    const fd = open("/dev/ioasid");
    const [dev1, dev2] = [open("/dev/vfio/devices/dev1"), open("/dev/vfio/devices/dev2")];
    expect(ioctl(dev1, requests.VFIO_BIND_IOASID_FD, fd)).toBe(1);
    expect(ioctl(dev2.number, requests.VFIO_BIND_IOASID_FD, fd.number)).toBe(2);
    const ioasid = ioctl(fd, requests.IOASID_ALLOC);
    expect(ioctl(fd, requests.IOASID_GET_INFO, ioasid)).toEqual(fd.getInfo({ ioasid }));
    expect(ioctl(fd, requests.IOASID_CHECK_EXTENSION, requests.IOASID_EXT_UNMAP_ALL)).toBe(1);
    ioctl(fd, requests.IOASID_FREE, ioasid);
    refusal(() => fd.getInfo({ ioasid }), "ENOENT", "ioasid");
    ioctl(dev1, requests.VFIO_UNBIND_IOASID_FD, fd);
    ioctl(dev2, requests.VFIO_UNBIND_IOASID_FD);
    expect(host.labelOf("dev1")).toBeUndefined();
  });

  it("passes a bare value of the wrong type on to the check of the field", () => {
    const { host } = fakeMachine();
    const fd = host.open("/dev/ioasid");
    const dev = host.open("/dev/vfio/devices/dev1");
    refusal(() => fd.ioctl(requests.IOASID_FREE, "1" as never), "EINVAL", "ioasid");
    refusal(() => fd.ioctl(requests.IOASID_CHECK_EXTENSION, 1.5), "EINVAL", "extension");
    refusal(() => dev.ioctl(requests.VFIO_BIND_IOASID_FD, "fd" as never), "EBADF", "ioasidFd");
    refusal(() => dev.ioctl(requests.VFIO_BIND_IOASID_FD, dev), "EBADFD", "ioasidFd");
  });

  it("refuses an argument where there is none, and a bare value where a structure is needed", () => {
    const { host } = fakeMachine();
    const fd = host.open("/dev/ioasid");
    refusal(() => fd.ioctl(requests.IOASID_ALLOC, 1 as never), "EINVAL");
    refusal(() => fd.ioctl(requests.IOASID_DMA_MAP, 1 as never), "EINVAL");
    refusal(() => fd.ioctl(requests.IOASID_DMA_MAP, undefined as never), "EFAULT");
    expect(fd.ioctl(requests.IOASID_ALLOC_IOASID)).toBe(1);
    expect(fd.ioctl(requests.IOASID_ALLOC_IOASID, {})).toBe(2);
  });
});

describe("structures", () => {
  const calls: [string, (arg: unknown) => unknown][] = (() => {
    const { host } = fakeMachine();
    const files = { ioasid: host.open("/dev/ioasid"), device: host.open("/dev/vfio/devices/dev1"), group: host.open("/dev/vfio/1"), kvm: host.open("/dev/kvm") };
    return Object.entries(REQUESTS).filter(([, { fields }]) => fields.size > 0).map(([number, { name, fd: kind }]) => {
      return [name, (arg) => host.ioctl(files[kind], Number(number) as never, arg as never)];
    });
  })();

  it.each(calls)("%s refuses a field that it does not know", (name, call) => {
    const error = refusal(() => call({ colour: 1 }), "EINVAL", "colour");
    expect([error.call, error.value]).toEqual([name, 1]);
    expect(error.hint).toContain("the call takes {");
  });

  it.each(calls)("%s refuses an array, null and a function", (_name, call) => {
    refusal(() => call([]), "EINVAL");
    refusal(() => call(null), "EFAULT");
    expect(() => call(() => 1)).toThrow(IoctlError);
  });

  const optional = ["IOASID_ALLOC_IOASID", "VFIO_UNBIND_IOASID_FD"];
  it.each(calls.filter(([name]) => !optional.includes(name)))("%s needs its argument", (_name, call) => {
    refusal(() => call(undefined), "EFAULT");
    expect(() => call({})).toThrow(IoctlError);
  });
});
