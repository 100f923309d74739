// Runs the engine's specs. as-pect calls a run without any spec a pass: here it is a failure.
import { spawnSync } from "node:child_process";
import fs from "node:fs";

const folder = "assembly/__tests__";
const specs = fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => name.endsWith(".spec.ts")) : [];
if (specs.length === 0) throw new Error(`no spec found in ${folder}`);
const run = spawnSync(process.execPath, ["node_modules/@as-pect/cli/bin/asp.js", "--summary", "--no-logo"], { encoding: "utf8" });
process.stdout.write(run.stdout);
process.stderr.write(run.stderr);
if (run.status !== 0) process.exit(run.status ?? 1);
for (const name of specs) {
  if (!`${run.stdout}${run.stderr}`.includes(`${folder}/${name}`)) throw new Error(`as-pect did not run ${name}`);
}
