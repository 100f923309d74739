// A pool of requests in a port's own buffer, taken batch by batch. A batch is chosen by moving the port's window over the
// pool: a store of one word, so that nothing is copied and every batch of 1024 lies elsewhere in memory.
import * as L from "../dist/engine/layout.js";

/** Lanes of a batch in every row. */
export const BATCH = 1024;

export class RequestPool {
  /** Lanes first..first + lanes - 1 of the port's buffer; lanes is a multiple of BATCH. */
  constructor(engine, port, first, lanes) {
    this.port = port;
    this.lanes = lanes;
    this.batches = lanes / BATCH;
    /** u32 words, 4 a lane: iova low, iova high, route, L.PERM_*. */
    this.requests = port.requests.subarray(first * 4, (first + lanes) * 4);
    /** The same bytes as u64 words, 2 a lane. */
    this.wide = new BigUint64Array(this.requests.buffer, this.requests.byteOffset, lanes * 2);
    /** Results of the last batch, u32 words, 2 a lane. */
    this.results = port.results.subarray(0, BATCH * 2);
    this.words = new Uint32Array(engine.memory.buffer);
    this.windowWord = (port.address + L.PORT_REQUESTS) >>> 2;
  }

  set(lane, iova, route, need) {
    this.requests.set([iova % 0x100000000, iova / 0x100000000, route, need], lane * 4);
  }

  /** Throws unless the engine answers every request of the pool with its iova plus `delta`. */
  expectOffset(delta) {
    this.expect((iova) => iova + delta);
  }

  /** Throws unless the engine answers every request of the pool with hpaOf(iova). */
  expect(hpaOf) {
    for (let batch = 0; batch < this.batches; batch++) {
      this.select(batch);
      this.port.batch((port) => port.translate(BATCH));
      for (let lane = 0; lane < BATCH; lane++) {
        const [low, high] = this.requests.subarray((batch * BATCH + lane) * 4, (batch * BATCH + lane) * 4 + 2);
        const iova = high * 2 ** 32 + low;
        const wanted = hpaOf(iova);
        const got = (this.results[lane * 2 + 1] & 0x80ffffff) * 2 ** 32 + this.results[lane * 2];
        if (got !== wanted) throw new Error(`0x${iova.toString(16)} is answered with 0x${got.toString(16)}, not 0x${wanted.toString(16)}`);
      }
    }
  }

  /** Makes batch 0..batches-1 the port's requests. */
  select(batch) {
    this.words[this.windowWord] = this.requests.byteOffset + batch * BATCH * L.REQUEST_BYTES;
  }
}

/** The engine's variant: batches through the public port, section included. */
export function engineVariant(name, pool) {
  const translate = (port) => port.translate(BATCH);
  return {
    name,
    calls: pool.batches,
    output: pool.results,
    run(batch) {
      pool.select(batch);
      pool.port.batch(translate);
    },
  };
}

/** A native kernel over the same requests, routes and results: kernel(port address, lanes). */
export function nativeVariant(name, pool, kernel) {
  const { address } = pool.port;
  return {
    name,
    calls: pool.batches,
    output: pool.results,
    run(batch) {
      pool.select(batch);
      kernel(address, BATCH);
    },
  };
}
