// One query through the exact walker: what the engine says, and what the unit makes of it. Imports engine, iommu and its folder.
import * as L from "../engine/layout.js";
import type { Walk } from "../engine/walk-record.js";
import { fetchAddress } from "../iommu/decode/fetch-address.js";
import type { ArchitecturalFault, Request } from "../iommu/faults/fault.js";
import { stagesOf, type TranslatedStream } from "../iommu/units/unit.js";
import type { CaseWorld, Subject } from "./case-world.js";
import type { Query } from "./vectors.js";

export interface Answer {
  subject: Subject;
  request: Request;
  /** L.PERM_* that the request asks of the engine. */
  need: number;
  /** Only of a stream that is translated. */
  walk?: Walk;
  /** The output, and what of R and W the same address grants; absent when the request is refused. */
  pa?: bigint;
  perm?: number;
  fault?: ArchitecturalFault;
}

export function requestOf({ rid, pasid, iova, write }: Query, privileged: boolean): Request {
  return { rid, pasid, iova, write, privileged };
}

function fetchOf(walk: Walk, { domain }: TranslatedStream, iova: bigint): bigint | undefined {
  const { first, second } = stagesOf(domain, iova);
  return fetchAddress(walk, iova, first, second);
}

export function exactAnswer(world: CaseWorld, query: Query): Answer {
  const { unit } = world;
  const subject = world.subject(query);
  const { stream } = subject;
  const request = requestOf(query, unit.privileged);
  const shift = unit.privileged ? L.PERM_PRIVILEGED_SHIFT : 0;
  const access = query.write ? L.PERM_W : L.PERM_R;
  const answer = { subject, request, need: access << shift };
  if (stream.kind === "refuse") return { ...answer, fault: unit.refusal(stream, request) };
  if (stream.kind === "identity") {
    const passes = query.iova >> BigInt(stream.width) === 0n && (stream.permissions & access) !== 0;
    return passes ? { ...answer, pa: query.iova, perm: stream.permissions } : { ...answer, fault: unit.refusal(stream, request) };
  }
  const walk = world.engine.walk(subject.domain, query.iova, answer.need);
  if (walk.reason !== "none") {
    const readable = (walk.perm & (L.PERM_R << shift)) !== 0;
    return { ...answer, walk, fault: unit.fault(stream, request, { ...walk, readable, fetch: fetchOf(walk, stream, query.iova) }) };
  }
  const perm = (walk.perm >> shift) & stream.permissions;
  const fault = perm & access ? unit.outputFault(stream, request, walk.hpa) : unit.refusal(stream, request);
  return fault ? { ...answer, walk, fault } : { ...answer, walk, pa: walk.hpa, perm };
}
