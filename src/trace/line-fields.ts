// Cuts one line of bytes into its tab-separated fields, reads hexadecimal numbers on the way, and words what is wrong with a
// line. Imports trace-error.ts. Each byte is looked at once, in `scan`: the only loop over bytes in the parser, and small, so
// that it is compiled soon; what a field means is decided above it, from positions and numbers.

import { TraceError } from "./trace-error.js";

/** Longest line, its line feed included: it bounds what a parser keeps between two chunks. */
export const LINE_BYTES = 65536;
export const TOO_LONG = `no line feed within ${LINE_BYTES} bytes`;
export const LF = 0x0a;
const TAB = 0x09;
const ZERO = 0x30;
const LETTER_X = 0x78;

/** Fields of the longest event, its name included. Of a line with more, the rest is only counted. */
const MAX_FIELDS = 8;
const QUOTED_BYTES = 40;

/** What a field looks like: 0x and digits, the same with a value above 64 bits, or anything else. */
const HEX = 0;
const HEX_ABOVE_64_BITS = 1;
const OTHER = 2;

/** Value of a hexadecimal digit by its byte; 16 for any other byte. */
const DIGIT = new Uint8Array(256).fill(16);
for (const [value, digit] of [..."0123456789abcdef"].entries()) {
  DIGIT[digit.charCodeAt(0)] = value;
  DIGIT[digit.toUpperCase().charCodeAt(0)] = value;
}

const strictText = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const anyText = new TextDecoder("utf-8", { ignoreBOM: true });

/** The fields of an event after its name, field 0: the names of all, and how many a line has at least. */
export interface Shape {
  readonly event: string;
  readonly names: readonly string[];
  readonly min: number;
}

/** The fields of the line that was scanned last. A field is named by its number, from 0. */
export class LineFields {
  bytes: Uint8Array = new Uint8Array(0);
  /** Number of the line, from 1; 0 before the first. */
  line = 0;
  /** Number of fields: the tabs, and one. */
  count = 0;
  /** The halves of each field that is hexadecimal. */
  readonly lo = new Uint32Array(MAX_FIELDS + 1);
  readonly hi = new Uint32Array(MAX_FIELDS + 1);
  readonly #kinds = new Uint8Array(MAX_FIELDS + 1);
  /** Where each field begins, and behind the last one where the next line begins. */
  readonly #starts = new Uint32Array(MAX_FIELDS + 1);
  #shape: Shape | undefined;

  /** Reads the line at `from`, whose line feed must be in `bytes`, and returns where the next one begins. */
  scan(from: number): number {
    const { bytes, lo, hi } = this;
    const starts = this.#starts;
    const kinds = this.#kinds;
    let at = from;
    let count = 0;
    let byte: number;
    do {
      const field = count < MAX_FIELDS ? count : MAX_FIELDS;
      let kind = OTHER;
      let low = 0;
      let high = 0;
      starts[field] = at;
      if (bytes[at] === ZERO && bytes[at + 1] === LETTER_X) {
        at += 2;
        let digit = DIGIT[bytes[at]!]!;
        if (digit < 16) kind = HEX;
        while (digit < 16) {
          if (high >>> 28 !== 0) kind = HEX_ABOVE_64_BITS;
          high = (high << 4) | (low >>> 28);
          low = (low << 4) | digit;
          digit = DIGIT[bytes[++at]!]!;
        }
      }
      byte = bytes[at]!;
      while (byte !== TAB && byte !== LF) {
        kind = OTHER;
        byte = bytes[++at]!;
      }
      kinds[field] = kind;
      lo[field] = low;
      hi[field] = high;
      at++;
      count++;
    } while (byte !== LF);
    if (count <= MAX_FIELDS) starts[count] = at;
    this.count = count;
    this.line++;
    this.#shape = undefined;
    if (at - from > LINE_BYTES) this.refuse(TOO_LONG);
    return at;
  }

  /** Checks the number of fields, and names them for the errors that follow. */
  expect(shape: Shape): void {
    this.#shape = shape;
    const found = this.count - 1;
    if (found >= shape.min && found <= shape.names.length) return;
    const optional = shape.names.slice(shape.min).map((name) => `[${name}]`);
    const names = [...shape.names.slice(0, shape.min), ...optional].join(", ");
    this.refuse(`wrong number of fields: ${shape.event} has ${names}; found ${found}`);
  }

  /** First byte of a field; the tab or line feed behind it when it is empty. */
  firstByte(field: number): number {
    return this.bytes[this.#starts[field]!]!;
  }

  /** Whether a field is exactly that byte. */
  isLetter(field: number, letter: number): boolean {
    return this.firstByte(field) === letter && this.#starts[field + 1]! - this.#starts[field]! === 2;
  }

  /** Whether a field is exactly that word. */
  isWord(field: number, word: Uint8Array): boolean {
    const start = this.#starts[field]!;
    if (this.#starts[field + 1]! - start !== word.length + 1) return false;
    for (let i = 0; i < word.length; i++) if (this.bytes[start + i] !== word[i]) return false;
    return true;
  }

  /** Refuses a field that is no hexadecimal number of 64 bits with a zero wherever the mask has a one in the low half. */
  expectHex(field: number, mask: number): void {
    if (this.#kinds[field] === OTHER) this.refuseField(field, "is not hexadecimal with 0x");
    if (this.#kinds[field] === HEX_ABOVE_64_BITS) this.refuseField(field, "is above 64 bits");
    if ((this.lo[field]! & mask) !== 0) this.refuseField(field, `is not a multiple of ${mask + 1}`);
  }

  /** Value 0..max of a hexadecimal field, max below 2^32. */
  hex(field: number, max: number): number {
    this.expectHex(field, 0);
    if (this.hi[field] !== 0 || this.lo[field]! > max) this.refuseField(field, `is above 0x${max.toString(16)}`);
    return this.lo[field]!;
  }

  /** Value 0..max of a decimal field, max below 2^32. */
  decimal(field: number, max: number): number {
    const end = this.#starts[field + 1]! - 1;
    let at = this.#starts[field]!;
    if (at === end) this.refuseField(field, "is not decimal");
    let value = 0;
    for (; at < end; at++) {
      const digit = DIGIT[this.bytes[at]!]!;
      if (digit > 9) this.refuseField(field, "is not decimal");
      value = Math.min(value * 10 + digit, max + 1);
    }
    if (value > max) this.refuseField(field, `is above ${max}`);
    return value;
  }

  /** Whether a field is written as a hexadecimal number. */
  looksHex(field: number): boolean {
    return this.#kinds[field] !== OTHER;
  }

  /** A field as text. */
  text(field: number): string {
    return this.textBetween(this.#starts[field]!, this.#starts[field + 1]! - 1);
  }

  /** The bytes from..to - 1 as text. */
  textBetween(from: number, to: number): string {
    try {
      return strictText.decode(this.bytes.subarray(from, to));
    } catch {
      return this.refuse("the text is not UTF-8");
    }
  }

  /** Throws for a field. */
  refuseField(field: number, why: string): never {
    const start = this.#starts[field]!;
    const end = this.#starts[field + 1]! - 1;
    const cut = end - start > QUOTED_BYTES;
    const text = anyText.decode(this.bytes.subarray(start, cut ? start + QUOTED_BYTES : end));
    const name = this.#shape?.names[field - 1] ?? "event";
    this.refuse(`${name} ${JSON.stringify(cut ? `${text}...` : text)} ${why}`);
  }

  /** Throws for the line. */
  refuse(reason: string): never {
    throw new TraceError(this.line, reason);
  }
}
