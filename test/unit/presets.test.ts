// Presets of host IOMMUs: formats, levels and widths from the manuals, refusals by field, and a space on each of them.
import { describe, expect, it } from "vitest";
import { createHost, IOASID_DMA_MAP_FLAG_READ, type IommuOptions } from "../../src/index.js";
import { modelOf } from "../../src/iommu/model.js";
import { chosenIommu } from "../../src/cli/iommu-options.js";
import { recordedOn } from "../../src/trace/recorded-on.js";
import { NO_PASID, type Trace } from "../../src/trace/trace.js";

const HVA = 1n << 30n;

describe("a preset's tables", () => {
  it.each([
    // Second stage: 3, 4, 5 levels for 39, 48, 57 bits (VT-d 3.7).
    [{ preset: "vtd", addressWidth: 39 }, { formatName: "vtd-second-stage", levels: 3, addressWidth: 39, stage: 2, writeOnly: true }],
    [{ preset: "vtd-scalable", stage: 2, addressWidth: 57 }, { formatName: "vtd-second-stage", levels: 5, addressWidth: 57 }],
    // First stage: canonical, so a space has a bit less (VT-d 3.6).
    [{ preset: "vtd-scalable" }, { formatName: "x86-64", levels: 4, inputWidth: 48, addressWidth: 47, rule: "sign", writeOnly: false }],
    [{ preset: "vtd-scalable", addressWidth: 57 }, { formatName: "x86-64", levels: 5, addressWidth: 56 }],
    [{ preset: "amd", addressWidth: 39 }, { formatName: "amd-v1", levels: 3, stage: 2 }],
    // Stage 1: 9, 11, 13 bits a level from the granule up (Arm ARM D8.2).
    [{ preset: "smmuv3" }, { formatName: "aarch64-stage1-4k", levels: 4, addressWidth: 48, outputWidth: 48, writeOnly: false }],
    [{ preset: "smmuv3", addressWidth: 39 }, { levels: 3 }],
    [{ preset: "smmuv3", addressWidth: 30 }, { levels: 2 }],
    [{ preset: "smmuv3", granule: 16384 }, { formatName: "aarch64-stage1-16k", levels: 4, granule: 16384, pageSizes: (1n << 14n) | (1n << 25n) }],
    [{ preset: "smmuv3", granule: 16384, addressWidth: 47 }, { levels: 3 }],
    [{ preset: "smmuv3", granule: 16384, addressWidth: 25 }, { levels: 1 }],
    [{ preset: "smmuv3", granule: 65536 }, { formatName: "aarch64-stage1-64k", levels: 3, pageSizes: (1n << 16n) | (1n << 29n) }],
    // Stage 2 puts up to 16 tables side by side where that saves a level (Arm ARM D8.2.2).
    [{ preset: "smmuv3", stage: 2 }, { formatName: "aarch64-stage2-4k", levels: 4, writeOnly: true }],
    [{ preset: "smmuv3", stage: 2, addressWidth: 43 }, { levels: 3 }],
    [{ preset: "smmuv3", stage: 2, addressWidth: 44 }, { levels: 4 }],
    [{ preset: "smmuv3", stage: 2, granule: 16384 }, { levels: 3 }],
    [{ preset: "smmuv3", stage: 2, granule: 65536 }, { levels: 3 }],
    [{ preset: "smmuv3", stage: 2, granule: 65536, addressWidth: 46 }, { levels: 2 }],
  ] as [IommuOptions, object][])("%j", (options, expected) => expect(modelOf(options)).toMatchObject(expected));

  it.each([
    [{ preset: "vtd", stage: 1 }, "iommus.stage"], [{ preset: "amd", stage: 1 }, "iommus.stage"], [{ granule: 16384 }, "iommus.granule"],
    [{ preset: "amd", granule: 65536 }, "iommus.granule"], [{ preset: "smmuv3", granule: 8192 as 4096 }, "iommus.granule"],
    [{ preset: "smmuv3", stage: 3 as 1 }, "iommus.stage"], [{ preset: "smmuv3", addressWidth: 24 }, "iommus.addressWidth"],
    [{ preset: "smmuv3", outputWidth: 52 }, "iommus.outputWidth"], [{ preset: "vtd-scalable", addressWidth: 39 }, "iommus.addressWidth"],
  ] as [IommuOptions, string][])("%j is refused for %s", (options, field) => {
    expect(() => modelOf(options)).toThrow(expect.objectContaining({ code: "BAD_OPTION", field }));
  });
});

describe("what a preset can do", () => {
  const NONE = { software: true, hardware: [] };
  const X86 = { software: true, hardware: ["x86-64"] };
  const ARM = { software: true, hardware: ["aarch64-stage1"] };
  it.each([
    // options                                                         nesting pasidBits pasidTable pageRequests dirtyTracking
    // A legacy context entry has no PASID, no PRE, no SSADE (VT-d 9.3, 9.4, 9.6).
    [{}, NONE, 0, null, false, false],
    [{ preset: "vtd", nesting: false, pasidBits: 0, pageRequests: false, dirtyTracking: false }, NONE, 0, null, false, false],
    // Nested is a first stage over a second one (VT-d 3.8); PASID-table entries point to either (9.6).
    [{ preset: "vtd-scalable" }, NONE, 20, "host", true, true],
    [{ preset: "vtd-scalable", stage: 2 }, X86, 20, "host", true, true],
    [{ preset: "vtd-scalable", stage: 2, nesting: true, pasidBits: 15 }, X86, 15, "host", true, true],
    [{ preset: "vtd-scalable", stage: 2, nesting: false }, NONE, 20, "host", true, true],
    [{ preset: "vtd-scalable", stage: 2, pasidBits: 0 }, X86, 0, null, true, true],
    [{ preset: "vtd-scalable", pageRequests: false, dirtyTracking: false }, NONE, 20, "host", false, false],
    // Context descriptors lead to stage 1, and are in the input space of stage 2 (SMMUv3 5.2); HTTU in both stages (3.13).
    [{ preset: "smmuv3" }, NONE, 20, "host", true, true],
    [{ preset: "smmuv3", stage: 2 }, ARM, 20, "guest", true, true],
    [{ preset: "smmuv3", stage: 2, granule: 65536, pasidBits: 1 }, ARM, 1, "guest", true, true],
    [{ preset: "smmuv3", stage: 2, nesting: false }, NONE, 0, null, true, true],
    [{ preset: "smmuv3", stage: 2, pageRequests: false, dirtyTracking: false }, ARM, 20, "guest", false, false],
    // The GCR3 table leads to guest tables, and is the guest's (AMD-Vi 2.2.6).
    [{ preset: "amd" }, X86, 16, "guest", true, true],
    [{ preset: "amd", pasidBits: 20, dirtyTracking: false }, X86, 20, "guest", true, false],
    [{ preset: "amd", nesting: false }, NONE, 0, null, true, true],
  ] as [IommuOptions, object, number, string | null, boolean, boolean][])("%j", (options, nesting, pasidBits, pasidTable, pageRequests, dirtyTracking) => {
    const { nesting: nests, pasidBits: bits, pasidTable: table, pageRequests: asks, dirtyTracking: tracks } = modelOf(options);
    expect([nests, bits, table, asks, tracks]).toEqual([nesting, pasidBits, pasidTable, pageRequests, dirtyTracking]);
  });

  it.each([
    [{ nesting: true }, "nesting", "scalable mode"],
    [{ preset: "vtd-scalable", nesting: true }, "nesting", "first stage (option `stage`)"],
    [{ preset: "smmuv3", nesting: true }, "nesting", "stage 1 (option `stage`)"],
    [{ preset: "amd", nesting: 1 as unknown as boolean }, "nesting", "must be a boolean, not 1"],
    [{ dirtyTracking: true }, "dirtyTracking", "scalable mode"],
    [{ dirtyTracking: "no" as unknown as boolean }, "dirtyTracking", "must be a boolean, not no"],
    [{ pageRequests: true }, "pageRequests", "scalable mode"],
    [{ pasidBits: 1 }, "pasidBits", "must be 0 for this preset: VT-d has it in scalable mode only"],
    [{ preset: "vtd-scalable", pasidBits: 21 }, "pasidBits", "0..20, not 21"],
    [{ preset: "smmuv3", pasidBits: -1 }, "pasidBits", "0..20, not -1"],
    [{ preset: "amd", pasidBits: 1.5 }, "pasidBits", "0..20, not 1.5"],
    [{ preset: "amd", nesting: false, pasidBits: 16 }, "pasidBits", "must be 0 for this preset: without nesting"],
    [{ preset: "smmuv3", stage: 2, nesting: false, pasidBits: 1 }, "pasidBits", "must be 0 for this preset: without nesting"],
  ] as [IommuOptions, string, string][])("%j is refused for %s: %s", async (options, field, reason) => {
    const refusal = expect.objectContaining({ code: "BAD_OPTION", field: `iommus.${field}`, message: expect.stringContaining(reason) });
    expect(() => modelOf(options)).toThrow(refusal);
    await expect(createHost({ iommus: [options] })).rejects.toThrow(refusal);
  });
});

describe("a space", () => {
  it.each([
    [{ preset: "vtd-scalable" }], [{ preset: "vtd-scalable", addressWidth: 57 }], [{ preset: "smmuv3" }], [{ preset: "smmuv3", stage: 2 }],
    [{ preset: "smmuv3", granule: 16384 }], [{ preset: "smmuv3", granule: 65536 }], [{ preset: "smmuv3", stage: 2, addressWidth: 43 }],
    [{ preset: "smmuv3", stage: 2, granule: 16384 }], [{ preset: "smmuv3", stage: 2, granule: 65536 }],
  ] as [IommuOptions][])("on %j maps its last bytes, translates them, and faults beyond", async (iommu) => {
    const host = await createHost({ devices: [{ name: "dev1", rid: 0x20 }], iommus: [{ ...iommu, reserved: [] }] });
    const { granule, addressWidth } = modelOf(iommu);
    const [size, end] = [BigInt(granule), 1n << BigInt(addressWidth)];
    const [fd, device] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
    device.bindIoasidFd({ ioasidFd: fd });
    const ioasid = fd.alloc();
    device.attachIoasid({ ioasid });
    host.process.mmap({ hva: HVA, size: 2n * size });
    fd.dmaMap({ ioasid, iova: end - 2n * size, vaddr: HVA, size: 2n * size, flags: IOASID_DMA_MAP_FLAG_READ });
    const dma = host.device("dev1").dma();
    expect(dma.translate(end - 1n, "r")).toBe(dma.translate(end - 2n * size, "r") + 2n * size - 1n);
    expect(() => dma.translate(end - 1n, "w")).toThrow(expect.objectContaining({ reason: "write-denied" }));
    expect(() => dma.translate(end, "r")).toThrow(expect.objectContaining({ reason: "address-width" }));
    fd.dmaUnmap({ ioasid, iova: end - 2n * size, size: 2n * size });
    expect(() => dma.translate(end - 1n, "r")).toThrow(expect.objectContaining({ reason: "not-present" }));
  });
});

describe("the IOMMU that a trace was recorded on", () => {
  const trace = (lines: Record<string, string>): Trace => ({ header: new Map(Object.entries(lines)), pasid: new Uint32Array(1).fill(NO_PASID) }) as unknown as Trace;
  it.each([
    [{}, {}], [{ source: "v86 with a virtio-iommu device" }, {}],
    [{ source: "QEMU amd-iommu" }, { preset: "amd" }],
    [{ source: "QEMU intel-iommu" }, { preset: "vtd" }],
    [{ source: "QEMU intel-iommu", "emulator-options": "-device intel-iommu,aw-bits=39" }, { preset: "vtd", addressWidth: 39 }],
    [{ source: "intel-iommu", "emulator-options": "intel-iommu,x-scalable-mode=on" }, { preset: "vtd-scalable", stage: 2 }],
    [{ source: "intel-iommu", "emulator-options": "intel-iommu,x-scalable-mode=on,x-flts=on" }, { preset: "vtd-scalable", stage: 1 }],
    [{ source: "QEMU SMMUv3" }, { preset: "smmuv3" }],
    [{ source: "SMMUv3", workload: "stage 2, 64 KiB granule; nvme" }, { preset: "smmuv3", stage: 2, granule: 65536 }],
  ] as [Record<string, string>, IommuOptions][])("%j: %j", (lines, expected) => expect(recordedOn(trace(lines))).toEqual(expected));

  it("gives way to another preset, and field by field to what is asked for", () => {
    const recorded: IommuOptions = { preset: "smmuv3", granule: 16384 };
    expect(chosenIommu({}, recorded)).toEqual(recorded);
    expect(chosenIommu({ iommu: "vtd" }, recorded)).toEqual({ preset: "vtd" });
    expect(chosenIommu({ stage: "2" }, recorded)).toEqual({ preset: "smmuv3", granule: 16384, stage: 2 });
    expect(chosenIommu({ iommu: "smmuv3", granule: "4k", addressWidth: 40 }, {})).toEqual({ preset: "smmuv3", granule: 4096, addressWidth: 40 });
  });
});
