// What goes wrong with a trace: its text (`TraceError`), or the file around it (`TraceReadError`).
// Imports nothing.

/** A trace that breaks the format, or whose events contradict each other. */
export class TraceError extends Error {
  override readonly name = "TraceError";

  /** @param line number of the line, from 1. @param reason what is wrong with it. */
  constructor(
    readonly line: number,
    readonly reason: string,
  ) {
    super(`line ${line}: ${reason}`);
  }
}

/** A file or stream that cannot be read or decompressed; `cause` is the system's own error where there is one. */
export class TraceReadError extends Error {
  override readonly name = "TraceReadError";

  /** @param file path, or a name for a stream. @param reason what is wrong with it. */
  constructor(
    readonly file: string,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(`${file}: ${reason}`, options);
  }
}
