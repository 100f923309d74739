// All rows, in the order of the table. A row is { name, about, unit, baselines: names, prepare(native or null),
// reported? }; `reported` rows are in README's table without a gate. prepare
// answers { variants, notes(measured) }, the subject first, and leaves out the baselines that need the addon when there is none. A row
// that times itself has measure(rounds) instead, which answers what runner.mjs would: { variants: [{ name, ns, ratio }], notes }.
import { rows as anchor } from "./rows/anchor.mjs";
import { rows as calls } from "./rows/calls.mjs";
import { rows as coldWalk } from "./rows/cold-walk.mjs";
import { rows as dma } from "./rows/dma.mjs";
import { rows as faults } from "./rows/faults.mjs";
import { rows as formatWalk } from "./rows/format-walk.mjs";
import { rows as generic } from "./rows/generic.mjs";
import { rows as iotlbHit } from "./rows/iotlb-hit.mjs";
import { rows as map } from "./rows/map.mjs";
import { rows as mapLists } from "./rows/map-lists.mjs";
import { rows as mixedWalk } from "./rows/mixed-walk.mjs";
import { rows as parentChange } from "./rows/parent-change.mjs";
import { rows as pipeline } from "./rows/pipeline.mjs";
import { rows as protocol } from "./rows/protocol.mjs";
import { rows as replay } from "./rows/replay.mjs";
import { rows as scalar } from "./rows/scalar.mjs";
import { rows as shadow } from "./rows/shadow.mjs";
import { rows as slot } from "./rows/slot.mjs";
import { rows as threads } from "./rows/threads.mjs";

export const ROWS = [
  ...iotlbHit, ...coldWalk, ...mixedWalk, ...pipeline, ...formatWalk, ...generic, ...slot, ...scalar, ...map, ...mapLists, ...calls,
  ...shadow, ...parentChange, ...protocol, ...threads, ...dma, ...faults, ...replay, ...anchor,
];
