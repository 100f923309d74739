// Names of the bits of table entries and configuration structures, in the words of the manuals. Data only; imports nothing.
// Address bits of table entries are left out: they are shown as addresses.

/** Name, first bit, last bit (the first if absent); "address": the value keeps its place in the word. */
export type BitField = readonly [name: string, first: number, last?: number, unit?: "address"];

/** VT-d 9.8. */
export const VTD_SECOND: readonly BitField[] = [
  ["R", 0], ["W", 1], ["X", 2], ["EMT", 3, 5], ["IPAT", 6], ["PS", 7], ["A", 8], ["D", 9], ["SNP", 11], ["TM", 62],
];

/** Intel SDM volume 3, 4.5. */
export const X86_64: readonly BitField[] = [
  ["P", 0], ["RW", 1], ["US", 2], ["PWT", 3], ["PCD", 4], ["A", 5], ["D", 6], ["PS", 7], ["G", 8], ["XD", 63],
];

/** AMD IOMMU specification, 2.2.3. */
export const AMD_V1: readonly BitField[] = [
  ["PR", 0], ["A", 5], ["D", 6], ["NextLevel", 9, 11], ["U", 59], ["FC", 60], ["IR", 61], ["IW", 62],
];

/** Arm ARM (DDI 0487), D8.3.1: tables, and the leaves of the two stages. */
export const ARM_TABLE: readonly BitField[] = [
  ["valid", 0], ["table", 1], ["PXNTable", 59], ["UXNTable", 60], ["APTable", 61, 62], ["NSTable", 63],
];
export const ARM_STAGE1: readonly BitField[] = [
  ["valid", 0], ["page", 1], ["AttrIndx", 2, 4], ["NS", 5], ["AP[1]", 6], ["AP[2]", 7], ["SH", 8, 9], ["AF", 10], ["nG", 11],
  ["DBM", 51], ["contiguous", 52], ["PXN", 53], ["UXN", 54],
];
export const ARM_STAGE2_TABLE: readonly BitField[] = [["valid", 0], ["table", 1]];
export const ARM_STAGE2: readonly BitField[] = [
  ["valid", 0], ["page", 1], ["MemAttr", 2, 5], ["S2AP.R", 6], ["S2AP.W", 7], ["SH", 8, 9], ["AF", 10], ["DBM", 51],
  ["contiguous", 52], ["XN", 53, 54],
];

export const MOCK: readonly BitField[] = [["V", 0], ["T", 1], ["R", 2], ["W", 3], ["X", 4], ["A", 5], ["D", 6], ["N", 8, 11]];

type StructureFields = Readonly<Record<string, readonly (readonly BitField[])[]>>;

/** Configuration structures: a list of fields for each of their words. */
export const STRUCTURE_FIELDS: StructureFields = {
  "root-entry": [[["P", 0], ["CTP", 12, 63, "address"]]],
  "scalable-root-entry": [[["LP", 0], ["LCTP", 12, 63, "address"]], [["UP", 0], ["UCTP", 12, 63, "address"]]],
  "context-entry": [
    [["P", 0], ["FPD", 1], ["TT", 2, 3], ["SSPTPTR", 12, 63, "address"]], [["AW", 0, 2], ["DID", 8, 23]],
  ],
  "scalable-context-entry": [
    [["P", 0], ["FPD", 1], ["DTE", 2], ["PASIDE", 3], ["PRE", 4], ["PDTS", 9, 11], ["PASIDDIRPTR", 12, 63, "address"]],
    [["RID_PASID", 0, 19], ["RID_PRIV", 20]],
  ],
  "pasid-directory-entry": [[["P", 0], ["FPD", 1], ["SMPTBLPTR", 12, 63, "address"]]],
  "pasid-table-entry": [
    [["P", 0], ["FPD", 1], ["AW", 2, 4], ["SSEE", 5], ["PGTT", 6, 8], ["SSADE", 9], ["SSPTPTR", 12, 63, "address"]],
    [["DID", 0, 15], ["PWSNP", 23], ["PGSNP", 24], ["CD", 25]],
    [["SRE", 0], ["ERE", 1], ["FSPM", 2, 3], ["WPE", 4], ["NXE", 5], ["SMEP", 6], ["EAFE", 7], ["FSPTPTR", 12, 63, "address"]],
  ],
  "level-1-stream-table-descriptor": [[["Span", 0, 4], ["L2Ptr", 6, 55, "address"]]],
  "stream-table-entry": [
    [["V", 0], ["Config", 1, 3], ["S1Fmt", 4, 5], ["S1ContextPtr", 6, 55, "address"], ["S1CDMax", 59, 63]],
    [["S1DSS", 0, 1], ["S1STALLD", 27], ["EATS", 28, 29], ["STRW", 30, 31], ["SHCFG", 44, 45], ["PRIVCFG", 48, 49], ["INSTCFG", 50, 51]],
    [["S2VMID", 0, 15], ["S2T0SZ", 32, 37], ["S2SL0", 38, 39], ["S2TG", 46, 47], ["S2PS", 48, 50], ["S2AA64", 51], ["S2ENDI", 52],
      ["S2AFFD", 53], ["S2PTW", 54], ["S2HD", 55], ["S2HA", 56], ["S2S", 57], ["S2R", 58]],
    [["S2TTB", 4, 51, "address"]],
  ],
  "level-1-context-descriptor": [[["V", 0], ["L2Ptr", 12, 55, "address"]]],
  "context-descriptor": [
    [["T0SZ", 0, 5], ["TG0", 6, 7], ["EPD0", 14], ["ENDI", 15], ["T1SZ", 16, 21], ["TG1", 22, 23], ["EPD1", 30], ["V", 31], ["IPS", 32, 34],
      ["AFFD", 35], ["WXN", 36], ["UWXN", 37], ["TBI", 38, 39], ["PAN", 40], ["AA64", 41], ["HD", 42], ["HA", 43], ["S", 44], ["R", 45],
      ["A", 46], ["ASET", 47], ["ASID", 48, 63]],
    [["HAD0", 1], ["TTB0", 4, 51, "address"]], [["HAD1", 1], ["TTB1", 4, 51, "address"]],
  ],
  "device-table-entry": [
    [["V", 0], ["TV", 1], ["HAD", 7, 8], ["Mode", 9, 11], ["Root", 12, 51, "address"], ["PPR", 52], ["GV", 55], ["GLX", 56, 57],
      ["IR", 61], ["IW", 62]],
    [["DomainID", 0, 15], ["I", 32], ["SE", 33], ["SA", 34], ["IoCtl", 35, 36], ["Cache", 37], ["SD", 38], ["EX", 39], ["SysMgt", 40, 41]],
    [["IV", 0], ["IntTabLen", 1, 4], ["IG", 5], ["IntTabRoot", 6, 51, "address"], ["IntCtl", 60, 61]],
  ],
};
