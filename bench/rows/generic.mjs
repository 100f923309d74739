// What does it cost that one source serves every format? Cold walks through the engine, against the same loops written out by
// hand for VT-d second-stage tables of our own.
import { loadHandwritten } from "../handwritten.mjs";
import { BATCH, engineVariant } from "../pool.mjs";
import { walkWorld } from "../worlds.mjs";

const LEAF_TABLES = 64;
const LANES = 65536;

function handwritten(name, pool, { translate }) {
  const { address } = pool.port;
  const run = () => translate(address, BATCH);
  return {
    ...engineVariant(name, pool),
    run(batch) {
      pool.select(batch);
      pool.port.batch(run);
    },
  };
}

export const rows = [
  {
    name: "generic-walk",
    about: "all misses: the generic loops against loops written by hand for one format",
    unit: "translation",
    baselines: ["by hand"],
    async prepare() {
      const { engine, pools: [pool] } = await walkWorld({ leafTables: LEAF_TABLES, lanes: LANES });
      return { variants: [engineVariant("ioasid", pool), handwritten("by hand", pool, await loadHandwritten(engine.memory))], notes: () => [] };
    },
  },
];
