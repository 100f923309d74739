// The IOTLB oracles pass on a sound engine, and fail when its memory is spoiled in the way that they are for.
import { beforeEach, describe, expect, it } from "vitest";
import {
  DOMAIN_BYTES, DOMAIN_ID, ENGINE_DOMAINS, ENGINE_RING_HEAD, ENGINE_ROUTES, FORMAT_AMD_V1, FORMAT_VTD_SECOND, IOTLB_DATA,
  PERM_R, PERM_W, PORT_RING_TAIL, ROUTE_BYTES, ROUTE_FIRST,
} from "../../src/engine/layout.js";
import { checkIotlb, ModelIotlb } from "../oracle/model-iotlb.js";
import { PAGE, Spoilable } from "../oracle/spoilable.js";

let its: Spoilable;
const idWord = (domain: number): number => its.header(ENGINE_DOMAINS) + domain * DOMAIN_BYTES + DOMAIN_ID;
/** The port says that it has applied every invalidation. */
const skipRing = (): void => its.store32(its.port.address + PORT_RING_TAIL, its.header(ENGINE_RING_HEAD));

beforeEach(async () => {
  its = await Spoilable.create();
});

describe("checkIotlb", () => {
  it("passes on entries that agree with the table", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    its.mapAndUse(0x6000n, 0x7000n, PERM_R);
    its.map(0x20_0000n, 0x3f_ffffn, 0x4000_0000n);
    its.use(0x20_1234n, PERM_W);
    expect(() => checkIotlb(its.engine)).not.toThrow();
  });

  it.each<[string, (pte: bigint) => bigint, RegExp]>([
    ["another address", (pte) => pte + PAGE, /the table says 0xa000/],
    ["less permission", (pte) => pte & ~2n, /the table permits 1/],
    ["nothing", () => 0n, /not-present at level 0/],
    ["a reserved bit", (pte) => pte | (1n << 62n), /reserved at level 0/],
  ])("sees an entry where the table has %s", (_what, change, message) => {
    its.mapAndUse(0x5000n, 0x9000n);
    its.spoilPte(0x5000n, change);
    expect(() => checkIotlb(its.engine)).toThrow(message);
  });

  it("sees another leaf size", () => {
    its.map(0n, 0x1f_ffffn, 0x4000_0000n);
    its.use(0x1234n, PERM_R);
    its.store64(its.firstData(), its.load64(its.firstData()) ^ (1n << 56n));
    expect(() => checkIotlb(its.engine)).toThrow(/the leaf has 2\^21 bytes/);
  });

  it("sees undefined bits in an entry", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    its.store64(its.firstData(), its.load64(its.firstData()) | 0x80n);
    expect(() => checkIotlb(its.engine)).toThrow(/undefined bits/);
  });

  it("sees a tag twice in a set", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    const data = its.firstData();
    for (const from of [data - IOTLB_DATA, data]) its.store64(from + 8, its.load64(from));
    expect(() => checkIotlb(its.engine)).toThrow(/twice in a set/);
  });

  it("sees two domains with one id, and an id that is none", () => {
    const other = its.engine.createDomain({ format: FORMAT_VTD_SECOND, levels: 4, width: 48, outputWidth: 48 });
    its.store32(idWord(other), its.load32(idWord(its.domain)) + 1);
    expect(() => checkIotlb(its.engine)).toThrow(/share IOTLB id/);
    its.store32(idWord(other), 0);
    expect(() => checkIotlb(its.engine)).toThrow(/id 0 is none/);
  });

  it("sees a route that kept an old id, and a blocked one that carries any", () => {
    const first = its.header(ENGINE_ROUTES) + its.route * ROUTE_BYTES + ROUTE_FIRST;
    const old = its.load64(first);
    its.engine.flushDomain(its.domain);
    checkIotlb(its.engine);
    its.store64(first, old);
    expect(() => checkIotlb(its.engine)).toThrow(/carries/);
    its.engine.blockRoute(its.route);
    checkIotlb(its.engine);
    its.store64(first, old);
    expect(() => checkIotlb(its.engine)).toThrow(/does not translate and carries/);
  });

  it("lets entries of retired ids be", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    its.engine.flushDomain(its.domain);
    its.spoilPte(0x5000n, () => 0n);
    expect(its.firstData()).toBeGreaterThan(0);
    expect(() => checkIotlb(its.engine)).not.toThrow();
  });

  it("takes pending invalidations as done, and sees a port that skips them", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    its.unmap(0x5000n, 0x5fffn);
    expect(its.firstData()).toBeGreaterThan(0);
    expect(() => checkIotlb(its.engine)).not.toThrow();
    skipRing();
    expect(() => checkIotlb(its.engine)).toThrow(/a port holds .* iova 0x5000 .*not-present/);
  });

  it("takes a port that fell behind by more than a ring as empty", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    for (let n = 0; n < 300; n++) {
      its.map(0x8000n, 0x8fffn, 0n);
      its.unmap(0x8000n, 0x8fffn);
    }
    its.spoilPte(0x5000n, () => 0n);
    expect(() => checkIotlb(its.engine)).not.toThrow();
  });
});

describe("checkIotlb with dirty tracking", () => {
  it("lets an entry permit writing only while the leaf is dirty", async () => {
    its = await Spoilable.create({ trackDirty: true });
    its.mapAndUse(0x5000n, 0x9000n);
    checkIotlb(its.engine);
    its.spoilPte(0x5000n, (pte) => pte & ~0x200n);
    expect(() => checkIotlb(its.engine)).toThrow(/not dirty/);
  });

  it("asks every copy of a leaf that is written several times", async () => {
    its = await Spoilable.create({ format: FORMAT_AMD_V1, trackDirty: true });
    const model = new ModelIotlb(its.engine);
    its.map(0x1_0000n, 0x1_ffffn, 0x10_0000n);
    its.use(0x1_3000n, PERM_W);
    expect(() => model.check()).not.toThrow();
    for (let iova = 0x1_0000n; iova < 0x2_0000n; iova += PAGE) its.spoilPte(iova, (pte) => pte & ~0x40n);
    expect(() => model.check()).toThrow(/iova 0x13000 .*not dirty/);
  });
});

describe("ModelIotlb", () => {
  let model: ModelIotlb;
  beforeEach(() => {
    model = new ModelIotlb(its.engine);
  });

  it("keeps what a port has evicted, and sees it go stale", () => {
    for (let page = 0n; page < 200n; page++) {
      its.mapAndUse(page * PAGE, 0x10_0000n + page * PAGE);
      model.observe();
    }
    expect(model.size).toBe(200);
    expect(() => model.check()).not.toThrow();
    its.spoilPte(0n, () => 0n);
    expect(() => model.check()).toThrow(/an IOTLB may hold .* iova 0x0 /);
  });

  it("drops what is invalidated, by tag and by range", () => {
    for (let page = 0n; page < 8n; page++) its.mapAndUse(page * PAGE, 0x10_0000n + page * PAGE);
    model.observe();
    its.unmap(0x2000n, 0x2fffn);
    model.applyRing();
    expect(model.size).toBe(7);
    its.unmap(0x3000n, 0x6fffn);
    model.applyRing();
    expect(model.size).toBe(3);
    expect(() => model.check()).not.toThrow();
  });

  it("sees an unmap whose invalidation never came", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    model.observe();
    const head = its.header(ENGINE_RING_HEAD);
    its.unmap(0x5000n, 0x5fffn);
    its.store32(its.engine.address + ENGINE_RING_HEAD, head);
    model.applyRing();
    expect(() => model.check()).toThrow(/not-present/);
  });

  it("sees a port that applies an invalidation and keeps the entry", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    model.check();
    its.unmap(0x5000n, 0x5fffn);
    model.applyRing();
    expect(model.size).toBe(0);
    expect(() => model.check()).not.toThrow();
    skipRing();
    expect(() => model.check()).toThrow(/port 0x[0-9a-f]+ holds .* iova 0x5000 .*not-present/);
  });

  it("sees ids used again without a clear", () => {
    its.mapAndUse(0x5000n, 0x9000n);
    model.observe();
    const old = its.load32(idWord(its.domain));
    its.engine.blockRoute(its.route);
    its.engine.flushDomain(its.domain);
    its.unmap(0x5000n, 0x5fffn);
    model.applyRing();
    expect(() => model.check()).not.toThrow();
    // The unmap dropped by the new id: by the old one the page is still kept.
    its.store32(idWord(its.domain), old);
    expect(() => model.check()).toThrow(/not-present/);
  });

  it("finds a stale one within a bounded number of bounded checks", () => {
    for (let page = 0n; page < 64n; page++) its.mapAndUse(page * PAGE, 0x10_0000n + page * PAGE);
    model.check();
    its.spoilPte(50n * PAGE, () => 0n);
    expect(() => {
      for (let n = 0; n < 20; n++) model.check(8);
    }).toThrow(/iova 0x32000 /);
  });
});
