// `ioasid conform`: translation vectors through the exact walker, the scalar call and the batch, every answer compared.
import { basename } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { conform, type ConformResult } from "../vectors/conform.js";
import { readVectors } from "../vectors/read-node.js";
import { UnsupportedUnit } from "../vectors/vectors.js";
import { conformTable, differenceLines } from "./conform-table.js";
import { EXIT_FAILURE, EXIT_MISMATCH, EXIT_USAGE } from "./exit-codes.js";
import { Progress } from "./progress.js";

interface Options {
  json?: boolean;
  seed: number;
  maxDifferences: number;
}

export interface FileConformance extends ConformResult {
  file: string;
}

const integer = (first: number, last: number) => (text: string): number => {
  const n = Number(text);
  if (!/^\d+$/.test(text) || n < first || n > last) throw new InvalidArgumentError(`It must be an integer in ${first}..${last}.`);
  return n;
};

async function conformFile(file: string, options: Options, progress: Progress): Promise<FileConformance> {
  const name = file === "-" ? "stdin" : basename(file);
  progress.begin(name);
  const vectors = readVectors(file === "-" ? 0 : file);
  const onProgress = (cases: number): void => progress.set(cases, vectors.cases.length);
  const result = await conform(vectors, { seed: options.seed, keepDifferences: options.maxDifferences, onProgress });
  progress.end();
  return { file: name, ...result };
}

async function run(files: readonly string[], options: Options): Promise<void> {
  const results: FileConformance[] = [];
  const progress = new Progress(process.stderr);
  let broken = false;
  let unsupported = false;
  for (const file of files) {
    try {
      const result = await conformFile(file, options, progress);
      results.push(result);
      if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    } catch (error) {
      progress.end();
      if (error instanceof UnsupportedUnit) unsupported = true;
      else broken = true;
      process.stderr.write(`ioasid conform: ${file === "-" ? "stdin" : file}: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
  if (!options.json && results.length) process.stdout.write(`${conformTable(results)}\n`);
  for (const line of differenceLines(results)) process.stderr.write(`${line}\n`);
  if (broken) process.exitCode = EXIT_FAILURE;
  else if (unsupported) process.exitCode = EXIT_USAGE;
  else if (results.some((result) => result.different > 0)) process.exitCode = EXIT_MISMATCH;
}

export function conformCommand(): Command {
  return new Command("conform")
    .description("answer translation vectors with every walker, cold and warm, and compare with the recorded answers")
    .argument("<vectors...>", "files of the format iommu-vectors/1 (.json or .json.gz), - for standard input")
    .option("--json", "one JSON object per file on standard output, nothing else there")
    .option("--seed <n>", "seed of the shuffled order of the warm passes", integer(0, 0xffffffff), 1)
    .option("--max-differences <n>", "differences that are shown in full for each file", integer(0, 1_000_000), 10)
    .addHelpText("after", `
Each query goes through the exact walker, the scalar call and the batch with nothing cached, then again warm and shuffled. All must
agree with each other and with the recorded answer: outcome, address, permissions, page size, fault and record. Queries whose recorded
answer is known to differ from the architecture (their quirk) are counted and skipped.

Exit codes: 0 no difference, 1 a file that cannot be read or breaks the format, 2 usage or a kind of IOMMU that is not supported,
3 an answer differs (the first ones are named on standard error).

Examples:
  ioasid conform test/vectors/*.json.gz
  ioasid conform --json --max-differences 100 vtd-legacy-aw48.json.gz`)
    .action((files: string[], options: Options) => run(files, options));
}
