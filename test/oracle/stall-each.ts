// Stalls, tried out: in every call of a host that changes something, the n-th wait for other threads' sections is held up by a port, or
// the n-th step by one that has the lock, as a port has that publishes an entry of a PASID table. The call must say so, no other may
// begin, and once the port has left its section the same call, or else any other, must bring the host to where it would be without the
// stall; there may be more stalls on the way. May import the library and the other oracles.
//
// The port is opened for a thread that does not exist. A section is known by the epoch in which it began: one of an epoch that is n
// changes ahead is, for the changes before, a section that began after them.
import type { SimulatedHost } from "../../src/create-host.js";
import type { Engine } from "../../src/engine/engine.js";
import { ENGINE_EPOCH, ENGINE_LOCK, PORT_ACTIVE } from "../../src/engine/layout.js";
import { IoctlError } from "../../src/uapi/errno.js";
import type { IoasidFd } from "../../src/uapi/ioasid-fd.js";
import { OracleError } from "./engine-state.js";
import { noteFds } from "./fail-each.js";
import { expectNoLeaks } from "./frame-leaks.js";
import { differenceOf, hostDigest } from "./host-digest.js";

/** A number that no thread of a test gets. */
const THREAD = 1000;

type AnyFunction = (...args: unknown[]) => unknown;

/** Calls of the module that take the lock. */
const CHANGES = new Set([
  "map", "mapMany", "planMany", "merge", "planMerge", "unmap", "unmapMany", "createDomain", "destroyDomain", "flushDomain", "invalidateDomain",
  "attachRoute", "blockRoute", "createPasidTable", "destroyPasidTable", "attachPasidTable", "dropPasids", "invalidatePasid", "trackDirty", "collectDirty",
  "addSlot", "removeSlot",
]);

/** Where a change is held up: at its n-th wait, or before its n-th step begins. */
export type Where = "wait" | "lock";

/** A port of another thread, which stays inside a section for as long as one likes. */
export class StallingPort {
  #address: number;
  /** Changes by the engine's module until one finds the lock taken; 0: none does. */
  #lockIn = 0;

  constructor(readonly engine: Engine) {
    this.#address = this.#open();
    const exports = Object.entries(engine.exports).map(([name, call]) => [name, CHANGES.has(name) ? this.#around(call as AnyFunction) : call]);
    Object.defineProperty(engine, "exports", { value: Object.fromEntries(exports) });
  }

  /** The call of the module is made while the port has the lock, when it is its turn. */
  #around(call: AnyFunction): AnyFunction {
    return (...args) => {
      const locked = this.#lockIn > 0 && --this.#lockIn === 0;
      if (locked) this.#publish();
      try {
        return call(...args);
      } finally {
        if (locked) this.#setLock(0);
      }
    };
  }

  /** Takes the lock, inside a section that goes on. */
  #publish(): void {
    this.#setActive(1);
    this.#setLock(this.#address);
  }

  #setLock(lock: number): void {
    this.engine.words32()[(this.engine.address + ENGINE_LOCK) >>> 2] = lock;
  }

  #open(): number {
    const address = this.engine.exports.openPort(this.engine.address, THREAD) >>> 0;
    if (address === 0) throw new OracleError("no port is left");
    return address;
  }

  /** From now on the n-th wait, and every one after it, is for this port; or the n-th change by the module finds that it has the lock. */
  stallAt(n: number, where: Where = "wait"): void {
    if (where === "lock") this.#lockIn = n;
    else this.#setActive((this.engine.word(ENGINE_EPOCH) + 2 * n - 1) >>> 0);
  }

  leave(): void {
    this.#lockIn = 0;
    this.#setActive(0);
  }

  /** Its thread ends, and another takes its place. */
  die(): void {
    this.engine.exports.endThread(this.engine.address, THREAD);
    this.#address = this.#open();
  }

  #setActive(active: number): void {
    this.engine.words32()[(this.#address + PORT_ACTIVE) >>> 2] = active;
  }
}

/** What a host was like before and after each of its calls, and what they answered. */
export interface Course {
  readonly before: readonly object[];
  readonly after: readonly object[];
  readonly answers: readonly unknown[];
}

/** Puts `around` before every call of the host that may change something. */
function intercept(host: SimulatedHost, around: (call: () => unknown) => unknown): void {
  const places: [object, string][] = [[host, "ioctl"], [host, "close"], [host.process, "mmap"], [host.process, "munmap"]];
  for (const [owner, name] of places) {
    const original = (Reflect.get(owner, name) as AnyFunction).bind(owner);
    Object.defineProperty(owner, name, { value: (...args: unknown[]) => around(() => original(...args)) });
  }
}

interface Outcome {
  readonly answer?: unknown;
  readonly error?: unknown;
}

function outcomeOf(call: () => unknown): Outcome {
  try {
    return { answer: call() };
  } catch (error) {
    if (!(error instanceof IoctlError)) throw error;
    return { error };
  }
}

/** Runs what is done to a host without stalls. */
export function undisturbed(host: SimulatedHost, run: (host: SimulatedHost) => void): Course {
  // In the place of the bystander, so that all files have the same numbers.
  host.open("/dev/ioasid");
  const fds = noteFds(host);
  const before: object[] = [];
  const after: object[] = [];
  const answers: unknown[] = [];
  intercept(host, (call) => {
    before.push(hostDigest(host, fds));
    const { answer, error } = outcomeOf(call);
    after.push(hostDigest(host, fds));
    answers.push(error ?? plain(answer));
    if (error !== undefined) throw error;
    return answer;
  });
  run(host);
  return { before, after, answers };
}

/** Files differ from host to host. */
function plain(answer: unknown): unknown {
  return answer !== null && typeof answer === "object" && "number" in answer ? answer.number : answer;
}

/** Who makes the next change after a stall: the same call, or another. */
export type Next = "again" | "other";

export interface Plan {
  readonly where: Where;
  /** Which wait of each call, or step. */
  readonly n: number;
  readonly next: Next;
}

/**
 * The same with every call stalled there: in how many was there such a place? Throws an OracleError where a call goes on otherwise
 * than it should.
 */
export function stalled(host: SimulatedHost, run: (host: SimulatedHost) => void, { where, n, next }: Plan, course: Course): number {
  const bystander = host.open("/dev/ioasid");
  const fds = noteFds(host);
  const port = new StallingPort(host.engine);
  let [calls, places] = [0, 0];
  intercept(host, (call) => {
    const at = calls++;
    port.stallAt(n, where);
    let { answer, error } = outcomeOf(call);
    const stalls = isStall(error);
    if (stalls) places++;
    if (stalls) ({ answer, error } = goOn({ host, fds, port, bystander, course }, at, call, next, n % 2 === 0));
    port.leave();
    // Where nothing stalled nothing can be otherwise, but at the end.
    if (stalls || calls === course.answers.length) check(course, at, hostDigest(host, fds), error ?? plain(answer));
    if (error !== undefined) throw error;
    return answer;
  });
  run(host);
  if (calls !== course.answers.length) throw new OracleError(`${calls} calls were made, not ${course.answers.length}`);
  return places;
}

interface Stalled {
  readonly host: SimulatedHost;
  readonly fds: ReadonlySet<IoasidFd>;
  readonly port: StallingPort;
  readonly bystander: IoasidFd;
  readonly course: Course;
}

/** Call number `at` has thrown ETIMEDOUT. */
function goOn({ host, fds, port, bystander, course }: Stalled, at: number, call: () => unknown, next: Next, dies: boolean): Outcome {
  expectNoLeaks(host.engine);
  const stalled = hostDigest(host, fds);
  for (const other of [() => bystander.alloc(), call]) {
    if (!isStall(outcomeOf(other).error)) throw new OracleError(`call ${at} stalls, and a change was made all the same`);
  }
  const difference = changeOf(stalled, hostDigest(host, fds));
  if (difference !== undefined) throw new OracleError(`call ${at} stalls, and what was refused for that left ${difference}`);
  if (dies) port.die();
  else port.leave();
  const outcome = withStalls(port, next === "again" ? call : () => bystander.alloc());
  if (next === "again") return outcome;
  // It is done; or it was held up before its first step, and is as if it had not been made.
  if (changeOf(course.after[at]!, hostDigest(host, fds)) === undefined) return answered(course.answers[at]);
  const left = changeOf(withoutDirt(course.before[at]!), withoutDirt(hostDigest(host, fds)));
  if (left !== undefined) throw new OracleError(`call ${at} stalled and is neither made nor not: ${left}`);
  return outcomeOf(call);
}

/** Makes a call with a stall at its second wait, then at its third, and so on, until it is through. */
function withStalls(port: StallingPort, call: () => unknown): Outcome {
  for (let n = 2; ; n++) {
    port.stallAt(n);
    const outcome = outcomeOf(call);
    port.leave();
    if (!isStall(outcome.error)) return outcome;
  }
}

/** What the call has answered in the other host, where it opens no file. */
function answered(outcome: unknown): Outcome {
  return outcome instanceof IoctlError ? { error: outcome } : { answer: outcome };
}

/** As `differenceOf`; but an IOTLB may hold less: what could not be waited for is dropped in a coarser way. */
function changeOf(expected: object, digest: object): string | undefined {
  const held = Reflect.get(expected, "iotlb") as object[];
  const added = (Reflect.get(digest, "iotlb") as object[]).find((entry) => !held.some((each) => differenceOf(each, entry) === undefined));
  return added === undefined ? differenceOf({ ...expected, iotlb: [] }, { ...digest, iotlb: [] }) : `state.iotlb: ${String(Reflect.get(added, "iova"))} is held`;
}

/** Dirty bits may have moved from the tables to the logs: what they are told is compared when the call is made. */
function withoutDirt(digest: object): object {
  const without = (name: string): object[] => (Reflect.get(digest, name) as object[]).map((each) => ({ ...each, dirty: undefined }));
  return { ...digest, spaces: without("spaces"), domains: without("domains") };
}

function isStall(error: unknown): boolean {
  return error instanceof IoctlError && error.errno === "ETIMEDOUT";
}

function check({ after, answers }: Course, at: number, digest: object, outcome: unknown): void {
  const expected = answers[at];
  const same = outcome instanceof IoctlError ? expected instanceof IoctlError && expected.message === outcome.message : differenceOf(expected, outcome) === undefined;
  if (!same) throw new OracleError(`call ${at} ended as ${String(outcome)}, not as ${String(expected)}`);
  const difference = changeOf(after[at]!, digest);
  if (difference !== undefined) throw new OracleError(`after call ${at}: ${difference}`);
}
