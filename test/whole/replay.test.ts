// The command on the real traces, and on traces that are wrong. It runs the built package, as a user does.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { alteredAnswers, pasidTrace } from "../unit/pasid-trace.js";

const BUNDLED = "traces/vtd-legacy-strict-nvme.trace.gz";
const TRACES = [BUNDLED, ...readdirSync("test/traces").filter((name) => name.endsWith(".gz")).map((name) => `test/traces/${name}`)];
const folder = mkdtempSync(join(tmpdir(), "ioasid-"));
afterAll(() => rmSync(folder, { recursive: true }));

function ioasid(args: string[], input?: string | Uint8Array) {
  return spawnSync(process.execPath, ["dist/cli/main.js", ...args], { encoding: "utf8", ...(input === undefined ? {} : { input }) });
}

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const text = (name: string): string => gunzipSync(readFileSync(name)).toString();
const count = (name: string, op: string): number => text(name).split("\n").filter((line) => line.startsWith(`${op}\t`)).length;

/** Preset, tables and input bits that a trace's header names; virtio-iommu has none of its own. */
function recordedOn(name: string): object {
  if (name.includes("amdvi")) return { iommu: "amd", format: "amd-v1", addressWidth: 64 };
  if (name.includes("smmuv3")) return { iommu: "smmuv3", format: `aarch64-stage1-${name.includes("16k") ? "16k" : "4k"}`, addressWidth: 48 };
  if (name.includes("-fs-")) return { iommu: "vtd-scalable", format: "x86-64", addressWidth: 48 };
  return { iommu: "vtd", format: "vtd-second-stage", addressWidth: name.includes("legacy39") ? 39 : 48 };
}

describe("every bundled trace", () => {
  it.each(TRACES)("%s: every answer equals the recorded one", (name) => {
    const run = ioasid(["replay", "--json", name]);
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
    const result = JSON.parse(run.stdout) as Record<string, number>;
    const lines = text(name).split("\n").filter((line) => line.startsWith("dma\t"));
    expect(result).toMatchObject({
      mismatches: 0, requests: lines.length, unmaps: count(name, "unmap"), invalidations: count(name, "inv"),
      staleRefused: lines.filter((line) => line.endsWith("\tstale")).length, faults: lines.filter((line) => line.includes("\tfault:")).length,
    });
    expect(result).toMatchObject(recordedOn(name));
    expect(result["translations"]).toBeGreaterThanOrEqual(lines.length);
  });

  it("are twelve", () => expect(TRACES).toHaveLength(12));
});

/** A trace whose every other answer is 1 too high. */
function altered(name: string): string {
  let n = 0;
  return text(name).replaceAll(/^(dma\t.*\t)(0x[0-9a-f]+)$/gm, (line, before: string, answer: string) =>
    n++ % 2 ? line : `${before}0x${(BigInt(answer) + 1n).toString(16)}`);
}

describe("on worker threads", () => {
  const THREE = [BUNDLED, ...TRACES.filter((name) => /amdvi-strict|smmuv3-16k/.test(name))];
  it.each(THREE)("%s: every answer equals the recorded one", (name) => {
    const [one, two] = [[], ["--threads", "2"]].map((more) => JSON.parse(ioasid(["replay", "--json", ...more, name]).stdout));
    const { requests, faults, faultReasons, staleRefused, translations } = one;
    expect(two).toMatchObject({ mismatches: 0, requests, faults, faultReasons, staleRefused, translations, threads: 2 });
    expect(two.ports).toHaveLength(2);
    expect(one.ports).toHaveLength(1);
    for (const { translations: n, hits, misses, walks, loads } of [...one.ports, ...two.ports]) {
      expect(n).toBeGreaterThan(0);
      expect(hits + misses).toBe(n);
      expect(walks).toBeLessThanOrEqual(misses);
      expect(loads).toBeGreaterThanOrEqual(walks);
    }
    const all = two.ports.reduce((sum: number, port: { translations: number }) => sum + port.translations, 0);
    expect(all).toBe(translations);
  });

  it("the same answers differ as on one thread, and the first of them are named", () => {
    const path = file("half.trace", altered(BUNDLED));
    const [one, two] = [[], ["--threads", "2"]].map((more) => ioasid(["replay", "--json", ...more, path]));
    expect([one?.status, two?.status]).toEqual([3, 3]);
    expect(JSON.parse(two!.stdout).mismatches).toBe(38_600);
    expect(JSON.parse(two!.stdout).firstMismatches).toHaveLength(10);
    expect(JSON.parse(one!.stdout).mismatches).toBe(38_600);
  });

  it("a trace with PASIDs: every answer is as it should be, and altered ones are found", () => {
    const right = pasidTrace(5, 6000);
    const { text: wrong, altered } = alteredAnswers(right, 11);
    for (const threads of ["0", "2"]) {
      const [run, other] = [right, wrong].map((trace) => ioasid(["replay", "--json", "--threads", threads, "-"], trace));
      expect(run).toMatchObject({ status: 0, stderr: "" });
      expect(JSON.parse(run!.stdout)).toMatchObject({ iommu: "vtd-scalable", mismatches: 0, requests: right.match(/^dma/gm)!.length, faults: right.match(/fault:/g)!.length });
      expect(other!.status).toBe(3);
      const { mismatches, firstMismatches } = JSON.parse(other!.stdout) as { mismatches: number; firstMismatches: { line: number }[] };
      expect(mismatches).toBe(altered.length);
      expect(altered).toEqual(expect.arrayContaining(firstMismatches.map(({ line }) => line)));
    }
  });

  it("a trace with more PASIDs than a host has routes by default", () => {
    const pairs = Array.from({ length: 4500 }, (_, n) => [`0x${(n % 90).toString(16)}`, 1 + Math.floor(n / 90)]);
    const attaches = pairs.map(([rid, pasid]) => `attach\t1\t${rid}\t${pasid}\n`).join("");
    const requests = pairs.map(([rid, pasid]) => `dma\t${rid}\t${pasid}\t0x1000\t0x8\tr\t0x5000\n`).join("");
    const run = ioasid(["replay", "--json", "-"], `# ioasid-trace 1\nmap\t1\t0x1000\t0x5000\t0x1000\trw\n${attaches}${requests}`);
    expect(run.stderr).toBe("");
    expect(JSON.parse(run.stdout)).toMatchObject({ requests: 4500, mismatches: 0 });
  });

  it("several runs, and a table with a line a port", () => {
    const run = ioasid(["replay", "--threads", "2", "--repeat", "2"]);
    expect(run.status).toBe(0);
    expect(run.stdout).toContain("all 154,400 answers equal");
    expect(run.stdout).toMatch(/entries read/);
  });
});

describe("the command", () => {
  it("replays the bundled trace without arguments, several times, and prints a table", () => {
    const run = ioasid(["replay", "--repeat", "3"]);
    expect(run.status).toBe(0);
    expect(run.stdout).toContain("vtd-legacy-strict-nvme");
    expect(run.stdout).toContain("all 231,600 answers equal");
  });

  it("reads standard input, compressed or not", () => {
    for (const input of [readFileSync(BUNDLED), text(BUNDLED)]) {
      const run = ioasid(["replay", "--json", "-"], input);
      expect(run.status).toBe(0);
      expect(JSON.parse(run.stdout)).toMatchObject({ file: "stdin", requests: 77200, mismatches: 0 });
    }
  });

  it("exits 3 for one altered answer and names line, request, expected and got", () => {
    const lines = text(BUNDLED).split("\n");
    const index = lines.findIndex((line, i) => i > 5000 && line.startsWith("dma\t"));
    const fields = (lines[index] ?? "").split("\t");
    const truth = fields[6] ?? "";
    fields[6] = `0x${(BigInt(truth) + 1n).toString(16)}`;
    lines[index] = fields.join("\t");
    const run = ioasid(["replay", file("altered.trace.gz", gzipSync(lines.join("\n")))]);
    expect(run.status).toBe(3);
    expect(run.stderr).toContain(`line ${index + 1}: ${fields.join(" ")}: expected ${fields[6]}, got ${truth}`);
    expect(run.stdout).toContain("1 of 77,200 answers differ");
  });

  it("a recorded fault that is granted here, and a granted access that faults here, are mismatches", () => {
    const head = "# ioasid-trace 1\nattach\t1\t0x20\nmap\t1\t0x1000\t0x5000\t0x1000\tr\n";
    const run = ioasid(["replay", "--json", "-"], `${head}dma\t0x20\t-\t0x1000\t0x4\tr\tfault:x\ndma\t0x20\t-\t0x1000\t0x4\tw\t0x5000\ndma\t0x20\t-\t0x1ffe\t0x4\tr\t0x5ffe\n`);
    expect(run.status).toBe(3);
    expect(JSON.parse(run.stdout).firstMismatches).toMatchObject([
      { line: 4, expected: "a fault", got: "0x5000" }, { line: 5, expected: "0x5000", got: "fault: write-denied" },
      { line: 6, expected: "0x5ffe", got: "fault: not-present" },
    ]);
  });

  it("a stale answer must be refused", () => {
    const body = "attach\t1\t0x20\nmap\t1\t0x1000\t0x5000\t0x1000\tr\ndma\t0x20\t-\t0x1000\t0x4\tr\t0x5000\tstale\n";
    const run = ioasid(["replay", "--json", "-"], `# ioasid-trace 1\n${body}`);
    expect(run.status).toBe(3);
    expect(JSON.parse(run.stdout).firstMismatches[0]).toMatchObject({ line: 4, got: "0x5000" });
  });

  it("prints help and version, and exits 2 for wrong usage", () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(ioasid(["--version"]).stdout.trim()).toBe(version);
    expect(ioasid(["--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("replay") });
    expect(ioasid(["replay", "--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("--repeat") });
    for (const args of [[], ["nothing"], ["replay", "--what"], ["replay", "--repeat", "0"], ["replay", "--repeat", "x"], ["replay", "--iommu", "x"],
      ["replay", "--threads", "65"], ["replay", "--threads", "-1"]]) {
      expect(ioasid(args).status, args.join(" ")).toBe(2);
    }
  });
});

describe("a bad trace fails with 1, its line and the reason", () => {
  const head = "# ioasid-trace 1\n";
  it.each([
    ["unmap of nothing", `${head}unmap\t1\t0x1000\t0x1000\n`, "line 2"],
    ["unmap of more than is mapped", `${head}map\t1\t0x1000\t0x5000\t0x1000\tr\nunmap\t1\t0x1000\t0x2000\n`, "line 3"],
    ["map over a mapping", `${head}map\t1\t0x1000\t0x5000\t0x1000\tr\nmap\t1\t0x1000\t0x5000\t0x1000\tr\n`, "line 3"],
    ["unknown event", `${head}jump\t1\n`, "line 2"],
    ["address beyond 64 bits", `${head}map\t1\t0x10000000000000000\t0x5000\t0x1000\tr\n`, "line 2"],
    ["cut in a line", `${head}attach\t1\t0x20\nmap\t1\t0x1000\t0x50`, "line 3"],
    ["no trace", "hello\n", "line 1"],
    ["empty", "", "line 1"],
    ["PASID on a host without", `${head}# source: intel-iommu\nattach\t1\t0x20\t5\n`, "VFIO_ATTACH_IOASID: EOPNOTSUPP"],
    ["detach of what is not attached", `${head}detach\t1\t0x20\n`, "line 2"],
    ["iova wider than the IOMMU's", `${head}attach\t1\t0x20\nmap\t1\t0x1000000000000\t0x5000\t0x1000\tr\n`, "IOASID_DMA_MAP"],
  ])("%s", (name, content, says) => {
    const run = ioasid(["replay", file(`${name.replaceAll(" ", "-")}.trace`, content)]);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(says);
    expect(run.stderr.trim().split("\n")).toHaveLength(1);
    expect(run.stdout).toBe("");
  });

  it("a missing file, a cut gzip", () => {
    expect(ioasid(["replay", join(folder, "none.trace")])).toMatchObject({ status: 1, stderr: expect.stringContaining("none.trace") });
    const cut = readFileSync(BUNDLED).subarray(0, 100_000);
    expect(ioasid(["replay", file("cut.trace.gz", cut)])).toMatchObject({ status: 1, stderr: expect.stringContaining("cut.trace.gz") });
  });

  it("one bad file among good ones does not hide them", () => {
    const run = ioasid(["replay", "--json", join(folder, "none.trace"), BUNDLED]);
    expect(run.status).toBe(1);
    expect(JSON.parse(run.stdout)).toMatchObject({ requests: 77200, mismatches: 0 });
  });
});
