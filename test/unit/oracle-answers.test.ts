// The oracle of answers judges hand-made result words; the instrumentation puts all oracles behind an engine's methods.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import {
  ENGINE_FRAMES_USED, PERM_R, PERM_W, REASON_ADDRESS_WIDTH, REASON_BAD_REQUEST, REASON_BLOCKED, REASON_EXECUTE_DENIED,
  REASON_NO_ROUTE, REASON_NOT_PRESENT, REASON_READ_DENIED, REASON_WRITE_DENIED,
} from "../../src/engine/layout.js";
import { Port } from "../../src/engine/port.js";
import { liveDomains } from "../oracle/engine-state.js";
import { checkTouched, instrument, instrumentPorts, releaseFromOracles } from "../oracle/instrument.js";
import { expectAnswer } from "../oracle/results.js";
import { PAGE, RW, Spoilable } from "../oracle/spoilable.js";

let its: Spoilable;

function judge(iova: bigint, need: number, result: bigint, route = its.route): () => void {
  const domains = new Map(liveDomains(its.engine).map((domain) => [domain.index, domain]));
  return () => expectAnswer(its.engine, domains, { iova, route, need }, result);
}
const refused = (reason: number, level = 0): bigint => (1n << 63n) | (BigInt(level) << 8n) | BigInt(reason);
const translated = (hpa: bigint, runLg2 = 12): bigint => (BigInt(runLg2) << 56n) | hpa;

describe("expectAnswer", () => {
  beforeEach(async () => {
    its = await Spoilable.create();
    its.map(0x5000n, 0x5fffn, 0x9000n, PERM_R);
  });

  it("takes exactly the address of the walk, with a run inside the leaf", () => {
    expect(judge(0x5123n, PERM_R, translated(0x9123n))).not.toThrow();
    expect(judge(0x5123n, 0, translated(0x9123n))).not.toThrow();
    expect(judge(0x5123n, PERM_R, translated(0x9124n))).toThrow(/must lead to 0x9123/);
    expect(judge(0x5123n, PERM_R, translated(0x9123n, 13))).toThrow(/run of 2\^13/);
    expect(judge(0x5123n, PERM_R, translated(0x9123n, 11))).toThrow(/run of 2\^11/);
    expect(judge(0x5123n, PERM_R, translated(0x9123n) | (1n << 62n))).toThrow(/must be translated/);
    expect(judge(0x5123n, PERM_R, refused(REASON_NOT_PRESENT))).toThrow(/must be translated/);
  });

  it("takes exactly the reason that is due, and the level where an entry gives it", () => {
    expect(judge(0x5000n, RW, refused(REASON_WRITE_DENIED))).not.toThrow();
    expect(judge(0x5000n, RW, refused(REASON_READ_DENIED))).toThrow(/is refused for reason/);
    expect(judge(0x5000n, RW, translated(0x9000n))).toThrow(/must be refused/);
    expect(judge(0x5000n, 4, refused(REASON_EXECUTE_DENIED))).not.toThrow();
    expect(judge(0x6000n, PERM_R, refused(REASON_NOT_PRESENT, 0))).not.toThrow();
    expect(judge(0x6000n, PERM_R, refused(REASON_NOT_PRESENT, 1))).toThrow(/at level 1, must be at 0/);
    expect(judge(0x4000_0000n, PERM_R, refused(REASON_NOT_PRESENT, 2))).not.toThrow();
    expect(judge(1n << 39n, PERM_R, refused(REASON_ADDRESS_WIDTH, 2))).not.toThrow();
    expect(judge(1n << 39n, PERM_R, refused(REASON_NOT_PRESENT, 2))).toThrow(/is refused for reason/);
  });

  it("knows requests that no table decides", () => {
    expect(judge(0x5000n, 8, refused(REASON_BAD_REQUEST))).not.toThrow();
    expect(judge(0x5000n, PERM_R, refused(REASON_NO_ROUTE), 0)).not.toThrow();
    expect(judge(0x5000n, PERM_R, refused(REASON_NO_ROUTE), 8)).not.toThrow();
    its.engine.blockRoute(its.route);
    expect(judge(0x5000n, PERM_R, refused(REASON_BLOCKED))).not.toThrow();
    expect(judge(0x5000n, PERM_R, translated(0x9000n))).toThrow(/must be refused/);
    its.engine.identityRoute(its.route);
    expect(judge(0x5000n, PERM_R, (1n << 62n) | 0x5000n)).not.toThrow();
    expect(judge(0x5000n, PERM_R, (1n << 62n) | 0x9000n)).toThrow(/must be the identity/);
    expect(judge(0x5000n, PERM_R, translated(0x5000n))).toThrow(/must be the identity/);
  });

  it("sees a write that was granted and left the leaf clean", async () => {
    its = await Spoilable.create({ trackDirty: true });
    its.mapAndUse(0x5000n, 0x9000n);
    expect(judge(0x5000n, PERM_W, translated(0x9000n))).not.toThrow();
    its.spoilPte(0x5000n, (pte) => pte & ~0x200n);
    expect(judge(0x5000n, PERM_W, translated(0x9000n))).toThrow(/left the leaf clean/);
    expect(judge(0x5000n, PERM_R, translated(0x9000n))).not.toThrow();
  });
});

describe("an instrumented engine", () => {
  beforeEach(async () => {
    // The setup has done this already, unless it was switched off.
    instrument(Engine.prototype);
    instrumentPorts(Port.prototype);
    its = await Spoilable.create({ watched: true });
    its.mapAndUse(0x5000n, 0x9000n);
  });
  afterEach(() => releaseFromOracles(its.engine));

  it("checks the model after each change", () => {
    its.spoilPte(0x5000n, () => 0n);
    expect(() => its.engine.flushDomain(its.domain)).toThrow(/iova 0x5000 .*not-present/);
  });

  it("checks single answers", () => {
    its.spoilPte(0x5000n, (pte) => pte + PAGE);
    expect(() => its.port.translateNumber(0x5008, its.route, PERM_R)).toThrow(/answer .* must lead to 0xa008/);
    expect(() => its.port.translateHalves(0x5008, 0, its.route, PERM_R)).toThrow(/answer .* must lead to 0xa008/);
  });

  it("checks the answers of a batch", () => {
    its.port.requests.set([0x5000, 0, its.route, PERM_W]);
    expect(its.port.batch(() => its.port.translate(1))).toBe(0);
    its.spoilPte(0x5000n, (pte) => pte & ~2n);
    expect(() => its.port.batch(() => its.port.translate(1))).toThrow(/must be refused for reason/);
  });

  it("checks a port before it closes", () => {
    its.spoilPte(0x5000n, (pte) => pte + PAGE);
    expect(() => its.port.close()).toThrow(/iova 0x5000 /);
  });

  it("checks everything at the end", () => {
    checkTouched();
    its.use(0x5000n, PERM_R);
    its.store32(its.engine.address + ENGINE_FRAMES_USED, 1);
    expect(() => checkTouched()).toThrow(/counted as used/);
  });

  it("lets errors of the call through", () => {
    expect(() => its.engine.createDomain({ format: 99, levels: 3, width: 39, outputWidth: 48 })).toThrow(/format/);
    expect(() => checkTouched()).not.toThrow();
  });

  it("leaves a released engine alone", () => {
    releaseFromOracles(its.engine);
    its.spoilPte(0x5000n, () => 0n);
    expect(() => its.engine.flushDomain(its.domain)).not.toThrow();
    expect(() => checkTouched()).not.toThrow();
  });
});
