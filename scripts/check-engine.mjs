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

/** Does the module's text (build/*.wat) wait or notify? */
const waits = (text) => /\batomic\.wait|\batomic\.notify/.test(text);

/** Throws unless the build for shared memory waits for readers, and the other one does nothing of the kind. */
export function checkWaits(kind, textPath) {
  if (waits(fs.readFileSync(textPath, "utf8")) === (kind === "shared")) return;
  throw new Error(`${textPath} ${kind === "shared" ? "does not wait for readers" : "waits, and nobody could wake it"}`);
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
