// Replay of traces with PASIDs: every request goes where its device and PASID are attached at that moment.
import { describe, expect, it } from "vitest";
import type { PresetName } from "../../src/iommu/model.js";
import { TraceParser } from "../../src/trace/parse.js";
import { recordedOn } from "../../src/trace/recorded-on.js";
import { replay, type ReplayResult } from "../../src/trace/replay.js";
import { planSegments } from "../../src/trace/segments.js";
import { requestPath } from "../../src/trace/walk-at.js";
import type { Trace } from "../../src/trace/trace.js";
import { alteredAnswers, pasidTrace } from "./pasid-trace.js";

function parse(text: string): Trace {
  const parser = new TraceParser();
  parser.push(new TextEncoder().encode(text));
  return planSegments(parser.end());
}

async function run(text: string, repeat = 1, preset?: PresetName): Promise<ReplayResult> {
  const trace = parse(text);
  const iommu = preset === undefined ? recordedOn(trace) : { preset };
  const runs: ReplayResult[] = [];
  for await (const each of replay(trace, repeat, { host: { iommus: [{ ...iommu, reserved: [] }] }, keepMismatches: 1000 })) runs.push(each);
  return runs.at(-1)!;
}

const HEAD = "# ioasid-trace 1\nattach\t1\t0x20\t5\nmap\t1\t0x1000\t0x5000\t0x1000\trw\n";

describe("a trace with PASIDs", () => {
  it.each([1, 2, 3, 4])("number %i: every answer is the one that plain maps give, on every run", async (seed) => {
    const text = pasidTrace(seed, 4000);
    const result = await run(text, 2);
    const requests = text.match(/^dma/gm)!.length;
    expect(result).toMatchObject({ mismatches: 0, requests, faults: text.match(/fault:/g)!.length });
    expect(result.faults).toBeLessThan(requests * 0.9);
    expect(text).toMatch(/^detach\t\d\t0x\w+\t0xfffff$/m);
  });

  it("has exactly the mismatches that altered answers make", async () => {
    const { text, altered } = alteredAnswers(pasidTrace(9, 4000), 7);
    const { mismatches, firstMismatches } = await run(text);
    expect(altered.length).toBeGreaterThan(300);
    expect(mismatches).toBe(altered.length);
    expect(firstMismatches.map(({ line }) => line)).toEqual(altered);
  });

  it("tells PASIDs from each other, and from requests without one", async () => {
    const { mismatches, faults, faultReasons } = await run(`${HEAD}dma\t0x20\t5\t0x1004\t0x4\tw\t0x5004\n`
      + ["-", "4", "0", "0xfffff"].map((pasid) => `dma\t0x20\t${pasid}\t0x1004\t0x4\tw\tfault:blocked\n`).join(""));
    expect({ mismatches, faults, faultReasons }).toEqual({ mismatches: 0, faults: 4, faultReasons: { blocked: 4 } });
  });

  it("is walked with the PASID of the request", async () => {
    const trace = parse(`${HEAD}dma\t0x20\t5\t0x1000\t0x4\tr\t0x5000\ndma\t0x20\t-\t0x1000\t0x4\tr\tfault:blocked\n`);
    const host = { iommus: [{ ...recordedOn(trace), reserved: [] }] };
    expect((await requestPath(trace, 4, { host })).steps.at(-1)).toMatchObject({ kind: "leaf", leadsTo: 0x5000n });
    expect((await requestPath(trace, 5, { host })).outcome).toBe("refused: no address space is attached");
  });

  it.each<[string, string, RegExp]>([
    ["a PASID that is detached twice", "detach\t1\t0x20\t5\ndetach\t1\t0x20\t5\n", /^line 5: the device is not attached to that domain with that PASID$/],
    ["a PASID detached from another domain", "attach\t2\t0x20\ndetach\t2\t0x20\t5\n", /^line 5: the device is not/],
    ["PASID 0", "attach\t1\t0x20\t0\n", /VFIO_ATTACH_IOASID: EINVAL/],
  ])("%s ends the replay", async (_name, lines, says) => {
    await expect(run(HEAD + lines)).rejects.toThrow(says);
  });

  it("asks for a host whose IOMMU has PASIDs", async () => {
    const text = HEAD.replace("\n", "\n# source: QEMU amd-iommu\n");
    await expect(run(text)).rejects.toThrow(/VFIO_ATTACH_IOASID: EINVAL/);
    await expect(run(HEAD, 1, "vtd")).rejects.toThrow(/VFIO_ATTACH_IOASID: EOPNOTSUPP/);
  });
});
