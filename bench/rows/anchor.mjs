// What is this machine's memory like? A chain of dependent loads through every cache line of an area, in random order.
import { BATCH } from "../pool.mjs";
import { randomBelow } from "../random.mjs";

const LINE = 64;
const WASM_PAGE = 65536;

/** A memory whose lines form one random cycle: the first word of each is the offset of the next (Sattolo's shuffle). */
function cycle(bytes) {
  const memory = new WebAssembly.Memory({ initial: bytes / WASM_PAGE, maximum: bytes / WASM_PAGE, shared: true });
  const words = new Uint32Array(memory.buffer);
  const random = randomBelow(bytes);
  const order = Uint32Array.from({ length: bytes / LINE }, (_, n) => n);
  for (let n = order.length - 1; n > 0; n--) {
    const other = random(n);
    [order[n], order[other]] = [order[other], order[n]];
  }
  order.forEach((line, n) => { words[line * LINE / 4] = order[n + 1 === order.length ? 0 : n + 1] * LINE; });
  return { memory, words };
}

/** follow(at, steps): the offset after that many loads. All calls together go round once, so call 0 begins where it ended. */
function chaseVariant(name, bytes, follow) {
  const output = new Float64Array(1);
  return {
    name,
    calls: bytes / LINE / BATCH,
    output,
    run(call) {
      output[0] = follow(call === 0 ? 0 : output[0], BATCH);
    },
  };
}

function chaseNumbers(words, at, steps) {
  for (; steps > 0; steps--) at = words[at >>> 2];
  return at;
}

function row(name, bytes) {
  return {
    name,
    about: `dependent loads over ${bytes / 1024} KiB`,
    unit: "load",
    baselines: ["native C"],
    async prepare(native) {
      const { memory, words } = cycle(bytes);
      native?.use(memory);
      const variants = [chaseVariant("JavaScript", bytes, (at, steps) => chaseNumbers(words, at, steps))];
      if (native) variants.push(chaseVariant("native C", bytes, native.chase));
      return { variants, notes: () => [] };
    },
  };
}

const MIB = 1024 * 1024;
export const rows = [
  row("latency-anchor-256k", MIB / 4), row("latency-anchor-4m", 4 * MIB), row("latency-anchor-64m", 64 * MIB),
];
