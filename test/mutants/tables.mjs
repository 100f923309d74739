// Defects in map, unmap, dirty collection, invalidation after them, and the frame pool.
const edit = (file, find, replace) => ({ file: `assembly/${file}.ts`, find, replace });
const MAPS = ["test/unit/engine-map.test.ts", "test/unit/engine-frames.test.ts", "test/unit/conformance.test.ts"];
const SHADOWS = ["test/unit/engine-shadow.test.ts"];
const CONFORMANCE = ["test/unit/conformance.test.ts"];
const IOTLB = ["test/unit/engine-iotlb.test.ts"];

const LISTS = ["test/unit/engine-lists.test.ts"];
const MERGE_LISTS = ["test/unit/engine-merge-lists.test.ts"];

export const TABLES = [
  {
    name: "lists: a map over a page in the table of the one before is allowed", tests: LISTS,
    edits: [edit("table/lists", "if (anyOf(table + EntryOf.offset<F>(first, 0), Pages.count<F>(first, before))) return STATUS_OVERLAP;", "")],
  },
  {
    name: "lists: maps need not ascend", tests: LISTS,
    edits: [edit("table/lists", "if (!cursor.fresh && first <= cursor.after) return STATUS_OVERLAP;", "")],
  },
  {
    name: "lists: pages put by the cursor are not counted", tests: LISTS,
    edits: [edit("table/lists", "  Frames.addLive(engine, table, pages);\n", "")],
  },
  {
    name: "lists: an empty table is left where the last page of it went", tests: LISTS,
    edits: [edit("table/lists", "    if (!left) break;\n", "")],
  },
  {
    name: "lists: a leaf may be cut where another range ends before it", tests: LISTS,
    edits: [edit("table/lists", "first, before, begins || whole, whole);", "first, before, true, whole);")],
  },
  {
    name: "lists: addresses with an ignored top byte are others", tests: LISTS,
    edits: [edit("table/lists", "  first &= mask;\n", "")],
  },
  {
    name: "lists: what goes on in a table may go back in it", tests: LISTS,
    edits: [edit("table/lists", "u32(first <= before) | ", "")],
  },
  {
    name: "lists: what goes on is of the kind of the one before, whatever it says", tests: LISTS,
    edits: [edit("table/lists", "(Pages.apart<F>(first, last, before) | (Pages.kind(at) ^ kind)) != 0", "Pages.apart<F>(first, last, before) != 0")],
  },
  {
    name: "lists: what goes on may lead beyond the output width", tests: LISTS,
    edits: [edit("table/lists", " | ((hpa | (hpa + (last - first))) & beyond)", "")],
  },
  {
    name: "lists: what goes on may lead to half a page", tests: LISTS,
    edits: [edit("table/lists", "((first | (last + 1) | hpa) & lowBits(f.smallLg2())) | (Pages.kind", "((first | (last + 1)) & lowBits(f.smallLg2())) | (Pages.kind")],
  },
  {
    name: "lists: tables above one of level 1 that is missing are not counted", tests: LISTS,
    edits: [edit("table/cursor", "const isCounted = below && (at ^ after) >> aboveLg2<F>() == 0;", "const isCounted = below;")],
  },
  {
    name: "lists: a table of level 1 stays when nothing is left in it", tests: LISTS,
    edits: [edit("table/cursor", "if (above && Frames.live(engine, above)) return bytes;", "if (above) return bytes;")],
  },
  {
    name: "merge: a new page table takes pages that are unlike the first", tests: MERGE_LISTS,
    edits: [edit("table/merge-pages", "f.addressField(), bits) ? n : copyEqualRun(to, entry, n, pte, f.addressField(), bits);", "f.addressField(), bits) ? n : n;")],
  },
  {
    name: "merge: a new page table has the parent's permissions", tests: MERGE_LISTS,
    edits: [edit("table/runs", "from + bytes, wanted, changed, false)", "from + bytes, wanted, changed, true)")],
  },
  {
    name: "merge: a new page table keeps what its frame held before", tests: MERGE_LISTS,
    edits: [edit("table/merge-pages", "  if (after < bytes) memory.fill(to, 0, bytes - after);\n", "")],
  },
  {
    name: "merge: an area goes on beyond the parent's page table", tests: MERGE_LISTS,
    edits: [edit("table/merge", " | u32(beyond)", "")],
  },
  {
    name: "merge: a page table that was made for a larger leaf is made again", tests: SHADOWS,
    edits: [edit("table/merge-pages", "if (at >> f.spanLg2(1) != cursor.childKey || !cursor.childTable) {", "if (at >> f.spanLg2(1) != cursor.childKey) {")],
  },
  {
    name: "lists: only the first range is dropped from IOTLBs", tests: LISTS,
    edits: [edit("invalidate", "at = runs == 1 ? end : neighboursEnd(at, end);", "at = end;")],
  },
  {
    name: "unmap: whole page tables go without their pages being counted", tests: LISTS,
    edits: [edit("table/unmap", "    pages += load<u16>(live);\n", "    pages += 512;\n")],
  },
  {
    name: "merge: a page that differs from that of the area before has its bits", tests: MERGE_LISTS,
    edits: [edit("table/merge", "      if (((pte ^ like) & ~kept) != 0) break;\n", "")],
  },
  {
    name: "unmap: empty tables are not given back", peer: "seen", tests: MAPS,
    edits: [edit("table/unmap", "if (whole || !Frames.live(engine, child)) {", "if (whole) {")],
  },
  {
    name: "map: over a mapped page allowed", peer: "seen", tests: MAPS,
    edits: [edit("table/map", "if (table && anyOf(entry, <u32>((end - at) >> span) + 1)) return OVERLAP;", "")],
  },
  {
    name: "map: input range not checked", peer: "seen", tests: MAPS,
    edits: [edit("table/map", "return Check.isInput(domain, first, last) ? STATUS_OK : STATUS_RANGE;", "return STATUS_OK;")],
  },
  {
    name: "map: a range that runs out of frames is begun", peer: "seen", tests: MAPS,
    edits: [edit("table/map", "if (!canTake(engine, tableOrder<F>(), tables)) return STATUS_NO_FRAMES;", "")],
  },
  {
    name: "map: page size chosen without the output address", peer: "seen", tests: MAPS,
    edits: [edit("table/map", "const joint = at | hpa;", "const joint = at;")],
  },
  {
    name: "unmap: runs past its end", peer: "seen", tests: MAPS,
    edits: [edit("table/unmap", "const n = <u32>((last - first) >> span) + 1;", "const n = <u32>((last - first) >> span) + 2;")],
  },
  {
    name: "dirty: only the first of equal entries is cleaned", peer: "seen", tests: MAPS,
    edits: [edit("table/dirty", "      if (held == pte) break;", "      if (held == pte) return true;")],
  },
  {
    name: "Arm: start tables are not put side by side", peer: "missed", tests: CONFORMANCE,
    edits: [edit("format/aarch64-stage2", "concatenated(): u32 { return CONCATENATED_LG2; }", "concatenated(): u32 { return 0; }")],
  },
  {
    name: "map: all start tables are the first", tests: CONFORMANCE,
    edits: [edit("table/root", "root + (EntryOf.start(domain, iova) & ~((8 << f.tableLg2()) - 1))", "root")],
  },
  {
    name: "unmap: tables larger than a frame are given back as one frame", peer: "missed", tests: CONFORMANCE,
    edits: [edit("table/unmap", "retireFrame(engine, table, tableOrder<F>());", "retireFrame(engine, table, 0);")],
  },
  {
    name: "unmap: the IOTLB keeps the last page of the range", peer: "missed", tests: IOTLB,
    edits: [edit("invalidate", "<u32>(((last & mask) >> lg2) - page), RING_DROP", "<u32>(((last & mask) >> lg2) - page) >> 1, RING_DROP")],
  },
  {
    name: "map: output range not checked", peer: "missed", tests: MAPS,
    edits: [edit("table/map", "return hpaLast < hpa || (hpaLast & ~lowBits(load<u32>(domain, DOMAIN_OUTPUT_LG2))) != 0 ? STATUS_RANGE : STATUS_OK;", "return STATUS_OK;")],
  },
  {
    name: "unmap: bytes of a range counted in 32 bits", peer: "missed", tests: MAPS,
    edits: [edit("table/unmap", "      bytes += <u64>1 << span;\n    } else if (kind == TABLE) {", "      bytes += <u64>(<u32>1 << span);\n    } else if (kind == TABLE) {")],
  },
  {
    name: "map: leaves run on where a larger one may start", tests: MAPS,
    edits: [edit("table/map", "const limit = larger ? min(at | lowBits(<u32>ctz(larger)), last) : last;", "const limit = last;")],
  },
  {
    name: "map: tables that two pieces share are counted twice", tests: MAPS,
    edits: [edit("table/map", "if (kind == EMPTY && (at ^ after) >> span != 0) tables++;", "if (kind == EMPTY) tables++;")],
  },
  {
    name: "unmap: a leaf may be cut", tests: MAPS,
    edits: [edit("table/unmap", "return (at & ~within) < first || (at | within) > last;", "return false;")],
  },
  {
    name: "unmap: live entries not counted down", tests: MAPS,
    edits: [edit("table/unmap", "  Frames.addLive(engine, table, -live);\n", "")],
  },
  {
    name: "frames: limbo is given out while readers are inside", tests: ["assembly/__tests__/frames.spec.ts"],
    edits: [edit("table/frames", "  store<u32>(list, link, ENGINE_FRAME_LIMBO);", "  addFree(engine, link - 1, order);")],
  },
  {
    name: "frames: a table is handed out with what was in it", tests: MAPS,
    edits: [edit("table/frames", "  if (clear) memory.fill(frame, 0, FRAME_BYTES << order);\n", "")],
  },
  {
    name: "frames: the second half of a split block is lost", tests: ["assembly/__tests__/frames.spec.ts"],
    edits: [edit("table/frames", "    addFree(engine, index + (1 << from), from);\n", "")],
  },
  {
    name: "dirty: a leaf that the range cuts is cleaned", tests: MAPS,
    edits: [edit("table/dirty", "    if (end - at == lowBits(lg2)) leafDirty", "    leafDirty")],
  },
  {
    name: "merge: permissions of the parent do not count", tests: SHADOWS,
    edits: [edit("table/merge-pages", "f.permissions(f.start(), pte, flags) & perm;", "perm;")],
  },
  {
    name: "merge: a leaf of the child may reach over leaves of the parent", tests: SHADOWS,
    edits: [edit("table/merge-pages", "cursor.plan<F>(child, at, end, hpa, lowBits(lg2 + 1));", "cursor.plan<F>(child, at, end, hpa, ~(<u64>0));"),
      edit("table/merge-pages", "perm | marksLeft(child), lowBits(lg2 + 1));", "perm | marksLeft(child), ~(<u64>0));")],
  },
  {
    name: "dirty: tracking begins with leaves that count as written", tests: ["test/unit/engine-dirty.test.ts"],
    edits: [edit("table/dirty", "const wanted = track ? f.cleaned(pte)", "const wanted = track ? pte")],
  },
];
