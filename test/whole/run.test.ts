// `ioasid run` and `ioasid flows`, and the examples: the built package, as a user has it.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "ioasid-"));
afterAll(() => rmSync(folder, { recursive: true }));

function node(args: string[], input?: string) {
  return spawnSync(process.execPath, args, { encoding: "utf8", ...(input === undefined ? {} : { input }) });
}

const ioasid = (args: string[], input?: string) => node(["dist/cli/main.js", ...args], input);

function file(name: string, content: object | string): string {
  const path = join(folder, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

const all = ["scenarios", "test/scenarios"].flatMap((each) => readdirSync(each).map((name) => `${each}/${name}`));
const FLOW = "scenarios/rfc-5.3.json";
const flow = (): { steps: Record<string, unknown>[] } => JSON.parse(readFileSync(FLOW, "utf8")) as { steps: Record<string, unknown>[] };

describe("ioasid run", () => {
  it("runs every bundled scenario, one JSON object each", () => {
    const run = ioasid(["run", "--json", ...all]);
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
    const outcomes = run.stdout.trim().split("\n").map((line) => JSON.parse(line) as { ok: boolean; steps: number; passed: number });
    expect(outcomes).toHaveLength(all.length);
    for (const { ok, steps, passed } of outcomes) expect([ok, passed]).toEqual([true, steps]);
  });

  it("prints a table, and reads standard input", () => {
    const run = ioasid(["run", FLOW, "-"], readFileSync("scenarios/rfc-5.1.json", "utf8"));
    expect(run.status).toBe(0);
    for (const text of ["rfc-5.3.json", "RFC 5.3", "stdin", "all 60 steps are as expected"]) expect(run.stdout).toContain(text);
  });

  it("exits 3 for one altered expectation, and names step, call, expected and got", () => {
    const altered = flow();
    const index = altered.steps.findIndex((step) => step["ioctl"] === "IOASID_DMA_UNMAP");
    altered.steps[index] = { ...altered.steps[index], expect: { size: "0x1000" } };
    const name = file("altered.json", altered);
    const run = ioasid(["run", FLOW, name]);
    expect(run.status).toBe(3);
    const call = "ioctl(ioasid_fd, IOASID_DMA_UNMAP, { .ioasid = gpa_ioasid, .iova = 0, .size = 0x40000000 })";
    expect(run.stderr).toBe(`altered.json: step ${index + 1}: ${call}: expect.size: expected 4096, got 0x40000000\n`);
    expect(run.stdout).toContain(`no: step ${index + 1}`);
    expect(run.stdout).toContain("1 of 2 scenarios end with something unexpected");
    const json = ioasid(["run", "--json", name]);
    expect(json.status).toBe(3);
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, passed: index, failure: { step: index + 1, what: "expect.size", expected: "4096", got: "0x40000000" } });
  });

  it("shows every step with --steps", () => {
    const run = ioasid(["run", "--steps", FLOW]);
    expect(run.status).toBe(0);
    expect(run.stdout).toContain("giova_ioasid 0x2000 -> gpa_ioasid 0x1000 -> hva 0x40001000 -> hpa 0x100001000");
  });

  it.each<[string, object | string, string]>([
    ["no JSON", "{", "is no JSON"],
    ["a step that breaks the format", { scenario: 1, name: "x", steps: [{ charge: "process", expect: 0 }, { jump: 1 }] }, "step 2: $.steps[1]: must be one of"],
    ["a host that cannot be made", { scenario: 1, name: "x", host: { devices: [{ name: "a", rid: 70000 }] }, steps: [{ charge: "process", expect: 0 }] }, "$.host: devices.rid"],
    ["a name without a value", { scenario: 1, name: "x", steps: [{ open: "/no", as: "a", expect: { errno: "ENOENT" } }, { close: "$a" }] }, 'step 2: "$a" has no value'],
  ])("fails with 1 and one line for %s", (name, content, says) => {
    const path = file(`${name.replaceAll(" ", "-")}.json`, content);
    const run = ioasid(["run", path]);
    expect(run).toMatchObject({ status: 1, stdout: "" });
    expect(run.stderr).toContain(says);
    expect(run.stderr.trim().split("\n")).toHaveLength(1);
    expect(run.stderr).toContain(name.replaceAll(" ", "-"));
  });

  it("a missing file does not hide the others; wrong usage is 2", () => {
    const run = ioasid(["run", "--json", join(folder, "none.json"), FLOW]);
    expect(run).toMatchObject({ status: 1, stderr: expect.stringContaining("none.json: no such file") });
    expect(JSON.parse(run.stdout)).toMatchObject({ ok: true });
    for (const args of [["run"], ["run", "--what", FLOW], ["run", "--json", "--steps", FLOW]]) expect(ioasid(args).status, args.join(" ")).toBe(2);
    expect(ioasid(["run", "--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("--steps") });
  });
});

describe("ioasid flows", () => {
  it("shows each flow of the RFC: calls, results, state, the way of DMA", () => {
    const run = ioasid(["flows"]);
    expect(run).toMatchObject({ status: 0, stderr: "" });
    for (const text of [
      "RFC 5.1", "RFC 5.2", "double charge", "RFC 5.3", "RFC 5.4", "giova_ioasid = ioctl(ioasid_fd, IOASID_CREATE_NESTING, gpa_ioasid)",
      "gpa_ioasid (1)  kernel  0x0..0x3fffffff -> hva 0x40000000 rw  dev1, dev2  charged 1 GiB",
      "\u2514 giova_ioasid (2)  software-nested  0x2000..0x2fff -> gpa_ioasid 0x1000 rw", "charge of the process: 1,048,580 KiB",
      "x86-64, level 0", "! IOASID_DMA_MAP: ENOMEM (12)", "RFC 5.5", "work1 = enqcmd(kvm_fd, mdev1, 17, 64 bytes)",
      "RFC 5.6", "read1 = dev1 reads 8 bytes at 0x2000 with PASID 17", "| waiting for ioasid_fd's answer: 2 groups of page requests",
      '= { kind: "request", cookie: 1, ioasid: 2,', "refused: page-request-invalid", '= { kind: "overflow", dropped: ',
      "RFC 5.7", "the guest's PASID table at gpa_ioasid 0x20000, vtd-scalable", "refused: pasid-range",
      "mdev1 PASID 17, mdev2 PASID 17", "gva_ioasid2 0x2000 -> gpa_ioasid 0x3000 -> hva 0x40003000",
    ]) expect(run.stdout).toContain(text);
  });

  it("takes sections, with their variants", () => {
    const run = ioasid(["flows", "--json", "5.4", "5.2"]);
    expect(run.status).toBe(0);
    const flows = run.stdout.trim().split("\n").map((line) => JSON.parse(line) as { file: string; steps: number; detail: Record<string, unknown>[] });
    expect(flows.map((each) => each.file)).toEqual(["rfc-5.2.json", "rfc-5.2-unregistered.json", "rfc-5.4-smmuv3.json", "rfc-5.4-vtd.json"]);
    for (const { steps, detail } of flows) expect(detail).toHaveLength(steps);
    const dma = flows[3]!.detail.find(({ text }) => text === "dev2 reads 8 bytes at 0x2000");
    expect(dma).toMatchObject({
      outcome: "1122334455667788", state: { locked: "0x40000000" },
      path: { hops: [{ address: "0x2000" }, { address: "0x1000" }, { address: "0x40001000" }, { address: "0x100001000" }] },
    });
  });

  it("names what there is when asked for another", () => {
    expect(ioasid(["flows", "5.9"])).toMatchObject({ status: 2, stdout: "", stderr: expect.stringContaining("there are 5.1, 5.2, 5.3, 5.4, 5.5, 5.6, 5.7") });
  });
});

describe("examples", () => {
  it.each<[string, readonly string[]]>([
    ["flow-5-1", ["its label is 1", "refused: blocked", "dev1 reads 1122334455667788 at GPA 0x1000", "across two pages", "unmapped 1073741824 bytes, charged 0"]],
    ["flow-5-2", ["charged: 1 GB and 4096 bytes", "charged: 1 GB and 0 bytes", "in between:            dev2 (label 2): read of iova 0x1000 refused: blocked"]],
    ["flow-5-3", ["as is GPA 0x1000: 0x100001000", "0 by the child", "not-present", "write-denied", "mapped elsewhere:   3333333333333333"]],
    ["flow-5-4", ["of these kinds: x86-64", "0x1027: accessed", "0x1067: dirty", "dev2 reads 3333333333333333", "at stage 2", "at stage 1, level 0"]],
    ["flow-5-5", ["of type 8, mdev on dsa0; the CPU must translate its PASIDs: true", "{ accepted: true }", 'done, 13 bytes: the process has "shared by SVA"', "why: 'pasid-translation'", "refused at 0x3000 after 4096 bytes"]],
    ["flow-5-7", ["the guest's vtd-scalable table", "smmuv3: the guest's smmuv3-cd table", "the guest's amd-gcr3 table", "PASID 40: other\n  PASID 41: dev1 (label 1)", "the guest has removed PASID 1"]],
    ["page-faults", ["cookie 1, more of the group follow", "w of 0x40005000, PASID 17, cookie 2", "done: 100 bytes\ncopy 100 bytes from 0x40000fd0 to 0x40004fd0\ndone", "refused at 0x40010000, after 4096 bytes"]],
    ["qemu-shadow", ["3 mapped, 0 unmapped, 0 refused", "1 mapped, 1 unmapped, 0 refused", "0 mapped, 0 unmapped, 1 refused", "charged: 1073741824 bytes"]],
  ])("%s runs and says what happened", (name, says) => {
    const run = node([`examples/${name}.mjs`]);
    expect(run).toMatchObject({ status: 0, stderr: "" });
    for (const text of says) expect(run.stdout).toContain(text);
  });

  it("are all tried", () => {
    expect(readdirSync("examples").sort()).toEqual(["flow-5-1.mjs", "flow-5-2.mjs", "flow-5-3.mjs", "flow-5-4.mjs", "flow-5-5.mjs", "flow-5-7.mjs", "lib", "machine.mjs", "page-faults.mjs", "qemu-shadow.mjs"]);
  });
});
