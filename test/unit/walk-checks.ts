// What the property tests of walks and the fuzzer share: an engine with guest memory, a table with its domain and route, and
// every way of asking against the reference, field by field.
import { expect } from "vitest";
import { Engine, type DomainOptions } from "../../src/engine/engine.js";
import type { Port } from "../../src/engine/port.js";
import { liveDomains } from "../oracle/engine-state.js";
import type { ReferenceDomain } from "../oracle/reference/types.js";
import { walkReference } from "../oracle/reference/walk.js";
import { expectAnswer } from "../oracle/results.js";
import { GuestRam } from "./guest-tables.js";

export interface World {
  readonly engine: Engine;
  readonly port: Port;
  readonly ram: GuestRam;
}

export async function world(): Promise<World> {
  const engine = await Engine.create({
    memory: { ram: 2 << 20, arena: 2 << 20 }, domains: 8, slots: 8, routes: 16, ports: { count: 1, iotlbSets: 64, lanes: 1024, faults: 4096 },
  });
  return { engine, port: engine.openPort(), ram: new GuestRam(engine) };
}

/** Runs the checks with a domain of the table and a route to it. */
export function withRoute({ engine }: World, { options }: { options: DomainOptions }, check: (domain: number, route: number) => void): void {
  const domain = engine.createDomain(options);
  const route = engine.route(0x20);
  engine.attachRoute(route, domain);
  try {
    check(domain, route);
  } finally {
    engine.blockRoute(route);
    engine.destroyDomain(domain);
  }
}

/** The exact walk: reason, stage, class, level and ipa always; address, size and permissions where a translation exists; every step. */
export function expectWalk(engine: Engine, domain: number, table: ReferenceDomain, iova: bigint, need: number): void {
  const walk = engine.walk(domain, iova, need);
  const wanted = walkReference(table, iova, need);
  const { found } = wanted;
  const shown = {
    iova: iova.toString(16), need, reason: walk.reason, stage: walk.stage, class: walk.class, level: walk.level, ipa: walk.ipa,
    steps: walk.steps.map(({ stage, level, address, pte }) => ({ stage, level, address, pte })),
    ...(found ? { hpa: walk.hpa, leafLg2: walk.leafLg2, perm: walk.perm } : {}),
  };
  expect(shown).toEqual({
    iova: iova.toString(16), need, reason: wanted.reason, stage: wanted.stage, class: wanted.class, level: wanted.level, ipa: wanted.ipa,
    steps: wanted.steps.map(({ stage, level, address, pte }) => ({ stage, level, address, pte })),
    ...(found ? { hpa: found.hpa, leafLg2: found.leafLg2, perm: found.perm } : {}),
  });
}

/** The batch and the scalar call, judged by the reference. */
export function expectAnswers({ engine, port }: World, route: number, iovas: readonly bigint[], needs: readonly number[]): void {
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
