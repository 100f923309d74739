// Random tables in two stages: a guest's stage 1, whose addresses are those of a stage 2 that lies in tables too.
import fc from "fast-check";
import type { DomainOptions } from "../../src/engine/engine.js";
import { encoderOf } from "../oracle/reference/encode.js";
import { GuestTable, RAM_FIRST } from "./guest-tables.js";
import { placed, spoil, spoils, type Placed, type Spoil } from "./table-plans.js";
import { withRoute, type World } from "./walk-checks.js";

/** The guest's RAM begins at 0 in its own addresses: within the width of every stage 2. */
const DELTA = -RAM_FIRST;
/** The RAM that holds the tables is mapped with leaves up to this size, log2. */
const LARGEST_LG2 = 21;

export interface Stages {
  readonly first: DomainOptions;
  readonly second: DomainOptions;
}

export interface StagesPlan {
  /** Leaves of stage 1; stage 2 has one at the output of each, as far as its own go. */
  readonly above: readonly Placed[];
  readonly below: readonly Placed[];
  /** How stage 2 maps the tables of stage 1. */
  readonly ramPerm: number;
  readonly ramSize: number;
  readonly bad: readonly Spoil[];
}

export function stagesPlan({ first, second }: Stages, mostSpoilt: number): fc.Arbitrary<StagesPlan> {
  return fc.record({
    above: fc.array(placed(first), { minLength: 1, maxLength: 4 }), below: fc.array(placed(second), { minLength: 1, maxLength: 5 }),
    ramPerm: fc.constantFrom(7, 7, 7, 3, 1, 2), ramSize: fc.nat(15), bad: spoils(mostSpoilt),
  }).map(({ above, ...rest }) => ({ ...rest, above: above.map((one) => within(one, second.width)) }));
}

/** The leaf with an output in the upper half of what stage 2 takes: the lower has the tables. */
function within({ iova, mapping }: Placed, width: number): Placed {
  const half = width - 1;
  return { iova, mapping: { ...mapping, address: BigInt.asUintN(half, mapping.address) | (1n << BigInt(half)) } };
}

function mapTables(table: GuestTable, tables: readonly { readonly address: bigint; readonly bytes: number }[], { ramPerm, ramSize }: StagesPlan): void {
  const { sizes } = encoderOf(table.reference.format);
  const choice = [0, 1].flatMap((level) => sizes(level).filter((lg2) => lg2 <= LARGEST_LG2).map((lg2) => ({ level, lg2 })));
  const size = choice[ramSize % choice.length]!;
  const step = 1n << BigInt(size.lg2);
  for (const { address, bytes } of tables) {
    for (let hpa = address - (address % step); hpa < address + BigInt(bytes); hpa += step) {
      table.map(hpa + DELTA, { ...size, address: hpa, perm: ramPerm, user: true, accessed: true, dirty: false, skip: false });
    }
  }
}

/** Builds both tables and runs the checks with the domain of stage 1 and a route to it. */
export function withStages(
  its: World, { first, second }: Stages, plan: StagesPlan, check: (domain: number, route: number, above: GuestTable) => void,
): void {
  const { engine, ram } = its;
  ram.clear();
  const below = new GuestTable(ram, second);
  const index = engine.createDomain(below.options);
  const own = ram.tables.length;
  const above = new GuestTable(ram, first, DELTA, { index, table: below.reference });
  for (const { iova, mapping } of plan.above) above.map(iova, mapping);
  mapTables(below, ram.tables.slice(own), plan);
  plan.below.forEach(({ iova, mapping }, n) => below.map(plan.above[n]?.mapping.address ?? iova, mapping));
  spoil(ram, [above, below], plan.bad);
  try {
    withRoute(its, above, (domain, route) => check(domain, route, above));
  } finally {
    engine.destroyDomain(index);
  }
}
