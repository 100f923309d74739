// Calls that change something, when a port of another thread holds one up (ETIMEDOUT). A call asks, checks and builds first: what stops
// it there leaves nothing behind. Then it takes its steps, none of which can be refused (engine/steps.ts): those that are held up are
// put off, and the books are those of the finished call. The next call that changes something makes them first; if it is the same
// call, that is all, and it answers what the first would have. May import engine/ (types) and engine-errno.ts, requests.ts.

import type { Engine } from "../engine/engine.js";
import { inSection, withErrno } from "./engine-errno.js";
import type { Call } from "./requests.js";

/** A call that has thrown ETIMEDOUT with steps put off. */
interface Unfinished {
  /** The file, or whatever else has the call. */
  readonly of: object;
  readonly call: Call;
  /** The arguments as they were then. */
  readonly args: string | undefined;
  readonly answer: unknown;
}

export class Changes {
  readonly #engine: Pick<Engine, "steps" | "inSection" | "held" | "finish">;
  #unfinished: Unfinished | undefined;

  constructor(engine: Pick<Engine, "steps" | "inSection" | "held" | "finish">) {
    this.#engine = engine;
  }

  /**
   * Makes a change, after what is left of the one before.
   * @throws IoctlError ETIMEDOUT (it is unfinished, or the one before still is and this one has not begun), EDEADLK, and what it throws.
   */
  run<T>(of: object, call: Call, arg: unknown, change: () => T): T {
    if (this.#engine.held) {
      this.#finish(call);
      const before = this.#unfinished;
      this.#unfinished = undefined;
      if (before?.of === of && before.call === call && before.args !== undefined && before.args === textOf(arg)) return before.answer as T;
    }
    return withErrno(call, () => {
      const answer = change();
      const { stall } = this.#engine.steps;
      if (stall === undefined) return answer;
      this.#unfinished = { of, call, args: textOf(arg), answer };
      throw stall;
    });
  }

  /** A step of the change that is made now, or of its end: it cannot be refused. */
  take(step: () => void): void {
    this.#engine.steps.take(step);
  }

  #finish(call: Call): void {
    if (this.#engine.inSection) throw inSection(call);
    withErrno(call, () => this.#engine.finish());
  }
}

/** Equal for arguments that mean the same, however they are written; undefined for what cannot be written down. */
function textOf(arg: unknown): string | undefined {
  try {
    return JSON.stringify(arg ?? null, sorted);
  } catch {
    return undefined;
  }
}

function sorted(_key: string, value: unknown): unknown {
  if (typeof value === "bigint" || typeof value === "number") return value.toString();
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
