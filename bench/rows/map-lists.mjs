// Map and unmap by themselves, of VT-d tables: lists of records in the engine's scratch area, as mapMany() and unmapMany() leave them
// there, and 1 GiB of pages in one call. "native C" keeps the same cursor, makes the same two passes and gives whole tables back by
// their counts; "C, reads every leaf" has no counts. Outputs are anywhere, so that no leaf is larger than a page.
import * as L from "../../dist/engine/layout.js";
import { chooseClock } from "../clock.mjs";
import { FORMATS } from "../formats.mjs";
import { measureHalf } from "../halves.mjs";
import { loadNative } from "../native.mjs";
import { randomBelow } from "../random.mjs";
import { emptyWorld, PAGE } from "../worlds.mjs";

const BASE = 2 ** 38;
const RW = L.PERM_R | L.PERM_W;
const PAGES_OF_GIB = 2 ** 18;
const VTD = FORMATS.find(({ options }) => options.format === L.FORMAT_VTD_SECOND);

/** Calls' worth of records: maps of `pages` pages, one behind the other or as far apart as they are long, and the same ranges. */
function listsOf(pages, apart, calls) {
  const random = randomBelow(2 ** 20);
  const most = L.SCRATCH_BYTES / L.LEAF_BYTES;
  return Array.from({ length: calls }, (_none, call) => {
    const [maps, ranges] = [new DataView(new ArrayBuffer(most * L.LEAF_BYTES)), new DataView(new ArrayBuffer(most * L.RANGE_BYTES))];
    for (let n = 0; n < most; n++) {
      const first = BigInt(BASE + (call * most + n) * pages * (apart ? 2 : 1) * PAGE);
      const last = first + BigInt(pages * PAGE - 1);
      maps.setBigUint64(n * L.LEAF_BYTES + L.LEAF_FIRST, first, true);
      maps.setBigUint64(n * L.LEAF_BYTES + L.LEAF_LAST, last, true);
      // Odd page numbers: never aligned to a larger leaf.
      maps.setBigUint64(n * L.LEAF_BYTES + L.LEAF_HPA, BigInt((2 * random(2 ** 20) + 1) * PAGE), true);
      maps.setUint32(n * L.LEAF_BYTES + L.LEAF_PERM, RW, true);
      maps.setUint32(n * L.LEAF_BYTES + L.LEAF_LG2, 63, true);
      ranges.setBigUint64(n * L.RANGE_BYTES + L.RANGE_FIRST, first, true);
      ranges.setBigUint64(n * L.RANGE_BYTES + L.RANGE_LAST, last, true);
    }
    return { n: most, maps: new Uint32Array(maps.buffer), ranges: new Uint32Array(ranges.buffer) };
  });
}

function expect(done, what) {
  if (!done) throw new Error(`${what} was refused, or removed something else`);
}

/** `map(n)` and `unmap(n)` over every list, whose records are in the scratch area then. */
function overLists(name, lists, pages, scratch, map, unmap) {
  return {
    name, items: lists.length * lists[0].n * pages,
    make() {
      for (const { n, maps } of lists) {
        scratch.set(maps);
        expect(map(n), "a list of maps");
      }
    },
    undo() {
      for (const { n, ranges } of lists) {
        scratch.set(ranges);
        expect(unmap(n) === n * pages, "a list of unmaps");
      }
    },
  };
}

function listVariants({ engine, domain }, native, pages, apart, calls) {
  const { exports, address } = engine;
  const lists = listsOf(pages, apart, calls);
  const at = engine.word(L.ENGINE_SCRATCH);
  const scratch = new Uint32Array(engine.memory.buffer, at, L.SCRATCH_BYTES / 4);
  const bytes = BigInt(pages * PAGE);
  const variants = [
    overLists("ioasid", lists, pages, scratch, (n) => exports.mapMany(address, domain, n) === L.STATUS_OK,
      (n) => Number(exports.unmapMany(address, domain, n) / bytes) * pages),
    overLists("native C", lists, pages, scratch, (n) => native.mapList(at, n) === 1, (n) => native.unmapList(at, n)),
  ];
  compare(engine, domain, native, variants, apart ? 1 : variants[0].items);
  return variants;
}

/** All variants make the same leaves. */
function compare(engine, domain, native, variants, pages) {
  for (const { make } of variants) make();
  let sum = 0n;
  for (let n = 0; n < pages; n += 1 + (pages >> 12)) {
    const iova = BASE / PAGE + n;
    const pte = engine.walk(domain, BigInt(BASE + n * PAGE), 0).steps.at(-1).pte;
    sum = BigInt.asUintN(32, pte ^ (pte >> 32n));
    if (native.listChecksum(iova, iova) !== Number(sum)) throw new Error("the C tables have other leaves");
  }
  for (const { undo } of variants) undo();
}

/** 1 GiB of pages in one call; the C variants map by a list of one. */
function gibVariants({ engine, domain }, native, reading) {
  const [first, last, hpa] = [BigInt(BASE), BigInt(BASE + PAGES_OF_GIB * PAGE - 1), 2n ** 42n + BigInt(PAGE)];
  const at = engine.word(L.ENGINE_SCRATCH);
  const view = new DataView(engine.memory.buffer, at, L.LEAF_BYTES);
  view.setBigUint64(L.LEAF_FIRST, first, true);
  view.setBigUint64(L.LEAF_LAST, last, true);
  view.setBigUint64(L.LEAF_HPA, hpa, true);
  view.setUint32(L.LEAF_PERM, RW, true);
  const page = BASE / PAGE;
  const variants = [
    {
      name: "ioasid", items: PAGES_OF_GIB,
      make: () => expect(engine.map(domain, first, last, hpa, RW) === L.STATUS_OK, "a map"),
      undo: () => expect(engine.unmap(domain, first, last) === last - first + 1n, "an unmap"),
    },
    {
      name: reading ? "C, reads every leaf" : "native C", items: PAGES_OF_GIB,
      make: () => expect(native.mapList(at, 1) === 1, "a map of C's"),
      undo: () => expect(native.unmapPages(page, page + PAGES_OF_GIB - 1, reading ? 1 : 0) === PAGES_OF_GIB, "an unmap of C's"),
    },
  ];
  compare(engine, domain, native, variants, PAGES_OF_GIB);
  return variants;
}

function row(name, half, about, baseline, variantsOf) {
  return {
    name, about, unit: "page", baselines: [baseline],
    async measure() {
      const { native, reason } = loadNative();
      if (!native) throw new Error(reason);
      const world = await emptyWorld(VTD);
      native.use(world.engine.memory);
      return { ...measureHalf(variantsOf(world, native), half, chooseClock(native)), notes: [] };
    },
  };
}

function listRows(name, pages, about, calls, apart = false) {
  const variants = (world, native) => listVariants(world, native, pages, apart, calls);
  return [
    row(`map-list-${name}`, 0, `maps of ${about} each, in lists`, "native C", variants),
    row(`unmap-list-${name}`, 1, `unmaps of ${about} each, in lists`, "native C", variants),
  ];
}

export const rows = [
  ...listRows("4k", 1, "a page", 32), ...listRows("16k", 4, "4 pages", 16), ...listRows("64k", 16, "16 pages", 8), ...listRows("2m", 512, "2 MiB of pages", 1),
  ...listRows("4k-apart", 1, "every other page", 32, true), ...listRows("64k-apart", 16, "16 of every 32 pages", 8, true),
  row("map-gib", 0, "map of 1 GiB of pages", "native C", (world, native) => gibVariants(world, native, false)),
  row("unmap-gib", 1, "unmap of 1 GiB of pages", "native C", (world, native) => gibVariants(world, native, false)),
  row("unmap-gib-reading", 1, "unmap of 1 GiB of pages", "C, reads every leaf", (world, native) => gibVariants(world, native, true)),
];
