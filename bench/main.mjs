// npm run bench: runs the rows, prints a table, Markdown or JSON, and writes report.html. Exit 0 ran, 1 a checksum, a row or
// (with --check) a gate failed, 2 usage.
import { Command, InvalidArgumentError } from "commander";
import fs from "node:fs";
import os from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { chooseClock } from "./clock.mjs";
import { htmlReport } from "./html-report.mjs";
import { loadNative } from "./native.mjs";
import { checkTargets, failures, isGated, markdown, table } from "./report.mjs";
import { runRow } from "./row-process.mjs";
import { ROWS } from "./rows.mjs";

const USAGE = 2;
const REPORT = fileURLToPath(new URL("report.html", import.meta.url));

function roundCount(text) {
  const rounds = Number(text);
  if (!Number.isInteger(rounds) || rounds < 3 || rounds > 1001) throw new InvalidArgumentError("an integer, 3..1001.");
  return rounds;
}

function command() {
  return new Command("npm run bench --")
    .description("Measures the engine against native C and plain JavaScript on the same memory.")
    .option("--rows <name...>", "only rows whose name contains one of these words")
    .option("--rounds <n>", "short rounds of every variant; the ratio is the median over them", roundCount, 21)
    .option("--check", "the rows that have gates in targets.json (or those of --rows): exit 1 if a gate is missed or something could not run")
    .option("--json", "one JSON object on stdout, nothing else there")
    .option("--markdown", "the table of README on stdout, nothing else there")
    .option("--list", "name the rows and what each asks, run nothing")
    .addHelpText("after", "\nTimes are nanoseconds of processor time per translation (or load). A ratio is ours / baseline:"
      + "\nbelow 1 we are faster. Every run writes bench/report.html too. How it measures and what each row does: bench/README.md.")
    .configureOutput({ outputError: (text, write) => write(text) })
    .exitOverride();
}

function parse() {
  const program = command();
  try {
    program.parse();
  } catch (error) {
    process.exit(error.exitCode === 0 ? 0 : USAGE);
  }
  return program.opts();
}

/** The rows that --rows names, else all or, to be checked, all with gates; exits when a word names none. */
function chosenRows({ rows: words, check }) {
  if (!words) return check ? ROWS.filter(isGated) : ROWS;
  const lost = words.filter((word) => !ROWS.some((row) => row.name.includes(word)));
  if (lost.length > 0) {
    console.error(`error: --rows ${lost.join(" ")}: no such row; there are ${ROWS.map((row) => row.name).join(", ")}`);
    process.exit(USAGE);
  }
  return ROWS.filter((row) => words.some((word) => row.name.includes(word)));
}

function machine(loaded, clock) {
  return {
    node: process.version, v8: process.versions.v8, cpu: os.cpus()[0]?.model ?? process.arch, arch: process.arch,
    compiler: loaded.compiler ?? loaded.reason, clock: clock.name,
  };
}

function print(results, about, rounds) {
  console.log(table(results));
  for (const row of results) for (const note of row.notes) console.log(`${row.name}: ${note}`);
  console.log(`Node ${about.node}, V8 ${about.v8}, ${about.cpu} (${about.arch}); ${about.compiler}`);
  console.log(`${rounds} rounds; time is ${about.clock}.`);
}

function main() {
  checkTargets(ROWS);
  const options = parse();
  const rows = chosenRows(options);
  if (options.list) {
    for (const row of rows) console.log(`${row.name.padEnd(20)} ${row.about}; against ${row.baselines.join(", ")}`);
    return;
  }
  const loaded = loadNative();
  const clock = chooseClock(loaded.native);
  const results = rows.map((row, n) => {
    console.error(`[${n + 1}/${rows.length}] ${row.name}: ${row.about}`);
    return runRow(row, options.rounds);
  });
  const failed = failures(results);
  const about = machine(loaded, clock);
  fs.writeFileSync(REPORT, htmlReport(results, about, options.rounds));
  if (options.markdown) console.log(markdown(results));
  else if (options.json) console.log(JSON.stringify({ ...about, rounds: options.rounds, rows: results, failures: failed }));
  else print(results, about, options.rounds);
  if (failed.length > 0 && (options.check || results.some((row) => row.error))) {
    for (const failure of failed) console.error(`failed: ${failure}`);
    process.exitCode = 1;
  }
}

main();
