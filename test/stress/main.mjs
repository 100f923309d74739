// npm run stress: the stress test, and its controls. Exit 0: no stale use, and each control has shown some. 1 otherwise, 2 usage.
import { Command, InvalidArgumentError } from "commander";
import process from "node:process";
import { stress } from "./stress.mjs";

const CONTROLS = ["no-wait", "no-invalidation"];
/** A control stops after this many stale uses. */
const ENOUGH = 100;

function count(text) {
  const n = Number(text);
  if (!/^\d+$/.test(text) || n < 1 || n > 1e9) throw new InvalidArgumentError("It must be an integer in 1..1000000000.");
  return n;
}

const program = new Command("npm run stress --")
  .description("readers on worker threads use translations while the host unmaps them: counts uses of what was already unmapped")
  .option("--unmaps <n>", "unmaps of single pages", count, 20_000)
  .option("--threads <n>", "readers", count, 2)
  .option("--seed <n>", "of the random numbers", count, 1)
  .option("--json", "one JSON object a run on standard output, nothing else there")
  .addHelpText("after", "\nEach control breaks one rule in the readers (a section that is not waited for; invalidations that are not applied), and has to"
    + "\nshow stale uses: otherwise the test could not see any.")
  .exitOverride();
try {
  program.parse();
} catch (error) {
  process.exit(error.exitCode === 0 ? 0 : 2);
}
const { unmaps, threads, seed, json } = program.opts();
let failed = false;
for (const control of ["", ...CONTROLS]) {
  const onProgress = (done) => { if (process.stderr.isTTY) process.stderr.write(`\r${control || "stress"}: ${done} `); };
  const result = await stress({ unmaps, threads, seed, control, onProgress, ...(control ? { enough: ENOUGH } : {}) });
  if (process.stderr.isTTY) process.stderr.write("\r");
  const { median, p90, p99, most } = result.microseconds;
  const us = (n) => (n < 10 ? n.toFixed(1) : n.toFixed(0));
  if (json) console.log(JSON.stringify(result));
  else {
    console.log(`${control ? `control ${control}` : "stress"}: ${result.unmaps} unmaps, ${threads} readers, ${result.uses} uses, ${result.stale} stale; `
      + `an unmap takes ${us(median)} us (median), ${us(p90)} (p90), ${us(p99)} (p99), ${us(most)} at most; ${result.seconds.toFixed(1)} s`);
  }
  if ((result.stale > 0) !== (control !== "")) {
    failed = true;
    console.error(control ? `the control ${control} has shown no stale use` : `${result.stale} stale uses`);
  }
}
if (failed) process.exitCode = 1;
