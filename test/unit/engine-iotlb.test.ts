// What the IOTLB may and may not remember: address rules, permissions, dirty bits, ids, leaf sizes.
import { describe, expect, it } from "vitest";
import type { DomainOptions, Engine } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { AMD64, ask, askOne, dirtyBytes, fixture, R, RW, VTD48, W } from "./engine-fixture.js";

/** The lower of the two ids that a route carries. */
function classId(engine: Engine, route: number): bigint {
  const record = engine.word(L.ENGINE_ROUTES) + route * L.ROUTE_BYTES;
  const [small, large] = [L.ROUTE_FIRST, L.ROUTE_SECOND].map((offset) => new DataView(engine.memory.buffer).getBigUint64(record + offset, true));
  return (small! < large! ? small! : large!) >> L.TAG_ID_SHIFT;
}

const misses = (port: { counters: { misses: number } }): number => port.counters.misses;

describe("every bit of the address counts, against a warm IOTLB", () => {
  it.each([39, 48, 57])("%i bits, zero above", async (width) => {
    const { engine, port, domain, route } = await fixture({ ...VTD48, width, levels: (width - 12) / 9 });
    engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, RW);
    expect(askOne(port, route, 0x1000n, R).hpa).toBe(0x5000n);
    for (let bit = 12n; bit < 64n; bit++) {
      const iova = 0x1000n ^ (1n << bit);
      const fault = bit >= BigInt(width) ? "address-width" : "not-present";
      expect(askOne(port, route, iova, R).fault, `bit ${bit}`).toBe(fault);
      expect(ask(port, route, [0x1000n, iova], R)[1]?.fault, `bit ${bit}`).toBe(fault);
    }
  });

  it("sign extension: the upper half needs all ones above", async () => {
    const { engine, port, domain, route } = await fixture({ ...VTD48, rule: "sign" });
    const high = 0xffff800000000000n;
    expect(engine.map(domain, high, high + 0xfffn, 0x5000n, RW)).toBe(L.STATUS_OK);
    expect(engine.map(domain, 0n, 0xfffn, 0x6000n, RW)).toBe(L.STATUS_OK);
    expect(engine.map(domain, 0x00007ffffffff000n, high + 0x1fffn, 0n, RW)).toBe(L.STATUS_RANGE);
    for (const round of [1, 2]) {
      expect(askOne(port, route, high, R).hpa, `round ${round}`).toBe(0x5000n);
      expect(askOne(port, route, 0n, R).hpa).toBe(0x6000n);
      for (let bit = 48n; bit < 64n; bit++) {
        expect(askOne(port, route, high ^ (1n << bit), R).fault, `bit ${bit}`).toBe("address-width");
        expect(askOne(port, route, 1n << bit, R).fault, `bit ${bit}`).toBe("address-width");
      }
    }
  });

  it("top byte ignored: bits 63..56 may be anything, 55..48 may not", async () => {
    const { engine, port, domain, route } = await fixture({ ...VTD48, rule: "sign-tbi" });
    const low = 0x7000n;
    engine.map(domain, low, low + 0xfffn, 0x5000n, RW);
    expect(askOne(port, route, low, R).hpa).toBe(0x5000n);
    const before = misses(port);
    for (let bit = 56n; bit < 64n; bit++) expect(askOne(port, route, low | (1n << bit), R).hpa, `bit ${bit}`).toBe(0x5000n);
    expect(misses(port)).toBe(before);
    for (let bit = 48n; bit < 56n; bit++) expect(askOne(port, route, low | (1n << bit), R).fault, `bit ${bit}`).toBe("address-width");
    // One entry serves all spellings of the address, so one invalidation drops it for all.
    expect(engine.unmap(domain, low, low + 0xfffn)).toBe(4096n);
    expect(askOne(port, route, low | (0xaan << 56n), R).fault).toBe("not-present");
  });

  it("64 bits: what a tag cannot hold is walked each time and never mistaken", async () => {
    const { engine, port, domain, route } = await fixture(AMD64);
    const far = 0xffff_ffff_ffff_f000n;
    engine.map(domain, far, far + 0xfffn, 0x5000n, RW);
    engine.map(domain, far & ((1n << 57n) - 1n), (far & ((1n << 57n) - 1n)) + 0xfffn, 0x9000n, RW);
    for (const round of [1, 2]) {
      const before = misses(port);
      expect(askOne(port, route, far + 1n, R).hpa, `round ${round}`).toBe(0x5001n);
      expect(misses(port)).toBe(before + 1);
      expect(askOne(port, route, far & ((1n << 57n) - 1n), R).hpa).toBe(0x9000n);
      for (let bit = 57n; bit < 64n; bit++) expect(askOne(port, route, far ^ (1n << bit), R).fault).toBe("not-present");
    }
  });
});

describe("permissions", () => {
  it("a write through a read-only entry is walked again before it faults", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, R);
    askOne(port, route, 0x1000n, R);
    const before = misses(port);
    expect(askOne(port, route, 0x1000n, W).fault).toBe("write-denied");
    expect(misses(port)).toBe(before + 1);
    expect(askOne(port, route, 0x1000n, R).hpa).toBe(0x5000n);
    expect(misses(port)).toBe(before + 1);
  });

  it("unknown access bits are refused, and no access at all asks for the address", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, W);
    for (const need of [8, 0x80, 0x1000, 0x80000000]) expect(askOne(port, route, 0x1000n, need).fault).toBe("bad-request");
    expect(askOne(port, route, 0x1000n, 0).hpa).toBe(0x5000n);
    for (const need of [8, 0x1000]) expect(askOne(port, route, 0x1000n, need).fault, "warm").toBe("bad-request");
  });

  it.each([["VT-d", VTD48], ["AMD v1", AMD64]] as [string, DomainOptions][])(
    "%s: an entry carries W only once the dirty bit is set, and loses it when the bit is cleared", async (_name, geometry) => {
      const { engine, port, domain, route } = await fixture({ ...geometry, accessed: "set", dirty: "set" });
      engine.map(domain, 0x200000n, 0x3fffffn, 0x40000000n, RW);
      const dirty = (clear: boolean): bigint => dirtyBytes(engine, domain, 0x200000n, 0x3fffffn, clear);
      askOne(port, route, 0x200000n, R);
      expect(dirty(false)).toBe(0n);
      let before = misses(port);
      expect(askOne(port, route, 0x200000n, W).hpa).toBe(0x40000000n);
      expect(misses(port)).toBe(before + 1);
      expect(dirty(false)).toBe(0x200000n);
      before = misses(port);
      expect(askOne(port, route, 0x200000n, W).hpa).toBe(0x40000000n);
      expect(misses(port)).toBe(before);
      expect(dirty(true)).toBe(0x200000n);
      expect(dirty(false)).toBe(0n);
      expect(askOne(port, route, 0x200000n, W).hpa).toBe(0x40000000n);
      expect(dirty(false)).toBe(0x200000n);
    });
});

describe("ids and invalidation", () => {
  it("ids wrap: IOTLBs are cleared, domains numbered afresh, nothing old is seen", async () => {
    const { engine, port, domain, route } = await fixture(VTD48, { firstIotlbId: L.ID_LIMIT - 6 });
    const other = engine.createDomain(VTD48);
    const otherRoute = engine.route(0x28);
    engine.attachRoute(otherRoute, other);
    engine.map(domain, 0n, 0xfffn, 0x1000n, R);
    engine.map(other, 0n, 0xfffn, 0x2000n, R);
    for (let n = 0; n < 20; n++) {
      expect(askOne(port, route, 0n, R).hpa).toBe(0x1000n);
      expect(askOne(port, otherRoute, 0n, R).hpa).toBe(0x2000n);
      const before = misses(port);
      askOne(port, route, 0n, R);
      expect(misses(port)).toBe(before);
      engine.flushDomain(n % 2 ? domain : other);
    }
    expect(engine.word(L.ENGINE_ID_NEXT)).toBeLessThan(100);
  });

  it("the second time round, an id finds nothing of the domain that had it the first time", async () => {
    const { engine, port, domain, route } = await fixture();
    const other = engine.createDomain(VTD48);
    engine.map(domain, 0n, 0xfffn, 0x1000n, R);
    expect(askOne(port, route, 0n, R).hpa).toBe(0x1000n);
    const first = classId(engine, route);
    engine.flushDomain(domain);
    engine.unmap(domain, 0n, 0xfffn);
    engine.map(domain, 0n, 0xfffn, 0x5000n, R);
    // As after a quarter of a million flushes.
    new Uint32Array(engine.memory.buffer)[(engine.address + L.ENGINE_ID_NEXT) >>> 2] = L.ID_LIMIT - 1;
    engine.flushDomain(other);
    expect(classId(engine, route)).toBe(first);
    expect(askOne(port, route, 0n, R).hpa).toBe(0x5000n);
  });

  it("a flush drops one domain and no other", async () => {
    const { engine, port, domain, route } = await fixture();
    const other = engine.createDomain(VTD48);
    const otherRoute = engine.route(0x28);
    engine.attachRoute(otherRoute, other);
    for (const d of [domain, other]) engine.map(d, 0n, 0xfffn, 0x1000n, R);
    for (const r of [route, otherRoute]) askOne(port, r, 0n, R);
    engine.flushDomain(other);
    const before = misses(port);
    askOne(port, route, 0n, R);
    expect(misses(port)).toBe(before);
    askOne(port, otherRoute, 0n, R);
    expect(misses(port)).toBe(before + 1);
  });

  it("a leaf cached in fragments goes whole when any part is invalidated", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0x40000000n, 0x7fffffffn, 0n, R);
    const parts = [0x40000000n, 0x50000000n, 0x7ffff000n];
    expect(ask(port, route, parts, R).map((a) => a.runLg2)).toEqual([30, 30, 30]);
    const before = misses(port);
    ask(port, route, parts, R);
    expect(misses(port)).toBe(before);
    engine.invalidate(domain, 0x60000000n, 0x60000fffn);
    ask(port, route, parts, R);
    expect(misses(port)).toBe(before + 3);
  });

  it("a port that slept through more than a whole ring starts empty", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0n, 0x3fffffn, 0x1000n, R);
    for (let page = 0n; page < 1024n; page++) askOne(port, route, page << 12n, R);
    for (let page = 0n; page < 300n; page++) engine.map(domain, (page << 12n) + 0x800000n, (page << 12n) + 0x800fffn, 0n, R);
    for (let page = 0n; page < 300n; page++) engine.unmap(domain, (page << 12n) + 0x800000n, (page << 12n) + 0x800fffn);
    expect(engine.unmap(domain, 0n, 0x3fffffn)).toBe(0x400000n);
    for (let page = 0n; page < 1024n; page++) expect(askOne(port, route, page << 12n, R).fault).toBe("not-present");
  });

  it("a moved route obeys the address rule of the table it leads to now", async () => {
    const { engine, port, domain, route } = await fixture({ ...VTD48, rule: "sign-tbi" });
    const strict = engine.createDomain(VTD48);
    engine.map(domain, 0x7000n, 0x7fffn, 0x5000n, RW);
    engine.map(strict, 0x7000n, 0x7fffn, 0x9000n, RW);
    const tagged = 0x7000n | (0xaan << 56n);
    expect(askOne(port, route, tagged, R).hpa).toBe(0x5000n);
    engine.attachRoute(route, strict);
    expect(askOne(port, route, 0x7000n, R).hpa).toBe(0x9000n);
    expect(askOne(port, route, tagged, R).fault).toBe("address-width");
    expect(ask(port, route, [0x7000n, tagged], R)[1]?.fault).toBe("address-width");
  });

  it("moving a route leaves nothing of the old space behind", async () => {
    const { engine, port, domain, route } = await fixture();
    const other = engine.createDomain(VTD48);
    engine.map(domain, 0n, 0xfffn, 0x1000n, R);
    askOne(port, route, 0n, R);
    engine.attachRoute(route, other);
    expect(askOne(port, route, 0n, R).fault).toBe("not-present");
    engine.blockRoute(route);
    expect(askOne(port, route, 0n, R).fault).toBe("blocked");
    engine.identityRoute(route);
    expect(port.translateHalves(0x89abcdef, 0xfedcba98, route, RW)).toBe(true);
    expect((port.result >> L.RESULT_IDENTITY_BIT) & 1n).toBe(1n);
    engine.attachRoute(route, domain);
    expect(askOne(port, route, 0n, R).hpa).toBe(0x1000n);
    expect(engine.destroyDomain(domain)).toBe(L.STATUS_ATTACHED);
  });
});

it.each(["blocked", "identity"])("a route that became %s reaches no entry of another space, whatever bits its iova has", async (kind) => {
  const { engine, port, domain, route } = await fixture();
  const other = engine.route(0x28);
  engine.attachRoute(other, engine.createDomain(VTD48));
  engine.map(domain, 0x5000n, 0x5fffn, 0x9000n, RW);
  expect(askOne(port, route, 0x5000n, R).hpa).toBe(0x9000n);
  if (kind === "blocked") engine.blockRoute(other);
  else engine.identityRoute(other);
  // Page number and id of A's entry, laid into the address itself.
  for (let id = 0n; id < 16n; id++) {
    const iova = (id << 45n) | 5n;
    const answer = askOne(port, other, iova, R);
    if (kind === "blocked") expect(answer.fault).toBe("blocked");
    else expect(answer.hpa).toBe(iova);
  }
});

it("learns which page size to probe first, and serves both", async () => {
  const { engine, port, domain, route } = await fixture();
  engine.map(domain, 0x200000n, 0xffffffn, 0x40000000n, R);
  engine.map(domain, 0x1000n, 0x1ffffn, 0x9000n, R);
  const large = Array.from({ length: 7 }, (_, i) => BigInt(i + 1) << 21n);
  const small = Array.from({ length: 31 }, (_, i) => BigInt(i + 1) << 12n);
  for (const round of ["cold", "warm"]) {
    ask(port, route, [...large, ...small], R).forEach((answer, i) => {
      expect(answer.hpa, round).toBe(i < 7 ? 0x40000000n + (BigInt(i) << 21n) : 0x9000n + (BigInt(i - 7) << 12n));
    });
  }
  expect(misses(port)).toBe(38);
});

it("goes on probing the size first that comes between those of the other", async () => {
  const { engine, port, domain, route } = await fixture();
  engine.map(domain, 0x200000n, 0x1ffffffn, 0x40000000n, R);
  engine.map(domain, 0x1000n, 0x1ffffn, 0x9000n, R);
  const firstClass = () => Number(new DataView(engine.memory.buffer).getBigUint64(engine.word(L.ENGINE_ROUTES) + route * L.ROUTE_BYTES + L.ROUTE_FIRST, true) & 0x3fn);
  askOne(port, route, 0x1000n, R);
  const before = firstClass();
  const [often, between] = before === 12 ? [21n, 12n] : [12n, 21n];
  for (let n = 0n; n < 8n; n++) askOne(port, route, n % 3n === 2n ? (n + 1n) << between : (n + 1n) << often, R);
  expect(firstClass()).toBe(before);
});
