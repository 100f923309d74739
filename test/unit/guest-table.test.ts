// A guest's page table as its owner describes it: what each preset walks, each cause of refusal by its field, and walks of small
// tables through the kernel's own as stage 2.
import { describe, expect, it } from "vitest";
import { Engine, type DomainOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import { guestTable, type ArmGuestTable, type GuestTableFormat, type GuestTableRefusal } from "../../src/iommu/guest-table.js";
import { modelOf, type IommuOptions } from "../../src/iommu/model.js";
import { liveDomains } from "../oracle/engine-state.js";
import { askOne, R, RW, W, type Answer } from "./engine-fixture.js";
import { GuestRam, GuestTable, RAM_FIRST, type Mapping } from "./guest-tables.js";

const VTD: IommuOptions = { preset: "vtd-scalable", stage: 2 };
const AMD: IommuOptions = { preset: "amd" };
const SMMU: IommuOptions = { preset: "smmuv3", stage: 2 };
const X86: GuestTableFormat = { kind: "x86-64", levels: 4 };
const ARM: ArmGuestTable = { kind: "aarch64-stage1", granule: 4096, inputWidth: 48 };

function accepted(iommu: IommuOptions, format: GuestTableFormat, addr: bigint): DomainOptions {
  const table = guestTable(modelOf(iommu), format, addr);
  if ("reason" in table) throw new Error(`${table.field}: ${table.reason}`);
  return table;
}

function refused(iommu: IommuOptions, format: unknown, addr = 0n): GuestTableRefusal {
  const table = guestTable(modelOf(iommu), format as GuestTableFormat, addr);
  if (!("reason" in table)) throw new Error(`accepted: ${String(format)}`);
  return table;
}

describe("a description of a guest's table", () => {
  it.each([
    [VTD, X86, { format: L.FORMAT_X86_64, levels: 4, width: 48, rule: "sign", outputWidth: 52, accessed: "set", dirty: "set", options: 0 }],
    [VTD, { kind: "x86-64", levels: 5, writeProtect: true }, { levels: 5, width: 57, rule: "sign", options: L.OPTION_WRITE_PROTECT }],
    [{ ...VTD, outputWidth: 46 }, X86, { outputWidth: 46 }],
    [AMD, { kind: "x86-64", levels: 5 }, { format: L.FORMAT_X86_64, levels: 5, width: 57, rule: "sign", accessed: "set", dirty: "set" }],
    [SMMU, ARM, { format: L.FORMAT_ARM_S1_4K, levels: 4, width: 48, rule: "zero", outputWidth: 48, accessed: "fault", dirty: "ignore" }],
    [SMMU, { ...ARM, hardwareAccessed: true }, { accessed: "set", dirty: "ignore" }],
    [SMMU, { ...ARM, hardwareAccessed: true, hardwareDirty: true }, { accessed: "set", dirty: "set" }],
    [SMMU, { ...ARM, outputWidth: 40, hardwareAccessed: undefined }, { outputWidth: 40, accessed: "fault" }],
    [{ ...SMMU, addressWidth: 43 }, ARM, { outputWidth: 43, width: 48 }],
    [{ ...SMMU, outputWidth: 44 }, ARM, { outputWidth: 44 }],
    // The granule need not be that of stage 2; levels as in the Arm ARM, D8.2.
    [SMMU, { ...ARM, granule: 16384, inputWidth: 47 }, { format: L.FORMAT_ARM_S1_16K, levels: 3 }],
    [SMMU, { ...ARM, granule: 65536, inputWidth: 25 }, { format: L.FORMAT_ARM_S1_64K, levels: 1, width: 25 }],
    [SMMU, { ...ARM, inputWidth: 25 }, { levels: 2 }], [SMMU, { ...ARM, inputWidth: 39 }, { levels: 3 }], [SMMU, { ...ARM, inputWidth: 40 }, { levels: 4 }],
  ] as [IommuOptions, GuestTableFormat, object][])("%j: %j becomes %j", (iommu, format, expected) => {
    expect(accepted(iommu, format, 0n)).toMatchObject(expected);
  });

  it.each([
    [VTD, undefined, "invalid", "format", "not absent"], [VTD, null, "invalid", "format", "not null"], [VTD, 4, "invalid", "format", "not 4"],
    [VTD, [X86], "invalid", "format", "not an array"],
    [VTD, {}, "invalid", "format.kind", "not absent"], [VTD, { kind: 4 }, "invalid", "format.kind", "not 4"],
    [VTD, { kind: "riscv-sv48" }, "unsupported", "format.kind", "not known"], [VTD, { kind: "toString" }, "unsupported", "format.kind", "not known"],
    [VTD, ARM, "unsupported", "format.kind", "does not walk guests' aarch64-stage1"], [AMD, ARM, "unsupported", "format.kind", "amd"],
    [SMMU, X86, "unsupported", "format.kind", "does not walk guests' x86-64"],
    [{}, X86, "unsupported", "format.kind", "vtd"],
    [{ preset: "vtd-scalable" }, X86, "unsupported", "format.kind", "tables of stage 1"],
    [{ preset: "smmuv3" }, ARM, "unsupported", "format.kind", "tables of stage 1"],
    [{ preset: "amd", nesting: false }, X86, "unsupported", "format.kind", "amd"],
    [VTD, { ...X86, levels: 3 }, "invalid", "format.levels", "one of 4, 5, not 3"], [VTD, { ...X86, levels: "4" }, "invalid", "format.levels", "not 4"],
    [VTD, { kind: "x86-64" }, "invalid", "format.levels", "is missing"], [VTD, { ...X86, levels: undefined }, "invalid", "format.levels", "is missing"],
    [VTD, { ...X86, levels: null }, "invalid", "format.levels", "not null"],
    [VTD, { ...X86, writeProtect: 1 }, "invalid", "format.writeProtect", "not 1"],
    [VTD, { ...X86, granule: 4096 }, "invalid", "format.granule", "no field of x86-64"],
    [VTD, { ...X86, toString: undefined }, "invalid", "format.toString", "no field of x86-64"],
    [SMMU, { ...ARM, levels: 4 }, "invalid", "format.levels", "no field of aarch64-stage1"],
    [SMMU, { ...ARM, granule: 8192 }, "invalid", "format.granule", "one of 4096, 16384, 65536, not 8192"],
    [SMMU, { ...ARM, granule: "4096" }, "invalid", "format.granule", "not 4096"],
    [SMMU, { kind: ARM.kind, inputWidth: 48 }, "invalid", "format.granule", "is missing"],
    [SMMU, { kind: ARM.kind, granule: 4096 }, "invalid", "format.inputWidth", "is missing"],
    [SMMU, { ...ARM, inputWidth: 24 }, "invalid", "format.inputWidth", "25..48, not 24"], [SMMU, { ...ARM, inputWidth: 49 }, "invalid", "format.inputWidth", "not 49"],
    [SMMU, { ...ARM, inputWidth: 40.5 }, "invalid", "format.inputWidth", "not 40.5"], [SMMU, { ...ARM, inputWidth: "40" }, "invalid", "format.inputWidth", "not 40"],
    [SMMU, { ...ARM, outputWidth: 41 }, "invalid", "format.outputWidth", "one of 32, 36, 40, 42, 44, 48, not 41"],
    [SMMU, { ...ARM, outputWidth: 52 }, "invalid", "format.outputWidth", "not 52"],
    [{ ...SMMU, addressWidth: 40 }, { ...ARM, outputWidth: 42 }, "unsupported", "format.outputWidth", "at most 40, not 42"],
    [{ ...SMMU, outputWidth: 40 }, { ...ARM, outputWidth: 42 }, "unsupported", "format.outputWidth", "at most 40, not 42"],
    [SMMU, { ...ARM, hardwareAccessed: "yes" }, "invalid", "format.hardwareAccessed", "not yes"],
    [SMMU, { ...ARM, hardwareDirty: 0 }, "invalid", "format.hardwareDirty", "not 0"],
    [SMMU, { ...ARM, hardwareDirty: true }, "invalid", "format.hardwareDirty", "needs hardwareAccessed"],
    [{ ...SMMU, dirtyTracking: false }, { ...ARM, hardwareAccessed: true, hardwareDirty: true }, "unsupported",
      "format.hardwareDirty", "does not set dirty state"],
  ] as [IommuOptions, unknown, string, string, string][])("%j: %j is %s for %s: %s", (iommu, format, kind, field, reason) => {
    expect(refused(iommu, format)).toEqual({ kind, field, reason: expect.stringContaining(reason), hint: expect.stringMatching(/./) });
  });

  it("is read once: what the checks saw is what the domain gets", () => {
    let reads = 0;
    const format = { kind: "x86-64", get levels() { return ++reads === 1 ? 4 : 17; } };
    expect(accepted(VTD, format as GuestTableFormat, 0n)).toMatchObject({ levels: 4, width: 48 });
  });
});

describe("the address of a guest's table", () => {
  it.each([
    // [model, format, alignment, first address that is too high]
    [VTD, X86, 4096n, 1n << 48n], [AMD, X86, 4096n, 1n << 52n], [{ preset: "amd", addressWidth: 39 }, X86, 4096n, 1n << 39n],
    [{ ...VTD, outputWidth: 40 }, X86, 4096n, 1n << 40n],
    // A start table is aligned to its size: 8 bytes for each entry that the width asks for, at least 64 here.
    [SMMU, ARM, 4096n, 1n << 48n], [SMMU, { ...ARM, inputWidth: 47 }, 2048n, 1n << 48n], [SMMU, { ...ARM, inputWidth: 40 }, 64n, 1n << 48n],
    [SMMU, { ...ARM, inputWidth: 42 }, 64n, 1n << 48n], [SMMU, { ...ARM, inputWidth: 43 }, 128n, 1n << 48n],
    [SMMU, { ...ARM, inputWidth: 39 }, 4096n, 1n << 48n], [SMMU, { ...ARM, granule: 16384 }, 64n, 1n << 48n],
    [SMMU, { ...ARM, granule: 16384, inputWidth: 47 }, 16384n, 1n << 48n], [SMMU, { ...ARM, granule: 65536 }, 512n, 1n << 48n],
    [SMMU, { ...ARM, granule: 65536, inputWidth: 42 }, 65536n, 1n << 48n],
    [{ ...SMMU, addressWidth: 43 }, ARM, 4096n, 1n << 43n], [SMMU, { ...ARM, outputWidth: 32 }, 4096n, 1n << 32n],
  ] as [IommuOptions, GuestTableFormat, bigint, bigint][])("on %j with %j is a multiple of %d below %d", (iommu, format, alignment, end) => {
    for (const addr of [0n, alignment, end - alignment]) expect(accepted(iommu, format, addr).guestRoot).toBe(addr);
    expect(refused(iommu, format, alignment / 2n)).toMatchObject({ kind: "invalid", field: "addr", reason: expect.stringContaining(`multiple of ${alignment}`) });
    expect(refused(iommu, format, end - 8n)).toMatchObject({ kind: "invalid", field: "addr" });
    for (const addr of [end, 1n << 63n, -alignment]) {
      expect(refused(iommu, format, addr)).toMatchObject({ kind: "invalid", field: "addr", reason: expect.stringContaining("must be below") });
    }
  });
});

/** The guest's addresses begin at 0, where its RAM lies in the parent. */
async function guest(iommu: IommuOptions, format: GuestTableFormat) {
  const engine = await Engine.create({ memory: { ram: 1 << 20, arena: 8 << 20 }, domains: 8, slots: 8, routes: 16, ports: { count: 1, iotlbSets: 64 } });
  const ram = new GuestRam(engine);
  const { format: own, levels, inputWidth, outputWidth } = modelOf(iommu);
  const second = engine.createDomain({ format: own, levels, width: inputWidth, outputWidth });
  expect(engine.map(second, 0n, (1n << 20n) - 1n, RAM_FIRST, RW)).toBe(L.STATUS_OK);
  const below = { index: second, table: liveDomains(engine).find(({ index }) => index === second)!.table };
  const table = new GuestTable(ram, accepted(iommu, format, 0n), -RAM_FIRST, below);
  const domain = engine.createDomain({ ...accepted(iommu, format, table.options.guestRoot!), stage2: second });
  const route = engine.route(0x20);
  engine.attachRoute(route, domain);
  const port = engine.openPort();
  /** The last entry of the guest's table on the way from an iova. */
  const leaf = (iova: bigint): bigint => engine.walk(domain, iova, R).steps.filter(({ stage }) => stage === 1).at(-1)!.pte;
  return { engine, domain, table, leaf, ask: (iova: bigint, need: number): Answer => askOne(port, route, iova, need) };
}

/** A leaf of the smallest page, for both privileges, neither accessed nor dirty unless said so. */
function page(address: bigint, lg2: number, changes: Partial<Mapping> = {}): Mapping {
  return { address, lg2, level: 0, skip: false, perm: RW, user: true, accessed: false, dirty: false, ...changes };
}

function marksOf({ kind }: GuestTableFormat, entry: bigint): string {
  const x86 = kind === "x86-64";
  const accessed = (entry & (x86 ? 0x20n : 0x400n)) !== 0n;
  const dirty = x86 ? (entry & 0x40n) !== 0n : (entry & 0x80n) === 0n;
  return [...(accessed ? ["accessed"] : []), ...(dirty ? ["dirty"] : [])].join(", ");
}

describe("a domain made of a description, above kernel-managed tables", () => {
  const DATA = 0x80000n;
  const marks = { hardwareAccessed: true, hardwareDirty: true };
  it.each([
    [VTD, X86, 12], [VTD, { kind: "x86-64", levels: 5 }, 12], [AMD, X86, 12], [AMD, { kind: "x86-64", levels: 5, writeProtect: true }, 12],
    [SMMU, { ...ARM, ...marks }, 12], [SMMU, { ...ARM, ...marks, inputWidth: 25 }, 12], [SMMU, { ...ARM, ...marks, granule: 16384, inputWidth: 36, outputWidth: 32 }, 14],
    [SMMU, { ...ARM, ...marks, granule: 65536, inputWidth: 42 }, 16],
    [{ ...SMMU, granule: 16384 }, { ...ARM, ...marks, inputWidth: 39 }, 12],
  ] as [IommuOptions, GuestTableFormat, number][])("%j: %j translates up to its last page, marks it, and nothing beyond", async (iommu, format, lg2) => {
    const { table, ask, leaf } = await guest(iommu, format);
    const { width, rule } = accepted(iommu, format, 0n);
    const end = 1n << BigInt(rule === "sign" ? width - 1 : width);
    const size = 1n << BigInt(lg2);
    table.map(end - size, page(DATA, lg2));
    table.map(0n, page(DATA + size, lg2, { perm: R }));
    expect(ask(end - size + 5n, R).hpa).toBe(RAM_FIRST + DATA + 5n);
    const read = leaf(end - size);
    expect(ask(end - size + 5n, W).hpa).toBe(RAM_FIRST + DATA + 5n);
    // The read has set the accessed bit, the write the dirty one.
    expect([read, leaf(end - size)].map((entry) => marksOf(format, entry))).toEqual(["accessed", "accessed, dirty"]);
    expect(ask(5n, R).hpa).toBe(RAM_FIRST + DATA + size + 5n);
    expect(ask(5n, W)).toEqual({ fault: "write-denied" });
    expect(ask(end - size - 1n, R)).toEqual({ fault: "not-present" });
    for (const beyond of [end, 1n << 63n]) expect(ask(beyond, R)).toEqual({ fault: "address-width" });
  });

  it("has the upper half of canonical addresses on x86-64", async () => {
    const { table, ask } = await guest(VTD, X86);
    table.map((1n << 64n) - 0x1000n, page(DATA, 12));
    expect(ask((1n << 64n) - 0x1000n, W).hpa).toBe(RAM_FIRST + DATA);
    expect(ask((1n << 48n) - 0x1000n, R)).toEqual({ fault: "address-width" });
  });

  it("refuses a page without access flag where hardware does not set it, and never makes a clean page dirty", async () => {
    const { table, ask, leaf } = await guest(SMMU, ARM);
    table.map(0x1000n, page(DATA, 12));
    const before = leaf(0x1000n);
    expect(ask(0x1000n, R)).toEqual({ fault: "access-flag" });
    expect(leaf(0x1000n)).toBe(before);
    table.map(0x2000n, page(DATA, 12, { accessed: true }));
    expect(ask(0x2000n, R).hpa).toBe(RAM_FIRST + DATA);
    expect(ask(0x2000n, W)).toEqual({ fault: "write-denied" });
  });

  it("checks what leaves stage 1 against the output width, and the rest against stage 2", async () => {
    const { engine, domain, table } = await guest(SMMU, { ...ARM, outputWidth: 36, hardwareAccessed: true });
    table.map(0x1000n, page(1n << 36n, 12));
    table.map(0x2000n, page(1n << 35n, 12));
    expect(engine.walk(domain, 0x1000n, R)).toMatchObject({ reason: "address-size", stage: 1 });
    expect(engine.walk(domain, 0x2000n, R)).toMatchObject({ reason: "not-present", stage: 2, ipa: 1n << 35n });
  });

  it("checks address bits of x86-64 entries against the host's width, and the rest against stage 2", async () => {
    const { engine, domain, table } = await guest({ ...VTD, addressWidth: 39, outputWidth: 46 }, X86);
    table.map(0x1000n, page(1n << 46n, 12));
    table.map(0x2000n, page(1n << 39n, 12));
    expect(engine.walk(domain, 0x1000n, R)).toMatchObject({ reason: "reserved", stage: 1 });
    expect(engine.walk(domain, 0x2000n, R)).toMatchObject({ reason: "address-width", stage: 2, ipa: 1n << 39n });
  });

  it("needs the R/W bit for privileged writes with write protection only", async () => {
    const answers = [];
    for (const writeProtect of [false, true]) {
      const { table, ask } = await guest(VTD, { kind: "x86-64", levels: 4, writeProtect });
      table.map(0x1000n, page(DATA, 12, { perm: R }));
      answers.push(ask(0x1000n, W << 4).fault);
    }
    expect(answers).toEqual([undefined, "write-denied"]);
  });
});
