#!/usr/bin/env node
// The command. One file a subcommand; exit codes: 0 all equal, 1 failure, 2 usage, 3 mismatch.
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { conformCommand } from "./conform.js";
import { EXIT_FAILURE, EXIT_USAGE } from "./exit-codes.js";
import { flowsCommand } from "./flows.js";
import { replayCommand } from "./replay.js";
import { runCommand } from "./run.js";
import { walkCommand } from "./walk.js";

const { version, description } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
  description: string;
};

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const program = new Command("ioasid")
  .description(description)
  .version(version, "--version", "print the version")
  .exitOverride()
  .addHelpText("after", "\nExit codes: 0 all answers equal, 1 failure, 2 usage, 3 an answer differs or is not as expected.");
const commands = [replayCommand(), conformCommand(), walkCommand(), runCommand(), flowsCommand()];
for (const command of commands) program.addCommand(command.exitOverride());

try {
  if (process.argv.length <= 2) program.help({ error: true });
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  } else {
    process.stderr.write(`ioasid: ${message(error)}\n`);
    process.exitCode = EXIT_FAILURE;
  }
}
