// The queue of what devices report, and the slots of accesses that wait, on one thread, in unshared and in shared memory, and which refusals a page request may mend.
import { describe, expect, it } from "vitest";
import { EngineAccess } from "../../src/engine/access.js";
import { ReportQueue } from "../../src/engine/report-queue.js";
import * as L from "../../src/engine/layout.js";
import type { RawFault } from "../../src/engine/port.js";
import { PAGE_RESPONSE_FAILURE, PAGE_RESPONSE_INVALID, PAGE_RESPONSE_SUCCESS, Stalls } from "../../src/engine/stalls.js";
import { fixture, R, RW, VTD48, W } from "./engine-fixture.js";

const FAULT: RawFault = {
  iova: 0xfedcba9876543000n, ipa: 0x123000n, pte: 0x8000000000000003n, rid: 0x20, pasid: L.NO_PASID, route: 3, lane: 7, access: RW,
  reason: "write-denied", class: "input", stage: 1, level: 2, recoverable: true,
};

const world = (shared: boolean) => fixture(VTD48, { memory: { ram: 1 << 20, arena: 8 << 20, shared }, faultQueue: { records: 8, stalls: 8 } });

it("accesses of two engines in one memory wait for their own answers, whatever the numbers of their groups", async () => {
  const adopt = new WebAssembly.Memory({ initial: 64 });
  const small = { ports: { count: 2, iotlbSets: 4, lanes: 16, faults: 4 }, faultQueue: { records: 8, stalls: 8 } };
  const engineAt = (offset: number) => fixture(VTD48, { ...small, memory: { adopt, arena: { offset, length: 1 << 20 } } });
  const both = [new Stalls((await engineAt(1 << 20)).engine), new Stalls((await engineAt(2 << 20)).engine)];
  const groups = both.map((stalls) => stalls.open()!);
  expect(groups[0]).toBe(groups[1]);
  const begun = performance.now();
  const answers = both.map((stalls, n) => stalls.wait(groups[n]!, 3000));
  both.forEach((stalls, n) => stalls.answer(groups[n]!, n));
  expect(await Promise.all(answers)).toEqual([PAGE_RESPONSE_SUCCESS, PAGE_RESPONSE_INVALID]);
  expect(performance.now() - begun).toBeLessThan(2000);
});

describe.each([["unshared", false], ["shared", true]])("in %s memory", (_name, shared) => {
  it("the queue gives records back whole and in order, events and requests", async () => {
    const queue = new ReportQueue((await world(shared)).engine);
    expect(queue.take()).toBeUndefined();
    queue.push(FAULT);
    queue.push({ ...FAULT, iova: 1n, recoverable: false }, { group: 0xffff_fffe, last: false });
    queue.push({ ...FAULT, iova: 2n }, { group: 5, last: true });
    expect(queue.take()).toEqual({ ...FAULT, request: undefined });
    expect(queue.take()).toEqual({ ...FAULT, iova: 1n, recoverable: false, request: { group: 0xffff_fffe, last: false } });
    expect(queue.take()).toEqual({ ...FAULT, iova: 2n, request: { group: 5, last: true } });
    expect(queue.take()).toBeUndefined();
  });

  it("a full queue drops what comes, counts it once, keeps what it has, and takes records again", async () => {
    const queue = new ReportQueue((await world(shared)).engine);
    for (let n = 0n; n < 11n; n++) expect(queue.push({ ...FAULT, iova: n })).toBe(n < 8n);
    expect([queue.takeDropped(), queue.takeDropped()]).toEqual([3, 0]);
    expect(queue.take()?.iova).toBe(0n);
    expect(queue.push({ ...FAULT, iova: 20n })).toBe(true);
    expect(Array.from({ length: 9 }, () => queue.take()?.iova)).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n, 20n, undefined]);
  });

  it("who waits for the queue wakes for what was pushed since, and for a drop", async () => {
    const queue = new ReportQueue((await world(shared)).engine);
    const seen = queue.head;
    const woken = queue.waitBeyond(seen);
    setTimeout(() => queue.push(FAULT), 5);
    await woken;
    expect(queue.take()?.iova).toBe(FAULT.iova);
    await queue.waitBeyond(seen);
  });

  it("an answer reaches the access that waits, in whichever order the two come, and the first one counts", async () => {
    const { engine } = await world(shared);
    const stalls = new Stalls(engine);
    const answers = new Stalls(engine);
    const [first, second] = [stalls.open()!, stalls.open()!];
    const waiting = stalls.wait(first, 10_000);
    expect(answers.answer(second, PAGE_RESPONSE_FAILURE)).toBe(true);
    expect(answers.answer(second, PAGE_RESPONSE_SUCCESS)).toBe(false);
    expect(answers.answer(first, PAGE_RESPONSE_INVALID)).toBe(true);
    expect([await waiting, await stalls.wait(second, 10_000)]).toEqual([PAGE_RESPONSE_INVALID, PAGE_RESPONSE_FAILURE]);
  });

  it("without an answer a wait ends in time, and the answer that comes later goes nowhere", async () => {
    const stalls = new Stalls((await world(shared)).engine);
    const group = stalls.open()!;
    expect(await stalls.wait(group, 5)).toBeUndefined();
    stalls.close(group);
    expect(stalls.answer(group, PAGE_RESPONSE_SUCCESS)).toBe(false);
  });

  it("slots run out, come back, and never take the answer of a group that had them before", async () => {
    const stalls = new Stalls((await world(shared)).engine);
    const old = Array.from({ length: 8 }, () => stalls.open()!);
    expect(new Set(old).size).toBe(8);
    expect(stalls.open()).toBeUndefined();
    for (const group of old) stalls.close(group);
    stalls.close(old[0]!);
    const fresh = Array.from({ length: 8 }, () => stalls.open()!);
    expect(stalls.open()).toBeUndefined();
    expect(fresh.map((group) => group % 8).sort()).toEqual(old.map((group) => group % 8).sort());
    for (const group of [...old, -1, 0.5, NaN, 2 ** 60]) expect(stalls.answer(group, PAGE_RESPONSE_SUCCESS)).toBe(false);
    for (const group of fresh) expect(stalls.answer(group, PAGE_RESPONSE_SUCCESS)).toBe(true);
  });

  it("100,000 requests queued and answered take no memory and no frame", async () => {
    const { engine } = await world(shared);
    const queue = new ReportQueue(engine);
    const stalls = new Stalls(engine);
    const before = [engine.framesUsed, engine.memory.buffer.byteLength];
    for (let n = 0; n < 100_000; n++) {
      const group = stalls.open()!;
      if (!queue.push(FAULT, { group, last: true })) throw new Error(`full at ${n}`);
      if (!stalls.answer(queue.take()!.request!.group, PAGE_RESPONSE_SUCCESS)) throw new Error(`nobody waits at ${n}`);
      stalls.close(group);
    }
    expect([engine.framesUsed, engine.memory.buffer.byteLength]).toEqual(before);
  });
});

describe("a refusal is recoverable", () => {
  async function refusal(pageRequests: boolean, iova: number, need: number) {
    const { engine, port, domain, route } = await fixture({ ...VTD48, pageRequests });
    engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, R);
    expect(port.translateHalves(iova, iova > 2 ** 31 ? 0xffffffff : 0, route, need)).toBe(false);
    const inResult = (port.result >> L.RESULT_RECOVERABLE_BIT & 1n) === 1n;
    const { reason, recoverable } = port.takeFaults()[0]!;
    expect(recoverable).toBe(inResult);
    return { reason, recoverable };
  }

  it("when a page or a permission is missing in a domain that takes page requests", async () => {
    expect(await refusal(true, 0x9000, R)).toEqual({ reason: "not-present", recoverable: true });
    expect(await refusal(true, 0x1000, W)).toEqual({ reason: "write-denied", recoverable: true });
  });

  it("never in another domain, nor for an address that no table can serve", async () => {
    expect(await refusal(false, 0x9000, R)).toEqual({ reason: "not-present", recoverable: false });
    expect(await refusal(true, 0xfffff000, R)).toEqual({ reason: "address-width", recoverable: false });
  });
});

it("what stage 2 refuses is not recoverable; what stage 1 refuses above it is", async () => {
  const { engine, port, domain: stage2 } = await fixture({ ...VTD48, pageRequests: true });
  const ram = 0x100000n;
  engine.addSlot(ram, ram + 0xffffn, "memory", engine.ram.offset);
  // Four table pages of the guest's, identity in stage 2: 1 -> 2 -> 3 -> 4, whose entries 0 and 1 are leaves.
  engine.map(stage2, ram, ram + 0xffffn, ram, RW);
  const memory = new DataView(engine.memory.buffer, engine.ram.offset);
  for (const level of [0n, 1n, 2n]) memory.setBigUint64(Number(level * 0x1000n), (ram + (level + 1n) * 0x1000n) | 7n, true);
  memory.setBigUint64(0x3000, (ram + 0x8000n) | 7n, true);
  memory.setBigUint64(0x3008, 0x70000000n | 7n, true);
  const domain = engine.createDomain({ format: L.FORMAT_X86_64, levels: 4, width: 48, rule: "sign", outputWidth: 52, guestRoot: ram, stage2, pageRequests: true });
  const route = engine.route(0x30);
  engine.attachRoute(route, domain);
  const ask = (iova: number) => {
    if (port.translateHalves(iova, 0, route, R)) return "translated";
    const { stage, reason, recoverable } = port.takeFaults()[0]!;
    return { stage, reason, recoverable };
  };
  expect(ask(0)).toBe("translated");
  expect(ask(0x1000)).toEqual({ stage: 2, reason: "not-present", recoverable: false });
  expect(ask(0x2000)).toEqual({ stage: 1, reason: "not-present", recoverable: true });
});

describe("a thread that has ended", () => {
  /** The engine as a thread sees it, from a token; it ends when the test says so. */
  async function worldOfThread() {
    const { engine } = await world(true);
    const token = engine.token();
    return { engine, thread: token.thread, other: new EngineAccess(engine.memory, true, engine.address, token.thread, engine.exports) };
  }

  it("in the middle of a record leaves the queue to the others, once the host knows", async () => {
    const { engine, thread, other } = await worldOfThread();
    const words = new Int32Array(engine.memory.buffer);
    words[(engine.word(L.ENGINE_QUEUE) + L.QUEUE_LOCK) >>> 2] = thread;
    expect(engine.reports.push(FAULT)).toBe(false);
    expect([engine.reports.take(), engine.reports.takeDropped()]).toEqual([undefined, 1]);
    engine.endThread(thread);
    expect([other.reports.push(FAULT), engine.reports.push(FAULT)]).toEqual([true, true]);
    expect([engine.reports.take(), engine.reports.take(), engine.reports.take()]).toMatchObject([{ rid: 0x20 }, { rid: 0x20 }, undefined]);
  });

  it("while its accesses wait gives their places back, and only these", async () => {
    const { engine, thread, other } = await worldOfThread();
    const own = engine.stalls.open()!;
    const groups = Array.from({ length: 7 }, () => other.stalls.open()!);
    expect(engine.stalls.open()).toBeUndefined();
    engine.stalls.answer(groups[0]!, PAGE_RESPONSE_SUCCESS);
    engine.endThread(thread);
    expect(groups.map((group) => engine.stalls.answer(group, PAGE_RESPONSE_SUCCESS))).toEqual(groups.map(() => false));
    expect(Array.from({ length: 8 }, () => engine.stalls.open()).filter((group) => group !== undefined)).toHaveLength(7);
    expect(engine.stalls.answer(own, PAGE_RESPONSE_SUCCESS)).toBe(true);
  });
});
