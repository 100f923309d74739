// Words of a WebAssembly.Memory by byte offset, for the oracles. Imports nothing.
// Views are kept per memory and made anew when its buffer is another one (growth). Words are little-endian.

interface Views {
  readonly buffer: ArrayBufferLike;
  readonly data: DataView;
  readonly words: Uint32Array;
}

const kept = new WeakMap<WebAssembly.Memory, Views>();

function viewsOf(memory: WebAssembly.Memory): Views {
  const buffer: ArrayBufferLike = memory.buffer;
  let views = kept.get(memory);
  if (views?.buffer !== buffer) {
    views = { buffer, data: new DataView(buffer), words: new Uint32Array(buffer) };
    kept.set(memory, views);
  }
  return views;
}

/** The memory as 32-bit words, index = byte offset / 4. Not to be held across a call that may grow the memory. */
export function wordsOf(memory: WebAssembly.Memory): Uint32Array {
  return viewsOf(memory).words;
}

/** Throws a RangeError outside the memory, as the other readers do. */
export function readU16(memory: WebAssembly.Memory, address: number): number {
  return viewsOf(memory).data.getUint16(address, true);
}

export function readU32(memory: WebAssembly.Memory, address: number): number {
  return viewsOf(memory).data.getUint32(address, true);
}

export function readU64(memory: WebAssembly.Memory, address: number): bigint {
  return viewsOf(memory).data.getBigUint64(address, true);
}
