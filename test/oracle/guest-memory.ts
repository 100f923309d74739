// Host-physical memory as the engine's slots have it, for walks of tables that a guest owns.
// May import the layout constants and memory-words.ts; slots are first..last, inclusive.
import {
  ENGINE_SLOTS, SLOT_BYTES, SLOT_FIRST, SLOT_KIND, SLOT_LAST, SLOT_MEMORY, SLOT_OFFSET, SLOT_ZERO, SLOTS_BYTES, SLOTS_COUNT,
} from "../../src/engine/layout.js";
import { readU32, readU64 } from "./memory-words.js";
import type { Memory } from "./reference/types.js";

/** Words by host-physical address: those of a slot with bytes, zeros of a zero slot, and nothing elsewhere or in a device. */
export function slotMemory(engine: { readonly memory: WebAssembly.Memory; readonly address: number }): Memory {
  const { memory } = engine;
  return (address) => {
    const table = readU32(memory, engine.address + ENGINE_SLOTS);
    const count = readU32(memory, table + SLOTS_COUNT);
    const slots = table + SLOTS_BYTES;
    for (let slot = slots; slot < slots + count * SLOT_BYTES; slot += SLOT_BYTES) {
      const first = readU64(memory, slot + SLOT_FIRST);
      if (address < first || address > readU64(memory, slot + SLOT_LAST)) continue;
      const kind = readU32(memory, slot + SLOT_KIND);
      if (kind === SLOT_MEMORY) return readU64(memory, readU32(memory, slot + SLOT_OFFSET) + Number(address - first));
      return kind === SLOT_ZERO ? 0n : null;
    }
    return null;
  };
}
