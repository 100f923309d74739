// Everything that makes a trace wrong by itself, with the line and the reason that the reader is told.

import { describe, expect, it } from "vitest";

import { TraceParser } from "../../src/trace/parse.js";
import { TraceError } from "../../src/trace/trace-error.js";

const MAGIC = "# ioasid-trace 1\n";
const BYTES_64K = 65536;

/** The error that the text ends in, whether it arrives at once or byte by byte. */
function errorOf(text: string | Uint8Array): TraceError {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  const whole = caught([bytes]);
  const pieces = caught(Array.from(bytes, (byte) => new Uint8Array([byte])));
  expect([pieces.line, pieces.reason]).toEqual([whole.line, whole.reason]);
  return whole;
}

function caught(chunks: Uint8Array[]): TraceError {
  const parser = new TraceParser();
  try {
    for (const chunk of chunks) parser.push(chunk);
    parser.end();
  } catch (error) {
    if (error instanceof TraceError) return error;
    throw error;
  }
  throw new Error("the trace was accepted");
}

describe("a trace is refused", () => {
  it.each([
    ["", 1, "empty input"],
    ["# ioasid-trace 1", 1, "truncated: the last line has no line feed"],
    ["# ioasid-trace 2\n", 1, 'the first line is not "# ioasid-trace 1"'],
    ["# ioasid-trace 1\r\n", 1, 'the first line is not "# ioasid-trace 1"'],
    ["# ioasid-trace 10\n", 1, 'the first line is not "# ioasid-trace 1"'],
    ["\n# ioasid-trace 1\n", 1, 'the first line is not "# ioasid-trace 1"'],
    ["attach\t1\t0x20\n", 1, 'the first line is not "# ioasid-trace 1"'],
    [`${MAGIC}# key\n`, 2, "a header line is not `# key: value`"],
    [`${MAGIC}#key: value\n`, 2, "a header line is not `# key: value`"],
    [`${MAGIC}# : value\n`, 2, "a header line is not `# key: value`"],
    [`${MAGIC}# a: 1\n# b: 2\n# a: 3\n`, 4, 'header "a" is repeated'],
    [`${MAGIC}inv\t1\tall\n# key: value\n`, 3, "`#` lines may stand only at the top"],
    [`${MAGIC}\n`, 2, "empty line"],
    [`${MAGIC}inv\t1\tall\n\n`, 3, "empty line"],
    [`${MAGIC}inv\t1\tall\nunmap\t1\t0x1000\t0x10`, 3, "truncated: the last line has no line feed"],
    [`${MAGIC}# key: val`, 2, "truncated: the last line has no line feed"],
  ])("for its lines: %j", (text, line, reason) => {
    const error = errorOf(text);
    expect(error.message).toBe(`line ${line}: ${reason}`);
    expect(error).toMatchObject({ name: "TraceError", line, reason });
  });

  const FIELDS: [string, string][] = [
    // The event
    ["jump\t1\t0x1000", 'event "jump" is unknown: not map, unmap, attach, detach, inv or dma'],
    ["Map\t1\t0x1000", 'event "Map" is unknown'],
    ["mapp\t1", 'event "mapp" is unknown'],
    ["ma\t1", 'event "ma" is unknown'],
    ["\tmap", 'event "" is unknown'],
    [" inv\t1\tall", 'event " inv" is unknown'],
    ["x".repeat(100), `event "${"x".repeat(40)}..." is unknown`],
    // The number of fields
    ["map", "wrong number of fields: map has domain, iova, out, size, perm; found 0"],
    ["map\t1\t0x1000\t0x1000\t0x1000", "wrong number of fields: map has domain, iova, out, size, perm; found 4"],
    ["map\t1\t0x1000\t0x1000\t0x1000\tr\t", "found 6"],
    ["map\t1\tx\ty", "wrong number of fields"],
    ["unmap\t1\t0x1000", "wrong number of fields: unmap has domain, iova, size; found 2"],
    ["unmap\t1\t0x1000\t0x1000\t0x1000", "found 4"],
    ["attach\t1", "wrong number of fields: attach has domain, rid, [pasid]; found 1"],
    ["attach\t1\t0x20\t1\t1", "found 4"],
    ["detach\t1", "wrong number of fields: detach has domain, rid, [pasid]; found 1"],
    ["inv", "wrong number of fields: inv has domain, iova, size; found 0"],
    ["inv\t1", "found 1"],
    ["inv\t1\t0x1000", "wrong number of fields: inv has domain, iova, size; found 2"],
    ["inv\t1\tall\t0x1000", "wrong number of fields: inv has domain, all; found 3"],
    ["dma\t0x20\t-\t0x0\t0x1\tr", "wrong number of fields: dma has rid, pasid, iova, len, access, answer, [stale]; found 5"],
    ["dma\t0x20\t-\t0x0\t0x1\tr\t0x0\tstale\t", "found 8"],
    [`dma${"\tx".repeat(30)}`, "found 30"],
    // Hexadecimal
    ["unmap\t1\t1000\t0x1000", 'iova "1000" is not hexadecimal with 0x'],
    ["unmap\t1\t0x\t0x1000", 'iova "0x" is not hexadecimal with 0x'],
    ["unmap\t1\t0X1000\t0x1000", 'iova "0X1000" is not hexadecimal with 0x'],
    ["unmap\t1\t0x10g0\t0x1000", 'iova "0x10g0" is not hexadecimal with 0x'],
    ["unmap\t1\t 0x1000\t0x1000", 'iova " 0x1000" is not hexadecimal with 0x'],
    ["unmap\t1\t0x1000 \t0x1000", 'iova "0x1000 " is not hexadecimal with 0x'],
    ["unmap\t1\t-0x1000\t0x1000", 'iova "-0x1000" is not hexadecimal with 0x'],
    ["unmap\t1\t\t0x1000", 'iova "" is not hexadecimal with 0x'],
    ["unmap\t1\t0x1000\t0x1000\r", 'size "0x1000\\r" is not hexadecimal with 0x'],
    ["inv\t1\tAll\t0x1000", 'iova "All" is not hexadecimal with 0x'],
    ["map\t1\t0x0\tx\t0x1000\tr", 'out "x" is not hexadecimal with 0x'],
    ["dma\t20\t-\t0x0\t0x1\tr\t0x0", 'rid "20" is not hexadecimal with 0x'],
    ["dma\t0x20\t-\t0x0\t0x1\tr\tok", 'answer "ok" is not hexadecimal with 0x'],
    // Above 64 bits
    ["unmap\t1\t0x10000000000000000\t0x1000", 'iova "0x10000000000000000" is above 64 bits'],
    ["map\t1\t0x0\t0x10000000000000000\t0x1000\tr", 'out "0x10000000000000000" is above 64 bits'],
    ["unmap\t1\t0x0\t0x10000000000000000", 'size "0x10000000000000000" is above 64 bits'],
    ["dma\t0x20\t-\t0x0\t0x1\tr\t0xfffffffffffffffff", 'answer "0xfffffffffffffffff" is above 64 bits'],
    ["unmap\t1\t0x10000000000000000z\t0x1000", 'iova "0x10000000000000000z" is not hexadecimal with 0x'],
    // Small numbers
    ["inv\tone\tall", 'domain "one" is not decimal'],
    ["inv\t\tall", 'domain "" is not decimal'],
    ["inv\t0x1\tall", 'domain "0x1" is not decimal'],
    ["inv\t1f\tall", 'domain "1f" is not decimal'],
    ["inv\t-1\tall", 'domain "-1" is not decimal'],
    ["inv\t4294967295\tall", 'domain "4294967295" is above 4294967294'],
    ["inv\t4294967296\tall", 'domain "4294967296" is above 4294967294'],
    ["inv\t99999999999999999999999\tall", "is above 4294967294"],
    ["inv\t**\tall", 'domain "**" is not decimal'],
    ["unmap\t*\t0x0\t0x1000", 'domain "*" is not decimal'],
    ["map\t*\t0x0\t0x0\t0x1000\tr", 'domain "*" is not decimal'],
    ["attach\t*\t0x20", 'domain "*" is not decimal'],
    ["attach\t1\t0x10000", 'rid "0x10000" is above 0xffff'],
    ["attach\t1\t0x100000020", 'rid "0x100000020" is above 0xffff'],
    ["attach\t1\t32", 'rid "32" is not hexadecimal with 0x'],
    ["dma\t0x10000\t-\t0x0\t0x1\tr\t0x0", 'rid "0x10000" is above 0xffff'],
    ["attach\t1\t0x20\t1048576", 'pasid "1048576" is above 1048575'],
    ["attach\t1\t0x20\t0x100000", 'pasid "0x100000" is above 0xfffff'],
    ["attach\t1\t0x20\t-", 'pasid "-" is not decimal'],
    ["detach\t1\t0x20\t", 'pasid "" is not decimal'],
    ["dma\t0x20\t1048576\t0x0\t0x1\tr\t0x0", 'pasid "1048576" is above 1048575'],
    ["dma\t0x20\t--\t0x0\t0x1\tr\t0x0", 'pasid "--" is not decimal'],
    // Pages
    ["map\t1\t0x800\t0x1000\t0x1000\tr", 'iova "0x800" is not a multiple of 4096'],
    ["map\t1\t0x1000\t0x1001\t0x1000\tr", 'out "0x1001" is not a multiple of 4096'],
    ["map\t1\t0x1000\t0x1000\t0x1800\tr", 'size "0x1800" is not a multiple of 4096'],
    ["unmap\t1\t0x1\t0x1000", 'iova "0x1" is not a multiple of 4096'],
    ["unmap\t1\t0x1000\t0xfff", 'size "0xfff" is not a multiple of 4096'],
    ["inv\t1\t0x1\t0x1000", 'iova "0x1" is not a multiple of 4096'],
    ["inv\t1\t0x1000\t0x1", 'size "0x1" is not a multiple of 4096'],
    // Sizes and ends
    ["map\t1\t0x1000\t0x1000\t0x0\tr", 'size "0x0" is zero'],
    ["unmap\t1\t0x1000\t0x0", 'size "0x0" is zero'],
    ["inv\t1\t0x1000\t0x0", 'size "0x0" is zero'],
    ["dma\t0x20\t-\t0x0\t0x0\tr\t0x0", 'len "0x0" is zero'],
    [
      "map\t1\t0xfffffffffffff000\t0x0\t0x2000\tr",
      'size "0x2000" lets the range of 0x2000 bytes at 0xfffffffffffff000 run past 2^64',
    ],
    ["map\t1\t0x0\t0xfffffffffffff000\t0x2000\tr", "at 0xfffffffffffff000 run past 2^64"],
    ["unmap\t1\t0x2000\t0xfffffffffffff000", "at 0x2000 run past 2^64"],
    ["unmap\t1\t0xffffffff00000000\t0x100001000", "run past 2^64"],
    ["inv\t1\t0xfffffffffffff000\t0x2000", "run past 2^64"],
    ["dma\t0x20\t-\t0xffffffffffffffff\t0x2\tr\t0x0", 'len "0x2" lets the range of 0x2 bytes at 0xffffffffffffffff run past'],
    ["dma\t0x20\t-\t0x0\t0x2\tr\t0xffffffffffffffff", 'answer "0xffffffffffffffff" lets the range of 0x2 bytes'],
    // Words
    ["map\t1\t0x1000\t0x1000\t0x1000\tx", 'perm "x" is not r, w or rw'],
    ["map\t1\t0x1000\t0x1000\t0x1000\twr", 'perm "wr" is not r, w or rw'],
    ["map\t1\t0x1000\t0x1000\t0x1000\trwx", 'perm "rwx" is not r, w or rw'],
    ["map\t1\t0x1000\t0x1000\t0x1000\t", 'perm "" is not r, w or rw'],
    ["dma\t0x20\t-\t0x0\t0x1\trw\t0x0", 'access "rw" is not r or w'],
    ["dma\t0x20\t-\t0x0\t0x1\t\t0x0", 'access "" is not r or w'],
    ["dma\t0x20\t-\t0x0\t0x1\tr\tfault:", 'answer "fault:" is neither an address nor fault:<reason>'],
    ["dma\t0x20\t-\t0x0\t0x1\tr\tfault", 'answer "fault" is neither an address nor fault:<reason>'],
    ["dma\t0x20\t-\t0x0\t0x1\tr\t", 'answer "" is not hexadecimal with 0x'],
    ["dma\t0x20\t-\t0x0\t0x1\tr\t0x0\tfresh", 'stale "fresh" is not the word stale'],
    ["dma\t0x20\t-\t0x0\t0x1\tr\t0x0\t", 'stale "" is not the word stale'],
  ];

  it.each(FIELDS)("for its fields: %j", (line, reason) => {
    const error = errorOf(`${MAGIC}# key: value\ninv\t1\tall\n${line}\ninv\t1\tall\n`);
    expect(error.line).toBe(4);
    expect(error.reason).toContain(reason);
  });

  it("for a line feed that is more than 64 KiB away", () => {
    const reason = "no line feed within 65536 bytes";
    const key = `${MAGIC}# key: `;
    const longest = BYTES_64K - "# key: \n".length;
    expect(errorOf(`${key}${"x".repeat(longest + 1)}\n`)).toMatchObject({ line: 2, reason });
    expect(errorOf(`${key}${"x".repeat(longest + 1)}`)).toMatchObject({ line: 2, reason });
    expect(errorOf(`${key}${"x".repeat(longest)}`).reason).toBe("truncated: the last line has no line feed");
    expect(errorOf("x".repeat(2 * BYTES_64K))).toMatchObject({ line: 1, reason });
    expect(errorOf(`${MAGIC}${"\t".repeat(2 * BYTES_64K)}\n`)).toMatchObject({ line: 2, reason });

    const parser = new TraceParser();
    parser.push(new TextEncoder().encode(`${key}${"x".repeat(longest)}\n`));
    expect(parser.end().header.get("key")).toHaveLength(longest);
  });

  it("for text that is not UTF-8", () => {
    const bytes = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
    for (const line of ["# key: \xff", "dma\t0x20\t-\t0x0\t0x1\tr\tfault:\xff"]) {
      expect(errorOf(bytes(`${MAGIC}${line}\n`))).toMatchObject({ line: 2, reason: "the text is not UTF-8" });
    }
  });

  it("for more fault reasons than a row can name", () => {
    const lines = Array.from({ length: 65536 }, (_, i) => `dma\t0x20\t-\t0x0\t0x1\tr\tfault:${i}\n`).join("");
    const parser = new TraceParser();
    const act = () => parser.push(new TextEncoder().encode(MAGIC + lines));
    expect(act).toThrow("line 65537: more than 65535 different fault reasons");
  });
});

describe("a parser that has ended or failed", () => {
  it("takes no more", () => {
    const ended = new TraceParser();
    ended.push(new TextEncoder().encode(MAGIC));
    ended.end();
    expect(() => ended.push(new Uint8Array(1))).toThrow("TraceParser.push: the parser has ended or failed");
    expect(() => ended.end()).toThrow("TraceParser.end: the parser has ended or failed");

    const failed = new TraceParser();
    expect(() => failed.push(new TextEncoder().encode("\n"))).toThrow(TraceError);
    expect(() => failed.end()).toThrow("TraceParser.end: the parser has ended or failed");
  });
});
