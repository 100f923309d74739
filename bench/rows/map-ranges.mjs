// Map and unmap apart, VT-d tables of 4-KiB leaves (outputs are a page off): one call for each of several ranges of 2 or 64
// MiB that lie side by side, and one unmap of 1 GiB. Before each timed call the other one is made, untimed. "native C" keeps
// counts of live entries for each table as we do; "C, reads leaves" has none, and looks at and clears every leaf.
import * as L from "../../dist/engine/layout.js";
import { VTD } from "../formats.mjs";
import { emptyWorld, PAGE } from "../worlds.mjs";

const BASE = 2n ** 38n;
const FRAMES = 2n ** 42n;
const MIB = 2 ** 20;
const GIB_PAGES = 2 ** 18;

/** Both halves of the work on the engine: map() and unmap() of all ranges; each throws unless all pages came or went. */
async function engineRanges(pages, count) {
  const { engine, domain } = await emptyWorld(VTD);
  const size = BigInt(pages * PAGE);
  const ranges = Array.from({ length: count }, (_, n) => {
    const first = BASE + size * BigInt(n);
    return { first, last: first + size - 1n, hpa: FRAMES + BigInt(PAGE) + size * BigInt(n) };
  });
  return {
    engine,
    map() {
      for (const { first, last, hpa } of ranges) {
        if (engine.map(domain, first, last, hpa, L.PERM_R | L.PERM_W) !== L.STATUS_OK) throw new Error("a map was refused");
      }
    },
    unmap() {
      for (const { first, last } of ranges) if (engine.unmap(domain, first, last) !== size) throw new Error("an unmap removed other bytes");
    },
  };
}

function nativeRanges(native, pages, count, unmapAll = native.unmapRanges) {
  return {
    map() {
      if (native.mapRanges(L.FORMAT_VTD_SECOND, pages, count) !== 1) throw new Error("a map was refused");
    },
    unmap() {
      if (unmapAll(pages, count) !== pages * count) throw new Error("an unmap removed other pages");
    },
  };
}

/** Times the one call of `what`, with the other before it; `finish` leaves everything unmapped for the variant that is next. */
function variant(name, { map, unmap }, timed, pages, finish) {
  const output = new Float64Array(1);
  const answers = () => { output[0] = pages; };
  if (timed === "unmap") return { name, calls: 1, output, items: pages, before: map, run() { unmap(); answers(); } };
  let mapped = false;
  finish.push(() => {
    if (mapped) unmap();
    mapped = false;
  });
  return {
    name, calls: 1, output, items: pages,
    before() {
      for (const each of finish) each();
    },
    run() {
      map();
      mapped = true;
      answers();
    },
  };
}

function row(name, timed, pages, count) {
  return {
    name, about: `${timed} of ${count} ranges of ${pages * PAGE / MIB} MiB in 4-KiB pages, a call each`, unit: "page", baselines: ["native C"],
    async prepare(native) {
      const ours = await engineRanges(pages, count);
      native?.use(ours.engine.memory);
      const finish = [];
      const variants = [variant("ioasid", ours, timed, pages * count, finish)];
      if (native) variants.push(variant("native C", nativeRanges(native, pages, count), timed, pages * count, finish));
      return { variants, notes: () => [] };
    },
  };
}

const whole = {
  name: "unmap-1g", about: "unmap of 1 GiB of 4-KiB pages in one call", unit: "page", baselines: ["C, reads leaves", "native C"],
  async prepare(native) {
    const ours = await engineRanges(GIB_PAGES, 1);
    native?.use(ours.engine.memory);
    const variants = [variant("ioasid", ours, "unmap", GIB_PAGES)];
    if (native) {
      variants.push(
        variant("C, reads leaves", nativeRanges(native, GIB_PAGES, 1, native.unmapReading), "unmap", GIB_PAGES),
        variant("native C", nativeRanges(native, GIB_PAGES, 1), "unmap", GIB_PAGES),
      );
    }
    return { variants, notes: () => [] };
  },
};

export const rows = [
  row("map-range-2m", "map", 512, 64), row("unmap-range-2m", "unmap", 512, 64),
  row("map-range-64m", "map", 16384, 4), row("unmap-range-64m", "unmap", 16384, 4), whole,
];
