// The error that every call of the uAPI throws: an errno of Linux on x86, and what a person needs to act on it.
// Imports nothing. Ranges are inclusive, first..last. Which cause has which errno follows the RFC review's tables per call.

/** The errnos that the calls use, with their numbers in Linux (x86, and most other architectures). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EBADF: 9,
  ENOMEM: 12,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  EDEADLK: 35,
  EOVERFLOW: 75,
  EBADFD: 77,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
} as const;

export type ErrnoName = keyof typeof ERRNO;

/** Name of each number of `ERRNO`. */
export const ERRNO_NAME: ReadonlyMap<number, ErrnoName> = new Map(
  Object.entries(ERRNO).map(([name, code]) => [code, name as ErrnoName]),
);

/** The object that stands in the way of a call. Addresses are bytes; which of the fields are there depends on `kind`. */
export interface Conflict {
  readonly kind: "mapping" | "reserved" | "memory" | "slot" | "device" | "ioasid" | "group";
  readonly first?: bigint;
  readonly last?: bigint;
  readonly ioasid?: number;
  readonly device?: string;
  readonly group?: number;
}

export interface IoctlErrorDetails {
  /** The argument's field that is wrong; absent when no single field is. */
  readonly field?: string;
  readonly value?: unknown;
  readonly conflict?: Conflict;
  /** What the caller can do about it. */
  readonly hint?: string;
}

/** A refused call. Nothing has changed when it is thrown, but after ETIMEDOUT (changes.ts). The message is one line: call, errno, reason, hint. */
export class IoctlError extends Error {
  override readonly name = "IoctlError";
  readonly errno: ErrnoName;
  /** The errno's number, positive. */
  readonly code: number;
  /** Name of the call, as in `requests.ts`; `open`, `mmap` and the like for what is no ioctl. */
  readonly call: string;
  readonly field: string | undefined;
  readonly value: unknown;
  readonly conflict: Conflict | undefined;
  readonly hint: string | undefined;
  readonly #reason: string;

  constructor(errno: ErrnoName, call: string, reason: string, details: IoctlErrorDetails = {}) {
    const hint = details.hint === undefined ? "" : `. Hint: ${details.hint}`;
    super(`${call}: ${errno} (${ERRNO[errno]}): ${reason}${hint}`);
    this.errno = errno;
    this.code = ERRNO[errno];
    this.call = call;
    this.field = details.field;
    this.value = details.value;
    this.conflict = details.conflict;
    this.hint = details.hint;
    this.#reason = reason;
  }

  /** The same error of the n-th of a call's `entries`. */
  ofEntry(n: number): IoctlError {
    const { errno, call, field, value, conflict, hint } = this;
    const entry = `entries[${n}]`;
    const details = { value, field: field === undefined ? entry : `${entry}.${field}`, ...(conflict && { conflict }), ...(hint !== undefined && { hint }) };
    return new IoctlError(errno, call, `${entry}: ${this.#reason}`, details);
  }
}
