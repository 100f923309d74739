// The host of the browser test, in a worker, where it may wait: it starts two readers, maps and unmaps beside them, and counts.
// Imports the package's sources.
import { Engine } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { WorkerGroup } from "../../src/threads/worker-group.js";

export const PAGES = 64;
export const PAGE = 4096;
const FRAMES = 256;
const RW = L.PERM_R | L.PERM_W;

async function run(unmaps: number): Promise<object> {
  const engine = await Engine.create({ memory: { ram: FRAMES * PAGE, arena: 4 << 20, shared: true }, ports: { count: 4, iotlbSets: 64, lanes: 256, faults: 64 } });
  const owners = new Int32Array(engine.memory.buffer, engine.ram.offset);
  const domain = engine.createDomain({ format: L.FORMAT_VTD_SECOND, levels: 4, width: 48, outputWidth: 52 });
  const route = engine.route(8);
  engine.attachRoute(route, domain);
  const frames: number[] = [];
  const map = (page: number, frame: number): void => {
    Atomics.store(owners, frame * PAGE >>> 2, page + 1);
    const iova = BigInt(page * PAGE);
    if (engine.map(domain, iova, iova + BigInt(PAGE - 1), BigInt(frame * PAGE), RW) !== L.STATUS_OK) throw new Error("map failed");
    frames[page] = frame;
  };
  for (let page = 0; page < PAGES; page++) map(page, page);
  const words = new Int32Array(new SharedArrayBuffer(16));
  const group = await WorkerGroup.start(engine, 2, () => new Worker(new URL("./reader-worker.ts", import.meta.url), { type: "module" }),
    (token) => ({ token, words, ownersAt: engine.ram.offset, route }));
  for (let n = 0; n < unmaps; n++) {
    const page = n % PAGES;
    const iova = BigInt(page * PAGE);
    if (engine.unmap(domain, iova, iova + BigInt(PAGE - 1)) !== BigInt(PAGE)) throw new Error("unmap failed");
    Atomics.store(owners, frames[page]! * PAGE >>> 2, 0);
    map(page, PAGES + n % (FRAMES - PAGES));
  }
  // Both readers have had time to use something.
  while (Atomics.load(words, 0) === 0 || Atomics.load(words, 1) === 0) Atomics.wait(words, 3, 0, 1);
  Atomics.store(words, 3, 1);
  while (engine.ports().length > 0) Atomics.wait(words, 3, 1, 1);
  const uses = [words[0], words[1]];
  await group.close();
  return { uses, stale: words[2], limbo: engine.word(L.ENGINE_FRAMES_LIMBO) };
}

self.onmessage = ({ data }: MessageEvent<number>) => {
  run(data).then((result) => self.postMessage(result), (error: unknown) => self.postMessage({ error: String(error) }));
};
