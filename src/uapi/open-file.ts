// What all open files have in common: a number, an end, and `ioctl()` over the request table. And the table of open files.
// May import arguments.ts, changes.ts, errno.ts, requests.ts. Numbers are given out as POSIX does: the lowest that is free, here from 3 up.

import { checkNone, show } from "./arguments.js";
import type { Changes } from "./changes.js";
import { IoctlError } from "./errno.js";
import {
  type Call, type FileKind, findRequest, type IoctlArgs, type IoctlResult, type RequestNumber, type Requests, type RequestSpec,
} from "./requests.js";

const FIRST_NUMBER = 3;

const PATH: Readonly<Record<FileKind, string>> = {
  ioasid: "/dev/ioasid", device: "/dev/vfio/devices/<name>", group: "/dev/vfio/<group>", kvm: "/dev/kvm",
};

/** The requests that an fd of a kind answers. */
export type RequestOf<K extends FileKind> = { [R in RequestNumber]: Requests[R]["fd"] extends K ? R : never }[RequestNumber];

export class FileTable {
  readonly #files = new Map<number, OpenFile>();
  /** Runs at the beginning of every call on a file. */
  readonly beforeCall: () => void;
  readonly changes: Changes;

  constructor(changes: Changes, beforeCall: () => void) {
    this.changes = changes;
    this.beforeCall = beforeCall;
  }

  /** Opens: `make` gets the number of the file it makes. */
  add<F extends OpenFile>(make: (number: number) => F): F {
    let number = FIRST_NUMBER;
    while (this.#files.has(number)) number++;
    const file = make(number);
    this.#files.set(number, file);
    return file;
  }

  remove(file: OpenFile): void {
    this.#files.delete(file.number);
  }

  first(wanted: (file: OpenFile) => boolean): OpenFile | undefined {
    for (const file of this.#files.values()) if (wanted(file)) return file;
    return undefined;
  }

  all(): Iterable<OpenFile> {
    return this.#files.values();
  }

  /** The open file that an fd, or its number, means; undefined when it is closed or of another host. */
  find(fd: unknown): OpenFile | undefined {
    const file = this.#files.get(fd instanceof OpenFile ? fd.number : (fd as number));
    return fd instanceof OpenFile && fd !== file ? undefined : file;
  }
}

export abstract class OpenFile<K extends FileKind = FileKind> {
  readonly kind: K;
  readonly number: number;
  readonly #files: FileTable;
  #closed = false;

  constructor(kind: K, number: number, files: FileTable) {
    this.kind = kind;
    this.number = number;
    this.#files = files;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** In arguments that are written down a file is its number. */
  toJSON(): number {
    return this.number;
  }

  /**
   * The call with this request number: the same as its method.
   * @throws IoctlError EBADF on a closed fd, ENOTTY for a request that fds of this kind do not have, and what the method throws.
   */
  ioctl<R extends RequestOf<K>>(request: R, ...args: IoctlArgs<R>): IoctlResult<R>;
  ioctl(request: unknown, arg?: unknown): unknown {
    const spec = findRequest(request);
    this.use(spec ?? { name: "ioctl", fields: new Set() });
    if (spec === undefined) throw unknownRequest(request);
    if (spec.fd !== this.kind) throw this.#wrongKind(spec);
    if (spec.fields.size === 0) checkNone(spec, arg);
    const bare = spec.byValue !== undefined && arg !== undefined && (typeof arg !== "object" || arg instanceof OpenFile);
    const method = spec.method as keyof this;
    return (this[method] as (arg: unknown) => unknown)(bare ? { [spec.byValue!]: arg } : arg);
  }

  /** Ends the file and what hangs on it. @throws IoctlError EBADF when it is closed already, EDEADLK while a section is open. */
  abstract close(): void;

  /** A call that changes something, once what is left of the change before it is done (changes.ts). To be called first. */
  protected change<T>(call: Call, arg: unknown, change: () => T): T {
    this.use(call);
    return this.#files.changes.run(this, call, arg, change);
  }

  /** What a change does once no DMA goes where it went before. */
  protected afterwards(step: () => void): void {
    this.#files.changes.take(step);
  }

  /** To be called first by every other method. */
  protected use(call: Call): void {
    this.#files.beforeCall();
    if (!this.#closed) return;
    throw new IoctlError("EBADF", call.name, `fd ${this.number} is closed`, { field: "fd", value: this.number, hint: "open the file anew" });
  }

  #wrongKind(spec: RequestSpec): IoctlError {
    const reason = `fd ${this.number} is one of ${PATH[this.kind]}`;
    const hint = `the call is for an fd of ${PATH[spec.fd]}`;
    return new IoctlError("ENOTTY", spec.name, reason, { field: "fd", value: this.number, hint });
  }

  /** The last step of `close`. */
  protected end(): void {
    this.#closed = true;
    this.#files.remove(this);
  }
}

function unknownRequest(request: unknown): IoctlError {
  const number = typeof request === "number" && Number.isInteger(request) && request >= 0;
  const reason = `unknown request ${number ? `0x${request.toString(16)}` : show(request)}`;
  return new IoctlError("ENOTTY", "ioctl", reason, { field: "request", value: request, hint: "the numbers are those of REQUESTS" });
}
