// Puts the oracles behind an engine's own methods, so that every test that uses an engine checks it.
// May import the other oracles and the layout constants; knows engine and port by the shape of their methods.
//
// Around every control call: what the ports hold is observed before, invalidations are applied and the model IOTLB is
// checked after, within the budgets below. After every translation: the answers are compared with the reference walker.
// `checkTouched`, after each test, looks at everything without a budget.
import {
  PORT_REQUESTS, PORT_RESULT, PORT_RESULTS, REQUEST_BYTES, REQUEST_IOVA, REQUEST_NEED, REQUEST_ROUTE, RESULT_BYTES,
} from "../../src/engine/layout.js";
import { domainOfRoute, hasPasidTables, liveDomains, type EngineView, type LiveDomain } from "./engine-state.js";
import { expectNoLeaks } from "./frame-leaks.js";
import { readU32, readU64 } from "./memory-words.js";
import { checkIotlb, ModelIotlb } from "./model-iotlb.js";
import { expectAnswer } from "./results.js";

/** Methods that change what is translated; those that an engine does not have are left out. */
const CONTROL = [
  "map", "mapMany", "unmap", "unmapMany", "createDomain", "destroyDomain", "flushDomain", "attachRoute", "blockRoute",
  "identityRoute", "invalidate", "createPasidTable", "destroyPasidTable", "attachPasidTable", "dropPasids", "invalidatePasid", "merge", "mergeAll", "trackDirty", "collectDirty", "takeDirty",
] as const;
/** Kept translations, and raw ways, looked at after each control call. */
const BUDGET = 256;
/** Answers of a batch that are compared; a larger batch is sampled at equal distance, from a lane that moves. */
const LANES = 64;
/** Ports are observed at every control call, and after this many answers without one. */
const OBSERVE_EVERY = 64;

interface PortShape {
  readonly address: number;
}
type Method = (this: object, ...args: unknown[]) => unknown;

class EngineOracle {
  private readonly model: ModelIotlb;
  private depth = 0;
  private calls = 0;
  private domains: ReadonlyMap<number, LiveDomain> | null = null;
  enabled = true;

  constructor(private readonly engine: EngineView) {
    this.model = new ModelIotlb(engine);
  }

  own(port: number, mine: boolean): void {
    if (!mine && this.enabled) this.model.observe();
    this.model.own(port, mine);
  }

  /** An error of the oracle comes before one of the call: the call's own may be its consequence. */
  control(call: () => unknown): unknown {
    if (!this.enabled || this.depth > 0) return call();
    this.model.observe();
    this.depth++;
    let outcome: { value: unknown } | { error: unknown };
    try {
      outcome = { value: call() };
    } catch (error) {
      outcome = { error };
    } finally {
      this.depth--;
    }
    this.domains = null;
    this.model.applyRing();
    this.model.check(BUDGET);
    if ("error" in outcome) throw outcome.error;
    return outcome.value;
  }

  private domainsByIndex(): ReadonlyMap<number, LiveDomain> {
    this.domains ??= new Map(liveDomains(this.engine).map((domain) => [domain.index, domain]));
    return this.domains;
  }

  /**
   * A translation may have published the entry of a PASID table. While there is one thread, what is published stays so until the next control
   * call: then only a route to a domain that is not known tells of another one.
   */
  private mayBePublished(route: number): boolean {
    if (this.domains === null || !hasPasidTables(this.engine)) return false;
    return this.engine.memory.buffer instanceof SharedArrayBuffer || !this.domains.has(domainOfRoute(this.engine, route));
  }

  answered(iova: bigint, route: number, need: number, result: bigint): void {
    if (!this.enabled) return;
    if (this.mayBePublished(route)) this.domains = null;
    expectAnswer(this.engine, this.domainsByIndex(), { iova, route, need }, result);
    if (++this.calls % OBSERVE_EVERY === 0) this.model.observe();
  }

  answeredBatch(port: number, n: number): void {
    if (!this.enabled) return;
    const { memory } = this.engine;
    const requests = readU32(memory, port + PORT_REQUESTS);
    const results = readU32(memory, port + PORT_RESULTS);
    const step = Math.max(1, Math.floor(n / LANES));
    for (let lane = this.calls % step, left = LANES; lane < n && left > 0; lane += step, left--) {
      const request = requests + lane * REQUEST_BYTES;
      this.answered(
        readU64(memory, request + REQUEST_IOVA), readU32(memory, request + REQUEST_ROUTE),
        readU32(memory, request + REQUEST_NEED), readU64(memory, results + lane * RESULT_BYTES),
      );
    }
  }

  answeredOne(port: number, iova: bigint, route: number, need: number): void {
    this.answered(iova, route >>> 0, need >>> 0, readU64(this.engine.memory, port + PORT_RESULT));
  }

  checkAll(): void {
    if (!this.enabled) return;
    this.model.applyRing();
    this.model.check();
    checkIotlb(this.engine);
    expectNoLeaks(this.engine);
  }
}

const oracles = new WeakMap<object, EngineOracle>();
const engineOfPort = new WeakMap<object, EngineView>();
const instrumented = new WeakSet<object>();
/** Engines used since the last `checkTouched`. */
const touched = new Set<EngineOracle>();

function oracleOf(engine: object): EngineOracle {
  let oracle = oracles.get(engine);
  if (!oracle) oracles.set(engine, oracle = new EngineOracle(engine as EngineView));
  touched.add(oracle);
  return oracle;
}

function wrap(target: object, name: string, around: (self: object, args: unknown[], call: () => unknown) => unknown): void {
  const original: unknown = Reflect.get(target, name);
  if (typeof original !== "function") return;
  const method: Method = function (...args) {
    return around(this, args, () => (original as Method).apply(this, args));
  };
  Object.defineProperty(target, name, { value: method, configurable: true, writable: true });
}

/** Checks every call of these control methods on: `target` is one engine, or the prototype of all. Once is enough. */
export function instrument(target: object): void {
  if (instrumented.has(target)) return;
  instrumented.add(target);
  for (const name of CONTROL) wrap(target, name, (self, _args, call) => oracleOf(self).control(call));
  wrap(target, "openPort", (self, _args, call) => {
    const port = call() as PortShape;
    engineOfPort.set(port, self as EngineView);
    oracleOf(self).own(port.address, true);
    return port;
  });
}

/** The same for ports that instrumented engines opened: answers are compared, and a closed port is observed before it goes. */
export function instrumentPorts(target: object): void {
  if (instrumented.has(target)) return;
  instrumented.add(target);
  const after = (name: string, check: (oracle: EngineOracle, port: number, args: unknown[]) => void): void => {
    wrap(target, name, (self, args, call) => {
      const value = call();
      const engine = engineOfPort.get(self);
      if (engine) check(oracleOf(engine), (self as PortShape).address, args);
      return value;
    });
  };
  after("translate", (oracle, port, args) => oracle.answeredBatch(port, Number(args[0])));
  after("translateNumber", (oracle, port, args) => {
    oracle.answeredOne(port, BigInt(Number(args[0])), Number(args[1]), Number(args[2]));
  });
  after("translateHalves", (oracle, port, args) => {
    const iova = (BigInt(Number(args[1]) >>> 0) << 32n) | BigInt(Number(args[0]) >>> 0);
    oracle.answeredOne(port, iova, Number(args[2]), Number(args[3]));
  });
  wrap(target, "close", (self, _args, call) => {
    const engine = engineOfPort.get(self);
    if (engine) oracleOf(engine).own((self as PortShape).address, false);
    return call();
  });
}

/** Stops the oracles for one engine, for tests that spoil its memory on purpose. */
export function releaseFromOracles(engine: EngineView): void {
  oracleOf(engine).enabled = false;
}

/** Every engine used since the last call, in full: model IOTLB, ports, frames. Throws an OracleError. */
export function checkTouched(): void {
  const engines = [...touched];
  touched.clear();
  for (const oracle of engines) oracle.checkAll();
}
