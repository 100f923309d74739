// The memory that an engine lives in: owned, or adopted from an emulator. Imports errors only.
// An owned memory is [one guard page | RAM | arena]; the guard page keeps offset 0 out of use.
import { EngineError, integerIn } from "./errors.js";

const WASM_PAGE = 65536;
const LIMIT = 65536 * WASM_PAGE;

/** The engine makes its own memory. */
export interface OwnedMemory {
  /** Bytes of RAM for the simulated machine, a multiple of 4096; may be 0. Default 64 MiB. */
  ram?: number;
  /** Bytes for page tables and the engine's own structures, a multiple of 4096. Default 64 MiB. */
  arena?: number;
  /** A shared memory: workers can have ports of their own. Default false. */
  shared?: boolean;
}

/** The engine moves into a memory that belongs to somebody else, shared or not, with or without a maximum. */
export interface AdoptedMemory {
  adopt: WebAssembly.Memory;
  /** Where the engine may write: offset and length in bytes, multiples of 4096. Nothing else is touched. */
  arena: { offset: number; length: number };
}

export interface Placement {
  memory: WebAssembly.Memory;
  shared: boolean;
  arenaOffset: number;
  arenaLength: number;
  /** RAM of an owned memory. */
  ramOffset: number;
  ramLength: number;
}

function pageMultiple(field: string, value: unknown, least: number): number {
  const bytes = integerIn(field, value, least, LIMIT);
  if (bytes % 4096 !== 0) throw new EngineError("BAD_OPTION", `must be a multiple of 4096, not ${bytes}`, field, bytes);
  return bytes;
}

function isShared(memory: WebAssembly.Memory): boolean {
  return typeof SharedArrayBuffer !== "undefined" && memory.buffer instanceof SharedArrayBuffer;
}

function adopt(options: AdoptedMemory): Placement {
  const memory = options.adopt;
  if (!(memory instanceof WebAssembly.Memory)) throw new EngineError("BAD_OPTION", "must be a WebAssembly.Memory", "memory.adopt", memory);
  const arenaOffset = pageMultiple("memory.arena.offset", options.arena?.offset, 4096);
  const arenaLength = pageMultiple("memory.arena.length", options.arena?.length, 4096);
  if (arenaOffset + arenaLength > memory.buffer.byteLength) {
    throw new EngineError("BAD_OPTION", `the arena ends at ${arenaOffset + arenaLength}, the memory at ${memory.buffer.byteLength}`,
      "memory.arena", options.arena);
  }
  return { memory, shared: isShared(memory), arenaOffset, arenaLength, ramOffset: 0, ramLength: 0 };
}

function own(options: OwnedMemory): Placement {
  const ramLength = pageMultiple("memory.ram", options.ram ?? 64 << 20, 0);
  const arenaLength = pageMultiple("memory.arena", options.arena ?? 64 << 20, 4096);
  const shared = options.shared ?? false;
  if (typeof shared !== "boolean") throw new EngineError("BAD_OPTION", "must be a boolean", "memory.shared", shared);
  const arenaOffset = WASM_PAGE + ramLength;
  const pages = Math.ceil((arenaOffset + arenaLength) / WASM_PAGE);
  if (pages > 65536) {
    throw new EngineError("BAD_OPTION", `RAM and arena need ${pages} pages of 64 KiB; WebAssembly has 65536`, "memory", options);
  }
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
    return { memory, shared, arenaOffset, arenaLength, ramOffset: WASM_PAGE, ramLength };
  } catch (cause) {
    throw new EngineError("BAD_OPTION", `this machine cannot give ${pages * WASM_PAGE} bytes: ${String(cause)}`, "memory", options);
  }
}

/** Where the engine will live; throws EngineError BAD_OPTION naming the field. */
export function placeEngine(options: OwnedMemory | AdoptedMemory = {}): Placement {
  if (typeof options !== "object" || options === null) throw new EngineError("BAD_OPTION", "must be an object", "memory", options);
  return "adopt" in options ? adopt(options) : own(options);
}
