// VT-d: from a request to its table by the root, context and PASID structures, and the faults of tables by their names.
// "Intel Virtualization Technology for Directed I/O" 9.1 to 9.6 (structures), 3.4 to 3.9 (their use), 7.1.3 (fault conditions).
// A reading of its own, for the proof of the reference walker; legacy and scalable translation-table modes.
import { FORMAT_VTD_SECOND, FORMAT_X86_64, OPTION_WRITE_PROTECT } from "../../../src/engine/layout.js";
import type { Memory, ReferenceDomain } from "../reference/types.js";
import { addressBits, bits, translated, walkRequest, type Answer, type Request } from "./answer.js";
import type { Unit, VectorCase } from "./file.js";

const WORD = 8n;
const INTERRUPTS = { first: 0xfee00000n, last: 0xfeefffffn };
/** Faults that a set FPD does not silence: the entry that holds the bit was not reached, or cannot be trusted. */
const UNQUALIFIED: ReadonlySet<string> = new Set([
  "root-entry-not-present", "root-entry-reserved-bit", "context-table-access-error", "context-entry-reserved-bit",
]);

/** Reads one entry of so many words; null where there is no memory. */
function readEntry(memory: Memory, address: bigint, words: number): bigint[] | null {
  const entry: bigint[] = [];
  for (let n = 0; n < words; n++) {
    const word = memory(address + BigInt(n) * WORD);
    if (word === null) return null;
    entry.push(word);
  }
  return entry;
}

interface Found {
  /** Absent for pass-through. */
  readonly domain?: ReferenceDomain;
  readonly fpd: boolean;
}

class Refusal {
  constructor(readonly fault: string, readonly fpd = false) {}
}

export class VtdUnit {
  private readonly haw: number;
  constructor(private readonly unit: Unit, private readonly memory: Memory, private readonly root: bigint) {
    this.haw = unit.haw!;
  }

  answer(request: Request): Answer {
    const scalable = this.unit.mode === "scalable";
    const found = scalable ? this.scalable(request) : this.legacy(request);
    if (found instanceof Refusal) return refusal(found.fault, found.fpd);
    if (!found.domain) return { pa: request.iova, size: 4096n };
    const walk = walkRequest(found.domain, request);
    const done = translated(walk);
    if (!done) return refusal(tableFault(found.domain, walk, request), found.fpd);
    // 3.14: no table leads into the range of interrupt messages.
    if (done.pa! >= INTERRUPTS.first && done.pa! <= INTERRUPTS.last) {
      return refusal(scalable ? "sm-output-in-interrupt-range" : "output-in-interrupt-range", found.fpd);
    }
    return { pa: done.pa!, size: done.size!, domain: found.domain };
  }

  /** The context table: one a root entry in legacy mode, two in scalable mode, of devices 0..15 and 16..31. */
  private contextTable(rid: number, scalable: boolean): bigint | Refusal {
    const entry = readEntry(this.memory, this.root + BigInt(rid >> 8) * 16n, 2);
    if (!entry) return new Refusal("root-table-access-error");
    const word = entry[scalable && rid & 0x80 ? 1 : 0]!;
    const other = scalable ? 0n : entry[1]!;
    if (!(word & 1n)) return new Refusal("root-entry-not-present");
    if (addressBits(word, 1, 11) !== 0n || word >> BigInt(this.haw) !== 0n || other !== 0n) return new Refusal("root-entry-reserved-bit");
    return addressBits(word, 12, 63);
  }

  private legacy({ rid }: Request): Found | Refusal {
    const table = this.contextTable(rid, false);
    if (table instanceof Refusal) return table;
    const entry = readEntry(this.memory, table + BigInt(rid & 0xff) * 16n, 2);
    if (!entry) return new Refusal("context-table-access-error");
    const [low, high] = entry as [bigint, bigint];
    const fpd = bits(low, 1, 1) === 1;
    if (!(low & 1n)) return new Refusal("context-entry-not-present", fpd);
    if (bits(low, 4, 11) || low >> BigInt(this.haw) !== 0n || bits(high, 7, 7) || high >> 24n !== 0n) {
      return new Refusal("context-entry-reserved-bit", fpd);
    }
    const type = bits(low, 2, 3);
    const levels = bits(high, 0, 2) + 2;
    // Type 1 needs device TLBs, which no unit here has; 3 is reserved. Pass-through ignores the width but for its legality.
    if (type === 1 || type === 3 || !this.unit.levels!.includes(levels)) return new Refusal("context-entry-invalid", fpd);
    return type === 2 ? { fpd } : { fpd, domain: this.secondStage(addressBits(low, 12, 63), levels) };
  }

  private scalable({ rid, pasid = 0 }: Request): Found | Refusal {
    const table = this.contextTable(rid, true);
    if (table instanceof Refusal) return table;
    const context = readEntry(this.memory, table + BigInt(rid & 0x7f) * 32n, 4);
    if (!context) return new Refusal("context-table-access-error");
    const [low] = context as [bigint];
    let fpd = bits(low, 1, 1) === 1;
    if (!(low & 1n)) return new Refusal("context-entry-not-present", fpd);
    if (this.contextReserved(context)) return new Refusal("context-entry-reserved-bit", fpd);
    const directory = this.memory(addressBits(low, 12, 63) + BigInt(pasid >> 6) * WORD);
    if (directory === null) return new Refusal("pasid-dir-access-error", fpd);
    fpd ||= bits(directory, 1, 1) === 1;
    if (!(directory & 1n)) return new Refusal("pasid-dir-entry-not-present", fpd);
    const entry = readEntry(this.memory, addressBits(directory, 12, 63) + BigInt(pasid & 63) * 64n, 8);
    if (!entry) return new Refusal("pasid-table-access-error", fpd);
    fpd ||= bits(entry[0]!, 1, 1) === 1;
    if (!(entry[0]! & 1n)) return new Refusal("pasid-entry-not-present", fpd);
    return this.pasidEntry(entry, fpd);
  }

  /** Scalable-mode context entry, 9.4: DTE (2) and PRE (4) are of device TLBs and page requests, which no unit here has. */
  private contextReserved(context: readonly bigint[]): boolean {
    const [low, high, third, fourth] = context as [bigint, bigint, bigint, bigint];
    return bits(low, 2, 2) !== 0 || bits(low, 4, 8) !== 0 || low >> BigInt(this.haw) !== 0n || high >> 21n !== 0n
      || third !== 0n || fourth !== 0n;
  }

  private pasidEntry(entry: readonly bigint[], fpd: boolean): Found | Refusal {
    const type = bits(entry[0]!, 6, 8);
    const levels = bits(entry[0]!, 2, 4) + 2;
    const firstLevels = bits(entry[2]!, 2, 3) + 4;
    if (type === 4) return { fpd };
    if (type === 2 && this.unit.stage === "second" && this.unit.levels!.includes(levels)) {
      return { fpd, domain: this.secondStage(addressBits(entry[0]!, 12, 63), levels) };
    }
    if (type === 1 && this.unit.stage === "first" && firstLevels === 4) {
      return { fpd, domain: this.firstStage(entry[2]!) };
    }
    return new Refusal("pasid-entry-invalid", fpd);
  }

  private secondStage(root: bigint, levels: number): ReferenceDomain {
    return {
      format: FORMAT_VTD_SECOND, levels, width: Math.min(12 + 9 * levels, this.unit.mgaw!), outputWidth: this.haw, root, read: this.memory,
      reservedLeaf: this.unit.snoop_control ? 0n : 1n << 11n,
    };
  }

  private firstStage(word: bigint): ReferenceDomain {
    return {
      format: FORMAT_X86_64, levels: 4, width: 48, rule: "sign", outputWidth: this.haw, root: addressBits(word, 12, 63), read: this.memory,
      accessed: "set", dirty: "set", options: bits(word, 4, 4) ? OPTION_WRITE_PROTECT : 0,
    };
  }
}

function refusal(fault: string, fpd: boolean): Answer {
  return { fault, reported: !fpd || UNQUALIFIED.has(fault) };
}

/** 7.1.3: an absent second-stage entry is one that permits nothing. */
function tableFault(domain: ReferenceDomain, walk: ReturnType<typeof walkRequest>, { write }: Request): string {
  const first = domain.format === FORMAT_X86_64;
  const atRoot = walk.steps.length === 0;
  const denied = write ? "write-not-permitted" : "read-not-permitted";
  switch (walk.reason) {
    case "address-width":
      return first ? "address-not-canonical" : "address-beyond-width";
    case "not-present":
      return first ? "fs-entry-not-present" : denied;
    case "reserved":
      return first ? "fs-entry-reserved-bit" : "ss-entry-reserved-bit";
    case "table-outside":
      if (first) return atRoot ? "fs-root-access-error" : "fs-entry-access-error";
      return atRoot ? "context-entry-invalid" : "ss-entry-access-error";
    default:
      if (!first) return denied;
      return walk.found && (walk.found.perm & 1) === 0 ? "fs-user-bit-clear" : "fs-write-not-permitted";
  }
}

export function vtdUnit(unit: Unit, one: VectorCase, memory: Memory): VtdUnit {
  return new VtdUnit(unit, memory, BigInt(one.root!));
}
