// A worker of ReplayThreads: a port, and a copy of the trace. It translates and compares the pieces that it claims, each in a
// section of its own, and answers with what it has found at the end of each run. Node only. Imports engine, threads, its own folder.
import { parentPort } from "node:worker_threads";
import { connectEngine } from "../engine/token.js";
import { Pieces } from "../threads/pieces.js";
import { DmaBatch } from "./dma-batch.js";
import { PIECE, type ReplayWorkerAnswer, type ReplayWorkerData } from "./replay-threads.js";
import { Trace } from "./trace.js";

const parent = parentPort!;

function start({ engine: token, pieces: buffer, trace: columns, keep }: ReplayWorkerData): () => ReplayWorkerAnswer {
  const engine = connectEngine(token);
  const port = engine.openPort();
  const pieces = new Pieces(buffer);
  const trace = new Trace(columns.length, columns.header, columns.reasons);
  trace.copyRows(0, columns, 0, columns.length - 1);
  return () => {
    const batch = new DmaBatch(engine, port, trace, keep);
    try {
      pieces.serve(PIECE, (first, n) => {
        for (let event = first; event < first + n; event++) batch.add(event);
        batch.flush();
      });
      return batch.outcome();
    } catch (error) {
      pieces.fail();
      return { error: error instanceof Error ? error.message : String(error) };
    }
  };
}

let run: (() => ReplayWorkerAnswer) | undefined;
parent.on("message", (message: unknown) => {
  if (run) {
    parent.postMessage(run());
    return;
  }
  run = start(message as ReplayWorkerData);
  parent.postMessage("ready");
});
