// Defects in walking, marking, caching and refusing.
const edit = (file, find, replace) => ({ file: `assembly/${file}.ts`, find, replace });
const WALKS = ["test/unit/walk-property.test.ts"];
const TWO_STAGES = ["test/unit/two-stage-property.test.ts"];
const HALVES = ["test/unit/two-halves-property.test.ts"];
const MARKS = ["test/unit/marks-property.test.ts"];
const NESTED = ["test/unit/engine-nested.test.ts"];
const MIXTURES = ["test/unit/engine-mixtures.test.ts"];
const IOTLB = ["test/unit/engine-iotlb.test.ts"];
const GROUPS = ["test/unit/engine-groups.test.ts"];

export const TRANSLATION = [
  {
    name: "walk: offset inside the page dropped", peer: "missed", tests: WALKS,
    edits: [edit("table/walk", "f.leafAddress(pte, level) | (iova & lowBits(lg2));", "f.leafAddress(pte, level) | (iova & lowBits(lg2) & ~(<u64>0xfff));")],
  },
  {
    name: "walk: index of concatenated start tables truncated to one table", peer: "missed", tests: WALKS,
    edits: [edit("format/format", "load<u32>(domain, DOMAIN_TOP_SHIFT)) & ~7;", "load<u32>(domain, DOMAIN_TOP_SHIFT)) & 0xff8;")],
  },
  {
    name: "walk: reserved bits of leaves do not refuse", tests: WALKS,
    edits: [edit("table/walk", "load<u64>(half, DOMAIN_RESERVED_TABLE) : load<u64>(half, DOMAIN_RESERVED_LEAF)", "load<u64>(half, DOMAIN_RESERVED_TABLE) : 0")],
  },
  {
    name: "batch walk: reserved bits of leaves do not refuse", tests: WALKS,
    edits: [edit("table/lane", "    if (!trusted && (pte & load<u64>(half, DOMAIN_RESERVED_LEAF)) != 0) return LEFT;\n", "")],
  },
  {
    name: "batch walk: lanes of another walker are walked too", tests: MIXTURES,
    edits: [edit("table/lane", " | (<u32>load<u8>(domain, DOMAIN_WALKER) ^ walker)) == 0;", ") == 0;")],
  },
  {
    name: "batch walk: blocked routes are walked where they led last", tests: MIXTURES,
    edits: [edit("table/lane", "((kind ^ ROUTE_TRANSLATE) | (<u32>load", "((<u32>load")],
  },
  {
    name: "batch walk: bits of a request that mean nothing do not refuse", tests: MIXTURES,
    edits: [edit("table/batch-walk", "perm == LEFT || (Request.need(request) & ~perm) != 0", "perm == LEFT || (Request.need(request) & 0x77 & ~perm) != 0")],
  },
  {
    name: "lookup: only the first 512 lanes of a large IOTLB are looked up", tests: MIXTURES,
    edits: [edit("batch-lookup", "from < n; from += TOUCHED_LANES", "from < min(n, TOUCHED_LANES); from += TOUCHED_LANES")],
  },
  {
    name: "walk: address rule not checked", tests: WALKS,
    edits: [edit("table/walk", "load<u64>(half, DOMAIN_HIGH)) != 0) {", "load<u64>(half, DOMAIN_HIGH)) != 0 && false) {")],
  },
  {
    name: "walk: bits of skipped levels do not count", tests: WALKS,
    edits: [edit("table/walk", "return next + 1 == level ||", "return true ||")],
  },
  {
    name: "walk: access flag judged after permission", tests: WALKS,
    edits: [
      edit("table/walk", "  if (flags & DOMAIN_ACCESS_FAULT && !accessed) return end(out, REASON_ACCESS_FLAG, f.stage(), level);\n", ""),
      edit("table/walk", "  if (flags & DOMAIN_SET_DIRTY && f.clean(pte))", "  if (flags & DOMAIN_ACCESS_FAULT && !accessed) return end(out, REASON_ACCESS_FLAG, f.stage(), level);\n  if (flags & DOMAIN_SET_DIRTY && f.clean(pte))"),
    ],
  },
  {
    name: "two stages: permissions of stage 2 do not count", tests: TWO_STAGES,
    edits: [edit("table/walk", "perm & load<u32>(out, WALK_PERM), WALK_PERM", "perm, WALK_PERM")],
  },
  {
    name: "two stages: the page has the size of stage 1", tests: TWO_STAGES,
    edits: [edit("table/walk", "min(lg2, load<u32>(out, WALK_LEAF_LG2))", "lg2")],
  },
  {
    name: "two stages: tables are read at their intermediate address", tests: TWO_STAGES,
    edits: [edit("table/walk", "    address = load<u64>(out, WALK_HPA);\n", "")],
  },
  {
    name: "two stages: a refused table access counts as the access itself", tests: TWO_STAGES,
    edits: [edit("table/walk", "      store<u32>(out, CLASS_TABLE, WALK_CLASS);\n", "")],
  },
  {
    name: "batch of two stages: permissions of stage 2 do not count", tests: TWO_STAGES,
    edits: [edit("table/two-stage-walk", "load<u32>(lane, LANE_PERM) & <u32>(page & PERM_MASK)", "load<u32>(lane, LANE_PERM)")],
  },
  {
    name: "batch of two stages: the page has the size of stage 1", tests: TWO_STAGES,
    edits: [edit("table/two-stage-walk", "min(load<u32>(lane, LANE_LEAF_LG2), <u32>(page >> RESULT_RUN_SHIFT))", "load<u32>(lane, LANE_LEAF_LG2)")],
  },
  {
    name: "batch of two stages: tables are read that stage 2 does not let be read", tests: TWO_STAGES,
    edits: [edit("table/two-stage-walk", "if (!(page & PERM_R)) continue;", "if (!page) continue;")],
  },
  {
    name: "batch of two stages: pages of another stage 2 are taken", tests: TWO_STAGES,
    edits: [edit("table/stage2-pages", "store<u32>(stages, run ? run : 1, STAGES_RUN);", "store<u32>(stages, 1, STAGES_RUN);")],
  },
  {
    name: "batch of two stages: when the number of calls comes round, old pages are met again", tests: MIXTURES,
    edits: [edit("table/stage2-pages", "  if (!run) memory.fill(stages + STAGES_PAGES, 0, PAGE_BYTES << STAGES_PAGES_LG2);\n", "")],
  },
  {
    name: "eight lanes: what the last pair is denied does not count", tests: GROUPS,
    edits: [edit("lookup", "    denied = v128.or(denied, Pair.denied(Pair.wanted(one, other), data));\n    v128.store(result, Pair.results(data, iovas), 6 * RESULT_BYTES);", "    v128.store(result, Pair.results(data, iovas), 6 * RESULT_BYTES);")],
  },
  {
    name: "eight lanes: only the last pair has to be in the IOTLB", tests: GROUPS,
    edits: [edit("lookup", "v128.and(allData, data), v128.or(anyIova, iovas)", "data, v128.or(anyIova, iovas)")],
  },
  {
    name: "eight lanes: only the last pair has to be plain", tests: GROUPS,
    edits: [edit("lookup", "v128.and(allData, data), v128.or(anyIova, iovas)", "v128.and(allData, data), iovas")],
  },
  {
    name: "lookup: the second class is never asked for", tests: IOTLB,
    edits: [edit("iotlb", "  if (!isFirst) store<u32>(port, 1, PORT_SECOND);\n", "")],
  },
  {
    name: "lookup: a streak is not broken by a leaf of the first class", tests: IOTLB,
    edits: [edit("iotlb", " | load<u32>(route, ROUTE_STREAK)) return enterInClass", ") return enterInClass")],
  },
  {
    name: "collecting misses: only a lane without an entry is looked at again", tests: MIXTURES,
    edits: [edit("lookup", "i64x2.bitmask(i64x2.ne(Pair.unanswered(denied, data, iovas, routeMask), i64x2.splat(0)))", "i64x2.bitmask(i64x2.ne(v128.andnot(i64x2.splat(DATA_VALID), data), i64x2.splat(0)))")],
  },
  {
    name: "two halves: bit 55 does not choose", tests: HALVES,
    edits: [edit("request", "DOMAIN_HALVES && (iova >> HALF_BIT) & 1", "DOMAIN_HALVES && (iova >> HALF_BIT) & 0")],
  },
  {
    name: "two halves: what only the wider half takes is cached", tests: HALVES,
    edits: [edit("route", "    high = (high | load<u64>(upper, DOMAIN_HIGH) | bias) & ~lowBits(widthLg2 + 1);\n", "")],
  },
  {
    name: "dirty: a write leaves the dirty bit clear", tests: NESTED,
    edits: [edit("table/mark", "return write || flags & DOMAIN_SET_ACCESSED ? f.marked(pte, table, write) : pte;", "return write || flags & DOMAIN_SET_ACCESSED ? f.marked(pte, table, false) : pte;")],
  },
  {
    name: "two stages: a stage-1 entry is marked although stage 2 forbids writing it", tests: NESTED,
    edits: [edit("table/mark", "        if (reason) return reason;\n", "")],
  },
  {
    name: "two stages: the dirty bit of stage 2 is not asked for", tests: NESTED,
    edits: [edit("table/walk", "store<u32>(out, clean | load<u32>(out, WALK_CLEAN), WALK_CLEAN);", "store<u32>(out, clean, WALK_CLEAN);")],
  },
  {
    name: "dirty: a clean page is cached writable", tests: IOTLB,
    edits: [edit("table/lane", "return flags & DOMAIN_SET_DIRTY && f.clean(pte) ? perm & ~PERM_ANY_W : perm;", "return perm;")],
  },
  {
    name: "marks: stored without looking whether the guest has written meanwhile", tests: ["test/unit/marks-concurrent.test.ts"],
    edits: [edit("table/mark", "if (atomic.cmpxchg<u64>(load<u32>(step, STEP_AT), pte, marked) != pte) return WALK_AGAIN;", "atomic.store<u64>(load<u32>(step, STEP_AT), marked);")],
  },
  {
    name: "accessed: pointers are not marked", tests: MARKS,
    edits: [edit("table/mark", "  const write = !table && output", "  if (table) return pte;\n  const write = !table && output")],
  },
  {
    name: "slots: the word behind a slot can be read", tests: ["test/unit/engine-memory.test.ts"],
    edits: [edit("memory", "(<u64>index - fastFirst) <= fastSpan;", "(<u64>index - fastFirst) <= fastSpan + 8;")],
  },
  {
    name: "slots: tables in device slots can be read", tests: WALKS,
    edits: [edit("memory", "  if (kind != SLOT_MEMORY) return NOWHERE;\n", "")],
  },
  {
    name: "IOTLB: bits of the iova above the tag are ignored", tests: IOTLB,
    edits: [edit("lookup", "((iova + load<u64>(route, ROUTE_BIAS)) & load<u64>(route, ROUTE_HIGH)) | (<u64>need", "(<u64>need")],
  },
  {
    name: "IOTLB: permissions of an entry are not looked at", tests: IOTLB,
    edits: [edit("lookup", " | (<u64>need & ~(data & PERM_MASK));", ";"), edit("lookup", "v128.andnot(wanted, i64x2.shl(v128.and(data, i64x2.splat(PERM_MASK)), NEED_SHIFT))", "v128.andnot(wanted, i64x2.shl(i64x2.splat(PERM_MASK), NEED_SHIFT))")],
  },
  {
    name: "attach: a moved route keeps the address rule of the table that it led to before", peer: "missed", tests: IOTLB,
    edits: [edit("attach", "  setRule(engine, domain, route);\n", "")],
  },
  {
    name: "IOTLB: a new domain may take the ids of the one before", tests: IOTLB,
    edits: [edit("invalidate", "  store<u32>(engine, id + 2, ENGINE_ID_NEXT);\n  store<u32>(domain, id, DOMAIN_ID);\n  rewrite", "  store<u32>(domain, id, DOMAIN_ID);\n  rewrite")],
  },
  {
    name: "IOTLB: domains above a changed second stage keep their entries", tests: NESTED,
    edits: [edit("invalidate", "  let left = load<u32>(domain, DOMAIN_USERS);", "  let left: u32 = 0;")],
  },
  {
    name: "ring: a port that fell behind by a whole ring keeps its entries", tests: IOTLB,
    edits: [edit("invalidate", "    clearIotlb(port);\n  } else {", "  } else {")],
  },
  {
    name: "ids: after the last one the first is given out again, without clearing", tests: IOTLB,
    edits: [edit("invalidate", "  pushRing(engine, 0, 0, RING_CLEAR);\n", "")],
  },
];
