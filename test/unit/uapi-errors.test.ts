// Every refusal of the uAPI, by call and cause: its errno, the field and value that are wrong, what is in the way, a hint, a message
// that names them, and that nothing has changed. Faults, PASID tables and KVM have no calls yet; ENODEV of strictAttach: info.test.ts.
import { describe, expect, it } from "vitest";
import { type Conflict, type ErrnoName, type HostOptions, IoctlError, type PgtableFormat } from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { GB, GuestPages, HVA, K4, M2, spaces, visible } from "./space-host.js";
import { ioctlAny } from "./uapi-fake.js";

const X86: PgtableFormat = { kind: "x86-64", levels: 4 };
const TABLE = 0x100000n;
const TOP = (1n << 64n) - K4;
/** Host virtual addresses that nothing backs; and those that may only be read. */
const NOWHERE = 0x1000n;
const READ_ONLY = 0x2000_0000n;

/**
 * Ioasids: 1 a root with dev1, with maps at 0 and at the guest's table; 2 a child of 1 with dev1 and a map; 3 a child of 1 with a
 * table; 4 a root with one device of group 7, so that it is partial; 5 a root without anything; 6 a child of 5; 7 a child of 1
 * without anything. dev2 is bound, dev3 is not.
 */
const [ROOT, CHILD, BOUND, PARTIAL, EMPTY, ORPHAN, BARE] = [1, 2, 3, 4, 5, 6, 7] as const;

async function machine(options: HostOptions = {}) {
  const it = await spaces({
    iommus: [{ preset: "vtd-scalable", stage: 2 }, { name: "arm", preset: "smmuv3", stage: 2 }],
    devices: [
      { name: "dev1", rid: 8 }, { name: "dev2", rid: 16 }, { name: "dev3", rid: 24 }, { name: "ga", rid: 32, group: 7 },
      { name: "gb", rid: 33, group: 7 }, { name: "phone", rid: 64, iommu: "arm" },
    ],
    lockLimit: GB, ...options,
  });
  const { fd, host, map, devs: [dev1, dev2, dev3, ga, gb, phone] } = it;
  dev3!.unbindIoasidFd();
  host.process.mmap({ hva: READ_ONLY, size: K4, prot: "r" });
  const alloc = (parent?: number) => fd.allocIoasid(parent === undefined ? {} : { parent });
  alloc();
  map(ROOT, 0, HVA, 0x10000);
  map(ROOT, TABLE, HVA + TABLE, 0x10000);
  dev1!.attachIoasid({ ioasid: ROOT });
  alloc(ROOT);
  dev1!.attachIoasid({ ioasid: CHILD });
  map(CHILD, 0x5000, 0x1000);
  new GuestPages(host, FORMAT_X86_64).map(0x2000n, 0x1000n);
  if (options.iommus === undefined) fd.allocIoasidPgtable({ parent: ROOT, addr: TABLE, format: X86 });
  else alloc(ROOT);
  alloc();
  ga!.attachIoasid({ ioasid: PARTIAL });
  alloc();
  alloc(EMPTY);
  alloc(ROOT);
  return { ...it, dev1: dev1!, dev2: dev2!, dev3: dev3!, ga: ga!, gb: gb!, phone: phone! };
}
/** In place of `iommus`: no guests' tables and no dirty bits, and no maps for writing only; ioasid 3 is like 7 then. */
const UNSUPPORTED: HostOptions = { iommus: [{ preset: "vtd" }, { name: "arm", preset: "smmuv3" }] };
const NO_WRITE_ONLY: HostOptions = { iommus: [{ preset: "vtd-scalable" }, { name: "arm", preset: "smmuv3" }] };
type Machine = Awaited<ReturnType<typeof machine>>;

interface Row {
  cause: string;
  call: (it: Machine) => unknown;
  errno: ErrnoName;
  field?: string;
  value?: unknown;
  conflict?: Conflict;
  before?: (it: Machine) => unknown;
  options?: HostOptions;
}

const ioasid = (number: number): Conflict => ({ kind: "ioasid", ioasid: number });
const device = (name: string): Conflict => ({ kind: "device", device: name });
const GROUP: Conflict = { kind: "group", group: 7 };
const mapping = (number: number, first: bigint, last: bigint): Conflict => ({ kind: "mapping", ioasid: number, first, last });

/** Rows of the calls that take an ioasid: unknown, no u32, and a partly attached group. */
function onIoasids(calls: Record<string, (it: Machine, ioasid: number) => unknown>, field = "ioasid"): Row[] {
  return Object.entries(calls).flatMap(([name, call]): Row[] => [
    { cause: `${name}: unknown ioasid`, call: (it) => call(it, 99), errno: "ENOENT", field, value: 99 },
    { cause: `${name}: an ioasid that is no number`, call: (it) => call(it, "1" as never), errno: "EINVAL", field, value: "1" },
    { cause: `${name}: a group is partly attached`, call: (it) => call(it, PARTIAL), errno: "EDEADLK", field, value: PARTIAL, conflict: GROUP },
  ]);
}

const COMMON: Row[] = [
  ...onIoasids({
    GET_INFO: ({ fd }, n) => fd.getInfo({ ioasid: n }),
    MAP_DMA: ({ fd }, n) => fd.dmaMap({ ioasid: n, iova: 0x40000, vaddr: HVA, size: K4 }),
    UNMAP_DMA: ({ fd }, n) => fd.dmaUnmap({ ioasid: n, iova: 0, size: K4 }),
    BIND_PGTABLE: ({ fd }, n) => fd.bindPgtable({ ioasid: n, addr: TABLE, format: X86 }),
    UNBIND_PGTABLE: ({ fd }, n) => fd.unbindPgtable({ ioasid: n }),
    INVALIDATE_CACHE: ({ fd }, n) => fd.invalidateCache({ ioasid: n }),
    SET_DIRTY_TRACKING: ({ fd }, n) => fd.setDirtyTracking({ ioasid: n, enable: true }),
    GET_DIRTY_BITMAP: ({ fd }, n) => fd.getDirtyBitmap({ ioasid: n, iova: 0, size: K4, pageSize: 4096 }),
  }),
  ...onIoasids({
    CREATE_NESTING: ({ fd }, n) => fd.createNesting({ parent: n }), ALLOC_IOASID: ({ fd }, n) => fd.allocIoasid({ parent: n }),
    ALLOC_IOASID_PGTABLE: ({ fd }, n) => fd.allocIoasidPgtable({ parent: n, addr: TABLE, format: X86 }),
  }, "parent"),
  { cause: "FREE: unknown", call: ({ fd }) => fd.free({ ioasid: 0 }), errno: "ENOENT", field: "ioasid", value: 0 },
  { cause: "GET_GROUP_STATE: unknown", call: ({ fd }) => fd.getGroupState({ ioasid: 99 }), errno: "ENOENT", field: "ioasid", value: 99 },
  { cause: "ATTACH: unknown", call: ({ dev2 }) => dev2.attachIoasid({ ioasid: 99 }), errno: "ENOENT", field: "ioasid", value: 99 },
  { cause: "DETACH: unknown", call: ({ dev1 }) => dev1.detachIoasid({ ioasid: 99 }), errno: "ENOENT", field: "ioasid", value: 99 },
  { cause: "DEVICE_GET_INFO: unknown label", call: ({ fd }) => fd.deviceGetInfo({ label: 99 }), errno: "ENOENT", field: "label", value: 99 },
  { cause: "no argument", call: ({ fd }) => fd.getInfo(undefined as never), errno: "EFAULT" },
  { cause: "no structure", call: ({ fd }) => fd.getInfo(7 as never), errno: "EINVAL", value: 7 },
  { cause: "an unknown field", call: ({ fd }) => fd.getInfo({ ioasid: 1, size: 4 } as never), errno: "EINVAL", field: "size", value: 4 },
  { cause: "an unknown request", call: ({ fd }) => ioctlAny(fd, 0x3bff), errno: "ENOTTY", field: "request", value: 0x3bff },
  { cause: "a request of another file", call: ({ dev1 }) => ioctlAny(dev1, 0x3b43), errno: "ENOTTY", field: "fd" },
];

const register = (vaddr: bigint, size: bigint | number) => ({ fd }: Machine) => fd.registerMemory({ vaddr, size });
const unregister = (vaddr: bigint, size: bigint | number) => ({ fd }: Machine) => fd.unregisterMemory({ vaddr, size });
const REGISTERED: Conflict = { kind: "memory", first: HVA + M2, last: HVA + M2 + 0x3fffn };
const registered = register(HVA + M2, 0x4000);

const MEMORY: Row[] = [
  { cause: "REGISTER: size 0", call: register(HVA, 0), errno: "EINVAL", field: "size", value: 0n },
  { cause: "REGISTER: vaddr misaligned", call: register(HVA + 1n, K4), errno: "EINVAL", field: "vaddr", value: HVA + 1n },
  { cause: "REGISTER: size misaligned", call: register(HVA, 0x1001), errno: "EINVAL", field: "size", value: 0x1001n },
  { cause: "REGISTER: wrap", call: register(TOP, 0x2000), errno: "EOVERFLOW", field: "size", value: 0x2000n },
  { cause: "REGISTER: overlap", call: register(HVA + M2 + 0x3000n, 0x2000), errno: "EEXIST", field: "vaddr", value: HVA + M2 + 0x3000n, conflict: REGISTERED, before: registered },
  { cause: "REGISTER: memory missing", call: register(NOWHERE, K4), errno: "EFAULT", field: "vaddr", value: NOWHERE },
  { cause: "REGISTER: limit", call: register(HVA, GB), errno: "ENOMEM", field: "size", value: GB },
  { cause: "UNREGISTER: not an exact range", call: unregister(HVA + M2, K4), errno: "ENOENT", field: "vaddr", value: HVA + M2, before: registered },
  { cause: "UNREGISTER: nothing there", call: unregister(HVA, K4), errno: "ENOENT", field: "vaddr", value: HVA },
  { cause: "UNREGISTER: wrap", call: unregister(TOP, 0x2000), errno: "EOVERFLOW", field: "size", value: 0x2000n },
  {
    cause: "UNREGISTER: mapped", call: unregister(HVA + M2, 0x4000), errno: "EBUSY", field: "vaddr", value: HVA + M2, conflict: ioasid(EMPTY),
    before: (it) => {
      registered(it);
      it.map(EMPTY, 0, HVA + M2 + 0x1000n);
    },
  },
];

const mapAt = (n: number, iova: bigint | number, vaddr: bigint | number, size: bigint | number = K4, flags?: number) => (it: Machine) => it.map(n, iova, vaddr, size, flags);
const unmapAt = (n: number, iova: bigint | number, size: bigint | number) => (it: Machine) => it.unmap(n, iova, size);
const unmapFlags = (flags: number, rest: object = {}) => ({ fd }: Machine) => fd.dmaUnmap({ ioasid: ROOT, flags, ...rest });

const MAPS: Row[] = [
  { cause: "MAP: size 0", call: mapAt(ROOT, 0x40000, HVA, 0), errno: "EINVAL", field: "size", value: 0n },
  { cause: "MAP: iova misaligned", call: mapAt(ROOT, 0x40001, HVA), errno: "EINVAL", field: "iova", value: 0x40001n },
  { cause: "MAP: vaddr misaligned", call: mapAt(ROOT, 0x40000, HVA + 8n), errno: "EINVAL", field: "vaddr", value: HVA + 8n },
  { cause: "MAP: wrap of iova", call: mapAt(ROOT, TOP, HVA, 0x2000), errno: "EOVERFLOW", field: "size", value: 0x2000n },
  { cause: "MAP: wrap of vaddr", call: mapAt(CHILD, 0, TOP, 0x2000), errno: "EOVERFLOW", field: "size", value: 0x2000n },
  { cause: "MAP: no flag", call: mapAt(ROOT, 0x40000, HVA, K4, 0), errno: "EINVAL", field: "flags", value: 0 },
  { cause: "MAP: unknown flag", call: mapAt(ROOT, 0x40000, HVA, K4, 7), errno: "EINVAL", field: "flags", value: 7 },
  { cause: "MAP: overlap", call: mapAt(ROOT, 0xf000, HVA, 0x2000), errno: "EEXIST", field: "iova", value: 0xf000n, conflict: mapping(ROOT, 0n, 0xffffn) },
  { cause: "MAP: beyond the width", call: mapAt(ROOT, 1n << 48n, HVA), errno: "EINVAL", field: "iova", value: 1n << 48n },
  {
    cause: "MAP: reserved", call: mapAt(ROOT, 0xfedff000, HVA, 0x2000), errno: "EINVAL", field: "iova", value: 0xfedff000n,
    conflict: { kind: "reserved", first: 0xfee00000n, last: 0xfeefffffn },
  },
  { cause: "MAP: memory missing", call: mapAt(ROOT, 0x40000, NOWHERE), errno: "EFAULT", field: "vaddr", value: NOWHERE },
  { cause: "MAP: memory protected", call: mapAt(ROOT, 0x40000, READ_ONLY), errno: "EFAULT", field: "vaddr", value: READ_ONLY },
  { cause: "MAP: limit", call: mapAt(EMPTY, 0, HVA, GB), errno: "ENOMEM", field: "size", value: GB },
  { cause: "MAP: not registered", call: mapAt(ROOT, 0x40000, HVA), errno: "EPERM", field: "vaddr", value: HVA, before: registered },
  { cause: "MAP: a table is bound", call: mapAt(BOUND, 0, 0), errno: "EBUSY", field: "ioasid", value: BOUND, conflict: ioasid(BOUND) },
  { cause: "MAP: what the parent can never map", call: mapAt(CHILD, 0, 1n << 48n), errno: "EINVAL", field: "vaddr", value: 1n << 48n, conflict: ioasid(ROOT) },
  {
    cause: "MAP: a permission that the format has not", call: mapAt(ROOT, 0x40000, HVA, K4, 2), errno: "EOPNOTSUPP", field: "flags", value: 2,
    options: NO_WRITE_ONLY,
  },
  { cause: "MAP: frames", call: mapAt(ROOT, 1n << 46n, HVA), errno: "ENOMEM", field: "size", value: K4, before: ({ host }) => host.engine.failAllocation(1) },
  { cause: "UNMAP: size 0", call: unmapAt(ROOT, 0, 0), errno: "EINVAL", field: "size", value: 0n },
  { cause: "UNMAP: misaligned", call: unmapAt(ROOT, 1, K4), errno: "EINVAL", field: "iova", value: 1n },
  { cause: "UNMAP: wrap", call: unmapAt(ROOT, TOP, 0x2000), errno: "EOVERFLOW", field: "size", value: 0x2000n },
  { cause: "UNMAP: bisects at its end", call: unmapAt(ROOT, 0, K4), errno: "EINVAL", field: "iova", value: 0n, conflict: mapping(ROOT, 0n, 0xffffn) },
  { cause: "UNMAP: bisects at its start", call: unmapAt(ROOT, 0x8000, 0x8000), errno: "EINVAL", field: "iova", value: 0x8000n, conflict: mapping(ROOT, 0n, 0xffffn) },
  { cause: "UNMAP: a table is bound", call: unmapAt(BOUND, 0, K4), errno: "EBUSY", field: "ioasid", value: BOUND, conflict: ioasid(BOUND) },
  { cause: "UNMAP: unknown flag", call: unmapFlags(1), errno: "EINVAL", field: "flags", value: 1 },
  { cause: "UNMAP: ALL with iova", call: unmapFlags(2, { iova: 0x1000 }), errno: "EINVAL", field: "iova", value: 0x1000n },
  { cause: "UNMAP: ALL with size", call: unmapFlags(2, { size: 0x1000 }), errno: "EINVAL", field: "size", value: 0x1000n },
];

const attach = (name: "dev1" | "dev2" | "dev3" | "phone", n: number, rest: object = {}) => (it: Machine) => it[name].attachIoasid({ ioasid: n, ...rest });
const detach = (n: number, rest: object = {}) => ({ dev1 }: Machine) => dev1.detachIoasid({ ioasid: n, ...rest });
/** The descriptors are numbered in the order in which they were opened: the ioasid fd is 3, then the devices. */
const bind = (ioasidFd: unknown, rest: object = {}) => ({ dev3 }: Machine) => dev3.bindIoasidFd({ ioasidFd: ioasidFd as never, ...rest });

const DEVICES: Row[] = [
  { cause: "FREE: devices", call: ({ fd }) => fd.free({ ioasid: CHILD }), errno: "EBUSY", field: "ioasid", value: CHILD, conflict: device("dev1") },
  { cause: "FREE: children", call: ({ fd }) => fd.free({ ioasid: EMPTY }), errno: "EBUSY", field: "ioasid", value: EMPTY, conflict: ioasid(ORPHAN) },
  { cause: "CREATE_NESTING: depth", call: ({ fd }) => fd.createNesting({ parent: BOUND }), errno: "ENOSPC", field: "parent", value: BOUND, conflict: ioasid(BOUND) },
  { cause: "ATTACH: not bound", call: attach("dev3", ROOT), errno: "EINVAL", field: "fd" },
  { cause: "ATTACH: not attached to the parent", call: attach("dev2", CHILD), errno: "EINVAL", field: "ioasid", value: CHILD, conflict: ioasid(ROOT) },
  { cause: "ATTACH: there already", call: attach("dev1", CHILD), errno: "EBUSY", field: "ioasid", value: CHILD, conflict: ioasid(CHILD) },
  { cause: "ATTACH: to the parent again", call: attach("dev1", ROOT), errno: "EBUSY", field: "ioasid", value: ROOT, conflict: ioasid(ROOT) },
  { cause: "ATTACH: a second root", call: attach("dev1", EMPTY), errno: "EBUSY", field: "ioasid", value: EMPTY, conflict: ioasid(CHILD) },
  { cause: "ATTACH: a sibling", call: attach("dev1", BARE), errno: "EBUSY", field: "ioasid", value: BARE, conflict: ioasid(CHILD) },
  { cause: "ATTACH: another format", call: attach("phone", ROOT), errno: "EINVAL", field: "ioasid", value: ROOT, conflict: device("dev1") },
  {
    cause: "ATTACH: a table that its IOMMU does not walk", call: attach("phone", 8), errno: "EINVAL", field: "ioasid", value: 8, conflict: ioasid(8),
    before: (it) => {
      it.map(EMPTY, TABLE, HVA + TABLE);
      it.fd.allocIoasidPgtable({ parent: EMPTY, addr: TABLE, format: X86 });
      it.phone.attachIoasid({ ioasid: EMPTY });
    },
  },
  {
    cause: "ATTACH: a map outside the width", call: attach("dev2", EMPTY), errno: "EINVAL", field: "ioasid", value: EMPTY, conflict: mapping(EMPTY, 1n << 50n, (1n << 50n) + 0xfffn),
    before: mapAt(EMPTY, 1n << 50n, HVA),
  },
  { cause: "ATTACH: unknown flag", call: attach("dev2", ROOT, { flags: 2 }), errno: "EOPNOTSUPP", field: "flags", value: 2 },
  { cause: "ATTACH: domains", call: attach("dev2", EMPTY), errno: "ENOSPC", before: ({ host }) => host.engine.failAllocation(1) },
  { cause: "ATTACH: frames", call: attach("dev2", EMPTY), errno: "ENOMEM", before: ({ host }) => host.engine.failAllocation(2) },
  { cause: "DETACH: attached to a child of it", call: detach(ROOT), errno: "EBUSY", field: "ioasid", value: ROOT, conflict: ioasid(CHILD) },
  { cause: "DETACH: not attached there", call: detach(EMPTY), errno: "ENOENT", field: "ioasid", value: EMPTY },
  { cause: "DETACH: unknown flag", call: detach(CHILD, { flags: 2 }), errno: "EOPNOTSUPP", field: "flags", value: 2 },
  { cause: "UNBIND: attached", call: ({ dev1 }) => dev1.unbindIoasidFd(), errno: "EBUSY", field: "ioasid", value: CHILD, conflict: ioasid(CHILD) },
  { cause: "UNBIND: not bound", call: ({ dev3 }) => dev3.unbindIoasidFd(), errno: "EINVAL", field: "fd" },
  { cause: "BIND: no fd", call: bind(undefined), errno: "EINVAL", field: "ioasidFd" },
  { cause: "BIND: fd not open", call: bind(99), errno: "EBADF", field: "ioasidFd", value: 99 },
  { cause: "BIND: fd of a device", call: bind(4), errno: "EBADFD", field: "ioasidFd", value: 4 },
  { cause: "BIND: cookie of 65 bits", call: bind(3, { cookie: 1n << 64n }), errno: "EINVAL", field: "cookie", value: 1n << 64n },
  { cause: "BIND: bound elsewhere", call: ({ host, dev2 }) => dev2.bindIoasidFd({ ioasidFd: host.open("/dev/ioasid") }), errno: "EBUSY", field: "ioasidFd", value: 10, conflict: device("dev2") },
  {
    cause: "BIND: its group is bound elsewhere", call: ({ host, gb }) => gb.bindIoasidFd({ ioasidFd: host.open("/dev/ioasid") }), errno: "EBUSY", field: "ioasidFd", value: 10,
    conflict: device("ga"), before: ({ gb }) => gb.unbindIoasidFd(),
  },
  { cause: "open: unknown path", call: ({ host }) => host.open("/dev/vfio/devices/none"), errno: "ENOENT", field: "path", value: "/dev/vfio/devices/none" },
  { cause: "open: a group twice", call: ({ host }) => [host.open("/dev/vfio/7"), host.open("/dev/vfio/7")], errno: "EBUSY", field: "path", value: "/dev/vfio/7", conflict: GROUP },
  { cause: "GROUP_GET_DEVICE_FD: another group's", call: ({ host }) => host.open("/dev/vfio/7").getDeviceFd({ name: "dev1" }), errno: "ENODEV", field: "name", value: "dev1", conflict: GROUP },
];

const bindTable = (n: number, addr: bigint = TABLE, format: unknown = X86) => ({ fd }: Machine) => fd.bindPgtable({ ioasid: n, addr, format: format as PgtableFormat });
const invalidate = (fields: object, n: number = BOUND) => ({ fd }: Machine) => fd.invalidateCache({ ioasid: n, ...fields });
const RANGE = { granularity: 1, iova: 0, size: K4 };

const TABLES: Row[] = [
  { cause: "BIND_PGTABLE: not a child", call: bindTable(ROOT), errno: "EINVAL", field: "ioasid", value: ROOT },
  { cause: "BIND_PGTABLE: nesting in software only", call: bindTable(BARE), errno: "EOPNOTSUPP", field: "format.kind", value: "x86-64", options: UNSUPPORTED },
  { cause: "BIND_PGTABLE: has maps", call: bindTable(CHILD), errno: "EBUSY", field: "ioasid", value: CHILD, conflict: mapping(CHILD, 0x5000n, 0x5fffn) },
  { cause: "BIND_PGTABLE: has children", call: bindTable(BARE), errno: "EBUSY", field: "ioasid", value: BARE, conflict: ioasid(8), before: ({ fd }) => fd.createNesting({ parent: BARE }) },
  { cause: "BIND_PGTABLE: already bound", call: bindTable(BOUND), errno: "EEXIST", field: "ioasid", value: BOUND, conflict: ioasid(BOUND) },
  { cause: "BIND_PGTABLE: unknown format", call: bindTable(BARE, TABLE, { kind: "sparc" }), errno: "EOPNOTSUPP", field: "format.kind", value: "sparc" },
  { cause: "BIND_PGTABLE: another machine's format", call: bindTable(BARE, TABLE, { kind: "aarch64-stage1", granule: 4096, inputWidth: 48 }), errno: "EOPNOTSUPP", field: "format.kind", value: "aarch64-stage1" },
  { cause: "BIND_PGTABLE: bad levels", call: bindTable(BARE, TABLE, { kind: "x86-64", levels: 6 }), errno: "EINVAL", field: "format.levels", value: 6 },
  { cause: "BIND_PGTABLE: misaligned", call: bindTable(BARE, TABLE + 8n), errno: "EINVAL", field: "addr", value: TABLE + 8n },
  { cause: "BIND_PGTABLE: beyond the width", call: bindTable(BARE, 1n << 48n), errno: "EINVAL", field: "addr", value: 1n << 48n },
  { cause: "BIND_PGTABLE: not mapped in the parent", call: bindTable(BARE, 0x40000n), errno: "EFAULT", field: "addr", value: 0x40000n, conflict: ioasid(ROOT) },
  { cause: "BIND_PGTABLE: tracks dirty pages", call: bindTable(BARE), errno: "EBUSY", field: "ioasid", value: BARE, conflict: ioasid(BARE), before: ({ fd }) => fd.setDirtyTracking({ ioasid: BARE, enable: true }) },
  { cause: "ALLOC_IOASID_PGTABLE: not mapped in the parent", call: ({ fd }) => fd.allocIoasidPgtable({ parent: EMPTY, addr: TABLE, format: X86 }), errno: "EFAULT", field: "addr", value: TABLE, conflict: ioasid(EMPTY) },
  { cause: "ALLOC_IOASID_PGTABLE: depth", call: ({ fd }) => fd.allocIoasidPgtable({ parent: BOUND, addr: TABLE, format: X86 }), errno: "ENOSPC", field: "parent", value: BOUND, conflict: ioasid(BOUND) },
  { cause: "UNBIND_PGTABLE: nothing bound", call: ({ fd }) => fd.unbindPgtable({ ioasid: CHILD }), errno: "ENOENT", field: "ioasid", value: CHILD },
  { cause: "INVALIDATE_CACHE: a root", call: invalidate({}, ROOT), errno: "EINVAL", field: "ioasid", value: ROOT },
  { cause: "INVALIDATE_CACHE: a mapped child", call: invalidate({}, CHILD), errno: "EINVAL", field: "ioasid", value: CHILD },
  { cause: "INVALIDATE_CACHE: granularity", call: invalidate({ granularity: 9 }), errno: "EOPNOTSUPP", field: "granularity", value: 9 },
  { cause: "INVALIDATE_CACHE: misaligned", call: invalidate({ ...RANGE, iova: 0x10 }), errno: "EINVAL", field: "iova", value: 0x10n },
  { cause: "INVALIDATE_CACHE: wrap", call: invalidate({ entries: [{ ...RANGE, iova: TOP, size: 0x2000 }] }), errno: "EOVERFLOW", field: "entries[0].size", value: 0x2000n },
  { cause: "INVALIDATE_CACHE: a cache that is none", call: invalidate({ caches: 16 }), errno: "EOPNOTSUPP", field: "caches", value: 16 },
  { cause: "INVALIDATE_CACHE: a device that is not there", call: invalidate({ device: 1 }), errno: "EINVAL", field: "device", value: 1 },
];

const setTracking = (n: number, enable: unknown = true) => ({ fd }: Machine) => fd.setDirtyTracking({ ioasid: n, enable: enable as boolean });
const getDirty = (rest: object) => ({ fd }: Machine) => fd.getDirtyBitmap({ ioasid: ROOT, iova: 0, size: 0x10000, pageSize: 4096, ...rest });

const DIRTY: Row[] = [
  { cause: "SET_DIRTY: no boolean", call: setTracking(ROOT, 2), errno: "EINVAL", field: "enable", value: 2 },
  { cause: "SET_DIRTY: no dirty bits", call: setTracking(ROOT), errno: "EOPNOTSUPP", field: "ioasid", value: ROOT, conflict: device("dev1"), options: UNSUPPORTED },
  { cause: "SET_DIRTY: a guest's table", call: setTracking(BOUND), errno: "EOPNOTSUPP", field: "ioasid", value: BOUND },
  { cause: "GET_DIRTY: not tracking", call: getDirty({}), errno: "EOPNOTSUPP", field: "ioasid", value: ROOT },
  { cause: "GET_DIRTY: misaligned", call: getDirty({ iova: 1 }), errno: "EINVAL", field: "iova", value: 1n, before: setTracking(ROOT) },
  { cause: "GET_DIRTY: page size", call: getDirty({ pageSize: 5000 }), errno: "EINVAL", field: "pageSize", value: 5000, before: setTracking(ROOT) },
  { cause: "GET_DIRTY: wrap", call: getDirty({ iova: TOP }), errno: "EOVERFLOW", field: "size", value: 0x10000n, before: setTracking(ROOT) },
  {
    cause: "ATTACH: does not record writes", call: attach("dev2", EMPTY), errno: "EINVAL", field: "ioasid", value: EMPTY, conflict: device("dev2"),
    before: setTracking(EMPTY), options: UNSUPPORTED,
  },
];

const text = (value: unknown): string => (typeof value === "bigint" ? `0x${value.toString(16)}` : String(value));

/** What a message must say of the thing in the way. */
function namesOf({ kind, first, last, ioasid: number, device: name, group }: Conflict): string[] {
  if (kind === "group") return [`group ${group}`];
  if (kind === "device") return [name!];
  return [...(number === undefined ? [] : [`ioasid ${number}`]), ...(first === undefined ? [] : [`${text(first)}..${text(last)}`])];
}

describe.each([...COMMON, ...MEMORY, ...MAPS, ...DEVICES, ...TABLES, ...DIRTY])("$cause", ({ call, errno, field, value, conflict, before, options }) => {
  it(`is ${errno}${field === undefined ? "" : ` for ${field}`}, explains itself, and changes nothing`, async () => {
    const at = await machine(options);
    before?.(at);
    const see = () => visible(at, [1, 2, 3, 4, 5, 6, 7, 8], [0n, 0x2000n, 0x5000n, 0x40000n]);
    const state = see();
    let error: unknown;
    try {
      call(at);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(IoctlError);
    const { message, hint, ...details } = error as IoctlError;
    expect(details).toMatchObject({ errno, field, conflict });
    if (value !== undefined) expect(details.value).toBe(value);
    if (value !== undefined) expect([text(value), String(value), `0x${Number(value).toString(16)}`].some((form) => message.includes(form))).toBe(true);
    expect(hint).toMatch(/\w/);
    expect(message).toContain(`${details.call}: ${errno} (`);
    for (const name of conflict === undefined ? [] : namesOf(conflict)) expect(message).toContain(name);
    expect(see()).toEqual(state);
  });
});
