// One event line of the trace format (parse.ts shows it) into one row of a trace, checking every field.
// Imports line-fields.ts and trace.ts. A range is iova and size, as in the text, and may end at 2^64.

import { LF, type LineFields, type Shape } from "./line-fields.js";
import {
  ALL_DOMAINS,
  FLAG_ALL,
  FLAG_FAULT,
  FLAG_READ,
  FLAG_STALE,
  FLAG_WRITE,
  MAX_REASONS,
  NO_PASID,
  OP_ATTACH,
  OP_DETACH,
  OP_DMA,
  OP_INVALIDATE,
  OP_MAP,
  OP_UNMAP,
  Trace,
} from "./trace.js";

/** The highest domain: the number above it stands for all domains. */
const MAX_DOMAIN = ALL_DOMAINS - 1;
const MAX_RID = 0xffff;
const MAX_PASID = 0xfffff;

const TWO_TO_32 = 2 ** 32;
const PAGE_MASK = 0xfff;
const HASH = 0x23;
const STAR = 0x2a;
const DASH = 0x2d;
const LETTER_F = 0x66;
const LETTER_R = 0x72;
const LETTER_W = 0x77;
const FAULT = "fault:";

const encoder = new TextEncoder();
const MAP_WORD = encoder.encode("map");
const UNMAP_WORD = encoder.encode("unmap");
const ATTACH_WORD = encoder.encode("attach");
const DETACH_WORD = encoder.encode("detach");
const INV_WORD = encoder.encode("inv");
const DMA_WORD = encoder.encode("dma");
const ALL_WORD = encoder.encode("all");
const RW_WORD = encoder.encode("rw");
const STALE_WORD = encoder.encode("stale");

const MAP: Shape = { event: "map", names: ["domain", "iova", "out", "size", "perm"], min: 5 };
const UNMAP: Shape = { event: "unmap", names: ["domain", "iova", "size"], min: 3 };
const ATTACH: Shape = { event: "attach", names: ["domain", "rid", "pasid"], min: 2 };
const DETACH: Shape = { event: "detach", names: ["domain", "rid", "pasid"], min: 2 };
const INV: Shape = { event: "inv", names: ["domain", "iova", "size"], min: 3 };
const INV_ALL: Shape = { event: "inv", names: ["domain", "all"], min: 2 };
const DMA: Shape = { event: "dma", names: ["rid", "pasid", "iova", "len", "access", "answer", "stale"], min: 6 };

/** Whether start + size is above 2^64; the halves are unsigned. */
function runsPast(lo: number, hi: number, sizeLo: number, sizeHi: number): boolean {
  if (hi + sizeHi < TWO_TO_32 - 1) return false;
  const low = lo + sizeLo;
  const high = hi + sizeHi + (low >= TWO_TO_32 ? 1 : 0);
  return high > TWO_TO_32 || (high === TWO_TO_32 && low % TWO_TO_32 !== 0);
}

/** Rows are first written in blocks: one copy at the end costs less than arrays that grow. */
const BLOCK_ROWS = 8192;

/** Collects events. `read` throws TraceError and adds nothing for a line that it refuses. */
export class EventParser {
  readonly #fields: LineFields;
  readonly #header: Map<string, string>;
  readonly #reasons: string[] = [];
  readonly #reasonIndex = new Map<string, number>();
  readonly #blocks: Trace[] = [];
  /** The last block, and the number of its rows that are filled. */
  #trace: Trace;
  #rows = 0;

  /** @param fields where `read` finds its line. @param header what the trace gets as its header. */
  constructor(fields: LineFields, header: Map<string, string>) {
    this.#fields = fields;
    this.#header = header;
    this.#trace = this.#addBlock();
  }

  /** Adds the event of the line that was scanned last. */
  read(): void {
    const fields = this.#fields;
    const trace = this.#trace;
    const row = this.#rows;
    trace.line[row] = fields.line;
    trace.pasid[row] = NO_PASID;
    if (fields.isWord(0, DMA_WORD)) this.#dma(row);
    else if (fields.isWord(0, MAP_WORD)) this.#map(row);
    else if (fields.isWord(0, UNMAP_WORD)) this.#unmap(row);
    else if (fields.isWord(0, INV_WORD)) this.#invalidate(row);
    else if (fields.isWord(0, ATTACH_WORD)) this.#attach(row, OP_ATTACH, ATTACH);
    else if (fields.isWord(0, DETACH_WORD)) this.#attach(row, OP_DETACH, DETACH);
    else this.#refuseEvent();
    if (++this.#rows === BLOCK_ROWS) this.#trace = this.#addBlock();
  }

  /** The trace of all events. */
  end(): Trace {
    const full = this.#blocks.length - 1;
    const trace = new Trace(full * BLOCK_ROWS + this.#rows, this.#header, this.#reasons);
    for (let i = 0; i < full; i++) trace.copyRows(i * BLOCK_ROWS, this.#blocks[i]!, 0, BLOCK_ROWS - 1);
    trace.copyRows(full * BLOCK_ROWS, this.#trace, 0, this.#rows - 1);
    return trace;
  }

  #addBlock(): Trace {
    const block = new Trace(BLOCK_ROWS, this.#header, this.#reasons);
    this.#blocks.push(block);
    this.#rows = 0;
    return block;
  }

  #refuseEvent(): never {
    const fields = this.#fields;
    const first = fields.firstByte(0);
    if (first === HASH) fields.refuse("`#` lines may stand only at the top");
    if (first === LF) fields.refuse("empty line");
    return fields.refuseField(0, "is unknown: not map, unmap, attach, detach, inv or dma");
  }

  #map(row: number): void {
    const fields = this.#fields;
    const trace = this.#trace;
    fields.expect(MAP);
    trace.ops[row] = OP_MAP;
    trace.subject[row] = fields.decimal(1, MAX_DOMAIN);
    this.#range(row, 2, 4, PAGE_MASK);
    this.#out(row, 3, PAGE_MASK);
    const perm = fields.isWord(5, RW_WORD) ? FLAG_READ | FLAG_WRITE : this.#readOrWrite(5);
    if (perm === 0) fields.refuseField(5, "is not r, w or rw");
    trace.flags[row] = perm;
  }

  #unmap(row: number): void {
    this.#fields.expect(UNMAP);
    this.#trace.ops[row] = OP_UNMAP;
    this.#trace.subject[row] = this.#fields.decimal(1, MAX_DOMAIN);
    this.#range(row, 2, 3, PAGE_MASK);
  }

  #attach(row: number, op: number, shape: Shape): void {
    const fields = this.#fields;
    fields.expect(shape);
    this.#trace.ops[row] = op;
    this.#trace.subject[row] = fields.decimal(1, MAX_DOMAIN);
    this.#trace.target[row] = fields.hex(2, MAX_RID);
    if (fields.count > 3) this.#trace.pasid[row] = this.#pasid(3);
  }

  #invalidate(row: number): void {
    const fields = this.#fields;
    const trace = this.#trace;
    const all = fields.count > 2 && fields.isWord(2, ALL_WORD);
    fields.expect(all ? INV_ALL : INV);
    trace.ops[row] = OP_INVALIDATE;
    trace.subject[row] = fields.isLetter(1, STAR) ? ALL_DOMAINS : fields.decimal(1, MAX_DOMAIN);
    if (all) {
      trace.flags[row] = FLAG_ALL;
      return;
    }
    this.#range(row, 2, 3, PAGE_MASK);
  }

  #dma(row: number): void {
    const fields = this.#fields;
    const trace = this.#trace;
    fields.expect(DMA);
    const pasid = fields.isLetter(2, DASH) ? NO_PASID : this.#pasid(2);
    trace.ops[row] = OP_DMA;
    trace.subject[row] = fields.hex(1, MAX_RID);
    trace.target[row] = pasid;
    trace.pasid[row] = pasid;
    this.#range(row, 3, 4, 0);
    let flags = this.#readOrWrite(5);
    if (flags === 0) fields.refuseField(5, "is not r or w");
    if (fields.firstByte(6) === LETTER_F) flags |= this.#fault(row, 6);
    else this.#out(row, 6, 0);
    if (fields.count > 7) {
      if (!fields.isWord(7, STALE_WORD)) fields.refuseField(7, "is not the word stale");
      flags |= FLAG_STALE;
    }
    trace.flags[row] = flags;
  }

  #fault(row: number, field: number): number {
    const reasons = this.#reasons;
    const text = this.#fields.text(field);
    if (!text.startsWith(FAULT) || text === FAULT) this.#fields.refuseField(field, "is neither an address nor fault:<reason>");
    const reason = text.slice(FAULT.length);
    let index = this.#reasonIndex.get(reason);
    if (index === undefined) {
      if (reasons.length === MAX_REASONS) this.#fields.refuse(`more than ${MAX_REASONS} different fault reasons`);
      index = reasons.push(reason);
      this.#reasonIndex.set(reason, index);
    }
    this.#trace.reason[row] = index;
    return FLAG_FAULT;
  }

  /** FLAG_READ or FLAG_WRITE; 0 for any other field. */
  #readOrWrite(field: number): number {
    if (this.#fields.isLetter(field, LETTER_R)) return FLAG_READ;
    return this.#fields.isLetter(field, LETTER_W) ? FLAG_WRITE : 0;
  }

  #pasid(field: number): number {
    const fields = this.#fields;
    return fields.looksHex(field) ? fields.hex(field, MAX_PASID) : fields.decimal(field, MAX_PASID);
  }

  /** Reads the fields of the iova and the size. */
  #range(row: number, iova: number, size: number, mask: number): void {
    const fields = this.#fields;
    const { lo, hi } = fields;
    const trace = this.#trace;
    fields.expectHex(iova, mask);
    fields.expectHex(size, mask);
    trace.iovaLo[row] = lo[iova]!;
    trace.iovaHi[row] = hi[iova]!;
    trace.sizeLo[row] = lo[size]!;
    trace.sizeHi[row] = hi[size]!;
    if (lo[size] === 0 && hi[size] === 0) fields.refuseField(size, "is zero");
    if (runsPast(lo[iova]!, hi[iova]!, lo[size]!, hi[size]!)) this.#refuseEnd(row, size, trace.iova(row));
  }

  /** Reads the field of the output address; the size of the row is known. */
  #out(row: number, out: number, mask: number): void {
    const { lo, hi } = this.#fields;
    const trace = this.#trace;
    this.#fields.expectHex(out, mask);
    trace.outLo[row] = lo[out]!;
    trace.outHi[row] = hi[out]!;
    if (runsPast(lo[out]!, hi[out]!, trace.sizeLo[row]!, trace.sizeHi[row]!)) this.#refuseEnd(row, out, trace.out(row));
  }

  #refuseEnd(row: number, field: number, start: bigint): never {
    const size = this.#trace.size(row).toString(16);
    return this.#fields.refuseField(field, `lets the range of 0x${size} bytes at 0x${start.toString(16)} run past 2^64`);
  }
}
