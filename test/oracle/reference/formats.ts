// The architectures by the layout's format numbers.
import * as L from "../../../src/engine/layout.js";
import { AMD_V1 } from "./amd-v1.js";
import { ARM_S1_16K, ARM_S1_4K, ARM_S1_64K, ARM_S2_16K, ARM_S2_4K, ARM_S2_64K } from "./aarch64.js";
import { MOCK } from "./mock.js";
import type { Architecture, Entry, ReferenceRules } from "./types.js";
import { VTD_SECOND } from "./vtd-second.js";
import { X86_64 } from "./x86-64.js";

const FORMATS = new Map<number, Architecture>([
  [L.FORMAT_VTD_SECOND, VTD_SECOND], [L.FORMAT_AMD_V1, AMD_V1], [L.FORMAT_X86_64, X86_64],
  [L.FORMAT_ARM_S1_4K, ARM_S1_4K], [L.FORMAT_ARM_S1_16K, ARM_S1_16K], [L.FORMAT_ARM_S1_64K, ARM_S1_64K],
  [L.FORMAT_ARM_S2_4K, ARM_S2_4K], [L.FORMAT_ARM_S2_16K, ARM_S2_16K], [L.FORMAT_ARM_S2_64K, ARM_S2_64K],
  [L.FORMAT_MOCK, MOCK],
]);

/** Throws a RangeError for a format that has no reference. */
export function architectureOf(format: number): Architecture {
  const arch = FORMATS.get(format);
  if (!arch) throw new RangeError(`format ${format} has no reference`);
  return arch;
}

/** What one entry of a table at `level` means. */
export function decodeReference(rules: ReferenceRules, pte: bigint, level: number): Entry {
  return architectureOf(rules.format).decode(rules, pte, level);
}
