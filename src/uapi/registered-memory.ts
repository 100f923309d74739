// Memory that the user registered with an ioasid fd: pinned and charged once, however many spaces map it (RFC section 2.1,
// IOASID_REGISTER_MEMORY). May import arguments.ts, errno.ts, ioasid-errors.ts, pins.ts, process.ts, range-map.ts, requests.ts.
// Ranges are inclusive, first..last, in pages of host virtual addresses.

import { firstByte, hexPages, takeLast, takePages } from "./arguments.js";
import { type Conflict, IoctlError } from "./errno.js";
import { exceedsLimit, notAccessible } from "./ioasid-errors.js";
import type { Pins } from "./pins.js";
import type { Process } from "./process.js";
import { RangeMap } from "./range-map.js";
import { type Call, IOASID_REGISTER_MEMORY, IOASID_UNREGISTER_MEMORY, type MemoryRange, REQUESTS } from "./requests.js";

const REGISTER = REQUESTS[IOASID_REGISTER_MEMORY];
const UNREGISTER = REQUESTS[IOASID_UNREGISTER_MEMORY];

interface Pages {
  readonly first: number;
  readonly last: number;
}

export class RegisteredMemory {
  readonly #process: Process;
  readonly #pins: Pins;
  readonly #ranges = new RangeMap<true>();

  constructor(process: Process) {
    this.#process = process;
    this.#pins = process.addPins({ name: "registered memory" });
  }

  /** Registration is in use: what is mapped must be registered, and is charged here alone. */
  get inUse(): boolean {
    return this.#ranges.size > 0;
  }

  /** Pages charged to the lock limit. */
  get charged(): number {
    return this.#pins.charged;
  }

  /** Is every page registered? Neighbouring ranges join. */
  covers(first: number, last: number): boolean {
    for (let at = first; at <= last; ) {
      const range = this.#ranges.find(at);
      if (range === undefined) return false;
      at = range.last + 1;
    }
    return true;
  }

  /** @throws IoctlError EINVAL, EOVERFLOW, EEXIST (overlaps a registered range), EFAULT (memory is missing), ENOMEM (lock limit). */
  register(arg: MemoryRange): void {
    const { first, last } = takeRange(REGISTER, arg);
    const other = this.#ranges.firstIn(first, last);
    if (other !== undefined) {
      const reason = `${hexPages(first, last)} overlaps the registered range ${hexPages(other.first, other.last)}`;
      throw refused("EEXIST", REGISTER, first, reason, registered(other), "unregister that range first");
    }
    const backings = this.#process.resolve(first, last, 0);
    if (typeof backings === "number") throw notAccessible(REGISTER, first, backings, false);
    const { account } = this.#process;
    const parts = backings.map((backing) => ({
      first: Math.max(backing.first, first), last: Math.min(backing.last, last), charged: backing.charged,
    }));
    const pages = parts.reduce((sum, part) => sum + (part.charged ? part.last - part.first + 1 : 0), 0);
    if (account.pages + pages > account.limitPages) throw exceedsLimit(REGISTER, account, pages);
    for (const part of parts) this.#pins.pin(part.first, part.last, part.charged);
    this.#ranges.insert(first, last, true);
  }

  /**
   * Takes back exactly one `register`. `users` are the pins of the spaces that may rely on it.
   * @throws IoctlError EINVAL, EOVERFLOW, ENOENT (no such range), EBUSY (a map uses it).
   */
  unregister(arg: MemoryRange, users: Iterable<Pins>): void {
    const { first, last } = takeRange(UNREGISTER, arg);
    const found = this.#ranges.find(first);
    if (found?.first !== first || found.last !== last) {
      const hint = found === undefined ? "nothing is registered there" : `registered there is ${hexPages(found.first, found.last)}`;
      throw refused("ENOENT", UNREGISTER, first, `${hexPages(first, last)} is not one registered range`, undefined, hint);
    }
    for (const pins of users) {
      if (!pins.overlaps(first, last)) continue;
      const { name, ioasid } = pins.owner;
      const conflict = ioasid === undefined ? registered(found) : ({ kind: "ioasid", ioasid } as const);
      throw refused("EBUSY", UNREGISTER, first, `${name} use memory of ${hexPages(first, last)}`, conflict, "unmap it first");
    }
    this.#pins.unpin(first, last);
    this.#ranges.remove(first);
  }

  /** Gives all pins back. */
  destroy(): void {
    this.#ranges.clear();
    this.#process.dropPins(this.#pins);
  }
}

function takeRange(call: Call, arg: MemoryRange): Pages {
  const first = takePages(call, "vaddr", arg.vaddr);
  return { first, last: takeLast(call, "vaddr", first, takePages(call, "size", arg.size)) };
}

function registered({ first, last }: Pages): Conflict {
  return { kind: "memory", first: firstByte(first), last: firstByte(last + 1) - 1n };
}

function refused(
  errno: "EEXIST" | "ENOENT" | "EBUSY", call: Call, first: number, reason: string, conflict: Conflict | undefined, hint: string,
): IoctlError {
  return new IoctlError(errno, call.name, reason, { field: "vaddr", value: firstByte(first), hint, ...(conflict && { conflict }) });
}
