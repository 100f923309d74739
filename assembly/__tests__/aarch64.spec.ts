// Golden entries, worked out by hand from the Arm ARM (DDI 0487): D8.3 (descriptors), D8.4 (permissions), D8.5 (dirty state).
import { EMPTY, EntryOf, LEAF, TABLE } from "../format/format";
import { Granule16K, Granule4K, Granule64K } from "../format/aarch64";
import { AArch64Stage1 } from "../format/aarch64-stage1";
import { AArch64Stage2 } from "../format/aarch64-stage2";
import { DOMAIN_SET_DIRTY, OPTION_IGNORE_TABLE_PERMISSIONS, PERM_CLEAN, PERM_UNUSED } from "../layout";

const s1 = changetype<AArch64Stage1<Granule4K>>(0);
const s1x16 = changetype<AArch64Stage1<Granule16K>>(0);
const s1x64 = changetype<AArch64Stage1<Granule64K>>(0);
const s2 = changetype<AArch64Stage2<Granule4K>>(0);
const s2x16 = changetype<AArch64Stage2<Granule16K>>(0);
const s2x64 = changetype<AArch64Stage2<Granule64K>>(0);
const NEVER: u64 = 0x0060000000000000; // UXN 54, PXN 53
const PXN: u64 = 0x0020000000000000;
const UXN: u64 = 0x0040000000000000;
const DBM: u64 = 0x0008000000000000;

/** PERM_* of a stage-1 leaf below one table. */
function granted(table: u64, leaf: u64, flags: u32 = 0): u32 {
  return s1.permissions(s1.combine(s1.start(), table), leaf, flags);
}

describe("Armv8 stage 1", () => {
  test("a page: type 3, AP[1] 6, AP[2] 7 if read-only, SH 9..8 = 3, AF 10, nG 11, PXN 53, UXN 54", () => {
    expect(s1.makeLeaf(0, 12, 0x12345000, 3)).toBe(NEVER | 0x12345f43);
    expect(s1.makeLeaf(0, 12, 0x12345000, 1)).toBe(NEVER | 0x12345fc3);
    expect(s1.makeLeaf(0, 12, 0x12345000, 5)).toBe(0x12345fc3);
    expect(s1.makeLeaf(0, 12, 0x12345000, 7)).toBe(0x12345f43);
    expect(s1x16.makeLeaf(0, 14, 0x12344000, 3)).toBe(NEVER | 0x12344f43);
    expect(s1x64.makeLeaf(0, 16, 0x12340000, 3)).toBe(NEVER | 0x12340f43);
  });
  test("a block has type 1: 2 MiB and 1 GiB, 32 MiB, 512 MiB", () => {
    expect(s1.makeLeaf(1, 21, 0x40000000, 3)).toBe(NEVER | 0x40000f41);
    expect(s1.makeLeaf(2, 30, 0x40000000, 3)).toBe(NEVER | 0x40000f41);
    expect(s1x16.makeLeaf(1, 25, 0x42000000, 1)).toBe(NEVER | 0x42000fc1);
    expect(s1x64.makeLeaf(1, 29, 0x60000000, 1)).toBe(NEVER | 0x60000fc1);
  });
  test("a tracked leaf begins without AF; a writable one has DBM 51 and is read-only until written", () => {
    expect(s1.makeLeaf(0, 12, 0x12345000, 3 | PERM_CLEAN | PERM_UNUSED)).toBe(NEVER | DBM | 0x12345bc3);
    expect(s1.makeLeaf(0, 12, 0x12345000, 1 | PERM_CLEAN | PERM_UNUSED)).toBe(NEVER | 0x12345bc3);
    expect(s1.clean(DBM | 0xbc3)).toBe(true);
    expect(s1.clean(0xbc3)).toBe(false);
    expect(s1.marked(DBM | 0xbc3, false, true)).toBe(DBM | 0xf43);
    expect(s1.marked(DBM | 0xbc3, false, false)).toBe(DBM | 0xfc3);
    expect(s1.marked(0x7003, true, false)).toBe(0x7003);
    expect(s1.dirty(DBM | 0xf43)).toBe(true);
    expect(s1.dirty(0xf43)).toBe(false);
    expect(s1.cleaned(DBM | 0xf43)).toBe(DBM | 0xfc3);
  });
  test("with AF or DBM alone: accessed in advance, or written in advance", () => {
    expect(s1.makeLeaf(0, 12, 0x12345000, 3 | PERM_CLEAN)).toBe(NEVER | DBM | 0x12345fc3);
    expect(s1.makeLeaf(0, 12, 0x12345000, 3 | PERM_UNUSED)).toBe(NEVER | 0x12345b43);
    expect(s1.makeLeaf(0, 12, 0x12345000, 1 | PERM_CLEAN)).toBe(NEVER | 0x12345fc3);
  });
  test("tracking begins: a writable leaf gets DBM and AP[2]; it ends: both go; a read-only leaf stays", () => {
    expect(s1.cleaned(0xf43)).toBe(DBM | 0xfc3);
    expect(s1.cleaned(DBM | 0xfc3)).toBe(DBM | 0xfc3);
    expect(s1.cleaned(0xfc3)).toBe(0xfc3);
    expect(s1.untracked(DBM | 0xfc3)).toBe(0xf43);
    expect(s1.untracked(DBM | 0xf43)).toBe(0xf43);
    expect(s1.untracked(0xfc3)).toBe(0xfc3);
  });
  test("AP[2:1]: 0 privileged only, 1 all write, 2 privileged read, 3 all read; no execution of what users write", () => {
    expect(granted(3, 0x003)).toBe(0x74);
    expect(granted(3, 0x043)).toBe(0x37);
    expect(granted(3, 0x083)).toBe(0x54);
    expect(granted(3, 0x0c3)).toBe(0x55);
    expect(granted(3, 0x0c3 | UXN)).toBe(0x51);
    expect(granted(3, 0x0c3 | PXN)).toBe(0x15);
  });
  test("tables: APTable[0] 61, APTable[1] 62, UXNTable 60, PXNTable 59, unless they do not count", () => {
    expect(granted(0x2000000000000003, 0x043)).toBe(0x74);
    expect(granted(0x4000000000000003, 0x043)).toBe(0x55);
    expect(granted(0x6000000000000003, 0x043)).toBe(0x54);
    expect(granted(0x1000000000000003, 0x0c3)).toBe(0x51);
    expect(granted(0x0800000000000003, 0x0c3)).toBe(0x15);
    expect(granted(0x7800000000000003, 0x0c3, OPTION_IGNORE_TABLE_PERMISSIONS)).toBe(0x55);
  });
  test("DBM makes a read-only leaf writable where dirty state is updated, APTable[1] still forbids", () => {
    expect(granted(3, NEVER | DBM | 0x0c3)).toBe(0x11);
    expect(granted(3, NEVER | DBM | 0x0c3, DOMAIN_SET_DIRTY)).toBe(0x33);
    expect(granted(0x4000000000000003, NEVER | DBM | 0x0c3, DOMAIN_SET_DIRTY)).toBe(0x11);
  });
  test("the address of a table: from the granule to bit 47", () => {
    expect(s1.tableAddress(0xffffffffffffffff)).toBe(0x0000fffffffff000);
    expect(s1x16.tableAddress(0xffffffffffffffff)).toBe(0x0000ffffffffc000);
    expect(s1x64.tableAddress(0xffffffffffffffff)).toBe(0x0000ffffffff0000);
    expect(s1x64.makeTable(1, 0x70000)).toBe(0x70003);
  });
  test("levels decode 9, 11 and 13 bits from the granule up", () => {
    expect(EntryOf.offset<AArch64Stage1<Granule4K>>(0x0000ff8000000000, 3)).toBe(0xff8);
    expect(EntryOf.offset<AArch64Stage1<Granule16K>>(0x00007ff000000000, 2)).toBe(0x3ff8);
    expect(EntryOf.offset<AArch64Stage1<Granule16K>>(0x0000000001ffc000, 0)).toBe(0x3ff8);
    expect(EntryOf.offset<AArch64Stage1<Granule64K>>(0x000003ffe0000000, 1)).toBe(0xfff8);
    expect(EntryOf.offset<AArch64Stage1<Granule64K>>(0x000000001fff0000, 0)).toBe(0xfff8);
  });
});

describe("Armv8 descriptors", () => {
  test("V 0; type 1 is a block where the granule has one, and nothing elsewhere", () => {
    expect(s1.kind(0xfffffffffffffffe, 0)).toBe(EMPTY);
    expect(s1.kind(3, 0)).toBe(LEAF);
    expect(s1.kind(1, 0)).toBe(EMPTY);
    expect(s1.kind(3, 3)).toBe(TABLE);
    expect(s1.kind(1, 1)).toBe(LEAF);
    expect(s1.kind(1, 2)).toBe(LEAF);
    expect(s1.kind(1, 3)).toBe(EMPTY);
    expect(s2x16.kind(1, 1)).toBe(LEAF);
    expect(s2x16.kind(1, 2)).toBe(EMPTY);
    expect(s2x64.kind(1, 1)).toBe(LEAF);
    expect(s2x64.kind(1, 2)).toBe(EMPTY);
  });
  test("bits below a block's address are ignored, and so is the contiguous hint", () => {
    expect(s1.leafAddress(0x00100000401ff701, 1)).toBe(0x40000000);
    expect(s1.leafLg2(0x00100000401ff701, 1)).toBe(21);
    expect(s1x64.leafAddress(0x12345003, 0)).toBe(0x12340000);
  });
  test("isTable agrees with kind for every combination of the low bits, at every level", () => {
    let different: u32 = 0;
    for (let level: u32 = 1; level < 4; level++) {
      for (let bits: u64 = 0; bits < 0x1000; bits++) {
        if (s1.isTable(bits, level, 0) != (s1.kind(bits, level) == TABLE)) different++;
        if (s1.isTable(bits, level, 0x800) != (s1.kind(bits, level) == TABLE && !(bits & 0x800))) different++;
        if (s2x64.isTable(bits, level, 0) != (s2x64.kind(bits, level) == TABLE)) different++;
      }
    }
    expect(different).toBe(0);
  });
});

describe("Armv8 stage 2", () => {
  test("a page: MemAttr 5..2 = 15, S2AP 6 read, 7 write, SH 3, AF 10, XN 54", () => {
    expect(s2.makeLeaf(0, 12, 0x12345000, 3)).toBe(UXN | 0x123457ff);
    expect(s2.makeLeaf(0, 12, 0x12345000, 1)).toBe(UXN | 0x1234577f);
    expect(s2.makeLeaf(0, 12, 0x12345000, 2)).toBe(UXN | 0x123457bf);
    expect(s2.makeLeaf(1, 21, 0x40000000, 7)).toBe(0x400007fd);
  });
  test("a tracked writable leaf has DBM, and S2AP[1] once it was written", () => {
    expect(s2.makeLeaf(0, 12, 0x12345000, 3 | PERM_CLEAN | PERM_UNUSED)).toBe(UXN | DBM | 0x1234537f);
    expect(s2.clean(DBM | 0x37f)).toBe(true);
    expect(s2.marked(DBM | 0x37f, false, true)).toBe(DBM | 0x7ff);
    expect(s2.dirty(DBM | 0x7ff)).toBe(true);
    expect(s2.dirty(0x7ff)).toBe(false);
    expect(s2.cleaned(DBM | 0x7ff)).toBe(DBM | 0x77f);
    expect(s2.permissions(0, DBM | UXN | 0x37f, DOMAIN_SET_DIRTY)).toBe(0x33);
    expect(s2.permissions(0, DBM | UXN | 0x37f, 0)).toBe(0x11);
  });
  test("tracking begins: a writable leaf gets DBM in place of S2AP[1]; it ends: the other way; one that is not stays", () => {
    expect(s2.makeLeaf(0, 12, 0x12345000, 2 | PERM_CLEAN)).toBe(UXN | DBM | 0x1234573f);
    expect(s2.makeLeaf(0, 12, 0x12345000, 2 | PERM_UNUSED)).toBe(UXN | 0x123453bf);
    expect(s2.cleaned(0x7ff)).toBe(DBM | 0x77f);
    expect(s2.cleaned(0x77f)).toBe(0x77f);
    expect(s2.untracked(DBM | 0x77f)).toBe(0x7ff);
    expect(s2.untracked(DBM | 0x7ff)).toBe(0x7ff);
    expect(s2.untracked(0x77f)).toBe(0x77f);
  });
  test("XN 54..53: 0 all, 1 the unprivileged, 2 nobody, 3 the privileged", () => {
    expect(s2.permissions(0, 0x7ff, 0)).toBe(0x77);
    expect(s2.permissions(0, PXN | 0x7ff, 0)).toBe(0x37);
    expect(s2.permissions(0, UXN | 0x7ff, 0)).toBe(0x33);
    expect(s2.permissions(0, UXN | PXN | 0x7ff, 0)).toBe(0x73);
  });
  test("table pointers forbid nothing", () => {
    expect(s2.permissions(s2.combine(s2.start(), 0xf800000000000003), 0x7ff, 0)).toBe(0x77);
  });
});
