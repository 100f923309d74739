// The whole build: engine (both binaries, checked), layout, TypeScript, the engine beside its loader in dist/, and the scenarios' schema.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { checkEngine, checkWaits } from "./check-engine.mjs";

const run = (file, ...args) => execFileSync(process.execPath, [file, ...args], { stdio: ["ignore", "inherit", "inherit"] });

fs.mkdirSync("build", { recursive: true });
run("scripts/layout.mjs");
for (const kind of ["shared", "unshared"]) {
  run("node_modules/assemblyscript/bin/asc.js", "--target", kind);
  checkEngine(`src/engine/engine.${kind}.wasm`);
  checkWaits(kind, `build/engine.${kind}.wat`);
}
fs.rmSync("dist", { recursive: true, force: true });
run("node_modules/typescript/bin/tsc", "-p", "tsconfig.json");
for (const kind of ["shared", "unshared"]) fs.copyFileSync(`src/engine/engine.${kind}.wasm`, `dist/engine/engine.${kind}.wasm`);
run("scripts/scenario-schema.mjs");
fs.chmodSync("dist/cli/main.js", 0o755);
