// The scenario files of the package and of the tests, and what running one reports.
import { readdirSync, readFileSync } from "node:fs";
import { checkScenario } from "../../src/scenario/read.js";
import { ScenarioRun, type StepReport } from "../../src/scenario/run.js";

export const SCENARIOS: readonly string[] = ["scenarios", "test/scenarios"].flatMap((folder) =>
  readdirSync(folder).filter((name) => name.endsWith(".json")).map((name) => `${folder}/${name}`));

export type Node = null | boolean | number | string | Node[] | { [key: string]: Node };

export function readJson(name: string): { [key: string]: Node } {
  return JSON.parse(readFileSync(name, "utf8")) as { [key: string]: Node };
}

export async function reports(json: unknown): Promise<StepReport[]> {
  const run = await ScenarioRun.start(checkScenario(json));
  const all: StepReport[] = [];
  for await (const report of run.steps()) all.push(report);
  return all;
}
