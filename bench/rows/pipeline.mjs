// The whole pipeline: hits and misses in one batch, at several shares of misses. IOTLB of 4096 entries, 256 MiB of leaf entries.
// "native C" looks up, walks what missed and fills, one request after the other.
import { engineVariant, nativeVariant } from "../pool.mjs";
import { pipelineWorld } from "../miss-worlds.mjs";

function row(percent) {
  return {
    name: `pipeline-${percent}`, about: `${percent}% misses: lookup, walk and fill, 256 MiB of leaf tables`, unit: "translation", baselines: ["native C"],
    async prepare(native) {
      const { engine, pool } = await pipelineWorld({ leafTables: 65536, lanes: 2 ** 20, share: percent / 100 });
      native?.use(engine.memory);
      const variants = [engineVariant("ioasid", pool)];
      if (native) variants.push(nativeVariant("native C", pool, native.translateNaiveVtd));
      const before = pool.port.counters;
      const notes = () => {
        const { translations, misses } = pool.port.counters;
        return [`${(100 * (misses - before.misses) / (translations - before.translations)).toFixed(2)}% of our translations missed`];
      };
      return { variants, notes };
    },
  };
}

export const rows = [row(2), row(10), row(33)];
