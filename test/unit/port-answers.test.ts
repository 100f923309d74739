// Scalar calls and batches against the exact walker: equal where nothing is wrong, and a disagreement named where a port says
// something else. A small VT-d case in legacy mode (9.1, 9.3, 9.8).
import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import { exactAnswer } from "../../src/vectors/answer.js";
import { CaseMemory } from "../../src/vectors/case-memory.js";
import { CaseWorld } from "../../src/vectors/case-world.js";
import { ask, askBatch, askExact, askScalar, forget, type Asked } from "../../src/vectors/port-answers.js";
import type { Query, UnitSpec, VectorCase } from "../../src/vectors/vectors.js";

const BASE = 0x100000000n;
const SPEC: UnitSpec = { kind: "vtd", mode: "legacy", cap: 0x80d2008c222f0606n, ecap: 0xf00f4an, haw: 48, ram: [{ first: BASE, length: 0x100000n }] };
const TRANSLATED = 0x10;
const PASSED = 0x18;
const ABSENT = 0x20;

const run = (offset: bigint, ...words: bigint[]) => ({ gpa: BASE + offset, words: BigUint64Array.from(words) });
const query = (rid: number, iova: bigint, write: boolean): Query => ({ rid, iova, write, expect: {} });

const CASE: VectorCase = {
  id: 0, style: "", top: { kind: "vtd", root: BASE },
  memory: [
    run(0n, BASE + 0x1001n), run(0x1100n, BASE + 0x2001n, 0x102n), run(0x1180n, 9n, 0x102n),
    run(0x2000n, BASE + 0x3003n), run(0x3000n, BASE + 0x4003n), run(0x4000n, BASE + 0x5003n, 0x200083n), run(0x5008n, 0x7003n, 0x8001n),
  ],
  queries: [
    query(TRANSLATED, 0x1234n, true), query(TRANSLATED, 0x1234n, false), query(TRANSLATED, 0x2000n, true), query(TRANSLATED, 0x0n, false),
    query(TRANSLATED, 0x234567n, false), query(TRANSLATED, 1n << 48n, false), query(PASSED, 0x123456789abcn, true), query(ABSENT, 0x1000n, false),
  ],
};

async function open() {
  const engine = await Engine.create({ memory: { ram: 0x10000, arena: 4 << 20 }, slots: 32, routes: 16, domains: 4, ports: { count: 2, lanes: 16 } });
  new CaseMemory(engine, SPEC.ram).load(CASE);
  const world = new CaseWorld(engine, SPEC, CASE);
  const all = CASE.queries.map((each, i) => ask(each, i, exactAnswer(world, each)));
  const said: string[] = [];
  const disagreed = (asked: Asked, field: string, expected: string, got: string): void => void said.push(`${asked.index} ${field}: ${expected} / ${got}`);
  return { engine, world, all, said, disagreed, port: engine.openPort() };
}

describe("a port that agrees", () => {
  it("is asked cold and warm, one by one and in batches", async () => {
    const { engine, world, all, said, disagreed, port } = await open();
    expect(all.map(({ answer }) => answer.fault?.name ?? answer.pa)).toEqual([
      0x7234n, 0x7234n, "write-not-permitted", "read-not-permitted", 0x234567n, "address-beyond-width", 0x123456789abcn, "context-entry-not-present",
    ]);
    for (const cold of [true, false]) askScalar(engine, port, all, cold, disagreed);
    forget(engine, all);
    askBatch(port, all, disagreed);
    askBatch(port, [...all, ...all, ...all].reverse(), disagreed);
    askExact(engine, all, disagreed);
    expect(said).toEqual([]);
    expect(port.counters.misses).toBeLessThan(port.counters.translations);
    world.close();
  });

  it("leaves no domain and no route behind", async () => {
    const { engine, world, all } = await open();
    const { domain, route } = all[0]!;
    expect(engine.routeDomain(route)).toBe(domain);
    world.close();
    expect(engine.routeDomain(route)).toBeUndefined();
  });
});

describe("a disagreement", () => {
  it("of result, run and every field of a record is named", async () => {
    const { engine, all, said, disagreed, port } = await open();
    const [translated, , denied, , large] = all as [Asked, Asked, Asked, Asked, Asked];
    askScalar(engine, port, [{ ...translated, low: 0x7235 }], true, disagreed);
    askScalar(engine, port, [{ ...large, high: large.high ^ (1 << 24) }], true, disagreed);
    askBatch(port, [{ ...denied, low: denied.low ^ 1 }], disagreed);
    askExact(engine, [{ ...denied, answer: { ...denied.answer, walk: { ...denied.answer.walk!, perm: 0x33 } } }], disagreed);
    askBatch(port, [{ ...denied, query: { ...denied.query, rid: 3 } }], disagreed);
    expect(said).toEqual([
      "0 result: 0x7235, 2^12 bytes / 0x7234, 2^12 bytes", "4 result: 0x234567, 2^20 bytes / 0x234567, 2^21 bytes",
      expect.stringMatching(/^2 result: refused: .* \/ refused: write-denied, level 0$/), "2 perm: 51 / 17", "2 fault record's rid: 3 / 16",
    ]);
  });
});
