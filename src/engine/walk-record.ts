// The walk record of the exact walker, as an object. Imports layout only.
import * as L from "./layout.js";

export interface WalkStep {
  /** Of the entry: memory offset in a kernel-owned table, hpa in a guest's. */
  address: bigint;
  pte: bigint;
  /** 0 is the leaf table. */
  level: number;
  /** L.PERM_* that the entries down to here grant. */
  perm: number;
}

export interface Walk {
  reason: (typeof L.REASON_NAMES)[number];
  /** Where the walk ended. */
  level: number;
  /** Permissions of the whole path. */
  perm: number;
  /** Only for a translation that exists: its output address and the size of its leaf. */
  hpa: bigint;
  leafLg2: number;
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
      level: u32(at + L.STEP_LEVEL),
      perm: u32(at + L.STEP_PERM),
    });
  }
  return {
    reason: L.REASON_NAMES[u32(L.WALK_REASON)] ?? "none",
    level: u32(L.WALK_LEVEL),
    perm: u32(L.WALK_PERM),
    hpa: view.getBigUint64(L.WALK_HPA, true),
    leafLg2: u32(L.WALK_LEAF_LG2),
    steps,
  };
}
