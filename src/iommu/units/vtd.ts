// VT-d: from root table and requester to what the engine is given, and back from its refusals to VT-d's faults.
// Intel VT-d Architecture Specification, 3.4 (mapping devices to domains), 3.6 (first stage), 3.7 (second stage), 7.1.
// Imports the engine's layout, structures/ and faults/. Input addresses of a second stage have min(MGAW, AGAW) bits, those
// that pass through MGAW.
import * as L from "../../engine/layout.js";
import type { ArchitecturalFault, EngineRefusal, Request } from "../faults/fault.js";
import { vtdFault, vtdOutputReason, vtdReason, type VtdMode, type VtdReason } from "../faults/vtd.js";
import type { Stage, StructureRead, TableMemory } from "../structures/structure.js";
import type { VtdCapabilities } from "../structures/vtd-capabilities.js";
import { legacyContext, scalableContext } from "../structures/vtd-context.js";
import { pasidEntry, type PasidEntry } from "../structures/vtd-pasid.js";
import { rootEntry } from "../structures/vtd-root.js";
import type { DomainTree, IdentityStream, RefusedStream, TranslatedStream, Unit } from "./unit.js";

/** RTADDR_REG: where the root table is, and TTM. */
export interface VtdRoot {
  root: bigint;
  mode: VtdMode;
}

type VtdFields = { fpd: boolean };
export type VtdStream = VtdFields & (
  | (TranslatedStream & { stages: "first" | "second" | "nested" }) | IdentityStream | (RefusedStream & { reason: VtdReason }));

const SNOOP = 0x800n;
const EXECUTE_DISABLE = 1n << 63n;
const READ_WRITE = L.PERM_R | L.PERM_W;
const widthOf = (levels: number): number => 12 + 9 * levels;

export class VtdUnit implements Unit<VtdStream> {
  readonly privileged = false;

  constructor(readonly memory: TableMemory, readonly unit: VtdCapabilities, readonly table: VtdRoot) {}

  stream(rid: number, pasid: number | undefined): VtdStream {
    const read: StructureRead[] = [];
    const { root, mode } = this.table;
    // Legacy mode has no place for a PASID (7.1.2: such requests are blocked); nobody sends one here.
    const found = rootEntry(this.memory, root, rid, mode, this.unit.haw, read);
    if ("reason" in found) return { kind: "refuse", read, reason: found.reason, fpd: false };
    if (mode === "legacy") return this.#legacy(found.contextTable, rid & 0xff, read);
    return this.#scalable(found.contextTable, rid & 0xff, pasid, read);
  }

  #legacy(table: bigint, devfn: number, read: StructureRead[]): VtdStream {
    const found = legacyContext(this.memory, table, devfn, this.unit, read);
    const { fpd } = found;
    if ("reason" in found) return { kind: "refuse", read, reason: found.reason, fpd };
    const { passThrough, levels, secondStageTable } = found.context;
    if (passThrough) return { kind: "identity", read, width: this.unit.mgaw, permissions: READ_WRITE, fpd };
    return this.#translated(this.#secondStage(levels, secondStageTable, false), "second", fpd, read);
  }

  #scalable(table: bigint, devfn: number, pasid: number | undefined, read: StructureRead[]): VtdStream {
    const found = scalableContext(this.memory, table, devfn, this.unit, read);
    if ("reason" in found) return { kind: "refuse", read, reason: found.reason, fpd: found.fpd };
    const { context } = found;
    const refuse = (reason: VtdReason, fpd: boolean): VtdStream => ({ kind: "refuse", read, reason, fpd: fpd || found.fpd });
    if (pasid !== undefined && !context.pasidEnable) return refuse("pasid-disabled", false);
    if (pasid !== undefined && pasid >= context.pasids) return refuse("pasid-beyond-directory", false);
    if (context.ridPasid >= context.pasids) return refuse("rid-pasid-invalid", false);
    const entry = pasidEntry(this.memory, context.directory, pasid ?? context.ridPasid, this.unit, read);
    if ("reason" in entry) return refuse(entry.reason, entry.fpd);
    return this.#ofPasid(entry.entry, found.fpd || entry.fpd, read);
  }

  #ofPasid(entry: PasidEntry, fpd: boolean, read: StructureRead[]): VtdStream {
    if (entry.kind === "pass-through") {
      return { kind: "identity", read, width: this.unit.mgaw, permissions: READ_WRITE, fpd };
    }
    const second = (): Stage => this.#secondStage(entry.secondLevels, entry.secondTable, entry.secondAccessedDirty);
    if (entry.kind === "second") return this.#translated(second(), "second", fpd, read);
    const first = this.#firstStage(entry);
    return this.#translated(entry.kind === "nested" ? { ...first, nested: second() } : first, entry.kind, fpd, read);
  }

  #translated(domain: DomainTree, stages: "first" | "second" | "nested", fpd: boolean, read: StructureRead[]): VtdStream {
    return { kind: "translate", read, domain, permissions: READ_WRITE, stages, fpd };
  }

  #inputWidth(levels: number): number {
    return Math.min(widthOf(levels), this.unit.mgaw);
  }

  /** 3.7: addresses are unsigned; SNP is reserved without snoop control (9.8). */
  #secondStage(levels: number, guestRoot: bigint, accessedDirty: boolean): Stage {
    const marks = accessedDirty && this.unit.secondStageAccessedDirty ? "set" : "ignore";
    return {
      format: L.FORMAT_VTD_SECOND, levels, width: this.#inputWidth(levels), outputWidth: this.unit.haw, guestRoot,
      reservedLeaf: this.unit.snoopControl ? 0n : SNOOP, accessed: marks, dirty: marks,
    };
  }

  /** 3.6: addresses are canonical; accessed and dirty bits are always set. XD is ignored by units without execute requests, reserved without NXE (9.7). */
  #firstStage({ firstLevels, firstTable, writeProtect, noExecuteEnable }: PasidEntry): Stage {
    const reserved = noExecuteEnable || !this.unit.executeRequests ? 0n : EXECUTE_DISABLE;
    return {
      format: L.FORMAT_X86_64, levels: firstLevels, width: widthOf(firstLevels), rule: "sign", outputWidth: this.unit.haw,
      guestRoot: firstTable, reservedTable: reserved, reservedLeaf: reserved, accessed: "set", dirty: "set",
      options: writeProtect ? L.OPTION_WRITE_PROTECT : 0,
    };
  }

  refusal(stream: VtdStream, request: Request): ArchitecturalFault {
    const reason = stream.kind === "refuse" ? stream.reason : "address-beyond-width";
    return vtdFault(reason, { mode: this.table.mode, fpd: stream.fpd }, request);
  }

  fault(stream: VtdStream, request: Request, refusal: EngineRefusal): ArchitecturalFault {
    if (stream.kind !== "translate") return this.refusal(stream, request);
    const { domain } = stream;
    const levels = refusal.stage === 2 && domain.nested ? domain.nested.levels : domain.levels;
    const context = { mode: this.table.mode, fpd: stream.fpd, stages: stream.stages, topLevel: levels - 1 };
    return vtdFault(vtdReason(refusal, context, request.write), context, request);
  }

  outputFault(stream: VtdStream, request: Request, output: bigint): ArchitecturalFault | undefined {
    const reason = vtdOutputReason(this.table.mode, output);
    return reason && vtdFault(reason, { mode: this.table.mode, fpd: stream.fpd }, request);
  }
}

