// What the layers below answer, as errors of the uAPI.
// May import engine/ and iommu/, and arguments.ts, errno.ts of this folder. Ranges are inclusive, first..last.

import { EngineError } from "../engine/errors.js";
import { type ErrnoName, IoctlError } from "./errno.js";
import type { Call } from "./requests.js";

/**
 * ENOMEM is memory, ENOSPC any other thing that has run out, EDEADLK a wait of a thread for itself, ETIMEDOUT one for a thread
 * that does not leave its section: making the call again waits again, and goes on where it stopped.
 */
const ENGINE_ERRNO: ReadonlyMap<string, { readonly errno: ErrnoName; readonly hint: string }> = new Map([
  ["NO_FRAMES", { errno: "ENOMEM", hint: "unmap something, or make the host with a larger memory.arena" }],
  ["NO_DOMAINS", { errno: "ENOSPC", hint: "use one ioasid for several devices, or make the host with more domains" }],
  ["SLOT_LIMIT", { errno: "ENOSPC", hint: "munmap something that is no RAM, or make the host with more slots" }],
  ["SLOT_OVERLAP", { errno: "EEXIST", hint: "host-physical addresses of RAM and devices must not overlap" }],
  ["IN_SECTION", { errno: "EDEADLK", hint: "make the call after the batch has returned" }],
  ["PORT_STALLED", { errno: "ETIMEDOUT", hint: "let that port leave its section, or end its thread; then make the call again" }],
]);

/** Runs `change`; an `EngineError` that the caller can do something about becomes an `IoctlError`. */
export function withErrno<T>(call: Call, change: () => T): T {
  try {
    return change();
  } catch (error) {
    const known = error instanceof EngineError ? ENGINE_ERRNO.get(error.code) : undefined;
    throw known === undefined ? error : new IoctlError(known.errno, call.name, (error as EngineError).message, { hint: known.hint });
  }
}

/** A section is open on this very thread: a change of tables or routes would wait for it forever. */
export function inSection(call: Call): IoctlError {
  const hint = "make the call after the batch has returned";
  return new IoctlError("EDEADLK", call.name, "a section of this thread is open", { hint });
}
