// The frame oracle: every table frame is accounted for exactly once, and the engine's counts are those of the tables.
// May import the layout constants and the other oracles. Tables are read with the reference decoder.
// Frame lists hold index + 1, so that 0 ends them.
import {
  ENGINE_FRAME_COUNT, ENGINE_FRAME_FREE, ENGINE_FRAME_FRESH, ENGINE_FRAME_LIMBO, ENGINE_FRAME_LIMBO_LAST,
  ENGINE_FRAME_LIVE, ENGINE_FRAME_NEXT, ENGINE_FRAMES, ENGINE_FRAMES_USED, FRAME_BYTES,
} from "../../src/engine/layout.js";
import { header, hex, liveDomains, OracleError, type EngineView, type LiveDomain } from "./engine-state.js";
import { readU16, readU32, wordsOf } from "./memory-words.js";
import { decodeReference } from "./reference.js";

const PTES = FRAME_BYTES / 8;

/** Whose each frame below `fresh` is: the others were never handed out. Claiming one twice throws. */
class Claims {
  private readonly owners = new Map<number, string>();
  constructor(private readonly fresh: number) {}

  take(frame: number, owner: string): void {
    const other = this.owners.get(frame);
    if (other !== undefined) throw new OracleError(`frame ${frame} is ${other} and ${owner}`);
    if (!Number.isInteger(frame) || frame < 0 || frame >= this.fresh) {
      throw new OracleError(`frame ${frame} was never handed out and is ${owner}`);
    }
    this.owners.set(frame, owner);
  }

  get size(): number {
    return this.owners.size;
  }

  /** A frame that nobody claimed: it was lost. */
  missing(): number | undefined {
    for (let frame = 0; frame < this.fresh; frame++) if (!this.owners.has(frame)) return frame;
    return undefined;
  }
}

/** Claims a list of frames; answers the last one's index + 1, 0 for an empty list. */
function claimList(engine: EngineView, claims: Claims, first: number, owner: string): number {
  let last = 0;
  for (let link = first; link !== 0; link = readU32(engine.memory, header(engine, ENGINE_FRAME_NEXT) + (link - 1) * 4)) {
    claims.take(link - 1, owner);
    last = link;
  }
  return last;
}

/** Claims the table at `address` and all below it, and compares each frame's live count with its present entries. */
function claimTable(engine: EngineView, claims: Claims, domain: LiveDomain, address: number, level: number): void {
  const { memory } = engine;
  const frame = (address - header(engine, ENGINE_FRAMES)) / FRAME_BYTES;
  claims.take(frame, `the level ${level} table of domain ${domain.index} at ${hex(address)}`);
  const words = wordsOf(memory);
  let present = 0;
  for (let index = 0; index < PTES; index++) {
    const at = address + index * 8;
    const low = words[at >>> 2]!;
    const high = words[(at >>> 2) + 1]!;
    if (low === 0 && high === 0) continue;
    const pte = (BigInt(high) << 32n) | BigInt(low);
    const entry = decodeReference(domain.table, pte, level);
    if (entry.kind === "empty" || entry.kind === "reserved") {
      throw new OracleError(`domain ${domain.index}, level ${level}, entry ${index}: ${hex(pte)} reads as ${entry.kind}`);
    }
    present++;
    if (entry.kind === "table") claimTable(engine, claims, domain, Number(entry.address), entry.level);
  }
  const counted = readU16(memory, header(engine, ENGINE_FRAME_LIVE) + frame * 2);
  if (counted !== present) {
    throw new OracleError(`frame ${frame}, domain ${domain.index}, level ${level}: counts ${counted} entries, has ${present}`);
  }
}

/**
 * Every frame is in a live domain's table, on the free list, in limbo or fresh, and in one of them only; the frames in use
 * are the tables and the limbo; each table counts its present entries. Throws an OracleError otherwise.
 * @returns the number of table frames
 */
export function expectNoLeaks(engine: EngineView): number {
  const fresh = header(engine, ENGINE_FRAME_FRESH);
  if (fresh > header(engine, ENGINE_FRAME_COUNT)) throw new OracleError(`frame ${fresh} is fresh and none of the frames`);
  const claims = new Claims(fresh);
  for (const domain of liveDomains(engine)) {
    if (!domain.guest) claimTable(engine, claims, domain, Number(domain.table.root), domain.table.levels - 1);
  }
  const tables = claims.size;
  const limboLast = claimList(engine, claims, header(engine, ENGINE_FRAME_LIMBO), "in limbo");
  if (limboLast !== 0 && limboLast !== header(engine, ENGINE_FRAME_LIMBO_LAST)) {
    throw new OracleError("the limbo list does not end at its last frame");
  }
  const used = header(engine, ENGINE_FRAMES_USED);
  if (used !== claims.size) throw new OracleError(`${used} frames are counted as used; tables and limbo have ${claims.size}`);
  claimList(engine, claims, header(engine, ENGINE_FRAME_FREE), "free");
  const lost = claims.missing();
  if (lost !== undefined) throw new OracleError(`frame ${lost} is lost: in no table, not free, not in limbo, not fresh`);
  return tables;
}
