// The device of the row fault-round-trip-threads: reads pages that are not there, one after the other, and stands still meanwhile.
import { parentPort } from "node:worker_threads";
import { connectDevice, connectEngine } from "../dist/index.js";

const FIRST = 0x10000;
const PAGE = 4096;
const into = new Uint8Array(8);

parentPort.once("message", ({ engineToken, token, trips, rounds }) => {
  const view = connectDevice(connectEngine(engineToken), token).dma();
  const ns = [];
  let iova = FIRST;
  parentPort.postMessage("ready");
  for (let round = 0; round <= rounds; round++) {
    const start = performance.now();
    for (let n = 0; n < trips; n++, iova += PAGE) view.readBlocking(iova, into);
    if (round > 0) ns.push((performance.now() - start) * 1e6 / trips);
  }
  parentPort.postMessage(ns);
});
