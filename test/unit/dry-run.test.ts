// `dryRun: true` checks what the call would check, throws what it would throw, and changes nothing.
import { describe, expect, it } from "vitest";
import { IoctlError, type ErrnoName, type HostOptions, type PgtableFormat } from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { GB, GuestPages, HVA, K4, M2, spaces, visible } from "./space-host.js";

const X86: PgtableFormat = { kind: "x86-64", levels: 4 };
const SMALL: HostOptions = { memory: { ram: 0x400000, arena: 0x180000 }, domains: 3 };

/**
 * dev1 is at `root`, which maps 64 KiB, 2 MiB of zeros and the RAM of the guest's table; `child` is nested there and maps a page;
 * dev2 is bound. `free` is a root without devices.
 */
async function machine(options: HostOptions = {}) {
  const it = await spaces({ iommus: [{ preset: "vtd-scalable", stage: 2 }], lockLimit: 2n * GB, ...options });
  const root = it.fd.alloc();
  it.devs[0]!.attachIoasid({ ioasid: root });
  it.map(root, 0, HVA, 0x10000);
  it.map(root, 8n * M2, HVA + M2, M2);
  it.map(root, 0x100000, HVA + 0x100000n, 0x10000);
  const child = it.fd.createNesting({ parent: root });
  it.map(child, 0x5000, 0x1000);
  const free = it.fd.alloc();
  const bare = it.fd.createNesting({ parent: root });
  new GuestPages(it.host, FORMAT_X86_64).map(0x2000n, 0x1000n);
  const [dev1, dev2] = [it.devs[0]!, it.devs[1]!];
  return { ...it, root, child, free, bare, dev1, dev2 };
}
type Machine = Awaited<ReturnType<typeof machine>>;

/** Four ioasids are there; the others show what a call has made. */
const see = (it: Machine) => visible(it, [1, 2, 3, 4, 5, 6], [0n, 0x2000n, 0x5000n, 0x9000n, 0x20000n, 8n * M2]);

type Call = (it: Machine, dryRun: { dryRun?: boolean }) => unknown;

/** Calls that succeed; `prepare` comes first. */
const CALLS: [what: string, call: Call, prepare?: (it: Machine) => unknown][] = [
  ["a map in a root", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 0x20000, vaddr: HVA, size: 0x4000, ...dry })],
  ["a map in a root without devices", ({ fd, free }, dry) => fd.dmaMap({ ioasid: free, iova: 0, vaddr: HVA, size: GB, ...dry })],
  ["a map in a child", ({ fd, child }, dry) => fd.dmaMap({ ioasid: child, iova: 0x9000, vaddr: 0, size: 0x4000, ...dry })],
  ["an attach of the first device", ({ dev2, free }, dry) => dev2.attachIoasid({ ioasid: free, ...dry })],
  ["an attach of the second device", ({ dev2, root }, dry) => dev2.attachIoasid({ ioasid: root, ...dry })],
  ["an attach to a mapped child", ({ dev1, child }, dry) => dev1.attachIoasid({ ioasid: child, ...dry })],
  ["a bind without devices", ({ fd, bare }, dry) => fd.bindPgtable({ ioasid: bare, addr: 0x100000, format: X86, ...dry })],
  ["a bind with a device", ({ fd, bare }, dry) => fd.bindPgtable({ ioasid: bare, addr: 0x100000, format: X86, ...dry }),
    ({ dev1, bare }) => dev1.attachIoasid({ ioasid: bare })],
  ["a child", ({ fd, root }, dry) => fd.createNesting({ parent: root, ...dry })],
  ["a child, as allocation", ({ fd, root }, dry) => fd.allocIoasid({ parent: root, ...dry })],
  ["a root, as allocation", ({ fd }, dry) => fd.allocIoasid({ ...dry })],
  ["a child with a table", ({ fd, root }, dry) => fd.allocIoasidPgtable({ parent: root, addr: 0x100000, format: X86, ...dry })],
];

describe.each(CALLS)("a dry run of %s", (_what, call, prepare) => {
  it("changes nothing that a space, a charge, a table or DMA shows, and leaves the real call as it would have been", async () => {
    const [it, plain] = [await machine(), await machine()];
    for (const each of [it, plain]) prepare?.(each);
    const before = see(it);
    const [answer] = [call(it, { dryRun: true }), call(it, { dryRun: true })];
    expect(answer === undefined || answer === 0).toBe(true);
    expect(see(it)).toEqual(before);
    expect(call(it, { dryRun: false })).toEqual(call(plain, {}));
    expect(see(it)).toEqual(see(plain));
    expect(see(it)).not.toEqual(before);
  });
});

/** Calls that are refused; `prepare` brings the cause about. */
const REFUSALS: [what: string, errno: ErrnoName, call: Call, prepare?: ((it: Machine) => unknown) | undefined, options?: HostOptions][] = [
  ["a map over another", "EEXIST", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 0x8000, vaddr: HVA, size: 0x10000, ...dry })],
  ["a map of memory that is missing", "EFAULT", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 0x20000, vaddr: 0, size: K4, ...dry })],
  ["a map beyond the lock limit", "ENOMEM", ({ fd, free }, dry) => fd.dmaMap({ ioasid: free, iova: 0, vaddr: HVA, size: GB, ...dry }), undefined, { lockLimit: GB }],
  ["a map beyond the width", "EINVAL", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 1n << 48n, vaddr: HVA, size: K4, ...dry })],
  ["a map of unregistered memory", "EPERM", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 0x20000, vaddr: HVA, size: K4, ...dry }),
    ({ fd }) => fd.registerMemory({ vaddr: HVA + M2, size: K4 })],
  ["a map without flags", "EINVAL", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 0x20000, vaddr: HVA, size: K4, flags: 0, ...dry })],
  ["a write-only map of a format without", "EOPNOTSUPP", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 0x20000, vaddr: HVA, size: K4, flags: 2, ...dry }),
    undefined, { iommus: [{ preset: "smmuv3" }] }],
  ["a map of a root without frames", "ENOMEM", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 1n << 46n, vaddr: HVA, size: K4, ...dry }), fill, SMALL],
  ["a map of a child without frames", "ENOMEM", ({ fd, child }, dry) => fd.dmaMap({ ioasid: child, iova: 1n << 46n, vaddr: 0, size: K4, ...dry }),
    (it) => {
      it.dev1.attachIoasid({ ioasid: it.child });
      fill(it);
    }, SMALL],
  ["a map with frames for the root only, not for the child below", "ENOMEM", ({ fd, root }, dry) => fd.dmaMap({ ioasid: root, iova: 0x20000, vaddr: HVA, size: K4, ...dry }),
    (it) => {
      it.dev1.attachIoasid({ ioasid: it.child });
      it.map(it.child, 1n << 46n, 0x20000);
      fill(it, 0);
    }, SMALL],
  ["a map of a bound space", "EBUSY", ({ fd, bare }, dry) => fd.dmaMap({ ioasid: bare, iova: 0, vaddr: 0, size: K4, ...dry }),
    ({ fd, bare }) => fd.bindPgtable({ ioasid: bare, addr: 0x100000, format: X86 })],
  ["an attach to a child without its parent", "EINVAL", ({ dev2, child }, dry) => dev2.attachIoasid({ ioasid: child, ...dry })],
  ["a second attach", "EBUSY", ({ dev1, root }, dry) => dev1.attachIoasid({ ioasid: root, ...dry })],
  ["an attach without a domain", "ENOSPC", ({ dev2, free }, dry) => dev2.attachIoasid({ ioasid: free, ...dry }), undefined, { ...SMALL, domains: 1 }],
  ["an attach without frames", "ENOMEM", ({ dev2, free }, dry) => dev2.attachIoasid({ ioasid: free, ...dry }),
    (it) => {
      it.map(it.free, 1n << 46n, HVA);
      fill(it);
    }, SMALL],
  ["an attach to what the IOMMU cannot map", "EINVAL", ({ dev2, free }, dry) => dev2.attachIoasid({ ioasid: free, ...dry }), (it) => it.map(it.free, 1n << 50n, HVA)],
  ["an attach without a route", "ENOSPC", ({ devs, free }, dry) => devs[9]!.attachIoasid({ ioasid: free, ...dry }), undefined, {
    routes: 8, devices: Array.from({ length: 10 }, (_, n) => ({ name: `dev${n + 1}`, rid: n })),
  }],
  ["a bind of a bad format", "EINVAL", ({ fd, bare }, dry) => fd.bindPgtable({ ioasid: bare, addr: 0x100000, format: { kind: "x86-64", levels: 3 as 4 }, ...dry })],
  ["a bind at an unmapped address", "EFAULT", ({ fd, bare }, dry) => fd.bindPgtable({ ioasid: bare, addr: 0x40000000, format: X86, ...dry })],
  ["a bind of a mapped child", "EBUSY", ({ fd, child }, dry) => fd.bindPgtable({ ioasid: child, addr: 0x100000, format: X86, ...dry })],
  ["a bind without a domain", "ENOSPC", ({ fd, bare }, dry) => fd.bindPgtable({ ioasid: bare, addr: 0x100000, format: X86, ...dry }),
    ({ dev1, bare }) => dev1.attachIoasid({ ioasid: bare }), { ...SMALL, domains: 2 }],
  ["a bind of a root", "EINVAL", ({ fd, root }, dry) => fd.bindPgtable({ ioasid: root, addr: 0x100000, format: X86, ...dry })],
  ["a child of a bound space", "ENOSPC", ({ fd, bare }, dry) => fd.createNesting({ parent: bare, ...dry }),
    ({ fd, bare }) => fd.bindPgtable({ ioasid: bare, addr: 0x100000, format: X86 })],
  ["a child of nothing", "ENOENT", ({ fd }, dry) => fd.allocIoasid({ parent: 99, ...dry })],
  ["a child with a bad table", "EINVAL", ({ fd, root }, dry) => fd.allocIoasidPgtable({ parent: root, addr: 0x100008, format: X86, ...dry })],
];

/** Maps pages of the root, far apart, until so few frames are left. */
function fill({ host, map, root }: Machine, left = 2): void {
  for (let at = 4n; host.engine.frames - host.engine.framesUsed > left; at++) {
    const wide = host.engine.frames - host.engine.framesUsed - left;
    map(root, wide >= 3 ? at << 39n : wide === 2 ? (4n << 39n) + (at << 30n) : (4n << 39n) + (at << 21n), HVA);
  }
}

/** What a refusal says. */
function thrownBy(call: () => unknown): object {
  try {
    call();
  } catch (error) {
    if (!(error instanceof IoctlError)) throw error;
    const { call: name, errno, field, value, conflict, hint, message } = error;
    return { name, errno, field, value, conflict, hint, message };
  }
  throw new Error("the call was not refused");
}

describe.each(REFUSALS)("%s: %s", (_what, errno, call, prepare, options) => {
  it("is refused by a dry run in the same words, and by both without a change", async () => {
    const it = await machine(options);
    prepare?.(it);
    const before = see(it);
    const dry = thrownBy(() => call(it, { dryRun: true }));
    expect(dry).toMatchObject({ errno, hint: expect.stringMatching(/./) });
    expect(see(it)).toEqual(before);
    expect(thrownBy(() => call(it, {}))).toEqual(dry);
    expect(see(it)).toEqual(before);
  });
});

it("dryRun is a boolean, and only where it is known", async () => {
  const it = await machine();
  for (const dryRun of [1, "true", null]) {
    for (const [, call] of CALLS) expect(thrownBy(() => call(it, { dryRun } as never))).toMatchObject({ errno: "EINVAL", field: "dryRun", value: dryRun });
  }
  for (const call of [
    () => it.fd.dmaUnmap({ ioasid: it.root, iova: 0, size: K4, dryRun: true } as never), () => it.dev1.detachIoasid({ ioasid: it.root, dryRun: true }),
  ]) expect(thrownBy(call)).toMatchObject({ errno: "EINVAL", field: "dryRun" });
});
