// Many PASIDs of one device, come and gone in every order: all lead where they should. Where what one costs grows with their number these
// take half a minute each instead of a second; how long they take decides nothing here.
import { expect, it } from "vitest";
import { createHost, IOASID_ATTACH_USER_PASID, type HostOptions, type VfioDeviceFd } from "../../src/index.js";
import { header } from "../oracle/engine-state.js";
import { ENGINE_ROUTE_COUNT } from "../../src/engine/layout.js";
import { releaseFromOracles } from "../oracle/instrument.js";

const MANY = 20_000;
const flags = IOASID_ATTACH_USER_PASID;

async function setUp(options: HostOptions) {
  const host = await createHost({ memory: { ram: 1 << 20, arena: 96 << 20 }, routes: 1 << 16, domains: 2 * MANY, iommus: [{ preset: "vtd-scalable", stage: 2 }], ...options });
  // They look at every route after every call.
  releaseFromOracles(host.engine);
  host.process.mmap({ hva: 0n, size: 0x100000n });
  const fd = host.open("/dev/ioasid");
  const device = host.open("/dev/vfio/devices/dev1");
  device.bindIoasidFd({ ioasidFd: fd });
  const ioasid = fd.alloc();
  fd.dmaMap({ ioasid, iova: 0n, vaddr: 0n, size: 0x100000n });
  return { host, fd, device, ioasid };
}

function attachMany(device: VfioDeviceFd, spaceOf: (userPasid: number) => number): void {
  for (let userPasid = 1; userPasid <= MANY; userPasid++) device.attachIoasid({ ioasid: spaceOf(userPasid), flags, userPasid });
}

it("all to one space, detached in the order in which they came, and attached again", async () => {
  const { host, fd, device, ioasid } = await setUp({});
  attachMany(device, () => ioasid);
  expect(host.device("dev1").dma(MANY).translate(0x1000n)).toBe(0x1_0000_1000n);
  for (let userPasid = 1; userPasid <= MANY; userPasid++) device.detachIoasid({ ioasid, flags, userPasid });
  expect(fd.getInfo({ ioasid }).devices).toEqual([]);
  expect(() => host.device("dev1").dma(MANY).translate(0x1000n)).toThrow(/blocked/);
  attachMany(device, () => ioasid);
  device.close();
  expect(() => host.device("dev1").dma(7).translate(0x1000n)).toThrow(/blocked/);
  expect(header(host.engine, ENGINE_ROUTE_COUNT)).toBeGreaterThanOrEqual(MANY);
});

it("each to a space of its own, whose domains come and go", async () => {
  const { host, fd, device, ioasid: parent } = await setUp({});
  device.attachIoasid({ ioasid: parent });
  const spaces = Array.from({ length: MANY + 1 }, () => fd.allocIoasidPgtable({ parent, addr: 0n, format: { kind: "x86-64", levels: 4 } }));
  attachMany(device, (userPasid) => spaces[userPasid]!);
  for (let userPasid = MANY; userPasid >= 1; userPasid--) device.detachIoasid({ ioasid: spaces[userPasid]!, flags, userPasid });
  expect(() => host.device("dev1").dma(MANY).translate(0x1000n)).toThrow(/blocked/);
  fd.close();
});

it("mediated, sharing the host's PASID of each space", async () => {
  const { host, fd, device } = await setUp({ devices: [{ name: "pf", rid: 0x20 }, { name: "dev1", parent: "pf", enqcmd: true }] });
  const spaces = [fd.alloc(), fd.alloc()];
  attachMany(device, (userPasid) => spaces[userPasid % 2]!);
  for (let userPasid = 1; userPasid < MANY; userPasid++) device.detachIoasid({ ioasid: spaces[userPasid % 2]!, flags, userPasid });
  expect(() => host.device("dev1").dma(MANY).translate(0x1000n), "its last PASID leads there still").toThrow(/not-present/);
  device.detachIoasid({ ioasid: spaces[MANY % 2]!, flags, userPasid: MANY });
});

it("led again when a guest's PASID table has gone", async () => {
  const { host, fd, device, ioasid: parent } = await setUp({});
  device.attachIoasid({ ioasid: parent });
  attachMany(device, () => parent);
  const all = fd.allocIoasidPasidTable({ parent, addr: 0x8000n, format: { kind: "vtd-scalable" } });
  device.attachIoasid({ ioasid: all });
  expect(() => host.device("dev1").dma(MANY).translate(0x1000n)).toThrow(/pasid-not-present/);
  device.detachIoasid({ ioasid: all });
  expect(host.device("dev1").dma(MANY).translate(0x1000n)).toBe(0x1_0000_1000n);
});
