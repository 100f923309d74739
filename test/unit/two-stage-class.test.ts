// The class of a two-stage refusal: on whose behalf stage 2 was asked, also when it is a table of stage 2 that cannot be read.
// x86-64 tables over VT-d second-stage ones (SDM volume 3, 4.5; VT-d 3.7, 9.8). Imports the engine.
import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";

const ROOT2 = 0x1000n;
const LEVEL2 = 0x2000n;
const ROOT1 = 0x10000n;
const [LEVEL1_2, LEVEL1_1, LEVEL1_0] = [0x11000n, 0x12000n, 0x13000n];
/** Stage 2 maps the first GiB to itself; the second GiB hangs on a table outside every slot. */
const SECOND_GIB = 0x40000000n;
const OUTSIDE = 0x700000000n;

async function twoStages() {
  const engine = await Engine.create({ memory: { ram: 1 << 20, arena: 8 << 20 }, slots: 4, routes: 8, domains: 4, ports: { count: 1, lanes: 16 } });
  engine.addSlot(0n, 0xfffffn, "memory", engine.ram.offset);
  const view = new DataView(engine.memory.buffer, engine.ram.offset);
  const put = (table: bigint, index: number, pte: bigint): void => view.setBigUint64(Number(table) + index * 8, pte, true);
  put(ROOT2, 0, LEVEL2 | 3n);
  put(LEVEL2, 0, 0x83n);
  put(LEVEL2, 1, OUTSIDE | 3n);
  put(ROOT1, 0, LEVEL1_2 | 7n);
  put(ROOT1, 1, SECOND_GIB | 7n);
  put(LEVEL1_2, 0, LEVEL1_1 | 7n);
  put(LEVEL1_1, 0, LEVEL1_0 | 7n);
  put(LEVEL1_0, 5, SECOND_GIB | 0x3000n | 7n);
  const stage2 = engine.createDomain({ format: L.FORMAT_VTD_SECOND, levels: 4, width: 48, outputWidth: 48, guestRoot: ROOT2 });
  const domain = engine.createDomain({ format: L.FORMAT_X86_64, levels: 4, width: 48, rule: "sign", outputWidth: 48, guestRoot: ROOT1, stage2 });
  const route = engine.route(0x20);
  engine.attachRoute(route, domain);
  return { engine, domain, stage2, route, port: engine.openPort() };
}

describe("a table of stage 2 that cannot be read", () => {
  it.each([
    ["on behalf of the access", 0x5000n, "input", SECOND_GIB | 0x3000n],
    ["on behalf of a stage-1 table", 1n << 39n, "table", SECOND_GIB],
  ])("%s", async (_name, iova, expected, ipa) => {
    const { engine, domain, route, port } = await twoStages();
    expect(engine.walk(domain, iova, L.PERM_R)).toMatchObject({ reason: "table-outside", stage: 2, class: expected, ipa });
    port.translateHalves(Number(iova & 0xffffffffn), Number(iova >> 32n), route, L.PERM_R);
    expect(port.takeFaults()).toMatchObject([{ reason: "table-outside", stage: 2, class: expected, ipa }]);
  });
});

describe("a walk that reads no entry", () => {
  it("grants nothing, whatever the walk before it did", async () => {
    const { engine, domain, stage2 } = await twoStages();
    expect(engine.walk(stage2, 0x1000n, L.PERM_R)).toMatchObject({ reason: "none", perm: 0x33 });
    expect(engine.walk(domain, 1n << 60n, L.PERM_R)).toMatchObject({ reason: "address-width", perm: 0, steps: [] });
  });
});
