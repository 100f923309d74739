// The schema of scenarios, and our reader of it against a validator that others wrote: on every bundled file, and on every file that
// one change to a bundled file makes.
import { readFileSync } from "node:fs";
import { Ajv, type ValidateFunction } from "ajv";
import { describe, expect, it } from "vitest";
import { checkScenario } from "../../src/scenario/read.js";
import { SCHEMA } from "../../src/scenario/schema.js";
import { Validator } from "../../src/scenario/validate.js";
import { readJson, SCENARIOS, type Node } from "./scenario-files.js";

// The schema says `properties` once and `required` in places without: what the strict mode is against is meant.
const ajv: ValidateFunction = new Ajv({ strictRequired: false, allowUnionTypes: true }).compile(SCHEMA);
const ours = new Validator(SCHEMA);

const REPLACEMENTS: readonly Node[] = [null, true, -1, 0, 1, 1.5, 2 ** 53, "", "0x", "0x10", "0x10000000000000000", "$a", "$a.b", "$", "process", "zz", [], [1], {}, { errno: "EBUSY" },
  { errno: "EWHAT" }, { fault: { reason: "blocked" } }, { bytes: "00" }, { hva: "0x1" }];

/** Every value with one thing changed: a node replaced, left out, or given one more property. */
function* changed(node: Node): Generator<Node> {
  yield* REPLACEMENTS;
  if (typeof node !== "object" || node === null) return;
  if (Array.isArray(node)) {
    yield [];
    for (const [i, each] of node.entries()) for (const other of changed(each)) yield node.with(i, other);
    return;
  }
  for (const key of ["extra", "note", "as", "expect", "length", "read", "write", "fd"]) if (!(key in node)) yield { ...node, [key]: "0x10" };
  for (const [key, each] of Object.entries(node)) {
    yield Object.fromEntries(Object.entries(node).filter(([other]) => other !== key));
    for (const other of changed(each)) yield { ...node, [key]: other };
  }
}

/** Each step once for all files that have it, alone in a scenario; then the head of each file with one step. */
function* small(): Generator<[string, Node]> {
  const seen = new Set<string>();
  for (const name of SCENARIOS) {
    const { steps, ...head } = readJson(name);
    yield [name, { ...head, steps: (steps as Node[]).slice(0, 1) }];
    for (const step of steps as Node[]) {
      const shape = JSON.stringify(step, (key, value: unknown) => (typeof value === "string" && key !== "ioctl" ? value.slice(0, 1) : value));
      if (!seen.has(shape)) yield [name, { scenario: 1, name: "one step", steps: [step] }];
      seen.add(shape);
    }
  }
}

describe("the schema", () => {
  it("is what docs/ has", () => {
    expect(JSON.parse(readFileSync("docs/scenario.schema.json", "utf8"))).toEqual(JSON.parse(JSON.stringify(SCHEMA)));
  });

  it.each(SCENARIOS)("accepts %s, as the reader does", (name) => {
    expect(ajv(readJson(name)), JSON.stringify(ajv.errors)).toBe(true);
    expect(() => checkScenario(readJson(name))).not.toThrow();
  });

  it("refuses what the validator of others refuses, and nothing else, after every single change", () => {
    let refused = 0;
    let accepted = 0;
    for (const [name, node] of small()) {
      for (const other of changed(node)) {
        const verdict = ajv(other);
        const problem = ours.check(other);
        if (verdict !== (problem === undefined)) {
          expect.fail(`${name}: ${JSON.stringify(other)}: ${verdict ? "accepted" : "refused"} by theirs, ours: ${problem?.path}: ${problem?.reason}`);
        }
        if (verdict) accepted++;
        else refused++;
      }
    }
    expect(refused).toBeGreaterThan(10_000);
    expect(accepted).toBeGreaterThan(1_000);
  });
});
