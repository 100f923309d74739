// Fields of the vector format, checked as they are read: a wrong one is a VectorError that names case, query and field.
// Imports the format's types.
import { VectorError } from "./vectors.js";

/** An object of the file, and its place in it. */
export class Fields {
  readonly #object: Record<string, unknown>;

  constructor(value: unknown, readonly where: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new VectorError(where, "must be an object");
    this.#object = value as Record<string, unknown>;
  }

  refuse(field: string, why: string): never {
    throw new VectorError(this.where ? `${this.where}: ${field}` : field, why);
  }

  has(field: string): boolean {
    return this.#object[field] !== undefined;
  }

  text(field: string): string {
    const value = this.#object[field];
    return typeof value === "string" ? value : this.refuse(field, `must be a string, not ${shown(value)}`);
  }

  flag(field: string): boolean {
    const value = this.#object[field];
    return typeof value === "boolean" ? value : this.refuse(field, `must be true or false, not ${shown(value)}`);
  }

  /** One of the values that the format knows. */
  oneOf<T extends string>(field: string, values: readonly T[]): T {
    const value = this.text(field);
    return values.find((each) => each === value) ?? this.refuse(field, `must be ${values.join(" or ")}, not ${shown(value)}`);
  }

  integer(field: string, first: number, last: number): number {
    const value = this.#object[field];
    if (typeof value !== "number" || !Number.isInteger(value) || value < first || value > last) {
      return this.refuse(field, `must be an integer in ${first}..${last}, not ${shown(value)}`);
    }
    return value;
  }

  /** A 64-bit number written as hexadecimal text. */
  hex(field: string): bigint {
    const value = hexOf(this.#object[field]);
    return value ?? this.refuse(field, `must be a hexadecimal string of at most 64 bits, not ${shown(this.#object[field])}`);
  }

  list(field: string): readonly unknown[] {
    const value = this.#object[field];
    return Array.isArray(value) ? value : this.refuse(field, `must be a list, not ${shown(value)}`);
  }

  /** A list of hexadecimal numbers, of `length` of them if that is given. */
  hexList(field: string, length?: number): bigint[] {
    const values = this.list(field);
    if (length !== undefined && values.length !== length) this.refuse(field, `must have ${length} numbers, not ${values.length}`);
    return values.map((value, i) => hexOf(value) ?? this.refuse(`${field}[${i}]`, `must be a hexadecimal string, not ${shown(value)}`));
  }

  /** Pairs of hexadecimal numbers. */
  hexPairs(field: string): [bigint, bigint][] {
    return this.list(field).map((pair, i) => {
      const [a, b] = Array.isArray(pair) && pair.length === 2 ? [hexOf(pair[0]), hexOf(pair[1])] : [];
      return a === undefined || b === undefined ? this.refuse(`${field}[${i}]`, "must be two hexadecimal strings") : [a, b];
    });
  }

  object(field: string): Fields {
    return new Fields(this.#object[field], this.where ? `${this.where}: ${field}` : field);
  }
}

const HEX = /^0x[0-9a-f]{1,16}$/i;

function hexOf(value: unknown): bigint | undefined {
  return typeof value === "string" && HEX.test(value) ? BigInt(value) : undefined;
}

function shown(value: unknown): string {
  return value === undefined ? "absent" : JSON.stringify(value).slice(0, 60);
}
