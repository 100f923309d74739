// `ioasid replay`: every DMA of recorded traces through the whole stack, every answer compared with the recorded one.
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { modelOf, type IommuModel } from "../iommu/model.js";
import { recordedOn } from "../trace/recorded-on.js";
import { planSegments } from "../trace/segments.js";
import { readTrace } from "../trace/read-node.js";
import { replay, type ReplayResult } from "../trace/replay.js";
import { EXIT_FAILURE, EXIT_MISMATCH } from "./exit-codes.js";
import { addIommuOptions, chosenIommu, type IommuChoice } from "./iommu-options.js";
import { Progress } from "./progress.js";
import { mismatchLines, resultTable } from "./replay-table.js";

const BUNDLED = fileURLToPath(new URL("../../traces/vtd-legacy-strict-nvme.trace.gz", import.meta.url));

interface Options extends IommuChoice {
  json?: boolean;
  repeat: number;
  threads: number;
}

/** One file's outcome: the sums over its runs, and what did not match in any of them. */
export interface FileResult extends ReplayResult {
  file: string;
  /** The host IOMMU's preset, the format of its tables and their input bits. */
  iommu: string;
  format: string;
  addressWidth: number;
  repeat: number;
  /** Worker threads that did the DMA; 0: the host's own thread. */
  threads: number;
  iotlbHitRate: number;
  translationsPerSecond: number;
  eventsPerSecond: number;
}

function positive(text: string): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || n < 1 || n > 1_000_000) throw new InvalidArgumentError("It must be an integer in 1..1000000.");
  return n;
}

function threadCount(text: string): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || n > 64) throw new InvalidArgumentError("It must be an integer in 0..64.");
  return n;
}

function sum(file: string, threads: number, { preset, formatName, inputWidth }: IommuModel, runs: readonly ReplayResult[]): FileResult {
  const [first] = runs;
  if (!first) throw new Error("no run was made");
  const total = { ...first, faultReasons: { ...first.faultReasons }, ports: runs.at(-1)?.ports ?? [] };
  for (const run of runs.slice(1)) {
    for (const key of ["events", "maps", "unmaps", "invalidations", "requests", "translations", "iotlbMisses", "faults",
      "staleRefused", "mismatches", "translateSeconds", "seconds"] as const) total[key] += run[key];
    for (const [reason, n] of Object.entries(run.faultReasons)) total.faultReasons[reason] = (total.faultReasons[reason] ?? 0) + n;
  }
  return {
    file, iommu: preset, format: formatName, addressWidth: inputWidth, repeat: runs.length, threads, ...total,
    iotlbHitRate: total.translations ? 1 - total.iotlbMisses / total.translations : 0,
    translationsPerSecond: total.translateSeconds ? Math.round(total.translations / total.translateSeconds) : 0,
    eventsPerSecond: total.seconds ? Math.round(total.events / total.seconds) : 0,
  };
}

async function replayFile(file: string, options: Options, progress: Progress): Promise<FileResult> {
  const name = file === "-" ? "stdin" : basename(file);
  progress.begin(`reading ${name}`);
  const trace = planSegments(await readTrace(file === "-" ? process.stdin : file, (read, total) => progress.set(read, total)));
  // Other machines' traces use what VT-d and AMD-Vi reserve for interrupts: nothing is reserved here.
  const iommu = { ...chosenIommu(options, recordedOn(trace)), reserved: [] };
  const model = modelOf(iommu);
  const runs: ReplayResult[] = [];
  const host = { iommus: [iommu] };
  const { threads } = options;
  progress.begin(`replaying ${name}`);
  const onProgress = (events: number): void => progress.set(runs.length * trace.length + events, options.repeat * trace.length);
  for await (const run of replay(trace, options.repeat, { host, threads, onProgress })) runs.push(run);
  progress.end();
  return sum(name, threads, model, runs);
}

async function run(files: readonly string[], options: Options): Promise<void> {
  const results: FileResult[] = [];
  const progress = new Progress(process.stderr);
  let failed = false;
  for (const file of files.length ? files : [BUNDLED]) {
    try {
      const result = await replayFile(file, options, progress);
      results.push(result);
      if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    } catch (error) {
      progress.end();
      failed = true;
      process.stderr.write(`ioasid replay: ${file === "-" ? "stdin" : file}: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
  if (!options.json && results.length) process.stdout.write(`${resultTable(results)}\n`);
  for (const line of mismatchLines(results)) process.stderr.write(`${line}\n`);
  if (failed) process.exitCode = EXIT_FAILURE;
  else if (results.some((result) => result.mismatches > 0)) process.exitCode = EXIT_MISMATCH;
}

export function replayCommand(): Command {
  return addIommuOptions(new Command("replay")
    .description("replay DMA traces through the whole stack and compare every answer with the recorded one")
    .argument("[files...]", "traces (.trace or .trace.gz), - for standard input; default: the bundled trace")
    .option("--json", "one JSON object per file on standard output, nothing else there")
    .option("--repeat <n>", "replay each file n times on one host", positive, 1)
    .option("--threads <n>", "do the DMA on n worker threads, each with a port of its own; 0: on the host's thread", threadCount, 0))
    .addHelpText("after", `
Exit codes: 0 all answers equal, 1 failure, 2 usage, 3 an answer differs (the first ones are named on standard error).
Answers marked stale in a trace used a mapping that was already removed: they must be refused here, and are counted apart.

Examples:
  ioasid replay
  ioasid replay --repeat 20 trace.gz
  ioasid replay --threads 2
  zcat trace.gz | ioasid replay --json -`)
    .action((files: string[], options: Options) => run(files, options));
}
