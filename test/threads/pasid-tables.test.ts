// A guest's PASID table that changes while another thread uses it, and threads that leave the lock behind.
import { afterEach, describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import { askOne, R } from "../unit/engine-fixture.js";
import { DATA, guest, IOVA, KINDS, PAGE, RAM } from "../unit/pasid-tables.js";
import { closeThreads, start } from "./other-thread.js";

const SHARED = { memory: { ram: 1 << 20, arena: 8 << 20, shared: true } };
const PASIDS = 6;
const PAGES = 16;
const CHANGES = 3000;
const GCR3 = KINDS.find(([name]) => name === "GCR3 of two levels")![1];

afterEach(closeThreads);

/** All page tables are there from the beginning: a change is one word, as a guest would make it. */
async function filled() {
  const its = await guest(GCR3, { cache: 4 }, SHARED);
  for (let n = 0; n < PAGES; n++) its.enter(0, n);
  const lead = (pasid: number, n: number): void => its.kind.set(its.write, pasid, 0x20000n + BigInt(n % PAGES) * 4n * PAGE);
  for (let pasid = 0; pasid < PASIDS; pasid++) lead(pasid, 0);
  const routes = Array.from({ length: PASIDS }, (_, pasid) => its.pasid(pasid));
  return { ...its, lead, routes };
}

describe("entries change under another thread", () => {
  it("nothing of an entry is used once its PASID was dropped, with a pool too small for all", async () => {
    const { engine, table, lead, routes } = await filled();
    const first = Number(BigInt.asUintN(32, RAM + DATA));
    const thread = await start(engine, "pasids", { routes, iova: Number(IOVA), first, pages: PAGES });
    for (let n = 0; n < CHANGES; n++) {
      const pasid = n % PASIDS;
      const to = Math.floor(n / PASIDS) + 1;
      lead(pasid, to);
      engine.dropPasids(table, n % 50 === 49 ? undefined : pasid);
      Atomics.store(thread.signal, 2 + pasid, to);
    }
    thread.tell();
    const { answers, stale, walks } = await thread.hear() as { answers: number; stale: number; walks: number };
    expect(stale).toBe(0);
    expect(answers).toBeGreaterThan(CHANGES);
    expect(Number(walks)).toBeLessThan(answers);
  });
});

describe("a lock that a port holds", () => {
  it("of a thread that has ended is the host's after endThread, and no entry is left", async () => {
    const { engine, port, table, routes, route, domain } = await filled();
    expect(askOne(port, routes[1]!, IOVA, R).hpa).toBe(RAM + DATA);
    const thread = await start(engine, "stay");
    const held = engine.ports().find((each) => each.thread === thread.thread)!.address;
    const words = new Int32Array(engine.memory.buffer);
    words[(engine.address + L.ENGINE_LOCK) >>> 2] = held;
    expect(() => engine.dropPasids(table)).toThrow(expect.objectContaining({ code: "PORT_STALLED" }));
    await thread.worker.terminate();
    await thread.ended();
    expect(words[(engine.address + L.ENGINE_LOCK) >>> 2]).toBe(0);
    expect(askOne(port, routes[1]!, IOVA, R).hpa).toBe(RAM + DATA);
    expect(engine.dropPasids(table)).toBe(L.STATUS_OK);
    engine.blockRoute(route);
    expect(engine.destroyPasidTable(table)).toBe(L.STATUS_OK);
    expect(engine.destroyDomain(domain)).toBe(L.STATUS_OK);
  });
});
