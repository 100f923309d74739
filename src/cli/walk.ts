// `ioasid walk`: the path of one translation, level by level, for a query of a vector file or a request of a trace.
import { Command, InvalidArgumentError } from "commander";
import { readTrace } from "../trace/read-node.js";
import { recordedOn } from "../trace/recorded-on.js";
import { planSegments } from "../trace/segments.js";
import { requestPath } from "../trace/walk-at.js";
import { queryPath } from "../vectors/path.js";
import { readVectors } from "../vectors/read-node.js";
import { EXIT_USAGE } from "./exit-codes.js";
import { addIommuOptions, chosenIommu, type IommuChoice } from "./iommu-options.js";
import { Progress } from "./progress.js";
import { jsonText, pathText, type Path } from "./walk-table.js";

interface Options extends IommuChoice {
  case?: number;
  query?: number;
  line?: number;
  json?: boolean;
}

function index(text: string): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || n > 0xffffffff) throw new InvalidArgumentError("It must be an integer from 0 on.");
  return n;
}

async function tracePath(file: string, line: number, options: Options): Promise<Path> {
  const progress = new Progress(process.stderr);
  try {
    progress.begin("reading");
    const trace = planSegments(await readTrace(file === "-" ? process.stdin : file, (read, total) => progress.set(read, total)));
    progress.begin(`replaying to line ${line}`);
    const host = { iommus: [{ ...chosenIommu(options, recordedOn(trace)), reserved: [] }] };
    return await requestPath(trace, line, { host, onProgress: (events) => progress.set(events, line) });
  } finally {
    progress.end();
  }
}

async function run(file: string, options: Options, command: Command): Promise<void> {
  const ofTrace = options.line !== undefined;
  const ofVectors = options.case !== undefined && options.query !== undefined;
  if (ofTrace === ofVectors || (ofTrace && (options.case !== undefined || options.query !== undefined))) {
    command.error("error: give --line for a trace, or --case and --query for vectors", { exitCode: EXIT_USAGE });
  }
  const hostOption = (["iommu", "granule", "stage", "addressWidth"] as const).find((name) => options[name] !== undefined);
  if (!ofTrace && hostOption) command.error("error: vectors name their own IOMMU: no host IOMMU can be chosen for them", { exitCode: EXIT_USAGE });
  const shown = file === "-" ? "stdin" : file;
  try {
    const path: Path = ofTrace
      ? await tracePath(file, options.line!, options)
      : await queryPath(readVectors(file === "-" ? 0 : file), options.case!, options.query!);
    process.stdout.write(options.json ? `${jsonText(path)}\n` : `${pathText(path)}\n`);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(message.startsWith(shown) ? message : `${shown}: ${message}`, { cause: error });
  }
}

export function walkCommand(): Command {
  return addIommuOptions(new Command("walk")
    .description("show the path of one translation: structures, table entries of both stages, the answer")
    .argument("<file>", "vectors (iommu-vectors/1) or a trace, gzip or plain; - for standard input")
    .option("--case <id>", "vectors: the case", index)
    .option("--query <n>", "vectors: the query, counted from 0 in its case", index)
    .option("--line <n>", "trace: the line of the DMA request; tables are as the events before it left them", index)
    .option("--json", "one JSON object on standard output, nothing else there"))
    .addHelpText("after", `
Levels count from 0 at the leaf table. Addresses are those that the tables use: guest-physical in vectors, intermediate below a stage 2,
memory offsets of the engine in a trace. The permissions of a pointer are what the stage's path down to it leaves.

Exit codes: 0 shown, 1 a file that cannot be read or has no such case, query or request, 2 usage.

Examples:
  ioasid walk vtd-legacy-aw48.json.gz --case 3 --query 17
  ioasid walk --json smmuv3-nested-4k.json.gz --case 2 --query 162
  ioasid walk vtd-legacy-strict-nvme.trace.gz --line 9000`)
    .action((file: string, options: Options, command: Command) => run(file, options, command));
}
