// AMD-Vi: from a request to its table by the device table, and the events of tables by their names.
// "AMD I/O Virtualization Technology (IOMMU) Specification" 2.2.2 (device table entry), 2.2.3, 2.5 (events).
// A reading of its own, for the proof of the reference walker.
import { FORMAT_AMD_V1, PERM_R, PERM_W } from "../../../src/engine/layout.js";
import type { Memory, ReferenceDomain } from "../reference/types.js";
import { addressBits, bits, translated, walkRequest, type Answer, type Request } from "./answer.js";
import type { Unit, VectorCase } from "./file.js";

const DTE_BYTES = 32n;
const MODE_RESERVED = 7;

export class AmdviUnit {
  constructor(private readonly memory: Memory, private readonly table: bigint) {}

  answer(request: Request): Answer {
    const at = this.table + BigInt(request.rid) * DTE_BYTES;
    const dte = [0n, 8n, 16n, 24n].map((offset) => this.memory(at + offset));
    if (dte.some((word) => word === null)) return { fault: "DEV_TAB_HARDWARE_ERROR", reported: true };
    return this.byEntry(dte as bigint[], request);
  }

  private byEntry(dte: readonly bigint[], request: Request): Answer {
    const [low] = dte as [bigint];
    // Reserved bits are looked at before V, as "Known differences" of the vectors says.
    if (reserved(dte)) return { fault: "ILLEGAL_DEV_TABLE_ENTRY", reported: true };
    const identity: Answer = { pa: request.iova, size: 4096n };
    if (!(low & 1n)) return identity;
    if (!(low & 2n)) return { fault: "NO_TRANSLATION", reported: false };
    const mode = bits(low, 9, 11);
    if (mode === MODE_RESERVED) return { fault: "ILLEGAL_DEV_TABLE_ENTRY", reported: true };
    const perm = (bits(low, 61, 61) ? PERM_R : 0) | (bits(low, 62, 62) ? PERM_W : 0);
    const permitted = (request.need & ~perm) === 0;
    if (mode === 0) return permitted ? identity : { fault: "IO_PAGE_FAULT", reported: true };
    const domain: ReferenceDomain = {
      format: FORMAT_AMD_V1, levels: mode, outputWidth: 52, root: addressBits(low, 12, 51), read: this.memory,
    };
    const walk = walkRequest(domain, request);
    if (walk.reason === "table-outside") return { fault: "PAGE_TAB_HARDWARE_ERROR", reported: true };
    return (permitted ? translated(walk) : null) ?? { fault: "IO_PAGE_FAULT", reported: true };
  }
}

/** 2.2.2: bits 6:2, 63, 181:180, 206:192 and 245:240 of a device table entry must be zero. */
function reserved(dte: readonly bigint[]): boolean {
  const [first, , third, fourth] = dte as [bigint, bigint, bigint, bigint];
  return bits(first, 2, 6) !== 0 || bits(first, 63, 63) !== 0 || bits(third, 52, 53) !== 0 || bits(fourth, 0, 14) !== 0
    || bits(fourth, 48, 53) !== 0;
}

export function amdviUnit(_unit: Unit, one: VectorCase, memory: Memory): AmdviUnit {
  return new AmdviUnit(memory, BigInt(one.devtab!.base));
}
