// The trace format `ioasid-trace 1`, from bytes to columns. Imports the rest of this folder.
//   # ioasid-trace 1                                          first line
//   # key: value                                              header lines, only at the top, each key once
//   map     domain iova out size perm                         perm r, w or rw
//   unmap   domain iova size
//   attach  domain rid [pasid]                                detach has the same fields
//   inv     domain iova size | domain all                     domain * is every domain
//   dma     rid pasid|- iova len r|w answer [stale]           answer: an address, or fault:<reason>
// One tab between fields, a line feed ends every line. Addresses, sizes and rid are hexadecimal with 0x, domains decimal;
// the format does not say which a PASID is, so both are read. A range is iova and size, and may end at 2^64.

import { EventParser } from "./event-parser.js";
import { LF, LINE_BYTES, LineFields, TOO_LONG } from "./line-fields.js";
import type { Trace } from "./trace.js";
import { TraceError } from "./trace-error.js";

const MAGIC = "# ioasid-trace 1";
const HASH = 0x23;

/**
 * Parses a trace that arrives in chunks, cut anywhere. Chunks are not kept, so a caller may reuse its buffer.
 * `push` and `end` throw TraceError for bytes that break the format. The parser is then finished, as it is after `end`:
 * a further call throws Error.
 */
export class TraceParser {
  readonly #header = new Map<string, string>();
  readonly #fields = new LineFields();
  readonly #events = new EventParser(this.#fields, this.#header);
  /** The beginning of a line whose end has not arrived. */
  readonly #rest = new Uint8Array(LINE_BYTES);
  #restLength = 0;
  #inHeader = true;
  #finished = false;

  /** Takes the next bytes. */
  push(chunk: Uint8Array): void {
    this.#finish("push");
    const head = this.#restLength === 0 ? 0 : chunk.indexOf(LF) + 1;
    if (head > 0) {
      this.#keep(chunk.subarray(0, head));
      const length = this.#restLength;
      this.#restLength = 0;
      this.#lines(this.#rest, 0, length);
    }
    const tail = chunk.lastIndexOf(LF) + 1;
    if (tail > head) this.#lines(chunk, head, tail);
    this.#keep(chunk.subarray(tail));
    this.#finished = false;
  }

  /** Ends the input and returns the trace. */
  end(): Trace {
    this.#finish("end");
    const { line } = this.#fields;
    if (this.#restLength > 0) throw new TraceError(line + 1, "truncated: the last line has no line feed");
    if (line === 0) throw new TraceError(1, "empty input");
    return this.#events.end();
  }

  /** Finishes the parser; `push` opens it again once it has succeeded. */
  #finish(call: string): void {
    if (this.#finished) throw new Error(`TraceParser.${call}: the parser has ended or failed`);
    this.#finished = true;
  }

  #keep(bytes: Uint8Array): void {
    const length = this.#restLength + bytes.length;
    const room = bytes.at(-1) === LF ? LINE_BYTES : LINE_BYTES - 1;
    if (length > room) throw new TraceError(this.#fields.line + 1, TOO_LONG);
    this.#rest.set(bytes, this.#restLength);
    this.#restLength = length;
  }

  /** Reads the lines in from..to - 1, which are whole. */
  #lines(bytes: Uint8Array, from: number, to: number): void {
    const fields = this.#fields;
    // One class of array for all chunks, Buffers too, so that `scan` is compiled once.
    fields.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, to);
    let at = from;
    while (at < to) {
      const next = fields.scan(at);
      if (this.#inHeader && (fields.line === 1 || bytes[at] === HASH)) {
        this.#headerLine(fields.textBetween(at, next - 1));
      } else {
        this.#inHeader = false;
        this.#events.read();
      }
      at = next;
    }
  }

  #headerLine(text: string): void {
    const fields = this.#fields;
    const header = this.#header;
    if (fields.line === 1) {
      if (text !== MAGIC) fields.refuse(`the first line is not ${JSON.stringify(MAGIC)}`);
      return;
    }
    const colon = text.indexOf(": ");
    if (!text.startsWith("# ") || colon < 3) fields.refuse("a header line is not `# key: value`");
    const key = text.slice(2, colon);
    if (header.has(key)) fields.refuse(`header ${JSON.stringify(key)} is repeated`);
    header.set(key, text.slice(colon + 2));
  }
}
