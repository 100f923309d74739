// Merge of a child with its parent's table, on lists of areas: records in the engine's scratch area, as mergeAll() leaves them there.
// A call copies one list there, merges it into the empty child and unmaps the child; "native C" does the same with a child of
// its own. The child's iovas follow each other, what they lead to lies anywhere in the parent.
import * as L from "../../dist/engine/layout.js";
import { PAGE, mergeWorld } from "../worlds.mjs";

const PAGES_MOST = 4096;

function engineMerges({ engine, parent, child, lists, first, scratch }) {
  const { exports, address } = engine;
  const output = new Float64Array(1);
  return {
    name: "ioasid", calls: lists.length, output, items: lists[0].pages,
    run(call) {
      const { words, n, pages, last } = lists[call];
      scratch.set(words);
      if (exports.mergeMany(address, child, parent, n) !== L.STATUS_OK) throw new Error("a merge was refused");
      output[0] = Number(exports.unmap(address, child, first, last)) / PAGE;
      if (output[0] !== pages) throw new Error("a merge has other pages");
    },
  };
}

/** Sum over the leaf entries, as the C baseline makes it of its own. */
function checksum({ engine, parent, child, first }, { words, n, pages, last }, scratch) {
  scratch.set(words);
  if (engine.exports.mergeMany(engine.address, child, parent, n) !== L.STATUS_OK) throw new Error("a merge was refused");
  let sum = 0n;
  for (let i = 0; i < pages; i++) {
    const pte = engine.walk(child, first + BigInt(i * PAGE), 0).steps.at(-1).pte;
    sum += pte ^ (pte >> 32n);
  }
  engine.unmap(child, first, last);
  return Number(BigInt.asUintN(32, sum));
}

function nativeMerges(native, world) {
  const { root, lists, scratch } = world;
  const at = world.engine.word(L.ENGINE_SCRATCH);
  for (const list of [lists[0], lists.at(-1)]) {
    const expected = checksum(world, list, scratch);
    scratch.set(list.words);
    if (native.mergeChecksum(root, at, list.n) !== expected) throw new Error("the C tables have other leaves");
  }
  const output = new Float64Array(1);
  return {
    name: "native C", calls: lists.length, output, items: lists[0].pages,
    run(call) {
      const { words, n } = lists[call];
      scratch.set(words);
      output[0] = native.mergeAndUnmap(root, at, n);
    },
  };
}

function row(name, pages, about, leafTables, lists) {
  return {
    name,
    about: `merge of areas of ${about}`,
    unit: "page",
    baselines: ["native C"],
    async prepare(native) {
      const areas = Math.min(L.SCRATCH_BYTES / L.AREA_BYTES, Math.max(8, PAGES_MOST / pages));
      const world = await mergeWorld({ leafTables, pages, areas, lists });
      native?.use(world.engine.memory);
      return { variants: [engineMerges(world), ...(native ? [nativeMerges(native, world)] : [])], notes: () => [] };
    },
  };
}

const SMALL = 64;
const LARGE = 65536;
const FEW = 64;
/** Half a million pages of other cache lines each: no cache holds them from one round to the next. */
const MANY = 4096;

export const rows = [
  row("merge-1", 1, "one page, 256 KiB of parent's tables", SMALL, FEW),
  row("merge-1-256m", 1, "one page, 256 MiB of parent's tables", LARGE, MANY),
  row("merge-4", 4, "4 pages, 256 KiB of parent's tables", SMALL, FEW),
  row("merge-16", 16, "16 pages, 256 KiB of parent's tables", SMALL, FEW),
  row("merge-2m", 512, "2 MiB of pages, 256 KiB of parent's tables", SMALL, FEW),
];
