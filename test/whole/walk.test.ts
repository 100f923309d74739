// `ioasid walk` on vectors and on a trace. It runs the built package, as a user does.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";

const TRACE = "traces/vtd-legacy-strict-nvme.trace.gz";
const SMMU = "test/vectors/smmuv3-stream-linear.json.gz";
const VTD = "test/vectors/image-vtd-legacy-linux-6.12.json.gz";
const AMD = "test/vectors/image-amdvi-v1-linux-6.12.json.gz";

interface Step {
  what: string;
  stage?: number;
  level?: number;
  address: string;
  words: string[];
  bits: string[];
  kind?: string;
  leadsTo?: string;
  bytes?: string;
  permissions?: string;
}
interface Path { request: string; steps: Step[]; outcome: string; recorded?: Record<string, unknown>; differences?: unknown[]; fault?: Record<string, unknown> }

function walk(...args: string[]) {
  return spawnSync(process.execPath, ["dist/cli/main.js", "walk", ...args], { encoding: "utf8" });
}

function path(...args: string[]): Path {
  const run = walk("--json", ...args);
  expect(run.stderr).toBe("");
  expect(run.status).toBe(0);
  return JSON.parse(run.stdout) as Path;
}

/** The first query of a vector file whose answer fits: case, query, answer. */
function find(name: string, fits: (expected: Record<string, unknown>) => boolean): [string, string, Record<string, unknown>] {
  const file = JSON.parse(gunzipSync(readFileSync(name)).toString()) as { cases: { id: number; queries: { quirk?: string; expect: Record<string, unknown> }[] }[] };
  for (const { id, queries } of file.cases) {
    const index = queries.findIndex((query) => query.quirk === undefined && fits(query.expect));
    if (index >= 0) return [String(id), String(index), queries[index]!.expect];
  }
  throw new Error("no such query");
}

describe("a query of vectors", () => {
  it("VT-d: root entry, context entry, and four levels down to the page", () => {
    const [id, query, expected] = find(VTD, (e) => e["size"] === 4096 && e["perm"] === "rw");
    const { steps, outcome, differences } = path(VTD, "--case", id, "--query", query);
    expect(steps.map((step) => step.what)).toEqual(["root entry", "context entry", ...Array(4).fill("VT-d second stage")]);
    expect(steps.slice(2).map((step) => [step.stage, step.level, step.kind])).toEqual([[2, 3, "table"], [2, 2, "table"], [2, 1, "table"], [2, 0, "leaf"]]);
    for (const [i, step] of steps.slice(2, 5).entries()) expect(BigInt(steps[i + 3]!.address) & ~0xfffn).toBe(BigInt(step.leadsTo!));
    expect(steps[1]!.bits).toContain("AW 2");
    expect(steps.at(-1)).toMatchObject({ permissions: "rw-", bytes: "0x1000", bits: expect.arrayContaining(["R", "W"]) });
    expect(outcome).toBe(`translated to ${String(expected["pa"])}, a page of 4096 bytes`);
    expect(differences).toEqual([]);
  });

  it("AMD-Vi: the device table entry, and a leaf of a coded size", () => {
    const [id, query, expected] = find(AMD, (e) => e["size"] === 16384);
    const { steps } = path(AMD, "--case", id, "--query", query);
    expect(steps[0]).toMatchObject({ what: "device table entry", bits: expect.arrayContaining(["V", "TV", "IR", "IW"]) });
    expect(steps.at(-1)).toMatchObject({ kind: "leaf", bytes: "0x4000", bits: expect.arrayContaining(["PR", "NextLevel 7"]) });
    expect(expected["perm"]).toMatch(/r/);
  });

  it("SMMUv3: stream table entry and context descriptor; a fault with its record", () => {
    const [id, query] = find(SMMU, (e) => e["fault"] === "F_TRANSLATION");
    const { steps, fault, outcome, differences } = path(SMMU, "--case", id, "--query", query);
    expect(steps.slice(0, 2).map((step) => step.what)).toEqual(["stream table entry", "context descriptor"]);
    expect(fault).toMatchObject({ name: "F_TRANSLATION", code: 16, class: "IN", record: expect.arrayContaining([expect.stringMatching(/^0x/)]) });
    expect(outcome).toMatch(/^refused: .* in stage 1.*; F_TRANSLATION$/);
    expect(differences).toEqual([]);
  });

  it("a stream that is refused has no table entries", () => {
    const [id, query] = find(SMMU, (e) => e["fault"] === "C_BAD_STE");
    expect(path(SMMU, "--case", id, "--query", query)).toMatchObject({ steps: [{ what: "stream table entry" }], outcome: "the stream is refused: C_BAD_STE" });
  });

  it("as a table", () => {
    const [id, query] = find(VTD, (e) => e["size"] === 4096);
    const run = walk(VTD, "--case", id, "--query", query);
    expect(run.status).toBe(0);
    for (const text of ["root entry", "SSPTPTR", "VT-d second stage, stage 2, level 0", "4 KiB", "as recorded"]) expect(run.stdout).toContain(text);
  });
});

describe("a request of a trace", () => {
  const lines = gunzipSync(readFileSync(TRACE)).toString().split("\n");

  it("is walked through the tables as they are there", () => {
    const index = lines.findIndex((line, i) => i > 5000 && line.startsWith("dma\t") && !line.includes("fault"));
    const answer = lines[index]!.split("\t")[6];
    const { request, steps, outcome } = path(TRACE, "--line", String(index + 1));
    expect(request).toBe(lines[index]!.replaceAll("\t", " "));
    expect(steps.map((step) => step.level)).toEqual([3, 2, 1, 0]);
    expect(outcome).toContain(`translated to ${answer}`);
  });

  it("before the first map of its page it finds nothing there", () => {
    const trace = `# ioasid-trace 1\nattach\t1\t0x20\nmap\t1\t0x1000\t0x5000\t0x1000\tr\ndma\t0x20\t-\t0x1000\t0x4\tr\t0x5000\nunmap\t1\t0x1000\t0x1000\ndma\t0x20\t-\t0x1000\t0x4\tr\tfault:x\ndma\t0x28\t-\t0x0\t0x4\tr\tfault:x\n`;
    const at = (line: number) => spawnSync(process.execPath, ["dist/cli/main.js", "walk", "--json", "-", "--line", String(line)], { encoding: "utf8", input: trace });
    expect(JSON.parse(at(4).stdout)).toMatchObject({ outcome: "translated to 0x5000, a page of 4096 bytes" });
    expect(JSON.parse(at(6).stdout)).toMatchObject({ outcome: expect.stringContaining("refused: not-present") });
    expect(JSON.parse(at(7).stdout)).toMatchObject({ steps: [], outcome: "refused: no address space is attached" });
    expect(at(3)).toMatchObject({ status: 1, stderr: expect.stringContaining("line 3: is no DMA request: map 1") });
    expect(at(99)).toMatchObject({ status: 1, stderr: expect.stringContaining("line 99: there is no event on that line") });
  });
});

describe("usage", () => {
  it("exits 2 unless it is told one position, 1 for one that is not there", () => {
    for (const args of [[VTD], [VTD, "--case", "0"], [VTD, "--case", "0", "--query", "0", "--line", "3"], [VTD, "--case", "x", "--query", "0"], [VTD, "--case", "0", "--query", "0", "--iommu", "amd"], []]) {
      expect(walk(...args).status, args.join(" ")).toBe(2);
    }
    expect(walk(VTD, "--case", "9", "--query", "0")).toMatchObject({ status: 1, stderr: expect.stringContaining("case 9: there is none") });
    expect(walk(VTD, "--case", "0", "--query", "99999")).toMatchObject({ status: 1, stderr: expect.stringContaining("case 0, query 99999: there is none") });
    expect(walk("none.json", "--case", "0", "--query", "0")).toMatchObject({ status: 1, stderr: expect.stringContaining("none.json: no such file") });
    expect(walk("--help")).toMatchObject({ status: 0, stdout: expect.stringContaining("--line") });
  });
});
