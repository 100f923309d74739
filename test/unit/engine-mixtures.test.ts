// Batches in which hits, misses and refusals stand in any order: how misses are collected changes with their number, and with the
// size of the IOTLB, but each lane is answered as if it were alone. Counters say what the batch walker of two stages has kept.
import { describe, expect, it } from "vitest";
import { Engine, type DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { AMD64, decode, fixture, R, RW, VTD48, W, type Answer } from "./engine-fixture.js";

const PAGE = 0x1000n;
const BLOCK = 0x200000n;
/** Even pages are mapped from here on, every fourth of them for reading only; then blocks. */
const PAGES = 0x40000000n;
const BLOCKS = 0x80000000n;

interface Lane { iova: bigint; route: number; need: number; wanted: Answer }

function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function lanesOf(count: number, route: number, share: number, next: (below: number) => number): Lane[] {
  const odd = (iova: bigint, need: number, fault: string, itsRoute = route): Lane => ({ iova, route: itsRoute, need, wanted: { fault } });
  const good = (iova: bigint, hpa: bigint, runLg2: number): Lane => ({ iova, route, need: R, wanted: { hpa, runLg2 } });
  return Array.from({ length: count }, () => {
    const page = 2n * BigInt(next(64));
    if (next(100) >= share) return good(PAGES + page * PAGE + 8n, 0x5000n * PAGE + page * PAGE + 8n, 12);
    const block = BigInt(next(8));
    return [
      good(BLOCKS + block * BLOCK + page * PAGE, 0x4000000000n + block * BLOCK + page * PAGE, 21),
      odd(PAGES + page * PAGE + PAGE, R, "not-present"), odd(PAGES, W, "write-denied"),
      odd(PAGES + (1n << 60n), R, "address-width"), odd(PAGES, R, "no-route", route | 64), odd(PAGES, 8, "bad-request"),
    ][next(6)]!;
  });
}

// Sets are touched for 512 lanes at a time.
describe.each([["small", 64, 255], ["so large that its sets are touched ahead", 32768, 1279]])("an IOTLB that is %s", (_name, iotlbSets, count) => {
  it.each([0, 5, 30, 60, 100])("%i odd lanes in 100", async (share) => {
    const { engine, port, domain, route } = await fixture(VTD48, { ports: { count: 1, iotlbSets, lanes: 1280, faults: 64 } });
    for (let page = 0n; page < 128n; page += 2n) {
      const hpa = 0x5000n * PAGE + page * PAGE;
      engine.map(domain, PAGES + page * PAGE, PAGES + page * PAGE + PAGE - 1n, hpa, page % 8n ? RW : R);
    }
    engine.map(domain, BLOCKS, BLOCKS + 8n * BLOCK - 1n, 0x4000000000n, RW);
    const next = numbers(share + iotlbSets);
    for (let round = 0; round < 8; round++) {
      const lanes = lanesOf(count, route, share, next);
      const answers = port.batch(() => {
        lanes.forEach((lane, n) => port.requests.set([Number(lane.iova & 0xffffffffn), Number(lane.iova >> 32n), lane.route, lane.need], n * 4));
        port.results.fill(0x55555555);
        port.translate(count);
        return lanes.map((_, n) => decode(BigInt(port.results[n * 2]!) | (BigInt(port.results[n * 2 + 1]!) << 32n)));
      });
      expect(answers).toEqual(lanes.map(({ wanted }) => wanted));
      port.takeFaults();
    }
  });
});

it("a batch whose lanes go to tables of several formats, of a guest, and nowhere any more", async () => {
  const RAM = 0x1_0000_0000n;
  const engine = await Engine.create({ memory: { ram: 1 << 20, arena: 8 << 20 }, domains: 8, slots: 4, routes: 16, ports: { count: 1, lanes: 512 } });
  engine.addSlot(RAM, RAM + 0xffffn, "memory", engine.ram.offset);
  const words = new BigUint64Array(engine.memory.buffer, engine.ram.offset, 0x1000);
  [words[0], words[512], words[1024]] = [RAM + 0x1027n, RAM + 0x2027n, RAM + 0x3027n];
  words.fill(0x4000_0067n, 1536, 1536 + 256);
  const arm: DomainOptions = { format: L.FORMAT_ARM_S1_4K, levels: 4, width: 48, outputWidth: 48 };
  const own = [VTD48, AMD64, arm].map((options, n) => {
    const domain = engine.createDomain(options);
    engine.map(domain, 0n, 0xfffffn, BigInt(n + 1) << 32n, R);
    return domain;
  });
  const guest = engine.createDomain({ format: L.FORMAT_X86_64, levels: 4, width: 48, rule: "sign", outputWidth: 46, guestRoot: RAM });
  const domains = [...own, guest, own[0]!];
  const routes = domains.map((domain, n) => {
    const route = engine.route(0x20 + n);
    engine.attachRoute(route, domain);
    return route;
  });
  const port = engine.openPort();
  engine.blockRoute(routes[4]!);
  const next = numbers(7);
  for (let round = 0; round < 4; round++) {
    for (const domain of [...own, guest]) engine.flushDomain(domain);
    const lanes = Array.from({ length: 512 }, () => ({ kind: next(5), page: next(256), need: next(8) ? R : W }));
    const answers = port.batch(() => {
      lanes.forEach(({ kind, page, need }, n) => port.requests.set([page * 0x1000, 0, routes[kind]!, need], n * 4));
      port.translate(lanes.length);
      return lanes.map((_, n) => decode(BigInt(port.results[n * 2]!) | (BigInt(port.results[n * 2 + 1]!) << 32n)));
    });
    const wanted = lanes.map(({ kind, page, need }) => {
      if (kind === 4) return { fault: "blocked" };
      if (kind < 3 && need === W) return { fault: "write-denied" };
      return { hpa: kind === 3 ? 0x4000_0000n : (BigInt(kind + 1) << 32n) + BigInt(page) * PAGE, runLg2: expect.any(Number) };
    });
    expect(answers).toEqual(wanted);
    port.takeFaults();
  }
});

describe("a batch walk of two stages", () => {
  const RAM = 0x1_0000_0000n;

  /** gpa 0..0x3fff lie at RAM; iova n * 4 KiB, n < 256, leads to gpa 0x8000, which stage 2 has at 0x7000000. */
  async function twoStages() {
    const engine = await Engine.create({ memory: { ram: 1 << 20, arena: 8 << 20 }, domains: 4, slots: 4, routes: 8, ports: { count: 1, lanes: 256 } });
    engine.addSlot(RAM, RAM + 0xffffn, "memory", engine.ram.offset);
    const second = engine.createDomain(VTD48);
    engine.map(second, 0n, 0x3fffn, RAM, RW);
    engine.map(second, 0x8000n, 0x8fffn, 0x7000000n, RW);
    const words = new BigUint64Array(engine.memory.buffer, engine.ram.offset, 0x1000);
    [words[0], words[512], words[1024]] = [0x1027n, 0x2027n, 0x3027n];
    words.fill(0x8067n, 1536, 1536 + 256);
    const first = engine.createDomain({ format: L.FORMAT_X86_64, levels: 4, width: 48, rule: "sign", outputWidth: 46, guestRoot: 0n, stage2: second });
    const route = engine.route(0x20);
    engine.attachRoute(route, first);
    const port = engine.openPort();
    const translate = (pages: number): Answer[] => port.batch(() => {
      for (let n = 0; n < pages; n++) port.requests.set([n * 0x1000, 0, route, R], n * 4);
      port.translate(pages);
      return Array.from({ length: pages }, (_, n) => decode(BigInt(port.results[n * 2]!) | (BigInt(port.results[n * 2 + 1]!) << 32n)));
    });
    return { engine, second, port, translate };
  }

  it("reads stage 2 once for a page that all groups but the first meet, and anew in the next call", async () => {
    const { engine, second, port, translate } = await twoStages();
    expect(translate(256)).toEqual(Array.from({ length: 256 }, () => ({ hpa: 0x7000000n, runLg2: 12 })));
    // 64 lanes ask for each of five pages before any is known, four entries of stage 2 each; every lane reads four of stage 1.
    expect(port.counters.loads).toBe(64 * 5 * 4 + 256 * 4);
    engine.unmap(second, 0x8000n, 0x8fffn);
    engine.map(second, 0x8000n, 0x8fffn, 0x9000000n, RW);
    expect(translate(256)).toEqual(Array.from({ length: 256 }, () => ({ hpa: 0x9000000n, runLg2: 12 })));
  });

  it("forgets the pages of 2^32 calls before when its number comes round", async () => {
    const { engine, second, port, translate } = await twoStages();
    const stages = new DataView(engine.memory.buffer, port.address).getUint32(L.PORT_STAGES, true);
    const run = new Uint32Array(engine.memory.buffer, stages + L.STAGES_RUN, 1);
    run[0] = 0;
    expect(translate(4)[0]).toEqual({ hpa: 0x7000000n, runLg2: 12 });
    expect(run[0]).toBe(1);
    engine.unmap(second, 0x8000n, 0x8fffn);
    engine.map(second, 0x8000n, 0x8fffn, 0x9000000n, RW);
    run[0] = 0xffffffff;
    expect(translate(4)[0]).toEqual({ hpa: 0x9000000n, runLg2: 12 });
    expect(run[0]).toBe(1);
  });
});
