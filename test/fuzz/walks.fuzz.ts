// Hostile tables until the time is over (main.mjs sets it and the first seed): whatever a guest writes, every walker answers
// as the reference does, and never traps, hangs, or reads outside the slots.
import fc from "fast-check";
import { expect, it } from "vitest";
import type { DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { ALL } from "../unit/geometries.js";
import { GuestTable } from "../unit/guest-tables.js";
import { asked, NEEDS, placed, spoil, spoils, withEachHighBit } from "../unit/table-plans.js";
import { expectAnswers, expectWalk, world, type World } from "../unit/walk-checks.js";

const SEED = Number(process.env["IOASID_FUZZ_SEED"] ?? 1);
const SECONDS = Number(process.env["IOASID_FUZZ_SECONDS"] ?? 10);
const RUNS = 4;

/** Good tables with up to 12 words spoilt; asked around what was mapped, cold, warm, and with single upper bits turned. */
function spoiltTables({ engine, port, ram }: World, shape: DomainOptions): fc.IProperty<unknown> {
  const plan = fc.array(placed(shape), { minLength: 1, maxLength: 12 });
  return fc.property(plan, spoils(12), fc.nat(NEEDS.length - 1), fc.nat(), (mappings, bad, turn, which) => {
    ram.clear();
    const table = new GuestTable(ram, shape);
    for (const { iova, mapping } of mappings) table.map(iova, mapping);
    spoil(ram, [table], bad);
    const domain = engine.createDomain(table.options);
    const route = engine.route(0x20);
    engine.attachRoute(route, domain);
    const iovas = asked(shape, mappings);
    const needs = [NEEDS[turn]!, NEEDS[(turn + 4) % NEEDS.length]!];
    for (const iova of iovas) expectWalk(engine, domain, table.reference, iova, needs[0]!);
    expectAnswers(engine, port, route, iovas, needs);
    expectAnswers(engine, port, route, [...iovas, ...withEachHighBit(iovas[which % iovas.length]!)], needs);
    engine.blockRoute(route);
    expect(engine.destroyDomain(domain)).toBe(L.STATUS_OK);
  });
}

it("finds no difference", { timeout: (SECONDS + 60) * 1000 }, async () => {
  const end = Date.now() + SECONDS * 1000;
  let seed = SEED;
  do {
    const [name, shape] = ALL[seed % ALL.length]!;
    const fresh = await world();
    try {
      fc.assert(spoiltTables(fresh, shape), { seed, numRuns: RUNS });
    } catch (error) {
      throw new Error(`${name}; repeat with: npm run fuzz -- --once --seed ${seed}\n${(error as Error).message}`, { cause: error });
    }
    seed++;
  } while (Date.now() < end);
  console.log(`seeds ${SEED}..${seed - 1}: ${(seed - SEED) * RUNS} tables, no difference`);
});
