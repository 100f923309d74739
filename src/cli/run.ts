// `ioasid run`: scenario files, every step compared with what it must answer.
import { basename } from "node:path";
import { Command } from "commander";
import { EXIT_FAILURE, EXIT_MISMATCH } from "./exit-codes.js";
import { outcomeTable } from "./run-table.js";
import { failureLine, runFile, type FileOutcome } from "./scenario-run.js";

interface Options {
  json?: boolean;
  steps?: boolean;
}

async function run(files: readonly string[], options: Options): Promise<void> {
  const outcomes: FileOutcome[] = [];
  const print = options.steps ? (line: string): void => void process.stdout.write(`${line}\n`) : undefined;
  let broken = false;
  for (const file of files) {
    const name = file === "-" ? "stdin" : basename(file);
    try {
      const outcome = await runFile(file === "-" ? 0 : file, name, print);
      outcomes.push(outcome);
      if (options.json) process.stdout.write(`${JSON.stringify(outcome)}\n`);
    } catch (error) {
      broken = true;
      process.stderr.write(`ioasid run: ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
  if (!options.json && outcomes.length) process.stdout.write(`${outcomeTable(outcomes)}\n`);
  const wrong = outcomes.filter(({ ok }) => !ok);
  for (const outcome of wrong) process.stderr.write(`${failureLine(outcome)}\n`);
  if (broken) process.exitCode = EXIT_FAILURE;
  else if (wrong.length) process.exitCode = EXIT_MISMATCH;
}

export function runCommand(): Command {
  return new Command("run")
    .description("run scenarios: calls and DMA, each compared with what it must answer")
    .argument("<files...>", "scenario files, - for standard input")
    .option("--steps", "print each step with its result and the state after it, as `ioasid flows` does")
    .option("--json", "one JSON object per file on standard output, nothing else there")
    .addHelpText("after", `
A scenario is a JSON file: a host, and steps with their expected results, errnos, bytes, faults and charges. docs/scenarios.md explains the
format, docs/scenario.schema.json is its schema. A scenario ends with the first step that is not as expected.

Exit codes: 0 all as expected, 1 a file that cannot be read, breaks the format, or names a host that cannot be made, 2 usage, 3 a step is
not as expected (it is named on standard error).

Examples:
  ioasid run scenario.json
  ioasid run --steps scenario.json
  ioasid run --json test/scenarios/*.json`)
    .action((files: string[], options: Options, command: Command) => {
      if (options.json && options.steps) command.error("error: --json and --steps exclude each other");
      return run(files, options);
    });
}
