// Entries in words: golden entries of every format, from the manuals named in assembly/format/*, and the path of a walk.
import { describe, expect, it } from "vitest";
import * as L from "../../src/engine/layout.js";
import type { Walk } from "../../src/engine/walk-record.js";
import { decodeEntry } from "../../src/iommu/decode/entry.js";
import { fetchAddress } from "../../src/iommu/decode/fetch-address.js";
import { structureSteps, walkOutcome, walkSteps } from "../../src/iommu/decode/path.js";

describe("an entry", () => {
  it.each<[string, number, number, bigint, string, bigint | undefined, number | undefined, string[]]>([
    ["VT-d table", L.FORMAT_VTD_SECOND, 3, 0x12345003n, "table", 0x12345000n, 0, ["R", "W"]],
    ["VT-d 2 MiB, dirty", L.FORMAT_VTD_SECOND, 1, 0x40000b81n, "leaf", 0x40000000n, 21, ["R", "PS", "A", "D", "SNP"]],
    ["VT-d without R and W", L.FORMAT_VTD_SECOND, 0, 0x40000080n, "empty", undefined, undefined, ["PS"]],
    ["x86-64 page", L.FORMAT_X86_64, 0, 0x8000000012345067n, "leaf", 0x12345000n, 12, ["P", "RW", "US", "A", "D", "XD"]],
    ["x86-64 1 GiB", L.FORMAT_X86_64, 2, 0x40000087n, "leaf", 0x40000000n, 30, ["P", "RW", "US", "PS"]],
    ["x86-64 not present", L.FORMAT_X86_64, 1, 0x12345086n, "empty", undefined, undefined, ["RW", "US", "PS"]],
    ["AMD 16 KiB: one 1 from bit 12 up", L.FORMAT_AMD_V1, 0, 0x6000000012345e01n, "leaf", 0x12344000n, 14, ["PR", "NextLevel 7", "IR", "IW"]],
    ["AMD 2 MiB", L.FORMAT_AMD_V1, 1, 0x2000000040000001n, "leaf", 0x40000000n, 21, ["PR", "IR"]],
    ["AMD table of level 2", L.FORMAT_AMD_V1, 3, 0x6000000012345401n, "table", 0x12345000n, 0, ["PR", "NextLevel 2", "IR", "IW"]],
    ["Arm page", L.FORMAT_ARM_S1_4K, 0, 0x60000012345fc3n, "leaf", 0x12345000n, 12, ["valid", "page", "AP[1]", "AP[2]", "SH 3", "AF", "nG", "PXN", "UXN"]],
    ["Arm table", L.FORMAT_ARM_S1_16K, 2, 0x4000000012344003n, "table", 0x12344000n, 0, ["valid", "table", "APTable 2"]],
    ["Arm 32 MiB block", L.FORMAT_ARM_S1_16K, 1, 0x42000401n, "leaf", 0x42000000n, 25, ["valid", "AF"]],
    ["Arm block where the granule has none", L.FORMAT_ARM_S1_16K, 2, 0x42000401n, "empty", undefined, undefined, ["valid", "AF"]],
    ["Arm page without bit 1", L.FORMAT_ARM_S1_4K, 0, 0x12345401n, "empty", undefined, undefined, ["valid", "AF"]],
    ["Arm stage 2, 512 MiB", L.FORMAT_ARM_S2_64K, 1, 0x600004fdn, "leaf", 0x60000000n, 29, ["valid", "MemAttr 15", "S2AP.R", "S2AP.W", "AF"]],
    ["Arm stage 2, contiguous page", L.FORMAT_ARM_S2_4K, 0, 0x10000012345443n, "leaf", 0x12345000n, 12, ["valid", "page", "S2AP.R", "AF", "contiguous"]],
    ["mock, 4 equal entries", L.FORMAT_MOCK, 0, 0x1234720dn, "leaf", 0x12344000n, 14, ["V", "R", "W", "N 2"]],
  ])("%s", (_name, format, level, pte, kind, address, lg2, bits) => {
    const entry = decodeEntry(format, level, pte);
    expect(entry).toEqual({ kind, bits, ...(address === undefined ? {} : { output: { address, lg2 } }) });
  });
});

const walk = (over: Partial<Walk>): Walk => ({
  reason: "none", stage: 2, class: "none", level: 0, ipa: 0n, perm: 0x11, hpa: 0x5000n, leafLg2: 12, steps: [], ...over,
});

describe("a path", () => {
  it("names structures and their fields", () => {
    expect(structureSteps([{ structure: "pasid-table-entry", address: 0x40n, words: [0x40000085n, 0x7n, 0n] }])).toEqual([
      { what: "PASID table entry", address: 0x40n, words: [0x40000085n, 7n, 0n], bits: ["P", "AW 1", "PGTT 2", "SSPTPTR 0x40000000", "DID 7"] },
    ]);
  });

  it("narrows permissions from level to level, for the stage and the privilege", () => {
    const entries = [{ address: 0n, pte: 0x1001n, level: 2 }, { address: 0x1000n, pte: 0x2003n, level: 1 }, { address: 0x2000n, pte: 0x5003n, level: 0 }];
    const steps = entries.map((each) => ({ ...each, stage: 2 as const, perm: each.level ? 0 : 0x11 }));
    const shown = walkSteps(walk({ steps }), { stage2: L.FORMAT_VTD_SECOND, privileged: false });
    expect(shown.map((step) => [step.kind, step.leadsTo, step.permissions])).toEqual([["table", 0x1000n, "r--"], ["table", 0x2000n, "r--"], ["leaf", 0x5000n, "r--"]]);
  });

  it("begins stage 2 anew for each address that it translates", () => {
    const table = { stage: 2 as const, level: 1, perm: 0, pte: 0x1001n, address: 0n };
    const steps = [table, { stage: 1 as const, level: 0, perm: 0x77, pte: 0x5067n, address: 0n }, { ...table, pte: 0x2003n }];
    const shown = walkSteps(walk({ steps }), { stage1: L.FORMAT_X86_64, stage2: L.FORMAT_VTD_SECOND, privileged: false });
    expect(shown.map((step) => step.permissions)).toEqual(["r--", "rwx", "rw-"]);
  });

  it("ends in a sentence", () => {
    expect(walkOutcome(walk({}))).toBe("translated to 0x5000, a page of 4096 bytes");
    expect(walkOutcome(walk({ reason: "read-denied", class: "table", ipa: 0x123n, level: 1 })))
      .toBe("refused: read-denied in stage 2 at level 1, reading a table, for intermediate address 0x123");
  });
});

describe("the address of an entry that cannot be read", () => {
  const stage1 = { format: L.FORMAT_ARM_S1_4K, levels: 4, width: 48, outputWidth: 48, guestRoot: 0x10000n };
  const stage2 = { format: L.FORMAT_ARM_S2_16K, levels: 2, width: 38, outputWidth: 48, guestRoot: 0x200000n };
  const outside = (over: Partial<Walk>): Walk => walk({ reason: "table-outside", class: "table", ...over });

  it("is in the start table, whose index takes what is left of the input, concatenated tables included", () => {
    expect(fetchAddress(outside({ stage: 1 }), 0x8000000000n, stage1, undefined)).toBe(0x10008n);
    expect(fetchAddress(outside({ stage: 2 }), 0x3ffe000000n, undefined, stage2)).toBe(0x200000n + 8191n * 8n);
  });

  it("is where the pointer before it leads", () => {
    const steps = [{ stage: 1 as const, level: 3, perm: 0, pte: 0x77000003n, address: 0x10000n }];
    expect(fetchAddress(outside({ stage: 1, steps }), 0x40000000n, stage1, undefined)).toBe(0x77000008n);
  });

  it("is in the table of the level that AMD's pointer names", () => {
    const amd = { format: L.FORMAT_AMD_V1, levels: 4, width: 48, outputWidth: 52, guestRoot: 0x10000n };
    const steps = [{ stage: 2 as const, level: 3, perm: 0, pte: 0x77000401n, address: 0x10000n }];
    expect(fetchAddress(outside({ stage: 2, steps }), 0x12345678n, undefined, amd)).toBe(0x77000000n + (0x12345678n >> 21n) * 8n);
  });

  it("is what stage 2 made of it, below a stage 1", () => {
    const steps = [
      { stage: 2 as const, level: 0, perm: 0x77, pte: 0x100443n, address: 0n }, { stage: 1 as const, level: 3, perm: 0, pte: 0x77001003n, address: 0x10000n },
      { stage: 2 as const, level: 0, perm: 0x77, pte: 0x88000443n, address: 0n },
    ];
    expect(fetchAddress(outside({ stage: 1, steps }), 0x40000000n, stage1, stage2)).toBe(0x88001008n);
    expect(fetchAddress(outside({ stage: 2, steps: steps.slice(0, 2), ipa: 0x77001008n }), 0x40000000n, stage1, stage2)).toBe(0x200000n + (0x77001008n >> 25n) * 8n);
    expect(fetchAddress(walk({}), 0n, stage1, stage2)).toBeUndefined();
  });
});
