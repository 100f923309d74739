// A reader of the stress test: batches of random translations, and for each, inside the section, whether the frame that it was
// given is still the page's. Its first message says which rule it breaks on purpose, if any: the controls.
import { parentPort } from "node:worker_threads";
import * as L from "../../dist/engine/layout.js";
import { connectEngine } from "../../dist/index.js";
import { randomBelow } from "./random.mjs";
import { BATCH, ENDED, FRAME_LG2, PAGES, PAGE_LG2, pageIova, READERS, STALE, USES } from "./world.mjs";

parentPort.once("message", ({ token, words: buffer, ownersAt, routes, control, seed }) => {
  const engine = connectEngine(token);
  const port = engine.openPort();
  const random = randomBelow(seed);
  const shared = new Int32Array(buffer);
  const memory = new Int32Array(engine.memory.buffer);
  const owners = new Int32Array(engine.memory.buffer, ownersAt);
  const word = (offset) => (port.address + offset) >>> 2;
  const expected = new Int32Array(BATCH);
  const { requests, results } = port;
  parentPort.postMessage("ready");

  /** A section that no change waits for; or one that applies no invalidations. */
  const breakRule = {
    "no-wait": () => Atomics.store(memory, word(L.PORT_ACTIVE), 0),
    "no-invalidation": () => {},
    "": () => {},
  }[control];

  /** Asks for random addresses of random spaces. */
  const ask = () => {
    for (let lane = 0; lane < BATCH; lane++) {
      const page = random(PAGES);
      requests[lane * 4] = pageIova(page) + random(1 << PAGE_LG2);
      requests[lane * 4 + 1] = 0;
      requests[lane * 4 + 2] = routes[random(routes.length)];
      requests[lane * 4 + 3] = 1;
      expected[lane] = page + 1;
    }
  };

  /** All of the work is done inside: a reader is outside for a moment only. */
  const section = () => {
    breakRule();
    ask();
    port.translate(BATCH);
    let [uses, stale] = [0, 0];
    for (let lane = 0; lane < BATCH; lane++) {
      const high = results[lane * 2 + 1];
      if (high >>> 31) continue;
      const frame = ((high & 0xffffff) * 2 ** (32 - FRAME_LG2)) + (results[lane * 2] >>> FRAME_LG2);
      uses++;
      if (owners[frame << (FRAME_LG2 - 2)] !== expected[lane]) stale++;
    }
    Atomics.add(shared, USES, uses);
    if (stale) Atomics.add(shared, STALE, stale);
  };

  Atomics.add(shared, READERS, 1);
  while (!Atomics.load(shared, ENDED)) {
    if (control === "no-invalidation") memory[word(L.PORT_RING_TAIL)] = Atomics.load(memory, (engine.address + L.ENGINE_RING_HEAD) >>> 2);
    port.batch(section);
    port.takeFaults();
  }
  port.close();
  Atomics.sub(shared, READERS, 1);
});
