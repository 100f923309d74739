// Shared words between a row and a thread that works in windows: what is ordered, and how the last window went.
const ORDER = 0;
const DONE = 1;
const END = 2;
const LANES_AT = 16;

export class Window {
  constructor(buffer = new SharedArrayBuffer(64)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, 4);
    /** Lanes; wall and processor time, and when it began, in nanoseconds. */
    this.numbers = new Float64Array(buffer, LANES_AT, 4);
    this.ordered = 0;
  }

  get lanes() { return this.numbers[0]; }
  get wall() { return this.numbers[1]; }
  get cpu() { return this.numbers[2]; }
  get start() { return this.numbers[3]; }

  order() {
    this.ordered = Atomics.add(this.words, ORDER, 1) + 1;
    Atomics.notify(this.words, ORDER);
  }

  async done() {
    while (Atomics.load(this.words, DONE) !== this.ordered) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  end() {
    Atomics.store(this.words, END, 1);
    Atomics.notify(this.words, ORDER);
  }

  /** On the thread: answers orders by run() -> [lanes, wall, cpu, start] until the end. */
  serve(run) {
    for (let done = 0; ; done++) {
      while (Atomics.load(this.words, ORDER) === done) {
        if (Atomics.load(this.words, END)) return;
        Atomics.wait(this.words, ORDER, done, 100);
      }
      this.numbers.set(run());
      Atomics.store(this.words, DONE, done + 1);
    }
  }
}
