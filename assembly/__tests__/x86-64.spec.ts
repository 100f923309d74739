// Golden entries, worked out by hand from the Intel SDM, volume 3, 4.5 (formats), 4.6 (access rights).
import { EMPTY, INVALID, LEAF, TABLE } from "../format/format";
import { X86 } from "../format/x86-64";
import { OPTION_WRITE_PROTECT, PERM_CLEAN, PERM_UNUSED } from "../layout";

const x86 = changetype<X86>(0);
const XD: u64 = 0x8000000000000000;
/** PERM_* of a leaf below one table, for the unprivileged in bits 0 to 2. */
function granted(table: u64, leaf: u64, flags: u32 = 0): u32 {
  return x86.permissions(x86.combine(x86.start(), table), leaf, flags);
}

describe("x86-64", () => {
  test("a 4 KiB leaf: P 0, R/W 1, U/S 2, A 5, D 6 of a writable one, XD 63", () => {
    expect(x86.makeLeaf(0, 12, 0x12345000, 1)).toBe(XD | 0x12345025);
    expect(x86.makeLeaf(0, 12, 0x12345000, 3)).toBe(XD | 0x12345067);
    expect(x86.makeLeaf(0, 12, 0x12345000, 5)).toBe(0x12345025);
    expect(x86.makeLeaf(0, 12, 0x12345000, 7)).toBe(0x12345067);
  });
  test("a tracked leaf begins neither accessed nor dirty", () => {
    expect(x86.makeLeaf(0, 12, 0x12345000, 3 | PERM_CLEAN | PERM_UNUSED)).toBe(XD | 0x12345007);
    expect(x86.makeLeaf(1, 21, 0x40000000, 1 | PERM_CLEAN | PERM_UNUSED)).toBe(XD | 0x40000085);
    expect(x86.makeLeaf(0, 12, 0x12345000, 3 | PERM_CLEAN)).toBe(XD | 0x12345027);
    expect(x86.makeLeaf(0, 12, 0x12345000, 3 | PERM_UNUSED)).toBe(XD | 0x12345047);
  });
  test("2 MiB and 1 GiB leaves have PS, bit 7; bit 12 of them is PAT", () => {
    expect(x86.makeLeaf(1, 21, 0x40000000, 3)).toBe(XD | 0x400000e7);
    expect(x86.makeLeaf(2, 30, 0x8000000000, 1)).toBe(XD | 0x80000000a5);
    expect(x86.kind(0x40001081, 1)).toBe(LEAF);
    expect(x86.leafAddress(0x40001081, 1)).toBe(0x40000000);
    expect(x86.leafAddress(0x40001081, 0)).toBe(0x40001000);
    expect(x86.kind(0x40002081, 1)).toBe(INVALID);
    expect(x86.kind(0x200081, 2)).toBe(INVALID);
  });
  test("without P nothing is present; PS above 1 GiB is reserved", () => {
    expect(x86.kind(0xfffffffffffffffe, 0)).toBe(EMPTY);
    expect(x86.kind(0x81, 3)).toBe(INVALID);
    expect(x86.kind(0x81, 4)).toBe(INVALID);
    expect(x86.kind(0x01, 4)).toBe(TABLE);
  });
  test("a table pointer grants everything and is accessed", () => {
    expect(x86.makeTable(1, 0x7000)).toBe(0x7027);
  });
  test("R/W and U/S count when set everywhere, XD when set anywhere", () => {
    expect(granted(7, 7) & 7).toBe(7);
    expect(granted(5, 7) & 7).toBe(5);
    expect(granted(7, 5) & 7).toBe(5);
    expect(granted(3, 7) & 7).toBe(0);
    expect(granted(7, 3) & 7).toBe(0);
    expect(granted(7 | XD, 7) & 7).toBe(3);
    expect(granted(7, 7 | XD) & 7).toBe(3);
  });
  test("a supervisor reads all, and writes all unless write protection is on", () => {
    expect(granted(1, 1) >> 4).toBe(7);
    expect(granted(1, 1, OPTION_WRITE_PROTECT) >> 4).toBe(5);
    expect(granted(3, 3, OPTION_WRITE_PROTECT) >> 4).toBe(7);
    expect(granted(3, 1, OPTION_WRITE_PROTECT) >> 4).toBe(5);
    expect(granted(1 | XD, 1) >> 4).toBe(3);
  });
  test("accessed is a matter of every entry on the path, dirty of the leaf", () => {
    expect(x86.accessed(x86.combine(x86.start(), 0x27), 0x27)).toBe(true);
    expect(x86.accessed(x86.combine(x86.start(), 0x07), 0x27)).toBe(false);
    expect(x86.accessed(x86.combine(x86.start(), 0x27), 0x07)).toBe(false);
    expect(x86.marked(0x7007, true, false)).toBe(0x7027);
    expect(x86.marked(0x7007, false, true)).toBe(0x7067);
    expect(x86.clean(0x7027)).toBe(true);
    expect(x86.clean(0x7067)).toBe(false);
    expect(x86.cleaned(0x7067)).toBe(0x7027);
    expect(x86.untracked(0x7027)).toBe(0x7067);
    expect(x86.untracked(0x7065)).toBe(0x7025);
  });
});
