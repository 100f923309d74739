// IOMMU groups of several devices: a space takes effect for a group when all of it is there, and refuses commands until then.
import { beforeEach, describe, expect, it } from "vitest";
import { IOASID_GET_GROUP_STATE, VFIO_GROUP_GET_DEVICE_FD } from "../../src/index.js";
import { FORMAT_X86_64 } from "../../src/engine/layout.js";
import { GuestPages, HVA, K4, spaces, type Spaces, visible } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

/** a and b share group 7, c is alone in group 1; a root with a page at 0. */
async function machine() {
  const it = await spaces({
    iommus: [{ preset: "vtd-scalable", stage: 2 }],
    devices: [{ name: "a", rid: 8, group: 7 }, { name: "b", rid: 9, group: 7 }, { name: "c", rid: 16, group: 1 }],
  });
  const root = it.fd.alloc();
  it.map(root, 0, HVA);
  const [a, b, c] = it.devs as [Spaces["devs"][number], Spaces["devs"][number], Spaces["devs"][number]];
  return { ...it, root, a, b, c, landings: (iova: bigint | number = 0) => [1, 2, 3].map((n) => it.dma(n, iova)) };
}
let at: Awaited<ReturnType<typeof machine>>;
beforeEach(async () => (at = await machine()));

describe("a group", () => {
  it("has its DMA blocked until its last device is attached, while another group goes on", () => {
    const { root: ioasid, a, b, c, landings } = at;
    c.attachIoasid({ ioasid });
    expect(landings()).toEqual(["blocked", "blocked", 0n]);
    a.attachIoasid({ ioasid });
    expect(landings()).toEqual(["blocked", "blocked", 0n]);
    b.attachIoasid({ ioasid });
    expect(landings()).toEqual([0n, 0n, 0n]);
    a.detachIoasid({ ioasid });
    expect(landings()).toEqual(["blocked", "blocked", 0n]);
    a.attachIoasid({ ioasid });
    expect(landings()).toEqual([0n, 0n, 0n]);
  });

  it("of which the devices are in two spaces is in neither", () => {
    const { root, a, b, fd, landings, map } = at;
    const other = fd.alloc();
    map(other, 0, HVA + K4);
    a.attachIoasid({ ioasid: root });
    b.attachIoasid({ ioasid: other });
    expect(landings()).toEqual(["blocked", "blocked", "blocked"]);
    for (const ioasid of [root, other]) refusal(() => fd.getInfo({ ioasid }), "EDEADLK", "ioasid");
    a.detachIoasid({ ioasid: root });
    a.attachIoasid({ ioasid: other });
    expect(landings()).toEqual([K4, K4, "blocked"]);
  });

  it("stays in the parent until all of it is in the child, and falls back there as one", () => {
    const { root, a, b, fd, landings, map } = at;
    for (const dev of [a, b]) dev.attachIoasid({ ioasid: root });
    const child = fd.createNesting({ parent: root });
    map(child, 0x5000, 0);
    a.attachIoasid({ ioasid: child });
    expect([landings(0), landings(0x5000)]).toEqual([[0n, 0n, "blocked"], ["not-present", "not-present", "blocked"]]);
    refusal(() => fd.getInfo({ ioasid: child }), "EDEADLK", "ioasid");
    expect(fd.getInfo({ ioasid: root }).devices).toEqual(["a", "b"]);
    b.attachIoasid({ ioasid: child });
    expect([landings(0), landings(0x5000)]).toEqual([["not-present", "not-present", "blocked"], [0n, 0n, "blocked"]]);
    b.detachIoasid({ ioasid: child });
    expect([landings(0), landings(0x5000)]).toEqual([[0n, 0n, "blocked"], ["not-present", "not-present", "blocked"]]);
    a.detachIoasid({ ioasid: child });
    expect(landings(0)).toEqual([0n, 0n, "blocked"]);
  });

  it("finds the changes that the parent made while it was only partly in the child", () => {
    const { root, a, b, fd, landings, map, unmap } = at;
    for (const dev of [a, b]) dev.attachIoasid({ ioasid: root });
    const child = fd.createNesting({ parent: root });
    map(child, 0x5000, 0);
    a.attachIoasid({ ioasid: child });
    unmap(root, 0);
    map(root, 0, HVA + 0x3000n);
    b.attachIoasid({ ioasid: child });
    expect(landings(0x5000)).toEqual([0x3000n, 0x3000n, "blocked"]);
  });

  it("is blocked again by the close of one device's fd", () => {
    const { root: ioasid, a, b, landings } = at;
    for (const dev of [a, b]) dev.attachIoasid({ ioasid });
    b.close();
    expect(landings()).toEqual(["blocked", "blocked", "blocked"]);
  });

  it("has one user: a device of it is not bound to a second fd, EBUSY, until the first has none of it", () => {
    const { host, fd, a, b } = at;
    const other = host.open("/dev/ioasid");
    a.unbindIoasidFd();
    const error = refusal(() => a.bindIoasidFd({ ioasidFd: other }), "EBUSY", "ioasidFd");
    expect(error).toMatchObject({ value: other.number, conflict: { kind: "device", device: "b" }, hint: expect.stringContaining("one fd") });
    expect(error.message).toContain(`fd ${fd.number}`);
    b.unbindIoasidFd();
    a.bindIoasidFd({ ioasidFd: other });
    refusal(() => b.bindIoasidFd({ ioasidFd: fd }), "EBUSY", "ioasidFd");
    b.bindIoasidFd({ ioasidFd: other });
  });
});

describe("a space with a part of a group", () => {
  const addr = 0x100000n;
  const format = { kind: "x86-64", levels: 4 } as const;

  it("refuses every command with EDEADLK, naming the group, and changes nothing", () => {
    const { fd, root: ioasid, a, b, map } = at;
    map(ioasid, addr, HVA + addr, 0x10000);
    a.attachIoasid({ ioasid });
    const child = fd.createNesting.bind(fd, { parent: ioasid });
    const commands: (() => unknown)[] = [
      () => fd.dmaMap({ ioasid, iova: K4, vaddr: HVA, size: K4, dryRun: true }), () => map(ioasid, K4, HVA),
      () => fd.dmaUnmap({ ioasid, iova: 0, size: K4 }), () => fd.dmaUnmap({ ioasid, flags: 2 }), () => fd.getInfo({ ioasid }),
      () => fd.bindPgtable({ ioasid, addr, format }), () => fd.unbindPgtable({ ioasid }), () => fd.invalidateCache({ ioasid }),
      () => fd.setDirtyTracking({ ioasid, enable: true }), () => fd.getDirtyBitmap({ ioasid, iova: 0, size: K4, pageSize: 4096 }),
    ];
    const allocations: (() => unknown)[] = [
      child, () => fd.allocIoasid({ parent: ioasid }), () => fd.allocIoasidPgtable({ parent: ioasid, addr, format }),
      () => fd.createNesting({ parent: ioasid, dryRun: true }),
    ];
    const before = visible(at, [ioasid], [0n, K4]);
    for (const [calls, field] of [[commands, "ioasid"], [allocations, "parent"]] as const) {
      for (const call of calls) {
        const error = refusal(call, "EDEADLK", field);
        expect(error).toMatchObject({ value: ioasid, conflict: { kind: "group", group: 7 }, hint: expect.stringContaining("IOASID_GET_GROUP_STATE") });
      }
    }
    expect(visible(at, [ioasid], [0n, K4])).toEqual(before);
    b.attachIoasid({ ioasid });
    for (const call of [...commands.slice(0, 2), commands[4]!, commands[8]!, commands[9]!, ...allocations]) call();
  });

  it("refuses them in a child too, bound to a table or not, while the parent obeys", () => {
    const { fd, root, a, b, map, host, landings } = at;
    map(root, addr, HVA + addr, 0x10000);
    for (const dev of [a, b]) dev.attachIoasid({ ioasid: root });
    const table = new GuestPages(host, FORMAT_X86_64, addr);
    table.map(0x5000n, 0n);
    const ioasid = fd.allocIoasidPgtable({ parent: root, addr, format });
    a.attachIoasid({ ioasid });
    for (const call of [() => fd.unbindPgtable({ ioasid }), () => fd.invalidateCache({ ioasid })]) {
      expect(refusal(call, "EDEADLK", "ioasid").conflict).toEqual({ kind: "group", group: 7 });
    }
    expect(landings(0x5000)).toEqual(["not-present", "not-present", "blocked"]);
    map(root, 0x5000, HVA + 0x5000n);
    expect(landings(0x5000)).toEqual([0x5000n, 0x5000n, "blocked"]);
    b.attachIoasid({ ioasid });
    expect(landings(0x5000)).toEqual([0n, 0n, "blocked"]);
    fd.invalidateCache({ ioasid });
  });

  it("obeys again when the part has left", () => {
    const { fd, root: ioasid, a, c, map } = at;
    c.attachIoasid({ ioasid });
    a.attachIoasid({ ioasid });
    refusal(() => map(ioasid, K4, HVA), "EDEADLK", "ioasid");
    a.detachIoasid({ ioasid });
    map(ioasid, K4, HVA);
    expect(fd.getInfo({ ioasid }).devices).toEqual(["c"]);
  });

  it("is not freed", () => {
    const { fd, root: ioasid, a } = at;
    a.attachIoasid({ ioasid });
    expect(refusal(() => fd.free({ ioasid }), "EBUSY", "ioasid").conflict).toEqual({ kind: "device", device: "a" });
  });
});

describe("IOASID_GET_GROUP_STATE", () => {
  it("says which devices of each group are attached and which are missing, with their labels while they are bound", () => {
    const { fd, host, root: ioasid, a, b, c, labels } = at;
    expect(fd.getGroupState({ ioasid })).toEqual({ groups: [] });
    b.unbindIoasidFd();
    a.attachIoasid({ ioasid });
    expect(fd.getGroupState({ ioasid })).toEqual({
      groups: [{ group: 7, attached: [{ name: "a", label: labels[0] }], missing: [{ name: "b", label: null }] }],
    });
    const label = b.bindIoasidFd({ ioasidFd: fd });
    c.attachIoasid({ ioasid });
    b.attachIoasid({ ioasid });
    expect(host.ioctl(fd, IOASID_GET_GROUP_STATE, ioasid)).toEqual({
      groups: [
        { group: 7, attached: [{ name: "a", label: labels[0] }, { name: "b", label }], missing: [] },
        { group: 1, attached: [{ name: "c", label: labels[2] }], missing: [] },
      ],
    });
  });

  it("counts a device that is deeper as attached to the parent", () => {
    const { fd, root, a, b } = at;
    for (const dev of [a, b]) dev.attachIoasid({ ioasid: root });
    const child = fd.createNesting({ parent: root });
    b.attachIoasid({ ioasid: child });
    const names = (ioasid: number) => fd.getGroupState({ ioasid }).groups.map(({ attached, missing }) => [attached, missing].map((each) => each.map(({ name }) => name)));
    expect([names(root), names(child)]).toEqual([[[["a", "b"], []]], [[["b"], ["a"]]]]);
  });
});

describe("a group fd", () => {
  it("leads to the same device fds as the devices' own files", () => {
    const { host, fd, root: ioasid, landings } = at;
    at.c.close();
    const group = host.open("/dev/vfio/1");
    const viaIoctl = host.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, "c");
    host.ioctl(viaIoctl, 0x3b7a, fd);
    viaIoctl.attachIoasid({ ioasid });
    expect(landings()).toEqual(["blocked", "blocked", 0n]);
    const second = group.getDeviceFd({ name: "c" });
    expect(refusal(() => second.bindIoasidFd({ ioasidFd: fd }), "EBUSY", "ioasidFd").conflict).toEqual({ kind: "device", device: "c" });
    group.close();
    expect([group.closed, viaIoctl.closed, landings()[2]]).toEqual([true, false, 0n]);
  });

  it("is open once: EBUSY names the group, ENODEV the devices that are in it", () => {
    const { host } = at;
    const group = host.open("/dev/vfio/7");
    expect(refusal(() => host.open("/dev/vfio/7"), "EBUSY", "path").conflict).toEqual({ kind: "group", group: 7 });
    const error = refusal(() => group.getDeviceFd({ name: "c" }), "ENODEV", "name");
    expect(error).toMatchObject({ value: "c", conflict: { kind: "group", group: 7 }, hint: expect.stringContaining("a, b") });
    refusal(() => group.getDeviceFd({ name: 3 as never }), "EINVAL", "name");
    group.close();
    host.open("/dev/vfio/7").close();
    for (const path of ["/dev/vfio/2", "/dev/vfio/07", "/dev/vfio/"]) refusal(() => host.open(path), "ENOENT", "path");
  });
});
