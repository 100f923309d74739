// A copy of the project in which one mutant at a time is built and tested. Never the work tree itself.
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

/** Copied, because mutants and builds change what is in there. */
const COPIED = ["assembly", "src", "scripts"];
/** Only read. */
const LINKED = ["test", "traces", "examples", "node_modules", "package.json", "tsconfig.json", "vitest.config.ts", "asconfig.json",
  "as-pect.config.js", "as-pect.asconfig.json"];
/** For one file of tests. A mutant that never ends is killed too; one test that is slow on a busy machine is no kill. */
const TIMEOUT_MS = 300_000;

/** What an edit cannot be applied to, or a mutant that does not compile: a defect of the list, not of the tests. */
export class MutantError extends Error {}

function run(cwd, file, args, env = {}, timeout = TIMEOUT_MS) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [file, ...args], { cwd, env: { ...process.env, ...env } });
    let output = "";
    const timer = setTimeout(() => child.kill("SIGKILL"), timeout);
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => { output += data; });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, timedOut: signal === "SIGKILL", output });
    });
  });
}

export class Workspace {
  #source;
  #folder;

  constructor(source, folder) {
    this.#source = source;
    this.#folder = folder;
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(path.join(folder, "build"), { recursive: true });
    for (const name of COPIED) fs.cpSync(path.join(source, name), path.join(folder, name), { recursive: true });
    for (const name of LINKED) this.#link(name);
  }

  /** Tests import ../../src: a link to the folder would lead them out of this copy, so it is made of links to its files. */
  #link(name) {
    const from = path.join(this.#source, name);
    const to = path.join(this.#folder, name);
    if (name !== "test") return void fs.symlinkSync(from, to);
    fs.cpSync(from, to, { recursive: true, filter: (file) => !/[/\\](vectors|traces)$/.test(file) });
    for (const data of ["vectors", "traces"]) {
      if (fs.existsSync(path.join(from, data))) fs.symlinkSync(path.join(from, data), path.join(to, data));
    }
  }

  /** Applies the edits; each `find` must occur exactly once. */
  apply(edits) {
    for (const { file, find, replace } of edits) {
      const at = path.join(this.#folder, file);
      const text = fs.readFileSync(at, "utf8");
      const count = text.split(find).length - 1;
      if (count !== 1) throw new MutantError(`${file}: ${count} places read ${JSON.stringify(find)}`);
      fs.writeFileSync(at, text.replace(find, () => replace));
    }
  }

  restore(edits) {
    for (const { file } of edits) fs.copyFileSync(path.join(this.#source, file), path.join(this.#folder, file));
  }

  /** Builds the engine, not optimised: that would take longer than most tests. TypeScript and specs are run from their source. */
  async build() {
    const layout = await run(this.#folder, "scripts/layout.mjs", []);
    if (layout.code !== 0) throw new MutantError(`does not build: ${layout.output}`);
    const asc = ["shared", "unshared"].map((kind) =>
      run(this.#folder, "node_modules/assemblyscript/bin/asc.js", ["--target", kind, "--optimizeLevel", "0"]));
    for (const { code, output } of await Promise.all(asc)) if (code !== 0) throw new MutantError(`does not build: ${output.slice(0, 400)}`);
  }

  /** Name of the first test that fails; null if all pass. Files that end in .spec.ts are the engine's own specs. */
  async firstFailure(files) {
    const tests = files.filter((file) => file.endsWith(".test.ts"));
    const failure = tests.length < files.length ? await this.#specFailure() : null;
    if (failure !== null || tests.length === 0) return failure;
    await this.build();
    return this.#testFailure(tests);
  }

  async #specFailure() {
    const { code, timedOut, output } = await run(this.#folder, "scripts/as-pect.mjs", [], { NO_COLOR: "1" });
    if (code === 0) return null;
    if (timedOut) return "the specs do not end";
    const failed = /❌ (?!Fail)(?!assembly)([^\n]*?) - /.exec(output.replace(/\u001b\[\d+m/g, ""));
    if (!failed) throw new MutantError(`the specs do not run: ${output.slice(-400)}`);
    return `spec: ${failed[1].trim()}`;
  }

  async #testFailure(files) {
    const report = path.join(this.#folder, "build/mutant.json");
    fs.rmSync(report, { force: true });
    const args = ["run", "--project", "unit", "--testTimeout", String(TIMEOUT_MS), "--bail", "1", "--reporter", "json", "--outputFile", report, ...files];
    const { code, timedOut, output } = await run(this.#folder, "node_modules/vitest/vitest.mjs", args, { IOASID_TEST: "mutants" }, TIMEOUT_MS * files.length);
    if (code === 0) return null;
    if (timedOut) return "the tests do not end";
    if (!fs.existsSync(report)) throw new MutantError(`the tests do not run: ${output.slice(-400)}`);
    const { testResults: results, numTotalTests } = JSON.parse(fs.readFileSync(report, "utf8"));
    if (numTotalTests === 0) throw new MutantError(`the tests do not run: ${results[0]?.message ?? "there are none"}`);
    for (const { assertionResults } of results) {
      for (const { status, fullName } of assertionResults) if (status === "failed") return fullName.trim();
    }
    return results.find(({ status }) => status === "failed")?.message?.split("\n")[0] ?? "an error outside of tests";
  }
}
