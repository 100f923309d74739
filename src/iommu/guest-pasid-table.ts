// A guest's own PASID table, as it says that it is, checked against what an IOMMU reads through its stage 2: what the engine makes
// one from, or why not; and how such a table is laid out, for those who look into it. VT-d 9.4 to 9.6; SMMUv3 5.2 (S1Fmt, S1CDMax,
// S1DSS), 5.3, 5.4; AMD-Vi 2.2.6.3 (GLX), 2.2.2.2 (GIoV). Imports the engine's layout and types, the model's types, the checks of fields.
import type { PasidTableOptions } from "../engine/engine.js";
import * as L from "../engine/layout.js";
import { badAddress, checkFormat, integerRule, oneOf, refuse, type FormatRefusal, type FormatRules } from "./format-fields.js";
import type { IommuModel } from "./model.js";

/** VT-d's scalable mode: a directory, and tables of 64 entries. DMA without a PASID is that of PASID 0 (RID_PASID). */
export interface VtdPasidTable {
  readonly kind: "vtd-scalable";
  /** Bits of a PASID that the directory has entries for: 2^(PDTS + 7) of them, each for a table of 64. Default: all that the IOMMU has. */
  readonly pasidBits?: number;
}

/** Context descriptors of SMMUv3. */
export interface SmmuPasidTable {
  readonly kind: "smmuv3-cd";
  /** S1Fmt. */
  readonly layout: keyof typeof S1_FORMATS;
  /** S1CDMax. */
  readonly pasidBits: number;
  /** What DMA without a PASID gets (S1DSS): a fault (default), stage 2 alone, or the descriptor of PASID 0. */
  readonly without?: "terminate" | "bypass" | "zero";
}

/** AMD-Vi's GCR3 tables. */
export interface AmdPasidTable {
  readonly kind: "amd-gcr3";
  /** GLX + 1; each decodes 9 bits of a PASID. */
  readonly levels: 1 | 2 | 3;
  /** Levels of the page tables (GuestPagingMode). Default 4. */
  readonly tableLevels?: 4 | 5;
  /** What DMA without a PASID gets: the host's table alone (default), or PASID 0 (GIoV). */
  readonly without?: "bypass" | "zero";
}

export type GuestPasidTableFormat = VtdPasidTable | SmmuPasidTable | AmdPasidTable;
export type GuestPasidTableKind = GuestPasidTableFormat["kind"];

const S1_FORMATS = { "linear": 0, "two-level-4k": 1, "two-level-64k": 2 } as const;
const MOST_BITS = 20;
/** PDTS 0 (9.4). */
const LEAST_VTD_BITS = 13;
const FIELDS: FormatRules<GuestPasidTableKind> = {
  "vtd-scalable": { pasidBits: integerRule(LEAST_VTD_BITS, MOST_BITS, true) },
  "smmuv3-cd": {
    layout: oneOf(Object.keys(S1_FORMATS)), pasidBits: integerRule(1, MOST_BITS), without: oneOf(["terminate", "bypass", "zero"], true),
  },
  "amd-gcr3": { levels: oneOf([1, 2, 3]), tableLevels: oneOf([4, 5], true), without: oneOf(["bypass", "zero"], true) },
};
const KIND_OF = { "vtd": "vtd-scalable", "smmuv3": "smmuv3-cd", "amd": "amd-gcr3" } as const;

/** The kinds of PASID tables that an IOMMU reads in a guest's memory. They lead to guests' page tables, so it must walk those. */
export function pasidTableKinds({ kind, pasidBits, nesting }: IommuModel): readonly GuestPasidTableKind[] {
  return pasidBits > 0 && nesting.hardware.length > 0 ? [KIND_OF[kind]] : [];
}

/** Why no IOMMU takes the format; undefined when some does. */
export function badPasidFormat(format: GuestPasidTableFormat): FormatRefusal | undefined {
  return checkFormat(FIELDS, format);
}

/** What the engine makes the table at `addr` of the parent's address space from, or a refusal. The format is a copy that `badPasidFormat` accepts. */
export function guestPasidTable(
  model: IommuModel, format: GuestPasidTableFormat, addr: bigint,
): Omit<PasidTableOptions, "stage2" | "cache"> | FormatRefusal {
  const kinds = pasidTableKinds(model);
  if (!kinds.includes(format.kind)) {
    const hint = kinds.length > 0 ? `it reads ${kinds.join(", ")}` : "attach a space for each PASID instead";
    const reason = `${model.preset} with kernel-managed tables of stage ${model.stage} does not read guests' ${format.kind} tables`;
    return refuse("unsupported", "format.kind", reason, hint);
  }
  const pasidBits = pasidBitsOf(format, model.pasidBits);
  if (pasidBits > model.pasidBits) {
    return refuse("unsupported", "format.pasidBits", `must be at most ${model.pasidBits}, not ${pasidBits}`, "IOASID_DEVICE_GET_INFO says how many a PASID has");
  }
  // A descriptor has 64 bytes; the other tables are pages.
  const lg2 = format.kind === "smmuv3-cd" ? 6 : 12;
  const inputWidth = Math.min(model.addressWidth, model.outputWidth);
  return badAddress(addr, lg2, inputWidth) ?? { root: addr, pasidBits, pageRequests: model.pageRequests, ...ofKind(format, model, inputWidth) };
}

/** `most` is what the IOMMU has. */
function pasidBitsOf(format: GuestPasidTableFormat, most: number): number {
  return format.kind === "amd-gcr3" ? Math.min(9 * format.levels, most) : format.pasidBits ?? most;
}

function ofKind(format: GuestPasidTableFormat, { outputWidth, dirtyTracking }: IommuModel, inputWidth: number):
Pick<PasidTableOptions, "kind" | "layout" | "without" | "outputWidth"> & Partial<PasidTableOptions> {
  switch (format.kind) {
    case "vtd-scalable":
      return { kind: L.PASID_TABLE_VTD, layout: 0, without: "zero", outputWidth, fiveLevels: true };
    case "smmuv3-cd": {
      const without = format.without === undefined || format.without === "terminate" ? "blocked" : format.without;
      // An output address that the parent cannot translate is IPS's to refuse (5.4). HTTU 2 is dirty state.
      const httu = dirtyTracking ? 2 : 1;
      return { kind: L.PASID_TABLE_SMMUV3, layout: S1_FORMATS[format.layout], without, outputWidth: inputWidth, httu, granules: [12, 14, 16] };
    }
    case "amd-gcr3": {
      const { levels: layout, tableLevels: guestLevels = 4, without = "bypass" } = format;
      return { kind: L.PASID_TABLE_GCR3, layout, guestLevels, without, outputWidth };
    }
  }
}

/** A table as those see it who compare it with a copy: levels of pointers, then entries. */
export interface PasidTableShape {
  readonly pasidBits: number;
  /** From the root down: log2 of the PASIDs behind one pointer. Pointers have 8 bytes, and bit 0 says that they are there. */
  readonly pointersLg2: readonly number[];
  /** The address in a pointer. */
  readonly pointer: bigint;
  /** Words of an entry, and the bit of the first that says that it is there. */
  readonly words: number;
  readonly present: bigint;
}

const PAGE_POINTER = 0xf_ffff_ffff_f000n;
const POINTER_64K = 0xf_ffff_ffff_0000n;

/** `most`: bits of a PASID that the IOMMU has. */
export function pasidTableShape(format: GuestPasidTableFormat, most: number): PasidTableShape {
  const pasidBits = pasidBitsOf(format, most);
  if (format.kind === "vtd-scalable") return { pasidBits, pointersLg2: [6], pointer: PAGE_POINTER, words: 8, present: 1n };
  if (format.kind === "amd-gcr3") return { pasidBits, pointersLg2: [18, 9].slice(3 - format.levels), pointer: PAGE_POINTER, words: 1, present: 1n };
  const pointersLg2 = { "linear": [], "two-level-4k": [6], "two-level-64k": [10] }[format.layout];
  return { pasidBits, pointersLg2, pointer: format.layout === "two-level-64k" ? POINTER_64K : PAGE_POINTER, words: 8, present: 1n << 31n };
}
