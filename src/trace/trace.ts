// A parsed trace: one typed array per property of an event, one row per event, in the order of occurrence.
// Imports nothing. Page ranges are inclusive, first..last, in units of 4 KiB. The text form is in parse.ts.

export const OP_MAP = 0;
export const OP_UNMAP = 1;
export const OP_ATTACH = 2;
export const OP_DETACH = 3;
export const OP_INVALIDATE = 4;
export const OP_DMA = 5;

/** Bits of `flags`. READ and WRITE are the permission of a map and the access of a dma. */
export const FLAG_READ = 1;
export const FLAG_WRITE = 2;
/** dma: the answer is a fault, for the reason that `reason` names. */
export const FLAG_FAULT = 4;
/** dma: the answer used a mapping that was already removed. */
export const FLAG_STALE = 8;
/** invalidate: the whole address space; the row has no range. */
export const FLAG_ALL = 16;

/** `subject` of an invalidation of every domain. */
export const ALL_DOMAINS = 0xffffffff;
/** `target` of a dma and `pasid` of any event without a PASID. */
export const NO_PASID = 0xffffffff;

/** Highest number of different fault reasons: a row keeps index + 1 in 16 bits. */
export const MAX_REASONS = 0xffff;

/** One number for a requester id, at most 0xffff, with a PASID or NO_PASID. */
export const requesterKey = (rid: number, pasid: number): number => pasid * 0x10000 + rid;

const PERMISSION = ["", "r", "w", "rw"];

/** 4-KiB page number of an address in two halves. */
const pageOf = (hi: number, lo: number): number => hi * 0x100000 + (lo >>> 12);

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** Events as columns: row i of every array is event i. Addresses and sizes are two unsigned 32-bit halves. */
export class Trace {
  /** OP_*. */
  readonly ops: Uint8Array;
  /** Domain; dma: rid; invalidate of every domain: ALL_DOMAINS. */
  readonly subject: Uint32Array;
  /** attach, detach: rid; dma: pasid or NO_PASID; else 0. */
  readonly target: Uint32Array;
  /** PASID of attach, detach and dma; NO_PASID without one and for all other events. */
  readonly pasid: Uint32Array;
  readonly iovaLo: Uint32Array;
  readonly iovaHi: Uint32Array;
  /** Bytes, 1..2^64 - 1; 0 where the event has no range. */
  readonly sizeLo: Uint32Array;
  readonly sizeHi: Uint32Array;
  /** map: output address; dma: answered address, 0 for a fault. */
  readonly outLo: Uint32Array;
  readonly outHi: Uint32Array;
  /** FLAG_*. */
  readonly flags: Uint8Array;
  /** dma: index + 1 of the fault reason in `reasons`; 0: no fault. */
  readonly reason: Uint16Array;
  /** Line of the file, from 1. */
  readonly line: Uint32Array;

  /**
   * Rows of zeros, to be filled.
   * @param length number of events. @param header lines `# key: value`, in order. @param reasons fault reasons, each once.
   */
  constructor(
    readonly length: number,
    readonly header: Map<string, string>,
    readonly reasons: string[],
  ) {
    this.ops = new Uint8Array(length);
    this.subject = new Uint32Array(length);
    this.target = new Uint32Array(length);
    this.pasid = new Uint32Array(length);
    this.iovaLo = new Uint32Array(length);
    this.iovaHi = new Uint32Array(length);
    this.sizeLo = new Uint32Array(length);
    this.sizeHi = new Uint32Array(length);
    this.outLo = new Uint32Array(length);
    this.outHi = new Uint32Array(length);
    this.flags = new Uint8Array(length);
    this.reason = new Uint16Array(length);
    this.line = new Uint32Array(length);
  }

  /** Copies rows first..last of a trace with the same `reasons` to the rows from `at` on. */
  copyRows(at: number, from: Trace, first: number, last: number): void {
    this.ops.set(from.ops.subarray(first, last + 1), at);
    this.subject.set(from.subject.subarray(first, last + 1), at);
    this.target.set(from.target.subarray(first, last + 1), at);
    this.pasid.set(from.pasid.subarray(first, last + 1), at);
    this.iovaLo.set(from.iovaLo.subarray(first, last + 1), at);
    this.iovaHi.set(from.iovaHi.subarray(first, last + 1), at);
    this.sizeLo.set(from.sizeLo.subarray(first, last + 1), at);
    this.sizeHi.set(from.sizeHi.subarray(first, last + 1), at);
    this.outLo.set(from.outLo.subarray(first, last + 1), at);
    this.outHi.set(from.outHi.subarray(first, last + 1), at);
    this.flags.set(from.flags.subarray(first, last + 1), at);
    this.reason.set(from.reason.subarray(first, last + 1), at);
    this.line.set(from.line.subarray(first, last + 1), at);
  }

  /** iova of an event; 0 where it has none. */
  iova(row: number): bigint {
    return (BigInt(this.iovaHi[row]!) << 32n) | BigInt(this.iovaLo[row]!);
  }

  /** Bytes of an event's range; 0 where it has none. */
  size(row: number): bigint {
    return (BigInt(this.sizeHi[row]!) << 32n) | BigInt(this.sizeLo[row]!);
  }

  /** map: output address; dma: answered address; else 0. */
  out(row: number): bigint {
    return (BigInt(this.outHi[row]!) << 32n) | BigInt(this.outLo[row]!);
  }

  /** First page of a map, an unmap or a ranged invalidation. */
  firstPage(row: number): number {
    return pageOf(this.iovaHi[row]!, this.iovaLo[row]!);
  }

  /** Last page of a map, an unmap or a ranged invalidation. */
  lastPage(row: number): number {
    return this.firstPage(row) + pageOf(this.sizeHi[row]!, this.sizeLo[row]!) - 1;
  }

  /** First output page of a map. */
  outPage(row: number): number {
    return pageOf(this.outHi[row]!, this.outLo[row]!);
  }

  /** The event as a line of a trace, without the line feed. Numbers are written in their shortest form. */
  describe(row: number): string {
    const subject = this.subject[row]!;
    const flags = this.flags[row]!;
    const pasid = this.pasid[row] === NO_PASID ? "-" : `${this.pasid[row]}`;
    const iova = hex(this.iova(row));
    const size = hex(this.size(row));
    switch (this.ops[row]) {
      case OP_MAP:
        return `map\t${subject}\t${iova}\t${hex(this.out(row))}\t${size}\t${PERMISSION[flags & (FLAG_READ | FLAG_WRITE)]}`;
      case OP_UNMAP:
        return `unmap\t${subject}\t${iova}\t${size}`;
      case OP_INVALIDATE:
        return `inv\t${subject === ALL_DOMAINS ? "*" : subject}\t${flags & FLAG_ALL ? "all" : `${iova}\t${size}`}`;
      case OP_DMA:
        return `dma\t${hex(subject)}\t${pasid}\t${iova}\t${size}\t${flags & FLAG_WRITE ? "w" : "r"}\t${this.#answer(row)}`;
      default: {
        const name = this.ops[row] === OP_ATTACH ? "attach" : "detach";
        return `${name}\t${subject}\t${hex(this.target[row]!)}${pasid === "-" ? "" : `\t${pasid}`}`;
      }
    }
  }

  #answer(row: number): string {
    const flags = this.flags[row]!;
    const answer = flags & FLAG_FAULT ? `fault:${this.reasons[this.reason[row]! - 1]}` : hex(this.out(row));
    return flags & FLAG_STALE ? `${answer}\tstale` : answer;
  }
}
