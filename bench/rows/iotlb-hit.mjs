// How fast is a batch whose every lane hits the IOTLB? 1K pages in 4K entries, 16K pages in 32K entries. Addresses lie at the
// top of 48 bits, or of 32, where Linux hands out the first ones: no difference to us, but to a Map, whose keys (page numbers)
// are small integers only in the second case.
import * as baselines from "../baselines/iotlb.mjs";
import { engineVariant, nativeVariant } from "../pool.mjs";
import { hitWorld } from "../worlds.mjs";

const LANES = 65536;

/** Notes that tell what has missed from now on. */
function missesSince({ port }) {
  const warm = port.counters;
  return () => {
    const { translations, misses } = port.counters;
    return [`${misses - warm.misses} misses in ${translations - warm.translations} translations`];
  };
}

/** One lane after the other, and in groups as we do. */
function nativeVariants(native, pool) {
  return [nativeVariant("native C", pool, native.translateHits), nativeVariant("C, groups of eight", pool, native.translateHitsInGroups)];
}

function row(name, pages, iotlbSets, width) {
  return {
    name,
    about: `all hits: ${pages} random pages of 8 devices in an IOTLB of ${iotlbSets * 4} entries, ${width}-bit addresses`,
    unit: "translation",
    baselines: ["native C", "C, groups of eight", "typed arrays", "Map<number>", "Map<bigint>"],
    async prepare(native) {
      const otherSet = (route, iova) => baselines.typedArraySet(route, iova, iotlbSets);
      const world = await hitWorld({ pages, top: 2 ** width, iotlbSets, lanes: LANES, otherSet });
      const { engine, pool } = world;
      native?.use(engine.memory);
      const variants = [engineVariant("ioasid", pool)];
      if (native) variants.push(...nativeVariants(native, pool));
      variants.push(
        baselines.typedArrayCache("typed arrays", pool, world.pages, iotlbSets),
        baselines.mapOfNumbers("Map<number>", pool, world.pages),
        baselines.mapOfBigints("Map<bigint>", pool, world.pages),
      );
      for (let call = 0; call < variants[0].calls; call++) variants[0].run(call);
      return { variants, notes: missesSince(pool) };
    },
  };
}

/** A table that no cache holds, two million pages of 16 devices; neither loop in C reads ahead. */
const large = {
  name: "iotlb-hit-64m",
  about: "all hits: 2M random pages of 16 devices in an IOTLB of 4M entries, 64 MiB",
  unit: "translation",
  baselines: ["native C", "C, groups of eight"],
  async prepare(native) {
    const { engine, pool } = await hitWorld({ pages: 2 ** 21, top: 2 ** 48, iotlbSets: 2 ** 20, lanes: 2 ** 20, domains: 16 });
    native?.use(engine.memory);
    const variants = [engineVariant("ioasid", pool)];
    if (native) variants.push(...nativeVariants(native, pool));
    for (let call = 0; call < variants[0].calls; call++) variants[0].run(call);
    return { variants, notes: missesSince(pool) };
  },
};

export const rows = [
  row("iotlb-hit-l1", 1024, 1024, 48), row("iotlb-hit-l2", 16384, 8192, 48), row("iotlb-hit-32bit", 1024, 1024, 32), large,
];
