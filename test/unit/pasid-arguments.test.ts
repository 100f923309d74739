// Every call that takes a PASID, and everything that is none: below, beyond the 20 bits of PCI, beyond those that the IOMMU has, beyond a
// guest's table, no integer, no number. Each is refused with a typed error that names the call, the field and the value, and nothing changes.
import { beforeAll, describe, expect, it } from "vitest";
import { createHost, IOASID_ATTACH_USER_PASID, IOASID_INVALIDATE_PASID, IOASID_INVALIDATE_RANGE, type HostOptions } from "../../src/index.js";
import { EngineError } from "../../src/engine/errors.js";
import { IoctlError } from "../../src/uapi/errno.js";
import { noteFds } from "../oracle/fail-each.js";
import { differenceOf, hostDigest } from "../oracle/host-digest.js";

const HVA = 0x4000_0000n;
const BITS = 14;
const TABLE_BITS = 13;
const flags = IOASID_ATTACH_USER_PASID;

/** dev1 is attached to `gpa`, to `child` with PASID 5, and to a PASID table; a and b are shares of pf. */
async function machine(options: HostOptions = {}) {
  const host = await createHost({
    memory: { ram: 0x200000, arena: 4 << 20 }, routes: 64, domains: 64, iommus: [{ preset: "vtd-scalable", stage: 2, pasidBits: BITS }],
    devices: [{ name: "dev1", rid: 0x20, enqcmd: false }, { name: "pf", rid: 0x28 }, { name: "a", parent: "pf", enqcmd: true }], ...options,
  });
  const fds = noteFds(host);
  host.process.mmap({ hva: HVA, size: 0x100000n });
  const fd = host.open("/dev/ioasid");
  const [dev1, a] = [host.open("/dev/vfio/devices/dev1"), host.open("/dev/vfio/devices/a")];
  for (const device of [dev1, a]) device.bindIoasidFd({ ioasidFd: fd });
  const gpa = fd.alloc();
  fd.dmaMap({ ioasid: gpa, iova: 0n, vaddr: HVA, size: 0x100000n });
  dev1.attachIoasid({ ioasid: gpa });
  a.attachIoasid({ ioasid: gpa, flags, userPasid: 3 });
  const child = fd.allocIoasidPgtable({ parent: gpa, addr: 0n, format: { kind: "x86-64", levels: 4 } });
  dev1.attachIoasid({ ioasid: child, flags, userPasid: 5 });
  const table = fd.allocIoasidPasidTable({ parent: gpa, addr: 0x8000n, format: { kind: "vtd-scalable", pasidBits: TABLE_BITS } });
  dev1.attachIoasid({ ioasid: table });
  const vm = host.open("/dev/kvm");
  vm.mapPasid({ ioasidFd: fd, ioasid: gpa, userPasid: 9 });
  return { host, fds, fd, dev1, a, gpa, child, table, vm };
}
type Machine = Awaited<ReturnType<typeof machine>>;

/** No PASID anywhere. */
const NONE: readonly unknown[] = [-1, 1.5, NaN, Infinity, 2 ** 20, 2 ** 32, 5n, "5", true, {}, null];
const DESCRIPTOR = new Uint8Array(64);
const range = { iova: 0n, size: 4096n };

/** A call with a PASID; `more` are those that this call does not take beside NONE. */
interface Row {
  readonly name: string;
  readonly call: string;
  readonly field: string;
  readonly more: readonly unknown[];
  readonly make: (it: Machine, pasid: number) => unknown;
}

const BEYOND = 2 ** BITS;
const ROWS: readonly Row[] = [
  { name: "attach", call: "VFIO_ATTACH_IOASID", field: "userPasid", more: [0, undefined, BEYOND], make: ({ dev1, child }, userPasid) => dev1.attachIoasid({ ioasid: child, flags, userPasid }) },
  {
    name: "attach of a mediated device", call: "VFIO_ATTACH_IOASID", field: "userPasid", more: [0, undefined, BEYOND],
    make: ({ a, gpa }, userPasid) => a.attachIoasid({ ioasid: gpa, flags, userPasid }),
  },
  { name: "attach, dry", call: "VFIO_ATTACH_IOASID", field: "userPasid", more: [0, BEYOND], make: ({ dev1, child }, userPasid) => dev1.attachIoasid({ ioasid: child, flags, userPasid, dryRun: true }) },
  { name: "detach", call: "VFIO_DETACH_IOASID", field: "userPasid", more: [0, undefined, BEYOND], make: ({ dev1, child }, userPasid) => dev1.detachIoasid({ ioasid: child, flags, userPasid }) },
  {
    name: "invalidation of a PASID of a table", call: "IOASID_INVALIDATE_CACHE", field: "pasid", more: [undefined, 2 ** TABLE_BITS],
    make: ({ fd, table }, pasid) => fd.invalidateCache({ ioasid: table, granularity: IOASID_INVALIDATE_PASID, pasid }),
  },
  {
    name: "invalidation of a range", call: "IOASID_INVALIDATE_CACHE", field: "pasid", more: [undefined, 2 ** TABLE_BITS],
    make: ({ fd, table }, pasid) => fd.invalidateCache({ ioasid: table, granularity: IOASID_INVALIDATE_RANGE, ...range, pasid }),
  },
  {
    name: "invalidation of a list", call: "IOASID_INVALIDATE_CACHE", field: "entries[1].pasid", more: [undefined, 2 ** TABLE_BITS],
    make: ({ fd, table }, pasid) => fd.invalidateCache({ ioasid: table, entries: [{}, { granularity: IOASID_INVALIDATE_PASID, pasid }] }),
  },
  {
    name: "invalidation where one is attached", call: "IOASID_INVALIDATE_CACHE", field: "pasid", more: [0, 6, undefined, BEYOND],
    make: ({ fd, child }, pasid) => fd.invalidateCache({ ioasid: child, granularity: IOASID_INVALIDATE_PASID, pasid }),
  },
  {
    name: "page response to a range", call: "IOASID_PAGE_RESPONSE_RANGE", field: "pasid", more: [0, BEYOND],
    make: ({ fd, child }, pasid) => fd.pageResponseRange({ ioasid: child, ...range, code: 0, pasid }),
  },
  { name: "KVM's map", call: "KVM_MAP_PASID", field: "userPasid", more: [0, undefined], make: ({ vm, fd, gpa }, userPasid) => vm.mapPasid({ ioasidFd: fd, ioasid: gpa, userPasid }) },
  { name: "KVM's unmap", call: "KVM_UNMAP_PASID", field: "userPasid", more: [0, undefined], make: ({ vm }, userPasid) => vm.unmapPasid({ userPasid }) },
  { name: "ENQCMD", call: "enqcmd", field: "vpasid", more: [0, undefined], make: ({ vm }, vpasid) => vm.enqcmd({ name: "a" }, vpasid, DESCRIPTOR) },
];

function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe.each(ROWS)("$name", ({ call, field, more, make }) => {
  let it_: Machine;
  beforeAll(async () => {
    it_ = await machine();
  });

  it.each([...NONE, ...more].map((value) => [String(value), typeof value, value] as const))("refuses %s (%s)", (_text, _type, value) => {
    const before = hostDigest(it_.host, it_.fds);
    const error = thrownBy(() => make(it_, value as number));
    expect(error).toBeInstanceOf(IoctlError);
    expect(error).toMatchObject({ errno: "EINVAL", call, field });
    expect((error as IoctlError).value).toEqual(value);
    expect(differenceOf(before, hostDigest(it_.host, it_.fds))).toBeUndefined();
  });
});

describe("what is refused is the PASID alone", () => {
  const GOOD: [name: string, pasid: number][] = [
    ["attach", 2 ** BITS - 1], ["attach of a mediated device", 2 ** BITS - 1], ["attach, dry", 1], ["detach", 5], ["invalidation of a PASID of a table", 0],
    ["invalidation of a range", 2 ** TABLE_BITS - 1], ["invalidation of a list", 1], ["invalidation where one is attached", 5],
    ["page response to a range", 2 ** BITS - 1], ["KVM's map", 2 ** 20 - 1], ["KVM's unmap", 9], ["ENQCMD", 9],
  ];
  it.each(GOOD)("%s takes %i", async (name, pasid) => {
    const row = ROWS.find((each) => each.name === name)!;
    const machined = await machine();
    expect(thrownBy(() => row.make(machined, pasid))).toBeUndefined();
  });

  it("of every call here", () => {
    expect(GOOD.map(([name]) => name)).toEqual(ROWS.map(({ name }) => name));
  });
});

describe("views, tokens and routes", () => {
  const CALLS: [name: string, more: readonly unknown[], make: (it: Machine, pasid: number) => unknown][] = [
    ["dma", [0], ({ host }, pasid) => host.device("dev1").dma(pasid)],
    ["dma", [0], ({ host }, pasid) => host.device("a").dma({ pasid })],
    ["token", [0], ({ host }, pasid) => host.device("dev1").token(pasid)],
    ["route", [], ({ host }, pasid) => host.engine.route(0x20, pasid)],
  ];
  it.each(CALLS)("%s: a PASID that is none is an EngineError with the argument and the value", async (name, more, make) => {
    const machined = await machine();
    for (const value of [...NONE, ...more]) {
      // A view takes options in place of a PASID.
      if (typeof value === "object" && value !== null && String(make).includes("dma(pasid)")) continue;
      const error = thrownBy(() => make(machined, value as number));
      expect(error, String(value)).toBeInstanceOf(EngineError);
      expect(error).toMatchObject({ code: "BAD_ARGUMENT", field: "pasid", message: expect.stringContaining(name) });
      expect((error as EngineError).value).toEqual(value);
    }
  });

  it("a PASID that the table or the IOMMU has not is the hardware's to refuse", async () => {
    const { host, dev1, table } = await machine();
    const reason = (pasid: number): unknown => (thrownBy(() => host.device("dev1").dma(pasid).translate(0n)) as { reason: string }).reason;
    expect([reason(2 ** TABLE_BITS), reason(BEYOND)]).toEqual(["pasid-range", "pasid-range"]);
    dev1.detachIoasid({ ioasid: table });
    expect([reason(2 ** TABLE_BITS), reason(BEYOND)]).toEqual(["blocked", "blocked"]);
  });
});

it("a requester id that is none is refused by name too", async () => {
  const { host } = await machine();
  for (const rid of [-1, 2 ** 31, 0.5, NaN]) expect(() => host.engine.route(rid)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT", field: "rid", value: rid }));
});
