// Reading traces from files and streams: compressed or not, whole or broken.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";

import { readTrace } from "../../src/trace/read-node.js";
import { TraceError, TraceReadError } from "../../src/trace/trace-error.js";

const folder = mkdtempSync(join(tmpdir(), "trace-read-"));
afterAll(() => rmSync(folder, { recursive: true }));

const LINES = Array.from({ length: 3000 }, (_, i) => `unmap\t1\t0x${((i * 7919) % 65536).toString(16)}000\t0x1000`);
const TEXT = ["# ioasid-trace 1", "# key: value", ...LINES, ""].join("\n");
const GZIP = gzipSync(TEXT);

function file(name: string, bytes: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** A stream of chunks of that many bytes. */
function chunked(bytes: Uint8Array, length: number): Readable {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += length) chunks.push(Buffer.from(bytes.subarray(at, at + length)));
  return Readable.from(chunks);
}

const failure = (source: string | NodeJS.ReadableStream): Promise<Error> =>
  readTrace(source).then(
    () => Promise.reject(new Error("the trace was accepted")),
    (error: Error) => error,
  );

describe("readTrace", () => {
  it("reads a compressed and a plain file, whatever their names", async () => {
    for (const path of [file("a.trace.gz", GZIP), file("b.trace", TEXT), file("c.trace", GZIP)]) {
      const trace = await readTrace(path);
      expect(trace.length).toBe(LINES.length);
      expect(trace.header.get("key")).toBe("value");
      expect(trace.describe(2999)).toBe(LINES[2999]);
    }
  });

  it.each([1, 2, 1000])("reads streams in chunks of %d bytes", async (length) => {
    const text = TEXT.slice(0, TEXT.indexOf("\n", 2000) + 1);
    const events = text.split("\n").length - 3;
    expect((await readTrace(chunked(gzipSync(text), length))).length).toBe(events);
    expect((await readTrace(chunked(Buffer.from(text), length))).length).toBe(events);
  });

  it("reads a stream of text", async () => {
    const stream = chunked(Buffer.from(TEXT), 5000).setEncoding("utf8");
    expect((await readTrace(stream)).length).toBe(LINES.length);
  });

  it("reads several compressed pieces in one file", async () => {
    const cut = TEXT.indexOf("\n", 5000) + 7;
    const path = file("two.gz", Buffer.concat([gzipSync(TEXT.slice(0, cut)), gzipSync(TEXT.slice(cut))]));
    expect((await readTrace(path)).length).toBe(LINES.length);
  });

  it("tells how many bytes of the file it has read", async () => {
    const calls: [number, number | undefined][] = [];
    await readTrace(file("progress.gz", GZIP), (...call) => calls.push(call));
    expect(calls.at(-1)).toEqual([GZIP.length, GZIP.length]);

    calls.length = 0;
    await readTrace(chunked(GZIP, GZIP.length - 1), (...call) => calls.push(call));
    expect(calls).toEqual([[GZIP.length - 1, undefined], [GZIP.length, undefined]]);
  });

  it("names a file that is missing, or a directory", async () => {
    const missing = join(folder, "missing.trace");
    expect(await failure(missing)).toMatchObject({ name: "TraceReadError", message: `${missing}: no such file`, file: missing });
    expect(await failure(folder)).toMatchObject({ name: "TraceReadError", message: `${folder}: is a directory` });
  });

  const LENGTHS = [1, 10, 20, GZIP.length >> 1, GZIP.length - 9, GZIP.length - 1];
  it.each(LENGTHS)("names a compressed file of which only %d bytes are left", async (length) => {
    const path = file(`short-${length}.gz`, GZIP.subarray(0, length));
    const error = await failure(path);
    // One byte is not enough to see that the file is compressed.
    if (length === 1) expect(error).toMatchObject({ name: "TraceError", line: 1 });
    else expect(error).toMatchObject({ name: "TraceReadError", message: `${path}: truncated gzip data` });
  });

  it("names a compressed file that is corrupt", async () => {
    const corrupt = Buffer.from(GZIP);
    const checksum = corrupt.length - 8;
    corrupt.writeUInt32LE((corrupt.readUInt32LE(checksum) ^ 1) >>> 0, checksum);
    const path = file("corrupt.gz", corrupt);
    const error = await failure(path);
    expect(error).toBeInstanceOf(TraceReadError);
    expect(error.message).toBe(`${path}: corrupt gzip data`);
    expect(error.cause).toMatchObject({ code: "Z_DATA_ERROR" });

    const header = file("header.gz", Buffer.from([0x1f, 0x8b, 0xff, 0xff, 0, 0, 0, 0, 0, 0]));
    expect(await failure(header)).toMatchObject({ message: `${header}: corrupt gzip data` });
  });

  it("calls a stream a stream", async () => {
    expect(await failure(chunked(GZIP.subarray(0, 50), 50))).toMatchObject({ message: "input stream: truncated gzip data" });
  });

  it("passes on what is wrong with the text", async () => {
    const broken = TEXT.replace(LINES[7]!, "unmap");
    for (const bytes of [broken, gzipSync(broken)]) {
      const error = await failure(file("broken", bytes));
      expect(error).toBeInstanceOf(TraceError);
      expect(error).toMatchObject({ line: 10 });
    }
    expect(await failure(file("empty", ""))).toMatchObject({ message: "line 1: empty input" });
    expect(await failure(file("empty.gz", gzipSync("")))).toMatchObject({ message: "line 1: empty input" });
    expect(await failure(file("cut", TEXT.slice(0, -1)))).toMatchObject({ line: 3002 });
  });

  it.each(["plain", "gzip"])("closes a %s stream that is still open when the text is wrong", async (kind) => {
    const stream = new PassThrough();
    const text = `# ioasid-trace 1\n${"jump\n".repeat(100_000)}`;
    stream.write(kind === "gzip" ? gzipSync(text) : text);
    expect(await failure(stream)).toMatchObject({ message: expect.stringContaining("line 2: event") as string });
    expect(stream.destroyed).toBe(true);
  });

  it("closes a compressed stream that is still open when it is corrupt", async () => {
    const stream = new PassThrough();
    stream.write(Buffer.from([0x1f, 0x8b, 0xff, 0xff, 0, 0, 0, 0, 0, 0]));
    expect(await failure(stream)).toMatchObject({ message: "input stream: corrupt gzip data" });
    expect(stream.destroyed).toBe(true);
  });

  it("passes on an error of the stream, and of the caller's progress", async () => {
    const stream = new PassThrough();
    stream.write(TEXT.slice(0, 100));
    setImmediate(() => stream.destroy(new Error("unplugged")));
    expect((await failure(stream)).message).toBe("unplugged");

    const other = chunked(GZIP, 10);
    const stop = () => {
      throw new Error("enough");
    };
    await expect(readTrace(other, stop)).rejects.toThrow("enough");
    expect(other.destroyed).toBe(true);
  });
});
