// The formats that rows go through: domain options, log2 of page and table entries, and what the C baselines call them.
import * as L from "../dist/engine/layout.js";

const format = (name, number, pageLg2, levels, outputWidth, more = {}) => ({
  name, number, pageLg2, tableLg2: pageLg2 - 3, c: null, ...more,
  options: { format: number, levels, width: 48, outputWidth, ...more.options },
});

export const FORMATS = [
  format("vtd", L.FORMAT_VTD_SECOND, 12, 4, 46, { c: "Vtd" }),
  format("x86", L.FORMAT_X86_64, 12, 4, 46, { c: "X86", options: { rule: "sign" } }),
  format("amd", L.FORMAT_AMD_V1, 12, 4, 46),
  format("arm-s1-4k", L.FORMAT_ARM_S1_4K, 12, 4, 48, { c: "Arm" }),
  format("arm-s1-16k", L.FORMAT_ARM_S1_16K, 14, 4, 48),
  format("arm-s1-64k", L.FORMAT_ARM_S1_64K, 16, 3, 48),
  format("arm-s2-4k", L.FORMAT_ARM_S2_4K, 12, 4, 48),
  format("arm-s2-16k", L.FORMAT_ARM_S2_16K, 14, 3, 48),
  format("arm-s2-64k", L.FORMAT_ARM_S2_64K, 16, 3, 48),
];

export const VTD = FORMATS[0];
