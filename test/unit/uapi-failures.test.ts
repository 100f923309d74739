// All-or-nothing: every call of every flow fails at each of its allocations in turn, leaves no trace, and then succeeds; at the
// end everything is as without the failures. And proof that the digest behind this sees each kind of trace.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  IOASID_ALLOC_IOASID_PGTABLE, IOASID_BIND_PGTABLE, IOASID_DMA_MAP, IOASID_SET_DIRTY_TRACKING, IOASID_UNBIND_PGTABLE, IoctlError,
  VFIO_ATTACH_IOASID, type SimulatedHost,
} from "../../src/index.js";
import { parseScenario } from "../../src/scenario/read.js";
import { ScenarioRun } from "../../src/scenario/run.js";
import type { Ioasid } from "../../src/uapi/ioasid.js";
import { failEachAllocation, noteFds } from "../oracle/fail-each.js";
import { differenceOf, hostDigest, spacesOf } from "../oracle/host-digest.js";
import { FLOWS, makeHost, type Flow } from "./failing-flows.js";

describe.each(FLOWS.map((flow) => [flow.name, flow] as const))("%s", (_name, flow) => {
  it("leaves no trace of calls that fail for want of frames, domains or routes", async () => {
    const [clean, failing] = [await makeHost(flow), await makeHost(flow)];
    const fds = noteFds(clean);
    flow.run(clean);
    const failures = failEachAllocation(failing);
    flow.run(failing);
    expect(differenceOf(hostDigest(clean, fds), hostDigest(failing, failures.fds))).toBeUndefined();
    // Maps and attaches of each flow need frames.
    expect(failures.counts.get(IOASID_DMA_MAP)).toBeGreaterThan(0);
    expect(failures.counts.get(VFIO_ATTACH_IOASID)).toBeGreaterThan(0);
  });
});

const SCENARIOS = ["scenarios", "test/scenarios"].flatMap((folder) => readdirSync(folder).map((name) => `${folder}/${name}`));

describe("a scenario", () => {
  it.each(SCENARIOS)("%s goes as written, with calls that fail at each of their allocations first", async (path) => {
    const run = await ScenarioRun.start(parseScenario(readFileSync(path, "utf8")));
    const { counts } = failEachAllocation(run.host);
    for await (const { step, mismatch } of run.steps()) expect(mismatch, `step ${step}`).toBeUndefined();
    expect(Math.max(...counts.values())).toBeGreaterThan(0);
  });
});

describe("what allocates", () => {
  it("is a bind on an attached space, and what takes the table away again, but no allocation of an ioasid", async () => {
    const host = await makeHost(flowOf("flow 5.4 on VT-d"));
    const { counts } = failEachAllocation(host);
    flowOf("flow 5.4 on VT-d").run(host);
    expect(counts.get(IOASID_BIND_PGTABLE)).toBe(1);
    expect(counts.get(IOASID_UNBIND_PGTABLE)).toBe(2);
    expect(counts.get(IOASID_ALLOC_IOASID_PGTABLE)).toBe(0);
  });

  it("is no switching of dirty tracking", async () => {
    const host = await makeHost(flowOf("dirty tracking"));
    const { counts } = failEachAllocation(host);
    flowOf("dirty tracking").run(host);
    expect(counts.get(IOASID_SET_DIRTY_TRACKING)).toBe(0);
  });
});

function flowOf(name: string): Flow {
  return FLOWS.find((flow) => flow.name === name)!;
}

interface Played {
  readonly host: SimulatedHost;
  readonly spaces: readonly Ioasid[];
  readonly digest: () => object;
}

async function play(name: string): Promise<Played> {
  const host = await makeHost(flowOf(name));
  const fds = noteFds(host);
  flowOf(name).run(host);
  return { host, spaces: [...fds].flatMap(spacesOf), digest: () => hostDigest(host, fds) };
}

const K4 = 4096n;

/** Each changes one thing that a call which is not all-or-nothing could leave behind. */
const TRACES: [what: string, flow: string, where: string, leave: (it: Played) => unknown][] = [
  ["a leaf that is gone", "a tree of depth 4", "leaves", ({ spaces }) => spaces[0]!.domain!.unmap(2n << 21n, K4)],
  ["a leaf that is there", "groups", "leaves", ({ spaces }) => spaces[0]!.domain!.map([{ iova: 8n << 30n, hpa: 0n, size: K4, perm: 1 }])],
  ["a leaf that is clean", "dirty tracking", ".dirty", ({ spaces }) => spaces[1]!.domain!.collectDirty(0n, 1n << 40n, true)],
  ["writes that are not recorded", "dirty tracking", "tracksDirty", ({ spaces }) => spaces[1]!.domain!.trackDirty(false)],
  ["a translation that is no longer cached", "groups", "iotlb", ({ spaces }) => spaces[0]!.domain!.invalidate()],
  ["a translation that is cached", "groups", "iotlb", ({ host }) => host.device("dev3").dma().translate(0n)],
  ["a domain that nobody has", "groups", "domains", ({ host }) => host.iommus.get("iommu0")!.createDomain()],
  ["a route that leads elsewhere", "groups", "routes", ({ spaces }) => spaces[0]!.domain!.attach(0x29)],
  ["a route that is blocked", "groups", "routes", ({ spaces }) => spaces[1]!.domain!.detach(0x29)],
  ["an area", "groups", "areas", ({ spaces }) => spaces[1]!.areas.remove(0)],
  ["an entry of the reverse index", "a tree of depth 4", "dependents", ({ spaces }) => {
    const [{ first, last, value }] = spaces[0]!.dependents.overlapping(0, 10) as [{ first: number; last: number; value: never }];
    return spaces[0]!.dependents.remove(first, last, value);
  }],
  ["a pin", "groups", "charged", ({ spaces }) => spaces[0]!.source.pins!.pin(0x50000, 0x50000, true)],
  ["a pin that is free of charge", "groups", "pins", ({ spaces }) => spaces[0]!.source.pins!.pin(0x60000, 0x60000, false)],
  ["a dirty page", "dirty tracking", "dirty", ({ spaces }) => spaces[1]!.dirty.pages.add(7, 7)],
  ["a space that tracks", "groups", "dirty", ({ spaces }) => (spaces[1]!.dirty.enabled = true)],
  ["a count of those that track", "groups", "tracking", ({ spaces }) => spaces[1]!.context.tracking++],
  ["a bound table", "flow 5.4 on VT-d", "kind", ({ spaces }) => (spaces.at(-1)!.pgtable = undefined)],
  ["a device's space", "groups", "chain", ({ host }) => host.devices()[0]!.dropSpace()],
  ["a device's PASID", "groups", "pasids", ({ host, spaces }) => host.devices()[0]!.addPasid(5, { space: spaces[0]!, ppasid: 5 })],
  ["a slot", "flow 5.1", "slots", ({ host }) => host.engine.addSlot(1n << 40n, (1n << 40n) + 0xfffn, "zero")],
  ["a binding", "flow 5.1", "bound", ({ host }) => (host.devices()[0]!.binding = undefined)],
];

describe("the digest", () => {
  it.each(TRACES)("sees %s", async (_what, flow, where, leave) => {
    const played = await play(flow);
    const before = played.digest();
    expect(differenceOf(before, played.digest())).toBeUndefined();
    leave(played);
    expect(differenceOf(before, played.digest())).toContain(where);
  });

  it("makes a failed call that has left something an error of the oracle", async () => {
    const host = await makeHost(flowOf("flow 5.3 on VT-d"));
    const { fds } = failEachAllocation(host);
    const ioctl = host.ioctl as unknown as (...args: unknown[]) => unknown;
    // The call that is swept: a map that pins before it fails.
    const fd = host.open("/dev/ioasid");
    const dmaMap = fd.dmaMap.bind(fd);
    fd.dmaMap = (arg) => {
      try {
        dmaMap(arg);
      } catch (error) {
        if (error instanceof IoctlError) fds.values().next().value!.find({ name: "", fields: new Set() }, 1).source.pins!.pin(1, 1, true);
        throw error;
      }
    };
    host.process.mmap({ hva: 0n, size: K4 });
    const ioasid = fd.alloc();
    const device = host.open("/dev/vfio/devices/dev1");
    device.bindIoasidFd({ ioasidFd: fd });
    device.attachIoasid({ ioasid });
    expect(() => ioctl(fd, IOASID_DMA_MAP, { ioasid, iova: 0n, vaddr: 0n, size: K4 })).toThrow(/with allocation 1 failing, left state.*charged: 0 is now 1/);
  });
});
