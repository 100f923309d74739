// Checks of what callers pass: structures, integers, addresses; and the step from bytes to 4-KiB page numbers.
// May import errno.ts and types. Ranges are inclusive, first..last. A page number is below 2^52, so it is exact in a JS number.

import { IoctlError } from "./errno.js";
import type { Call, U64 } from "./requests.js";

const PAGE_SHIFT = 12n;
const PAGE_MASK = 0xfffn;
/** The last page of the 64-bit address space. */
export const LAST_PAGE = 2 ** 52 - 1;
export const U64_MAX = 0xffff_ffff_ffff_ffffn;
export const U32_MAX = 0xffff_ffff;

export function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

/** `first..last` in bytes, of a range of pages. */
export function hexPages(firstPage: number, lastPage: number): string {
  return `${hex(firstByte(firstPage))}..${hex(lastByte(lastPage))}`;
}

/** A checked u64. */
export function toBigint(value: U64): bigint {
  return typeof value === "bigint" ? value : BigInt(value);
}

export function firstByte(page: number): bigint {
  return BigInt(page) << PAGE_SHIFT;
}

export function lastByte(page: number): bigint {
  return (BigInt(page) << PAGE_SHIFT) | PAGE_MASK;
}

/** Any value, short enough for a message. */
export function show(value: unknown): string {
  if (typeof value === "bigint") return value < 0n ? value.toString() : hex(value);
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value);
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  if (typeof value === "function") return "a function";
  return String(value);
}

/** @throws IoctlError EFAULT without a structure, EINVAL when it is none or has a field that the call does not know. */
export function checkStruct(call: Call, arg: unknown): asserts arg is object {
  if (typeof arg !== "object" || arg === null || Array.isArray(arg)) throw notAStruct(call, arg);
  for (const field in arg) {
    if (!call.fields.has(field)) throw unknownField(call, field, (arg as Record<string, unknown>)[field]);
  }
}

function fieldsOf(call: Call): string {
  return call.fields.size === 0 ? "the call takes no argument" : `the call takes { ${[...call.fields].join(", ")} }`;
}

function notAStruct(call: Call, arg: unknown): IoctlError {
  const missing = arg === undefined || arg === null;
  const reason = missing ? "the argument is missing" : `the argument must be an object, not ${show(arg)}`;
  return new IoctlError(missing ? "EFAULT" : "EINVAL", call.name, reason, { value: arg, hint: fieldsOf(call) });
}

function unknownField(call: Call, field: string, value: unknown): IoctlError {
  return new IoctlError("EINVAL", call.name, `unknown field ${field} (${show(value)})`, { field, value, hint: fieldsOf(call) });
}

/** For a call without an argument. */
export function checkNone(call: Call, arg: unknown): void {
  if (arg === undefined) return;
  throw new IoctlError("EINVAL", call.name, `unexpected argument ${show(arg)}`, { value: arg, hint: fieldsOf(call) });
}

function badInteger(call: Call, field: string, value: unknown, kind: string): IoctlError {
  const reason = value === undefined ? `${field} is missing` : `${field} is ${show(value)}`;
  return new IoctlError("EINVAL", call.name, reason, { field, value, hint: `it must be ${kind}` });
}

/** @throws IoctlError EINVAL unless it is an integer of 0..2^64-1 (as a number: at most 2^53-1). */
export function takeU64(call: Call, field: string, value: U64 | undefined): bigint {
  if (typeof value === "bigint") {
    if (value >= 0n && value <= U64_MAX) return value;
  } else if (Number.isSafeInteger(value) && (value as number) >= 0) {
    return BigInt(value as number);
  }
  throw badInteger(call, field, value, "a bigint of at most 64 bits or a safe integer, not negative");
}

/** @throws IoctlError EINVAL unless it is an integer of 0..2^32-1. */
export function takeU32(call: Call, field: string, value: number | undefined): number {
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= U32_MAX) return value as number;
  throw badInteger(call, field, value, "an integer of 0..4294967295");
}

/** undefined when absent. @throws IoctlError EINVAL unless it is a boolean. */
export function takeOptionalBoolean(call: Call, field: string, value: boolean | undefined): boolean | undefined {
  return value === undefined ? undefined : takeBoolean(call, field, value);
}

/** false when absent. @throws IoctlError EINVAL unless it is a boolean. */
export function takeBoolean(call: Call, field: string, value: boolean | undefined): boolean {
  if (value === undefined || typeof value === "boolean") return value ?? false;
  throw badInteger(call, field, value, "true or false");
}

/** The number of whole pages in an address or a size. @throws IoctlError EINVAL unless it is a u64 and a multiple of 4096. */
export function takePages(call: Call, field: string, value: U64 | undefined): number {
  // Below 2^53 the conversion and the division are exact, and much cheaper than arithmetic on bigints.
  const page = typeof value === "bigint" || typeof value === "number" ? Number(value) / 4096 : -1;
  if (page >= 0 && page < 2 ** 41 && Number.isInteger(page)) return page;
  const bytes = takeU64(call, field, value);
  if ((bytes & PAGE_MASK) === 0n) return Number(bytes >> PAGE_SHIFT);
  throw new IoctlError("EINVAL", call.name, `${field} ${hex(bytes)} is no multiple of 4096`, { field, value: bytes, hint: "a page has 4096 bytes" });
}

/**
 * The last page of a range.
 * @throws IoctlError EINVAL when it is empty, EOVERFLOW when it runs past 2^64. `field` and `sizeField` name the range's start and size.
 */
export function takeLast(call: Call, field: string, firstPage: number, pages: number, sizeField = "size"): number {
  if (pages === 0) throw new IoctlError("EINVAL", call.name, "size is 0", { field: sizeField, value: 0n, hint: "a range has a page at least" });
  const last = firstPage + pages - 1;
  if (last <= LAST_PAGE) return last;
  const reason = `${field} ${hex(firstByte(firstPage))} + size ${hex(firstByte(pages))} runs past 2^64`;
  const details = { field: sizeField, value: firstByte(pages), hint: "the last address is 0xffffffffffffffff" };
  throw new IoctlError("EOVERFLOW", call.name, reason, details);
}
