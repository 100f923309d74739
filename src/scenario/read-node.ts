// Reads a scenario file. For Node only.
import { readFileSync } from "node:fs";
import { parseScenario } from "./read.js";
import type { Scenario } from "./scenario.js";
import { ScenarioError } from "./scenario-error.js";

const REASONS: Readonly<Record<string, string>> = { ENOENT: "no such file", EACCES: "permission denied", EISDIR: "is a directory" };

/** Throws ScenarioError, whose message does not name the file. `file` may be 0: standard input. */
export function readScenario(file: string | number): Scenario {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ScenarioError("", REASONS[code ?? ""] ?? (error as Error).message, undefined, { cause: error });
  }
  return parseScenario(text);
}
