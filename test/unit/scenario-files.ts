// The scenario files of the package and of the tests.
import { readdirSync, readFileSync } from "node:fs";

export const SCENARIOS: readonly string[] = ["scenarios", "test/scenarios"].flatMap((folder) =>
  readdirSync(folder).filter((name) => name.endsWith(".json")).map((name) => `${folder}/${name}`));

export type Node = null | boolean | number | string | Node[] | { [key: string]: Node };

export function readJson(name: string): { [key: string]: Node } {
  return JSON.parse(readFileSync(name, "utf8")) as { [key: string]: Node };
}
