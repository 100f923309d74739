// What the layers below answer, as errors of the uAPI.
// May import engine/ and iommu/, and arguments.ts, errno.ts of this folder. Ranges are inclusive, first..last.

import { EngineError } from "../engine/errors.js";
import { type ErrnoName, IoctlError } from "./errno.js";
import type { Call } from "./requests.js";

/**
 * ENOMEM is memory, ENOSPC any other thing that has run out, EDEADLK a wait of a thread for itself, ETIMEDOUT one for a thread
 * that does not leave its section: what was asked is done as far as tables go, and making the call again waits again.
 */
const ENGINE_ERRNO: ReadonlyMap<string, ErrnoName> = new Map([
  ["NO_FRAMES", "ENOMEM"],
  ["NO_DOMAINS", "ENOSPC"],
  ["SLOT_LIMIT", "ENOSPC"],
  ["SLOT_OVERLAP", "EEXIST"],
  ["IN_SECTION", "EDEADLK"],
  ["PORT_STALLED", "ETIMEDOUT"],
]);

/** Runs `change`; an `EngineError` that the caller can do something about becomes an `IoctlError`. */
export function withErrno<T>(call: Call, change: () => T): T {
  try {
    return change();
  } catch (error) {
    const errno = error instanceof EngineError ? ENGINE_ERRNO.get(error.code) : undefined;
    throw errno === undefined ? error : new IoctlError(errno, call.name, (error as EngineError).message);
  }
}

/** A section is open on this very thread: a change of tables or routes would wait for it forever. */
export function inSection(call: Call): IoctlError {
  const hint = "make the call after the batch has returned";
  return new IoctlError("EDEADLK", call.name, "a section of this thread is open", { hint });
}
