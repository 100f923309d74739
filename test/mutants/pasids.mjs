// Defects in reading, publishing and dropping the entries of PASID tables, and in which refusals devices may ask for pages.
const edit = (file, find, replace) => ({ file: `assembly/${file}.ts`, find, replace });
const TABLES = ["test/unit/engine-pasid-tables.test.ts"];
const FAULTS = ["test/unit/engine-report-queue.test.ts"];
const PASSING = ["test/unit/pasid-tables-faults.test.ts"];
const RECOVERY = ["assembly/__tests__/fault.spec.ts"];
const DECODERS = ["test/unit/pasid-decoders-property.test.ts"];

export const PASIDS = [
  {
    name: "pasid: a dropped entry keeps its ids", tests: TABLES,
    edits: [edit("pasid/pool", "  store<u32>(entry, 0, DOMAIN_ROUTES);\n  takeIds(engine, entry);", "  store<u32>(entry, 0, DOMAIN_ROUTES);")],
  },
  {
    name: "pasid: what leads to stage 2 alone is not dropped", tests: TABLES,
    edits: [edit("pasid/pool", "  dropPassing(engine, index + 1, table, pasid);", "")],
  },
  {
    name: "pasid: a published entry is no user of stage 2", tests: TABLES,
    edits: [edit("pasid/pool", "load<u32>(stage2, DOMAIN_USERS) + 1", "load<u32>(stage2, DOMAIN_USERS)")],
  },
  {
    name: "pasid: detach leaves the routes of the rid", tests: TABLES,
    edits: [edit("pasid/pool", "  blockPasids(engine, routeRid(engine, index));\n  atomic", "  atomic")],
  },
  {
    name: "pasid: an entry is published once more for another rid", tests: TABLES,
    edits: [
      edit("pasid/resolve", "domain = findEntry(engine, table, pasid);\n    if (domain)", "domain = 0;\n    if (domain)"),
      edit("pasid/resolve", "let entry = findEntry(engine, table, pasid);", "let entry: usize = 0;"),
    ],
  },
  {
    name: "pasid: PASIDs beyond the bits are looked up", tests: TABLES,
    edits: [edit("pasid/resolve", "if (pasid >= <u32>1 << bits) return true;", "")],
  },
  {
    name: "pasid: reserved words of a VT-d entry do not refuse", tests: TABLES,
    edits: [edit("pasid/vtd", "third & (THIRD_RESERVED | beyond) || last)", "third & (THIRD_RESERVED | beyond))")],
  },
  {
    name: "pasid: a root beyond IPS is taken", tests: DECODERS,
    edits: [edit("pasid/smmuv3", "  if (root & ~lowBits(outputLg2)) return false;\n", "")],
  },
  {
    name: "pasid: HD counts without HA", tests: DECODERS,
    edits: [edit("pasid/smmuv3", "word & HA && word & HD ? DOMAIN_SET_DIRTY", "word & HD ? DOMAIN_SET_DIRTY")],
  },
  {
    name: "pasid: stage 2's refusal of a table does not name the address", tests: TABLES,
    edits: [edit("pasid/entry", "    store<u64>(walk, address, WALK_IPA);\n", "")],
  },
  {
    name: "page request: a page is asked for that stage 2 lacks", tests: FAULTS,
    edits: [edit("translate", "  return !(flags & DOMAIN_NESTED) || load<u32>(walk, WALK_STAGE) == 1;", "  return true;")],
  },
  {
    name: "page request: a page is asked for that an entry lets through to stage 2", tests: PASSING,
    edits: [edit("translate", "!passed && isRecoverable(", "isRecoverable(")],
  },
  {
    name: "pasid: DMA that is let through to stage 2 does not tell its address", tests: PASSING,
    edits: [edit("translate", "    if (passed) store<u64>(walk, iova, WALK_IPA);\n", "")],
  },
  {
    name: "page request: a page is asked for where an entry has reserved bits", tests: RECOVERY,
    edits: [edit("fault", "reason >= REASON_READ_DENIED && reason <= REASON_EXECUTE_DENIED", "reason >= REASON_READ_DENIED && reason <= REASON_RESERVED")],
  },
];
