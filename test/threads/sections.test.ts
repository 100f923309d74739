// Changes and the sections of other threads: what waits, what does not, and that nothing hangs.
import { afterEach, describe, expect, it } from "vitest";
import { createHost } from "../../src/create-host.js";
import type { DomainOptions, EngineOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { connectEngine } from "../../src/engine/token.js";
import { fixture as unsharedFixture, R, RW, VTD48, type Fixture } from "../unit/engine-fixture.js";
import { closeThreads, start, type OtherThread } from "./other-thread.js";

const SHARED = { ram: 1 << 20, arena: 8 << 20, shared: true };
/** How long a reader stays inside: far longer than a call takes that does not wait. */
const HELD = 60;

afterEach(closeThreads);

function fixture(domainOptions: DomainOptions = VTD48, options: EngineOptions = {}): Promise<Fixture> {
  return unsharedFixture(domainOptions, { memory: SHARED, ports: { count: 4, iotlbSets: 64, lanes: 256, faults: 64 }, ...options });
}

/** A domain with one page mapped, its route, and a reader on another thread that is inside a section with that page. */
async function held(milliseconds = HELD, domainOptions?: DomainOptions): Promise<Fixture & { reader: OtherThread }> {
  const its = await fixture(domainOptions);
  its.engine.addSlot(1n << 32n, (1n << 32n) + 0xfffn, "zero");
  expect(its.engine.map(its.domain, 0x1000n, 0x1fffn, 0x5000n, RW)).toBe(L.STATUS_OK);
  const reader = await start(its.engine, "hold", { route: its.route, iova: 0x1000, milliseconds });
  expect(reader.inside).toBe(true);
  return { ...its, reader };
}

describe("once the call has returned, no thread uses the old translation", () => {
  const CHANGES: [string, (its: Fixture) => unknown, unknown][] = [
    ["unmap", ({ engine, domain }) => engine.unmap(domain, 0x1000n, 0x1fffn), 0x1000n],
    ["invalidate", ({ engine, domain }) => engine.invalidate(domain, 0x1000n, 0x1fffn), L.STATUS_OK],
    ["flush", ({ engine, domain }) => engine.flushDomain(domain), L.STATUS_OK],
    ["detach", ({ engine, route }) => engine.blockRoute(route), L.STATUS_OK],
    ["identity", ({ engine, route }) => engine.identityRoute(route), L.STATUS_OK],
    ["attach elsewhere", ({ engine, route }) => engine.attachRoute(route, engine.createDomain(VTD48)), L.STATUS_OK],
    ["removal of a slot", ({ engine }) => engine.removeSlot(1n << 32n), true],
  ];
  it.each(CHANGES)("%s waits for the section that was open", async (_name, change, answer) => {
    const its = await held();
    expect(its.reader.left).toBe(false);
    expect(change(its)).toBe(answer);
    expect(its.reader.left).toBe(true);
    expect(its.reader.messages).toEqual([]);
  });

  it("clearing dirty bits waits too: a cached entry would let writes pass unseen", async () => {
    const its = await held(HELD, { ...VTD48, accessed: "set", dirty: "set" });
    its.port.translateHalves(0x1000, 0, its.route, RW);
    expect(its.engine.collectDirty(its.domain, 0x1000n, 0x1fffn, true)).toEqual([{ first: 0x1000n, last: 0x1fffn }]);
    expect(its.reader.left).toBe(true);
  });

  it("the calls of the uAPI wait: unmap, detach, free", async () => {
    const host = await createHost({ memory: { ...SHARED, ram: 1 << 20 } });
    host.process.mmap({ hva: 0n, size: 0x100000n });
    const ioasidFd = host.open("/dev/ioasid");
    const deviceFd = host.open("/dev/vfio/devices/dev1");
    deviceFd.bindIoasidFd({ ioasidFd });
    const route = host.engine.route(0x20);
    const calls: ((ioasid: number) => unknown)[] = [
      (ioasid) => ioasidFd.dmaUnmap({ ioasid, iova: 0x1000n, size: 0x1000n }),
      (ioasid) => deviceFd.detachIoasid({ ioasid }),
      () => ioasidFd.close(),
    ];
    for (const call of calls) {
      const ioasid = ioasidFd.alloc();
      deviceFd.attachIoasid({ ioasid });
      ioasidFd.dmaMap({ ioasid, iova: 0x1000n, vaddr: 0n, size: 0x1000n });
      const reader = await start(host.engine, "hold", { route, iova: 0x1000, milliseconds: HELD });
      expect(reader.left).toBe(false);
      call(ioasid);
      expect(reader.left).toBe(true);
      if (call !== calls[2] && call !== calls[1]) deviceFd.detachIoasid({ ioasid });
    }
  });

  it("a change of the parent waits for readers of a child: a shadow, and a guest's table above the parent's", async () => {
    for (const bound of [false, true]) {
      const host = await createHost({ memory: { ...SHARED, ram: 1 << 20 }, iommus: [{ preset: "vtd-scalable", stage: 2 }] });
      host.process.mmap({ hva: 0n, size: 0x10000n });
      // The guest's table, 4 levels at 0x4000: iova 0x2000 -> 0x1000.
      const words = new BigUint64Array(host.process.bytes(0n, 0x10000).slice().buffer);
      [0x5027n, 0x6027n, 0x7027n].forEach((pte, n) => (words[(0x4000 + n * 0x1000) / 8] = pte));
      words[0x7010 / 8] = 0x1067n;
      host.process.bytes(0n, 0x10000).set(new Uint8Array(words.buffer));
      const ioasidFd = host.open("/dev/ioasid");
      const deviceFd = host.open("/dev/vfio/devices/dev1");
      deviceFd.bindIoasidFd({ ioasidFd });
      const parent = ioasidFd.alloc();
      deviceFd.attachIoasid({ ioasid: parent });
      for (const page of [0x0n, 0x1000n, 0x4000n]) ioasidFd.dmaMap({ ioasid: parent, iova: page, vaddr: page, size: page === 0x4000n ? 0x4000n : 0x1000n });
      const child = ioasidFd.createNesting({ parent });
      deviceFd.attachIoasid({ ioasid: child });
      if (bound) ioasidFd.bindPgtable({ ioasid: child, addr: 0x4000, format: { kind: "x86-64", levels: 4 } });
      else ioasidFd.dmaMap({ ioasid: child, iova: 0x2000, vaddr: 0x1000, size: 0x1000 });
      expect(host.device("dev1").dma().translate(0x2000n)).toBe(0x1_0000_1000n);
      const reader = await start(host.engine, "hold", { route: host.engine.route(0x20), iova: 0x2000, milliseconds: HELD });
      expect(reader.left).toBe(false);
      ioasidFd.dmaUnmap({ ioasid: parent, iova: 0x1000, size: 0x1000 });
      expect(reader.left).toBe(true);
      expect(() => host.device("dev1").dma().translate(0x2000n)).toThrow(/not-present/);
    }
  });

  it("a map waits for nobody: it takes nothing away", async () => {
    const { engine, domain, reader } = await held(20_000);
    expect(engine.map(domain, 0x2000n, 0x2fffn, 0x6000n, RW)).toBe(L.STATUS_OK);
    engine.createDomain(VTD48);
    expect(reader.left).toBe(false);
  });

  it("frames of dropped tables are not handed out before the readers have left", async () => {
    const { engine, domain, reader } = await held();
    const used = engine.framesUsed;
    expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(0x1000n);
    expect(reader.left).toBe(true);
    expect(engine.framesUsed).toBe(used - 3);
    expect(engine.word(L.ENGINE_FRAMES_LIMBO)).toBe(0);
  });
});

describe("no deadlock", () => {
  it("a change inside a section of one's own thread is refused, whoever else is inside", async () => {
    const { engine, port, domain, route } = await held(20_000);
    port.batch(() => {
      expect(engine.inSection).toBe(true);
      expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(L.UNMAP_IN_SECTION);
      expect(engine.invalidate(domain, 0x1000n, 0x1fffn)).toBe(L.STATUS_IN_SECTION);
      expect(engine.flushDomain(domain)).toBe(L.STATUS_IN_SECTION);
      expect(engine.blockRoute(route)).toBe(L.STATUS_IN_SECTION);
      expect(() => engine.removeSlot(1n << 32n)).toThrow(expect.objectContaining({ code: "IN_SECTION" }));
    });
    expect(engine.inSection, "another thread's section is none of ours").toBe(false);
  });

  it("a port that a token opens on the host's own thread is the host's", async () => {
    const { engine, domain } = await fixture();
    const port = connectEngine(engine.token()).openPort();
    port.batch(() => expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(L.UNMAP_IN_SECTION));
    port.close();
  });

  it("no section is held across an await", async () => {
    const { engine, port } = await fixture();
    let after = false;
    const use = async (): Promise<void> => {
      expect(engine.inSection).toBe(true);
      await Promise.resolve();
      after = true;
      expect(engine.inSection).toBe(false);
    };
    expect(() => port.batch(use)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT", field: "use" }));
    expect(engine.inSection).toBe(false);
    await Promise.resolve();
    expect(after).toBe(true);
  });

  it("a port that is closed inside its section has left it", async () => {
    const { engine, domain } = await fixture();
    const reader = await start(engine, "closeInside", { milliseconds: 20_000 });
    expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(0n);
    expect(reader.left).toBe(false);
  });

  it.each(["stay", "exit"])("a thread that ends inside its section (%s) has left it, and its port is free again", async (job) => {
    const { engine, domain } = await fixture(VTD48, { ports: { count: 2, iotlbSets: 64, lanes: 256, faults: 64 } });
    const reader = await start(engine, job);
    if (job === "stay") {
      expect(() => engine.openPort()).toThrow(expect.objectContaining({ code: "NO_PORTS" }));
      await reader.worker.terminate();
    }
    await reader.ended();
    expect(engine.ports().map(({ thread }) => thread)).toEqual([L.HOST_THREAD]);
    expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(0n);
    engine.openPort();
  });

  it("a wait of over a second names the port; nothing is changed until it has been waited for; then the call may be made again", async () => {
    const { engine, port, domain, route, reader } = await held(20_000);
    const { index } = engine.ports().find(({ thread }) => thread === reader.thread)!;
    const stalled = expect.objectContaining({ code: "PORT_STALLED", value: index, message: expect.stringContaining(`port ${index} of thread ${reader.thread} `) });
    const begun = performance.now();
    expect(() => engine.unmap(domain, 0x1000n, 0x1fffn)).toThrow(stalled);
    expect(performance.now() - begun).toBeGreaterThan(1000);
    expect(engine.word(L.ENGINE_FRAMES_LIMBO)).toBe(3);
    expect(() => engine.map(domain, 0x4000n, 0x4fffn, 0n, R)).toThrow(stalled);
    reader.tell();
    expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(0x1000n);
    expect(reader.left).toBe(true);
    expect(engine.word(L.ENGINE_FRAMES_LIMBO)).toBe(0);
    expect(engine.map(domain, 0x4000n, 0x4fffn, 0n, R)).toBe(L.STATUS_OK);
    expect(port.translateHalves(0x1000, 0, route, R)).toBe(false);
  });

  it("at the uAPI that is ETIMEDOUT, and the memory stays pinned until the call has been made again", async () => {
    const host = await createHost({ memory: SHARED });
    host.process.mmap({ hva: 0n, size: 0x100000n });
    const ioasidFd = host.open("/dev/ioasid");
    const deviceFd = host.open("/dev/vfio/devices/dev1");
    deviceFd.bindIoasidFd({ ioasidFd });
    const ioasid = ioasidFd.alloc();
    deviceFd.attachIoasid({ ioasid });
    ioasidFd.dmaMap({ ioasid, iova: 0x1000n, vaddr: 0n, size: 0x1000n });
    const reader = await start(host.engine, "hold", { route: host.engine.route(0x20), iova: 0x1000, milliseconds: 20_000 });
    expect(() => ioasidFd.dmaUnmap({ ioasid, iova: 0x1000n, size: 0x1000n })).toThrow(expect.objectContaining({ errno: "ETIMEDOUT" }));
    expect(ioasidFd.getInfo({ ioasid })).toMatchObject({ mappings: 1, locked: 0x1000n });
    reader.tell();
    expect(ioasidFd.dmaUnmap({ ioasid, iova: 0x1000n, size: 0x1000n })).toEqual({ size: 0x1000n });
    expect(ioasidFd.getInfo({ ioasid })).toMatchObject({ mappings: 0, locked: 0n });
  });

  it("an unmap of a space with a child that stalls at the child's table is made again for both", async () => {
    const host = await createHost({ memory: SHARED });
    host.process.mmap({ hva: 0n, size: 0x100000n });
    const ioasidFd = host.open("/dev/ioasid");
    const deviceFd = host.open("/dev/vfio/devices/dev1");
    deviceFd.bindIoasidFd({ ioasidFd });
    const parent = ioasidFd.alloc();
    deviceFd.attachIoasid({ ioasid: parent });
    const child = ioasidFd.createNesting({ parent });
    deviceFd.attachIoasid({ ioasid: child });
    ioasidFd.dmaMap({ ioasid: parent, iova: 0x1000n, vaddr: 0n, size: 0x2000n });
    ioasidFd.dmaMap({ ioasid: child, iova: 0x8000n, vaddr: 0x1000n, size: 0x1000n });
    const reader = await start(host.engine, "hold", { route: host.engine.route(0x20), iova: 0x8000, milliseconds: 20_000 });
    const again = (): unknown => ioasidFd.dmaUnmap({ ioasid: parent, iova: 0x1000n, size: 0x2000n });
    expect(again).toThrow(expect.objectContaining({ errno: "ETIMEDOUT" }));
    reader.tell();
    expect(again()).toEqual({ size: 0x2000n });
    expect(ioasidFd.getInfo({ ioasid: parent })).toMatchObject({ mappings: 0, locked: 0n });
  });

  it("what was removed in one domain before a port stalled is not forgotten by an unmap in another", async () => {
    const { engine, domain, reader } = await held(20_000);
    const other = engine.createDomain(VTD48);
    expect(() => engine.unmap(domain, 0x1000n, 0x1fffn)).toThrow(expect.objectContaining({ code: "PORT_STALLED" }));
    reader.tell();
    expect(engine.unmap(other, 0x1000n, 0x1fffn)).toBe(0n);
    expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(0x1000n);
    expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(0n);
  });

  it("an unmap that is made again removes what was mapped meanwhile, in a domain that took the place of the first too", async () => {
    const { engine, port, domain, route, reader } = await held(20_000);
    expect(() => engine.unmap(domain, 0x1000n, 0x1fffn)).toThrow(expect.objectContaining({ code: "PORT_STALLED" }));
    reader.tell();
    expect(engine.blockRoute(route)).toBe(L.STATUS_OK);
    expect(engine.destroyDomain(domain)).toBe(L.STATUS_OK);
    expect(engine.createDomain(VTD48)).toBe(domain);
    expect(engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, RW)).toBe(L.STATUS_OK);
    expect(engine.attachRoute(route, domain)).toBe(L.STATUS_OK);
    expect(engine.unmap(domain, 0x1000n, 0x1fffn)).toBe(0x1000n);
    expect(port.translateHalves(0x1000, 0, route, R)).toBe(false);
  });

  it("an engine in unshared memory has no ports on other threads, and says what it would need", async () => {
    const { engine } = await unsharedFixture();
    expect(() => engine.token()).toThrow(expect.objectContaining({ code: "NO_THREADS", field: "memory.shared" }));
  });

  it("a host that may not block has none either", async () => {
    const { engine } = await fixture();
    const { wait } = Atomics;
    Atomics.wait = () => { throw new TypeError("Atomics.wait cannot be called in this context"); };
    try {
      expect(() => engine.token()).toThrow(/make the host in a worker/);
    } finally {
      Atomics.wait = wait;
    }
  });
});

describe("one thread makes all changes", () => {
  it("a second one at the same time is refused in words", async () => {
    const { engine, domain } = await fixture();
    const lock = (value: number): void => { new Uint32Array(engine.memory.buffer)[(engine.address + L.ENGINE_LOCK) >>> 2] = value; };
    lock(1);
    const busy = expect.objectContaining({ code: "BUSY" });
    expect(() => engine.map(domain, 0n, 0xfffn, 0n, R)).toThrow(busy);
    expect(() => engine.unmap(domain, 0n, 0xfffn)).toThrow(busy);
    expect(() => engine.createDomain(VTD48)).toThrow(busy);
    expect(() => engine.addSlot(0n, 0xfffn, "zero")).toThrow(busy);
    lock(0);
    expect(engine.map(domain, 0n, 0xfffn, 0n, R)).toBe(L.STATUS_OK);
  });

  it("two threads that map and unmap by the module's own exports do not corrupt the tables", async () => {
    const { engine, domain } = await fixture();
    const other = engine.createDomain(VTD48);
    const used = engine.framesUsed;
    const thread = await start(engine, "mutate", { domain: other, calls: 20_000 });
    const { exports, address } = engine;
    const answers = new Set<number>();
    while (!thread.left) {
      answers.add(exports.map(address, domain, 0n, 0xfffffn, 0n, RW, 63));
      exports.unmap(address, domain, 0n, 0xfffffn);
    }
    while (exports.unmap(address, domain, 0n, 0xfffffn) === BigInt.asIntN(64, L.UNMAP_BUSY));
    const theirs = await thread.hear() as Record<string, number>;
    expect(Object.keys(theirs).filter((key) => !["map 0", "map 1", "map 10", "unmap 100000", "unmap 0", "unmap fffffffffffffffc"].includes(key))).toEqual([]);
    expect([...answers].filter((answer) => ![L.STATUS_OK, L.STATUS_OVERLAP, L.STATUS_BUSY].includes(answer))).toEqual([]);
    expect(engine.framesUsed).toBe(used);
  });
});
