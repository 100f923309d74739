// Accessed and dirty bits set while a guest writes the same entries on another thread: no write of either side is lost.
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import type { DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { askOne, fixture, VTD48, W } from "./engine-fixture.js";

/**
 * The guest's thread: until told to stop it takes the marks off the entry and counts up the field that software owns, by
 * compare-and-swap as an operating system does, without ever pausing. Answers how often it did.
 */
const guest = (unmarked: string): string => `
const { parentPort, workerData: { buffer, at, stop, step, field } } = require("node:worker_threads");
const unmarked = ${unmarked};
const words = new BigUint64Array(buffer, at, 1);
const stopped = new BigUint64Array(buffer, stop, 1);
let count = 0n;
parentPort.postMessage("begun");
while (Atomics.load(stopped, 0) === 0n) {
  const pte = Atomics.load(words, 0);
  const next = (unmarked(pte) & ~field) | ((pte + step) & field);
  if (Atomics.compareExchange(words, 0, pte, next) === pte) count++;
}
parentPort.postMessage(count);
`;

interface Marked {
  name: string;
  options: DomainOptions;
  /** A pointer without its address, a leaf at 0x5000, and what takes the marks off it (source for the guest's thread). */
  table: bigint;
  leaf: bigint;
  unmarked: string;
  isMarked: (pte: bigint) => boolean;
}

const ROOT = 0x1000n;
const LEAVES = 0x2000n;
const STOP = 0xf000n;
/** Bits 58..55 are software's own in both formats. */
const STEP = 1n << 55n;
const FIELD = 15n * STEP;
const FORMATS: Marked[] = [
  {
    name: "x86-64 (A 5, D 6)", options: { format: L.FORMAT_X86_64, levels: 4, width: 48, rule: "sign", outputWidth: 52 },
    table: 0x7n, leaf: 0x5007n, unmarked: "(pte) => pte & ~0x60n", isMarked: (pte) => (pte & 0x60n) === 0x60n,
  },
  {
    name: "Arm stage 1 (AF 10, AP[2] 7 under DBM 51)", options: { format: L.FORMAT_ARM_S1_4K, levels: 4, width: 48, outputWidth: 48 },
    table: 0x3n, leaf: 0x00080000000050c3n, unmarked: "(pte) => (pte & ~0x400n) | 0x80n", isMarked: (pte) => (pte & 0x480n) === 0x400n,
  },
];

describe("marks against a guest that never stops writing", () => {
  it.each(FORMATS.map((format) => [format.name, format] as const))("%s", async (_name, { options, table, leaf, unmarked, isMarked }) => {
    const { engine, port } = await fixture(VTD48, { memory: { ram: 1 << 20, arena: 8 << 20, shared: true } });
    engine.addSlot(0n, 0xffffn, "memory", engine.ram.offset);
    const word = (gpa: bigint): BigUint64Array => new BigUint64Array(engine.memory.buffer, engine.ram.offset + Number(gpa), 1);
    // Entry 0 of each table leads on to the leaf.
    for (let level = 0n; level < 3n; level++) word(ROOT + level * 0x2000n)[0] = table | (level < 2n ? ROOT + (level + 1n) * 0x2000n : LEAVES);
    word(LEAVES)[0] = leaf;
    const domain = engine.createDomain({ ...options, guestRoot: ROOT, accessed: "set", dirty: "set" });
    const route = engine.route(0x40);
    engine.attachRoute(route, domain);
    const worker = new Worker(guest(unmarked), {
      eval: true,
      workerData: { buffer: engine.memory.buffer, at: engine.ram.offset + Number(LEAVES), stop: engine.ram.offset + Number(STOP), step: STEP, field: FIELD },
    });
    const messages: unknown[] = [];
    const done = new Promise<bigint>((resolve, reject) => {
      worker.on("message", (message) => (typeof message === "bigint" ? resolve(message) : messages.push(message)));
      worker.on("error", reject);
    });
    while (messages.length === 0) await new Promise((resolve) => setImmediate(resolve));
    let [translated, refused] = [0, 0];
    while (translated < 2000 && refused < 2000) {
      engine.flushDomain(domain);
      if (askOne(port, route, 0x123n, W).hpa === 0x5123n) translated++;
      else refused++;
    }
    Atomics.store(word(STOP), 0, 1n);
    const count = await done;
    const before = word(LEAVES)[0]!;
    expect((before & FIELD) / STEP, "writes of the guest").toBe(count % 16n);
    engine.flushDomain(domain);
    expect(askOne(port, route, 0n, W).hpa).toBe(0x5000n);
    expect(isMarked(word(LEAVES)[0]!)).toBe(true);
    expect(refused, "walks that the guest outran 64 times").toBeLessThan(translated);
    await worker.terminate();
  });
});
