// Workers that have ports: each is started with a token of its own, and when it ends its ports are closed, whatever it was doing.
// Works with the workers of Node and of browsers. Imports engine.
import type { Engine } from "../engine/engine.js";
import { EngineError } from "../engine/errors.js";
import type { EngineToken } from "../engine/token.js";

/** A Worker of node:worker_threads or of a browser. */
export interface WorkerLike {
  postMessage(message: unknown): void;
  terminate(): unknown;
  on?(event: string, listener: (value: unknown) => void): unknown;
  addEventListener?(event: string, listener: (event: { data?: unknown; message?: string }) => void): void;
}

/** Starts worker number `index`. Spelled out by the caller, so that bundlers see the file: `() => new Worker(new URL("./w.js", import.meta.url), { type: "module" })`. */
export type OpenWorker = (index: number) => WorkerLike;

type Heard = (message: unknown, index: number) => void;
type Ended = (error: Error | undefined, index: number) => void;

function throwIt(error: Error | undefined): void {
  if (error) throw error;
}

interface Member {
  readonly worker: WorkerLike;
  readonly thread: number;
  ended: boolean;
}

export class WorkerGroup {
  readonly #engine: Engine;
  readonly #members: Member[] = [];
  readonly #heard: Heard;
  readonly #ended: Ended;

  private constructor(engine: Engine, heard: Heard, ended: Ended) {
    this.#engine = engine;
    this.#heard = heard;
    this.#ended = ended;
  }

  /**
   * Starts `count` workers and posts each what `first` makes of its token. Resolves when every one has sent its first message,
   * which is taken for "ready"; later ones go to `heard`. Of a worker that ends by itself `ended` hears, with the error if it
   * did not end well; its ports are closed by then. Without `ended` such an error is thrown.
   * Throws EngineError NO_THREADS, or what a worker died of before it was ready.
   */
  static async start(
    engine: Engine, count: number, open: OpenWorker, first: (token: EngineToken, index: number) => unknown,
    { heard = () => {}, ended = throwIt }: { heard?: Heard; ended?: Ended } = {},
  ): Promise<WorkerGroup> {
    const group = new WorkerGroup(engine, heard, ended);
    const tokens = Array.from({ length: count }, () => engine.token());
    try {
      await Promise.all(tokens.map((token, index) => group.#add(open(index), token, first(token, index), index)));
    } catch (error) {
      await group.close();
      throw error;
    }
    return group;
  }

  get size(): number {
    return this.#members.length;
  }

  #add(worker: WorkerLike, token: EngineToken, message: unknown, index: number): Promise<void> {
    const member: Member = { worker, thread: token.thread, ended: false };
    this.#members.push(member);
    return new Promise((resolve, reject) => {
      let ready = false;
      const hear = (heard: unknown): void => {
        if (ready) this.#heard(heard, index);
        ready = true;
        resolve();
      };
      const end = (error: Error | undefined): void => {
        if (member.ended) return;
        member.ended = true;
        this.#engine.endThread(member.thread);
        if (ready) this.#ended(error, index);
        else reject(error ?? new EngineError("BAD_ARGUMENT", "the worker ended before it sent a message", "open", index));
      };
      listen(worker, hear, end);
      worker.postMessage(message);
    });
  }

  /** Posts a message to one worker, or to all. */
  post(message: unknown, index?: number): void {
    for (const { worker, ended } of index === undefined ? this.#members : this.#members.slice(index, index + 1)) {
      if (!ended) worker.postMessage(message);
    }
  }

  /** Ends all workers, whatever they do, and closes their ports. */
  async close(): Promise<void> {
    const running = this.#members.filter(({ ended }) => !ended);
    for (const member of running) member.ended = true;
    await Promise.all(running.map(({ worker }) => worker.terminate()));
    for (const { thread } of running) this.#engine.endThread(thread);
  }
}

/** Messages, and the end: Node says `error`, then `exit`; a browser only `error`. */
function listen(worker: WorkerLike, hear: (message: unknown) => void, end: (error: Error | undefined) => void): void {
  if (worker.on) {
    worker.on("message", hear);
    worker.on("error", (error) => end(error instanceof Error ? error : new Error(String(error))));
    worker.on("exit", (code) => end(code === 0 ? undefined : new Error(`a worker ended with exit code ${String(code)}`)));
    return;
  }
  worker.addEventListener?.("message", ({ data }) => hear(data));
  worker.addEventListener?.("error", ({ message }) => end(new Error(message ?? "a worker failed")));
}
