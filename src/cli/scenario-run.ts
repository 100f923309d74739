// Runs scenarios for `ioasid run` and `ioasid flows`: one file's outcome, and its steps as they are shown. Imports the scenarios' layer.
import { readScenario } from "../scenario/read-node.js";
import { pathOf } from "../scenario/path.js";
import { ScenarioRun, type StepReport } from "../scenario/run.js";
import type { Scenario, Step, Value } from "../scenario/scenario.js";
import { stateOf, type HostState } from "../scenario/state.js";
import { headLines, stepLines, type Shown, type ShownStep } from "./scenario-text.js";

/** Where a scenario has ended before its last step. */
export interface Failure {
  /** From 1 on, and the step as the RFC writes it. */
  readonly step: number;
  readonly text: string;
  /** Which part of the expectation, what it says, and what came out. */
  readonly what: string;
  readonly expected: string;
  readonly got: string;
}

export interface FileOutcome {
  readonly file: string;
  readonly name: string;
  readonly steps: number;
  /** Steps that were as expected. */
  readonly passed: number;
  readonly calls: number;
  readonly accesses: number;
  /** Refusals that were expected. */
  readonly refusals: number;
  readonly seconds: number;
  readonly ok: boolean;
  readonly failure?: Failure;
}

/** Called after each step, with the host as the step left it. */
export type OnStep = (step: Step, report: StepReport, run: ScenarioRun) => void;

export async function runScenario(file: string, scenario: Scenario, onStep: OnStep = () => {}): Promise<FileOutcome> {
  const start = performance.now();
  const run = await ScenarioRun.start(scenario);
  const count = { passed: 0, calls: 0, accesses: 0, refusals: 0 };
  let failure: Failure | undefined;
  for await (const report of run.steps()) {
    onStep(scenario.steps[report.step - 1]!, report, run);
    const { step, text, verb, mismatch, refusal } = report;
    if (verb === "ioctl") count.calls++;
    if (verb === "dma" || verb === "translate") count.accesses++;
    if (mismatch) failure = { step, text, ...mismatch };
    else count.passed++;
    if (refusal && !mismatch) count.refusals++;
  }
  const seconds = (performance.now() - start) / 1000;
  const ok = failure === undefined;
  return { file, name: scenario.name, steps: scenario.steps.length, ...count, seconds, ok, ...(failure ? { failure } : {}) };
}

export function failureLine({ file, failure }: FileOutcome): string {
  const { step, text, what, expected, got } = failure!;
  return `${file}: step ${step}: ${text}: ${what}: expected ${expected}, got ${got}`;
}

function pathOfStep(step: Step, run: ScenarioRun): ShownStep["path"] {
  const access = run.accessOf(step);
  if (access === undefined) return undefined;
  const [iova, write]: [Value, boolean] = "read" in access ? [access.read, false] : [access.write, true];
  return pathOf(run, "dma" in access ? access.dma : access.translate, run.pasidOf(access), BigInt(run.valueOf(iova)), write);
}

/** The step with the state after it, and the path of an access. */
export function shownStep(step: Step, report: StepReport, run: ScenarioRun): ShownStep & { readonly state: HostState } {
  const path = pathOfStep(step, run);
  return { report, state: stateOf(run), ...(path ? { path } : {}) };
}

/** Prints each step; of the state and the tables what has changed. */
export function stepPrinter(print: (line: string) => void): OnStep {
  const shown: Shown = { state: [], waiting: "", entries: new Set() };
  return (step, report, run) => {
    for (const line of stepLines(shownStep(step, report, run), shown)) print(line);
  };
}

/** Reads a file and runs it; with `print`, its head and each step are printed. Throws ScenarioError. */
export async function runFile(file: string | number, shownAs: string, print?: (line: string) => void): Promise<FileOutcome> {
  const scenario = readScenario(file);
  if (print) for (const line of headLines(scenario)) print(line);
  const outcome = await runScenario(shownAs, scenario, print && stepPrinter(print));
  if (print) print("");
  return outcome;
}
