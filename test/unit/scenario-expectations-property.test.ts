// Every expectation of the bundled scenarios can fail, and then ends the run: one leaf of it made wrong at a time.
import { expect, it } from "vitest";
import { readJson, reports, SCENARIOS, type Node } from "./scenario-files.js";

/** npm run test:long tries every leaf, other runs the first of each expectation. */
const LONG = process.env["IOASID_TEST"] === "long";

/** The same with something else in one place: a number one higher, another text, a list one longer. */
function wrong(node: Node): Node {
  if (typeof node === "number") return node + 1;
  if (typeof node === "boolean") return !node;
  if (typeof node === "string") return /^0x/.test(node) ? `0x${(BigInt.asUintN(64, BigInt(node) + 1n)).toString(16)}` : `${node}x`;
  return Array.isArray(node) ? [...node, 0] : 0;
}

/** Fields of which the schema allows only some values: two of them. */
const VALID: Record<string, readonly Node[]> = { errno: ["EBUSY", "ENOENT"], reason: ["blocked", "reserved"], bytes: ["00 11", "0f"], stage: [1, 2] };

/** Every expectation with one leaf made wrong. */
function* spoilt(node: Node, key = ""): Generator<Node> {
  const others = VALID[key];
  if (others) yield others.find((other) => other !== node)!;
  else if (typeof node === "string" && node.startsWith("$")) yield 0xdead;
  else if (key === "length") return;
  else if (typeof node !== "object" || node === null) yield wrong(node);
  else if (Array.isArray(node)) yield key === "words" ? node.map(wrong) : wrong(node);
  else for (const [name, each] of Object.entries(node)) for (const other of spoilt(each, name)) yield { ...node, [name]: other };
}

it.each(SCENARIOS)("%s: every expectation can fail, and then ends the run", async (name) => {
  const { host = {}, ...json } = readJson(name) as { [key: string]: Node; host?: { [key: string]: Node } };
  // Page tables are few here: a small arena is made faster, hundreds of times.
  const small = { ...host, memory: { ram: "0x400000", arena: "0x1000000" } };
  const steps = json["steps"] as { [key: string]: Node }[];
  let tried = 0;
  for (const [i, step] of steps.entries()) {
    const all = "expect" in step ? [...spoilt(step["expect"]!)] : [];
    for (const expect of LONG ? all : all.slice(0, 1)) {
      const run = await reports({ ...json, host: small, steps: [...steps.slice(0, i), { ...step, expect }, ...steps.slice(i + 1)] });
      if (!run.at(-1)!.mismatch || run.length !== i + 1) throw new Error(`step ${i + 1} accepts ${JSON.stringify(expect)}`);
      tried++;
    }
  }
  expect(tried).toBeGreaterThan(0);
}, 60_000);
