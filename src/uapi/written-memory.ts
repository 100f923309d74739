// Who wants to know what DMA views write: watches of guests' tables. Views are hot, so nobody there costs one comparison.
// Imports nothing.

/** Bytes first..last of the engine's memory. */
export interface WriteWatcher {
  wrote(first: number, last: number): void;
}

export class WrittenMemory {
  readonly #watchers = new Set<WriteWatcher>();
  /** Number of watchers: while it is 0 nothing needs to be told. */
  watching = 0;

  add(watcher: WriteWatcher): void {
    this.#watchers.add(watcher);
    this.watching = this.#watchers.size;
  }

  delete(watcher: WriteWatcher): void {
    this.#watchers.delete(watcher);
    this.watching = this.#watchers.size;
  }

  /** Not inside a section: a watcher may make calls that change something. */
  wrote(first: number, last: number): void {
    for (const watcher of [...this.#watchers]) watcher.wrote(first, last);
  }
}
