// How fast is a batch whose every lane must be walked? 4-KiB leaves, 4 levels, random pages; the IOTLB is too small to help.
// "native C" does the same work as we do, one request after the other: lookup, walk, fill; "C, three passes" does it in our order. "C, walk only" and the JavaScript
// walkers have no IOTLB: what looking there and filling it costs is in our time and not in theirs.
import { bigintWalker, twoNumberWalker } from "../baselines/walk.mjs";
import { engineVariant, nativeVariant } from "../pool.mjs";
import { walkWorld } from "../worlds.mjs";

function row(name, size, leafTables, lanes) {
  return {
    name,
    about: `all misses: random 4-KiB pages, ${size} of leaf tables`,
    unit: "translation",
    baselines: ["native C", "C, three passes", "C, walk only", "two numbers", "bigint"],
    async prepare(native) {
      const { engine, root, pools: [pool] } = await walkWorld({ leafTables, lanes });
      native?.use(engine.memory);
      const variants = [engineVariant("ioasid", pool)];
      if (native) {
        variants.push(nativeVariant("native C", pool, native.translateNaiveVtd));
        variants.push(nativeVariant("C, three passes", pool, native.translateThreePass));
        variants.push(nativeVariant("C, walk only", pool, native.translateWalking));
      }
      variants.push(twoNumberWalker("two numbers", pool, root), bigintWalker("bigint", pool, root));
      const notes = () => {
        const { translations, misses } = pool.port.counters;
        return [`${(100 * misses / translations).toFixed(2)}% of ${translations} translations missed`];
      };
      return { variants, notes };
    },
  };
}

/** The larger pool reads 64 MiB of leaf entries, a cache line each: more than a last-level cache holds. */
export const rows = [row("cold-walk-l2", "256 KiB", 64, 65536), row("cold-walk-256m", "256 MiB", 65536, 2 ** 20)];
