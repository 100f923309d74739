// How fast is one call a translation, addresses as numbers, all hits?
import { mapOfNumbers, typedArraySet } from "../baselines/iotlb.mjs";
import { BATCH } from "../pool.mjs";
import { hitWorld } from "../worlds.mjs";

const PAGES = 1024;
const SETS = 1024;
const LANES = 65536;

function scalarVariant(name, pool) {
  const { port, requests } = pool;
  const output = new Float64Array(BATCH);
  return {
    name,
    calls: pool.batches,
    output,
    run(batch) {
      let at = batch * BATCH * 4;
      for (let lane = 0; lane < BATCH; lane++, at += 4) {
        output[lane] = port.translateNumber(requests[at + 1] * 0x100000000 + requests[at], requests[at + 2], requests[at + 3]);
      }
    },
  };
}

export const rows = [
  {
    name: "scalar",
    about: `one call a translation, all hits: ${PAGES} random pages of 8 devices, 48-bit addresses`,
    unit: "translation",
    baselines: ["Map<number>"],
    async prepare() {
      const otherSet = (route, iova) => typedArraySet(route, iova, SETS);
      const { pool, pages } = await hitWorld({ pages: PAGES, top: 2 ** 48, iotlbSets: SETS, lanes: LANES, otherSet });
      return { variants: [scalarVariant("ioasid", pool), mapOfNumbers("Map<number>", pool, pages)], notes: () => [] };
    },
  },
];
