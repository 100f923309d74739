// The frame oracle: every table frame is accounted for exactly once, and the engine's counts are those of the tables.
// May import the layout constants and the other oracles. Tables are read with the reference decoder.
// A block is 2^order frames, aligned to its size in memory. Lists hold the index + 1 of its first frame, so that 0 ends them.
import {
  ENGINE_FRAME_COUNT, ENGINE_FRAME_FREE, ENGINE_FRAME_LIMBO, ENGINE_FRAME_LIMBO_LAST, ENGINE_FRAME_LIVE, ENGINE_FRAME_NEXT,
  ENGINE_FRAMES, ENGINE_FRAMES_LIMBO, ENGINE_FRAMES_USED, FRAME_BYTES, FRAME_ORDERS,
} from "../../src/engine/layout.js";
import { header, hex, liveDomains, OracleError, type EngineView, type LiveDomain } from "./engine-state.js";
import { readU16, readU32, wordsOf } from "./memory-words.js";
import { decodeReference } from "./reference/formats.js";

const PTE_BYTES = 8;

/** Whose each frame is. Claiming one twice, or half of what a block must be, throws. */
class Claims {
  private readonly owners = new Map<number, string>();
  private readonly frames: number;
  private readonly base: number;

  constructor(engine: EngineView) {
    this.frames = header(engine, ENGINE_FRAME_COUNT);
    this.base = header(engine, ENGINE_FRAMES);
  }

  take(frame: number, order: number, owner: string): void {
    const bytes = FRAME_BYTES * 2 ** order;
    if (!Number.isInteger(frame) || frame < 0 || frame + 2 ** order > this.frames) {
      throw new OracleError(`frame ${frame}, order ${order}, is ${owner} and no block of the pool`);
    }
    if ((this.base + frame * FRAME_BYTES) % bytes !== 0) throw new OracleError(`frame ${frame} is ${owner} and not aligned to ${bytes} bytes`);
    for (let each = frame; each < frame + 2 ** order; each++) {
      const other = this.owners.get(each);
      if (other !== undefined) throw new OracleError(`frame ${each} is ${other} and ${owner}`);
      this.owners.set(each, owner);
    }
  }

  get size(): number {
    return this.owners.size;
  }

  /** A frame that nobody claimed: it was lost. */
  missing(): number | undefined {
    for (let frame = 0; frame < this.frames; frame++) if (!this.owners.has(frame)) return frame;
    return undefined;
  }
}

function liveCount(engine: EngineView, frame: number): number {
  return readU16(engine.memory, header(engine, ENGINE_FRAME_LIVE) + frame * 2);
}

/** Claims the blocks of a list; answers the first frame of the last one + 1, 0 for an empty list. */
function claimList(engine: EngineView, claims: Claims, first: number, order: number, owner: string): number {
  let last = 0;
  for (let link = first; link !== 0; link = readU32(engine.memory, header(engine, ENGINE_FRAME_NEXT) + (link - 1) * 4)) {
    claims.take(link - 1, order, owner);
    for (let frame = link - 1; frame < link - 1 + 2 ** order; frame++) {
      const live = liveCount(engine, frame);
      if (live !== 0) throw new OracleError(`frame ${frame} is ${owner} and counts ${live} entries`);
    }
    last = link;
  }
  return last;
}

/** Claims the table at `address` and all below it, and compares its live count with its present entries. */
function claimTable(engine: EngineView, claims: Claims, domain: LiveDomain, address: number, level: number): void {
  const { memory } = engine;
  const frame = (address - header(engine, ENGINE_FRAMES)) / FRAME_BYTES;
  const order = Math.max(0, Math.log2((domain.entries * PTE_BYTES) / FRAME_BYTES));
  claims.take(frame, order, `the level ${level} table of domain ${domain.index} at ${hex(address)}`);
  const words = wordsOf(memory);
  let present = 0;
  for (let index = 0; index < domain.entries; index++) {
    const at = address + index * PTE_BYTES;
    const low = words[at >>> 2]!;
    const high = words[(at >>> 2) + 1]!;
    if (low === 0 && high === 0) continue;
    const pte = (BigInt(high) << 32n) | BigInt(low);
    const entry = decodeReference(domain.table, pte, level);
    if (entry.kind !== "table" && entry.kind !== "leaf") {
      throw new OracleError(`domain ${domain.index}, level ${level}, entry ${index}: ${hex(pte)} reads as ${entry.kind}`);
    }
    present++;
    if (entry.kind === "table") claimTable(engine, claims, domain, Number(entry.address), entry.level);
  }
  const counted = liveCount(engine, frame);
  if (counted !== present) {
    throw new OracleError(`frame ${frame}, domain ${domain.index}, level ${level}: counts ${counted} entries, has ${present}`);
  }
}

/**
 * Every frame is in a live domain's table, on a free list or in limbo, and in one of them only; the frames in use are the
 * tables and the limbo; each table counts its present entries, and nothing else does. Throws an OracleError otherwise.
 * @returns the number of frames of tables
 */
export function expectNoLeaks(engine: EngineView): number {
  const claims = new Claims(engine);
  for (const domain of liveDomains(engine)) {
    if (domain.guest) continue;
    for (let n = 0; n < domain.startTables; n++) {
      claimTable(engine, claims, domain, Number(domain.table.root) + n * domain.entries * PTE_BYTES, domain.table.levels - 1);
    }
  }
  const tables = claims.size;
  for (let order = 0; order < FRAME_ORDERS; order++) {
    const list = (offset: number): number => header(engine, offset + order * 4);
    const limboLast = claimList(engine, claims, list(ENGINE_FRAME_LIMBO), order, "in limbo");
    if (limboLast !== 0 && limboLast !== list(ENGINE_FRAME_LIMBO_LAST)) {
      throw new OracleError("the limbo list does not end at its last frame");
    }
  }
  const limbo = claims.size - tables;
  if (header(engine, ENGINE_FRAMES_LIMBO) !== limbo) {
    throw new OracleError(`${header(engine, ENGINE_FRAMES_LIMBO)} frames are counted as limbo; its lists have ${limbo}`);
  }
  const used = header(engine, ENGINE_FRAMES_USED);
  if (used !== claims.size) throw new OracleError(`${used} frames are counted as used; tables and limbo have ${claims.size}`);
  for (let order = 0; order < FRAME_ORDERS; order++) {
    claimList(engine, claims, header(engine, ENGINE_FRAME_FREE + order * 4), order, "free");
  }
  const lost = claims.missing();
  if (lost !== undefined) throw new OracleError(`frame ${lost} is lost: in no table, not free, not in limbo`);
  return tables;
}
