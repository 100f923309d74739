// What does a format cost? Batches whose every lane is walked, as in cold-walk: as many leaf entries in every format, each
// with its own pages. "VT-d" is the engine on VT-d second-stage tables of the same size; "native C" looks up, walks and fills
// one request after the other.
import { FORMATS, VTD } from "../formats.mjs";
import { engineVariant, nativeVariant } from "../pool.mjs";
import { formatWorld } from "../worlds.mjs";

function row(format, name, bytes, lanes) {
  return {
    name: `${name}-${format.name}`,
    about: `all misses: random pages of ${format.name}, ${bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 1024} KiB`} of leaf entries`,
    unit: "translation",
    baselines: ["VT-d", ...(format.c ? ["native C"] : [])],
    async prepare(native) {
      const { engine, pool } = await formatWorld(format, { bytes, lanes });
      // VT-d asks for its own pages: its answers are others.
      const variants = [engineVariant("ioasid", pool)];
      if (native && format.c) {
        native.use(engine.memory);
        variants.push(nativeVariant("native C", pool, native[`translateNaive${format.c}`]));
      }
      const { pool: other } = await formatWorld(VTD, { bytes, lanes });
      variants.push({ ...engineVariant("VT-d", other), answers: "VT-d" });
      return { variants, notes: () => [] };
    },
  };
}

const others = FORMATS.filter((format) => format !== VTD);
export const rows = [
  ...others.map((format) => row(format, "walk-l2", 2 ** 18, 65536)), ...others.map((format) => row(format, "walk-256m", 2 ** 28, 2 ** 20)),
];
