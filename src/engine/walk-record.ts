// The walk record of the exact walker, as an object. Imports layout only.
import * as L from "./layout.js";

export interface WalkStep {
  /** Of the entry: memory offset in a kernel-owned table, hpa in a guest's, gpa in a guest's below a stage 2. */
  address: bigint;
  pte: bigint;
  stage: 1 | 2;
  /** 0 is the leaf table. */
  level: number;
  /** L.PERM_* (unprivileged, and privileged shifted) that the path down to this leaf grants; 0 for a pointer to a table. */
  perm: number;
}

export interface Walk {
  reason: (typeof L.REASON_NAMES)[number];
  /** Where the walk ended. */
  stage: 1 | 2;
  class: (typeof L.CLASS_NAMES)[number];
  level: number;
  /** The input of stage 2, when the reason is of stage 2 below a stage 1; else 0. */
  ipa: bigint;
  /** Permissions of the whole path. */
  perm: number;
  /** Only for a translation that exists: its output address and the size of its leaf, of two stages the smaller. */
  hpa: bigint;
  leafLg2: number;
  /** The entries of both stages in the order in which they were read. */
  steps: WalkStep[];
}

export function readWalk(memory: WebAssembly.Memory, address: number): Walk {
  const view = new DataView(memory.buffer, address, L.WALK_BYTES);
  const u32 = (offset: number): number => view.getUint32(offset, true);
  const steps: WalkStep[] = [];
  for (let i = 0; i < u32(L.WALK_STEPS); i++) {
    const at = L.WALK_STEP + i * L.STEP_BYTES;
    steps.push({
      address: view.getBigUint64(at + L.STEP_ADDRESS, true),
      pte: view.getBigUint64(at + L.STEP_PTE, true),
      stage: u32(at + L.STEP_STAGE) === 1 ? 1 : 2,
      level: u32(at + L.STEP_LEVEL),
      perm: u32(at + L.STEP_PERM),
    });
  }
  return {
    reason: L.REASON_NAMES[u32(L.WALK_REASON)] ?? "none",
    stage: u32(L.WALK_STAGE) === 1 ? 1 : 2,
    class: L.CLASS_NAMES[u32(L.WALK_CLASS)] ?? "none",
    level: u32(L.WALK_LEVEL),
    ipa: view.getBigUint64(L.WALK_IPA, true),
    perm: u32(L.WALK_PERM),
    hpa: view.getBigUint64(L.WALK_HPA, true),
    leafLg2: u32(L.WALK_LEAF_LG2),
    steps,
  };
}
