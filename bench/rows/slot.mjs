// What does it cost that a guest's tables are read through a slot? The same translations twice: tables in guest RAM behind
// one slot, and kernel-owned tables, whose pointers are plain offsets. All misses, tables in cache.
import { engineVariant } from "../pool.mjs";
import { walkWorld } from "../worlds.mjs";

const LEAF_TABLES = 64;
const LANES = 65536;

export const rows = [
  {
    name: "slot-one",
    about: "all misses: a guest's tables behind one slot against the engine's own",
    unit: "translation",
    baselines: ["plain offsets"],
    async prepare() {
      const { pools: [plain, slot] } = await walkWorld({ leafTables: LEAF_TABLES, lanes: LANES, guest: true });
      return { variants: [engineVariant("one slot", slot), engineVariant("plain offsets", plain)], notes: () => [] };
    },
  },
];
