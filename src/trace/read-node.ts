// Reads a trace from a file or a stream, gzip or plain text. For Node only; imports the rest of this folder.
// A gzip file begins with 1f 8b (RFC 1952, section 2.3.1), which no trace does.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";

import { TraceParser } from "./parse.js";
import type { Trace } from "./trace.js";
import { TraceError, TraceReadError } from "./trace-error.js";

/** Bytes of the source that were read, and how many there are; undefined where that is not known. */
export type ReadProgress = (bytesRead: number, bytesTotal: number | undefined) => void;

const CHUNK_BYTES = 1 << 18;
const STREAM_NAME = "input stream";

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "permission denied",
  EISDIR: "is a directory",
  Z_BUF_ERROR: "truncated gzip data",
  Z_DATA_ERROR: "corrupt gzip data",
};

/**
 * Reads and parses the whole source.
 * Throws TraceError for a trace that breaks the format, TraceReadError (with the file's name) for a source that cannot be
 * read or decompressed. The stream is destroyed when anything fails.
 */
export async function readTrace(source: string | NodeJS.ReadableStream, onProgress?: ReadProgress): Promise<Trace> {
  const parser = new TraceParser();
  try {
    const total = typeof source === "string" ? await fileBytes(source) : undefined;
    const input = typeof source === "string" ? createReadStream(source, { highWaterMark: CHUNK_BYTES }) : source;
    const { gzip, chunks } = await sniff(counted(input, total, onProgress));
    if (gzip) await feedGzip(parser, chunks, input);
    else await feed(parser, chunks);
    return parser.end();
  } catch (error) {
    throw readError(typeof source === "string" ? source : STREAM_NAME, error);
  }
}

/** Size of a regular file; undefined for a pipe or a device. */
async function fileBytes(path: string): Promise<number | undefined> {
  const status = await stat(path);
  if (status.isDirectory()) throw new TraceReadError(path, REASONS["EISDIR"]!);
  return status.isFile() ? status.size : undefined;
}

async function* counted(
  input: AsyncIterable<Uint8Array | string>,
  total: number | undefined,
  onProgress: ReadProgress | undefined,
): AsyncGenerator<Uint8Array> {
  let bytesRead = 0;
  for await (const chunk of input) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    bytesRead += bytes.length;
    onProgress?.(bytesRead, total);
    yield bytes;
  }
}

/** Looks at the first two bytes, which may come in two chunks, and gives all chunks back. */
async function sniff(input: AsyncGenerator<Uint8Array>): Promise<{ gzip: boolean; chunks: AsyncGenerator<Uint8Array> }> {
  let head: Uint8Array = new Uint8Array(0);
  while (head.length < 2) {
    const { done, value } = await input.next();
    if (done === true) break;
    head = head.length === 0 ? value : Buffer.concat([head, value]);
  }
  const chunks = async function* () {
    try {
      yield head;
      yield* input;
    } finally {
      await input.return(undefined); // a reader that stops at the head must close the source too
    }
  };
  return { gzip: head[0] === 0x1f && head[1] === 0x8b, chunks: chunks() };
}

async function feed(parser: TraceParser, text: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of text) parser.push(chunk);
}

/** Decompresses and parses. Closes the source as soon as either fails: `pipeline` alone would wait for its next chunk. */
async function feedGzip(parser: TraceParser, chunks: AsyncIterable<Uint8Array>, source: NodeJS.ReadableStream): Promise<void> {
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  gunzip.once("close", () => {
    if ("destroy" in source && typeof source.destroy === "function") source.destroy();
  });
  await pipeline(chunks, gunzip, (text) => feed(parser, text));
}

/** System and zlib errors get the file's name; everything else is already clear, or not ours. */
function readError(file: string, error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof TraceError || error instanceof TraceReadError) return error;
  const { code } = error as NodeJS.ErrnoException;
  return code === undefined ? error : new TraceReadError(file, REASONS[code] ?? error.message, { cause: error });
}
