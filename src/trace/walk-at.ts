// The tables as they are at one DMA request of a trace, and the walk of that request through them. Imports the engine's layout,
// the decoders of entries, and its own folder.
import * as L from "../engine/layout.js";
import { walkOutcome, walkSteps, type PathStep } from "../iommu/decode/path.js";
import { replayTo, type ReplayOptions } from "./replay.js";
import * as T from "./trace.js";
import { TraceError } from "./trace-error.js";

export interface RequestPath {
  request: string;
  steps: PathStep[];
  outcome: string;
}

function rowAt(trace: T.Trace, line: number): number {
  const row = trace.line.indexOf(line);
  if (row < 0) throw new TraceError(line, "there is no event on that line");
  if (trace.ops[row] !== T.OP_DMA) throw new TraceError(line, `is no DMA request: ${trace.describe(row).replaceAll("\t", " ")}`);
  return row;
}

/** Takes a planned trace (segments.ts). Throws TraceError for a line that has no DMA request. */
export async function requestPath(trace: T.Trace, line: number, options: ReplayOptions = {}): Promise<RequestPath> {
  const row = rowAt(trace, line);
  const { engine, iommus } = await replayTo(trace, row, options);
  const request = trace.describe(row).replaceAll("\t", " ");
  const domain = engine.routeDomain(engine.route(trace.subject[row]!, trace.target[row]!));
  if (domain === undefined) return { request, steps: [], outcome: "refused: no address space is attached" };
  const need = (trace.flags[row]! & T.FLAG_WRITE ? L.PERM_W : 0) | (trace.flags[row]! & T.FLAG_READ ? L.PERM_R : 0);
  const walk = engine.walk(domain, trace.iova(row), need);
  const [iommu] = iommus.values();
  const { format } = iommu!.model;
  const shape = { stage1: format, stage2: format, privileged: false };
  return { request, steps: walkSteps(walk, shape), outcome: walkOutcome(walk) };
}
