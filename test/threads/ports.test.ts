// Ports on other threads: views, shared requests, counters and faults as the host sees them, and the model IOTLB over all ports.
import { afterEach, describe, expect, it } from "vitest";
import { createHost } from "../../src/create-host.js";
import * as L from "../../src/engine/layout.js";
import { Engine } from "../../src/engine/engine.js";
import { connectEngine } from "../../src/engine/token.js";
import { TranslationPool } from "../../dist/threads/translation-pool.js";
import { checkIotlb, ModelIotlb } from "../oracle/model-iotlb.js";
import { releaseFromOracles } from "../oracle/instrument.js";
import { ask, fixture as unsharedFixture, R, RW, VTD48, type Fixture } from "../unit/engine-fixture.js";
import { closeThreads, start, type OtherThread } from "./other-thread.js";

afterEach(closeThreads);

function fixture(): Promise<Fixture> {
  return unsharedFixture(VTD48, {
    memory: { ram: 1 << 20, arena: 8 << 20, shared: true }, ports: { count: 8, iotlbSets: 64, lanes: 256, faults: 64 },
  });
}

/** The view of the one port that the thread has opened. */
const portOf = (engine: Engine, { thread }: OtherThread) => engine.ports().find((port) => port.thread === thread)!;

describe("a device on another thread", () => {
  it("reads and writes by a view of its own, and its faults have the label of its bind", async () => {
    const host = await createHost({ memory: { ram: 1 << 20, arena: 8 << 20, shared: true } });
    host.process.mmap({ hva: 0n, size: 0x10000n });
    const ioasidFd = host.open("/dev/ioasid");
    const deviceFd = host.open("/dev/vfio/devices/dev1");
    const label = deviceFd.bindIoasidFd({ ioasidFd, cookie: 0x77n });
    const ioasid = ioasidFd.alloc();
    deviceFd.attachIoasid({ ioasid });
    ioasidFd.dmaMap({ ioasid, iova: 0x1000n, vaddr: 0x3000n, size: 0x2000n });
    host.process.bytes(0x3000n, 4).set([9, 8, 7, 6]);
    const device = await start(host.engine, "dma", { device: host.device("dev1").token() });
    expect(await device.hear()).toEqual({ read: [9, 8, 7, 6], fault: { reason: "not-present", label, cookie: 0x77n, name: "dev1" } });
    expect([...host.process.bytes(0x3ffen, 4)]).toEqual([1, 2, 3, 4]);
  });

  it("a token of another version's engine is refused", async () => {
    const { engine } = await fixture();
    expect(() => connectEngine({ ...engine.token(), address: engine.address + 4096 })).toThrow(expect.objectContaining({ code: "ABI" }));
  });
});

describe("what the host sees of other threads' ports", () => {
  it("counters: hits, misses, walks, entries read, faults by reason", async () => {
    const { engine, domain, route, port } = await fixture();
    engine.map(domain, 0x1000n, 0x2fffn, 0x5000n, R);
    const before = port.counters;
    ask(port, route, [0x1000n, 0x2000n, 0x9000n], R);
    ask(port, route, [0x1000n, 0x1008n], R);
    ask(port, engine.route(0x99), [0n], R);
    // Two walks of four entries; the third lane is read by the batch walker and again by the exact one.
    expect(port.counters).toEqual({
      translations: 6, hits: 2, misses: 4, walks: 3, loads: 16, faults: 2, faultsByReason: { "not-present": 1, "blocked": 1 }, dropped: 0,
    });
    expect(before).toMatchObject({ translations: 0, faultsByReason: {} });
    const idle = await start(engine, "idle", { route, iova: 0x2000 });
    expect(portOf(engine, idle).counters).toMatchObject({ translations: 1, misses: 1, walks: 1, loads: 4, faults: 0 });
  });

  it("a port that is opened again counts from 0, and has no faults of its former owner", async () => {
    const { engine, route, port } = await fixture();
    ask(port, route, [0x1000n], R);
    port.translateHalves(0x1000, 0, route, R);
    port.close();
    const again = engine.openPort();
    expect(again.address).toBe(port.address);
    expect(again.counters).toMatchObject({ translations: 0, faults: 0, faultsByReason: {} });
    expect(again.takeFaults()).toEqual([]);
  });

  it("the records in their fault rings", async () => {
    const { engine, route } = await fixture();
    const idle = await start(engine, "idle", { route, iova: 0x7000 });
    expect(portOf(engine, idle).takeFaults()).toMatchObject([{ iova: 0x7000n, rid: 0x20, reason: "not-present" }]);
    expect(portOf(engine, idle).takeFaults()).toEqual([]);
  });
});

describe("requests shared out", () => {
  it("are answered by all threads as one port answers them", async () => {
    const { engine, domain, route, port } = await fixture();
    const LANES = 5000;
    for (let page = 0n; page < 64n; page += 2n) engine.map(domain, page << 12n, (page << 12n) | 0xfffn, (page * 3n) << 12n, RW);
    // The built pool, whose worker is a file; to the compiler its engine is another class than that of the sources.
    const pool = await TranslationPool.start(engine as never, 2, LANES);
    expect(pool.threads).toBe(2);
    const iovas = Array.from({ length: LANES }, (_, lane) => BigInt((lane * 7) % 64) << 12n);
    for (const n of [LANES, 300, 0, LANES]) {
      iovas.slice(0, n).forEach((iova, lane) => pool.requests.set([Number(iova), 0, route, R], lane * 4));
      pool.results.fill(0);
      const refused = iovas.slice(0, n).filter((iova) => (iova >> 12n) % 2n === 1n).length;
      expect(pool.translate(n)).toBe(refused);
      for (let first = 0; first < n; first += 256) {
        const piece = iovas.slice(first, Math.min(first + 256, n));
        ask(port, route, piece, R);
        expect(pool.results.subarray(first * 2, (first + piece.length) * 2)).toEqual(port.results.slice(0, piece.length * 2));
      }
    }
    expect(engine.ports()).toHaveLength(3);
    await pool.close();
    expect(engine.ports()).toHaveLength(1);
    expect(() => pool.translate(LANES + 1)).toThrow(expect.objectContaining({ field: "n" }));
  });
});

describe("the model IOTLB", () => {
  it("holds what the ports of all threads hold, and drops it with the range", async () => {
    const { engine, domain, route, port } = await fixture();
    engine.map(domain, 0x1000n, 0x3fffn, 0x5000n, R);
    const model = new ModelIotlb(engine);
    const held = (): number => {
      model.applyRing();
      model.check();
      return [...model.live()].length;
    };
    expect(held()).toBe(0);
    ask(port, route, [0x1000n], R);
    await start(engine, "idle", { route, iova: 0x2000 });
    await start(engine, "idle", { route, iova: 0x3000 });
    expect(held()).toBe(3);
    engine.unmap(domain, 0x2000n, 0x3fffn);
    expect(held()).toBe(1);
  });

  it.each([0, 1, 2])("finds an entry that port %i of three threads keeps after its page was unmapped", async (culprit) => {
    const { engine, domain, route, port } = await fixture();
    engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, R);
    ask(port, route, [0x1000n], R);
    const others = [await start(engine, "idle", { route, iova: 0x1000 }), await start(engine, "idle", { route, iova: 0x1000 })];
    checkIotlb(engine);
    releaseFromOracles(engine);
    engine.unmap(domain, 0x1000n, 0x1fffn);
    checkIotlb(engine);
    // The port believes that it has applied the invalidation.
    const address = culprit === 0 ? port.address : portOf(engine, others[culprit - 1]!).address;
    const words = new Uint32Array(engine.memory.buffer);
    words[(address + L.PORT_RING_TAIL) >>> 2] = engine.word(L.ENGINE_RING_HEAD);
    expect(() => checkIotlb(engine)).toThrow(new RegExp(`port 0x${address.toString(16)} holds|a port holds`));
  });
});
