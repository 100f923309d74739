// PASID tables of a guest, of every kind that an IOMMU reads, written into RAM that the guest has at the same address as the process has
// at HVA. Page tables are roots that somebody else writes.
import { DmaFault, type DmaFaultReason, type HostOptions, type IommuOptions, type PasidTableFormat, type PgtableFormat } from "../../src/index.js";
import type { SimulatedHost } from "../../src/create-host.js";
import { FORMAT_ARM_S1_4K, FORMAT_X86_64 } from "../../src/engine/layout.js";
import { gpaSpace, GuestPages, HVA, RAM } from "./space-host.js";

/** A kind of table, and the IOMMU that reads it. */
export interface PasidKind {
  readonly name: string;
  readonly iommu: IommuOptions;
  readonly format: PasidTableFormat;
  /** Of the page tables that it leads to: the engine's and the uAPI's. */
  readonly leaves: number;
  readonly pgtable: PgtableFormat;
}

const VTD: IommuOptions = { preset: "vtd-scalable", stage: 2 };
const SMMU: IommuOptions = { preset: "smmuv3", stage: 2 };
const AMD: IommuOptions = { preset: "amd" };
const X86 = { leaves: FORMAT_X86_64, pgtable: { kind: "x86-64", levels: 4 } } as const;
const ARM = { leaves: FORMAT_ARM_S1_4K, pgtable: { kind: "aarch64-stage1", granule: 4096, inputWidth: 48 } } as const;

export const PASID_KINDS: readonly PasidKind[] = [
  { name: "VT-d", iommu: VTD, format: { kind: "vtd-scalable", pasidBits: 13 }, ...X86 },
  { name: "SMMUv3, linear", iommu: SMMU, format: { kind: "smmuv3-cd", layout: "linear", pasidBits: 8 }, ...ARM },
  { name: "SMMUv3, two levels of 4 KiB", iommu: SMMU, format: { kind: "smmuv3-cd", layout: "two-level-4k", pasidBits: 12 }, ...ARM },
  { name: "SMMUv3, two levels of 64 KiB", iommu: SMMU, format: { kind: "smmuv3-cd", layout: "two-level-64k", pasidBits: 12 }, ...ARM },
  { name: "AMD-Vi, one level", iommu: AMD, format: { kind: "amd-gcr3", levels: 1 }, ...X86 },
  { name: "AMD-Vi, two levels", iommu: AMD, format: { kind: "amd-gcr3", levels: 2 }, ...X86 },
];

/** V, AA64, AFFD, IPS of 48 bits, T0SZ 16, EPD1 (SMMUv3 5.4). */
const CD = (1n << 31n) | (1n << 41n) | (1n << 35n) | (5n << 32n) | (1n << 30n) | 16n;

export class GuestPasidTable {
  /** The table takes up to 192 KiB from `root` on. */
  constructor(private readonly host: SimulatedHost, readonly format: PasidTableFormat, readonly root = 0x140000n) {
    host.process.bytes(HVA + root, 0x30000).fill(0);
  }

  /** Leads the PASID to the page tables at `tables`; undefined takes its entry away. */
  set(pasid: number, tables: bigint | undefined): void {
    for (const [at, word] of this.words(pasid, tables)) this.write(at, word);
  }

  /** Address and value of the words of an entry, pointers first. */
  words(pasid: number, tables: bigint | undefined): [gpa: bigint, word: bigint][] {
    const { format, root } = this;
    const leaf = root + 0x10000n;
    if (format.kind === "vtd-scalable") {
      const at = leaf + BigInt(pasid & 63) * 64n;
      return [[root + BigInt(pasid >> 6) * 8n, leaf | 1n], [at + 16n, tables ?? 0n], [at, tables === undefined ? 0n : 0x41n]];
    }
    if (format.kind === "amd-gcr3") {
      const entry = (table: bigint): [bigint, bigint] => [table + BigInt(pasid & 511) * 8n, tables === undefined ? 0n : tables | 1n];
      return format.levels === 1 ? [entry(root)] : [[root + BigInt(pasid >> 9) * 8n, leaf | 1n], entry(leaf)];
    }
    const lg2 = { "linear": 20, "two-level-4k": 6, "two-level-64k": 10 }[format.layout];
    const at = (format.layout === "linear" ? root : leaf) + BigInt(pasid % 2 ** lg2) * 64n;
    const entry: [bigint, bigint][] = [[at + 8n, tables ?? 0n], [at, tables === undefined ? 0n : CD]];
    return format.layout === "linear" ? entry : [[root + BigInt(pasid >> lg2) * 8n, leaf | 1n], ...entry];
  }

  write(gpa: bigint, word: bigint): void {
    const { buffer, byteOffset } = this.host.process.bytes(HVA + gpa, 8);
    new DataView(buffer, byteOffset, 8).setBigUint64(0, word, true);
  }
}

/** A root with the devices, an empty page table of the guest, and an empty PASID table of the kind. */
export async function pasidMachine({ iommu, format, leaves }: PasidKind, options: HostOptions = {}) {
  const it = await gpaSpace({ iommus: [iommu], ...options });
  const pages = new GuestPages(it.host, leaves, 0x100000n);
  const table = new GuestPasidTable(it.host, format);
  /** An ioasid of all PASIDs; `over` replaces fields of the format. */
  const all = (over: object = {}) =>
    it.fd.allocIoasidPasidTable({ parent: it.gpa, addr: table.root, format: { ...format, ...over } as PasidTableFormat });
  /** Where a device's access lands, relative to RAM, or why it does not. */
  const land = (pasid?: number, device = "dev1", iova = 0x2000n, access: "r" | "w" = "r"): bigint | DmaFaultReason => {
    try {
      return it.host.device(device).dma(pasid).translate(iova, access) - RAM;
    } catch (error) {
      if (error instanceof DmaFault) return error.reason;
      throw error;
    }
  };
  return { ...it, pages, table, all, land };
}
