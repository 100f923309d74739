// What do sections cost, and what do counters? The same engine, the same requests, the same port: once with, once without.
import { typedArraySet } from "../baselines/iotlb.mjs";
import * as L from "../../dist/engine/layout.js";
import { BATCH, engineVariant } from "../pool.mjs";
import { loadVariant } from "../variant.mjs";
import { hitWorld, walkWorld } from "../worlds.mjs";

const PAGES = 1024;
const SETS = 1024;
const LANES = 65536;

function hits() {
  const otherSet = (route, iova) => typedArraySet(route, iova, SETS);
  return hitWorld({ pages: PAGES, top: 2 ** 48, iotlbSets: SETS, lanes: LANES, otherSet });
}

/** Requests in batches of `size`, each through `one`; results of the last of them stay. */
function inPieces(name, pool, size, one) {
  const { words, windowWord } = pool;
  return {
    ...engineVariant(name, pool),
    run(batch) {
      pool.select(batch);
      for (let done = 0; done < BATCH; done += size) {
        one();
        words[windowWord] += size * L.REQUEST_BYTES;
      }
    },
  };
}

/** A section by the public port, against a translation that finds its port inside one already. */
function sectionRow(size) {
  return {
    name: `section-${size}`,
    about: `all hits, a section for every ${size}: what entering, looking for invalidations and leaving costs`,
    unit: "translation",
    baselines: ["no section"],
    async prepare() {
      const { pool } = await hits();
      const { port, words } = pool;
      const active = (port.address + L.PORT_ACTIVE) >>> 2;
      const translate = (its) => its.translate(size);
      const inside = () => {
        words[active] = 1;
        port.translate(size);
        words[active] = 0;
      };
      return { variants: [inPieces("ioasid", pool, size, () => port.batch(translate)), inPieces("no section", pool, size, inside)], notes: () => [] };
    },
  };
}

function countersRow(name, about, prepareWorld) {
  return {
    name,
    about,
    unit: "translation",
    baselines: ["no counters"],
    async prepare() {
      const { engine, pool } = await prepareWorld();
      const { address } = pool.port;
      const variant = (name, { enter, translate, leave }) => ({
        ...engineVariant(name, pool),
        run(batch) {
          pool.select(batch);
          enter(address);
          translate(address, BATCH);
          leave(address);
        },
      });
      const without = await loadVariant("no-counters", engine.memory, ["NO_COUNTERS=ASC_FEATURE_THREADS", "SHARED=ASC_FEATURE_THREADS", "abort="]);
      return { variants: [variant("ioasid", engine.exports), variant("no counters", without)], notes: () => [] };
    },
  };
}

async function walks() {
  const { engine, pools: [pool] } = await walkWorld({ leafTables: 64, lanes: LANES });
  return { engine, pool };
}

export const rows = [
  sectionRow(256), sectionRow(32),
  countersRow("counters-hit", "all hits: the port's counters", hits),
  countersRow("counters-walk", "all misses: the port's counters, table entries included", walks),
];
