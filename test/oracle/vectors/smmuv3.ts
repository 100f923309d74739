// SMMUv3: from a request to its tables by stream table and context descriptor, and the events of refusals.
// Arm SMMUv3 architecture (IHI 0070) 3.3, 3.4 (address sizes), 5.1 (stream table), 7.3 (event records).
// A reading of its own, for the proof of the reference walker.
import { PERM_R } from "../../../src/engine/layout.js";
import type { Memory, Reason, ReferenceDomain } from "../reference/types.js";
import { walkReference, type ReferenceWalk } from "../reference/walk.js";
import { addressBits, bits, translated, walkRequest, type Answer, type Request } from "./answer.js";
import type { Unit, VectorCase } from "./file.js";
import { readContext, readStream, type Sizes, type Stream } from "./smmuv3-entries.js";

const STE_BYTES = 64n;
const EVENTS = {
  C_BAD_STREAMID: 0x02n, F_STE_FETCH: 0x03n, C_BAD_STE: 0x04n, F_CD_FETCH: 0x09n, C_BAD_CD: 0x0an, F_WALK_EABT: 0x0bn,
  F_TRANSLATION: 0x10n, F_ADDR_SIZE: 0x11n, F_ACCESS: 0x12n, F_PERMISSION: 0x13n,
} as const;
type EventName = keyof typeof EVENTS;
const CLASSES = ["CD", "TT", "IN"] as const;
type EventClass = (typeof CLASSES)[number];

/** 7.3: S2 and CLASS in the second word of a record. */
const S2 = 1n << 39n;
const CLASS_SHIFT = 40n;
export const PLACE_MASK = S2 | (3n << CLASS_SHIFT);

const EVENT_OF: Partial<Record<Reason, EventName>> = {
  "table-outside": "F_WALK_EABT", "address-width": "F_TRANSLATION", "not-present": "F_TRANSLATION", "address-size": "F_ADDR_SIZE",
  "access-flag": "F_ACCESS", "read-denied": "F_PERMISSION", "write-denied": "F_PERMISSION",
};

/** An event without a stage: type and StreamID are compared. */
function configurationEvent(fault: EventName, rid: number): Answer {
  return { fault, reported: true, event: [EVENTS[fault] | (BigInt(rid) << 32n), null, null, null] };
}

export class Smmuv3Unit {
  private readonly sizes: Sizes;
  constructor(unit: Unit, private readonly memory: Memory, private readonly table: NonNullable<VectorCase["strtab"]>) {
    this.sizes = { oas: unit.oas!, stages: unit.stage! };
  }

  answer(request: Request): Answer {
    const at = this.streamEntry(request.rid);
    if (typeof at === "string") return configurationEvent(at, request.rid);
    const ste = this.words(at);
    if (!ste) return configurationEvent("F_STE_FETCH", request.rid);
    const stream = readStream(ste, this.sizes, this.memory);
    if (stream === "illegal") return configurationEvent("C_BAD_STE", request.rid);
    if (stream === "abort") return { fault: "ABORT" };
    if (stream === "bypass") return { pa: request.iova, bypass: true };
    return stream.stage1 ? this.stage1(stream, request) : this.stage2(stream, request);
  }

  private words(at: bigint): bigint[] | null {
    const words = Array.from({ length: 8 }, (_none, n) => this.memory(at + BigInt(n) * 8n));
    return words.some((word) => word === null) ? null : (words as bigint[]);
  }

  private streamEntry(rid: number): bigint | EventName {
    const base = BigInt(this.table.base);
    if (rid >= 2 ** this.table.log2size) return "C_BAD_STREAMID";
    if (this.table.fmt === "linear") return base + BigInt(rid) * STE_BYTES;
    const split = this.table.split!;
    const descriptor = this.memory(base + BigInt(rid >> split) * 8n);
    if (descriptor === null) return "F_STE_FETCH";
    const span = bits(descriptor, 0, 4);
    const index = rid & (2 ** split - 1);
    // Span n: 2^(n - 1) entries, and none for 0.
    if (span === 0 || index >= 2 ** (span - 1)) return "C_BAD_STREAMID";
    return addressBits(descriptor, Math.max(6, 5 + span), 51) + BigInt(index) * STE_BYTES;
  }

  private stage2(stream: Stream, request: Request): Answer {
    // 3.4: with stage 1 bypassed its output, the input address, has the size of an intermediate address.
    if (request.iova >> BigInt(this.sizes.oas) !== 0n) {
      return { fault: "F_ADDR_SIZE", stage: 1, class: "IN" };
    }
    const walk = walkRequest(stream.stage2!, request);
    const done = translated(walk);
    if (done) return { pa: done.pa!, size: done.size! };
    return walkEvent({ ...walk, stage: 2, ipa: request.iova }, request, "IN", stream.s2r);
  }

  private stage1(stream: Stream, request: Request): Answer {
    let at = stream.contextDescriptor;
    if (stream.stage2) {
      const walk = walkReference(stream.stage2, at, PERM_R);
      if (walk.reason !== "none") return walkEvent({ ...walk, stage: 2, ipa: at }, request, "CD", stream.s2r);
      at = walk.found!.hpa;
    }
    const cd = this.words(at);
    if (!cd) return configurationEvent("F_CD_FETCH", request.rid);
    const context = readContext(cd, this.sizes, this.memory, stream.stage2);
    if (!context) return configurationEvent("C_BAD_CD", request.rid);
    const half: ReferenceDomain | undefined = context.halves[(request.iova >> 55n) & 1n ? 1 : 0];
    const walk: ReferenceWalk = half ? walkRequest(half, request)
      : { reason: "not-present", stage: 1, class: "input", level: 0, ipa: 0n, found: null, steps: [] };
    const done = translated(walk);
    if (done) return { pa: done.pa!, size: done.size!, ipa: done.ipa!, s1Size: done.s1Size! };
    return walkEvent(walk, request, walk.class === "table" ? "TT" : "IN", walk.stage === 1 ? context.record : stream.s2r);
  }
}

/** An external abort is recorded whatever R and S2R say, and what it could not read is not among the fields compared. */
function walkEvent(walk: ReferenceWalk, { rid, iova }: Request, origin: EventClass, record: boolean): Answer {
  const fault = EVENT_OF[walk.reason];
  if (!fault) throw new Error(`no event for ${walk.reason}`);
  const abort = fault === "F_WALK_EABT";
  const reported = record || abort;
  const place = (walk.stage === 2 ? S2 : 0n) | (BigInt(CLASSES.indexOf(origin)) << CLASS_SHIFT);
  const event = [EVENTS[fault] | (BigInt(rid) << 32n), place, iova, abort ? null : walk.stage === 2 ? walk.ipa : 0n];
  return { fault, reported, stage: walk.stage, class: origin, ...(reported ? { event } : {}) };
}

export function smmuv3Unit(unit: Unit, one: VectorCase, memory: Memory): Smmuv3Unit {
  return new Smmuv3Unit(unit, memory, one.strtab!);
}
