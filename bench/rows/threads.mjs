// Two threads against one, and the time of an unmap beside busy readers. Wall time: what two threads do at once, processor time
// cannot say. A window counts only if every thread in it had a core for itself, by its processor time / wall time, and if two
// threads were at work at the same time.
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
/** Windows of each kind that are tried, at most, and those that are enough. */
const MOST = 1500;
const ENOUGH = 80;
/** Fewer windows than this say nothing. */
const FEWEST = 5;
/** What counts is the faster half of either kind, its median: in the others the machine's own neighbours slow down both cores, or one. */
const BETTER = 0.25;
/** Share of their windows that two threads must have had in common. */
const TOGETHER = 0.8;

function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
}

/** Nanoseconds a translation of `active` of the threads working at once; undefined if the window does not count. */
async function runWindow(windows, active) {
  const ran = windows.slice(0, active);
  for (const window of ran) window.order();
  for (const window of ran) await window.done();
  if (ran.some((window) => window.cpu / window.wall < OWN_CORE)) return undefined;
  const together = Math.min(...ran.map(({ start, wall }) => start + wall)) - Math.max(...ran.map(({ start }) => start));
  if (ran.some(({ wall }) => together / wall < TOGETHER)) return undefined;
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
  const [ones, twos] = [[], []];
  let tried = 0;
  for (; tried < MOST && (ones.length < ENOUGH || twos.length < ENOUGH); tried++) {
    for (const [times, active] of [[ones, 1], [twos, 2]]) {
      const time = await runWindow(windows, active);
      if (time !== undefined) times.push(time);
    }
  }
  for (const window of windows) window.end();
  await group.close();
  if (Math.min(ones.length, twos.length) < FEWEST) {
    throw new Error(`of ${tried} windows each, ${ones.length} of one thread and ${twos.length} of two had their cores (${os.cpus().length} here) for themselves`);
  }
  const [one, two] = [quantile(ones, BETTER), quantile(twos, BETTER)];
  const ratio = { median: two / one, q1: quantile(twos, BETTER / 2) / one, q3: quantile(twos, BETTER * 1.5) / one };
  const note = `of ${tried} windows each, ${ones.length} of one thread and ${twos.length} of two count: more than ${OWN_CORE * 100}% of a core a thread, and together; of these the faster half`;
  return { variants: [{ name: "2 threads", ns: two }, { name: "1 thread", ns: one, ratio }], notes: [note] };
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
