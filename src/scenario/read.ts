// Reads a scenario: the schema first, then what a schema cannot say: requests that exist, names that an earlier step bound, devices of
// the host. Imports the uAPI's table of requests and its own folder. Steps count from 1.
import { findRequest } from "../uapi/requests.js";
import { verbOf, type DmaStep, type Json, type Scenario, type Step } from "./scenario.js";
import { ScenarioError } from "./scenario-error.js";
import { SCHEMA } from "./schema.js";
import { shown, Validator } from "./validate.js";
import { CONSTANTS } from "./values.js";

const validator = new Validator(SCHEMA);
const STEP = /^\$\.steps\[(\d+)\]/;
/** What createHost makes without any. */
const DEFAULT_DEVICES = [{ name: "dev1" }];
/** Texts of a step that are no values. */
const TEXTS = new Set(["note", "as", "pending", "open"]);

/** The scenario in a text. Throws ScenarioError, which names step and path. */
export function parseScenario(text: string): Scenario {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ScenarioError("", `is no JSON: ${syntaxReason((cause as Error).message, text)}`, undefined, { cause });
  }
  return checkScenario(json);
}

/** V8 gives the place as an offset, where it gives one. */
function syntaxReason(message: string, text: string): string {
  return message.replace(/ in JSON at position (\d+).*$/s, (_all, offset) => {
    const before = text.slice(0, Number(offset)).split("\n");
    return ` in line ${before.length}, column ${before.at(-1)!.length + 1}`;
  });
}

/** The same for a value that is parsed already. */
export function checkScenario(json: unknown): Scenario {
  const problem = validator.check(json);
  if (problem) {
    const index = STEP.exec(problem.path)?.[1];
    throw new ScenarioError(problem.path, problem.reason, index === undefined ? undefined : Number(index) + 1);
  }
  const scenario = json as Scenario;
  checkSteps(scenario);
  return scenario;
}

function checkSteps({ host, steps }: Scenario): void {
  const devices = new Set((host?.devices ?? DEFAULT_DEVICES).map(({ name }) => name));
  const bound = new Set<string>();
  for (const [i, step] of steps.entries()) {
    const refuse = (path: string, reason: string): never => {
      throw new ScenarioError(`$.steps[${i}]${path}`, reason, i + 1);
    };
    checkRequest(step, refuse);
    checkDevice(step, devices, refuse);
    for (const [path, name] of namesIn(step)) {
      const [first = ""] = name.split(".");
      if (bound.has(first) || CONSTANTS.has(name)) continue;
      refuse(path, `no earlier step is called "${first}", and the uAPI has no such constant`);
    }
    if ("dma" in step) checkPending(step, steps.slice(i + 1), refuse);
    for (const key of ["as", "pending"] as const) {
      const name = (step as { readonly as?: string; readonly pending?: string })[key];
      if (name === undefined) continue;
      if (CONSTANTS.has(name)) refuse(`.${key}`, `"${name}" is a constant of the uAPI`);
      bound.add(name);
    }
  }
}

/** What a pending access ends with is said by the step that waits for it. */
function checkPending(step: DmaStep, later: readonly Step[], refuse: Refuse): void {
  if (step.pending === undefined) {
    if (step.timeout !== undefined) refuse(".timeout", "only pending DMA waits");
    return;
  }
  if (step.timeout !== undefined && step.work !== undefined) refuse(".timeout", "how long work waits is the device's");
  if (step.expect !== undefined) refuse(".expect", "the step that waits for pending DMA says what it ends with");
  if (!later.some((each) => "wait" in each && each.wait === `$${step.pending}`)) refuse(".pending", `no later step waits for "${step.pending}"`);
}

type Refuse = (path: string, reason: string) => never;

function checkRequest(step: Step, refuse: Refuse): void {
  if (!("ioctl" in step) || step.ioctl.startsWith("0x")) return;
  if (findRequest(CONSTANTS.get(step.ioctl)) === undefined) refuse(".ioctl", `there is no request ${shown(step.ioctl)}`);
}

function checkDevice(step: Step, devices: ReadonlySet<string>, refuse: Refuse): void {
  const verb = verbOf(step);
  if (verb !== "dma" && verb !== "translate" && verb !== "enqcmd") return;
  if ("pasid" in step && "work" in step) refuse(".work", "the work says which PASID it is");
  const device = (step as unknown as Record<string, string>)[verb]!;
  if (!devices.has(device)) refuse(`.${verb}`, `the host has no device ${shown(device)}, but ${[...devices].join(", ")}`);
}

/** Path and name of each "$name" in a step. */
function* namesIn(step: Step): Generator<[string, string]> {
  for (const [key, value] of Object.entries(step)) if (!TEXTS.has(key)) yield* namesOf(value as Json, `.${key}`);
}

function* namesOf(value: Json, path: string): Generator<[string, string]> {
  if (typeof value === "string" && value.startsWith("$")) yield [path, value.slice(1)];
  if (typeof value !== "object" || value === null) return;
  for (const [key, each] of Object.entries(value)) {
    yield* namesOf(each as Json, Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`);
  }
}
