// Starts a thread of port-worker.mjs and waits until it is where a test wants it. Imports the package's sources and Node.
import { Worker } from "node:worker_threads";
import type { Engine } from "../../src/engine/engine.js";
import { WorkerGroup } from "../../src/threads/worker-group.js";

const INSIDE = 1;
const LEFT = 2;

const started: OtherThread[] = [];

/** Starts a thread that `closeThreads` will end. */
export async function start(engine: Engine, job: string, data: object = {}): Promise<OtherThread> {
  const thread = await OtherThread.start(engine, job, data);
  started.push(thread);
  return thread;
}

/** For afterEach. */
export async function closeThreads(): Promise<void> {
  for (const thread of started.splice(0)) await thread.close();
}

export class OtherThread {
  messages: unknown[] = [];
  private ends: unknown[] = [];

  private constructor(readonly group: WorkerGroup, readonly worker: Worker, readonly thread: number, readonly signal: Int32Array) {}

  /** Resolves when the thread is inside the section that its job opens, or has told so by other means. */
  static async start(engine: Engine, job: string, data: object = {}): Promise<OtherThread> {
    const signal = new Int32Array(new SharedArrayBuffer(128));
    const heard: unknown[] = [];
    const ends: unknown[] = [];
    let worker: Worker | undefined;
    let thread = 0;
    const group = await WorkerGroup.start(engine, 1, () => (worker = new Worker(new URL("./port-worker.mjs", import.meta.url))), (token) => {
      thread = token.thread;
      return { token, job, buffer: signal.buffer, ...data };
    }, { heard: (message) => heard.push(message), ended: (error) => ends.push(error) });
    if (Atomics.load(signal, 0) === 0) Atomics.wait(signal, 0, 0, 20_000);
    const other = new OtherThread(group, worker!, thread, signal);
    other.messages = heard;
    other.ends = ends;
    return other;
  }

  get inside(): boolean {
    return Atomics.load(this.signal, 0) === INSIDE;
  }

  get left(): boolean {
    return Atomics.load(this.signal, 0) === LEFT;
  }

  /** Tells the thread to go on. */
  tell(): void {
    Atomics.store(this.signal, 1, 1);
    Atomics.notify(this.signal, 1);
  }

  /** The next message that has not been read. */
  async hear(): Promise<unknown> {
    while (this.messages.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    return this.messages.shift();
  }

  /** Resolves when the group has heard that the worker has ended. */
  async ended(): Promise<void> {
    while (this.ends.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  async close(): Promise<void> {
    this.tell();
    await this.group.close();
  }
}
