// Compiles the engine for shared memory once more, with further names defined (assembly/flags.d.ts), for rows that ask what a part costs.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Exports of that variant on a shared memory: `use` are options as in asconfig.json. */
export async function loadVariant(name, memory, use) {
  const output = `build/bench/${name}.wasm`;
  fs.mkdirSync(`${ROOT}build/bench`, { recursive: true });
  execFileSync(process.execPath, ["node_modules/assemblyscript/bin/asc.js", "--target", "shared", "--outFile", output, "--textFile", `build/bench/${name}.wat`,
    ...use.flatMap((each) => ["--use", each])], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(`${ROOT}${output}`), { env: { memory } });
  return instance.exports;
}
