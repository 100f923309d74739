// Memories, slots, ports and rings: owned, shared and adopted; several engines in one memory; what is refused.
import { describe, expect, it } from "vitest";
import { DmaAccess } from "../../src/dma/dma-access.js";
import { Engine, type EngineOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { ask, askOne, fixture, R, RW, VTD48 } from "./engine-fixture.js";

const small: EngineOptions = {
  slots: 4, routes: 8, domains: 4, ports: { count: 2, iotlbSets: 4, lanes: 16, faults: 4 },
};
const arena = (offset: number) => ({ offset, length: 1 << 20 });

describe.each([
  ["owned", () => ({ ram: 1 << 20, arena: 1 << 20 })],
  ["owned and shared", () => ({ ram: 1 << 20, arena: 1 << 20, shared: true })],
  ["adopted, without a maximum", () => ({ adopt: new WebAssembly.Memory({ initial: 64 }), arena: arena(1 << 20) })],
  ["adopted and shared", () => ({ adopt: new WebAssembly.Memory({ initial: 64, maximum: 128, shared: true }), arena: arena(1 << 20) })],
])("a memory that is %s", (_name, memory) => {
  it("translates", async () => {
    const { engine, port, route, domain } = await fixture(VTD48, { ...small, memory: memory() });
    expect(engine.map(domain, 0n, 0x3ffn * 4096n + 0xfffn, 0x1000n, RW)).toBe(L.STATUS_OK);
    expect(ask(port, route, [0x1234n, 0x5000n], R).map((a) => a.hpa)).toEqual([0x2234n, 0x6000n]);
    expect(engine.unmap(domain, 0n, 0x3fffffn)).toBe(0x400000n);
    expect(askOne(port, route, 0n, R).fault).toBe("not-present");
  });
});

it("an adopted memory may grow, and keeps every byte outside the arena", async () => {
  const adopt = new WebAssembly.Memory({ initial: 64 });
  new Uint8Array(adopt.buffer).fill(0xa5);
  const { engine, port, route, domain } = await fixture(VTD48, { ...small, memory: { adopt, arena: arena(1 << 20) } });
  engine.map(domain, 0n, 0xfffn, 0x1000n, RW);
  adopt.grow(1);
  expect(ask(port, route, [0x10n], R)[0]?.hpa).toBe(0x1010n);
  const bytes = new Uint8Array(adopt.buffer, 0, 64 * 65536);
  expect(bytes.subarray(0, 1 << 20).every((byte) => byte === 0xa5)).toBe(true);
  expect(bytes.subarray(2 << 20).every((byte) => byte === 0xa5)).toBe(true);
});

it.each([
  ["is not shared", () => new WebAssembly.Memory({ initial: 64 })],
  ["is shared", () => new WebAssembly.Memory({ initial: 64, maximum: 128, shared: true })],
])("an access of a device reaches what a memory that %s has grown by, and what it had before", async (_name, makeMemory) => {
  const adopt = makeMemory();
  const { engine, port, route, domain } = await fixture(VTD48, { ...small, memory: { adopt, arena: arena(1 << 20) } });
  const [before, after] = [4096, 64 * 65536 + 8192];
  engine.addSlot(0x10000n, 0x10fffn, "memory", before);
  engine.map(domain, 0n, 0xfffn, 0x10000n, RW);
  const access = new DmaAccess(engine, port, { name: "dev", binding: () => undefined, route: () => route, pasid: () => undefined, pageRequests: false, reported: () => undefined });
  const there = (low: number, bytes: number[]): number[] => {
    expect(access.make(low, 0, Uint8Array.from(bytes), "w")).toBeUndefined();
    const into = new Uint8Array(bytes.length);
    expect(access.make(low, 0, into, "r")).toBeUndefined();
    return [...into];
  };
  expect(there(0xff0, [1, 2, 3])).toEqual([1, 2, 3]);
  adopt.grow(1);
  expect(there(0xff4, [4, 5, 6])).toEqual([4, 5, 6]);
  engine.addSlot(0x20000n, 0x20fffn, "memory", after);
  engine.map(domain, 0x1000n, 0x1fffn, 0x20000n, RW);
  const long = Array.from({ length: 64 }, (_none, n) => n);
  expect(there(0xff8, long)).toEqual(long);
  const bytes = new Uint8Array(adopt.buffer);
  expect([...bytes.subarray(before + 0xff0, before + 0x1000)]).toEqual([1, 2, 3, 0, 4, 5, 6, 0, ...long.slice(0, 8)]);
  expect([...bytes.subarray(after, after + 56)]).toEqual(long.slice(8));
  expect(port.translateHalves(0x1008, 0, route, R)).toBe(true);
  expect(port.result & 0xffffffn).toBe(0x20008n);
});

it("two engines live in one memory and know nothing of each other", async () => {
  const adopt = new WebAssembly.Memory({ initial: 64 });
  const one = await fixture(VTD48, { ...small, memory: { adopt, arena: arena(1 << 20) } });
  const two = await fixture(VTD48, { ...small, memory: { adopt, arena: arena(2 << 20) } });
  one.engine.map(one.domain, 0n, 0xfffn, 0x1000n, RW);
  two.engine.map(two.domain, 0n, 0xfffn, 0x2000n, RW);
  expect(askOne(one.port, one.route, 0n, R).hpa).toBe(0x1000n);
  expect(askOne(two.port, two.route, 0n, R).hpa).toBe(0x2000n);
});

describe("slots", () => {
  const span = { kind: "memory" as const, offset: 0, bytes: 0 };
  const find = (engine: Engine, hpa: bigint) => engine.locate(Number(hpa & 0xffffffffn), Number(hpa >> 32n), span) && { ...span };

  it("many slots, above 4 GiB and sparse, each found to its last byte", async () => {
    const engine = await Engine.create({ ...small, slots: 64, memory: { ram: 1 << 20, arena: 1 << 20 } });
    const slots = Array.from({ length: 64 }, (_, i) => ({ hpa: BigInt((i * 37) % 64) * 0x2_0000_0000n, offset: engine.ram.offset + i * 4096 }));
    for (const { hpa, offset } of slots) engine.addSlot(hpa, hpa + 0xfffn, "memory", offset);
    for (const { hpa, offset } of slots) {
      expect(find(engine, hpa)).toEqual({ kind: "memory", offset, bytes: 4096 });
      expect(find(engine, hpa + 0xfffn)).toEqual({ kind: "memory", offset: offset + 0xfff, bytes: 1 });
      expect(find(engine, hpa + 0x1000n)).toBe(false);
    }
    expect(() => engine.addSlot(1n << 50n, (1n << 50n) + 0xfffn, "zero")).toThrow(expect.objectContaining({ code: "SLOT_LIMIT" }));
    expect(engine.removeSlot(slots[5]?.hpa ?? -1n)).toBe(true);
    expect(find(engine, slots[5]?.hpa ?? -1n)).toBe(false);
    expect(engine.removeSlot(0x1234n)).toBe(false);
  });

  it("refuses overlap, the arena, and what is not whole pages of the memory", async () => {
    const engine = await Engine.create({ ...small, memory: { ram: 1 << 20, arena: 1 << 20 } });
    engine.addSlot(0x10000n, 0x1ffffn, "memory", engine.ram.offset);
    for (const [first, last] of [[0x1f000n, 0x2ffffn], [0n, 0x10fffn], [0x12000n, 0x12fffn], [0n, 0xfffffn]] as const) {
      expect(() => engine.addSlot(first, last, "zero")).toThrow(expect.objectContaining({ code: "SLOT_OVERLAP" }));
    }
    for (const offset of [engine.address, engine.address - 4096, 4095, 1 << 30]) {
      expect(() => engine.addSlot(0x100000n, 0x101fffn, "memory", offset)).toThrow(expect.objectContaining({ code: "SLOT_RANGE" }));
    }
    for (const [first, last] of [[1n, 0xfffn], [0n, 0xffen], [0x1000n, 0xfffn], [1n << 56n, (1n << 56n) + 0xfffn]] as const) {
      expect(() => engine.addSlot(first, last, "zero")).toThrow(expect.objectContaining({ code: "SLOT_RANGE" }));
    }
  });

  it("a guest's table is read through them, and never outside", async () => {
    const { engine, port } = await fixture(VTD48, { memory: { ram: 1 << 20, arena: 8 << 20 } });
    const hpa = 0x1_0000_0000n;
    engine.addSlot(hpa, hpa + 0xffffn, "memory", engine.ram.offset);
    const entry = (page: number, index: number, pte: bigint) =>
      new DataView(engine.memory.buffer).setBigUint64(engine.ram.offset + page * 4096 + index * 8, pte, true);
    [1n, 2n, 3n].forEach((page, i) => entry(i, 0, (hpa + page * 4096n) | 3n));
    entry(3, 5, 0x7000n | 1n);
    entry(3, 6, (hpa - 0x1000n) | 3n);
    entry(2, 1, (hpa - 0x1000n) | 3n);
    entry(2, 2, hpa | 3n);
    // A table right behind the slot: there are bytes, and a leaf in them, but no slot has them.
    entry(2, 3, (hpa + 0x10000n) | 3n);
    entry(16, 0, 0x8000n | 3n);
    const domain = engine.createDomain({ ...VTD48, guestRoot: hpa });
    const route = engine.route(0x30);
    engine.attachRoute(route, domain);
    expect(engine.map(domain, 0n, 0xfffn, 0n, RW)).toBe(L.STATUS_NOT_OWNED);
    expect(engine.unmap(domain, 0n, 0xfffn)).toBe(L.UNMAP_REFUSED);
    for (const round of ["cold", "warm"]) {
      const answers = ask(port, route, [0x5123n, 0x6000n, 0x200000n, 0x400000n, 0x600000n, 0x7000n], R);
      expect(answers.map((a) => a.hpa ?? a.fault), round).toEqual([0x7123n, hpa - 0x1000n, "table-outside", 0x1_0000_1000n, "table-outside", "not-present"]);
    }
    const lost = engine.createDomain({ ...VTD48, guestRoot: 1n << 40n });
    engine.attachRoute(route, lost);
    expect(askOne(port, route, 0n, R).fault).toBe("table-outside");
  });

  it.each([0, 1, 2, 3, 4])("a guest's tables may lie in different ones: %i of them in the largest", async (near) => {
    const { engine, port } = await fixture(VTD48, { memory: { ram: 1 << 20, arena: 8 << 20 } });
    // The largest slot, and four small ones far apart with a page each.
    engine.addSlot(0x1_0000_0000n, 0x1_0000_7fffn, "memory", engine.ram.offset);
    for (let n = 0; n < 4; n++) engine.addSlot(BigInt(n + 2) << 40n, (BigInt(n + 2) << 40n) + 0xfffn, "memory", engine.ram.offset + 0x10000 + n * 0x1000);
    const table = (n: number): { hpa: bigint; at: number } => (n < near
      ? { hpa: 0x1_0000_0000n + BigInt(n) * 0x1000n, at: n * 0x1000 } : { hpa: BigInt(n + 2) << 40n, at: 0x10000 + n * 0x1000 });
    const view = new DataView(engine.memory.buffer, engine.ram.offset);
    for (let n = 0; n < 4; n++) view.setBigUint64(table(n).at, (n < 3 ? table(n + 1).hpa : 0x7000n) | 3n, true);
    const domain = engine.createDomain({ ...VTD48, guestRoot: table(0).hpa });
    const route = engine.route(0x30);
    engine.attachRoute(route, domain);
    expect(ask(port, route, [0x123n, 0x1123n], R)).toEqual([{ hpa: 0x7123n, runLg2: 12 }, { fault: "not-present" }]);
    expect(port.counters.faults).toBe(1);
  });
});

describe("ports", () => {
  it("a full fault ring drops, counts and says so; the reader makes room", async () => {
    const { port, route } = await fixture(VTD48, small);
    port.batch(() => {
      for (let lane = 0; lane < 10; lane++) port.requests.set([lane * 4096, 0, route, R], lane * 4);
      expect(port.translate(10)).toBe(10);
    });
    expect(port.counters).toMatchObject({ faults: 10, dropped: 6 });
    expect(port.takeOverflow()).toBe(true);
    expect(port.takeOverflow()).toBe(false);
    expect(port.takeFaults().map((f) => [f.lane, f.reason, f.rid, f.access])).toEqual(
      [0, 1, 2, 3].map((lane) => [lane, "not-present", 0x20, R]));
    expect(port.takeFaults()).toEqual([]);
    port.translateNumber(0, route, R);
    expect(port.takeFaults()).toHaveLength(1);
  });

  it("a change inside one's own section is refused, not waited for", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0n, 0xfffn, 0n, RW);
    port.batch(() => {
      expect(engine.inSection).toBe(true);
      expect(engine.map(domain, 0x1000n, 0x1fffn, 0n, RW)).toBe(L.STATUS_IN_SECTION);
      expect(engine.unmap(domain, 0n, 0xfffn)).toBe(L.UNMAP_IN_SECTION);
      expect(engine.blockRoute(route)).toBe(L.STATUS_IN_SECTION);
      expect(engine.attachRoute(route, domain)).toBe(L.STATUS_IN_SECTION);
      expect(engine.destroyDomain(domain)).toBe(L.STATUS_IN_SECTION);
    });
    expect(() => port.batch(() => { throw new Error("x"); })).toThrow("x");
    expect(engine.inSection).toBe(false);
    port.batch(() => port.close());
    expect(engine.inSection).toBe(false);
    expect(() => port.batch(() => 0)).toThrow(expect.objectContaining({ code: "PORT_CLOSED" }));
  });

  it("runs out of ports and of routes in words", async () => {
    const { engine, port } = await fixture(VTD48, small);
    engine.openPort();
    expect(() => engine.openPort()).toThrow(expect.objectContaining({ code: "NO_PORTS" }));
    const routes = new Set(Array.from({ length: 20 }, (_, rid) => engine.route(rid + 0x100)));
    expect(routes.size).toBe(7);
    expect(routes.has(L.ROUTE_NONE)).toBe(true);
    for (const route of [L.ROUTE_NONE, 8, 0xffffffff]) expect(askOne(port, route, 0n, R).fault).toBe("no-route");
    expect(() => port.batch(() => port.translate(17))).toThrow(expect.objectContaining({ field: "n" }));
  });
});

describe("impossible sizes", () => {
  it.each([
    [{ memory: { ram: 4097 } }, "memory.ram"], [{ memory: { ram: -1 } }, "memory.ram"], [{ memory: { arena: 0 } }, "memory.arena"],
    [{ memory: { ram: 4294967296, arena: 1 << 20 } }, "memory"], [{ memory: { arena: 4096 } }, "memory.arena"],
    [{ memory: { adopt: {} as WebAssembly.Memory, arena: arena(4096) } }, "memory.adopt"],
    [{ memory: { adopt: new WebAssembly.Memory({ initial: 1 }), arena: arena(4096) } }, "memory.arena"],
    [{ slots: 0 }, "slots"], [{ routes: 7 }, "routes"], [{ routes: 12 }, "routes"], [{ domains: 0 }, "domains"],
    [{ ports: { count: 0 } }, "ports.count"], [{ ports: { iotlbSets: 3 } }, "ports.iotlbSets"], [{ ports: { iotlbSets: 1 } }, "ports.iotlbSets"], [{ ports: { lanes: 17 } }, "ports.lanes"],
    [{ ports: { faults: 2 } }, "ports.faults"], [{ firstIotlbId: 3 }, "firstIotlbId"], [{ firstIotlbId: L.ID_LIMIT }, "firstIotlbId"],
  ] as [EngineOptions, string][])("%j names %s", async (options, field) => {
    await expect(Engine.create(options)).rejects.toThrow(expect.objectContaining({ name: "EngineError", field }));
  });

  it.each([[{ levels: 2 }, "levels"], [{ levels: 6 }, "levels"], [{ levels: 3 }, "levels"], [{ format: L.FORMATS }, "format"], [{ width: 65 }, "width"]])(
    "a domain with %j names %s", async (wrong, field) => {
      const { engine } = await fixture();
      expect(() => engine.createDomain({ ...VTD48, ...wrong })).toThrow(expect.objectContaining({ field }));
    });
});
