// Random tables as fast-check plans: what is mapped, what is then spoilt, and which addresses are asked.
import fc from "fast-check";
import type { DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { encoderOf } from "../oracle/reference/encode.js";
import { DEVICE_FIRST, RAM_FIRST, ZERO_FIRST, type GuestRam, type GuestTable, type Mapping } from "./guest-tables.js";

export const NEEDS = [
  L.PERM_R, L.PERM_W, L.PERM_X, L.PERM_R | L.PERM_W, L.PERM_R << 4, L.PERM_W << 4, L.PERM_X << 4, (L.PERM_R | L.PERM_W) << 4, 0,
] as const;

/** Runs of a property: so many; more where a mutant is to be killed (npm run mutants), and twenty times that in npm run test:long. */
export function runs(few: number): number {
  const factors: Record<string, number> = { mutants: 3, long: 20 };
  return few * (factors[process.env["IOASID_TEST"] ?? ""] ?? 1);
}

export interface Placed {
  readonly iova: bigint;
  readonly mapping: Mapping;
}

export interface Spoil {
  readonly kind: "bit" | "attribute" | "word" | "ones" | "loop" | "outside" | "high";
  /** Which of the written words. */
  readonly at: number;
  readonly value: bigint;
}

const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });

/** One leaf of some level of a shape. Addresses come together often, so that tables are shared. */
export function placed(shape: DomainOptions): fc.Arbitrary<Placed> {
  const encoder = encoderOf(shape.format);
  const sizes = Array.from({ length: shape.levels }, (_none, level) => encoder.sizes(level).map((lg2) => ({ level, lg2 })))
    .flat().filter(({ lg2 }) => lg2 <= shape.width && lg2 <= shape.outputWidth);
  const iova = fc.oneof(word, fc.nat(0xff_ffff).map(BigInt), fc.nat(0xff_ffff).map((low) => (1n << 64n) - 1n - BigInt(low)),
    fc.nat(0x7fff).map((low) => (1n << BigInt(shape.width)) - 1n - (BigInt(low) << 12n)));
  return fc.record({
    iova, size: fc.constantFrom(...sizes), address: word, perm: fc.constantFrom(7, 7, 7, 3, 1, 2, 5, 0), user: fc.constantFrom(true, true, false),
    accessed: fc.constantFrom(true, true, false), dirty: fc.boolean(), skip: fc.boolean(),
  }).map(({ iova, size, address, ...rest }) => ({
    iova, mapping: { ...rest, ...size, address: BigInt.asUintN(shape.outputWidth, address) },
  }));
}

/** Every bit of every word as likely: small values first would spoil the root's first bits again and again. */
export const spoils = (maxLength: number): fc.Arbitrary<Spoil[]> => fc.array(fc.noBias(fc.record({
  kind: fc.constantFrom("bit", "attribute", "attribute", "attribute", "word", "ones", "loop", "outside", "high"), at: fc.nat(), value: word,
})), { maxLength });

/** Changes words of built tables so that anything may be in them. */
export function spoil(ram: GuestRam, tables: readonly GuestTable[], plan: readonly Spoil[]): void {
  const written = [...ram.written];
  for (const { kind, at, value } of plan) {
    if (written.length === 0) return;
    const address = written[at % written.length]!;
    ram.write(address, spoilt(kind, ram.read(address)!, value, ram, tables));
  }
}

const ADDRESS = 0x000f_ffff_ffff_f000n;

function spoilt(kind: Spoil["kind"], pte: bigint, value: bigint, ram: GuestRam, tables: readonly GuestTable[]): bigint {
  const { delta } = tables[Number(value % BigInt(tables.length))]!;
  switch (kind) {
    case "bit":
      return pte ^ (1n << (value & 63n));
    case "attribute": {
      // One of the bits that are no address: 0..11 and 52..63.
      const position = value % 24n;
      return pte ^ (1n << (position < 12n ? position : position + 40n));
    }
    case "word":
      return value;
    case "ones":
      return (1n << 64n) - 1n;
    case "loop": {
      // To a table that exists: its own, one above, or of another domain.
      const table = ram.tables[Number((value >> 8n) % BigInt(ram.tables.length))]!;
      return (pte & ~ADDRESS) | ((table.address + delta) & ADDRESS);
    }
    case "outside":
      return (pte & ~ADDRESS) | (([ZERO_FIRST, DEVICE_FIRST, RAM_FIRST + 0x10_0000_0000n, 0n][Number(value & 3n)]! + delta) & ADDRESS);
    case "high":
      return pte | (1n << (40n + (value & 15n)));
  }
}

/** Addresses around what is mapped, and each of them with every bit of its upper part turned. */
export function asked(shape: DomainOptions, plan: readonly Placed[]): bigint[] {
  const all: bigint[] = [];
  for (const { iova, mapping } of plan.slice(0, 6)) {
    const legal = obeying(shape, iova);
    const size = 1n << BigInt(mapping.lg2);
    const first = (legal / size) * size;
    all.push(legal, first, first + size - 1n, first + size, iova);
  }
  return all.map((iova) => BigInt.asUintN(64, iova));
}

/** The same with one bit turned, from the page number up. */
export function withEachHighBit(iova: bigint): bigint[] {
  return Array.from({ length: 52 }, (_none, n) => iova ^ (1n << BigInt(12 + n)));
}

/** An address whose low bits are these and whose upper ones obey the rule. */
export function obeying({ width, rule = "zero" }: DomainOptions, iova: bigint): bigint {
  const within = BigInt.asUintN(width, iova);
  if (rule.startsWith("sign")) return BigInt.asUintN(64, BigInt.asIntN(width, within));
  return rule.startsWith("ones") ? BigInt.asUintN(64, within - (1n << BigInt(width))) : within;
}
