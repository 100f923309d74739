// Running scenarios: the bundled ones are as they say; and what ends a run, with what words.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { HostOptions } from "../../src/create-host.js";
import type { DeviceOptions } from "../../src/host-devices.js";
import type { IommuOptions } from "../../src/iommu/model.js";
import type { StepReport } from "../../src/scenario/run.js";
import type { DeviceSpec, HostSpec, IommuSpec, Step } from "../../src/scenario/scenario.js";
import { readJson, reports, SCENARIOS, type Node } from "./scenario-files.js";

const START = [
  { mmap: { hva: "0x40000000", size: "0x4000" }, as: "ram" },
  { put: [{ at: "0x40001000", bytes: "01 02 03 04" }, { at: "0x40001008", words: ["0x1122334455667788", 5] }, { at: "0x40002000", fill: "0xee", length: 3 }] },
  { open: "/dev/ioasid", as: "fd" },
  { open: "/dev/vfio/devices/dev1", as: "dev" },
  { ioctl: "VFIO_BIND_IOASID_FD", fd: "$dev", arg: "$fd", as: "label" },
  { ioctl: "IOASID_ALLOC", fd: "$fd", as: "gpa" },
  { ioctl: "VFIO_ATTACH_IOASID", fd: "$dev", arg: { ioasid: "$gpa" } },
  { ioctl: "IOASID_DMA_MAP", fd: "$fd", arg: { ioasid: "$gpa", iova: 0, vaddr: "$ram.hva", size: "0x4000" } },
];

/** The report of a step that follows a mapped device. */
async function last(step: object, ...before: object[]): Promise<StepReport> {
  const all = await reports({ scenario: 1, name: "test", host: { memory: { ram: 0x10000, arena: 0x400000 } }, steps: [...START, ...before, step] });
  expect(all).toHaveLength(START.length + before.length + 1);
  return all.at(-1)!;
}

describe("the bundled scenarios", () => {
  it.each(SCENARIOS)("%s: every step is as expected", async (name) => {
    const json = readJson(name);
    const all = await reports(json);
    expect(all.filter(({ mismatch }) => mismatch)).toEqual([]);
    expect(all).toHaveLength((json["steps"] as Node[]).length);
  });
});

describe("a step", () => {
  it.each<[string, object, object]>([
    ["reads by DMA what was put as bytes, words and fill", { dma: "dev1", read: "0x1000", expect: { bytes: "01020304 00000000 88776655 44332211 05" } }, { outcome: "0102030400000000 8877665544332211 05" }],
    ["reads words", { dma: "dev1", read: "0x1008", expect: { words: ["0x1122334455667788"] } }, { outcome: "0x1122334455667788" }],
    ["reads a fill", { get: "0x40002000", expect: { fill: "0xee", length: 3 } }, { outcome: "eeeeee" }],
    ["translates to hpa by name", { translate: "dev1", read: "0x0", expect: { hpa: "$ram.hpa" } }, {}],
    ["writes by DMA", { dma: "dev1", write: "0x3ffe", bytes: "aa bb" }, { outcome: "ok" }],
    ["answers what it must", { ioctl: "IOASID_GET_INFO", fd: "$fd", arg: "$gpa", expect: { devices: ["dev1"], mappings: 1, parent: null } }, {}],
    ["knows constants", { ioctl: "IOASID_CHECK_EXTENSION", fd: "$fd", arg: "$IOASID_EXT_UNMAP_ALL", expect: 1 }, { value: 1 }],
    ["takes a request by number, and an fd by number", { ioctl: "0x3b43", fd: 3, expect: 2 }, { value: 2 }],
    ["takes u32 fields as text", { ioctl: "IOASID_DMA_UNMAP", fd: "$fd", arg: { ioasid: "0x1", flags: "0x2" }, expect: { size: 16384 } }, {}],
    ["is refused as it must", { close: 99, expect: { errno: "EBADF", field: "fd", value: 99 } }, { outcome: expect.stringContaining("EBADF") }],
    ["faults as it must", { dma: "dev1", read: "0x4000", expect: { fault: { reason: "not-present", label: "$label", stage: 2 } } }, {}],
    ["shows the charge", { charge: "process", expect: "0x4000" }, { value: 0x4000n }],
  ])("%s", async (_name, step, report) => {
    const got = await last(step);
    expect(got.mismatch).toBeUndefined();
    expect(got).toMatchObject(report);
  });

  it.each<[string, object, object]>([
    ["a call that is refused and should not be", { ioctl: "IOASID_FREE", fd: "$fd", arg: "$gpa" }, { what: "expect", expected: "no refusal", got: expect.stringContaining("IOASID_FREE: EBUSY") }],
    ["a call that passes and should not", { ioctl: "IOASID_ALLOC", fd: "$fd", expect: { errno: "ENOSPC" } }, { expected: '{"errno":"ENOSPC"}', got: "no refusal, but 2" }],
    ["another errno", { ioctl: "IOASID_FREE", fd: "$fd", arg: 7, expect: { errno: "EBUSY" } }, { what: "expect.errno", expected: '"EBUSY"', got: expect.stringContaining('"ENOENT": IOASID_FREE') }],
    ["another object in the way", { ioctl: "IOASID_FREE", fd: "$fd", arg: "$gpa", expect: { errno: "EBUSY", conflict: { kind: "device", device: "dev2" } } }, { what: "expect.conflict.device" }],
    ["another result", { ioctl: "IOASID_GET_INFO", fd: "$fd", arg: "$gpa", expect: { locked: "0x1000" } }, { what: "expect.locked", expected: "4096", got: "0x4000" }],
    ["a field that is not there", { ioctl: "IOASID_GET_INFO", fd: "$fd", arg: "$gpa", expect: { colour: "red" } }, { what: "expect.colour", got: "undefined" }],
    ["another byte", { dma: "dev1", read: "0x1000", expect: { bytes: "01 02 ff" } }, { what: "expect: bytes from 2 on", expected: "ff", got: "03" }],
    ["DMA that should fault", { dma: "dev1", read: "0x1000", expect: { fault: { reason: "blocked" } } }, { got: expect.stringContaining("no refusal") }],
    ["DMA that should not", { dma: "dev1", read: "0x4000", expect: { bytes: "00" } }, { got: expect.stringContaining("not-present") }],
    ["another fault", { dma: "dev1", read: "0x4000", expect: { fault: { reason: "not-present", stage: 1 } } }, { what: "expect.fault.stage", expected: "1" }],
    ["another place", { translate: "dev1", read: "0x1000", expect: { hva: "0x40002000" } }, { what: "expect.hva" }],
    ["a place of the process that is not there", { translate: "dev1", read: "0x1000", expect: { hva: "0x50000000" } }, { expected: "0x50000000, which is not mapped" }],
    ["another charge", { charge: "$gpa", fd: "$fd", expect: 0 }, { expected: "0", got: "0x4000" }],
  ])("%s is a mismatch", async (_name, step, mismatch) => {
    expect((await last(step)).mismatch).toMatchObject(mismatch);
  });

  it("writes all of its pieces or none", async () => {
    const put = { put: [{ at: "0x40003000", bytes: "ff" }, { at: "0x50000000", bytes: "ff" }], expect: { errno: "EFAULT", value: "0x50000000" } };
    expect((await last({ get: "0x40003000", expect: { bytes: "00" } }, put)).mismatch).toBeUndefined();
  });

  it("is described as the RFC writes it", async () => {
    const { text } = await last({ ioctl: "IOASID_DMA_MAP", fd: "$fd", arg: { ioasid: "$gpa", iova: "0x10000", vaddr: "$ram.hva", size: 4096 } });
    expect(text).toBe("ioctl(fd, IOASID_DMA_MAP, { .ioasid = gpa, .iova = 0x10000, .vaddr = ram.hva, .size = 4096 })");
  });
});

/** Steps for a device that takes ENQCMD, with a space of PASID 3. */
const ENQCMD = [
  { mmap: { hva: "0x40000000", size: "0x1000" } }, { put: [{ at: "0x40000000", bytes: "77" }] }, { open: "/dev/ioasid", as: "fd" }, { open: "/dev/kvm", as: "vm" },
  { open: "/dev/vfio/devices/dev1", as: "dev" }, { ioctl: "VFIO_BIND_IOASID_FD", fd: "$dev", arg: "$fd" }, { ioctl: "IOASID_ALLOC", fd: "$fd", as: "gva" },
  { ioctl: "VFIO_ATTACH_IOASID", fd: "$dev", arg: { ioasid: "$gva", flags: "$IOASID_ATTACH_USER_PASID", userPasid: 3 } },
  { ioctl: "IOASID_DMA_MAP", fd: "$fd", arg: { ioasid: "$gva", iova: "0x1000", vaddr: "0x40000000", size: "0x1000" } },
];
const SENT = { enqcmd: "dev1", vm: "$vm", pasid: 3, descriptor: { fill: 1, length: 64 }, as: "work" };

async function enqcmd(...steps: object[]): Promise<StepReport> {
  const devices = [{ name: "dev1", rid: 8, enqcmd: true }, { name: "dev2", rid: 16, enqcmd: true }, { name: "dev3", rid: 24 }];
  const host = { memory: { ram: 0x10000, arena: 0x400000 }, iommus: [{ preset: "vtd-scalable", stage: 2 }], devices };
  return (await reports({ scenario: 1, name: "test", host, steps: [...ENQCMD, ...steps] })).at(-1)!;
}

describe("work by ENQCMD", () => {
  it("is done with the PASID that came with it", async () => {
    expect(await enqcmd(SENT)).toMatchObject({ verb: "enqcmd", text: "work = enqcmd(vm, dev1, 3, 64 bytes of 1)", value: { accepted: true } });
    const read = await enqcmd(SENT, { dma: "dev1", work: "$work", read: "0x1000", expect: { bytes: "77" } });
    expect(read).toMatchObject({ text: "dev1 reads 1 byte at 0x1000 for work", outcome: "77" });
    expect((await enqcmd(SENT, { translate: "dev1", work: "$work", read: "0x1001", expect: { hva: "0x40000001" } })).mismatch).toBeUndefined();
    expect((await enqcmd(SENT, { dma: "dev1", work: "$work", write: "0x2000", bytes: "00" })).refusal).toMatchObject({ reason: "not-present", pasid: 3 });
  });

  it.each<[string, object, object]>([
    ["that the device has no room for", { ...SENT, room: false }, { what: "expect.accepted", expected: "true", got: "false" }],
    ["for a device without a portal", { ...SENT, enqcmd: "dev3" }, { what: "expect.accepted" }],
    ["that is refused for another reason", { ...SENT, room: false, expect: { accepted: false, why: "no-portal" } }, { what: "expect.why", got: '"retry"' }],
    ["that is no descriptor", { ...SENT, descriptor: { bytes: "00" } }, { expected: "no refusal", got: expect.stringContaining("a descriptor has 64 bytes") }],
    ["that is accepted and should not be", { ...SENT, expect: { errno: "EINVAL" } }, { expected: '{"errno":"EINVAL"}' }],
  ])("%s is a mismatch", async (_name, step, mismatch) => {
    expect((await enqcmd(step)).mismatch).toMatchObject(mismatch);
  });

  it("is nobody's that did not get it", async () => {
    await expect(enqcmd(SENT, { dma: "dev2", work: "$work", read: 0 })).rejects.toThrow('step 11: work: dev2 has accepted no work "$work"');
    await expect(enqcmd({ ...SENT, room: false, expect: { accepted: false } }, { dma: "dev1", work: "$work", read: 0 })).rejects.toThrow("has accepted no work");
    await expect(enqcmd({ ...SENT, vm: "$fd" })).rejects.toThrow(/step 10: vm: .* is no fd of \/dev\/kvm/);
  });
});

/** Steps for dev1 in a child with a guest's table, whose leaves are at HVA 0x40007000. */
const PAGES = [
  { mmap: { hva: "0x40000000", size: "0x10000" } }, { put: [{ at: "0x40001000", bytes: "77" }] },
  { put: [{ at: "0x40004000", words: ["0x5007"] }, { at: "0x40005000", words: ["0x6007"] }, { at: "0x40006000", words: ["0x7007"] }] },
  { open: "/dev/ioasid", as: "fd" }, { open: "/dev/vfio/devices/dev1", as: "dev" }, { ioctl: "VFIO_BIND_IOASID_FD", fd: "$dev", arg: "$fd", as: "label" },
  { ioctl: "IOASID_ALLOC", fd: "$fd", as: "gpa" }, { ioctl: "VFIO_ATTACH_IOASID", fd: "$dev", arg: { ioasid: "$gpa" } },
  { ioctl: "IOASID_DMA_MAP", fd: "$fd", arg: { ioasid: "$gpa", iova: 0, vaddr: "0x40000000", size: "0x10000" } },
  { ioctl: "IOASID_ALLOC_IOASID_PGTABLE", fd: "$fd", arg: { parent: "$gpa", addr: "0x4000", format: { kind: "x86-64", levels: 4 } }, as: "gva" },
  { ioctl: "VFIO_ATTACH_IOASID", fd: "$dev", arg: { ioasid: "$gva" } },
];
const READ = { dma: "dev1", read: "0x3000", pending: "read1" };
const FAULT = { fault: "$fd", as: "asked", expect: { kind: "request", ioasid: "$gva", device: "$label", pasid: null, iova: "0x3000", access: "r", last: true } };
const FILL = { put: [{ at: "0x40007018", words: ["0x1007"] }] };
const respond = (code: string): object => ({ ioctl: "IOASID_PAGE_RESPONSE", fd: "$fd", arg: { cookie: "$asked.cookie", code: `$IOASID_PAGE_RESPONSE_${code}` } });

async function faulting(...steps: object[]): Promise<StepReport> {
  const host = { memory: { ram: 0x10000, arena: 0x400000 }, iommus: [{ preset: "vtd-scalable", stage: 2 }] };
  return (await reports({ scenario: 1, name: "test", host, steps: [...PAGES, ...steps] })).at(-1)!;
}

describe("pending DMA", () => {
  it("asks for its page, and gives up after its time", async () => {
    const wait = { wait: "$read1", expect: { fault: { reason: "page-request-timeout", label: "$label" } } };
    const [begun, over] = [await faulting({ ...READ, timeout: 20 }, wait), await faulting({ ...READ, timeout: 20 }, FAULT, wait)];
    expect(begun).toMatchObject({ verb: "wait", text: "wait for read1", refusal: { reason: "page-request-timeout" } });
    expect(over.mismatch).toBeUndefined();
  });

  it.each<[string, object[], object]>([
    ["gets its bytes after SUCCESS", [FAULT, FILL, respond("SUCCESS"), { wait: "$read1", expect: { bytes: "77" } }], { outcome: "77" }],
    ["fails after INVALID", [FAULT, respond("INVALID"), { wait: "$read1", expect: { fault: { reason: "page-request-invalid", iova: "0x3000" } } }], { verb: "wait" }],
    ["is told to the reader of the queue once", [FAULT, { fault: "$fd", expect: null }, respond("FAILURE"), { wait: "$read1", expect: { fault: { reason: "page-request-failed" } } }], { verb: "wait" }],
  ])("%s", async (_name, steps, report) => {
    const got = await faulting(READ, ...steps);
    expect(got.mismatch).toBeUndefined();
    expect(got).toMatchObject(report);
  });

  it("may have ended before it is waited for, and may never have had to wait", async () => {
    expect(await faulting(FILL, { ...READ, length: 2 }, { fault: "$fd", expect: null }, { wait: "$read1", expect: { bytes: "77 00" } })).toMatchObject({ outcome: "7700" });
  });

  it.each<[string, object[], object]>([
    ["bytes that differ", [FAULT, FILL, respond("SUCCESS"), { wait: "$read1", expect: { bytes: "78" } }], { expected: "78", got: "77" }],
    ["an access that should go on", [FAULT, respond("INVALID"), { wait: "$read1" }], { expected: "no refusal", got: expect.stringContaining("page-request-invalid") }],
    ["another fault", [FAULT, respond("INVALID"), { wait: "$read1", expect: { fault: { reason: "page-request-failed" } } }], { what: "expect.fault.reason" }],
  ])("%s is a mismatch", async (_name, steps, mismatch) => {
    expect((await faulting(READ, ...steps)).mismatch).toMatchObject(mismatch);
  });

  it("is over when the run ends before it", async () => {
    const begin = performance.now();
    const report = await faulting(READ, { fault: "$fd", expect: null }, { wait: "$read1" });
    expect(report.mismatch).toMatchObject({ what: "expect", expected: "null" });
    expect(performance.now() - begin).toBeLessThan(8000);
  });
});

describe("a record of the fault queue", () => {
  it("of an access that does not wait is an event", async () => {
    const event = { kind: "event", ioasid: "$gva", device: "$label", iova: "0x3000", reason: "not-present", stage: 1, level: 0 };
    const refused = { dma: "dev1", read: "0x3000", expect: { fault: { reason: "not-present", stage: 1 } } };
    expect(await faulting(refused, { fault: "$fd", as: "event", expect: event })).toMatchObject({ text: "event = next fault of fd", verb: "fault" });
    expect((await faulting(refused, { fault: "$fd", expect: { ...event, level: 1 } })).mismatch).toMatchObject({ what: "expect.level", expected: "1", got: "0" });
  });

  it("must be there, unless it is said that there is none", async () => {
    expect((await faulting({ fault: "$fd" })).mismatch).toEqual({ what: "expect", expected: "a record", got: "none" });
    expect((await faulting({ fault: "$fd", expect: null })).mismatch).toBeUndefined();
    expect((await faulting({ fault: "$fd", expect: { kind: "event" } })).mismatch).toMatchObject({ what: "expect", got: "null" });
  });

  it("comes from an fd of /dev/ioasid; what is waited for is pending DMA", async () => {
    await expect(faulting({ fault: "$dev" })).rejects.toThrow(/step 12: fault: .* is no fd of \/dev\/ioasid/);
    await expect(faulting({ ...READ, pending: "other" }, { wait: "$fd" }, { wait: "$other" })).rejects.toThrow('step 13: wait: "$fd" is no pending DMA');
  });
});

describe("what no expectation can name ends with an error", () => {
  const fails = (...steps: object[]) => reports({ scenario: 1, name: "test", steps });

  it("a name of a step that was refused", async () => {
    const refused = { open: "/dev/nothing", as: "nothing", expect: { errno: "ENOENT" } };
    await expect(fails(refused, { close: "$nothing" })).rejects.toThrow('step 2: "$nothing" has no value: the step that is called so was refused');
  });

  it("a field that an answer does not have", async () => {
    await expect(fails({ mmap: { hva: 0, size: 4096 }, as: "ram" }, { get: "$ram.gpa", expect: { bytes: "00" } })).rejects.toThrow(/step 2: "\$ram.gpa": .* has no field "gpa"/);
  });

  it("a host that cannot be made", async () => {
    const scenario = { scenario: 1, name: "test", host: { iommus: [{ preset: "vtd", granule: 65536 }] }, steps: [{ charge: "process", expect: 0 }] };
    await expect(reports(scenario)).rejects.toThrow(/^\$\.host: iommus\.granule/);
  });
});

it("the example of the documentation is as it says", async () => {
  const [, example = ""] = /```json\n(.*?)```/s.exec(readFileSync("docs/scenarios.md", "utf8")) ?? [];
  const all = await reports(JSON.parse(example));
  expect(all).toHaveLength(13);
  expect(all.at(-1)!.mismatch).toBeUndefined();
});

/** What the types of the format know, the schema knows too; and what createHost knows, both. */
const IOMMU: Required<IommuSpec> & Record<keyof IommuOptions, unknown> = {
  name: "smmu", preset: "smmuv3", stage: 2, granule: "0x4000", addressWidth: 40, outputWidth: 44, reserved: [{ first: 0, last: "0xfff", why: "a test" }],
  nesting: true, pageRequests: false, dirtyTracking: false, pasidBits: 8,
};
const DEVICE: Required<Omit<DeviceSpec, "parent">> & Record<Exclude<keyof DeviceOptions, "parent">, unknown> = {
  name: "dev1", rid: "0x20", iommu: "smmu", group: 3, pasids: "user", enqcmd: true, pageRequests: false,
};
/** A mediated device has no place of its own. */
const MEDIATED: readonly DeviceSpec[] = [{ name: "dsa0", rid: 1 }, { name: "mdev1", parent: "dsa0", pasids: "default" }];
const HOST: Required<HostSpec> & Record<Exclude<keyof HostOptions, "ram" | "firstIotlbId" | "module">, unknown> = {
  memory: { ram: 0x10000, arena: "0x1000000", shared: false }, iommus: [IOMMU], devices: [DEVICE, ...MEDIATED], lockLimit: "0xffffffffffffffff", strictAttach: true,
  accounting: "fd", slots: 64, routes: 64, domains: 64, pasidTables: 2, ports: { count: 1, iotlbSets: 64, lanes: 64, faults: 64 },
  faultQueue: { records: 64, stalls: 64, depth: 64 },
};
const STEPS: readonly Step[] = [
  { open: "/dev/vfio/3" }, { open: "/dev/ioasid", as: "fd" }, { open: "/dev/vfio/devices/dev1", as: "dev" },
  { ioctl: "VFIO_BIND_IOASID_FD", fd: "$dev", arg: "$fd", as: "label" },
  { ioctl: "IOASID_DEVICE_GET_INFO", fd: "$fd", arg: "$label", expect: {
    group: 3, iommu: "smmu", addressWidth: 40, outputWidth: 44, alignment: 0x4000, reserved: [{ first: 0, last: 0xfff }], pageRequests: false,
    dirtyTracking: false, pasidBits: 8, type: 7, nesting: { hardware: ["aarch64-stage1"] },
  } },
  { open: "/dev/vfio/devices/mdev1", as: "mdev" }, { ioctl: "VFIO_BIND_IOASID_FD", fd: "$mdev", arg: "$fd", as: "mlabel" },
  { ioctl: "IOASID_DEVICE_GET_INFO", fd: "$fd", arg: "$mlabel", expect: { type: 3, parent: "dsa0" } },
  { dma: "dev1", pasid: 5, write: 0, words: ["0x1"], expect: { fault: { reason: "blocked", pasid: 5 } } },
  { dma: "dev1", write: 0, words: ["0x1"], expect: { fault: { reason: "blocked" } } }, { charge: "process", expect: 0 },
];

it("every option of a host and its IOMMUs reaches createHost", async () => {
  const all = await reports({ scenario: 1, name: "all options", host: HOST, steps: STEPS });
  expect(all.map(({ mismatch }) => mismatch)).toEqual(STEPS.map(() => undefined));
});
