// Two threads against one, and the time of an unmap beside busy readers. Wall time: what two threads do at once, processor time
// cannot say. A window counts only if every thread in it had a core for itself: processor time / wall time, by the kernel's own
// account of the thread (/proc/thread-self/schedstat).
import os from "node:os";
import { Worker } from "node:worker_threads";
import * as L from "../../dist/engine/layout.js";
import { Engine, WorkerGroup } from "../../dist/index.js";
import { stress } from "../../test/stress/stress.mjs";
import { Window } from "../thread-window.mjs";
import { VTD } from "../formats.mjs";

const PAGES = 1024;
/** Share of a window that a thread must have had. */
const OWN_CORE = 0.93;
const WINDOWS = 200;
/** Fewer windows than this say nothing. */
const FEWEST = 5;

function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
}

/** Nanoseconds a translation of `active` of the threads working at once; undefined if one of them had no core for itself. */
async function runWindow(windows, active) {
  for (let n = 0; n < windows.length; n++) windows[n].order(n < active);
  const ran = windows.slice(0, active);
  for (const window of ran) await window.done();
  if (ran.some((window) => window.cpu / window.wall < OWN_CORE)) return undefined;
  return 1 / ran.reduce((sum, { lanes, wall }) => sum + lanes / wall, 0);
}

async function scaling() {
  const engine = await Engine.create({ memory: { ram: 0, arena: 16 << 20, shared: true } });
  const domain = engine.createDomain(VTD.options);
  const route = engine.route(8);
  engine.attachRoute(route, domain);
  engine.map(domain, 0n, BigInt(PAGES * 4096 - 1), 4096n, L.PERM_R);
  const windows = [new Window(), new Window()];
  const group = await WorkerGroup.start(engine, 2, () => new Worker(new URL("../thread-window-worker.mjs", import.meta.url)),
    (token, index) => ({ token, route, pages: PAGES, window: windows[index].buffer }));
  const [ones, twos, ratios] = [[], [], []];
  for (let n = 0; n < WINDOWS; n++) {
    const one = await runWindow(windows, 1);
    const two = await runWindow(windows, 2);
    if (one === undefined || two === undefined) continue;
    ones.push(one);
    twos.push(two);
    ratios.push(two / one);
  }
  for (const window of windows) window.end();
  await group.close();
  if (ratios.length < FEWEST) throw new Error(`in ${ratios.length} of ${WINDOWS} windows every thread had a core for itself (${os.cpus().length} cores): nothing to say`);
  const ratio = { median: quantile(ratios, 0.5), q1: quantile(ratios, 0.25), q3: quantile(ratios, 0.75) };
  const note = `${ratios.length} of ${WINDOWS} pairs of windows count: every thread had more than ${OWN_CORE * 100}% of a core in both`;
  return { variants: [{ name: "2 threads", ns: quantile(twos, 0.5) }, { name: "1 thread", ns: quantile(ones, 0.5), ratio }], notes: [note] };
}

/** The stress test's own unmaps: the reader of a result looks at it inside its section, so that they are busy nearly always. */
async function latency() {
  const { microseconds, unmaps, stale } = await stress({ unmaps: 20_000, threads: 2 });
  if (stale) throw new Error(`${stale} stale uses`);
  const us = (n) => n.toFixed(1);
  const note = `${unmaps} unmaps beside 2 busy readers: median ${us(microseconds.median)} us, p90 ${us(microseconds.p90)}, p99 ${us(microseconds.p99)}, most ${us(microseconds.most)}`;
  return { variants: [{ name: "median, wall time", ns: microseconds.median * 1000 }], notes: [note] };
}

export const rows = [
  { name: "threads-2", about: "all hits, two threads with a port each against one, in windows in which each had a core", unit: "translation", baselines: ["1 thread"], measure: scaling },
  { name: "unmap-latency", about: "one unmap while two threads translate: three busy threads", unit: "unmap", baselines: [], measure: latency },
];
