// One buffer of requests and results in shared memory that several threads answer: each claims a piece, translates it in one
// section of its own port, and claims the next. Imports engine, pieces.
import { EngineError, integerIn } from "../engine/errors.js";
import type { Port } from "../engine/port.js";
import { Pieces } from "./pieces.js";

/** Lanes that are claimed at once: a section is short, and its price small beside the work (bench/, row section-256). */
const PIECE = 256;
const REFUSED_AT = Pieces.BYTES;
const REQUESTS_AT = 64;
const LANE_BYTES = 24;

/** Can be posted to a worker. */
export interface ShareToken {
  readonly buffer: SharedArrayBuffer;
  readonly lanes: number;
}

export class RequestShare {
  /** As a port's: 4 words a lane. */
  readonly requests: Uint32Array;
  /** As a port's: 2 words a lane. What they say was true while their lanes were translated. */
  readonly results: Uint32Array;
  readonly #pieces: Pieces;
  readonly #refused: Int32Array;

  private constructor(readonly token: ShareToken) {
    const { buffer, lanes } = token;
    this.#pieces = new Pieces(buffer);
    this.#refused = new Int32Array(buffer, REFUSED_AT, 1);
    this.requests = new Uint32Array(buffer, REQUESTS_AT, lanes * 4);
    this.results = new Uint32Array(buffer, REQUESTS_AT + lanes * 16, lanes * 2);
  }

  /** A buffer for so many lanes. */
  static create(lanes: number): RequestShare {
    integerIn("lanes", lanes, 1, 1 << 26);
    return new RequestShare({ buffer: new SharedArrayBuffer(REQUESTS_AT + lanes * LANE_BYTES), lanes });
  }

  /** The same buffer on another thread. */
  static of(token: ShareToken): RequestShare {
    return new RequestShare(token);
  }

  /** Shares out the first n requests. Precondition: those shared out before are answered. */
  shareOut(n: number): void {
    if (!Number.isInteger(n) || n < 0 || n > this.token.lanes) {
      throw new EngineError("BAD_ARGUMENT", `must be 0..${this.token.lanes}`, "n", n);
    }
    Atomics.store(this.#refused, 0, 0);
    this.#pieces.shareOut(0, n, PIECE);
  }

  /** Answers pieces of what is shared out until none is left to claim. */
  answer(port: Port): void {
    this.#pieces.work(Math.min(PIECE, port.capacity), (first, n) => this.#translate(port, first, n));
  }

  /** Answers whatever is shared out, until `end`. Blocks: for a worker that does nothing else. */
  serve(port: Port): void {
    this.#pieces.serve(Math.min(PIECE, port.capacity), (first, n) => this.#translate(port, first, n));
  }

  #translate(port: Port, first: number, n: number): void {
    port.batch(() => {
      port.requests.set(this.requests.subarray(first * 4, (first + n) * 4));
      const refused = port.translate(n);
      this.results.set(port.results.subarray(0, n * 2), first * 2);
      if (refused) Atomics.add(this.#refused, 0, refused);
    });
  }

  /** Waits until the n requests that were shared out are answered: how many were refused, or undefined if it takes too long. Blocks. */
  wait(n: number, milliseconds: number): number | undefined {
    return this.#pieces.wait(n, milliseconds) ? Atomics.load(this.#refused, 0) : undefined;
  }

  /** Ends `serve` on every thread. */
  end(): void {
    this.#pieces.end();
  }
}
