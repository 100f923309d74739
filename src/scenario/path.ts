// The way of one address from a device to memory: its address in each space on the way, and the table entries that the IOMMU reads.
// Reads only. Imports the engine, the decoders, the host, the uAPI, and its own folder.
import * as L from "../engine/layout.js";
import { walkOutcome, walkSteps, type PathShape, type PathStep } from "../iommu/decode/path.js";
import { firstByte } from "../uapi/arguments.js";
import type { Device } from "../uapi/device.js";
import type { Ioasid } from "../uapi/ioasid.js";
import type { ScenarioRun } from "./run.js";
import { nameOfSpace } from "./state.js";

export interface AccessPath {
  /** The address in each space that it passes: ioasids by name, then "hva" and "hpa"; it ends where nothing is mapped. */
  readonly hops: readonly { readonly space: string; readonly address: bigint }[];
  readonly steps: readonly PathStep[];
  /** How the walk ended, in a sentence. */
  readonly outcome: string;
}

const ARM_STAGE1 = { 4096: L.FORMAT_ARM_S1_4K, 16384: L.FORMAT_ARM_S1_16K, 65536: L.FORMAT_ARM_S1_64K } as const;

/** The formats that the IOMMU walks for a space: the guest's table over the parent's, or one table. */
function shapeOf({ pgtable }: Ioasid, { iommu: { model } }: Device): PathShape {
  if (pgtable === undefined) return { stage1: model.format, stage2: model.format, privileged: false };
  const { format } = pgtable;
  const stage1 = format.kind === "x86-64" ? L.FORMAT_X86_64 : ARM_STAGE1[format.granule];
  return { stage1, stage2: model.format, privileged: false };
}

/** Where the tables of a bound space lead in the parent; undefined when they do not lead anywhere. */
function outputOfStage1(steps: readonly PathStep[], iova: bigint): bigint | undefined {
  const leaf = steps.findLast(({ stage, kind }) => stage === 1 && kind === "leaf");
  return leaf && leaf.leadsTo! + (iova & (leaf.bytes! - 1n));
}

/** The address in each space on the way up to the process; shorter where a space maps nothing. */
function hopsOf(run: ScenarioRun, device: Device, space: Ioasid, iova: bigint, steps: readonly PathStep[]): AccessPath["hops"] {
  const hops: { space: string; address: bigint }[] = [];
  let address: bigint | undefined = iova;
  for (let at: Ioasid | undefined = space; at !== undefined && address !== undefined; at = at.parent) {
    hops.push({ space: nameOfSpace(run, device.binding!.ioasidFd, at), address });
    address = at.pgtable === undefined ? targetOf(at, address) : outputOfStage1(steps, address);
  }
  if (address === undefined) return hops;
  hops.push({ space: "hva", address });
  const backing = run.host.process.find(Number(address >> 12n));
  return backing === undefined ? hops : [...hops, { space: "hpa", address: address + backing.delta }];
}

function targetOf({ areas }: Ioasid, address: bigint): bigint | undefined {
  const page = Number(address >> 12n);
  const area = areas.find(page);
  return area && firstByte(area.value.target + page - area.first) + (address & 0xfffn);
}

/** The way of an access as the tables are now. */
export function pathOf(run: ScenarioRun, deviceName: string, pasid: number | undefined, iova: bigint, write: boolean): AccessPath {
  const device = run.host.devices().find(({ name }) => name === deviceName)!;
  const { routed, binding } = device;
  if (routed?.pasidTable !== undefined) {
    return { hops: [{ space: nameOfSpace(run, binding!.ioasidFd, routed), address: iova }], steps: [], outcome: "led by the guest's PASID table" };
  }
  const space = pasid === undefined ? routed : device.pasids.get(pasid)?.space;
  if (space?.domain === undefined) return { hops: [], steps: [], outcome: "refused: blocked" };
  const walk = run.host.engine.walk(space.domain.index, iova, write ? L.PERM_W : L.PERM_R);
  const steps = walkSteps(walk, shapeOf(space, device));
  return { hops: hopsOf(run, device, space, iova, steps), steps, outcome: walkOutcome(walk) };
}
