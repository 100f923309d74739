// Runs of entries against one-by-one loops, for every length around the vector width.
import { anyOf, copyAll, copyEqualRun, emptyRun, fillRun, takeRun } from "../table/runs";

const TABLE: usize = memory.data(1024, 64);

function fresh(): void {
  memory.fill(TABLE, 0, 1024);
}

describe("runs of entries", () => {
  test("fill stores exactly n stepping entries", () => {
    for (let n: u32 = 1; n < 40; n++) {
      fresh();
      fillRun(TABLE + 16, n, 0x1000, 0x200);
      for (let i: u32 = 0; i < 60; i++) {
        const expected: u64 = i >= 2 && i < n + 2 ? 0x1000 + <u64>(i - 2) * 0x200 : 0;
        expect(load<u64>(TABLE + (i << 3))).toBe(expected);
      }
    }
  });
  test("any and take see one entry wherever it is", () => {
    for (let n: u32 = 1; n < 40; n++) {
      for (let at: u32 = 0; at < n + 2; at++) {
        fresh();
        store<u64>(TABLE + (at << 3), 4);
        const inside = at < n;
        expect(anyOf(TABLE, n)).toBe(inside);
        expect(takeRun(TABLE, n)).toBe(inside ? 1 : 0);
      }
    }
  });
  test("take empties all, counts them, and stops at its end", () => {
    for (let n: u32 = 1; n < 40; n++) {
      memory.fill(TABLE, 0xff, 1024);
      expect(takeRun(TABLE + 8, n)).toBe(n);
      expect(load<u64>(TABLE)).toBe(~(<u64>0));
      expect(anyOf(TABLE + 8, n)).toBe(false);
      expect(load<u64>(TABLE + ((n + 1) << 3))).toBe(~(<u64>0));
    }
  });
  test("an empty run ends at the first entry that is not, wherever it is", () => {
    for (let n: u32 = 1; n < 20; n++) {
      fresh();
      expect(emptyRun(TABLE, n)).toBe(n);
      for (let at: u32 = 0; at <= n; at++) {
        fresh();
        store<u64>(TABLE + (at << 3), <u64>1 << (at + 20));
        expect(emptyRun(TABLE, n)).toBe(at);
      }
    }
  });
  test("a copy ends at the first entry that differs in a bit that is not kept, and stores nothing behind", () => {
    for (let n: u32 = 1; n < 20; n++) {
      for (let at: u32 = 1; at <= n; at++) {
        fillRun(TABLE, 44, 0x80001067, 0x1000);
        memory.fill(TABLE + 48 * 8, 0, 48 * 8);
        store<u64>(TABLE + ((at + 1) << 3), 0x80001063);
        expect(copyEqualRun(TABLE + 49 * 8, TABLE + 8, n, 0x80002067, 0xffff000, 5)).toBe(at);
        for (let i: u32 = 0; i < 48; i++) {
          const expected: u64 = i >= 1 && i < at + 1 ? 0x1005 + <u64>i * 0x1000 : 0;
          expect(load<u64>(TABLE + ((48 + i) << 3))).toBe(expected);
        }
      }
    }
  });
  test("a copy of all says whether one of them is another, wherever it is, and stops at its end", () => {
    for (let n: u32 = 1; n < 40; n++) {
      for (let at: u32 = 0; at <= n; at++) {
        fillRun(TABLE, 60, 0x80001067, 0x1000);
        memory.fill(TABLE + 60 * 8, 0, 60 * 8);
        store<u64>(TABLE + ((at + 1) << 3), 0x80001063);
        expect(copyAll(TABLE + 62 * 8, TABLE + 8, n, 0x80002067, 0xffff000, 5)).toBe(at == n);
        for (let i: u32 = 0; i < 50 && at == n; i++) {
          const expected: u64 = i >= 2 && i < n + 2 ? 0x1005 + <u64>(i - 1) * 0x1000 : 0;
          expect(load<u64>(TABLE + ((60 + i) << 3))).toBe(expected);
        }
      }
    }
  });
});
