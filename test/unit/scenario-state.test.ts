// The state that is shown after a step, and the way of an access: names of the scenario, the tree, who goes where, every hop.
import { expect, it } from "vitest";
import { pathOf } from "../../src/scenario/path.js";
import { checkScenario } from "../../src/scenario/read.js";
import { ScenarioRun } from "../../src/scenario/run.js";
import type { DmaStep } from "../../src/scenario/scenario.js";
import { stateOf } from "../../src/scenario/state.js";
import { readJson } from "./scenario-files.js";

/** Runs a bundled scenario until a step's text begins so, and stops after it. */
async function runTo(name: string, text: string): Promise<ScenarioRun> {
  const run = await ScenarioRun.start(checkScenario(readJson(`scenarios/${name}.json`)));
  for await (const report of run.steps()) if (report.text.startsWith(text)) return run;
  throw new Error(`no step of ${name} begins with ${text}`);
}

const GPA_MAP = { first: 0n, last: 0x3fffffffn, target: 0x40000000n, access: "rw" };

it("shows the tree of spaces by the scenario's names, with maps, devices and charge", async () => {
  const run = await runTo("rfc-5.3", "ioctl(ioasid_fd, IOASID_DMA_MAP, { .ioasid = giova_ioasid");
  const state = stateOf(run);
  expect(state).toMatchObject({ blocked: [], unbound: [], locked: 0x40000000n });
  expect(state.fds).toMatchObject([{ name: "ioasid_fd", registered: 0n, roots: [{
    name: "gpa_ioasid", ioasid: 1, kind: "kernel", attached: ["dev1", "dev2"], effective: ["dev1"], locked: 0x40000000n, maps: [GPA_MAP],
    children: [{
      name: "giova_ioasid", ioasid: 2, kind: "software-nested", attached: ["dev2"], effective: ["dev2"], locked: 0n, children: [],
      maps: [{ first: 0x2000n, last: 0x2fffn, target: 0x1000n, access: "rw" }],
    }],
  }] }]);
});

it("shows what is bound and blocked, not bound, registered; and bound tables", async () => {
  const blocked = await runTo("rfc-5.2", "ioctl(device_fd2, VFIO_DETACH_IOASID");
  expect(stateOf(blocked)).toMatchObject({ blocked: ["dev2"], unbound: [], fds: [{ registered: 0x40000000n }] });
  const bound = await runTo("rfc-5.4-smmuv3", "giova_ioasid = ");
  expect(stateOf(bound)).toMatchObject({ unbound: ["dev1"] });
  expect(stateOf(bound).fds[0]!.roots[0]!.children[0]).toMatchObject({ kind: "hardware-nested", maps: [], pgtable: { addr: 0x10000n } });
});

it("shows PASIDs, and the way of DMA for work by the space of its PASID; what is shared out as mdevs has no place", async () => {
  const run = await runTo("rfc-5.5-mdev", "mdev1 writes");
  expect(stateOf(run)).toMatchObject({ unbound: ["dev3"], blocked: [] });
  expect(stateOf(run).fds[0]!.roots[0]!.children[0]).toMatchObject({ name: "gva_ioasid", attached: [], pasids: [{ device: "mdev1", pasid: 17 }] });
  const step = run.scenario.steps.find((each) => "dma" in each && each.work === "$work1") as DmaStep;
  expect(run.pasidOf(step)).toBe(17);
  expect(pathOf(run, "mdev1", 17, 0x2000n, false).hops.map(({ space }) => space)).toEqual(["gva_ioasid", "gpa_ioasid", "hva", "hpa"]);
});

it("shows a guest's PASID table, and leaves the way of its DMA to it", async () => {
  const run = await runTo("rfc-5.7", "dev1 reads 8 bytes");
  expect(stateOf(run).fds[0]!.roots[0]!.children[0]).toMatchObject({ name: "pasidtbl_ioasid", kind: "pasid-table", pasidTable: { addr: 0x20000n, format: { kind: "smmuv3-cd" } } });
  expect(pathOf(run, "dev1", 1, 0x2000n, false)).toMatchObject({ hops: [{ space: "pasidtbl_ioasid", address: 0x2000n }], steps: [] });
});

it("lists the first maps only, and counts all", async () => {
  const maps = Array.from({ length: 20 }, (_, i) => ({ ioctl: "IOASID_DMA_MAP", fd: "$fd", arg: { ioasid: "$gpa", iova: i * 8192, vaddr: 0, size: 4096 } }));
  const head = [{ mmap: { hva: 0, size: 4096 } }, { open: "/dev/ioasid", as: "fd" }, { ioctl: "IOASID_ALLOC", fd: "$fd", as: "gpa" }];
  const run = await ScenarioRun.start(checkScenario({ scenario: 1, name: "maps", steps: [...head, ...maps] }));
  for await (const { mismatch } of run.steps()) expect(mismatch).toBeUndefined();
  const [root] = stateOf(run).fds[0]!.roots;
  expect(root).toMatchObject({ mappings: 20, locked: 4096n });
  expect(root!.maps).toHaveLength(8);
});

it("follows an address through merged spaces to the bus, and the one table behind them", async () => {
  const run = await runTo("rfc-5.3", "dev2 reads 8 bytes at 0x2000");
  const { hops, steps, outcome } = pathOf(run, "dev2", undefined, 0x2010n, false);
  const hpa = 0x100001010n;
  expect(hops).toEqual([
    { space: "giova_ioasid", address: 0x2010n }, { space: "gpa_ioasid", address: 0x1010n }, { space: "hva", address: 0x40001010n }, { space: "hpa", address: hpa },
  ]);
  expect(steps.at(-1)).toMatchObject({ kind: "leaf", stage: 2, level: 0, leadsTo: hpa & ~0xfffn, permissions: "rw-" });
  expect(outcome).toContain(`translated to 0x${hpa.toString(16)}`);
  expect(pathOf(run, "dev2", undefined, 0x5000n, false)).toMatchObject({ hops: [{ space: "giova_ioasid", address: 0x5000n }], outcome: expect.stringContaining("not-present") });
});

it("follows it through the guest's table and the parent's", async () => {
  const run = await runTo("rfc-5.4-vtd", "dev2 reads 8 bytes at 0x2000");
  const { hops, steps } = pathOf(run, "dev2", undefined, 0x2008n, false);
  expect(hops.map(({ address }) => address)).toEqual([0x2008n, 0x1008n, 0x40001008n, 0x100001008n]);
  expect(steps.filter(({ stage }) => stage === 1).map(({ address }) => address)).toEqual([0x10000n, 0x11000n, 0x12000n, 0x13010n]);
  expect(steps.filter(({ stage }) => stage === 1).at(-1)).toMatchObject({ what: "x86-64", kind: "leaf", leadsTo: 0x1000n });
  expect(steps.at(-1)).toMatchObject({ what: "VT-d second stage", stage: 2, kind: "leaf" });
});

it("has no way for a device that is blocked", async () => {
  const run = await runTo("rfc-5.2", "ioctl(device_fd2, VFIO_DETACH_IOASID");
  expect(pathOf(run, "dev2", undefined, 0x1000n, false)).toEqual({ hops: [], steps: [], outcome: "refused: blocked" });
});
