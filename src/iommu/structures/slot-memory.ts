// Guest memory through the engine's slots: structures are read where the walker reads tables. Imports the engine.
import type { Span } from "../../engine/access.js";
import type { Engine } from "../../engine/engine.js";
import type { TableMemory } from "./structure.js";

export class SlotMemory implements TableMemory {
  readonly #engine: Engine;
  readonly #span: Span = { kind: "memory", offset: 0, bytes: 0 };
  #view: DataView;

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#view = new DataView(engine.memory.buffer);
  }

  read64(gpa: bigint): bigint | undefined {
    if (gpa >> 56n) return undefined;
    if (!this.#engine.locate(Number(gpa & 0xffffffffn), Number(gpa >> 32n), this.#span)) return undefined;
    if (this.#span.kind === "zero") return 0n;
    if (this.#span.kind === "device") return undefined;
    if (this.#view.buffer !== this.#engine.memory.buffer) this.#view = new DataView(this.#engine.memory.buffer);
    return this.#view.getBigUint64(this.#span.offset, true);
  }
}
