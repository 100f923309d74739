// Defects in reading, publishing and dropping the entries of PASID tables.
const edit = (file, find, replace) => ({ file: `assembly/${file}.ts`, find, replace });
const TABLES = ["test/unit/engine-pasid-tables.test.ts"];

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
    name: "pasid: stage 2's refusal of a table does not name the address", tests: TABLES,
    edits: [edit("pasid/entry", "    store<u64>(walk, address, WALK_IPA);\n", "")],
  },
];
