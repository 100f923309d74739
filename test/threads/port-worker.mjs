// A thread with a port, for tests: it does what its first message says, and tells by words of shared memory how far it is.
// Imports the built package, as a worker of a user does. Words of `signal`: 0 how far, 1 what the host wants.
import { parentPort } from "node:worker_threads";
import { connectDevice, connectEngine } from "../../dist/index.js";

const INSIDE = 1;
const LEFT = 2;

/** Sleeps until the host sets word 1, at most so long. */
function untilTold(signal, milliseconds) {
  Atomics.wait(signal, 1, 0, milliseconds);
}

function tell(signal, word) {
  Atomics.store(signal, 0, word);
  Atomics.notify(signal, 0);
}

/** Translates iova inside a section; answers the low word of the result, or -1 for a refusal. */
function translate(port, route, iova) {
  port.requests.set([iova, 0, route, 1]);
  port.translate(1);
  return port.results[1] >>> 31 ? -1 : port.results[0];
}

const JOBS = {
  /** Is inside a section for so long, or until told. */
  hold({ port, route, signal, iova, milliseconds }) {
    port.batch(() => {
      const answer = translate(port, route, iova);
      tell(signal, INSIDE);
      untilTold(signal, milliseconds);
      if (translate(port, route, iova) !== answer && answer !== -1) parentPort.postMessage("changed");
      Atomics.store(signal, 0, LEFT);
    });
    port.close();
  },

  /** Never leaves its section. */
  stay({ port, signal }) {
    port.batch(() => {
      tell(signal, INSIDE);
      for (;;) untilTold(signal, 1000);
    });
  },

  /** Ends its process thread from inside a section. */
  exit({ port, signal }) {
    port.batch(() => {
      tell(signal, INSIDE);
      process.exit(0);
    });
  },

  /** Closes its port inside the section, and stays in the function. */
  closeInside({ port, signal, milliseconds }) {
    port.batch(() => {
      port.close();
      tell(signal, INSIDE);
      untilTold(signal, milliseconds);
      Atomics.store(signal, 0, LEFT);
    });
  },

  /** Translates once and stays idle, its port open. */
  idle({ port, route, signal, iova }) {
    port.batch(() => translate(port, route, iova));
    // A thread that listens does not end.
    parentPort.on("message", () => {});
    tell(signal, INSIDE);
  },

  /** DMA by a view of its own: what it has read, and the fault of a refused write. */
  dma({ engine, device, port, signal }) {
    const dma = connectDevice(engine, device, port).dma();
    const read = [...dma.readSync(0x1000n, 4)];
    dma.writeSync(0x1ffen, new Uint8Array([1, 2, 3, 4]));
    let fault;
    try {
      dma.writeSync(0x9000n, new Uint8Array(1));
    } catch ({ reason, label, cookie, device: name }) {
      fault = { reason, label, cookie, name };
    }
    parentPort.postMessage({ read, fault });
    tell(signal, LEFT);
  },

  /**
   * One access for each message, a method of its view and the arguments, until it is told to end: each is begun when its message
   * comes, and what becomes of it is posted with the message's number.
   */
  accesses({ engine, device, port, signal, wait }) {
    const dma = connectDevice(engine, device, port).dma(wait);
    const ended = ({ n }, answer) => parentPort.postMessage({ n, ...answer });
    const begin = async ({ method, args, section }) => {
      if (section) return port.batch(() => dma[method](...args));
      return dma[method](...args);
    };
    parentPort.on("message", (message) => {
      begin(message).then(
        (bytes) => ended(message, { bytes: bytes && [...bytes] }),
        ({ reason, code, errno, message: text }) => ended(message, { refused: reason ?? errno ?? code ?? text }),
      );
    });
    tell(signal, INSIDE);
  },

  /**
   * Asks for random PASIDs in sections until told; words 2 + n of signal say what PASID n's last finished change led to. Inside a
   * section that, or the change that now waits for it, is what an answer may be.
   */
  pasids({ port, routes, signal, iova, first, pages }) {
    let [answers, stale] = [0, 0];
    tell(signal, INSIDE);
    while (!Atomics.load(signal, 1)) {
      port.batch(() => {
        for (let tries = 0; tries < 64; tries++) {
          const n = (answers * 7 + tries) % routes.length;
          const led = Atomics.load(signal, 2 + n);
          const page = (translate(port, routes[n], iova) - first) / 4096;
          answers++;
          if (page !== led % pages && page !== (led + 1) % pages) stale++;
        }
      });
    }
    parentPort.postMessage({ answers, stale, walks: port.counters.walks });
    tell(signal, LEFT);
  },

  /** Calls map and unmap by the raw exports, beside the host's thread: how often each answered what. */
  mutate({ engine, signal, domain, calls }) {
    const { exports, address } = engine;
    const answers = {};
    const note = (answer) => { answers[answer] = (answers[answer] ?? 0) + 1; };
    tell(signal, INSIDE);
    for (let n = 0; n < calls; n++) {
      note(`map ${exports.map(address, domain, 0n, 0xfffffn, 0n, 3, 63)}`);
      note(`unmap ${BigInt.asUintN(64, exports.unmap(address, domain, 0n, 0xfffffn)).toString(16)}`);
    }
    for (let tries = 0; tries < 1e6; tries++) {
      const bytes = BigInt.asUintN(64, exports.unmap(address, domain, 0n, 0xfffffn));
      if (bytes === 0n || bytes === 0x100000n) break;
    }
    parentPort.postMessage(answers);
    tell(signal, LEFT);
  },
};

parentPort.once("message", ({ token, job, buffer, ...rest }) => {
  const engine = connectEngine(token);
  const port = job === "mutate" ? undefined : engine.openPort();
  parentPort.postMessage("ready");
  JOBS[job]({ engine, port, signal: new Int32Array(buffer), ...rest });
});
