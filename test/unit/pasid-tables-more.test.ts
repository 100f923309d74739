// DMA without a PASID through the PASID tables of guests, in every form that a table has for it.
import { describe, expect, it } from "vitest";
import { DmaFault, type DmaFaultReason, type PasidTableFormat } from "../../src/index.js";
import { GuestPasidTable, PASID_KINDS, type PasidKind } from "./guest-pasid-tables.js";
import { gpaSpace, GuestPages, RAM } from "./space-host.js";

const IOVA = 0x2000n;
const [VTD, SMMU, , , AMD] = PASID_KINDS as readonly [PasidKind, PasidKind, PasidKind, PasidKind, PasidKind];

/** A root with the devices, an empty page table of the guest, and an empty PASID table. */
async function machine({ iommu, format, leaves }: PasidKind) {
  const it = await gpaSpace({ iommus: [iommu] });
  const pages = new GuestPages(it.host, leaves, 0x100000n);
  const table = new GuestPasidTable(it.host, format);
  const all = (over: Partial<PasidTableFormat> = {}) =>
    it.fd.allocIoasidPasidTable({ parent: it.gpa, addr: table.root, format: { ...format, ...over } as PasidTableFormat });
  const land = (pasid?: number, iova = IOVA): bigint | DmaFaultReason => {
    try {
      return it.host.device("dev1").dma(pasid).translate(iova) - RAM;
    } catch (error) {
      if (error instanceof DmaFault) return error.reason;
      throw error;
    }
  };
  return { ...it, pages, table, all, land };
}

describe("DMA without a PASID", () => {
  const CASES: [kind: PasidKind, without: string | undefined, zero: boolean, lands: bigint | DmaFaultReason][] = [
    [SMMU, undefined, true, "blocked"], [SMMU, "terminate", true, "blocked"], [SMMU, "bypass", true, IOVA],
    [SMMU, "zero", true, 0x5000n], [SMMU, "zero", false, "pasid-not-present"],
    [AMD, undefined, true, IOVA], [AMD, "bypass", true, IOVA], [AMD, "zero", true, 0x5000n], [AMD, "zero", false, "pasid-not-present"],
    [VTD, undefined, true, 0x5000n], [VTD, undefined, false, "pasid-not-present"],
  ];
  it.each(CASES.map((one) => [one[0].name, ...one] as const))("of %s, %s", async (_name, kind, without, zero, lands) => {
    const { all, devs, pages, table, land } = await machine(kind);
    pages.map(IOVA, 0x5000n);
    if (zero) table.set(0, pages.root);
    table.set(5, pages.root);
    devs[0]!.attachIoasid({ ioasid: all(without === undefined ? {} : { without } as Partial<PasidTableFormat>) });
    expect([land(), land(5)]).toEqual([lands, 0x5000n]);
  });
});
