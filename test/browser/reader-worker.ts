// A reader of the browser test: translates all pages in one section after the other, and looks there whether each frame that it
// was given is still its page's. Imports the package's sources. Words: uses of the two readers, stale uses, 1 to end.
import { connectEngine, type EngineToken } from "../../src/engine/token.js";

const PAGES = 64;
const PAGE = 4096;

interface First {
  token: EngineToken;
  words: Int32Array;
  ownersAt: number;
  route: number;
}

self.onmessage = ({ data: { token, words, ownersAt, route } }: MessageEvent<First>) => {
  const engine = connectEngine(token);
  const port = engine.openPort();
  const owners = new Int32Array(engine.memory.buffer, ownersAt);
  self.postMessage("ready");
  const { requests, results } = port;
  for (let page = 0; page < PAGES; page++) requests.set([page * PAGE, 0, route, 1], page * 4);
  while (Atomics.load(words, 3) === 0) {
    port.batch(() => {
      port.translate(PAGES);
      for (let page = 0; page < PAGES; page++) {
        if ((results[page * 2 + 1] ?? 0) >>> 31) continue;
        Atomics.add(words, token.thread % 2, 1);
        if (owners[(results[page * 2] ?? 0) >>> 2] !== page + 1) Atomics.add(words, 2, 1);
      }
    });
    port.takeFaults();
  }
  port.close();
};
