// The unit that a vector file describes, over a case's memory. Imports the units and the format's types.
import { AmdUnit } from "../iommu/units/amd.js";
import { amdCapabilities } from "../iommu/structures/amd-device-table.js";
import { Smmuv3Unit } from "../iommu/units/smmuv3.js";
import { smmuv3Capabilities } from "../iommu/structures/smmuv3-capabilities.js";
import type { StructureSpace, Unit } from "../iommu/units/unit.js";
import { VtdUnit } from "../iommu/units/vtd.js";
import { vtdCapabilities } from "../iommu/structures/vtd-capabilities.js";
import { UnsupportedUnit, type TopSpec, type UnitSpec } from "./vectors.js";

export function unitOf(spec: UnitSpec, top: TopSpec, space: StructureSpace): Unit {
  if (spec.kind === "vtd" && top.kind === "vtd") {
    const registers = vtdCapabilities(spec.cap, spec.ecap, spec.haw);
    const capabilities = { ...registers, snoopControl: spec.snoopControl ?? registers.snoopControl };
    return new VtdUnit(space, capabilities, { root: top.root, mode: spec.mode });
  }
  if (spec.kind === "amdvi" && top.kind === "amdvi") return new AmdUnit(space, amdCapabilities(spec.efr), top);
  if (spec.kind === "smmuv3" && top.kind === "smmuv3") return new Smmuv3Unit(space, smmuv3Capabilities(spec.idr), top);
  throw new UnsupportedUnit(`vectors of "${spec.kind}" are not supported`);
}
