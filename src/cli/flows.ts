// `ioasid flows`: the flows of the RFC's section 5 as bundled scenarios, each step shown with what it leaves behind.
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { readScenario } from "../scenario/read-node.js";
import { EXIT_MISMATCH, EXIT_USAGE } from "./exit-codes.js";
import { failureLine, runFile, runScenario, shownStep, type FileOutcome } from "./scenario-run.js";
import { jsonText } from "./walk-table.js";

const FOLDER = fileURLToPath(new URL("../../scenarios/", import.meta.url));
/** rfc-<section>.json, or a variant of it: rfc-<section>-<what>.json. */
const NAME = /^rfc-(\d+\.\d+)(?:-[\w-]+)?$/;

interface Options {
  json?: boolean;
}

/** Section and file name of every bundled flow, a section's own before its variants. */
function bundled(): { section: string; file: string }[] {
  const names = readdirSync(FOLDER).map((name) => name.replace(/\.json$/, "")).sort(new Intl.Collator("en", { numeric: true }).compare);
  return names.flatMap((name) => {
    const section = NAME.exec(name)?.[1];
    return section === undefined ? [] : [{ section, file: `${name}.json` }];
  });
}

/** The outcome with every step, its state and path. */
async function jsonOf(file: string): Promise<FileOutcome & { readonly detail: unknown[] }> {
  const detail: unknown[] = [];
  const outcome = await runScenario(file, readScenario(FOLDER + file), (step, report, run) => {
    const { step: number, verb, text, note, outcome } = report;
    const { state, path } = shownStep(step, report, run);
    detail.push({ step: number, verb, text, ...(note === undefined ? {} : { note }), outcome, state, ...(path ? { path } : {}) });
  });
  return { ...outcome, detail };
}

async function run(sections: readonly string[], options: Options, command: Command): Promise<void> {
  const flows = bundled();
  const known = [...new Set(flows.map(({ section }) => section))];
  const unknown = sections.find((section) => !known.includes(section));
  if (unknown !== undefined) command.error(`error: there is no flow '${unknown}'; there are ${known.join(", ")}`, { exitCode: EXIT_USAGE });
  for (const { section, file } of flows) {
    if (sections.length && !sections.includes(section)) continue;
    const print = (line: string): void => void process.stdout.write(`${line}\n`);
    const outcome = options.json ? await jsonOf(file) : await runFile(FOLDER + file, file, print);
    if (options.json) print(jsonText(outcome));
    if (outcome.ok) continue;
    process.stderr.write(`${failureLine(outcome)}\n`);
    process.exitCode = EXIT_MISMATCH;
  }
}

export function flowsCommand(): Command {
  return new Command("flows")
    .description("run the flows of the RFC's section 5 and show each call, its result and the state after it")
    .argument("[sections...]", "sections of the RFC, as 5.3; default: all that are bundled")
    .option("--json", "one JSON object per flow on standard output, nothing else there")
    .addHelpText("after", `
After a step that changes it the state is shown: the tree of ioasids with what each translates, the devices attached there (in brackets
those whose DMA does not go there), and the charge. DMA is shown with its way: the address in each ioasid, in the process (hva) and on the bus
(hpa), and the entries of the tables that the IOMMU walks.

Exit codes: 0 all as expected, 1 failure, 2 usage, 3 a step is not as expected (it is named on standard error).

Examples:
  ioasid flows
  ioasid flows 5.3 5.4
  ioasid flows --json 5.2`)
    .action((sections: string[], options: Options, command: Command) => run(sections, options, command));
}
