// The intermediate address of a two-stage walk: what stage 1 made of the iova. Imports the engine's types and the decoder of entries.
import { entryOutput } from "../iommu/decode/entry.js";
import { stagesOf } from "../iommu/units/unit.js";
import type { Answer } from "./answer.js";

export function intermediate({ walk, subject: { stream }, request }: Answer): { ipa: bigint; size: bigint } | undefined {
  const leaf = walk?.steps.findLast((step) => step.stage === 1);
  if (!leaf || stream.kind !== "translate") return undefined;
  const { first } = stagesOf(stream.domain, request.iova);
  const output = first && entryOutput(first.format, leaf.level, leaf.pte);
  if (!output) return undefined;
  const size = 1n << BigInt(output.lg2);
  return { ipa: output.address | (request.iova & (size - 1n)), size };
}
