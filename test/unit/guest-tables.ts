// Guest memory behind an engine's slots, and tables built in it from the encoders: for property tests of walks.
// Addresses are host-physical unless said otherwise; ranges are first..last, inclusive.
import type { DomainOptions, Engine } from "../../src/engine/engine.js";
import { slotMemory } from "../oracle/guest-memory.js";
import { inputWidth } from "../oracle/reference/address.js";
import { encoderOf, type LeafFields } from "../oracle/reference/encode.js";
import { architectureOf } from "../oracle/reference/formats.js";
import { itemLg2, type Memory, type ReferenceDomain } from "../oracle/reference/types.js";

/** Where the guest's RAM is: above 4 GiB, with a hole of zeros and a device beside it. */
export const RAM_FIRST = 0x1_0000_0000n;
export const ZERO_FIRST = 0x8000_0000n;
export const DEVICE_FIRST = 0x9000_0000n;
const AREA = 0x10000n;

const bytesOf = (words: BigUint64Array): Uint8Array => new Uint8Array(words.buffer, words.byteOffset, words.byteLength);

/** The RAM of an engine that owns its memory, as one slot; a zero slot and a device slot of 64 KiB. */
export class GuestRam {
  readonly read: Memory;
  private readonly words: BigUint64Array;
  private next = 0;
  /** Tables handed out since the last clear. */
  readonly tables: { readonly address: bigint; readonly bytes: number }[] = [];
  /** Words written since then. */
  readonly written = new Set<bigint>();

  constructor(readonly engine: Engine) {
    const { offset, length } = engine.ram;
    this.words = new BigUint64Array(engine.memory.buffer, offset, length / 8);
    engine.addSlot(RAM_FIRST, RAM_FIRST + BigInt(length) - 1n, "memory", offset);
    engine.addSlot(ZERO_FIRST, ZERO_FIRST + AREA - 1n, "zero");
    engine.addSlot(DEVICE_FIRST, DEVICE_FIRST + AREA - 1n, "device");
    this.read = slotMemory(engine);
  }

  clear(): void {
    this.words.fill(0n);
    this.next = 0;
    this.tables.length = 0;
    this.written.clear();
  }

  write(address: bigint, word: bigint): void {
    this.words[Number(address - RAM_FIRST) / 8] = word;
    this.written.add(address);
  }

  /** A zeroed table; null when the RAM is full. */
  table(bytes: number, alignment = bytes): bigint | null {
    const at = Math.ceil(this.next / alignment) * alignment;
    if (at + bytes > this.words.length * 8) return null;
    this.next = at + bytes;
    const address = RAM_FIRST + BigInt(at);
    this.tables.push({ address, bytes });
    return address;
  }

  /** The words of all tables handed out. */
  snapshot(): BigUint64Array {
    return this.words.slice(0, this.next / 8);
  }

  /** Those that differ from a snapshot, by address. */
  changes(before: BigUint64Array): Map<bigint, bigint> {
    const changed = new Map<bigint, bigint>();
    if (Buffer.compare(bytesOf(before), bytesOf(this.words.subarray(0, before.length))) === 0) return changed;
    before.forEach((word, n) => {
      if (word !== this.words[n]) changed.set(RAM_FIRST + BigInt(n) * 8n, this.words[n]!);
    });
    return changed;
  }
}

export interface Mapping extends LeafFields {
  readonly level: number;
  /** Skip the levels between the top and the leaf's, where the format and the address allow it. */
  readonly skip: boolean;
}

/** One table of a guest. `delta`: its own addresses less host-physical ones, 0 unless a stage 2 lies below it. */
export class GuestTable {
  readonly reference: ReferenceDomain;
  readonly options: DomainOptions;
  /** Address of the root, host-physical. */
  private readonly root: bigint;

  constructor(private readonly ram: GuestRam, shape: DomainOptions, readonly delta = 0n, below?: { index: number; table: ReferenceDomain }) {
    const arch = architectureOf(shape.format);
    const topLg2 = itemLg2(arch, shape.levels - 1);
    // The start table has what the width leaves: less than a whole one, or several side by side.
    const bytes = 8 * 2 ** Math.max(0, shape.width - topLg2);
    this.root = ram.table(bytes, Math.max(bytes, 64))!;
    this.options = { ...shape, guestRoot: this.root + delta, ...(below ? { stage2: below.index } : {}) };
    const { format, levels, width, outputWidth, rule = "zero", reservedTable = 0n, reservedLeaf = 0n, accessed = "ignore", dirty = "ignore", options = 0 } = shape;
    this.reference = {
      format, levels, width, outputWidth, rule, reservedTable, reservedLeaf, accessed, dirty, options, root: this.root + delta,
      read: ram.read, ...(below ? { stage2: below.table } : {}),
    };
  }

  /** Puts a leaf at an input address; what is there already stays. */
  map(iova: bigint, mapping: Mapping): void {
    const arch = architectureOf(this.reference.format);
    const encoder = encoderOf(this.reference.format);
    const within = BigInt.asUintN(inputWidth(this.reference), iova);
    let base = this.root;
    let level = this.reference.levels - 1;
    while (level > mapping.level) {
      const at = this.entryAt(base, within, level);
      const found = this.ram.read(at)!;
      if (found !== 0n) {
        const entry = arch.decode(this.reference, found, level);
        if (entry.kind !== "table") return;
        base = entry.address - this.delta;
        level = entry.level;
        continue;
      }
      const skipped = BigInt.asUintN(itemLg2(arch, level), within) >> BigInt(itemLg2(arch, mapping.level + 1));
      const next = mapping.skip && encoder.skips && skipped === 0n ? mapping.level : level - 1;
      const bytes = 8 * 2 ** arch.indexBits;
      const table = this.ram.table(bytes, Math.max(bytes, 4096));
      if (table === null) return;
      this.ram.write(at, encoder.table(table + this.delta, level, next));
      base = table;
      level = next;
    }
    this.leaf(base, within, level, mapping);
  }

  private entryAt(base: bigint, within: bigint, level: number): bigint {
    const arch = architectureOf(this.reference.format);
    const top = level === this.reference.levels - 1;
    const bits = itemLg2(arch, level) + arch.indexBits;
    return base + ((top ? within : BigInt.asUintN(bits, within)) >> BigInt(itemLg2(arch, level))) * 8n;
  }

  private leaf(base: bigint, within: bigint, level: number, mapping: Mapping): void {
    if (level !== mapping.level) return;
    const arch = architectureOf(this.reference.format);
    const lg2 = BigInt(mapping.lg2);
    const pte = encoderOf(this.reference.format).leaf(level, { ...mapping, address: (mapping.address >> lg2) << lg2 });
    const first = this.entryAt(base, (within >> lg2) << lg2, level);
    for (let copy = 0n; copy < 1n << (lg2 - BigInt(itemLg2(arch, level))); copy++) this.ram.write(first + copy * 8n, pte);
  }
}
