// A guest's stage 1 above tables of our own as stage 2: what changes below is seen above before the call returns, dirty bits
// of both stages, and what keeps a domain that others use from being destroyed.
import { describe, expect, it } from "vitest";
import type { DomainOptions, Engine } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { askOne, dirtyBytes, fixture, R, RW, VTD48, W, type Fixture } from "./engine-fixture.js";

interface Pair {
  stage1: DomainOptions;
  stage2: DomainOptions;
  /** Bits of a pointer, and of a leaf that may be written and is neither accessed nor dirty. */
  table: bigint;
  leaf: bigint;
  /** Accessed and dirty, in the leaf. */
  marked: (leaf: bigint) => boolean;
}

const PAIRS: [string, Pair][] = [
  ["x86-64 over VT-d second stage", {
    stage1: { format: L.FORMAT_X86_64, levels: 4, width: 48, rule: "sign", outputWidth: 46 }, stage2: { ...VTD48, outputWidth: 46 },
    table: 0x27n, leaf: 0x7n, marked: (leaf) => (leaf & 0x60n) === 0x60n,
  }],
  ["Arm stage 1 over stage 2", {
    stage1: { format: L.FORMAT_ARM_S1_4K, levels: 4, width: 48, outputWidth: 48 },
    stage2: { format: L.FORMAT_ARM_S2_4K, levels: 3, width: 40, outputWidth: 44 },
    table: 0x3n, leaf: 0x00080000000000c3n, marked: (leaf) => (leaf & 0x480n) === 0x400n,
  }],
];

const RAM = 0x1_0000_0000n;
/** The guest's pages: four tables, then a page of data. */
const TABLES = 4n;
const PAGE = 0x1000n;

/** gpa 0..0x4fff lies at RAM, read and write; iova 0x123000 leads to gpa 0x4000. */
async function nested({ stage1, stage2, table, leaf }: Pair, marks: Partial<DomainOptions> = {}, below: Partial<DomainOptions> = {}) {
  const its = await fixture({ ...stage2, ...below });
  const { engine, domain: second } = its;
  engine.addSlot(RAM, RAM + 0xffffn, "memory", engine.ram.offset);
  engine.map(second, 0n, TABLES * PAGE - 1n, RAM, RW);
  engine.map(second, TABLES * PAGE, (TABLES + 1n) * PAGE - 1n, RAM + TABLES * PAGE, RW);
  const words = new BigUint64Array(engine.memory.buffer, engine.ram.offset, 0x1000);
  words[0] = PAGE | table;
  words[512] = (2n * PAGE) | table;
  words[1024] = (3n * PAGE) | table;
  const leafAt = 1536 + 0x123;
  words[leafAt] = (TABLES * PAGE) | leaf;
  const first = engine.createDomain({ ...stage1, ...marks, guestRoot: 0n, stage2: second });
  engine.attachRoute(its.route, first);
  return { ...its, first, second, leafEntry: () => words[leafAt]! };
}

const IOVA = 0x123000n;
const GPA = TABLES * PAGE;
const ask = ({ port, route }: Fixture, need: number) => askOne(port, route, IOVA + 5n, need);

function remap(engine: Engine, domain: number, perm: number, hpa: bigint): void {
  engine.unmap(domain, GPA, GPA + PAGE - 1n);
  engine.map(domain, GPA, GPA + PAGE - 1n, hpa, perm);
}

describe.each(PAIRS)("%s", (_name, pair) => {
  const plain = { accessed: "ignore", dirty: "ignore" } as const;
  const writable: Pair = pair.stage1.format === L.FORMAT_ARM_S1_4K ? { ...pair, leaf: 0x443n } : pair;

  it("unmap, another page and other permissions of stage 2 are seen at once", async () => {
    const its = await nested(writable, plain);
    const { engine, second } = its;
    expect(ask(its, W)).toEqual({ hpa: RAM + GPA + 5n, runLg2: 12 });
    engine.unmap(second, GPA, GPA + PAGE - 1n);
    expect(ask(its, R)).toEqual({ fault: "not-present" });
    remap(engine, second, R, 0x7000n);
    expect(ask(its, R).hpa).toBe(0x7005n);
    expect(ask(its, W)).toEqual({ fault: "write-denied" });
    remap(engine, second, RW, 0x9000n);
    expect(ask(its, W).hpa).toBe(0x9005n);
  });

  it("a table of stage 1 that stage 2 lost is a fault of stage 2, class table, naming the entry's address", async () => {
    const its = await nested(writable, plain);
    const { engine, first, second } = its;
    expect(ask(its, R).hpa).toBe(RAM + GPA + 5n);
    engine.unmap(second, 0n, TABLES * PAGE - 1n);
    expect(ask(its, R)).toEqual({ fault: "not-present" });
    expect(engine.walk(first, IOVA, R)).toMatchObject({ reason: "not-present", stage: 2, class: "table", ipa: 0n });
  });

  it("a write marks both stages, and is cached writable only then", async () => {
    const marks = { accessed: "set", dirty: "set" } as const;
    const its = await nested(pair, marks, marks);
    const { engine, second, leafEntry } = its;
    const dirty = (clear: boolean): bigint => dirtyBytes(engine, second, GPA, GPA + PAGE - 1n, clear);
    expect(ask(its, R).hpa).toBe(RAM + GPA + 5n);
    expect([pair.marked(leafEntry()), dirty(false)]).toEqual([false, 0n]);
    expect(ask(its, W).hpa).toBe(RAM + GPA + 5n);
    expect([pair.marked(leafEntry()), dirty(false)]).toEqual([true, PAGE]);
    // The entry carries W now. Collecting the bits of stage 2 takes it away: the next write is seen again.
    expect(dirty(true)).toBe(PAGE);
    expect(ask(its, R).hpa).toBe(RAM + GPA + 5n);
    expect(dirty(false)).toBe(0n);
    expect(ask(its, W).hpa).toBe(RAM + GPA + 5n);
    expect(dirty(true)).toBe(PAGE);
  });

  it("stage 2 begins to track writes under a domain that uses it, and stops: entries carry W only while every stage allows it", async () => {
    const its = await nested(writable, plain);
    const { engine, second } = its;
    const dirty = (clear: boolean) => engine.collectDirty(second, GPA, GPA + PAGE - 1n, clear);
    const written = [{ first: GPA, last: GPA + PAGE - 1n }];
    // Cached with W, for the nested domain's own ids.
    expect(ask(its, W).hpa).toBe(RAM + GPA + 5n);
    expect(engine.trackDirty(second, true)).toBe(L.STATUS_OK);
    expect(dirty(false)).toEqual([]);
    expect(ask(its, R).hpa).toBe(RAM + GPA + 5n);
    expect(dirty(false)).toEqual([]);
    expect(ask(its, W).hpa).toBe(RAM + GPA + 5n);
    expect(dirty(true)).toEqual(written);
    expect(ask(its, W).hpa).toBe(RAM + GPA + 5n);
    expect(dirty(false)).toEqual(written);
    expect(engine.trackDirty(second, false)).toBe(L.STATUS_OK);
    expect(ask(its, W).hpa).toBe(RAM + GPA + 5n);
    expect(engine.trackDirty(second, true)).toBe(L.STATUS_OK);
    expect(dirty(false)).toEqual([]);
  });

  it("marks of stage 1 are writes through stage 2: without permission they are its fault, and nothing is marked", async () => {
    const its = await nested(pair, { accessed: "set", dirty: "set" });
    const { engine, second, leafEntry } = its;
    const before = leafEntry();
    engine.unmap(second, 0n, TABLES * PAGE - 1n);
    engine.map(second, 0n, TABLES * PAGE - 1n, RAM, R);
    expect(ask(its, R)).toEqual({ fault: "write-denied" });
    expect(leafEntry()).toBe(before);
  });

  it("stage 2 is not destroyed while a domain uses it", async () => {
    const its = await nested(pair);
    const { engine, first, second, route } = its;
    expect(engine.destroyDomain(second)).toBe(L.STATUS_ATTACHED);
    engine.blockRoute(route);
    expect(engine.destroyDomain(first)).toBe(L.STATUS_OK);
    expect(engine.destroyDomain(second)).toBe(L.STATUS_OK);
    expect(engine.framesUsed).toBe(0);
  });
});
