// Compiles and loads the native baselines: cc, one shared object under build/bench/, cached by a hash of all that decides
// its bytes. layout.h comes from the built engine, so that C and WebAssembly cannot disagree on an offset.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as layout from "../dist/engine/layout.js";

const require = createRequire(import.meta.url);
const SOURCES = fileURLToPath(new URL("./native/", import.meta.url));
const OUTPUT = fileURLToPath(new URL("../build/bench/", import.meta.url));
const FLAGS = ["-O3", "-march=native", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"];

/** Every constant of the layout as a #define; lists of names are not for C. */
function layoutHeader() {
  const lines = Object.entries(layout)
    .filter(([, value]) => typeof value === "number" || typeof value === "bigint")
    .map(([name, value]) => `#define ${name} ${value > 0x7fffffff ? `0x${value.toString(16)}ull` : value}`);
  return `#pragma once\n${lines.join("\n")}\n`;
}

function compilerVersion(compiler) {
  try {
    return execFileSync(compiler, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return null;
  }
}

function compile(compiler, version) {
  const header = layoutHeader();
  const files = fs.readdirSync(SOURCES).sort();
  const hash = createHash("sha256");
  // -march=native: the same sources are other bytes on another processor.
  hash.update([version, os.cpus()[0]?.model, process.arch, process.version, ...FLAGS, header].join("\0"));
  for (const file of files) hash.update(fs.readFileSync(path.join(SOURCES, file)));
  const object = path.join(OUTPUT, `baselines-${hash.digest("hex").slice(0, 16)}.node`);
  if (fs.existsSync(object)) return object;
  fs.mkdirSync(OUTPUT, { recursive: true });
  fs.writeFileSync(path.join(OUTPUT, "layout.h"), header);
  const units = files.filter((file) => file.endsWith(".c")).map((file) => path.join(SOURCES, file));
  const partial = `${object}.${process.pid}`;
  execFileSync(compiler, [...FLAGS, "-I", OUTPUT, "-I", require("node-api-headers").include_dir, "-o", partial, ...units],
    { stdio: ["ignore", "ignore", "pipe"] });
  fs.renameSync(partial, object);
  return object;
}

/**
 * The addon, with `use(memory)` that points it at a WebAssembly.Memory; or the reason why there is none, in words.
 * Returns { native, reason, compiler }: one of native and reason is null. $CC names another compiler than cc.
 */
export function loadNative() {
  const compiler = process.env.CC || "cc";
  const version = compilerVersion(compiler);
  if (version === null) return { native: null, reason: `no C compiler: ${compiler} does not run`, compiler: null };
  try {
    const addon = require(compile(compiler, version));
    return { native: { ...addon, use: (memory) => use(addon, memory) }, reason: null, compiler: version.split("\n")[0] };
  } catch (error) {
    const words = String(error.stderr ?? error.message).trim().split("\n").slice(0, 5).join("; ");
    return { native: null, reason: `the C baselines do not build: ${words}`, compiler: null };
  }
}

/** Points the addon at the memory and proves that both see the same bytes. */
function use(addon, memory) {
  const bytes = new Uint8Array(memory.buffer);
  const words = new Uint32Array(memory.buffer, 0, 1);
  const before = words[0];
  words[0] = 0x1045a51d;
  const same = addon.useMemory(bytes) === bytes.length && addon.word(0) === words[0];
  words[0] = before;
  if (!same) throw new Error("the addon does not see the bytes of the WebAssembly memory");
}
