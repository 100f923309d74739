// The trace format: what each line becomes in the columns, and back; chunk boundaries anywhere.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { TraceParser } from "../../src/trace/parse.js";
import * as T from "../../src/trace/trace.js";

const MAGIC = "# ioasid-trace 1\n";

/** Parses lines below a header. */
function parse(...lines: string[]): T.Trace {
  return parseBytes(new TextEncoder().encode(MAGIC + lines.map((line) => `${line}\n`).join("")));
}

function parseBytes(...chunks: Uint8Array[]): T.Trace {
  const parser = new TraceParser();
  for (const chunk of chunks) parser.push(chunk);
  return parser.end();
}

/** All columns of one event as numbers. */
function row(trace: T.Trace, index: number): Record<string, number> {
  const columns = { ...trace } as unknown as Record<string, unknown>;
  const values = Object.entries(columns).filter(([, value]) => ArrayBuffer.isView(value));
  return Object.fromEntries(values.map(([name, value]) => [name, (value as Uint32Array)[index]!]));
}

const ZEROS = {
  ops: 0, subject: 0, target: 0, pasid: T.NO_PASID, iovaLo: 0, iovaHi: 0, sizeLo: 0, sizeHi: 0, outLo: 0, outHi: 0,
  flags: 0, reason: 0, line: 2,
};

describe("a parsed trace", () => {
  it("keeps the header lines in their order", () => {
    const trace = parse("# source: a recorder", "# devices: 0x20 = nvme: the first", "# note: ", "attach\t1\t0x20");
    expect([...trace.header]).toEqual([["source", "a recorder"], ["devices", "0x20 = nvme: the first"], ["note", ""]]);
    expect(trace.length).toBe(1);
  });

  it("may have no events, and no header beyond the first line", () => {
    expect(parse().length).toBe(0);
    expect(parse("# key: value").ops).toEqual(new Uint8Array(0));
  });

  it.each([
    [
      "map\t3\t0x1234567890000\t0xfedc000012345000\t0x100000000000\tr",
      {
        ops: T.OP_MAP, subject: 3, iovaLo: 0x67890000, iovaHi: 0x12345, outLo: 0x12345000, outHi: 0xfedc0000,
        sizeLo: 0, sizeHi: 0x1000, flags: T.FLAG_READ,
      },
    ],
    ["map\t0\t0x0\t0x0\t0x1000\tw", { ops: T.OP_MAP, sizeLo: 0x1000, flags: T.FLAG_WRITE }],
    ["map\t0\t0x0\t0x0\t0x1000\trw", { ops: T.OP_MAP, sizeLo: 0x1000, flags: T.FLAG_READ | T.FLAG_WRITE }],
    ["unmap\t4294967294\t0xfffff000\t0x2000", { ops: T.OP_UNMAP, subject: 0xfffffffe, iovaLo: 0xfffff000, sizeLo: 0x2000 }],
    ["attach\t7\t0xffff", { ops: T.OP_ATTACH, subject: 7, target: 0xffff }],
    ["attach\t7\t0x20\t5", { ops: T.OP_ATTACH, subject: 7, target: 0x20, pasid: 5 }],
    ["detach\t7\t0x20\t0xfffff", { ops: T.OP_DETACH, subject: 7, target: 0x20, pasid: 0xfffff }],
    ["detach\t7\t0x20", { ops: T.OP_DETACH, subject: 7, target: 0x20 }],
    ["inv\t2\t0x1000\t0x3000", { ops: T.OP_INVALIDATE, subject: 2, iovaLo: 0x1000, sizeLo: 0x3000 }],
    ["inv\t2\tall", { ops: T.OP_INVALIDATE, subject: 2, flags: T.FLAG_ALL }],
    ["inv\t*\tall", { ops: T.OP_INVALIDATE, subject: T.ALL_DOMAINS, flags: T.FLAG_ALL }],
    ["inv\t*\t0x0\t0x1000", { ops: T.OP_INVALIDATE, subject: T.ALL_DOMAINS, sizeLo: 0x1000 }],
    [
      "dma\t0x28\t-\t0xabcdef012345\t0x7\tw\t0x987654321fedc",
      {
        ops: T.OP_DMA, subject: 0x28, target: T.NO_PASID, iovaLo: 0xef012345, iovaHi: 0xabcd, sizeLo: 7,
        outLo: 0x4321fedc, outHi: 0x98765, flags: T.FLAG_WRITE,
      },
    ],
    [
      "dma\t0x28\t1048575\t0x1\t0x1\tr\t0x2\tstale",
      {
        ops: T.OP_DMA, subject: 0x28, target: 0xfffff, pasid: 0xfffff, iovaLo: 1, sizeLo: 1, outLo: 2,
        flags: T.FLAG_READ | T.FLAG_STALE,
      },
    ],
    [
      "dma\t0x28\t-\t0x1\t0x1\tr\tfault:F_TRANSLATION",
      { ops: T.OP_DMA, subject: 0x28, target: T.NO_PASID, iovaLo: 1, sizeLo: 1, flags: T.FLAG_READ | T.FLAG_FAULT, reason: 1 },
    ],
  ])("has these columns for %j", (line, expected) => {
    expect(row(parse(line), 0)).toEqual({ ...ZEROS, ...expected });
  });

  it("counts lines from 1, header included", () => {
    expect([...parse("# a: b", "inv\t1\tall", "inv\t2\tall").line]).toEqual([3, 4]);
  });

  it("accepts ranges that end exactly at 2^64", () => {
    const trace = parse(
      "map\t0\t0xfffffffffffff000\t0xffffffffffffe000\t0x1000\trw",
      "unmap\t0\t0x1000\t0xfffffffffffff000",
      "dma\t0x0\t-\t0xffffffffffffffff\t0x1\tr\t0xffffffffffffffff",
      "dma\t0x0\t-\t0x1\t0xffffffffffffffff\tr\t0x1",
    );
    expect([trace.iova(0), trace.out(0), trace.size(0)]).toEqual([2n ** 64n - 4096n, 2n ** 64n - 8192n, 4096n]);
    expect(trace.firstPage(0)).toBe(2 ** 52 - 1);
    expect(trace.lastPage(0)).toBe(2 ** 52 - 1);
    expect(trace.outPage(0)).toBe(2 ** 52 - 2);
    expect([trace.firstPage(1), trace.lastPage(1)]).toEqual([1, 2 ** 52 - 1]);
    expect(trace.size(3)).toBe(2n ** 64n - 1n);
  });

  it("keeps each fault reason once", () => {
    const line = (reason: string) => `dma\t0x0\t-\t0x0\t0x1\tr\tfault:${reason}`;
    const trace = parse(line("b"), line("a"), line("b"), "dma\t0x0\t-\t0x0\t0x1\tr\t0x0", line("non présent"));
    expect(trace.reasons).toEqual(["b", "a", "non présent"]);
    expect([...trace.reason]).toEqual([1, 2, 1, 0, 3]);
  });

  it("reads upper-case digits and leading zeros", () => {
    const trace = parse(`unmap\t007\t0x${"0".repeat(40)}ABCDEF000\t0x1000`);
    expect(trace.iova(0)).toBe(0xabcdef000n);
    expect(trace.subject[0]).toBe(7);
  });
});

const hex = (max: bigint, unit = 1n) => fc.bigInt({ min: 0n, max: max / unit }).map((value) => value * unit);
const show = (value: bigint | number) => `0x${value.toString(16)}`;
const domain = fc.integer({ min: 0, max: 2 ** 32 - 2 }).map(String);
const rid = fc.nat(0xffff).map(show);
const pasid = fc.nat(0xfffff).map(String);
/** Address and size whose sum is at most 2^64, multiples of the unit. */
const range = (unit: bigint) =>
  hex(2n ** 64n - unit, unit).chain((iova) => {
    const most = (2n ** 64n - (iova === 0n ? unit : iova)) / unit;
    return fc.tuple(fc.constant(iova), fc.bigInt({ min: 1n, max: most }).map((units) => units * unit));
  });
const out = (size: bigint, unit: bigint) => hex(2n ** 64n - size, unit);
const line: fc.Arbitrary<string> = fc.oneof(
  fc.tuple(domain, range(4096n), fc.constantFrom("r", "w", "rw")).chain(([d, [iova, size], perm]) =>
    out(size, 4096n).map((to) => `map\t${d}\t${show(iova)}\t${show(to)}\t${show(size)}\t${perm}`)),
  fc.tuple(domain, range(4096n)).map(([d, [iova, size]]) => `unmap\t${d}\t${show(iova)}\t${show(size)}`),
  fc.tuple(fc.constantFrom("attach", "detach"), domain, rid, fc.option(pasid)).map(([op, d, r, p]) =>
    [op, d, r, ...(p === null ? [] : [p])].join("\t")),
  fc.tuple(fc.oneof(domain, fc.constant("*")), fc.option(range(4096n))).map(([d, r]) =>
    `inv\t${d}\t${r === null ? "all" : r.map(show).join("\t")}`),
  fc.tuple(rid, fc.oneof(pasid, fc.constant("-")), range(1n), fc.constantFrom("r", "w"), fc.constantFrom("", "\tstale")).chain(
    ([r, p, [iova, size], access, stale]) =>
      fc.oneof(out(size, 1n).map(show), fc.constantFrom("fault:a", "fault:b-c")).map((answer) =>
        `dma\t${r}\t${p}\t${show(iova)}\t${show(size)}\t${access}\t${answer}${stale}`)),
);

describe("describe", () => {
  it("gives back every line that is valid and in its shortest form", () => {
    fc.assert(fc.property(fc.array(line, { maxLength: 20 }), (lines) => {
      const trace = parse(...lines);
      expect(Array.from(lines, (_, i) => trace.describe(i))).toEqual(lines);
    }));
  });
});

describe("chunks", () => {
  it("may be cut anywhere", () => {
    fc.assert(fc.property(fc.array(line, { maxLength: 8 }), fc.array(fc.nat(600), { maxLength: 30 }), (lines, cuts) => {
      const bytes = new TextEncoder().encode(`${MAGIC}# key: value\n${lines.map((one) => `${one}\n`).join("")}`);
      const ends = [...cuts.sort((a, b) => a - b), bytes.length];
      const trace = parseBytes(...ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end)));
      expect(trace).toEqual(parseBytes(bytes));
    }));
  });

  it("may be single bytes, or empty", () => {
    const bytes = new TextEncoder().encode(`${MAGIC}map\t1\t0x1000\t0x2000\t0x3000\trw\ninv\t*\tall\n`);
    const trace = parseBytes(...[...bytes].flatMap((byte) => [new Uint8Array(0), new Uint8Array([byte])]));
    expect(trace).toEqual(parseBytes(bytes));
    expect(trace.length).toBe(2);
  });

  it("are not kept: the caller may write into its buffer again", () => {
    const parser = new TraceParser();
    const bytes = new TextEncoder().encode(`${MAGIC}attach\t1`);
    parser.push(bytes);
    bytes.fill(0x78);
    parser.push(new TextEncoder().encode("23\t0x20\n"));
    expect(parser.end().describe(0)).toBe("attach\t123\t0x20");
  });

  it("hold any number of events", () => {
    const lines = Array.from({ length: 20_000 }, (_, i) => `unmap\t${i}\t0x${(i * 4096).toString(16)}\t0x1000`);
    const trace = parse(...lines);
    expect(trace.length).toBe(20_000);
    expect(trace.iovaLo).toHaveLength(20_000);
    for (const i of [0, 8191, 8192, 8193, 16_383, 16_384, 19_999]) expect(trace.describe(i)).toBe(lines[i]);
    expect([...trace.line]).toEqual(lines.map((_, i) => i + 2));
  });

  it("end exactly with a block of rows", () => {
    const trace = parse(...Array.from({ length: 8192 }, () => "inv\t1\tall"));
    expect(trace.length).toBe(8192);
    expect(trace.describe(8191)).toBe("inv\t1\tall");
  });
});
