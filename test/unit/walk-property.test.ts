// Walks of tables that a guest owns, good and hostile, in every format and geometry: the exact walker, the scalar call and the
// batch against the reference, cold and warm.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import { ALL } from "./geometries.js";
import { GuestTable } from "./guest-tables.js";
import { asked, NEEDS, placed, runs, spoil, spoils, withEachHighBit } from "./table-plans.js";
import { expectAnswers, expectWalk, withRoute, world } from "./walk-checks.js";

const RUNS = runs(10);

describe.each(ALL)("%s", (_name, shape) => {
  const plan = fc.array(placed(shape), { minLength: 1, maxLength: 8 });

  it.each([["good", 0], ["hostile", 5]])("walks %s tables as the reference does, in every way of asking", async (_kind, most) => {
    const its = await world();
    const { engine, ram } = its;
    fc.assert(fc.property(plan, spoils(most), fc.nat(NEEDS.length - 1), (mappings, bad, turn) => {
      ram.clear();
      const table = new GuestTable(ram, shape);
      for (const { iova, mapping } of mappings) table.map(iova, mapping);
      spoil(ram, [table], bad);
      withRoute(its, table, (domain, route) => {
        const iovas = asked(shape, mappings);
        const needs = [NEEDS[turn]!, NEEDS[(turn + 4) % NEEDS.length]!];
        for (const iova of iovas) for (const need of NEEDS) expectWalk(engine, domain, table.reference, iova, need);
        expectAnswers(its, route, iovas, needs);
        // Warm now, and the addresses that differ in one upper bit must not find what these left.
        const near = withEachHighBit(iovas[turn % iovas.length]!);
        expectAnswers(its, route, [...iovas, ...near], needs);
      });
    }), { numRuns: RUNS });
  });

  it("walks from roots and tables of random words, and from outside the slots", async () => {
    const its = await world();
    const { engine, ram } = its;
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
      expectAnswers(its, route, iovas, [L.PERM_R, L.PERM_W << 4]);
      engine.blockRoute(route);
      expect(engine.destroyDomain(domain)).toBe(L.STATUS_OK);
    }), { numRuns: runs(5) });
  });
});
