// The DMA of a replay on worker threads: the requests between two control events are shared out in pieces, and the host's
// thread waits until all are answered and compared. Node only. Imports engine, threads, and its own folder.
import { Worker } from "node:worker_threads";
import type { Engine } from "../engine/engine.js";
import type { EngineToken } from "../engine/token.js";
import { Pieces } from "../threads/pieces.js";
import { WorkerGroup } from "../threads/worker-group.js";
import type { DmaOutcome, DmaSink } from "./dma-batch.js";
import type { Trace } from "./trace.js";

/** Requests that a thread takes at once. */
export const PIECE = 256;
/** Longer than any segment takes. */
const PATIENCE = 60_000;

/** What a worker is started with. */
export interface ReplayWorkerData {
  engine: EngineToken;
  pieces: SharedArrayBuffer;
  /** A structured clone: its columns. */
  trace: Trace;
  keep: number;
}

/** A worker's answer at the end of a run. */
export type ReplayWorkerAnswer = DmaOutcome | { error: string };

export class ReplayThreads implements DmaSink {
  readonly #group: WorkerGroup;
  readonly #pieces: Pieces;
  readonly #keep: number;
  readonly #answers: ReplayWorkerAnswer[];
  #settle: () => void = () => {};
  #first = 0;
  #n = 0;

  private constructor(group: WorkerGroup, pieces: Pieces, keep: number, answers: ReplayWorkerAnswer[], onAnswer: (settle: () => void) => void) {
    this.#group = group;
    this.#pieces = pieces;
    this.#keep = keep;
    this.#answers = answers;
    onAnswer(() => this.#settle());
  }

  static async start(engine: Engine, threads: number, trace: Trace, keep: number): Promise<ReplayThreads> {
    const buffer = new SharedArrayBuffer(Pieces.BYTES);
    const answers: ReplayWorkerAnswer[] = [];
    let answered = (): void => {};
    const take = (answer: unknown): void => {
      answers.push(answer as ReplayWorkerAnswer);
      answered();
    };
    const group = await WorkerGroup.start(engine, threads, () => new Worker(new URL("./replay-worker.js", import.meta.url)),
      (token): ReplayWorkerData => ({ engine: token, pieces: buffer, trace, keep }),
      { heard: take, ended: (error) => take({ error: error?.message ?? "a worker has ended" }) });
    return new ReplayThreads(group, new Pieces(buffer), keep, answers, (settle) => { answered = settle; });
  }

  /** Begins a run: every worker takes pieces from here on. */
  begin(): this {
    this.#answers.length = 0;
    this.#pieces.reopen();
    this.#group.post("run");
    return this;
  }

  /** Requests between two control events stand one after the other in the trace. */
  add(event: number): void {
    if (this.#n === 0) this.#first = event;
    this.#n++;
  }

  flush(): void {
    if (this.#n === 0) return;
    this.#pieces.shareOut(this.#first, this.#n, PIECE);
    if (!this.#pieces.wait(this.#n, PATIENCE)) throw new Error("a worker has failed, or does not answer");
    this.#n = 0;
  }

  /** Ends the run: the sums over the workers. Throws what one of them has failed with. */
  async outcome(): Promise<DmaOutcome> {
    this.#pieces.end();
    const all = new Promise<void>((resolve) => {
      this.#settle = () => {
        if (this.#answers.length === this.#group.size) resolve();
      };
    });
    this.#settle();
    await all;
    return this.#answers.map((answer) => {
      if ("error" in answer) throw new Error(answer.error);
      return answer;
    }).reduce((sum, each) => add(sum, each, this.#keep));
  }

  async close(): Promise<void> {
    this.#pieces.end();
    await this.#group.close();
  }
}

function add(a: DmaOutcome, b: DmaOutcome, keep: number): DmaOutcome {
  const faultReasons = { ...a.faultReasons };
  for (const [reason, n] of Object.entries(b.faultReasons)) faultReasons[reason] = (faultReasons[reason] ?? 0) + n;
  return {
    faults: a.faults + b.faults, faultReasons, staleRefused: a.staleRefused + b.staleRefused, mismatches: a.mismatches + b.mismatches,
    firstMismatches: [...a.firstMismatches, ...b.firstMismatches].sort((x, y) => x.line - y.line).slice(0, keep),
    translateSeconds: a.translateSeconds + b.translateSeconds,
  };
}
