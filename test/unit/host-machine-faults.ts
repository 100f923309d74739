// The accesses of a host machine's devices that wait for pages, and the answers: every record of every fault queue is one that the model
// expects, no other comes, and every access ends as it says. Imports the model of faults, and the calls of the machine.
import { expect } from "vitest";
import { DmaFault, type FaultRecord, type IoasidFd, type SimulatedHost } from "../../src/index.js";
import { PERM_R } from "../../src/engine/layout.js";
import type { ErrnoName } from "../../src/uapi/errno.js";
import { type ExpectedRecord, type HostAccess, ledTo, type Outcome, outcomeOf, toldPasid, type Waiting } from "../oracle/host-faults.js";
import type { HostDevice, HostFile, HostSpace } from "../oracle/host-model.js";

/** Answers of SUCCESS that bring nothing, until a device gives up: few, as it pauses between them. */
const RETRIES = 2;
const MOST_WAITING = 8;
const SUCCESS = 0;
const INVALID = 1;
const ANSWERED = [undefined, "page-request-invalid", "page-request-failed"];
const PATIENCE_MS = 3_000;

/** What this has of the machine. */
export interface MachineCalls {
  readonly host: SimulatedHost;
  readonly files: ReadonlyMap<HostFile, IoasidFd>;
  call<T>(errnos: readonly ErrnoName[], act: () => T): { done: true; value: T } | { done: false; value: undefined };
}

/** One access that has not ended. */
interface Running {
  readonly access: HostAccess;
  /** "done", or the reason of the fault. */
  readonly ending: Promise<string>;
  waiting: Waiting;
  cookie: number;
  /** Answers that got it nowhere. */
  tries: number;
}

export class MachineFaults {
  readonly #machine: MachineCalls;
  readonly #running = new Set<Running>();
  readonly #expected = new Map<HostFile, { records: readonly ExpectedRecord[]; running: Running | undefined }[]>();
  readonly #answered: number[] = [];
  /** Requests that came. */
  asked = 0;
  /** Accesses that went through a PASID table: made, or waiting for a page. */
  throughTables = 0;

  constructor(machine: MachineCalls) {
    this.#machine = machine;
  }

  /** Cookies that were given: those that wait, and the others. */
  get cookies(): { waiting: number[]; answered: readonly number[] } {
    return { waiting: [...this.#running].map(({ cookie }) => cookie), answered: this.#answered };
  }

  /** Where it waits for an answer. */
  fileOf(cookie: number): HostFile | undefined {
    return [...this.#running].find((each) => each.cookie === cookie)?.waiting.file;
  }

  /** What one of the accesses waits for. */
  waiting(nth: number): Waiting | undefined {
    return [...this.#running][nth % this.#running.size]?.waiting;
  }

  /** One at a time for each device and PASID that records tell: what waits is known by them. */
  async start(access: HostAccess): Promise<void> {
    const { device, pasid, first, pages, need } = access;
    const told = toldPasid(device, pasid);
    const taken = [...this.#running].some((each) => each.access.device === device && each.waiting.pasid === told);
    if (taken || this.#running.size >= MOST_WAITING) return;
    const outcome = outcomeOf(access);
    if (outcome.kind !== "ended" && device.pasidTable !== undefined) this.throughTables++;
    const view = this.#machine.host.device(device.name).dma({ pasid, timeout: Infinity, retries: RETRIES });
    const moved = need === PERM_R ? view.read(first * 4096, pages * 4096) : view.write(first * 4096, new Uint8Array(pages * 4096));
    const ending = moved.then(() => "done", (error: unknown) => {
      if (error instanceof DmaFault) return error.reason;
      throw error;
    });
    if (outcome.kind === "asks") {
      const running = { access, ending, waiting: outcome.waiting, cookie: 0, tries: 0 };
      this.#running.add(running);
      this.#expect(outcome.waiting.file, outcome.records, running);
    } else await this.#ends(device.file, ending, outcome);
  }

  async respond(file: HostFile, cookie: number, code: number): Promise<void> {
    const found = [...this.#running].find((each) => each.cookie === cookie);
    const here = found?.waiting.file === file;
    const errnos: ErrnoName[] = file.closed ? ["EBADF"] : [...(code > 2 ? ["EINVAL" as const] : []), ...(here ? [] : ["ENOENT" as const])];
    if (this.#machine.call(errnos, () => this.#fd(file).pageResponse({ cookie, code })).done) await this.#answer([found!], code);
  }

  async respondRange(file: HostFile, ioasid: number, range: { first: number; pages: number; code: number; pasid: number | undefined }): Promise<void> {
    const { first, pages, code, pasid } = range;
    const space = file.spaces.get(ioasid);
    const errnos: ErrnoName[] = file.closed ? ["EBADF"] : space === undefined ? ["ENOENT"] : code > 2 ? ["EINVAL"] : [];
    const arg = { ioasid, iova: first * 4096, size: pages * 4096, code, ...(pasid !== undefined && { pasid }) };
    const inside = (iova: bigint): boolean => iova >= BigInt(first) << 12n && iova < BigInt(first + pages) << 12n;
    const found = [...this.#running].filter(({ waiting }) =>
      waiting.space === space && (pasid === undefined || waiting.pasid === pasid) && waiting.pages.some(inside));
    const { done, value } = this.#machine.call(errnos, () => this.#fd(file).pageResponseRange(arg));
    if (!done) return;
    expect(value!.completed).toBe(found.length);
    await this.#answer(found, code);
  }

  /** The device was detached from something: what it asked of a space that has its DMA no more is answered INVALID. */
  async moved(device: HostDevice): Promise<void> {
    await this.#answer([...this.#running].filter(({ access, waiting }) => access.device === device && ledTo(device, waiting.pasid) !== waiting.space), INVALID);
  }

  /** A guest's table was taken away. */
  async unbound(space: HostSpace): Promise<void> {
    await this.#answer([...this.#running].filter(({ waiting }) => waiting.space === space), INVALID);
  }

  /** All records that are there are expected, and all that are expected are there. */
  check(files: readonly HostFile[]): void {
    for (const file of files) {
      if (file.closed) continue;
      const fd = this.#fd(file);
      this.#take(file, fd.faults.read());
      expect(fd.faults.pending).toBe([...this.#running].filter(({ waiting }) => waiting.file === file).length);
      expect(fd.faults.dropped).toBe(0);
    }
  }

  #take(file: HostFile, records: readonly FaultRecord[]): void {
    const expected = this.#expected.get(file) ?? [];
    this.#expected.delete(file);
    const groups = gathered(records);
    expect(groups.map(textOf).sort()).toEqual(expected.map((each) => textOf(each.records)).sort());
    for (const group of groups) {
      const [{ cookie }] = group as [ReadRecord];
      if (cookie === undefined) continue;
      expect(new Set(group.map((each) => each.cookie)).size, "one cookie a group").toBe(1);
      expected.find((each) => textOf(each.records) === textOf(group))!.running!.cookie = cookie;
      this.asked++;
    }
  }

  async #answer(all: readonly Running[], code: number): Promise<void> {
    for (const running of all) {
      this.#answered.push(running.cookie);
      if (code === SUCCESS) await this.#goesOn(running);
      else await this.#ends(running.waiting.file, running.ending, { kind: "ended", reason: ANSWERED[code], records: [] }, running);
    }
    await this.#settle();
  }

  /** Answered SUCCESS: the device tries again, and gives up after so many that got it nowhere. */
  async #goesOn(running: Running): Promise<void> {
    const { access, waiting, ending } = running;
    const outcome = outcomeOf(access);
    if (outcome.kind !== "asks") return this.#ends(access.device.file, ending, outcome, running);
    running.tries = outcome.waiting.pages[0] === waiting.pages[0] ? running.tries + 1 : 0;
    if (running.tries > RETRIES) return this.#ends(waiting.file, ending, { kind: "ended", reason: "page-request-retries", records: [] }, running);
    running.waiting = outcome.waiting;
    running.cookie = 0;
    this.#expect(outcome.waiting.file, outcome.records, running);
  }

  /** Those that go on may pause before they ask. */
  async #settle(): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    const waits = (file: HostFile): number => [...this.#running].filter(({ waiting }) => waiting.file === file).length;
    const settled = (): boolean => [...this.#machine.files].every(([file, fd]) => file.closed || fd.faults.pending === waits(file));
    while (!settled() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 0));
  }

  async #ends(file: HostFile | undefined, ending: Promise<string>, outcome: Outcome, running?: Running): Promise<void> {
    if (running !== undefined) this.#running.delete(running);
    if (outcome.kind === "ended" && file !== undefined) for (const record of outcome.records) this.#expect(file, [record]);
    const timer = { id: undefined as ReturnType<typeof setTimeout> | undefined };
    const late = new Promise<string>((resolve) => { timer.id = setTimeout(() => resolve("still waits"), PATIENCE_MS); });
    const end = await Promise.race([ending, late]);
    clearTimeout(timer.id);
    if (outcome.kind === "made") expect(end).toBe("done");
    else if (outcome.kind === "ended" && outcome.reason !== undefined) expect(end).toBe(outcome.reason);
    else expect(["done", "still waits", "page-request-retries", ...ANSWERED]).not.toContain(end);
  }

  #expect(file: HostFile, records: readonly ExpectedRecord[], running?: Running): void {
    this.#expected.set(file, [...(this.#expected.get(file) ?? []), { records, running }]);
  }

  #fd(file: HostFile): IoasidFd {
    return this.#machine.files.get(file)!;
  }
}

type ReadRecord = ExpectedRecord & { readonly cookie: number | undefined };

/** The records, those of a group together; events alone. */
function gathered(records: readonly FaultRecord[]): ReadRecord[][] {
  const groups: ReadRecord[][] = [];
  for (const record of records) {
    if (record.kind === "overflow") throw new Error(`${record.dropped} records were dropped`);
    const { ioasid, device, pasid, iova, access } = record;
    const source = { ioasid, device, pasid, iova, access };
    if (record.kind === "event") {
      const reason = record.reason.startsWith("pasid-") ? record.reason : "access";
      groups.push([{ kind: "event", ...source, child: record.child, ipa: record.ipa, reason, last: false, cookie: undefined }]);
    } else {
      const read: ReadRecord = { kind: "request", ...source, child: null, ipa: null, reason: null, last: record.last, cookie: record.cookie };
      const begun = groups.find(([head, ...rest]) => head!.cookie === record.cookie && ![head!, ...rest].some(({ last }) => last));
      if (begun === undefined) groups.push([read]);
      else begun.push(read);
    }
  }
  return groups;
}

function textOf(records: readonly ExpectedRecord[]): string {
  return records.map(({ kind, ioasid, child, ipa, reason, device, pasid, iova, access, last }) =>
    `${kind} ${ioasid} child ${child} ipa ${ipa} ${reason} device ${device} pasid ${pasid} ${access} ${iova}${last ? " last" : ""}`).join("; ");
}
