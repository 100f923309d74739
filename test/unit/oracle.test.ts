// The oracles see what they are for: each one passes on a sound engine and fails when its memory is spoiled in that way.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import {
  DOMAIN_BYTES, DOMAIN_ID, ENGINE_DOMAINS, ENGINE_FRAME_FREE, ENGINE_FRAME_LIVE, ENGINE_FRAMES, ENGINE_FRAMES_USED,
  ENGINE_RING_HEAD, ENGINE_ROUTES, FORMAT_AMD_V1, FORMAT_VTD_SECOND, FRAME_BYTES, IOTLB_DATA, IOTLB_SET_BYTES, PERM_R, PERM_W,
  PORT_IOTLB, PORT_RESULTS, PORT_RING_TAIL, ROUTE_BYTES, ROUTE_FIRST,
} from "../../src/engine/layout.js";
import type { Port } from "../../src/engine/port.js";
import { expectNoLeaks } from "../oracle/frame-leaks.js";
import { checkTouched, instrument, instrumentPorts, releaseFromOracles } from "../oracle/instrument.js";
import { readU32, readU64 } from "../oracle/memory-words.js";
import { checkIotlb, ModelIotlb } from "../oracle/model-iotlb.js";

const RW = PERM_R | PERM_W;
const SETS = 16;
const PAGE = 0x1000n;

let engine: Engine;
let port: Port;
let domain: number;
let route: number;

/** An engine that no oracle watches, with one domain, one route to it and one port. */
async function make(format = FORMAT_VTD_SECOND, trackDirty = false): Promise<void> {
  engine = await Engine.create({ memory: { ram: 0, arena: 1 << 20 }, routes: 8, domains: 4, ports: { count: 2, iotlbSets: SETS, lanes: 16 } });
  releaseFromOracles(engine);
  port = engine.openPort();
  domain = engine.createDomain({ format, levels: 3, width: 39, outputWidth: 48, trackDirty });
  route = engine.route(0x20);
  engine.attachRoute(route, domain);
}

const store32 = (address: number, word: number): void => new DataView(engine.memory.buffer).setUint32(address, word, true);
const store64 = (address: number, word: bigint): void => new DataView(engine.memory.buffer).setBigUint64(address, word, true);
const at = (offset: number): number => readU32(engine.memory, engine.address + offset);

/** Address of the entry that ends the walk of iova. */
const pteOf = (iova: bigint): number => Number(engine.walk(domain, iova, 0).steps.at(-1)!.address);
const spoilPte = (iova: bigint, change: (pte: bigint) => bigint): void => {
  store64(pteOf(iova), change(readU64(engine.memory, pteOf(iova))));
};

/** Address of the first valid data word of the port's IOTLB; its tag is IOTLB_DATA before. */
function firstData(): number {
  const iotlb = readU32(engine.memory, port.address + PORT_IOTLB);
  for (let way = 0; way < SETS * 4; way++) {
    const address = iotlb + Math.floor(way / 4) * IOTLB_SET_BYTES + (way % 4) * 8 + IOTLB_DATA;
    if (readU64(engine.memory, address) !== 0n) return address;
  }
  throw new Error("the IOTLB is empty");
}

function mapAndUse(iova: bigint, hpa: bigint, perm = RW): void {
  expect(engine.map(domain, iova, iova + PAGE - 1n, hpa, perm)).toBe(0);
  expect(port.translateHalves(Number(iova & 0xffff_ffffn), Number(iova >> 32n), route, perm)).toBe(true);
}

describe("checkIotlb", () => {
  beforeEach(() => make());

  it("passes on entries that agree with the table", () => {
    mapAndUse(0x5000n, 0x9000n);
    mapAndUse(0x6000n, 0x7000n, PERM_R);
    expect(engine.map(domain, 0x20_0000n, 0x3f_ffffn, 0x4000_0000n, RW)).toBe(0);
    port.translateHalves(0x20_1234, 0, route, PERM_W);
    expect(() => checkIotlb(engine)).not.toThrow();
  });

  it.each<[string, (pte: bigint) => bigint, RegExp]>([
    ["another address", (pte) => pte + PAGE, /the table says 0xa000/],
    ["less permission", (pte) => pte & ~2n, /the table permits 1/],
    ["nothing", () => 0n, /not-present at level 0/],
    ["a reserved bit", (pte) => pte | (1n << 62n), /reserved at level 0/],
  ])("sees an entry where the table has %s", (_what, change, message) => {
    mapAndUse(0x5000n, 0x9000n);
    spoilPte(0x5000n, change);
    expect(() => checkIotlb(engine)).toThrow(message);
  });

  it("sees another leaf size", () => {
    expect(engine.map(domain, 0n, 0x1f_ffffn, 0x4000_0000n, RW)).toBe(0);
    port.translateHalves(0x1234, 0, route, PERM_R);
    store64(firstData(), readU64(engine.memory, firstData()) ^ (1n << 56n));
    expect(() => checkIotlb(engine)).toThrow(/the leaf has 2\^21 bytes/);
  });

  it("sees undefined bits in an entry", () => {
    mapAndUse(0x5000n, 0x9000n);
    store64(firstData(), readU64(engine.memory, firstData()) | 0x10n);
    expect(() => checkIotlb(engine)).toThrow(/undefined bits/);
  });

  it("sees a tag twice in a set", () => {
    mapAndUse(0x5000n, 0x9000n);
    const data = firstData();
    for (const from of [data - IOTLB_DATA, data]) store64(from + 8, readU64(engine.memory, from));
    expect(() => checkIotlb(engine)).toThrow(/twice in a set/);
  });

  it("sees two domains with one id, and an id that is none", () => {
    const other = engine.createDomain({ format: FORMAT_VTD_SECOND, levels: 4, width: 48, outputWidth: 48 });
    const record = (index: number): number => at(ENGINE_DOMAINS) + index * DOMAIN_BYTES + DOMAIN_ID;
    const id = readU32(engine.memory, record(domain));
    store32(record(other), id + 1);
    expect(() => checkIotlb(engine)).toThrow(/share IOTLB id/);
    store32(record(other), 0);
    expect(() => checkIotlb(engine)).toThrow(/id 0 is none/);
  });

  it("sees a route that kept an old id, and a blocked one that carries any", () => {
    const first = at(ENGINE_ROUTES) + route * ROUTE_BYTES + ROUTE_FIRST;
    const old = readU64(engine.memory, first);
    engine.flushDomain(domain);
    checkIotlb(engine);
    store64(first, old);
    expect(() => checkIotlb(engine)).toThrow(/carries/);
    engine.blockRoute(route);
    checkIotlb(engine);
    store64(first, old);
    expect(() => checkIotlb(engine)).toThrow(/does not translate and carries/);
  });

  it("lets entries of retired ids be", () => {
    mapAndUse(0x5000n, 0x9000n);
    engine.flushDomain(domain);
    spoilPte(0x5000n, () => 0n);
    expect(firstData()).toBeGreaterThan(0);
    expect(() => checkIotlb(engine)).not.toThrow();
  });

  it("takes pending invalidations as done, and sees a port that skips them", () => {
    mapAndUse(0x5000n, 0x9000n);
    expect(engine.unmap(domain, 0x5000n, 0x5fffn)).toBe(PAGE);
    expect(firstData()).toBeGreaterThan(0);
    expect(() => checkIotlb(engine)).not.toThrow();
    store32(port.address + PORT_RING_TAIL, at(ENGINE_RING_HEAD));
    expect(() => checkIotlb(engine)).toThrow(/a port holds .* iova 0x5000 .*not-present/);
  });

  it("takes a port that fell behind by more than a ring as empty", () => {
    mapAndUse(0x5000n, 0x9000n);
    for (let n = 0; n < 300; n++) {
      expect(engine.map(domain, 0x8000n, 0x8fffn, 0n, RW)).toBe(0);
      engine.unmap(domain, 0x8000n, 0x8fffn);
    }
    spoilPte(0x5000n, () => 0n);
    expect(() => checkIotlb(engine)).not.toThrow();
  });
});

describe("checkIotlb with dirty tracking", () => {
  it("lets an entry permit writing only while the leaf is dirty", async () => {
    await make(FORMAT_VTD_SECOND, true);
    mapAndUse(0x5000n, 0x9000n);
    checkIotlb(engine);
    spoilPte(0x5000n, (pte) => pte & ~0x200n);
    expect(() => checkIotlb(engine)).toThrow(/not dirty/);
  });
});

describe("ModelIotlb", () => {
  beforeEach(() => make());

  it("keeps what a port has evicted, and sees it go stale", () => {
    const model = new ModelIotlb(engine);
    for (let page = 0n; page < 200n; page++) {
      mapAndUse(page * PAGE, 0x10_0000n + page * PAGE);
      model.observe();
    }
    expect(model.size).toBe(200);
    expect(() => model.check()).not.toThrow();
    spoilPte(0n, () => 0n);
    expect(() => model.check()).toThrow(/an IOTLB may hold .* iova 0x0 /);
  });

  it("drops what is invalidated, by tag and by range", () => {
    const model = new ModelIotlb(engine);
    for (let page = 0n; page < 8n; page++) mapAndUse(page * PAGE, 0x10_0000n + page * PAGE);
    model.observe();
    expect(engine.unmap(domain, 0x2000n, 0x2fffn)).toBe(PAGE);
    model.applyRing();
    expect(model.size).toBe(7);
    expect(engine.unmap(domain, 0x3000n, 0x6fffn)).toBe(4n * PAGE);
    model.applyRing();
    expect(model.size).toBe(3);
    expect(() => model.check()).not.toThrow();
  });

  it("sees an unmap whose invalidation never came", () => {
    const model = new ModelIotlb(engine);
    mapAndUse(0x5000n, 0x9000n);
    model.observe();
    const head = at(ENGINE_RING_HEAD);
    engine.unmap(domain, 0x5000n, 0x5fffn);
    store32(engine.address + ENGINE_RING_HEAD, head);
    model.applyRing();
    expect(() => model.check()).toThrow(/not-present/);
  });

  it("sees a port that applies an invalidation and keeps the entry", () => {
    const model = new ModelIotlb(engine);
    mapAndUse(0x5000n, 0x9000n);
    model.check();
    engine.unmap(domain, 0x5000n, 0x5fffn);
    model.applyRing();
    expect(model.size).toBe(0);
    expect(() => model.check()).not.toThrow();
    store32(port.address + PORT_RING_TAIL, at(ENGINE_RING_HEAD));
    expect(() => model.check()).toThrow(/port 0x[0-9a-f]+ holds .* iova 0x5000 .*not-present/);
  });

  it("sees ids used again without a clear", () => {
    const model = new ModelIotlb(engine);
    mapAndUse(0x5000n, 0x9000n);
    model.observe();
    const id = at(ENGINE_DOMAINS) + domain * DOMAIN_BYTES + DOMAIN_ID;
    const old = readU32(engine.memory, id);
    engine.blockRoute(route);
    engine.flushDomain(domain);
    engine.unmap(domain, 0x5000n, 0x5fffn);
    model.applyRing();
    expect(() => model.check()).not.toThrow();
    store32(id, old);
    expect(() => model.check()).toThrow(/not-present/);
  });

  it("finds a stale one within a bounded number of bounded checks", () => {
    const model = new ModelIotlb(engine);
    for (let page = 0n; page < 64n; page++) mapAndUse(page * PAGE, 0x10_0000n + page * PAGE);
    model.check();
    spoilPte(50n * PAGE, () => 0n);
    expect(() => {
      for (let n = 0; n < 20; n++) model.check(8);
    }).toThrow(/iova 0x32000 /);
  });
});

describe("expectNoLeaks", () => {
  beforeEach(async () => {
    await make(FORMAT_AMD_V1);
    expect(engine.map(domain, 0x1_0000n, 0x1_ffffn, 0x10_0000n, RW)).toBe(0);
    expect(engine.map(domain, 0x4000_0000n, 0x4000_0fffn, 0n, RW)).toBe(0);
  });
  const frameOf = (iova: bigint): number => Math.floor((pteOf(iova) - at(ENGINE_FRAMES)) / FRAME_BYTES);

  it("counts the tables, before and after they are freed", () => {
    expect(expectNoLeaks(engine)).toBe(5);
    engine.unmap(domain, 0x4000_0000n, 0x4000_0fffn);
    expect(expectNoLeaks(engine)).toBe(3);
    engine.blockRoute(route);
    engine.destroyDomain(domain);
    expect(expectNoLeaks(engine)).toBe(0);
  });

  it("sees a live count that is not the table's", () => {
    const live = at(ENGINE_FRAME_LIVE) + frameOf(0x1_0000n) * 2;
    new DataView(engine.memory.buffer).setUint16(live, 15, true);
    expect(() => expectNoLeaks(engine)).toThrow(/counts 15 entries, has 16/);
  });

  it("sees an entry that means nothing", () => {
    store64(pteOf(0x4000_1000n), 0x1000n);
    expect(() => expectNoLeaks(engine)).toThrow(/reads as empty/);
  });

  it("sees a table that was lost", () => {
    const root = Number(engine.walk(domain, 0x4000_0000n, 0).steps[0]!.address);
    store64(root, 0n);
    expect(() => expectNoLeaks(engine)).toThrow(/counts 2 entries, has 1/);
    new DataView(engine.memory.buffer).setUint16(at(ENGINE_FRAME_LIVE) + frameOf(0x8000_0000n) * 2, 1, true);
    expect(() => expectNoLeaks(engine)).toThrow(/counted as used/);
    store32(engine.address + ENGINE_FRAMES_USED, 3);
    expect(() => expectNoLeaks(engine)).toThrow(/is lost/);
  });

  it("sees a frame that is in use and free", () => {
    store32(engine.address + ENGINE_FRAME_FREE, frameOf(0x1_0000n) + 1);
    expect(() => expectNoLeaks(engine)).toThrow(/table of domain 0 .* and free/);
  });
});

describe("an instrumented engine", () => {
  let watched: Engine;
  let watchedPort: Port;

  // The setup has instrumented every engine already, unless it was switched off: then these are on their own.
  beforeEach(async () => {
    await make();
    watched = await Engine.create({ memory: { ram: 0, arena: 1 << 20 }, routes: 8, domains: 4, ports: { count: 2, iotlbSets: SETS, lanes: 16 } });
    instrument(Engine.prototype);
    watchedPort = watched.openPort();
    instrumentPorts(Object.getPrototypeOf(watchedPort) as object);
    engine = watched;
    port = watchedPort;
    domain = watched.createDomain({ format: FORMAT_VTD_SECOND, levels: 3, width: 39, outputWidth: 48 });
    route = watched.route(0x20);
    watched.attachRoute(route, domain);
  });
  afterEach(() => releaseFromOracles(watched));

  it("checks the model after each change", () => {
    mapAndUse(0x5000n, 0x9000n);
    mapAndUse(0x6000n, 0xa000n);
    spoilPte(0x5000n, () => 0n);
    expect(() => watched.map(domain, 0x7000n, 0x7fffn, 0n, RW)).toThrow(/iova 0x5000 .*not-present/);
  });

  it("checks single answers", () => {
    mapAndUse(0x5000n, 0x9000n);
    spoilPte(0x5000n, (pte) => pte + PAGE);
    expect(() => port.translateNumber(0x5008, route, PERM_R)).toThrow(/answer .* must lead to 0xa008/);
    expect(() => port.translateHalves(0x5008, 0, route, PERM_R)).toThrow(/answer .* must lead to 0xa008/);
  });

  it("checks the answers of a batch", () => {
    mapAndUse(0x5000n, 0x9000n);
    port.requests.set([0x5000, 0, route, PERM_W]);
    expect(port.batch(() => port.translate(1))).toBe(0);
    spoilPte(0x5000n, (pte) => pte & ~2n);
    expect(() => port.batch(() => port.translate(1))).toThrow(/must be refused for reason/);
  });

  it("checks everything at the end", () => {
    mapAndUse(0x5000n, 0x9000n);
    checkTouched();
    mapAndUse(0x6000n, 0x9000n);
    store32(watched.address + ENGINE_FRAMES_USED, 1);
    expect(() => checkTouched()).toThrow(/counted as used/);
  });

  it("lets errors of the call through", () => {
    expect(() => watched.createDomain({ format: 99, levels: 3, width: 39, outputWidth: 48 })).toThrow(/format/);
    expect(readU32(watched.memory, port.address + PORT_RESULTS)).toBeGreaterThan(0);
  });
});
