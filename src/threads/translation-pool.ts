// Threads that translate: workers with a port each, and one buffer whose requests they share. Imports engine, its own folder.
import type { Engine } from "../engine/engine.js";
import { EngineError } from "../engine/errors.js";
import { RequestShare } from "./request-share.js";
import { WorkerGroup, type WorkerLike } from "./worker-group.js";

type MaybeNode = { process?: { getBuiltinModule?(name: string): unknown } };
type NodeWorker = new (url: URL) => WorkerLike;

/** Longer than any buffer takes: a worker has died, or its machine is gone. */
const PATIENCE = 30_000;

/** The worker of this folder, in Node or in a browser. The URL is a literal, so that bundlers see the file. */
function openWorker(): WorkerLike {
  const node = (globalThis as MaybeNode).process?.getBuiltinModule?.("node:worker_threads") as { Worker: NodeWorker } | undefined;
  if (node) return new node.Worker(new URL("./translate-worker.js", import.meta.url));
  return new Worker(new URL("./translate-worker.js", import.meta.url), { type: "module" }) as WorkerLike;
}

export class TranslationPool {
  readonly #group: WorkerGroup;
  readonly #share: RequestShare;

  private constructor(group: WorkerGroup, share: RequestShare) {
    this.#group = group;
    this.#share = share;
  }

  /** Starts `threads` workers, and a buffer for `lanes` requests. Throws EngineError NO_THREADS or BAD_OPTION. */
  static async start(engine: Engine, threads: number, lanes: number): Promise<TranslationPool> {
    const share = RequestShare.create(lanes);
    const first = (token: unknown) => ({ engine: token, share: share.token });
    const group = await WorkerGroup.start(engine, threads, openWorker, first);
    return new TranslationPool(group, share);
  }

  get threads(): number {
    return this.#group.size;
  }

  /** Requests, 4 words a lane, as a port's. */
  get requests(): Uint32Array {
    return this.#share.requests;
  }

  /** Results, 2 words a lane, as a port's. Each was true while its lanes were translated: a later change may have undone it. */
  get results(): Uint32Array {
    return this.#share.results;
  }

  /** Translates the first n requests on all threads and waits for them: how many were refused. */
  translate(n: number): number {
    this.#share.shareOut(n);
    const refused = this.#share.wait(n, PATIENCE);
    if (refused === undefined) throw new EngineError("PORT_STALLED", `the workers have not answered for ${PATIENCE / 1000} seconds`, "n", n);
    return refused;
  }

  /** Ends the workers. */
  async close(): Promise<void> {
    this.#share.end();
    await this.#group.close();
  }
}
