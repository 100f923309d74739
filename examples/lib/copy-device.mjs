// A small device, for examples and tests: it copies memory. Work comes as descriptors of 64 bytes, by ENQCMD or by a doorbell, each with
// a PASID; all DMA is for that PASID and waits for page requests, so the guest may hand it pages that are not there yet. Imports nothing.
//
//   descriptor   length 63..32 | operation 31..0 | source | destination | completion | tag | 3 words that are not looked at
//   completion   status | bytes copied | address that was refused | tag                    (64-bit words, little-endian)
// @ts-check

export const DESCRIPTOR_BYTES = 64;
export const COMPLETION_BYTES = 32;
export const COPY = 1;
/** Status in a completion. The guest writes 0 before it submits, and waits until it changes. */
export const DONE = 1;
export const REFUSED = 2;
export const UNKNOWN = 3;
/** Bytes that are read before they are written. */
const PIECE = 4096n;

/**
 * What it needs of a view of memory, and of its place in the host.
 * @typedef {{ read(iova: bigint, length: number): Promise<Uint8Array>, write(iova: bigint, bytes: Uint8Array): Promise<void> }} View
 * @typedef {{
 *   name: string, dma(pasid?: number): View, onEnqcmd(handler: ((descriptor: Uint8Array, dma: View) => boolean) | undefined): void,
 * }} Place
 */

/**
 * @param {{ source: bigint, destination: bigint, length: number, completion: bigint, tag?: bigint, operation?: number }} work
 * @returns {Uint8Array} its descriptor
 */
export function descriptor({ source, destination, length, completion, tag = 0n, operation = COPY }) {
  const words = new BigUint64Array(DESCRIPTOR_BYTES / 8);
  words.set([(BigInt(length) << 32n) | BigInt(operation), source, destination, completion, tag]);
  return new Uint8Array(words.buffer);
}

/** @param {Uint8Array} bytes @returns {{ status: number, copied: bigint, refused: bigint, tag: bigint }} */
export function completion(bytes) {
  const [status = 0n, copied = 0n, refused = 0n, tag = 0n] = new BigUint64Array(bytes.slice(0, COMPLETION_BYTES).buffer);
  return { status: Number(status), copied, refused, tag };
}

export class CopyDevice {
  /** Descriptors that are being worked on. */
  #running = /** @type {Set<Promise<void>>} */ (new Set());
  #place;
  #room;
  /** Completions that could not be written: nobody can be told. */
  lost = 0;

  /** @param {Place} place `host.device(name)` @param {{ room?: number }} options descriptors that it works on at once */
  constructor(place, { room = 8 } = {}) {
    this.#place = place;
    this.#room = room;
  }

  /** From here on it takes ENQCMD. */
  openPortal() {
    this.#place.onEnqcmd((bytes, dma) => this.#take(bytes, dma));
  }

  closePortal() {
    this.#place.onEnqcmd(undefined);
  }

  /** Work as a driver hands it over that names the PASID itself; false: there is no room. @param {Uint8Array} bytes @param {number} [pasid] */
  doorbell(bytes, pasid) {
    return this.#take(bytes, this.#place.dma(pasid));
  }

  /** Resolves when all work is done that has been accepted so far. */
  async idle() {
    await Promise.all(this.#running);
  }

  /** @param {Uint8Array} bytes @param {View} dma */
  #take(bytes, dma) {
    if (this.#running.size >= this.#room) return false;
    const work = this.#work(bytes, dma).catch(() => void this.lost++).finally(() => this.#running.delete(work));
    this.#running.add(work);
    return true;
  }

  /** @param {Uint8Array} bytes @param {View} dma */
  async #work(bytes, dma) {
    const [what = 0n, source = 0n, destination = 0n, report = 0n, tag = 0n] = new BigUint64Array(bytes.slice().buffer);
    const isCopy = (what & 0xffffffffn) === BigInt(COPY);
    const { status, copied, refused } = isCopy ? await this.#copy(dma, source, destination, what >> 32n) : { status: UNKNOWN, copied: 0n, refused: 0n };
    const words = BigUint64Array.of(BigInt(status), copied, refused, tag);
    await dma.write(report, new Uint8Array(words.buffer));
  }

  /** @param {View} dma @param {bigint} source @param {bigint} destination @param {bigint} length */
  async #copy(dma, source, destination, length) {
    let copied = 0n;
    try {
      while (copied < length) {
        const n = length - copied < PIECE ? length - copied : PIECE;
        await dma.write(destination + copied, await dma.read(source + copied, Number(n)));
        copied += n;
      }
    } catch (fault) {
      if (!(fault instanceof Error && "iova" in fault)) throw fault;
      return { status: REFUSED, copied, refused: /** @type {bigint} */ (fault.iova) };
    }
    return { status: DONE, copied, refused: 0n };
  }
}
