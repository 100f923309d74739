// The command on every vector file here, and on files that are altered or wrong. It runs the built package, as a user does.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";

const VECTORS = readdirSync("test/vectors").filter((name) => name.endsWith(".json.gz")).map((name) => `test/vectors/${name}`);
const SMALL = "test/vectors/smmuv3-stream-linear.json.gz";
const folder = mkdtempSync(join(tmpdir(), "ioasid-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Expect = Record<string, unknown>;
interface File {
  unit: Record<string, unknown>;
  cases: { id: number; queries: { expect: Expect; quirk?: string }[]; memory: unknown[]; memory_after?: [string, string][] }[];
}

function ioasid(args: string[], input?: Uint8Array) {
  return spawnSync(process.execPath, ["dist/cli/main.js", "conform", ...args], { encoding: "utf8", maxBuffer: 1 << 28, ...(input ? { input } : {}) });
}

const read = (name: string): File => JSON.parse(gunzipSync(readFileSync(name)).toString()) as File;

function file(name: string, content: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, gzipSync(JSON.stringify(content)));
  return path;
}

/** A copy of a file in which the first answer without quirk that fits is changed; and where that is. */
function altered(name: string, fits: (expected: Expect) => boolean, change: (expected: Expect) => void) {
  const content = read(name);
  for (const { id, queries } of content.cases) {
    const index = queries.findIndex(({ expect: expected, quirk }) => quirk === undefined && fits(expected));
    if (index < 0) continue;
    change(queries[index]!.expect);
    return { path: file("altered.json.gz", content), place: `case ${id}, query ${index}` };
  }
  throw new Error(`no answer of ${name} fits`);
}

describe("every vector file", () => {
  const run = ioasid(["--json", ...VECTORS]);
  const results = run.stdout.trim().split("\n").map((line) => JSON.parse(line) as { file: string });

  it("is answered", () => {
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
    expect(results.map(({ file: name }) => `test/vectors/${name}`)).toEqual(VECTORS);
  });

  it.each(VECTORS)("%s: no difference outside quirks", (name) => {
    const all = read(name).cases.flatMap((each) => each.queries);
    const skipped = all.filter((query) => query.quirk !== undefined).length;
    const result = results.find(({ file: each }) => name.endsWith(`/${each}`));
    expect(result).toMatchObject({ queries: all.length, skipped, equal: all.length - skipped, different: 0, differences: [] });
  });
});

describe("an altered answer exits 3 and is named", () => {
  const smmu = (fault: string, stage: number) => (expected: Expect): boolean => expected["fault"] === fault && expected["stage"] === stage && expected["event"] !== undefined;
  const flip = (word: number, bit: bigint) => (expected: Expect): void => {
    const event = [...(expected["event"] as string[])];
    event[word] = `0x${(BigInt(event[word]!) ^ bit).toString(16)}`;
    expected["event"] = event;
  };
  it.each<[string, (expected: Expect) => boolean, (expected: Expect) => void, string]>([
    ["pa", (e) => e["size"] === 4096, (e) => (e["pa"] = `0x${(BigInt(e["pa"] as string) + 1n).toString(16)}`), "pa: expected"],
    ["perm", (e) => e["perm"] === "rw", (e) => (e["perm"] = "r"), "perm: expected r, got rw"],
    ["size", (e) => e["size"] === 4096 && e["bypass"] === undefined, (e) => (e["size"] = 8192), "size: expected 8192, got 4096"],
    ["bypass", (e) => e["bypass"] === true, (e) => (e["bypass"] = false), "bypass: expected false, got true"],
    ["outcome", (e) => e["fault"] === "ABORT", (e) => { delete e["fault"]; e["pa"] = "0x1"; }, "outcome: expected 0x1, got fault ABORT"],
    ["fault", (e) => e["fault"] === "C_BAD_STE", (e) => (e["fault"] = "C_BAD_CD"), "fault: expected C_BAD_CD, got C_BAD_STE"],
    ["code", (e) => e["fault"] === "C_BAD_STE", (e) => (e["code"] = 5), "code: expected 5, got 4"],
    ["reported", (e) => e["fault"] === "C_BAD_STE", (e) => (e["reported"] = false), "reported: expected false, got true"],
    ["StreamID", smmu("F_TRANSLATION", 1), flip(0, 1n << 40n), "event's type, StreamID"],
    ["class", smmu("F_TRANSLATION", 1), flip(1, 1n << 40n), "event's S2, CLASS"],
    ["input address", smmu("F_TRANSLATION", 1), flip(2, 1n), "event's InputAddr"],
  ])("%s", (_name, fits, change, says) => {
    const { path, place } = altered(SMALL, fits, change);
    const run = ioasid([path]);
    expect(run.status).toBe(3);
    expect(run.stderr).toMatch(new RegExp(`^altered\\.json\\.gz: ${place}: rid 0x[0-9a-f]+ iova 0x[0-9a-f]+ [rw]: exact: ${says}`));
    expect(run.stderr.trim().split("\n")).toHaveLength(1);
    expect(run.stdout).toContain("1 differ;");
  });

  it("names only as many as it is asked to, and counts the rest", () => {
    const content = read(SMALL);
    const all = content.cases.flatMap((each) => each.queries);
    const first = all.filter((query) => query.expect["pa"] !== undefined).slice(0, 5);
    for (const { expect: expected } of first) expected["pa"] = "0x123";
    const run = ioasid(["--max-differences", "2", file("several.json.gz", content)]);
    expect(run.status).toBe(3);
    expect(run.stderr.trim().split("\n")).toHaveLength(3);
    expect(run.stderr).toContain(`several.json.gz: ${first.length - 2} more`);
  });

  it("a word of a table that is altered shows in the answers", () => {
    const content = read(SMALL);
    const one = content.cases.find((each) => each.queries.some((query) => query.expect["pa"] !== undefined))!;
    one.memory = [];
    const run = ioasid(["--json", file("no-memory.json.gz", { ...content, cases: [one] })]);
    expect(run.status).toBe(3);
    expect(JSON.parse(run.stdout).differences.map((each: { got: string }) => each.got)).toContain("C_BAD_STE");
  });
});

describe("accessed and dirty bits", () => {
  const FIRST_STAGE = "test/vectors/image-vtd-scalable-fs-linux-7.3.json.gz";
  const LEAF = /^0x(?:8[0-9a-f]{15}|[0-9a-f]{1,13})$/;

  /** The image with one accessed bit of a used leaf taken away: answering sets it, which the recorder did not see. */
  function withoutAccessed(): File {
    const content = read(FIRST_STAGE);
    for (const run of content.cases[0]!.memory as { q: string[] }[]) {
      run.q = run.q.map((word) => (LEAF.test(word) && (BigInt(word) & 0x61n) === 0x61n ? `0x${(BigInt(word) & ~0x20n).toString(16)}` : word));
    }
    return content;
  }

  it("that the recorder did not leave are a difference of the case", () => {
    const run = ioasid(["--json", file("accessed.json.gz", withoutAccessed())]);
    expect(run.status).toBe(3);
    const result = JSON.parse(run.stdout) as { differences: { way: string; field: string; query?: number }[]; equal: number; queries: number };
    expect(result.differences).toHaveLength(1);
    expect(result.differences[0]).toMatchObject({ way: "memory", field: expect.stringMatching(/^word at 0x/) });
    expect(result.equal).toBe(result.queries);
  });
});

describe("the command", () => {
  it("prints a table a family, and the sums", () => {
    const run = ioasid([SMALL, "test/vectors/image-amdvi-v1-linux-6.12.json.gz"]);
    expect(run.status).toBe(0);
    expect(run.stdout).toContain("smmuv3-stream-linear");
    expect(run.stdout).toContain("all 7,024 answers equal the recorded ones; 0 skipped");
  });

  it("reads standard input and plain JSON, and another order finds nothing else", () => {
    const run = ioasid(["--json", "--seed", "77", "-"], gunzipSync(readFileSync(SMALL)));
    expect(run.status).toBe(0);
    expect(JSON.parse(run.stdout)).toMatchObject({ file: "stdin", different: 0 });
  });

  it("exits 2 for wrong usage and for an IOMMU that is not modelled", () => {
    for (const args of [[], ["--what"], ["--seed", "x", SMALL], ["--max-differences", "-1", SMALL]]) expect(ioasid(args).status, args.join(" ")).toBe(2);
    const run = ioasid([file("riscv.json.gz", { ...read(SMALL), unit: { kind: "riscv", ram: [["0x0", "0x1000"]] } })]);
    expect(run).toMatchObject({ status: 2, stdout: "" });
    expect(run.stderr).toContain("vectors of \"riscv\" are not supported; there are vtd, smmuv3 and amdvi");
  });

  it("exits 1 for a file that is missing, cut or broken, with the reason; good ones beside it are still answered", () => {
    expect(ioasid([join(folder, "none.json.gz")])).toMatchObject({ status: 1, stderr: expect.stringContaining("none.json.gz: no such file") });
    writeFileSync(join(folder, "cut.json.gz"), readFileSync(SMALL).subarray(0, 5000));
    expect(ioasid([join(folder, "cut.json.gz")])).toMatchObject({ status: 1, stderr: expect.stringContaining("truncated gzip data") });
    const content = read(SMALL);
    content.cases[3]!.queries[4]!.expect = { fault: "C_BAD_STE", code: "x" };
    const run = ioasid(["--json", file("broken.json.gz", content), SMALL]);
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/broken\.json\.gz: case \d+, query 4: expect: code: must be an integer in 0\.\.255, not "x"\n$/);
    expect(JSON.parse(run.stdout)).toMatchObject({ family: "smmuv3-stream-linear", different: 0 });
  });

  it("prints help", () => {
    expect(ioasid(["--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("--max-differences") });
  });
});
