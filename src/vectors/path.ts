// The path of one query of a vector file: configuration structures, table entries of both stages, the answer and the recorded
// one. Imports engine, iommu and its own folder.
import { Engine } from "../engine/engine.js";
import * as L from "../engine/layout.js";
import type { Walk } from "../engine/walk-record.js";
import { structureSteps, walkOutcome, walkSteps, type PathShape, type PathStep } from "../iommu/decode/path.js";
import type { ArchitecturalFault } from "../iommu/faults/fault.js";
import type { Stage } from "../iommu/structures/structure.js";
import { stagesOf, type DomainTree } from "../iommu/units/unit.js";
import { exactAnswer, type Answer } from "./answer.js";
import { CaseMemory, roomFor } from "./case-memory.js";
import { CaseWorld } from "./case-world.js";
import { recordedDifferences, type FieldDifference } from "./recorded.js";
import { describeQuery, VectorError, type Expected, type VectorFile } from "./vectors.js";

export interface QueryPath {
  request: string;
  steps: PathStep[];
  outcome: string;
  fault?: ArchitecturalFault;
  recorded: Expected;
  quirk?: string;
  /** Fields that differ from the recorded answer; a quirk's differences are known. */
  differences: FieldDifference[];
}

/** A world that keeps the walks through stage 2 that structures were read by. */
class WatchedWorld extends CaseWorld {
  readonly fetches: { stage: Stage; walk: Walk }[] = [];

  override walk(stage: Stage, ipa: bigint, need: number): Walk {
    const walk = super.walk(stage, ipa, need);
    // The words of one structure lie in one page: its walk is shown once.
    const page = (each: Walk): bigint | undefined => each.steps.at(-1)?.address;
    if (!this.fetches.some((other) => page(other.walk) === page(walk))) this.fetches.push({ stage, walk });
    return walk;
  }
}

function shapeOf(domain: DomainTree, iova: bigint, privileged: boolean): PathShape {
  const { first, second } = stagesOf(domain, iova);
  return {
    stage1: first?.format, stage2: second?.format, privileged,
    ignoreTablePermissions: ((first?.options ?? 0) & L.OPTION_IGNORE_TABLE_PERMISSIONS) !== 0,
  };
}

/** Structures in the order read; what stage 2 did for a context descriptor stands before it. */
function stepsOf(answer: Answer, world: WatchedWorld): PathStep[] {
  const { stream } = answer.subject;
  const structures = structureSteps(stream.read);
  const fetches = world.fetches.flatMap(({ stage, walk }) => walkSteps(walk, { stage2: stage.format, privileged: true }));
  const cut = structures.findIndex((step) => step.what.endsWith("context descriptor"));
  const at = cut < 0 ? structures.length : cut;
  const tables = answer.walk && stream.kind === "translate"
    ? walkSteps(answer.walk, shapeOf(stream.domain, answer.request.iova, world.unit.privileged)) : [];
  return [...structures.slice(0, at), ...fetches, ...structures.slice(at), ...tables];
}

function outcomeOf({ walk, fault, pa, subject: { stream } }: Answer): string {
  const event = fault ? `${fault.name}${fault.reported ? "" : " (not reported)"}` : "";
  if (stream.kind === "refuse") return `the stream is refused: ${event}`;
  if (stream.kind === "identity" && !fault) return `not translated: 0x${pa!.toString(16)}`;
  return [...(walk ? [walkOutcome(walk)] : []), ...(event ? [event] : [])].join("; ");
}

/** Throws VectorError when there is no such case or query. */
export async function queryPath(file: VectorFile, caseId: number, queryIndex: number): Promise<QueryPath> {
  const each = file.cases.find(({ id }) => id === caseId);
  if (!each) throw new VectorError(`case ${caseId}`, `there is none; the file has ${file.cases.length}, of ids ${file.cases[0]?.id}..${file.cases.at(-1)?.id}`);
  const query = each.queries[queryIndex];
  if (!query) throw new VectorError(`case ${caseId}, query ${queryIndex}`, `there is none; the case has 0..${each.queries.length - 1}`);
  const { ram, slots } = roomFor({ ...file, cases: [each] });
  const engine = await Engine.create({ memory: { ram, arena: 16 << 20 }, slots, ports: { count: 1 } });
  new CaseMemory(engine, file.unit.ram).load(each);
  const world = new WatchedWorld(engine, file.unit, each);
  const answer = exactAnswer(world, query);
  return {
    request: describeQuery(query), steps: stepsOf(answer, world), outcome: outcomeOf(answer),
    ...(answer.fault ? { fault: answer.fault } : {}), recorded: query.expect,
    ...(query.quirk === undefined ? {} : { quirk: query.quirk }),
    differences: recordedDifferences(answer, query.expect, file.unit),
  };
}
