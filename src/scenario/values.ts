// Values of a scenario: numbers in text, names of what earlier steps bound, bytes; and whether an answer is the expected one.
// Imports the constants of the uAPI, the format's types, its error.
import { OpenFile } from "../uapi/open-file.js";
import * as requests from "../uapi/requests.js";
import type { Content, Json, NumberText } from "./scenario.js";

/** Constants of the uAPI by name: request numbers, flags. */
export const CONSTANTS: ReadonlyMap<string, number> = new Map(
  Object.entries<unknown>({ ...requests }).filter((entry): entry is [string, number] => typeof entry[1] === "number"),
);

const HEX = /^0x[0-9a-f]{1,16}$/i;

/** A number as the uAPI takes it: u32 fields take numbers only, addresses take both. */
export function toNumber(value: NumberText): number | bigint {
  const number = BigInt(value);
  return number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : number;
}

/** The numbers of a JSON value for text "0x...", and for "$name" what `lookUp` answers; everything else as it is. */
export function resolve(value: Json | undefined, lookUp: (name: string) => unknown): unknown {
  if (typeof value === "string") {
    if (HEX.test(value)) return toNumber(value);
    return value.startsWith("$") ? lookUp(value.slice(1)) : value;
  }
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((each: Json) => resolve(each, lookUp));
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, resolve(each as Json, lookUp)]));
}

export function bytesOf(content: Content): Uint8Array {
  if ("fill" in content) return new Uint8Array(Number(content.length)).fill(Number(content.fill));
  if ("bytes" in content) {
    const digits = content.bytes.replaceAll(" ", "");
    return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16));
  }
  const bytes = new Uint8Array(content.words.length * 8);
  const view = new DataView(bytes.buffer);
  content.words.forEach((word, i) => view.setBigUint64(i * 8, BigInt(word), true));
  return bytes;
}

/** Hexadecimal text of bytes, in groups of eight; long ones are cut. */
export function showBytes(bytes: Uint8Array, most = 32): string {
  const digits = [...bytes.subarray(0, most)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const more = bytes.length > most ? ` ... (${bytes.length} bytes)` : "";
  return `${digits.replace(/.{16}(?=.)/g, "$& ")}${more}`;
}

/** Any answer of the uAPI, on one line. */
export function show(value: unknown): string {
  if (typeof value === "bigint") return `0x${value.toString(16)}`;
  if (value instanceof Uint8Array) return showBytes(value);
  if (value instanceof OpenFile) return `fd ${value.number}`;
  if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value).map(([key, each]) => `${key}: ${show(each)}`);
    return fields.length ? `{ ${fields.join(", ")} }` : "{}";
  }
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** Something that is not as expected: where in `expect`, and both as text. */
export interface Mismatch {
  readonly what: string;
  readonly expected: string;
  readonly got: string;
}

const isNumber = (value: unknown): value is number | bigint => typeof value === "number" || typeof value === "bigint";

/**
 * Compares a resolved expectation with an answer: of a structure the fields that are named, of a list all elements, numbers by value,
 * bytes with hexadecimal text. null stands for "nothing" too.
 */
export function differs(expected: unknown, got: unknown, what: string): Mismatch | undefined {
  const different = { what, expected: show(expected), got: show(got) };
  if (isNumber(expected)) return isNumber(got) && BigInt(expected) === BigInt(got) ? undefined : different;
  if (got instanceof Uint8Array && typeof expected === "string") {
    return bytesText(got) === expected.replaceAll(" ", "").toLowerCase() ? undefined : { ...different, expected };
  }
  if (Array.isArray(expected)) {
    if (!Array.isArray(got) || got.length !== expected.length) return different;
    return first(expected.map((each, i) => differs(each, got[i], `${what}[${i}]`)));
  }
  if (typeof expected === "object" && expected !== null && !(expected instanceof OpenFile)) {
    if (typeof got !== "object" || got === null) return different;
    return first(Object.entries(expected).map(([key, each]) => differs(each, (got as Record<string, unknown>)[key], `${what}.${key}`)));
  }
  return expected === got || (expected === null && got === undefined) ? undefined : different;
}

const first = (all: readonly (Mismatch | undefined)[]): Mismatch | undefined => all.find((each) => each !== undefined);

const bytesText = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The first byte that differs, in words. */
export function bytesDiffer(expected: Uint8Array, got: Uint8Array): Mismatch | undefined {
  const at = expected.findIndex((byte, i) => byte !== got[i]);
  if (at < 0 && expected.length === got.length) return undefined;
  const from = Math.max(0, at);
  const part = (bytes: Uint8Array): string => showBytes(bytes.subarray(from), 16);
  return { what: `expect: bytes from ${from} on`, expected: part(expected), got: part(got) };
}
