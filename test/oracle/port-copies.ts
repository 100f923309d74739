// Copies of what the ports' IOTLBs hold, and what has changed since the last copy.
// May import the layout constants and engine-state.ts, kept.ts, memory-words.ts.
//
// A port is compared with its copy only if its counters moved. On shared memory a port of another thread is read only while
// it is outside a section, and skipped otherwise: its sets may be half written.
import {
  DATA_VALID, IOTLB_SET_BYTES, PORT_ACTIVE, PORT_COUNT_LANES, PORT_COUNT_MISSES, PORT_OPENED, PORT_RING_TAIL,
} from "../../src/engine/layout.js";
import { covers, dropsSince, hex, openPorts, OracleError, type Drop, type EngineView, type PortView } from "./engine-state.js";
import { makeKept, type Kept } from "./kept.js";
import { readU32, wordsOf } from "./memory-words.js";

const SET_WORDS = IOTLB_SET_BYTES / 4;
const WAYS = 4;
/** Within a set: four tags, then four data words, 64 bits each. */
const DATA_WORDS = WAYS * 2;
/** The upper half of a tag is id (19 bits), page number [44:32] (13 bits). */
const PAGE_HIGH_BITS = 13;

interface PortCopy {
  readonly words: Uint32Array;
  readonly ways: (Kept | undefined)[];
  stamp: string;
}

/** A port that was read, its ways as they were, and what it still has to drop. */
export interface ObservedPort {
  readonly address: number;
  readonly ways: readonly (Kept | undefined)[];
  readonly pending: readonly Drop[];
}

/** Takes a new entry that is not about to be dropped: answers the record that stands for it. */
export type Keep = (id: number, page: number, data: bigint) => Kept;

export class PortCopies {
  private readonly copies = new Map<number, PortCopy>();
  /** Ports whose sections are this thread's own. */
  private readonly mine = new Set<number>();
  private readonly shared: boolean;

  constructor(private readonly engine: EngineView) {
    this.shared = !(engine.memory.buffer instanceof ArrayBuffer);
  }

  /** A port that is given up will be another's, with an IOTLB that starts empty. */
  own(port: number, mine: boolean): void {
    this.copies.delete(port);
    if (mine) this.mine.add(port);
    else this.mine.delete(port);
  }

  /** Reads every open port that can be read now. Throws an OracleError when a tag is twice in a set. */
  read(keep: Keep): ObservedPort[] {
    const observed: ObservedPort[] = [];
    for (const port of openPorts(this.engine)) {
      const pending = dropsSince(this.engine, readU32(this.engine.memory, port.address + PORT_RING_TAIL));
      const copy = this.readPort(port, pending, keep);
      if (copy) observed.push({ address: port.address, ways: copy.ways, pending });
    }
    return observed;
  }

  private readPort(port: PortView, pending: readonly Drop[], keep: Keep): PortCopy | undefined {
    const { memory } = this.engine;
    const foreign = this.shared && !this.mine.has(port.address);
    if (foreign && readU32(memory, port.address + PORT_ACTIVE) !== 0) return undefined;
    const stamp = this.stampOf(port);
    let copy = this.copies.get(port.address);
    if (copy?.stamp === stamp) return copy;
    const first = port.iotlb >>> 2;
    const now = wordsOf(memory).slice(first, first + port.sets * SET_WORDS);
    if (foreign && (readU32(memory, port.address + PORT_ACTIVE) !== 0 || this.stampOf(port) !== stamp)) return undefined;
    if (!copy) {
      copy = { words: new Uint32Array(now.length), ways: new Array<Kept | undefined>(port.sets * WAYS), stamp };
      this.copies.set(port.address, copy);
    }
    compare(port, copy, now, pending, keep);
    copy.words.set(now);
    copy.stamp = stamp;
    return copy;
  }

  /** Equal while the IOTLB is: only misses fill it, and only the ring and a new owner empty it. */
  private stampOf(port: PortView): string {
    const counts = [PORT_COUNT_MISSES, PORT_COUNT_LANES, PORT_RING_TAIL, PORT_OPENED];
    return counts.map((offset) => readU32(this.engine.memory, port.address + offset)).join();
  }
}

function compare(port: PortView, copy: PortCopy, now: Uint32Array, pending: readonly Drop[], keep: Keep): void {
  for (let set = 0; set < port.sets; set++) {
    const base = set * SET_WORDS;
    let word = base;
    while (word < base + SET_WORDS && now[word] === copy.words[word]) word++;
    if (word < base + SET_WORDS) compareSet(port, copy, now, set, pending, keep);
  }
}

function compareSet(
  port: PortView, copy: PortCopy, now: Uint32Array, set: number, pending: readonly Drop[], keep: Keep,
): void {
  const { words, ways } = copy;
  for (let way = 0; way < WAYS; way++) {
    const tag = set * SET_WORDS + way * 2;
    const data = tag + DATA_WORDS;
    const same = now[tag] === words[tag] && now[tag + 1] === words[tag + 1]
      && now[data] === words[data] && now[data + 1] === words[data + 1];
    if (same) continue;
    ways[set * WAYS + way] = undefined;
    if (!(now[data]! & Number(DATA_VALID))) continue;
    const high = now[tag + 1]!;
    const id = high >>> PAGE_HIGH_BITS;
    const page = (high & (2 ** PAGE_HIGH_BITS - 1)) * 2 ** 32 + now[tag]!;
    const value = (BigInt(now[data + 1]!) << 32n) | BigInt(now[data]!);
    const take = pending.some((drop) => covers(drop, id, page)) ? makeKept : keep;
    ways[set * WAYS + way] = take(id, page, value);
  }
  checkTwice(port, ways.slice(set * WAYS, (set + 1) * WAYS));
}

/** A hit is the OR of all ways that match, so that a tag must not be twice in a set. */
function checkTwice(port: PortView, set: readonly (Kept | undefined)[]): void {
  const tags = set.filter((kept) => kept !== undefined).map((kept) => `id ${kept.id} page ${hex(kept.page)}`);
  const twice = tags.find((tag, way) => tags.indexOf(tag) !== way);
  if (twice !== undefined) throw new OracleError(`port ${hex(port.address)} holds ${twice} twice in a set`);
}
