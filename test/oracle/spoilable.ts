// A small engine that no oracle watches, with the means to spoil its memory: what the oracles' own tests work on.
// May import the engine and the other oracles.
import { expect } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import { FORMAT_VTD_SECOND, IOTLB_DATA, IOTLB_SET_BYTES, PERM_R, PERM_W, PORT_IOTLB } from "../../src/engine/layout.js";
import type { Port } from "../../src/engine/port.js";
import { releaseFromOracles } from "./instrument.js";
import { readU32, readU64 } from "./memory-words.js";

export const RW = PERM_R | PERM_W;
export const PAGE = 0x1000n;
const SETS = 16;

export interface SpoilableOptions {
  /** Default VT-d second stage. */
  readonly format?: number;
  readonly trackDirty?: boolean;
  /** Leave it to the oracles that the setup has installed. */
  readonly watched?: boolean;
}

/** One domain of 39 bits, one route to it, one open port of 16 sets. */
export class Spoilable {
  private constructor(readonly engine: Engine, readonly port: Port, readonly domain: number, readonly route: number) {}

  static async create(options: SpoilableOptions = {}): Promise<Spoilable> {
    const engine = await Engine.create({
      memory: { ram: 0, arena: 1 << 20 }, routes: 8, domains: 4, ports: { count: 2, iotlbSets: SETS, lanes: 16 },
    });
    if (!options.watched) releaseFromOracles(engine);
    const port = engine.openPort();
    const { format = FORMAT_VTD_SECOND, trackDirty = false } = options;
    const domain = engine.createDomain({ format, levels: 3, width: 39, outputWidth: 48, ...(trackDirty ? { accessed: "set", dirty: "set" } : {}) });
    const route = engine.route(0x20);
    engine.attachRoute(route, domain);
    return new Spoilable(engine, port, domain, route);
  }

  /** A word of the engine header. */
  header(offset: number): number {
    return readU32(this.engine.memory, this.engine.address + offset);
  }

  load32(address: number): number {
    return readU32(this.engine.memory, address);
  }

  load64(address: number): bigint {
    return readU64(this.engine.memory, address);
  }

  store16(address: number, word: number): void {
    new DataView(this.engine.memory.buffer).setUint16(address, word, true);
  }

  store32(address: number, word: number): void {
    new DataView(this.engine.memory.buffer).setUint32(address, word, true);
  }

  store64(address: number, word: bigint): void {
    new DataView(this.engine.memory.buffer).setBigUint64(address, word, true);
  }

  /** Address of the entry that ends the walk of iova. */
  pteOf(iova: bigint): number {
    return Number(this.engine.walk(this.domain, iova, 0).steps.at(-1)!.address);
  }

  /** Changes that entry behind the engine's back. */
  spoilPte(iova: bigint, change: (pte: bigint) => bigint): void {
    const address = this.pteOf(iova);
    this.store64(address, change(this.load64(address)));
  }

  /** Address of the first data word of the IOTLB that is not empty; its tag is IOTLB_DATA before. */
  firstData(): number {
    const iotlb = this.load32(this.port.address + PORT_IOTLB);
    for (let way = 0; way < SETS * 4; way++) {
      const address = iotlb + Math.floor(way / 4) * IOTLB_SET_BYTES + (way % 4) * 8 + IOTLB_DATA;
      if (this.load64(address) !== 0n) return address;
    }
    throw new Error("the IOTLB is empty");
  }

  /** Maps first..last. */
  map(first: bigint, last: bigint, hpa: bigint, perm = RW): void {
    expect(this.engine.map(this.domain, first, last, hpa, perm)).toBe(0);
  }

  /** The scalar call; true if it was translated. */
  use(iova: bigint, need: number): boolean {
    return this.port.translateHalves(Number(iova & 0xffff_ffffn), Number(iova >> 32n), this.route, need);
  }

  /** Maps one page and translates it, so that the IOTLB has it. */
  mapAndUse(iova: bigint, hpa: bigint, perm = RW): void {
    this.map(iova, iova + PAGE - 1n, hpa, perm);
    expect(this.use(iova, perm)).toBe(true);
  }

  unmap(first: bigint, last: bigint): void {
    expect(this.engine.unmap(this.domain, first, last)).toBe(last - first + 1n);
  }
}
