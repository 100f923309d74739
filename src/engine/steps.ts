// Changes of several steps, any of which a port of another thread may hold up. A step is what cannot be refused any more; one that
// cannot be made in time is put off, with all that follow it, in order. Who makes the next change makes these first.
// Imports errors.
import { EngineError } from "./errors.js";

/** Made again after PORT_STALLED it goes on where it was: so can every change of an engine be. */
type Step = () => void;

export class Steps {
  /** The first was begun. */
  readonly #putOff: Step[] = [];
  #stall: EngineError | undefined;

  /** The PORT_STALLED for which steps are put off; undefined when none are. */
  get stall(): EngineError | undefined {
    return this.#stall;
  }

  /** Makes the step now, or puts it off: when a port holds it up, or one before it. */
  take(step: Step): void {
    this.#stall ??= stallOf(step);
    if (this.#stall !== undefined) this.#putOff.push(step);
  }

  /** Makes what is put off. Throws EngineError PORT_STALLED when a port holds it up still. */
  finish(): void {
    // What is wrong with one step must not keep the others: it is taken out first.
    for (let step = this.#putOff.shift(); step !== undefined; step = this.#putOff.shift()) {
      const stall = stallOf(step);
      if (stall === undefined) continue;
      this.#putOff.unshift(step);
      this.#stall = stall;
      throw stall;
    }
    this.#stall = undefined;
  }
}

/** Makes a step: why it is not finished, if a port holds it up. */
function stallOf(step: Step): EngineError | undefined {
  try {
    step();
    return undefined;
  } catch (error) {
    if (error instanceof EngineError && error.code === "PORT_STALLED") return error;
    throw error;
  }
}
