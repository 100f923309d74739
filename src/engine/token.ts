// Another thread's way to an engine: a token that can be posted to it, and what it makes of the token there.
// Imports access, module, errors, layout.
import { EngineAccess } from "./access.js";
import { EngineError } from "./errors.js";
import * as L from "./layout.js";
import { instantiate } from "./module.js";

/** Can be posted to a worker. One token is one thread's. */
export interface EngineToken {
  readonly memory: WebAssembly.Memory;
  readonly module: WebAssembly.Module;
  /** Of the engine header in that memory. */
  readonly address: number;
  /** The number under which the host knows the thread's ports. */
  readonly thread: number;
}

/** Memories whose engine was made on this very thread. */
const hosted = new WeakSet<WebAssembly.Memory>();

/** @internal Says that changes of engines in that memory are made on this thread. */
export function hostHere(memory: WebAssembly.Memory): void {
  hosted.add(memory);
}

/** Does Atomics.wait work here? Not on a page's main thread, which must stay responsive. @internal */
export function mayBlock(): boolean {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 1, 0);
    return true;
  } catch {
    return false;
  }
}

/**
 * The engine of a token, on the thread that was given it. On the host's own thread it is the host's: sections opened through it
 * are the host's own. Throws EngineError ABI when the memory holds no engine of this version at that address.
 */
export function connectEngine({ memory, module, address, thread }: EngineToken): EngineAccess {
  const version = new Uint32Array(memory.buffer, address, 1)[0];
  if (version !== L.ABI_VERSION) {
    throw new EngineError("ABI", `an engine of version ${L.ABI_VERSION} was expected there, not ${version}`, "address", address);
  }
  return new EngineAccess(memory, true, address, hosted.has(memory) ? L.HOST_THREAD : thread, instantiate(module, memory));
}
