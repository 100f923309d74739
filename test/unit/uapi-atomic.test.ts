// Every call is all or nothing: whatever a layer below refuses, the state that a user can see is the one before the call.
import { describe, expect, it } from "vitest";
import { IoctlError, type ErrnoName } from "../../src/uapi/errno.js";
import { IOASID_DMA_MAP_FLAG_WRITE, IOASID_DMA_UNMAP_FLAG_ALL } from "../../src/uapi/requests.js";
import { fakeMachine, refusal, type Refusals } from "./uapi-fake.js";

const HVA = 0x7000_0000n;
const K4 = 4096n;

/** dev1 is attached to `a`, which has two maps; dev2 is bound; `b` has one map and no device. */
function machine() {
  const fake = fakeMachine();
  const { host } = fake;
  const { open, process } = host;
  const [fd, dev1, dev2] = [open("/dev/ioasid"), open("/dev/vfio/devices/dev1"), open("/dev/vfio/devices/dev2")];
  const [a, b] = [fd.alloc(), fd.alloc()];
  // The one without an ioasid comes first: what is undone device by device must not begin before all can be.
  for (const dev of [dev2, dev1]) dev.bindIoasidFd({ ioasidFd: fd });
  dev1.attachIoasid({ ioasid: a });
  process.mmap({ hva: HVA, size: 0x4000n });
  fd.dmaMap({ ioasid: a, iova: 0n, vaddr: HVA, size: 0x2000n });
  fd.dmaMap({ ioasid: a, iova: 0x8000n, vaddr: HVA + K4, size: 0x2000n });
  fd.dmaMap({ ioasid: b, iova: 0n, vaddr: HVA, size: 0x4000n });
  return { ...fake, fd, dev1, dev2, a, b };
}
type Case = ReturnType<typeof machine>;

function state({ host, iommus, fd, dev1, dev2, a, b, slots }: Case): unknown {
  return structuredClone({
    a: fd.getInfo({ ioasid: a }),
    b: fd.getInfo({ ioasid: b }),
    locked: host.process.locked,
    labels: [host.labelOf("dev1"), host.labelOf("dev2")],
    closed: [fd.closed, dev1.closed, dev2.closed],
    tables: iommus.map(({ domains }) => [...domains].map(({ pages, rids }) => ({ pages, rids }))),
    slots,
  });
}

const map = ({ fd, a }: Case): void => fd.dmaMap({ ioasid: a, iova: 0x4000n, vaddr: HVA + 0x2000n, size: 0x2000n });
const attachFirst = ({ dev2, b }: Case): void => dev2.attachIoasid({ ioasid: b });
const attachSecond = ({ dev2, a }: Case): void => dev2.attachIoasid({ ioasid: a });
const mmap = ({ host }: Case): unknown => host.process.mmap({ hva: 0n, size: K4, backing: "zero" });
const section: Refusals = { section: true };

const CASES: [what: string, refuse: Refusals, call: (it: Case) => unknown, errno: ErrnoName, field?: string][] = [
  ["map without frames", { map: "no-frames" }, map, "ENOMEM", "size"],
  ["map beyond the output width", { map: "range" }, map, "EINVAL", "vaddr"],
  ["map of misaligned memory", { map: "align" }, map, "EINVAL", "vaddr"],
  ["map without such a permission", { map: "perm" }, map, "EOPNOTSUPP", "flags"],
  ["map over what the table has", { map: "overlap" }, map, "EEXIST", "iova"],
  ["map into a guest's table", { map: "not-owned" }, map, "EBUSY", "iova"],
  ["map in a section", section, map, "EDEADLK"],
  ["unmap in a section", section, ({ fd, a }) => fd.dmaUnmap({ ioasid: a, iova: 0n, size: 0x2000n }), "EDEADLK"],
  ["unmap of all in a section", section, ({ fd, a }) => fd.dmaUnmap({ ioasid: a, flags: IOASID_DMA_UNMAP_FLAG_ALL }), "EDEADLK"],
  ["first attach without a domain", { create: "NO_DOMAINS" }, attachFirst, "ENOSPC"],
  ["first attach without a root frame", { create: "NO_FRAMES" }, attachFirst, "ENOMEM"],
  ["first attach without frames for the maps", { map: "no-frames" }, attachFirst, "ENOMEM", "ioasid"],
  ["first attach with maps beyond the output width", { map: "range" }, attachFirst, "EINVAL", "ioasid"],
  ["first attach with maps of misaligned memory", { map: "align" }, attachFirst, "EINVAL", "ioasid"],
  ["first attach with maps of a missing permission", { map: "perm" }, attachFirst, "EINVAL", "ioasid"],
  ["first attach without a route", { attach: "no-route" }, attachFirst, "ENOSPC"],
  ["first attach in a section", section, attachFirst, "EDEADLK"],
  ["second attach without a route", { attach: "no-route" }, attachSecond, "ENOSPC"],
  ["second attach in a section", section, attachSecond, "EDEADLK"],
  ["detach in a section", section, ({ dev1, a }) => dev1.detachIoasid({ ioasid: a }), "EDEADLK"],
  ["close of the device fd in a section", section, ({ dev1 }) => dev1.close(), "EDEADLK"],
  ["close of the ioasid fd in a section", section, ({ fd }) => fd.close(), "EDEADLK"],
  ["mmap without a slot", { addSlot: "SLOT_LIMIT" }, mmap, "ENOSPC"],
];

describe("a call that a lower layer refuses", () => {
  it.each(CASES)("%s: changes nothing, and succeeds afterwards", (_what, refuse, call, errno, field) => {
    const it = machine();
    const before = state(it);
    Object.assign(it.refuse, refuse);
    const error = refusal(() => call(it), errno, field);
    for (const key of Object.keys(refuse)) delete it.refuse[key as keyof Refusals];
    expect(error).toBeInstanceOf(IoctlError);
    expect(state(it)).toEqual(before);
    call(it);
    expect(it.fd.closed || JSON.stringify(state(it), textOfBigint) !== JSON.stringify(before, textOfBigint)).toBe(true);
  });

  it("that is no refusal for the user comes through as it is", () => {
    const it = machine();
    it.refuse.create = "BAD_ARGUMENT";
    expect(() => attachFirst(it)).toThrow("refused on demand");
    expect(it.host.devices()[1]?.attached).toBeUndefined();
  });

  it("a write-only map fails with the format, not with the arguments", () => {
    const it = machine();
    it.refuse.map = "perm";
    const arg = { ioasid: it.a, iova: 0x4000n, vaddr: HVA, size: K4, flags: IOASID_DMA_MAP_FLAG_WRITE };
    const error = refusal(() => it.fd.dmaMap(arg), "EOPNOTSUPP", "flags");
    expect(error.message).toContain("no such permission");
    expect(error.value).toBe(IOASID_DMA_MAP_FLAG_WRITE);
  });
});

function textOfBigint(_key: string, value: unknown): unknown {
  if (value instanceof Map || value instanceof Set) return [...value];
  return typeof value === "bigint" ? String(value) : value;
}
