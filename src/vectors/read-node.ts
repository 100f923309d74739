// Reads a vector file, gzip or plain JSON. For Node only. A gzip file begins with 1f 8b (RFC 1952, 2.3.1), which no JSON does.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { parseVectors } from "./read.js";
import { VectorError, type VectorFile } from "./vectors.js";

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "permission denied",
  EISDIR: "is a directory",
  Z_BUF_ERROR: "truncated gzip data",
  Z_DATA_ERROR: "corrupt gzip data",
};

/** Throws VectorError, whose message does not name the file, and UnsupportedUnit. `file` may be 0: standard input. */
export function readVectors(file: string | number): VectorFile {
  try {
    const bytes = readFileSync(file);
    const text = bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes;
    return parseVectors(text.toString("utf8"));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code !== "string") throw error;
    throw new VectorError("", REASONS[code] ?? (error as Error).message);
  }
}
