// All-or-nothing, tried out: every ioctl of a host is made to fail at its first allocation, at its second, and so on, until it
// succeeds with none left to fail. Each failed call must leave the digest of the whole state as it was.
// May import the library and the other oracles.
import type { SimulatedHost } from "../../src/create-host.js";
import { ENGINE_FAIL_IN } from "../../src/engine/layout.js";
import { IoctlError } from "../../src/uapi/errno.js";
import { IoasidFd } from "../../src/uapi/ioasid-fd.js";
import { OracleError } from "./engine-state.js";
import { differenceOf, hostDigest } from "./host-digest.js";

/** More allocations than any call makes. */
const MOST = 400;

export interface Failures {
  /** The ioasid fds that were opened. */
  readonly fds: ReadonlySet<IoasidFd>;
  /** Failed calls, by request; a request that was made and never failed has 0. */
  readonly counts: ReadonlyMap<number, number>;
}

type AnyFunction = (...args: unknown[]) => unknown;

function replace(host: SimulatedHost, name: "open" | "ioctl", around: (original: AnyFunction, args: unknown[]) => unknown): void {
  const original = host[name] as unknown as AnyFunction;
  Object.defineProperty(host, name, { value: (...args: unknown[]) => around(original, args) });
}

/** Notes the ioasid fds that a host opens, for its digest. */
export function noteFds(host: SimulatedHost): Set<IoasidFd> {
  const fds = new Set<IoasidFd>();
  replace(host, "open", (open, args) => {
    const file = open(...args);
    if (file instanceof IoasidFd) fds.add(file);
    return file;
  });
  return fds;
}

/** From now on every `host.ioctl` fails at each of its allocations before it succeeds. Throws an OracleError for what is left over. */
export function failEachAllocation(host: SimulatedHost): Failures {
  const fds = noteFds(host);
  const counts = new Map<number, number>();
  replace(host, "ioctl", (ioctl, args) => {
    const request = args[1] as number;
    const { value, failures } = sweep(host, fds, request, () => ioctl(...args));
    counts.set(request, (counts.get(request) ?? 0) + failures);
    return value;
  });
  return { fds, counts };
}

function sweep(host: SimulatedHost, fds: ReadonlySet<IoasidFd>, request: number, call: () => unknown): { value: unknown; failures: number } {
  const { engine } = host;
  const before = hostDigest(host, fds);
  for (let n = 1; n <= MOST; n++) {
    engine.failAllocation(n);
    try {
      const value = call();
      if (engine.word(ENGINE_FAIL_IN) === 0) throw new OracleError(`request ${request} succeeded although its allocation ${n} failed`);
      return { value, failures: n - 1 };
    } catch (error) {
      if (!(error instanceof IoctlError)) throw error;
      // A call that is refused for what was asked of it fails all the same.
      const asked = engine.word(ENGINE_FAIL_IN) !== 0;
      engine.failAllocation(0);
      const difference = differenceOf(before, hostDigest(host, fds));
      if (difference !== undefined) throw new OracleError(`${error.message}, with allocation ${n} failing, left ${difference}`, { cause: error });
      if (asked) throw error;
      if (error.errno !== "ENOMEM" && error.errno !== "ENOSPC") throw new OracleError(`allocation ${n} failed as ${error.message}`, { cause: error });
    } finally {
      engine.failAllocation(0);
    }
  }
  throw new OracleError(`request ${request} makes more than ${MOST} allocations`);
}
