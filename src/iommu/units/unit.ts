// What a unit's structures say of one stream of requests, for every architecture alike: tools and front ends see only this.
// A unit has no tables of its own: it reads structures where they are, asks its space to walk where a stage 2 stands before
// one of them, and says what the engine has to be given. Imports the engine's types and the folders beside.
import * as L from "../../engine/layout.js";
import type { Walk } from "../../engine/walk-record.js";
import type { ArchitecturalFault, EngineRefusal, Request } from "../faults/fault.js";
import type { Stage, StructureRead, TableMemory } from "../structures/structure.js";

/** Guest memory, and what stage 2 makes of addresses that structures hold. */
export interface StructureSpace extends TableMemory {
  walk(stage: Stage, ipa: bigint, need: number): Walk;
}

/** A domain as the engine is asked for it, with the domains that it stands on. */
export interface DomainTree extends Stage {
  nested?: Stage;
  /** Its half of iovas with bit 55 set. */
  upperHalf?: Stage;
}

const SECOND_STAGES: readonly number[] = [
  L.FORMAT_VTD_SECOND, L.FORMAT_AMD_V1, L.FORMAT_ARM_S2_4K, L.FORMAT_ARM_S2_16K, L.FORMAT_ARM_S2_64K, L.FORMAT_MOCK,
];

/** The stages that an iova goes through; one that stands alone is first or second by its format. */
export function stagesOf(domain: DomainTree, iova: bigint): { first?: Stage | undefined; second?: Stage | undefined } {
  if (!domain.nested && SECOND_STAGES.includes(domain.format)) return { second: domain };
  const upper = ((iova >> BigInt(L.HALF_BIT)) & 1n) !== 0n;
  return { first: upper ? (domain.upperHalf ?? domain) : domain, second: domain.nested };
}

export interface TranslatedStream {
  kind: "translate";
  read: readonly StructureRead[];
  domain: DomainTree;
  /** PERM_R | PERM_W that the structures leave, whatever the tables say. */
  permissions: number;
}

/** Output is input, for input addresses below 2^width. */
export interface IdentityStream {
  kind: "identity";
  read: readonly StructureRead[];
  width: number;
  permissions: number;
}

/** No address of it is translated. */
export interface RefusedStream {
  kind: "refuse";
  read: readonly StructureRead[];
}

export type Stream = TranslatedStream | IdentityStream | RefusedStream;

/** One IOMMU, as far as translation depends on its tables. S is the unit's own stream. */
export interface Unit<S extends Stream = Stream> {
  /** Privilege of the requests that it serves: L.PERM_* are shifted by it. */
  readonly privileged: boolean;
  /** What the structures say of a requester; reads memory each time. */
  stream(rid: number, pasid: number | undefined): S;
  /** A refused stream's fault, or that of a request beyond what an identity stream or the structures let pass. */
  refusal(stream: S, request: Request): ArchitecturalFault;
  /** The fault of what the engine refused. */
  fault(stream: S, request: Request, refusal: EngineRefusal): ArchitecturalFault;
  /** The engine translated: the fault of an output that the unit does not let pass, if it is one. */
  outputFault(stream: S, request: Request, output: bigint): ArchitecturalFault | undefined;
}
