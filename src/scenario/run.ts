// Runs a scenario on a host of its own, step by step, and says of each step what came out and whether that was expected. Calls go
// through the uAPI's table of requests: a request needs nothing here. Imports the host, the uAPI, dma, and its own folder; no Node
// module. Steps count from 1.
import type { SimulatedHost } from "../create-host.js";
import { DmaFault } from "../dma/dma-fault.js";
import type { DmaView } from "../dma/dma-view.js";
import { IoctlError } from "../uapi/errno.js";
import type { FaultRecord } from "../uapi/fault-record.js";
import { IoasidFd } from "../uapi/ioasid-fd.js";
import { type EnqcmdResult, KvmFd } from "../uapi/kvm-fd.js";
import type { OpenFile } from "../uapi/open-file.js";
import { compareOutcome, type Outcome } from "./compare.js";
import { describeStep, readLength } from "./describe.js";
import { makeHost } from "./host.js";
import {
  verbOf, type ChargeStep, type DmaStep, type EnqcmdStep, type FaultStep, type IoctlStep, type Json, type PutStep,
  type Scenario, type Step, type TranslateStep, type Value, type Verb, type WaitStep,
} from "./scenario.js";
import { ScenarioError } from "./scenario-error.js";
import { bytesOf, CONSTANTS, resolve, show, type Mismatch } from "./values.js";

export interface StepReport {
  /** From 1 on. */
  readonly step: number;
  readonly verb: Verb;
  /** The step as the RFC writes it. */
  readonly text: string;
  readonly note?: string;
  /** What came out, as text. */
  readonly outcome: string;
  /** What the call answered; undefined when it was refused. */
  readonly value?: unknown;
  readonly refusal?: IoctlError | DmaFault;
  /** What is not as expected: the run ends with this step. */
  readonly mismatch?: Mismatch;
}

/** What a step called `as` answered, and the fd that was asked. */
export interface Bound {
  readonly value: unknown;
  readonly fd: unknown;
}

/** Work that a device has accepted: its DMA for it goes through the view that came with it. */
interface Work {
  readonly device: string;
  readonly view: DmaView;
}

/** DMA that has begun. */
class Pending {
  /** How it ends; rejected for what no expectation can name. */
  readonly ended: Promise<unknown>;
  isOver = false;

  constructor(readonly step: DmaStep, access: Promise<unknown>) {
    this.ended = access.finally(() => {
      this.isOver = true;
    });
    // Whoever waits for it sees why it failed.
    this.ended.catch(() => {});
  }
}

/** A fault queue is given that long to have what a step expects, in milliseconds. */
const PATIENCE = 2000;

/** What came out, as text; words where words are expected. */
function valueText(step: Step, value: unknown): string {
  if (value === undefined) return "ok";
  const { expect } = step as { expect?: object };
  if (!(value instanceof Uint8Array) || typeof expect !== "object" || !("words" in expect)) return show(value);
  return [...new BigUint64Array(value.slice().buffer)].map(show).join(" ");
}

/** Lets what waits for an answer go on, as far as it comes. */
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

/** The call with this number, whatever its argument. */
type AnyIoctl = (fd: unknown, request: unknown, ...args: unknown[]) => unknown;

export class ScenarioRun {
  /** Everything that a step has bound. */
  readonly names = new Map<string, Bound>();
  readonly #views = new Map<string, DmaView>();
  readonly #pending = new Set<Pending>();
  /** By what ENQCMD has answered. */
  readonly #works = new Map<unknown, Work>();
  /** Takes what the portals of all devices get; false: there is no room. */
  #portal: (work: Work) => boolean = () => false;

  private constructor(readonly scenario: Scenario, readonly host: SimulatedHost) {
    for (const { name, kind } of host.devices()) {
      if (kind.enqcmd) host.device(name).onEnqcmd((_descriptor, view) => this.#portal({ device: name, view }));
    }
  }

  /** Throws ScenarioError when the host cannot be made. */
  static async start(scenario: Scenario): Promise<ScenarioRun> {
    return new ScenarioRun(scenario, await makeHost(scenario.host));
  }

  /**
   * Runs the steps in order; after each the host is as that step left it. Ends with the first one that is not as expected. Throws
   * ScenarioError for a step that fails for a reason that no expectation can name.
   */
  async *steps(): AsyncGenerator<StepReport> {
    try {
      for (const [i, step] of this.scenario.steps.entries()) {
        const report = await this.#report(step, i + 1);
        yield report;
        if (report.mismatch) return;
      }
    } finally {
      await this.#abandon();
    }
  }

  /** Ends what still waits, when the run is over before it: the user is gone. */
  async #abandon(): Promise<void> {
    const waiting = [...this.#pending].filter(({ isOver }) => !isOver);
    if (waiting.length === 0) return;
    for (const { value } of this.names.values()) if (value instanceof IoasidFd && !value.closed) value.close();
    await Promise.allSettled(waiting.map(({ ended }) => ended));
  }

  /** The DMA that a step makes, or waits for. */
  accessOf(step: Step): DmaStep | TranslateStep | undefined {
    if ("wait" in step) return this.#waitedFor(step, this.scenario.steps.length).step;
    return "dma" in step || "translate" in step ? step : undefined;
  }

  /** The number that a value of a step means, after that step. */
  valueOf(value: Value): number | bigint {
    return this.#resolve(value, this.scenario.steps.length) as number | bigint;
  }

  /** The PASID of an access, as the user names it. */
  pasidOf(step: DmaStep | TranslateStep): number | undefined {
    return this.#view(step, this.scenario.steps.length).pasid;
  }

  async #report(step: Step, number: number): Promise<StepReport> {
    const outcome = await this.#outcome(step, number);
    const mismatch = compareOutcome(step, outcome, (value) => this.#resolve(value, number), this.host.process);
    const refused = "refusal" in outcome;
    if (!refused && "as" in step && step.as !== undefined) {
      this.names.set(step.as, { value: outcome.value, fd: "fd" in step ? this.#resolve(step.fd, number) : undefined });
    }
    return {
      step: number, verb: verbOf(step), text: describeStep(step), ...(step.note === undefined ? {} : { note: step.note }),
      outcome: refused ? outcome.refusal.message : valueText(step, outcome.value),
      ...outcome, ...(mismatch ? { mismatch } : {}),
    };
  }

  async #outcome(step: Step, number: number): Promise<Outcome> {
    try {
      return { value: await this.#perform(step, number) };
    } catch (error) {
      if (error instanceof IoctlError || error instanceof DmaFault) return { refusal: error };
      if (error instanceof ScenarioError) throw error;
      const reason = `${describeStep(step)}: ${error instanceof Error ? error.message : String(error)}`;
      throw new ScenarioError("", reason, number, { cause: error });
    }
  }

  #perform(step: Step, number: number): unknown {
    const { host } = this;
    const value = (text: Value): number | bigint => this.#resolve(text, number) as number | bigint;
    if ("open" in step) return step.mode === undefined ? host.open(step.open) : host.open(step.open, Number(step.mode));
    if ("ioctl" in step) return this.#ioctl(step, number);
    if ("close" in step) return host.close(this.#resolve(step.close, number) as OpenFile);
    if ("mmap" in step) return host.process.mmap(this.#resolve(step.mmap as Json, number) as Parameters<typeof host.process.mmap>[0]);
    if ("munmap" in step) return host.process.munmap(value(step.munmap.hva), value(step.munmap.size));
    if ("put" in step) return this.#put(step, number);
    if ("get" in step) return host.process.bytes(value(step.get), readLength(step)).slice();
    if ("charge" in step) return this.#charge(step, number);
    if ("enqcmd" in step) return this.#enqcmd(step, number);
    if ("wait" in step) return this.#waitedFor(step, number).ended;
    if ("fault" in step) return this.#fault(step, number);
    return "dma" in step ? this.#dma(step, number) : this.#translate(step, number);
  }

  #ioctl({ ioctl, fd, arg }: IoctlStep, number: number): unknown {
    const request = CONSTANTS.get(ioctl) ?? Number(ioctl);
    const args = arg === undefined ? [] : [this.#resolve(arg, number)];
    return (this.host.ioctl as AnyIoctl)(this.#resolve(fd, number), request, ...args);
  }

  #put({ put }: PutStep, number: number): void {
    const pieces = put.map((piece) => {
      const bytes = bytesOf(piece);
      return { bytes, target: this.host.process.bytes(this.#resolve(piece.at, number) as number | bigint, bytes.length) };
    });
    for (const { bytes, target } of pieces) target.set(bytes);
  }

  #charge({ charge, fd }: ChargeStep, number: number): bigint {
    if (fd === undefined) return this.host.process.locked;
    const info = (this.host.ioctl as AnyIoctl)(this.#resolve(fd, number), CONSTANTS.get("IOASID_GET_INFO"), this.#resolve(charge, number));
    return (info as { locked: bigint }).locked;
  }

  #enqcmd({ enqcmd, vm, pasid, descriptor, room = true }: EnqcmdStep, number: number): EnqcmdResult {
    const file = this.#resolve(vm, number);
    if (!(file instanceof KvmFd)) throw new ScenarioError("", `vm: ${show(file)} is no fd of /dev/kvm`, number);
    let work: Work | undefined;
    this.#portal = (offered) => {
      if (room) work = offered;
      return room;
    };
    const result = file.enqcmd({ name: enqcmd }, Number(this.#resolve(pasid, number)), bytesOf(descriptor));
    if (work) this.#works.set(result, work);
    return result;
  }

  /** A device that does not wait for pages, unless the step says that it does. */
  #dma(step: DmaStep, number: number): unknown {
    const view = this.#view(step, number);
    const iova = this.#resolve("read" in step ? step.read : step.write, number) as bigint;
    if (step.pending === undefined) return "read" in step ? view.readSync(iova, readLength(step)) : view.writeSync(iova, bytesOf(step));
    return this.#begin(step, step.pending, "read" in step ? view.read(iova, readLength(step)) : view.write(iova, bytesOf(step)));
  }

  /** Lets DMA come to where it waits. */
  async #begin(step: DmaStep, name: string, access: Promise<unknown>): Promise<void> {
    const pending = new Pending(step, access);
    this.#pending.add(pending);
    this.names.set(name, { value: pending, fd: undefined });
    await settled();
  }

  #waitedFor({ wait }: WaitStep, number: number): Pending {
    const pending = this.#resolve(wait, number);
    if (pending instanceof Pending) return pending;
    throw new ScenarioError("", `wait: ${JSON.stringify(wait)} is no pending DMA`, number);
  }

  /** Where nothing is expected nothing is waited for. */
  async #fault({ fault, expect }: FaultStep, number: number): Promise<FaultRecord | null> {
    const file = this.#resolve(fault, number);
    if (!(file instanceof IoasidFd)) throw new ScenarioError("", `fault: ${show(file)} is no fd of /dev/ioasid`, number);
    await settled();
    const [record = null] = file.faults.read(1);
    return record ?? (expect === null ? null : (await file.faults.next({ timeout: PATIENCE })) ?? null);
  }

  #translate(step: TranslateStep, number: number): bigint {
    const [iova, access] = "read" in step ? [step.read, "r" as const] : [step.write, "w" as const];
    return this.#view(step, number).translate(this.#resolve(iova, number) as bigint, access);
  }

  #view(step: DmaStep | TranslateStep, number: number): DmaView {
    const { pasid, work } = step;
    const device = "dma" in step ? step.dma : step.translate;
    if (work !== undefined) return this.#viewOfWork(device, work, number);
    const vpasid = pasid === undefined ? undefined : Number(this.#resolve(pasid, number));
    const timeout = "timeout" in step ? Number(step.timeout) : undefined;
    const key = `${device} ${vpasid} ${timeout}`;
    let view = this.#views.get(key);
    if (view === undefined) {
      view = this.host.device(device).dma({ ...(vpasid === undefined ? {} : { pasid: vpasid }), ...(timeout === undefined ? {} : { timeout }) });
      this.#views.set(key, view);
    }
    return view;
  }

  #viewOfWork(device: string, name: Value, number: number): DmaView {
    const work = this.#works.get(this.#resolve(name, number));
    if (work?.device === device) return work.view;
    throw new ScenarioError("", `work: ${device} has accepted no work ${JSON.stringify(name)}`, number);
  }

  #resolve(value: Json, number: number): unknown {
    return resolve(value, (name) => this.#lookUp(name, number));
  }

  #lookUp(path: string, number: number): unknown {
    const [name = "", ...fields] = path.split(".");
    const bound = this.names.get(name);
    if (bound === undefined) {
      const constant = CONSTANTS.get(path);
      if (constant !== undefined) return constant;
      throw new ScenarioError("", `"$${name}" has no value: the step that is called so was refused`, number);
    }
    let value = bound.value;
    for (const field of fields) {
      if (typeof value !== "object" || value === null || !(field in value)) {
        throw new ScenarioError("", `"$${path}": ${show(value)} has no field "${field}"`, number);
      }
      value = (value as Record<string, unknown>)[field];
    }
    return value;
  }
}
