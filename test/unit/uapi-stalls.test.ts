// A port that stays inside its section in the middle of a call: every wait of every call of every flow is held up in turn, by a
// section that ends later or whose thread dies, and then made good by the same call or by another.
import { describe, expect, it } from "vitest";
import { createHost, type SimulatedHost } from "../../src/index.js";
import { StallingPort, stalled, undisturbed } from "../oracle/stall-each.js";
import { FLOWS, type Flow } from "./failing-flows.js";
import { STALLING } from "./stalling-flows.js";

/** The shortest patience there is: a test waits it out three times for each stall. */
function hostOf({ options }: Flow): Promise<SimulatedHost> {
  return createHost({ ...options, memory: { ...options.memory, shared: true }, ports: { ...options.ports, count: 3, patience: 1 } });
}

const WAYS = (["wait", "lock"] as const).flatMap((where) => (["again", "other"] as const).map((next) => ({ where, next })));

/** The tables of the first stage are another format only. */
const TRIED = [...FLOWS, ...STALLING].filter(({ name }) => name !== "a tree of depth 4, first stage");

describe.each(TRIED.map((flow) => [flow.name, flow] as const))("%s", (_name, flow) => {
  it.each(WAYS)("is as without stalls (each $where) once the same call, or another, is made: $next", async (way) => {
    const course = undisturbed(await hostOf(flow), flow.run);
    let n = 1;
    for (let places = 1; places > 0; n++) places = stalled(await hostOf(flow), flow.run, { ...way, n }, course);
    expect(n).toBeGreaterThan(2);
  });
});

describe("dirty bits", () => {
  it("are neither lost nor told while a section is open that may write unseen", async () => {
    const host = await createHost({ memory: { ram: 0x400000, shared: true }, iommus: [{ preset: "vtd-scalable", stage: 2 }], ports: { patience: 1 } });
    host.process.mmap({ hva: 0n, size: 0x400000n });
    const fd = host.open("/dev/ioasid");
    const device = host.open("/dev/vfio/devices/dev1");
    device.bindIoasidFd({ ioasidFd: fd });
    const ioasid = fd.alloc();
    device.attachIoasid({ ioasid });
    fd.setDirtyTracking({ ioasid, enable: true });
    // Every other page, so that there are more ranges than one call of the module answers.
    const pages = 1000n;
    for (let page = 0n; page < pages; page += 2n) {
      fd.dmaMap({ ioasid, iova: page * 4096n, vaddr: page * 4096n, size: 4096n });
      host.device("dev1").dma().writeSync(page * 4096n, new Uint8Array(1));
    }
    const port = new StallingPort(host.engine);
    const report = (): { dirty: number } => fd.getDirtyBitmap({ ioasid, iova: 0n, size: pages * 4096n, pageSize: 4096 });
    for (let wait = 1; wait <= 3; wait++) {
      port.stallAt(wait);
      if (wait < 3) expect(report).toThrow(expect.objectContaining({ errno: "ETIMEDOUT" }));
      port.leave();
    }
    expect(report().dirty).toBe(500);
    expect(report().dirty).toBe(0);
  });
});
