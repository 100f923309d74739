// Where the table entry would have been that a walk could not read: event records of external aborts tell it (SMMUv3 7.3,
// F_WALK_EABT; AMD 2.5.6). Worked out from the entry before it. Every format but the mock. Imports the engine's types and the decoder of entries.
import * as L from "../../engine/layout.js";
import type { Walk } from "../../engine/walk-record.js";
import type { Stage } from "../structures/structure.js";
import { entryOutput } from "./entry.js";

/** Others have 4 KiB. */
const GRANULE_LG2: Readonly<Record<number, number>> = {
  [L.FORMAT_ARM_S1_4K]: 12, [L.FORMAT_ARM_S1_16K]: 14, [L.FORMAT_ARM_S1_64K]: 16,
  [L.FORMAT_ARM_S2_4K]: 12, [L.FORMAT_ARM_S2_16K]: 14, [L.FORMAT_ARM_S2_64K]: 16,
};

/** Byte offset of the entry for `input` in its table; the start table takes all bits of the input that are left. */
function offset({ format, levels, width }: Stage, input: bigint, level: number): bigint {
  const granule = GRANULE_LG2[format] ?? 12;
  const below = BigInt(granule + (granule - 3) * level);
  const bits = level === levels - 1 ? BigInt(width) - below : BigInt(granule - 3);
  return ((input >> below) & ((1n << bits) - 1n)) << 3n;
}

/** Address of the entry that stage `n` wanted next, after the steps that it has read. */
function nextEntry(walk: Walk, n: 1 | 2, stage: Stage, input: bigint): bigint {
  const last = n === 1 ? walk.steps.findLast((step) => step.stage === 1) : walk.steps.at(-1);
  // A stage-2 walk begins anew after each entry of stage 1, and after its own leaf.
  const pointer = last?.stage === n ? entryOutput(stage.format, last.level, last.pte) : undefined;
  if (!last || !pointer || pointer.lg2 !== 0) return stage.guestRoot + offset(stage, input, stage.levels - 1);
  // Only AMD's pointers name the level that they lead to: NextLevel, which counts from 1.
  const next = stage.format === L.FORMAT_AMD_V1 ? Number((last.pte >> 9n) & 7n) : last.level;
  return pointer.address + offset(stage, input, next - 1);
}

/** `first` serves the iova's half; stages that are not there are undefined. Undefined: the walk did not end so. */
export function fetchAddress(walk: Walk, iova: bigint, first: Stage | undefined, second: Stage | undefined): bigint | undefined {
  if (walk.reason !== "table-outside") return undefined;
  if (walk.stage === 2) return second && nextEntry(walk, 2, second, first ? walk.ipa : iova);
  if (!first) return undefined;
  const address = nextEntry(walk, 1, first, iova);
  const leaf = walk.steps.at(-1);
  if (!second || leaf?.stage !== 2) return address;
  // Stage 2 has translated it; the last of its entries says where to.
  const page = entryOutput(second.format, leaf.level, leaf.pte);
  return page && (page.address | (address & ((1n << BigInt(page.lg2)) - 1n)));
}
