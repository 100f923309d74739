// Lanes are looked up in groups of eight, and of four. One odd lane among hits, in every place: each is answered as if it were alone.
import { describe, expect, it } from "vitest";
import type { DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import type { Port } from "../../src/engine/port.js";
import { AMD64, askOne, decode, fixture, R, RW, VTD48, W, type Answer } from "./engine-fixture.js";

interface Lane { iova: bigint; route: number; need: number }

const ROUTES = 64;
/** Two groups of eight, one of four, and a rest. */
const LANES = 23;

/** Translates the lanes in one batch, into results that hold something else before. */
function askLanes(port: Port, lanes: readonly Lane[]): Answer[] {
  return port.batch(() => {
    lanes.forEach(({ iova, route, need }, lane) => {
      port.requests.set([Number(iova & 0xffffffffn), Number(iova >> 32n), route, need], lane * 4);
    });
    port.results.fill(0x55555555);
    port.translate(lanes.length);
    port.takeFaults();
    return lanes.map((_, lane) => decode(BigInt(port.results[lane * 2]!) | (BigInt(port.results[lane * 2 + 1]!) << 32n)));
  });
}

/** Asks for `odd` at every place among lanes that hit: all others are answered, and `odd` as it is without them. */
function expectAlone(port: Port, good: Lane, hpa: bigint, odd: Lane, wanted: Answer): void {
  for (let place = 0; place < LANES; place++) {
    const lanes = Array.from({ length: LANES }, (_, lane) => lane === place ? odd : { ...good, iova: good.iova + BigInt(lane * 8) });
    const answers = askLanes(port, lanes);
    answers.forEach((answer, lane) => {
      if (lane === place) expect(answer, `odd lane ${place}`).toMatchObject(wanted);
      else expect(answer.hpa, `lane ${lane} beside ${place}`).toBe(hpa + BigInt(lane * 8));
    });
  }
}

describe("one odd lane among hits", () => {
  it("a bit of its address above 2^12", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, RW);
    const good = { iova: 0x1000n, route, need: R };
    for (let bit = 12n; bit < 64n; bit++) {
      const fault = bit >= 48n ? "address-width" : "not-present";
      expectAlone(port, good, 0x5000n, { ...good, iova: 0x1000n ^ (1n << bit) }, { fault });
    }
  });

  it("a route outside the table whose low bits name a good one", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, RW);
    const good = { iova: 0x1000n, route, need: R };
    for (let bit = Math.log2(ROUTES); bit < 32; bit++) {
      expectAlone(port, good, 0x5000n, { ...good, route: (route | (1 << bit)) >>> 0 }, { fault: "no-route" });
    }
    expectAlone(port, good, 0x5000n, { ...good, route: L.ROUTE_NONE }, { fault: "no-route" });
  });

  it("a permission that its entry lacks, and bits that mean none, whatever the address has there", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0x1000n, 0x1fffn, 0xffffffffff000n, RW);
    engine.map(domain, 0x2000n, 0x2fffn, 0xffffffffff000n, R);
    const good = { iova: 0x1000n, route, need: W };
    expectAlone(port, good, 0xffffffffff000n, { iova: 0x2000n, route, need: W }, { fault: "write-denied" });
    expectAlone(port, good, 0xffffffffff000n, { iova: 0x2000n, route, need: 0 }, { hpa: 0xffffffffff000n });
    for (const bit of [3, ...Array.from({ length: 25 }, (_, n) => n + 7)]) {
      expectAlone(port, good, 0xffffffffff000n, { ...good, need: (1 << bit) >>> 0 }, { fault: "bad-request" });
    }
  });

  it("a miss that asks for no permission, on an empty IOTLB too", async () => {
    const { engine, port, domain, route } = await fixture();
    engine.map(domain, 0x1000n, 0x1fffn, 0x5000n, RW);
    engine.map(domain, 0x200000n, 0x3fffffn, 0x40000000n, RW);
    const good = { iova: 0x1000n, route, need: 0 };
    expectAlone(port, good, 0x5000n, { iova: 0x0n, route, need: 0 }, { fault: "not-present" });
    expectAlone(port, good, 0x5000n, { iova: 0x234567n, route, need: 0 }, { hpa: 0x40034567n, runLg2: 21 });
    expectAlone(port, good, 0x5000n, { ...good, route: engine.route(0x99) }, { fault: "blocked" });
  });

  it("an address of the upper half", async () => {
    const { engine, port, domain, route } = await fixture({ ...VTD48, rule: "sign" });
    const high = 0xffff_ffff_ffff_f000n;
    engine.map(domain, high, high + 0xfffn, 0x5000n, RW);
    engine.map(domain, 0x1000n, 0x1fffn, 0x6000n, RW);
    const [low, upper] = [0x1000n, high].map((iova) => ({ iova, route, need: R }));
    expectAlone(port, low!, 0x6000n, upper!, { hpa: 0x5000n });
    expectAlone(port, upper!, 0x5000n, low!, { hpa: 0x6000n });
    for (let bit = 48n; bit < 64n; bit++) expectAlone(port, upper!, 0x5000n, { ...upper!, iova: high ^ (1n << bit) }, { fault: "address-width" });
  });
});

it("a batch of misses, larger than what is tried in groups, is answered whole, and hits afterwards", async () => {
  const { engine, port, domain, route } = await fixture();
  engine.map(domain, 0n, 0xfffffn, 0x1000n, RW);
  const lanes = Array.from({ length: 255 }, (_, n) => ({ iova: BigInt(n) * 0x1000n + 1n, route, need: R }));
  for (const round of [1, 2]) {
    const answers = askLanes(port, lanes);
    expect(answers.map(({ hpa }) => hpa), `round ${round}`).toEqual(lanes.map(({ iova }) => iova + 0x1000n));
  }
});

describe("rules wider than a tag", () => {
  it.each([["sign", 60], ["sign-tbi", 57]] as [NonNullable<DomainOptions["rule"]>, number][])(
    "%s, %i bits: what a tag cannot tell apart is never mistaken", async (rule, width) => {
      const { engine, port, domain, route } = await fixture({ ...AMD64, rule, width });
      const page = 0x7000n;
      expect(engine.map(domain, page, page + 0xfffn, 0x5000n, RW)).toBe(L.STATUS_OK);
      for (const round of [1, 2]) {
        expect(askOne(port, route, page, R).hpa, `round ${round}`).toBe(0x5000n);
        for (let bit = 48n; bit < (rule === "sign-tbi" ? 57n : 64n); bit++) {
          const iova = page ^ (1n << bit);
          const alone = askOne(port, route, iova, R);
          expect(alone.fault, `bit ${bit}`).toBeDefined();
          expectAlone(port, { iova: page, route, need: R }, 0x5000n, { iova, route, need: R }, alone);
        }
      }
    });
});
