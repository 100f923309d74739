// The stress test: readers that are inside sections nearly always, and a host that maps and unmaps what they use. A frame is
// taken from its page the moment the call that unmaps the page has returned: whoever uses the page's old translation then finds
// a frame that is not its page's. Single pages, whole tables whose frames are used again at once, whole spaces, moved routes, new ids and
// changes of slots alternate. A control breaks one rule in the readers: it has to show stale uses, or this test could not see any.
import { Worker } from "node:worker_threads";
import * as L from "../../dist/engine/layout.js";
import { Engine, WorkerGroup } from "../../dist/index.js";
import { randomBelow } from "./random.mjs";
import { ENDED, FRAMES, PAGES, PAGES_A_TABLE, PAGE_LG2, pageIova, READERS, STALE, USES } from "./world.mjs";

const RW = L.PERM_R | L.PERM_W;
const SPACES = 2;
const PAGE = 1 << PAGE_LG2;
/** Every so many unmaps of one page something else happens. */
const EVERY = { table: 16, move: 64, flush: 32, all: 128, slot: 32 };
/** How long a frame that was taken stays nobody's, in looks at the clock. */
const NOBODYS = 10;

class Stress {
  constructor(engine, options) {
    this.engine = engine;
    this.random = randomBelow(options.seed);
    this.owners = new Int32Array(engine.memory.buffer, engine.ram.offset);
    this.domains = Array.from({ length: SPACES }, () => engine.createDomain({ format: L.FORMAT_VTD_SECOND, levels: 4, width: 48, outputWidth: 52 }));
    this.routes = this.domains.map((domain, space) => {
      const route = engine.route(space + 8);
      engine.attachRoute(route, domain);
      return route;
    });
    /** Frame of each page of each space, -1 for none. */
    this.frames = this.domains.map(() => new Int32Array(PAGES).fill(-1));
    this.free = Array.from({ length: FRAMES }, (_, frame) => frame);
    this.microseconds = [];
    this.renumbered = 0;
    this.domains.forEach((_, space) => { for (let page = 0; page < PAGES; page++) this.map(space, page); });
  }

  owner(frame, page) {
    Atomics.store(this.owners, (frame * PAGE) >>> 2, page);
  }

  map(space, page) {
    const frame = this.free.splice(this.random(this.free.length), 1)[0];
    this.owner(frame, page + 1);
    const iova = BigInt(pageIova(page));
    const status = this.engine.map(this.domains[space], iova, iova + BigInt(PAGE - 1), BigInt(frame * PAGE), RW);
    if (status !== L.STATUS_OK) throw new Error(`map answered ${status}`);
    this.frames[space][page] = frame;
  }

  /** Unmaps pages first..first + n - 1 in one call, which takes their frames the moment it returns. */
  unmap(space, first, n) {
    const iova = BigInt(pageIova(first));
    const begun = performance.now();
    const bytes = this.engine.unmap(this.domains[space], iova, BigInt(pageIova(first + n - 1) + PAGE - 1));
    if (n === 1) this.microseconds.push((performance.now() - begun) * 1000);
    if (bytes !== BigInt(n * PAGE)) throw new Error(`unmap answered ${bytes}`);
    for (let page = first; page < first + n; page++) {
      const frame = this.frames[space][page];
      this.owner(frame, 0);
      this.free.push(frame);
      this.frames[space][page] = -1;
    }
    for (let n = 0; n < NOBODYS; n++) performance.now();
  }

  remap(space, first, n) {
    this.unmap(space, first, n);
    for (let page = first; page < first + n; page++) this.map(space, page);
  }

  /** The route goes to the other space: what the old one had is taken from all its pages. */
  move(space) {
    const { engine, routes, domains } = this;
    engine.attachRoute(routes[space], domains[1 - space]);
    for (const frame of this.frames[space]) this.owner(frame, 0);
    for (let n = 0; n < NOBODYS; n++) performance.now();
    this.frames[space].forEach((frame, page) => this.owner(frame, page + 1));
    engine.attachRoute(routes[space], domains[space]);
  }

  step(n) {
    // There are few ids: now and then all domains are numbered afresh.
    const ids = this.engine.word(L.ENGINE_ID_NEXT);
    this.change(n);
    if (this.engine.word(L.ENGINE_ID_NEXT) < ids) this.renumbered++;
  }

  change(n) {
    const space = this.random(SPACES);
    this.remap(space, this.random(PAGES), 1);
    if (n % EVERY.table === 0) this.remap(space, this.random(PAGES / PAGES_A_TABLE) * PAGES_A_TABLE, PAGES_A_TABLE);
    if (n % EVERY.all === 0) this.remap(space, 0, PAGES);
    if (n % EVERY.move === 0) this.move(space);
    if (n % EVERY.flush === 0) this.engine.flushDomain(this.domains[space]);
    if (n % EVERY.slot === 0) {
      this.engine.addSlot(1n << 40n, (1n << 40n) + 0xfffn, "zero");
      this.engine.removeSlot(1n << 40n);
    }
  }
}

function quantile(sorted, q) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}

/**
 * So many unmaps of single pages against so many readers: { unmaps, uses, stale, latency }. `control` is "", "no-wait" or
 * "no-invalidation"; a control ends early once it has shown enough.
 */
export async function stress({ unmaps, threads, seed = 1, control = "", enough = Infinity, onProgress = () => {} }) {
  const engine = await Engine.create({
    memory: { ram: FRAMES * PAGE, arena: 8 << 20, shared: true }, domains: 8, slots: 8, routes: 64,
    ports: { count: threads + 1, iotlbSets: 256, lanes: 256, faults: 64 }, firstIotlbId: L.ID_LIMIT - 40,
  });
  const run = new Stress(engine, { seed });
  const shared = new Int32Array(new SharedArrayBuffer(16));
  const group = await WorkerGroup.start(engine, threads, () => new Worker(new URL("./reader.mjs", import.meta.url)),
    (token, index) => ({ token, words: shared.buffer, ownersAt: engine.ram.offset, routes: run.routes, control, seed: seed + 1 + index }));
  while (Atomics.load(shared, READERS) < threads) await new Promise((resolve) => setTimeout(resolve, 1));
  run.microseconds.length = 0;
  let done = 0;
  const begun = performance.now();
  while (done < unmaps && Atomics.load(shared, STALE) < enough) {
    run.step(done++);
    if (done % 1000 === 0) onProgress(done);
  }
  const seconds = (performance.now() - begun) / 1000;
  Atomics.store(shared, ENDED, 1);
  while (Atomics.load(shared, READERS) > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await group.close();
  const sorted = run.microseconds.sort((a, b) => a - b);
  return {
    control, threads, unmaps: done, uses: Atomics.load(shared, USES) >>> 0, stale: Atomics.load(shared, STALE) >>> 0, seconds,
    microseconds: { median: quantile(sorted, 0.5), p90: quantile(sorted, 0.9), p99: quantile(sorted, 0.99), most: quantile(sorted, 1) },
    framesLimbo: engine.word(L.ENGINE_FRAMES_LIMBO), renumbered: run.renumbered,
  };
}
