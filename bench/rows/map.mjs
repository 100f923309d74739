// Map and unmap, for every format: one page, 256 pages in one call, and 1 GiB of pages, whose unmap gives whole tables back.
// Outputs are a page off, so that no leaf is larger than a page. A call is one map and one unmap through the public API, with
// bigint arguments; "native C" (where there is one) makes both in one call, on tables of its own.
import * as L from "../../dist/engine/layout.js";
import { FORMATS } from "../formats.mjs";
import { emptyWorld } from "../worlds.mjs";

const BASE = 2n ** 38n;
const FRAMES = 2n ** 42n;

function engineMaps({ engine, domain }, { pageLg2 }, pages) {
  const page = 1n << BigInt(pageLg2);
  const [last, hpa, bytes] = [BASE + page * BigInt(pages) - 1n, FRAMES + page, page * BigInt(pages)];
  const output = new Float64Array(1);
  return {
    name: "ioasid", calls: 1, output, items: pages,
    run() {
      if (engine.map(domain, BASE, last, hpa, L.PERM_R | L.PERM_W) !== L.STATUS_OK || engine.unmap(domain, BASE, last) !== bytes) throw new Error("a map or unmap was refused");
      output[0] = pages;
    },
  };
}

/** Sum over the leaf entries, as the C baseline makes it of its own. */
function checksum({ engine, domain }, { pageLg2 }, pages) {
  const page = 1n << BigInt(pageLg2);
  engine.map(domain, BASE, BASE + page * BigInt(pages) - 1n, FRAMES + page, L.PERM_R | L.PERM_W);
  let sum = 0n;
  for (let i = 0n; i < BigInt(pages); i++) {
    const pte = engine.walk(domain, BASE + i * page, 0).steps.at(-1).pte;
    sum += pte ^ (pte >> 32n);
  }
  engine.unmap(domain, BASE, BASE + page * BigInt(pages) - 1n);
  return Number(BigInt.asUintN(32, sum));
}

function nativeMaps(native, world, format, pages) {
  const number = format.options.format;
  if (native.mapChecksum(number, pages) !== checksum(world, format, pages)) throw new Error("the C tables have other leaves");
  const output = new Float64Array(1);
  return { name: "native C", calls: 1, output, items: pages, run() { output[0] = native.mapAndUnmap(number, pages, 1); } };
}

function row(format, name, pages, about) {
  return {
    name: `${name}-${format.name}`,
    about: `map and unmap of ${about}, ${format.name}`,
    unit: "page",
    baselines: format.c ? ["native C"] : [],
    async prepare(native) {
      const world = await emptyWorld(format);
      native?.use(world.engine.memory);
      return {
        variants: [engineMaps(world, format, pages), ...(native && format.c ? [nativeMaps(native, world, format, pages)] : [])],
        notes: () => [],
      };
    },
  };
}

export const rows = FORMATS.flatMap((format) => [
  row(format, "map-one", 1, "one page"), row(format, "map-256", 256, "256 pages"), row(format, "map-1g", 2 ** (30 - format.pageLg2), "1 GiB of pages"),
]);
