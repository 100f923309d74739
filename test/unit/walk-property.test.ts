// Walks of tables that a guest owns, good and hostile, in every format and geometry: the exact walker, the scalar call and the
// batch against the reference, cold and warm.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Engine, type DomainOptions } from "../../src/engine/engine.js";
import type { Port } from "../../src/engine/port.js";
import * as L from "../../src/engine/layout.js";
import { liveDomains } from "../oracle/engine-state.js";
import { expectAnswer } from "../oracle/results.js";
import { ALL } from "./geometries.js";
import { GuestRam, GuestTable } from "./guest-tables.js";
import { asked, NEEDS, placed, runs, spoil, spoils, withEachHighBit, type Placed, type Spoil } from "./table-plans.js";
import { expectWalk } from "./walk-checks.js";

const RUNS = runs(10);

async function world(): Promise<{ engine: Engine; port: Port; ram: GuestRam }> {
  const engine = await Engine.create({
    memory: { ram: 2 << 20, arena: 2 << 20 }, domains: 8, slots: 8, routes: 16, ports: { count: 1, iotlbSets: 64, lanes: 1024, faults: 4096 },
  });
  return { engine, port: engine.openPort(), ram: new GuestRam(engine) };
}

/** Builds the tables of a plan, makes their domain and runs the checks with a route to it. */
function withDomain(
  engine: Engine, ram: GuestRam, shape: DomainOptions, plan: readonly Placed[], bad: readonly Spoil[],
  check: (domain: number, route: number, table: GuestTable) => void,
): void {
  ram.clear();
  const table = new GuestTable(ram, shape);
  for (const { iova, mapping } of plan) table.map(iova, mapping);
  spoil(ram, [table], bad);
  const domain = engine.createDomain(table.options);
  const route = engine.route(0x20);
  engine.attachRoute(route, domain);
  try {
    check(domain, route, table);
  } finally {
    engine.blockRoute(route);
    engine.destroyDomain(domain);
  }
}

/** Both calls, judged by the reference. */
function expectAnswers(engine: Engine, port: Port, route: number, iovas: readonly bigint[], needs: readonly number[]): void {
  const domains = new Map(liveDomains(engine).map((domain) => [domain.index, domain]));
  const halves = (iova: bigint): [number, number] => [Number(iova & 0xffff_ffffn), Number(iova >> 32n)];
  const asked = iovas.flatMap((iova) => needs.map((need) => ({ iova, route, need })));
  port.batch(() => {
    asked.forEach(({ iova, need }, lane) => port.requests.set([...halves(iova), route, need], lane * 4));
    port.translate(asked.length);
    asked.forEach((one, lane) => {
      const result = BigInt(port.results[lane * 2]!) | (BigInt(port.results[lane * 2 + 1]!) << 32n);
      expectAnswer(engine, domains, one, result, "guests-too");
    });
  });
  for (const one of asked) {
    port.translateHalves(...halves(one.iova), route, one.need);
    expectAnswer(engine, domains, one, port.result, "guests-too");
  }
  port.takeFaults();
}

describe.each(ALL)("%s", (_name, shape) => {
  const plan = fc.array(placed(shape), { minLength: 1, maxLength: 8 });

  it.each([["good", 0], ["hostile", 5]])("walks %s tables as the reference does, in every way of asking", async (_kind, most) => {
    const { engine, port, ram } = await world();
    fc.assert(fc.property(plan, spoils(most), fc.nat(NEEDS.length - 1), (mappings, bad, turn) => {
      withDomain(engine, ram, shape, mappings, bad, (domain, route, table) => {
        const iovas = asked(shape, mappings);
        const needs = [NEEDS[turn]!, NEEDS[(turn + 4) % NEEDS.length]!];
        for (const iova of iovas) for (const need of NEEDS) expectWalk(engine, domain, table.reference, iova, need);
        expectAnswers(engine, port, route, iovas, needs);
        // Warm now, and the addresses that differ in one upper bit must not find what these left.
        const near = withEachHighBit(iovas[turn % iovas.length]!);
        expectAnswers(engine, port, route, [...iovas, ...near], needs);
      });
    }), { numRuns: RUNS });
  });

  it("walks from roots and tables of random words, and from outside the slots", async () => {
    const { engine, port, ram } = await world();
    const root = fc.oneof(fc.nat(0x3fff).map((n) => 0x1_0000_0000n + BigInt(n) * 64n), fc.constantFrom(0n, 0x8000_0000n, 0x9000_0000n, 0x1_001f_ffc0n, (1n << 56n) - 64n));
    const words = fc.array(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), { minLength: 1, maxLength: 32 });
    fc.assert(fc.property(root, words, fc.array(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), { minLength: 1, maxLength: 8 }), (guestRoot, noise, iovas) => {
      ram.clear();
      const table = new GuestTable(ram, shape);
      // All of the first 64 KiB: noise with its low bits made likely, again and again.
      for (let n = 0; n < 8192; n++) ram.write(0x1_0000_0000n + BigInt(n) * 8n, noise[n % noise.length]! & ~0xffff_fe00_0000n | BigInt(n % 8));
      const domain = engine.createDomain({ ...table.options, guestRoot });
      const route = engine.route(0x21);
      engine.attachRoute(route, domain);
      for (const iova of iovas) expectWalk(engine, domain, { ...table.reference, root: guestRoot }, iova, L.PERM_R);
      expectAnswers(engine, port, route, iovas, [L.PERM_R, L.PERM_W << 4]);
      engine.blockRoute(route);
      expect(engine.destroyDomain(domain)).toBe(L.STATUS_OK);
    }), { numRuns: runs(5) });
  });
});
