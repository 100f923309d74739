// PASID tables of guests: each kind, what is published, dropped and given back, and refusals.
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import type { Port } from "../../src/engine/port.js";
import { ask, askOne, R, RW, VTD48, W } from "./engine-fixture.js";
import { DATA, guest, GUEST_LAST, IOVA, KINDS, PAGE, RAM, ROOT } from "./pasid-tables.js";

const at = (n: number): bigint => RAM + DATA + BigInt(n) * PAGE + 5n;
const go = (port: Port, route: number, need = R) => askOne(port, route, IOVA + 5n, need);
const fault = (port: Port, route: number) => {
  port.translateHalves(Number(IOVA), 0, route, R);
  return port.takeFaults()[0]!;
};
const [VTD, LINEAR, , , GCR3] = KINDS.map(([, kind]) => kind);

describe.each(KINDS)("%s", (_name, kind) => {
  it("leads each PASID to its own tables, and the next access is an IOTLB hit", async () => {
    const { port, pasid, enter } = await guest(kind);
    enter(3);
    enter(7);
    expect(go(port, pasid(3), W).hpa).toBe(at(3));
    expect(go(port, pasid(7), W).hpa).toBe(at(7));
    const { walks } = port.counters;
    expect(go(port, pasid(3), W).hpa).toBe(at(3));
    expect(go(port, pasid(7), W).hpa).toBe(at(7));
    expect(port.counters.walks).toBe(walks);
  });

  it("an absent entry refuses, is not cached, and is found once it is there", async () => {
    const { port, pasid, enter } = await guest(kind);
    expect(fault(port, pasid(5))).toMatchObject({ reason: "pasid-not-present", class: "table", pasid: 5, rid: 0x20, stage: 0 });
    enter(5);
    expect(go(port, pasid(5)).hpa).toBe(at(5));
  });

  it("a changed entry holds once its PASID is dropped, and only that one is", async () => {
    const { engine, port, pasid, enter, leave, table } = await guest(kind);
    enter(3);
    enter(7);
    go(port, pasid(3));
    go(port, pasid(7));
    enter(3, 9);
    enter(7, 8);
    engine.dropPasids(table, 3);
    expect(go(port, pasid(3)).hpa).toBe(at(9));
    expect(go(port, pasid(7)).hpa).toBe(at(7));
    leave(3);
    engine.dropPasids(table);
    expect(go(port, pasid(3))).toEqual({ fault: "pasid-not-present" });
    expect(go(port, pasid(7)).hpa).toBe(at(8));
  });

  it("changed page tables hold once they are invalidated, by range and whole", async () => {
    const { engine, port, pasid, enter, table } = await guest(kind);
    for (const drop of [() => engine.invalidatePasid(table, 3, IOVA, IOVA + 0xfffn), () => engine.invalidatePasid(table, 3)]) {
      enter(3);
      engine.dropPasids(table, 3);
      expect(go(port, pasid(3)).hpa).toBe(at(3));
      const page = 0x20000n + 3n * 4n * PAGE + 3n * PAGE + 0x123n * 8n;
      new BigUint64Array(engine.memory.buffer, engine.ram.offset)[Number(page) / 8] = (DATA + 11n * PAGE) | kind.leaf;
      expect(go(port, pasid(3)).hpa).toBe(at(3));
      drop();
      expect(go(port, pasid(3)).hpa).toBe(at(11));
    }
  });

  it("a page that stage 2 loses is lost to every PASID at once", async () => {
    const { engine, port, domain, pasid, enter } = await guest(kind);
    enter(3);
    expect(go(port, pasid(3)).hpa).toBe(at(3));
    engine.unmap(domain, DATA + 3n * PAGE, DATA + 4n * PAGE - 1n);
    expect(go(port, pasid(3))).toEqual({ fault: "not-present" });
  });

  it("with a full pool entries are read at each access, and none is wrong", async () => {
    const { engine, port, pasid, enter, table } = await guest(kind, { cache: 1 });
    for (const n of [1, 2, 3]) enter(n);
    for (let round = 0; round < 2; round++) for (const n of [1, 2, 3]) expect(go(port, pasid(n)).hpa).toBe(at(n));
    enter(3, 4);
    expect(go(port, pasid(3)).hpa).toBe(at(4));
    engine.dropPasids(table, 1);
    const { walks } = port.counters;
    for (let round = 0; round < 3; round++) expect(go(port, pasid(2)).hpa).toBe(at(2));
    expect(port.counters.walks).toBe(walks + 1);
  });

  it("a batch of many PASIDs is answered as they are one by one", async () => {
    const { port, pasid, enter } = await guest(kind);
    for (const n of [1, 2, 3, 4, 5, 6]) enter(n);
    const routes = [1, 2, 3, 4, 5, 6, 9, 1, 2].map(pasid);
    for (let round = 0; round < 2; round++) {
      const answers = port.batch(() => {
        routes.forEach((route, lane) => port.requests.set([Number(IOVA) + 5, 0, route, R], lane * 4));
        port.translate(routes.length);
        port.takeFaults();
        return routes.map((_, lane) => (BigInt(port.results[lane * 2 + 1]!) << 32n) | BigInt(port.results[lane * 2]!));
      });
      expect(answers.map((word) => word >> 63n ? L.REASON_NAMES[Number(word & 0xffn)] : BigInt.asUintN(56, word))).toEqual(
        [1, 2, 3, 4, 5, 6].map(at).concat().map((hpa): unknown => hpa).concat("pasid-not-present", at(1), at(2)));
    }
  });

  it("PASIDs beyond the bits are out of range; a table outside the guest is stage 2's refusal with its address", async () => {
    const { engine, port, pasid, write, route, table, domain } = await guest(kind);
    expect(fault(port, pasid(512))).toMatchObject({ reason: "pasid-range", class: "none" });
    expect(fault(port, pasid(0xfffff))).toMatchObject({ reason: "pasid-range" });
    engine.unmap(domain, ROOT, ROOT + 0xffffn);
    expect(fault(port, pasid(3))).toMatchObject({ reason: "not-present", class: "table", stage: 2, ipa: ROOT + (kind.options.kind === L.PASID_TABLE_SMMUV3 && kind.options.layout === 0 ? 192n : kind.options.layout === 1 && kind.options.kind === L.PASID_TABLE_GCR3 ? 24n : 0n) });
    write(ROOT, 0n);
    engine.blockRoute(route);
    expect(engine.destroyPasidTable(table)).toBe(L.STATUS_OK);
  });

  it("detach and destroy give everything back", async () => {
    const { engine, port, route, domain, table, pasid, enter } = await guest(kind);
    enter(1);
    go(port, pasid(1));
    expect(engine.destroyPasidTable(table)).toBe(L.STATUS_ATTACHED);
    expect(engine.blockRoute(route)).toBe(L.STATUS_OK);
    expect(go(port, pasid(1))).toEqual({ fault: "blocked" });
    expect(engine.destroyDomain(domain)).toBe(L.STATUS_ATTACHED);
    expect(engine.destroyPasidTable(table)).toBe(L.STATUS_OK);
    expect(engine.destroyPasidTable(table)).toBe(L.STATUS_OK);
    expect(engine.destroyDomain(domain)).toBe(L.STATUS_OK);
    expect(engine.framesUsed).toBe(0);
    for (let n = 0; n < 32; n++) engine.createDomain(VTD48);
    expect(() => engine.createDomain(VTD48)).toThrow(expect.objectContaining({ code: "NO_DOMAINS" }));
  });
});

describe("rids and routes", () => {
  it("two rids on one table share an entry", async () => {
    const { engine, port, table, pasid, enter } = await guest(VTD!, { cache: 1 });
    engine.attachPasidTable(engine.route(0x21), table);
    const other = engine.route(0x21, 3);
    enter(3);
    expect(go(port, pasid(3)).hpa).toBe(at(3));
    // The entry is the PASID cache's: what the guest has written since does not count before it is told of.
    enter(3, 6);
    expect(go(port, other).hpa).toBe(at(3));
    const { walks } = port.counters;
    expect(go(port, other).hpa).toBe(at(3));
    expect(port.counters.walks).toBe(walks);
    engine.blockRoute(engine.route(0x21));
    expect(go(port, other)).toEqual({ fault: "blocked" });
    expect(go(port, pasid(3)).hpa).toBe(at(3));
    engine.dropPasids(table, 3);
    expect(go(port, pasid(3)).hpa).toBe(at(6));
  });

  it("what a PASID was attached to gives way to the table, and cannot be attached while it is there", async () => {
    const { engine, port, domain, route, table, pasid, enter } = await guest(VTD!);
    enter(3);
    engine.blockRoute(route);
    engine.attachRoute(pasid(3), domain);
    expect(askOne(port, pasid(3), DATA, R).hpa).toBe(RAM + DATA);
    engine.attachPasidTable(route, table);
    expect(go(port, pasid(3)).hpa).toBe(at(3));
    expect(engine.attachRoute(pasid(3), domain)).toBe(L.STATUS_ATTACHED);
    expect(engine.identityRoute(pasid(3))).toBe(L.STATUS_ATTACHED);
    expect(go(port, pasid(3)).hpa).toBe(at(3));
    engine.attachRoute(route, domain);
    expect(go(port, pasid(3))).toEqual({ fault: "blocked" });
    expect(askOne(port, route, DATA, R).hpa).toBe(RAM + DATA);
  });

  it("a PASID that the full table of routes does not take is refused", async () => {
    const { engine, port, pasid } = await guest(VTD!, {}, { routes: 8 });
    let last = 1;
    for (let n = 1; n < 12; n++) last = pasid(n);
    expect(last).toBe(L.ROUTE_NONE);
    expect(go(port, last)).toEqual({ fault: "no-route" });
    expect(engine.inSection).toBe(false);
  });

  it("a change inside a section of the thread is refused", async () => {
    const { engine, port, table, route } = await guest(VTD!);
    port.batch(() => {
      expect(engine.dropPasids(table)).toBe(L.STATUS_IN_SECTION);
      expect(engine.invalidatePasid(table, 1)).toBe(L.STATUS_IN_SECTION);
      expect(engine.attachPasidTable(route, table)).toBe(L.STATUS_IN_SECTION);
      expect(engine.destroyPasidTable(table)).toBe(L.STATUS_IN_SECTION);
    });
  });

  it("IOTLB ids that run out are renumbered under published entries", async () => {
    const { engine, port, table, pasid, enter } = await guest(GCR3!, {}, { firstIotlbId: L.ID_LIMIT - 300 });
    for (let n = 0; n < 600; n++) {
      enter(3, n % 8);
      engine.dropPasids(table, 3);
      expect(go(port, pasid(3)).hpa).toBe(at(n % 8));
    }
  });
});

describe("DMA without PASID", () => {
  it("gets the entry of PASID 0, which dropping drops", async () => {
    const { engine, port, table, route, pasid, enter } = await guest(VTD!);
    enter(0, 2);
    expect(go(port, route).hpa).toBe(at(2));
    expect(go(port, pasid(0)).hpa).toBe(at(2));
    enter(0, 3);
    engine.dropPasids(table, 0);
    expect(go(port, route).hpa).toBe(at(3));
    expect(go(port, pasid(0)).hpa).toBe(at(3));
  });

  it("gets stage 2 alone, or nothing", async () => {
    const bypass = await guest(VTD!, { without: "bypass" });
    expect(askOne(bypass.port, bypass.route, DATA, R).hpa).toBe(RAM + DATA);
    bypass.engine.dropPasids(bypass.table);
    expect(askOne(bypass.port, bypass.route, DATA, R).hpa).toBe(RAM + DATA);
    const blocked = await guest(VTD!, { without: "blocked" });
    blocked.enter(0);
    expect(go(blocked.port, blocked.route)).toEqual({ fault: "blocked" });
  });

  it("on the SMMU takes substream 0 away from PASID 0", async () => {
    const { port, route, pasid, enter } = await guest(LINEAR!, { without: "zero" });
    enter(0, 2);
    expect(go(port, route).hpa).toBe(at(2));
    expect(go(port, pasid(0))).toEqual({ fault: "pasid-range" });
    const terminating = await guest(LINEAR!);
    terminating.enter(0, 2);
    expect(go(terminating.port, terminating.pasid(0)).hpa).toBe(at(2));
  });
});

describe("VT-d entries", () => {
  const ENTRY = 0x10000n + 3n * 64n;

  it("pass-through leads to stage 2 alone until its PASID is dropped", async () => {
    const { engine, port, table, write, pasid, enter, leave } = await guest(VTD!);
    enter(3);
    write(ENTRY, 0x10dn);
    expect(askOne(port, pasid(3), DATA, R).hpa).toBe(RAM + DATA);
    const { walks } = port.counters;
    expect(askOne(port, pasid(3), DATA, R).hpa).toBe(RAM + DATA);
    expect(port.counters.walks).toBe(walks);
    leave(3);
    engine.dropPasids(table, 4);
    expect(askOne(port, pasid(3), DATA, R).hpa).toBe(RAM + DATA);
    engine.dropPasids(table, 3);
    expect(askOne(port, pasid(3), DATA, R)).toEqual({ fault: "pasid-not-present" });
  });

  it.each([
    ["a second stage", 0, 0x89n], ["nesting", 0, 0xc9n], ["a reserved bit", 0, 0x441n], ["an address beyond the width", 16, 1n << 41n],
    ["five levels", 16, 4n], ["a reserved word", 40, 1n],
  ])("%s is invalid", async (_what, offset, word) => {
    const { port, write, pasid, enter } = await guest(VTD!);
    enter(3);
    write(ENTRY + BigInt(offset), word);
    expect(fault(port, pasid(3))).toMatchObject({ reason: "pasid-invalid", level: 0 });
  });

  it("a directory that points at itself, nowhere, or has reserved bits ends in a refusal", async () => {
    const { port, write, pasid } = await guest(VTD!);
    write(ROOT, ROOT | 1n);
    expect(fault(port, pasid(3))).toMatchObject({ reason: "pasid-not-present" });
    write(ROOT, (GUEST_LAST + 1n) | 1n);
    expect(fault(port, pasid(3))).toMatchObject({ reason: "not-present", class: "table", stage: 2 });
    write(ROOT, 0x5n);
    expect(fault(port, pasid(3))).toMatchObject({ reason: "pasid-invalid", level: 1 });
  });

  it("what stage 2 maps to no slot is outside", async () => {
    const { engine, port, write, pasid, domain } = await guest(VTD!);
    engine.map(domain, 0x100000n, 0x100fffn, 0x7000_0000n, RW);
    write(ROOT, 0x100001n);
    expect(fault(port, pasid(3))).toMatchObject({ reason: "table-outside", class: "table", stage: 0, level: 0 });
  });
});

describe("arguments", () => {
  it.each([
    ["kind", 7], ["root", 5n], ["pasidBits", 21], ["layout", 3], ["stage2", 99], ["outputWidth", 60], ["cache", -1], ["httu", 3],
  ] as const)("%s is checked", async (field, value) => {
    const { engine, domain } = await guest(VTD!);
    const options = { ...VTD!.options, stage2: domain, [field]: value };
    expect(() => engine.createPasidTable(options)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT", field }));
  });

  it("a pool that finds too few domains leaves none behind", async () => {
    for (const kind of [VTD!, LINEAR!]) {
      const { engine, domain } = await guest(kind);
      for (const cache of [31, 14, 24]) {
        if (cache <= 27 && kind === VTD) continue;
        expect(() => engine.createPasidTable({ ...kind.options, stage2: domain, cache })).toThrow(expect.objectContaining({ code: "NO_DOMAINS" }));
      }
      const table = engine.createPasidTable({ ...kind.options, stage2: domain, cache: kind === VTD ? 27 : 11 });
      expect(engine.destroyPasidTable(table)).toBe(L.STATUS_OK);
    }
  });

  it("a route with a PASID takes no table", async () => {
    const { engine, table, pasid, port } = await guest(VTD!);
    expect(() => engine.attachPasidTable(pasid(3), table)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT", field: "route" }));
    expect(ask(port, pasid(3), [IOVA], R)).toEqual([{ fault: "pasid-not-present" }]);
  });
});
