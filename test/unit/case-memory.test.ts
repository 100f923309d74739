// A case's memory in an engine: words where they are given, zeros in the rest of RAM, nothing elsewhere.
import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import { SlotMemory } from "../../src/iommu/structures/slot-memory.js";
import { CaseMemory, roomFor } from "../../src/vectors/case-memory.js";
import type { MemoryRun, RamRange, VectorCase, VectorFile } from "../../src/vectors/vectors.js";

const GIB = 0x40000000n;
const RAM: RamRange[] = [{ first: 0x1000000n, length: 0x7f000000n }, { first: 4n * GIB, length: 6n * GIB }];

function caseOf(...memory: MemoryRun[]): VectorCase {
  return { id: 3, style: "", top: { kind: "vtd", root: 0n }, memory, queries: [] };
}

const run = (gpa: bigint, ...words: bigint[]): MemoryRun => ({ gpa, words: BigUint64Array.from(words) });

async function load(ram: readonly RamRange[], ...cases: VectorCase[]) {
  const file = { unit: { ram }, cases } as unknown as VectorFile;
  const { ram: bytes, slots } = roomFor(file);
  const engine = await Engine.create({ memory: { ram: bytes, arena: 4 << 20 }, slots, routes: 8, domains: 1, ports: { count: 1, lanes: 16 } });
  const memory = new CaseMemory(engine, ram);
  const read = new SlotMemory(engine);
  return { memory, read: (gpa: bigint) => read.read64(gpa) };
}

describe("memory of a case", () => {
  it("has RAM above 4 GiB, larger than the engine's memory, in pages of words and pages of zeros", async () => {
    const one = caseOf(run(0x1000ff8n, 1n, 2n), run(7n * GIB, 3n), run(10n * GIB - 8n, 4n));
    const { memory, read } = await load(RAM, one);
    memory.load(one);
    expect([0x1000ff8n, 0x1001000n, 7n * GIB, 10n * GIB - 8n].map(read)).toEqual([1n, 2n, 3n, 4n]);
    expect([0x1000000n, 0x1002000n, 0x7ffffff8n, 4n * GIB, 7n * GIB + 8n, 9n * GIB].map(read)).toEqual([0n, 0n, 0n, 0n, 0n, 0n]);
    expect([0xfffff8n, 0x80000000n, 4n * GIB - 8n, 10n * GIB, 1n << 60n].map(read)).toEqual([undefined, undefined, undefined, undefined, undefined]);
  });

  it("is replaced by the next case", async () => {
    const first = caseOf(run(0x1000000n, 1n), run(5n * GIB, 2n));
    const second = caseOf(run(5n * GIB + 8n, 3n));
    const { memory, read } = await load(RAM, first, second);
    memory.load(first);
    memory.load(second);
    expect([0x1000000n, 5n * GIB, 5n * GIB + 8n].map(read)).toEqual([0n, 0n, 3n]);
    memory.unload();
    expect(read(5n * GIB + 8n)).toBeUndefined();
  });

  it("joins adjacent pages, but not across the end of a range", async () => {
    const ram = [{ first: 0x1000n, length: 0x2000n }, { first: 0x3000n, length: 0x1000n }];
    const one = caseOf(run(0x2ff0n, 1n, 2n), run(0x3000n, 3n));
    const { memory, read } = await load(ram, one);
    memory.load(one);
    expect([0x1000n, 0x2ff0n, 0x2ff8n, 0x3000n, 0x3008n].map(read)).toEqual([0n, 1n, 2n, 3n, 0n]);
  });

  it("has no words outside RAM", async () => {
    const one = caseOf(run(0x1000000n, 1n), run(0x80000000n - 8n, 1n, 2n));
    const { memory } = await load(RAM, one);
    expect(() => memory.load(one)).toThrow("case 3, memory[1]: 0x7ffffff8 is outside the RAM that the unit lists");
  });
});
