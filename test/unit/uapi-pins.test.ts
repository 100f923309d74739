// Pins against a model that counts each page, and the lock account that several of them share. Ranges are first..last.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LockAccount, Pins } from "../../src/uapi/pins.js";

const PAGES = 24;
/** Pages from here on are a device's: pinned, never charged. */
const DEVICE_FIRST = 16;
const NO_LIMIT = 2n ** 64n - 1n;

function pinRange(pins: Pins, first: number, last: number): void {
  if (first < DEVICE_FIRST) pins.pin(first, Math.min(last, DEVICE_FIRST - 1), true);
  if (last >= DEVICE_FIRST) pins.pin(Math.max(first, DEVICE_FIRST), last, false);
}

describe("pins", () => {
  it("agree with a count for every page, whatever is pinned and unpinned in whatever order", () => {
    const range = fc.tuple(fc.nat(PAGES - 1), fc.nat(PAGES - 1)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
    const step = fc.oneof({ weight: 3, arbitrary: range }, { weight: 2, arbitrary: fc.nat(100) });
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const account = new LockAccount(NO_LIMIT);
      const pins = new Pins(account, { name: "maps of ioasid 1", ioasid: 1 });
      const counts = new Array<number>(PAGES).fill(0);
      const held: (readonly [number, number])[] = [];
      for (const step of steps) {
        const dropped = typeof step === "number" ? held.splice(step % (held.length || 1), 1)[0] : undefined;
        if (typeof step === "number" && dropped === undefined) continue;
        const [first, last] = dropped ?? (step as readonly [number, number]);
        if (dropped === undefined) {
          pinRange(pins, first, last);
          held.push([first, last]);
        } else {
          pins.unpin(first, last);
        }
        for (let page = first; page <= last; page++) counts[page]! += dropped === undefined ? 1 : -1;
        for (let page = 0; page < PAGES; page++) expect(pins.overlaps(page, page)).toBe(counts[page]! > 0);
        expect(pins.charged).toBe(counts.filter((count, page) => count > 0 && page < DEVICE_FIRST).length);
        expect(account.pages).toBe(pins.charged);
        // Every run begins or ends with a range that is held; one across the device's first page was pinned as two.
        expect(pins.runs).toBeLessThanOrEqual(2 * held.length + (counts[DEVICE_FIRST]! > 0 ? 1 : 0));
        expect(pins.countFresh(2, PAGES - 3)).toBe(counts.slice(2, PAGES - 2).filter((count) => count === 0).length);
      }
    }));
  });

  it("keep no trace of a range that came and went inside another", () => {
    const pins = new Pins(new LockAccount(NO_LIMIT), { name: "maps of ioasid 1", ioasid: 1 });
    pins.pin(0, 99, true);
    for (const [first, last] of [[0, 0], [99, 99], [40, 60], [0, 99]] as const) {
      pins.pin(first, last, true);
      pins.unpin(first, last);
      expect(pins.runs).toBe(1);
    }
  });

  it("of two owners charge one page twice, and give back only their own", () => {
    const account = new LockAccount(NO_LIMIT);
    const [a, b] = [new Pins(account, { name: "maps of ioasid 1", ioasid: 1 }), new Pins(account, { name: "maps of ioasid 2", ioasid: 2 })];
    a.pin(0, 9, true);
    b.pin(5, 14, true);
    expect(account.pages).toBe(20);
    a.clear();
    expect([account.pages, a.charged, b.charged]).toEqual([10, 0, 10]);
    expect([a.overlaps(0, 9), b.overlaps(5, 5)]).toEqual([false, true]);
  });

  it("refuse to unpin what is not pinned", () => {
    const pins = new Pins(new LockAccount(NO_LIMIT), { name: "maps of ioasid 1", ioasid: 1 });
    pins.pin(1, 2, true);
    expect(() => pins.unpin(3, 3)).toThrow(RangeError);
  });

  it("reach the last page of the address space", () => {
    const pins = new Pins(new LockAccount(NO_LIMIT), { name: "maps of ioasid 1", ioasid: 1 });
    const last = 2 ** 52 - 1;
    pins.pin(last - 1, last, true);
    pins.pin(last, last, true);
    expect(pins.charged).toBe(2);
    pins.unpin(last - 1, last);
    expect([pins.overlaps(last - 1, last - 1), pins.overlaps(last, last)]).toEqual([false, true]);
  });

  it("round a limit down to whole pages", () => {
    expect(new LockAccount(8191n).limitPages).toBe(1);
    expect(new LockAccount(NO_LIMIT).limitPages).toBe(2 ** 52 - 1);
  });
});
