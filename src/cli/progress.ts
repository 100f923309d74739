// A progress bar on a terminal; silent elsewhere. Imports cli-progress.
import { SingleBar } from "cli-progress";

export class Progress {
  #bar: SingleBar | undefined;
  #what = "";

  constructor(readonly stream: NodeJS.WriteStream) {}

  /** Begins a bar for what comes next; the one before ends. */
  begin(what: string): void {
    this.end();
    this.#what = what;
  }

  /** `total` undefined (a pipe): nothing is drawn, there is no end to measure against. */
  set(done: number, total: number | undefined): void {
    if (!this.stream.isTTY || !total) return;
    if (!this.#bar) {
      const format = `${this.#what} {bar} {percentage}%`;
      this.#bar = new SingleBar({ format, stream: this.stream, clearOnComplete: true, hideCursor: true, barsize: 30 });
      this.#bar.start(total, 0);
    }
    this.#bar.update(done);
  }

  end(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
