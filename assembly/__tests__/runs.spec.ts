// Runs of entries against one-by-one loops, for every length around the vector width.
import { anyOf, clearRun, copyRun, countOf, equalRun, fillRun } from "../table/runs";

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
  test("any and count see one entry wherever it is", () => {
    for (let n: u32 = 1; n < 40; n++) {
      for (let at: u32 = 0; at < n + 2; at++) {
        fresh();
        store<u64>(TABLE + (at << 3), 4);
        const inside = at < n;
        expect(anyOf(TABLE, n, 4)).toBe(inside);
        expect(anyOf(TABLE, n, 3)).toBe(false);
        expect(countOf(TABLE, n, 7)).toBe(inside ? 1 : 0);
      }
    }
  });
  test("clear stops at its end", () => {
    for (let n: u32 = 1; n < 40; n++) {
      memory.fill(TABLE, 0xff, 1024);
      clearRun(TABLE + 8, n);
      expect(load<u64>(TABLE)).toBe(~(<u64>0));
      expect(anyOf(TABLE + 8, n, ~(<u64>0))).toBe(false);
      expect(load<u64>(TABLE + ((n + 1) << 3))).toBe(~(<u64>0));
    }
  });
  test("an equal run ends at the first entry that differs in a bit of the mask, wherever it is", () => {
    for (let n: u32 = 1; n < 40; n++) {
      fillRun(TABLE, n + 1, 0x1003, 0x200000);
      expect(equalRun(TABLE, n, 0x1003, 0xfff)).toBe(n);
      expect(equalRun(TABLE, n, 0x1003, ~(<u64>0))).toBe(1);
      for (let at: u32 = 1; at <= n; at++) {
        fillRun(TABLE, n + 1, 0x1003, 0x200000);
        store<u64>(TABLE + (at << 3), 0x1002);
        expect(equalRun(TABLE, n, 0x1003, 0xfff)).toBe(at);
      }
    }
  });
  test("a copy stores exactly n entries, with the bits asked for alone", () => {
    for (let n: u32 = 1; n < 40; n++) {
      fillRun(TABLE, 44, 0x80001067, 0x1000);
      memory.fill(TABLE + 48 * 8, 0, 48 * 8);
      copyRun(TABLE + 49 * 8, TABLE + 8, n, 0xffff000, 5);
      for (let i: u32 = 0; i < 48; i++) {
        const expected: u64 = i >= 1 && i < n + 1 ? (0x1005 + <u64>i * 0x1000) : 0;
        expect(load<u64>(TABLE + ((48 + i) << 3))).toBe(expected);
      }
    }
  });
});
