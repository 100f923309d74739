// Runs one row in a process of its own: node row-process.mjs <name> <rounds> prints the result as JSON. A row that follows
// another in one process meets JavaScript that was compiled for the other one's data: the typed-array baseline then takes
// twice as long, and the comparison flatters us.
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { chooseClock } from "./clock.mjs";
import { loadNative } from "./native.mjs";
import { failedRow, rowResult } from "./report.mjs";
import { ROWS } from "./rows.mjs";
import { measure } from "./runner.mjs";

const SELF = fileURLToPath(import.meta.url);

async function runHere(row, rounds) {
  const { native, reason } = loadNative();
  try {
    if (row.measure) {
      const { variants, notes } = await row.measure(rounds);
      return rowResult(row, { variants }, notes, reason);
    }
    const { variants, notes } = await row.prepare(native);
    const measured = measure(variants, rounds, chooseClock(native));
    return rowResult(row, measured, notes(measured), reason);
  } catch (error) {
    return failedRow(row, error);
  }
}

/** The row's result (report.mjs); a process that dies is a row that failed. */
export function runRow(row, rounds) {
  const { stdout, status, signal } = spawnSync(process.execPath, [SELF, row.name, String(rounds)],
    { stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" });
  if (status === 0) return JSON.parse(stdout);
  return failedRow(row, new Error(`its process ended with ${signal ?? `exit code ${status}`}`));
}

if (process.argv[1] === SELF) {
  const [name, rounds] = process.argv.slice(2);
  const row = ROWS.find((each) => each.name === name);
  process.stdout.write(JSON.stringify(await runHere(row, Number(rounds))));
}
