// SMMUv3: from stream table and StreamID to what the engine is given, and back from its refusals to events. Arm SMMUv3
// architecture specification (IHI 0070), 3.3 (configuration), 3.4 (address sizes), 3.12 (faults), 5 (structures), 7.3 (events).
// Imports the engine's layout, structures/ and faults/. Requests are privileged data accesses; STE.PRIVCFG and S2PTW are not applied.
import * as L from "../../engine/layout.js";
import type { ArchitecturalFault, EngineRefusal, Request } from "../faults/fault.js";
import {
  configurationEvent, SMMUV3_ABORT, translationEvent, translationEventName, type Smmuv3ConfigurationEvent, type TranslationFault,
} from "../faults/smmuv3.js";
import type { Smmuv3Capabilities } from "../structures/smmuv3-capabilities.js";
import { contextDescriptor, type Context, type FetchWord } from "../structures/smmuv3-cd.js";
import { readStreamEntry, type ContextTable } from "../structures/smmuv3-ste.js";
import { streamEntry, type StreamTable } from "../structures/smmuv3-stream-table.js";
import type { Stage, StructureRead } from "../structures/structure.js";
import type { DomainTree, IdentityStream, RefusedStream, StructureSpace, TranslatedStream, Unit } from "./unit.js";

/** Why a stream as a whole is refused. */
type Refusal =
  | { kind: "abort" }
  | { kind: "configuration"; event: Smmuv3ConfigurationEvent; fetch?: bigint }
  | { kind: "translation"; fault: TranslationFault; record: boolean };

interface Smmuv3Fields {
  /** The stages that it goes through. */
  stage1: boolean;
  stage2: boolean;
  /** CD.R and STE.S2R. */
  recordStage1: boolean;
  recordStage2: boolean;
}

export type Smmuv3Stream = Smmuv3Fields & (TranslatedStream | IdentityStream | (RefusedStream & { refusal: Refusal }));

const ALL = L.PERM_R | L.PERM_W;
const UNUSED = { stage1: false, stage2: false, recordStage1: false, recordStage2: false };

export class Smmuv3Unit implements Unit<Smmuv3Stream> {
  readonly privileged = true;

  constructor(readonly space: StructureSpace, readonly unit: Smmuv3Capabilities, readonly table: StreamTable) {}

  /** `pasid` is the SubstreamID. */
  stream(rid: number, pasid: number | undefined): Smmuv3Stream {
    const read: StructureRead[] = [];
    const refuse = (refusal: Refusal): Smmuv3Stream => ({ kind: "refuse", read, refusal, ...UNUSED });
    const found = streamEntry(this.space, this.table, rid, read);
    if ("event" in found) return refuse({ kind: "configuration", ...found });
    const entry = readStreamEntry(this.space, found.ste, this.unit, read);
    if (entry.kind === "fault") return refuse({ ...entry, kind: "configuration" });
    if (entry.kind === "abort") return refuse({ kind: "abort" });
    const { context, stage2, recordStage2 } = entry;
    const fields = { ...UNUSED, stage2: stage2 !== undefined, recordStage2 };
    const withoutStage1 = (): Smmuv3Stream => stage2
      ? { kind: "translate", read, domain: stage2, permissions: ALL, ...fields }
      : { kind: "identity", read, width: 64, permissions: ALL, ...fields };
    if (!context) return pasid === undefined ? withoutStage1() : refuse({ kind: "configuration", event: "C_BAD_SUBSTREAMID" });
    const substream = substreamOf(context, pasid);
    if (substream === "bypass") return withoutStage1();
    if (typeof substream === "string") return refuse({ kind: "configuration", event: substream });
    const got = contextDescriptor(context, substream, this.unit, this.#fetch(stage2, recordStage2), read);
    if ("refusal" in got) return refuse(got.refusal);
    if ("event" in got) return refuse({ kind: "configuration", event: got.event });
    const domain = tree(got.context, stage2);
    return { kind: "translate", read, domain, permissions: ALL, ...fields, stage1: true, recordStage1: got.context.record };
  }

  /** How context descriptors are read: directly, or through stage 2, whose refusal is then of class CD (7.3). */
  #fetch(stage2: Stage | undefined, record: boolean): FetchWord<Refusal> {
    return (address) => {
      let at = address;
      if (stage2) {
        const walk = this.space.walk(stage2, address, L.PERM_R << L.PERM_PRIVILEGED_SHIFT);
        if (walk.reason !== "none") {
          const event = translationEventName(walk.reason);
          return { refusal: { kind: "translation", record, fault: { event, stage: 2, class: "CD", ipa: address } } };
        }
        at = walk.hpa;
      }
      const word = this.space.read64(at);
      return word === undefined ? { refusal: { kind: "configuration", event: "F_CD_FETCH", fetch: at } } : { word };
    };
  }

  refusal(stream: Smmuv3Stream, request: Request): ArchitecturalFault {
    if (stream.kind !== "refuse") throw new Error("the stream lets every request through to its tables");
    const { refusal } = stream;
    if (refusal.kind === "abort") return SMMUV3_ABORT;
    if (refusal.kind === "translation") return translationEvent(refusal.fault, request, refusal.record);
    return configurationEvent(refusal.event, request, refusal.fetch);
  }

  fault(stream: Smmuv3Stream, request: Request, refusal: EngineRefusal): ArchitecturalFault {
    if (stream.kind === "refuse") return this.refusal(stream, request);
    const event = translationEventName(refusal.reason);
    const { fetch } = refusal;
    // Stage 1 is bypassed, and its output would be an address that the SMMU does not have (3.4).
    if (!stream.stage1 && refusal.reason === "address-width" && request.iova >> BigInt(this.unit.outputWidth)) {
      return translationEvent({ event: "F_ADDR_SIZE", stage: 1, class: "IN", ipa: 0n }, request, stream.recordStage2);
    }
    if (refusal.stage === 1) {
      const cause = event === "F_WALK_EABT" ? "TT" : "IN";
      return translationEvent({ event, stage: 1, class: cause, ipa: 0n, fetch }, request, stream.recordStage1);
    }
    const ipa = stream.stage1 ? refusal.ipa : request.iova;
    const cause = stream.stage1 && refusal.class === "table" ? "TT" : "IN";
    return translationEvent({ event, stage: 2, class: cause, ipa, fetch }, request, stream.recordStage2);
  }

  outputFault(): undefined {
    return undefined;
  }
}

/** Which descriptor serves a request (5.2, S1CDMax and S1DSS). */
function substreamOf(context: ContextTable, pasid: number | undefined): number | "bypass" | Smmuv3ConfigurationEvent {
  if (pasid !== undefined) {
    // Substream 0 is nobody's where S1DSS gives it to requests without one.
    const taken = pasid === 0 && context.defaultSubstream === 2;
    return pasid >= 2 ** context.substreamBits || context.substreamBits === 0 || taken ? "C_BAD_SUBSTREAMID" : pasid;
  }
  if (context.substreamBits === 0 || context.defaultSubstream === 2) return 0;
  return context.defaultSubstream === 1 ? "bypass" : "F_STREAM_DISABLED";
}

const NO_TABLES: Stage = { format: L.FORMAT_ARM_S1_4K, levels: 4, width: 48, outputWidth: 48, guestRoot: 0n };

/** Both halves as one domain. A half that is disabled translates nothing: it gets a rule that none of its addresses obeys. */
function tree({ lower, upper }: Context, stage2: Stage | undefined): DomainTree {
  const nested = stage2 ? { nested: stage2 } : {};
  if (lower) return { ...lower, ...(upper ? { upperHalf: upper } : {}), ...nested };
  if (upper) return { ...upper, upperHalf: upper, ...nested };
  return { ...NO_TABLES, rule: "ones", upperHalf: { ...NO_TABLES, rule: "zero" }, ...nested };
}
