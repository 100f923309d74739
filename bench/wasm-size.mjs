// npm run size: what each format adds to the engine's bytes. Builds the engine with an empty list of formats and with each
// format alone, in a copy of its source, and prints bytes, gzip'd bytes and what is added to the engine without formats.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import Table from "cli-table3";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const WORK = `${ROOT}build/size`;
const LIST = `${WORK}/assembly/format/list.ts`;

/** Wasm of the copy as it is now. */
function build() {
  execFileSync(process.execPath, [`${ROOT}node_modules/assemblyscript/bin/asc.js`, "--target", "unshared"], { cwd: WORK, stdio: ["ignore", "ignore", "inherit"] });
  return fs.readFileSync(`${WORK}/src/engine/engine.unshared.wasm`);
}

fs.rmSync(WORK, { recursive: true, force: true });
fs.cpSync(`${ROOT}assembly`, `${WORK}/assembly`, { recursive: true });
fs.mkdirSync(`${WORK}/src/engine`, { recursive: true });
fs.mkdirSync(`${WORK}/build`, { recursive: true });
fs.copyFileSync(`${ROOT}asconfig.json`, `${WORK}/asconfig.json`);
fs.symlinkSync(`${ROOT}node_modules`, `${WORK}/node_modules`);
const list = fs.readFileSync(LIST, "utf8");
const cases = [...list.matchAll(/^ +case \d+: return operation\.run<(.+)>\(engine.*\n/gm)];
const sizes = (wasm) => [wasm.length, gzipSync(wasm, { level: 9 }).length];

const whole = sizes(build());
const without = (kept) => {
  fs.writeFileSync(LIST, cases.reduce((text, [line]) => (line === kept ? text : text.replace(line, "")), list));
  return sizes(build());
};
const bare = without(null);
const table = new Table({ head: ["engine with", "bytes", "gzip'd", "added", "added gzip'd"], style: { head: [], border: [] }, colAligns: ["left", "right", "right", "right", "right"] });
const row = (name, [bytes, packed]) => table.push([name, bytes, packed, bytes - bare[0], packed - bare[1]]);
row("no format", bare);
for (const [line, name] of cases) row(`${name} alone`, without(line));
row("all formats", whole);
console.log(table.toString());
