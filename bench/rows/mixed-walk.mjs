// Misses that are not all alike: leaves of two sizes, and two stages; as in cold-walk, every lane is walked. "native C" does the
// same work, one request after the other: lookup, walk, fill; of two stages every one of the 24 entries is read.
import { engineVariant, nativeVariant } from "../pool.mjs";
import { mixedWorld, twoStageWorld } from "../miss-worlds.mjs";

const LANES = 2 ** 20;

function row(name, about, kernel, makeWorld) {
  return {
    name, about: `all misses: ${about}`, unit: "translation", baselines: ["native C"],
    async prepare(native) {
      const { engine, pool, tables } = await makeWorld();
      native?.use(engine.memory);
      const variants = [engineVariant("ioasid", pool)];
      if (native) variants.push(nativeVariant("native C", pool, native[kernel]));
      const notes = () => {
        const { translations, misses } = pool.port.counters;
        const missed = `${(100 * misses / translations).toFixed(2)}% of ${translations} translations missed`;
        return [tables ? `${missed}; ${tables} tables of 4-KiB leaves` : missed];
      };
      return { variants, notes };
    },
  };
}

export const rows = [
  row("mixed-walk-256m", "leaves of 4 KiB and 2 MiB at random, 256 MiB of leaf tables", "translateNaiveMixed",
    () => mixedWorld({ leafTables: 65536, lanes: LANES })),
  row("two-stage-128m", "a guest's x86-64 tables, 128 MiB of leaf entries, above a VT-d second stage of 512 MiB in 4-KiB leaves", "translateTwoStage",
    () => twoStageWorld({ leafTables: 32768, pages: 2 ** 17, lanes: LANES })),
];
