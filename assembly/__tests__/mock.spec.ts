// Golden entries of the format for tests, after the drawing in format/mock.ts.
import { EMPTY, EntryOf, INVALID, LEAF, TABLE } from "../format/format";
import { Mock } from "../format/mock";
import { PERM_CLEAN, PERM_UNUSED } from "../layout";

const mock = changetype<Mock>(0);

describe("mock", () => {
  test("leaves, tables and what is neither", () => {
    expect(mock.makeLeaf(0, 12, 0x12345000, 3)).toBe(0x1234506d);
    expect(mock.makeLeaf(0, 14, 0x12344000, 1)).toBe(0x12344225);
    expect(mock.makeLeaf(2, 20, 0x12300000, 7)).toBe(0x1230007d);
    expect(mock.leafLg2(0x1230037d, 2)).toBe(23);
    expect(mock.leafAddress(0x12f0037d, 2)).toBe(0x12800000);
    expect(mock.makeTable(1, 0x7000)).toBe(0x7023);
    expect(mock.kind(0x7022, 1)).toBe(EMPTY);
    expect(mock.kind(0x7023, 1)).toBe(TABLE);
    expect(mock.kind(0x7023, 0)).toBe(INVALID);
    expect(mock.kind(0x7325, 3)).toBe(LEAF);
    expect(mock.kind(0x7425, 3)).toBe(INVALID);
    expect(mock.kind(0x7025, 4)).toBe(INVALID);
  });
  test("dirty 6 and accessed 5 are set in advance where nobody collects them", () => {
    expect(mock.makeLeaf(0, 12, 0x12345000, 3 | PERM_CLEAN)).toBe(0x1234502d);
    expect(mock.makeLeaf(0, 12, 0x12345000, 3 | PERM_UNUSED)).toBe(0x1234504d);
    expect(mock.untracked(0x1234502d)).toBe(0x1234506d);
    expect(mock.untracked(0x12345065)).toBe(0x12345025);
  });
  test("a level decodes four bits", () => {
    expect(EntryOf.offset<Mock>(0xf000, 0)).toBe(0x78);
    expect(EntryOf.offset<Mock>(0xf0000000, 4)).toBe(0x78);
    expect(mock.leafSizes(0)).toBe(0xf000);
    expect(mock.leafSizes(4)).toBe(0);
  });
});
