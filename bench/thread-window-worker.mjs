// A thread of the row threads-2: translates hits in batches of 256, a section each, for a window of 8 ms at a time.
import fs from "node:fs";
import { parentPort } from "node:worker_threads";
import { connectEngine } from "../dist/index.js";
import { Window } from "./thread-window.mjs";

const BATCH = 256;
const WINDOW = 8e6;

/** Processor time of this thread in nanoseconds, as the scheduler has it. */
const cpuTime = () => Number(fs.readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[0]);
const wallTime = () => performance.now() * 1e6;

parentPort.once("message", ({ token, route, pages, window }) => {
  const port = connectEngine(token).openPort();
  for (let lane = 0; lane < BATCH; lane++) port.requests.set([((lane * 37) % pages) * 4096, 0, route, 1], lane * 4);
  const translate = (its) => its.translate(BATCH);
  for (let n = 0; n < 20_000; n++) port.batch(translate);
  parentPort.postMessage("ready");
  new Window(window).serve(() => {
    const [cpu, wall] = [cpuTime(), wallTime()];
    let lanes = 0;
    while (wallTime() - wall < WINDOW) {
      for (let n = 0; n < 100; n++) port.batch(translate);
      lanes += 100 * BATCH;
    }
    return [lanes, wallTime() - wall, cpuTime() - cpu];
  });
  port.close();
});
