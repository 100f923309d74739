// A thread of the row threads-2: translates hits in batches of 256, a section each, for a window of 5 ms at a time.
import process from "node:process";
import { parentPort } from "node:worker_threads";
import { connectEngine } from "../dist/index.js";
import { loadNative } from "./native.mjs";
import { Window } from "./thread-window.mjs";

const BATCH = 256;
const WINDOW = 5e6;

const { native, reason } = loadNative();
if (!native) throw new Error(`no clock of a thread's processor time: ${reason}`);
/** One clock for all threads. */
const wallTime = () => Number(process.hrtime.bigint());

parentPort.once("message", ({ token, route, pages, window }) => {
  const port = connectEngine(token).openPort();
  for (let lane = 0; lane < BATCH; lane++) port.requests.set([((lane * 37) % pages) * 4096, 0, route, 1], lane * 4);
  const translate = (its) => its.translate(BATCH);
  for (let n = 0; n < 20_000; n++) port.batch(translate);
  parentPort.postMessage("ready");
  new Window(window).serve(() => {
    const [cpu, wall] = [native.cpuTime(), wallTime()];
    let lanes = 0;
    let now = wall;
    for (; now - wall < WINDOW; now = wallTime()) {
      for (let n = 0; n < 100; n++) port.batch(translate);
      lanes += 100 * BATCH;
    }
    return [lanes, now - wall, native.cpuTime() - cpu, wall];
  });
  port.close();
});
