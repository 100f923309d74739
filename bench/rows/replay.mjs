// What does the whole command cost, from the start of its process to the end? `ioasid replay` of the bundled trace against a
// program that was written for that with a Map a domain. Processor time of the whole process, compilation included.
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { quantile, spread } from "../runner.mjs";

const pathOf = (name) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const TRACE = pathOf("traces/vtd-legacy-strict-nvme.trace.gz");
const PROGRAMS = [
  { name: "ioasid", argv: [pathOf("dist/cli/main.js"), "replay", "--json", TRACE] },
  { name: "Map<number>", argv: [pathOf("bench/baselines/replay-map.mjs"), TRACE] },
];
const SAME = ["events", "maps", "unmaps", "requests", "faults", "mismatches"];

/** { ns of processor time, counts } of one run. */
function run({ name, argv }) {
  const { status, stdout, output } = spawnSync(process.execPath, ["--import", pathOf("bench/cpu-at-exit.mjs"), ...argv],
    { stdio: ["ignore", "pipe", "inherit", "pipe"], encoding: "utf8" });
  if (status !== 0) throw new Error(`"${name}" ended with exit code ${status}`);
  return { ns: Number(output[3]) * 1000, counts: JSON.parse(stdout) };
}

async function measure(rounds) {
  const times = PROGRAMS.map(() => []);
  let events = 0;
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 ? [1, 0] : [0, 1];
    const runs = [];
    for (const i of order) {
      runs[i] = run(PROGRAMS[i]);
      times[i].push(runs[i].ns);
    }
    const differs = SAME.find((key) => runs[0].counts[key] !== runs[1].counts[key]);
    if (differs) throw new Error(`the programs have other ${differs}: ${runs.map(({ counts }) => counts[differs]).join(", ")}`);
    ({ events } = runs[0].counts);
  }
  const variants = PROGRAMS.map(({ name }, i) => ({
    name, ns: quantile(times[i], 0.5) / events, ratio: spread(times[i].map((time, round) => times[0][round] / time)),
  }));
  const [ours, theirs] = times.map((all) => (quantile(all, 0.5) / 1e6).toFixed(0));
  const kib = Math.round(fs.statSync(TRACE).size / 1024);
  return { variants, notes: [`${events} events, ${kib} KiB packed: ${ours} ms, Map<number> ${theirs} ms of processor time, process start included`] };
}

export const rows = [
  {
    name: "replay-command", about: "ioasid replay of the bundled trace, the whole command, against the same by hand", unit: "event",
    baselines: ["Map<number>"], reported: true, measure,
  },
];
