// Compiles the hand-written walker with the engine's own options and puts it on the memory of an engine.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const OUTPUT = "build/bench/handwritten.wasm";

/** Its exports, on a shared memory. */
export async function loadHandwritten(memory) {
  fs.mkdirSync(`${ROOT}build/bench`, { recursive: true });
  execFileSync(process.execPath, ["node_modules/assemblyscript/bin/asc.js", "bench/handwritten/translate.ts", "--outFile", OUTPUT, "--runtime", "stub",
    "--importMemory", "--noExportMemory", "--initialMemory", "0", "--maximumMemory", "65536", "--sharedMemory", "--zeroFilledMemory",
    "--enable", "simd", "--enable", "threads", "--use", "abort=", "--use", "SHARED=ASC_FEATURE_THREADS", "--optimizeLevel", "3", "--shrinkLevel", "0", "--noAssert"],
  { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(`${ROOT}${OUTPUT}`), { env: { memory } });
  return instance.exports;
}
