// Refuses an engine that is not position-independent: N of them live in one memory, or inside somebody else's. It may have no
// data section, no memory of its own, no global, no start function, no table, and no import but the memory.
import fs from "node:fs";

const FORBIDDEN = { 4: "a table", 5: "a memory of its own", 6: "a global", 8: "a start function", 9: "elements", 11: "data", 12: "data" };

function leb(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return [value >>> 0, at];
  }
}

/**
 * Throws unless the build for shared memory (its text, build/*.wat) waits in exactly one place, a function that ends there
 * (assembly/change.ts says why), and the other one neither waits nor notifies.
 */
export function checkWaits(kind, textPath) {
  const text = fs.readFileSync(textPath, "utf8");
  const waits = [...text.matchAll(/\batomic\.wait\w*[\s)]*(drop)?[\s)]*(end\s+)*\)\s+\(/g)].length;
  const all = text.match(/\batomic\.wait/g)?.length ?? 0;
  if (kind === "shared" && !(all === 1 && waits === 1)) throw new Error(`${textPath} waits in ${all} places, ${waits} of them at the end of a function`);
  if (kind !== "shared" && /\batomic\.(wait|notify)/.test(text)) throw new Error(`${textPath} waits or notifies, and nobody is there`);
}

/** Throws an Error that names every rule the module breaks. */
export function checkEngine(path) {
  const bytes = fs.readFileSync(path);
  const problems = [];
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at];
    const [size, start] = leb(bytes, at + 1);
    if (FORBIDDEN[id]) problems.push(`has ${FORBIDDEN[id]}`);
    at = start + size;
  }
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(bytes));
  for (const { module, name, kind } of imports) {
    if (module !== "env" || name !== "memory" || kind !== "memory") problems.push(`imports ${module}.${name}`);
  }
  if (problems.length) throw new Error(`${path} ${problems.join(", ")}`);
}
