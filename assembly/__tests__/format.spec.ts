// Golden entries of second-stage formats, worked out by hand from the manuals: VT-d 9.8, AMD IOMMU 2.2.3.
import { EMPTY, EntryOf, INVALID, LEAF, TABLE } from "../format/format";
import { AmdV1 } from "../format/amd-v1";
import { VtdSecond } from "../format/vtd-second";
import { X86 } from "../format/x86-64";

const vtd = changetype<VtdSecond>(0);
const amd = changetype<AmdV1>(0);
const x86 = changetype<X86>(0);

describe("VT-d second stage", () => {
  test("a 4 KiB leaf has the address and R, W in bits 0 and 1", () => {
    expect(vtd.makeLeaf(0, 12, 0x12345000, 3)).toBe(0x12345003);
    expect(vtd.makeLeaf(0, 12, 0x12345000, 1)).toBe(0x12345001);
    expect(vtd.makeLeaf(0, 12, 0x12345000, 2)).toBe(0x12345002);
  });
  test("2 MiB and 1 GiB leaves have PS, bit 7", () => {
    expect(vtd.makeLeaf(1, 21, 0x40000000, 3)).toBe(0x40000083);
    expect(vtd.makeLeaf(2, 30, 0x8000000000, 1)).toBe(0x8000000081);
  });
  test("a table pointer grants everything", () => {
    expect(vtd.makeTable(1, 0x7000)).toBe(0x7003);
  });
  test("without R and W nothing is present, whatever else is set", () => {
    expect(vtd.kind(0xffffffffffffff7c, 0)).toBe(EMPTY);
  });
  test("PS at 512 GiB is reserved, and so are address bits inside a large page", () => {
    expect(vtd.kind(0x83, 3)).toBe(INVALID);
    expect(vtd.kind(0x1083, 1)).toBe(INVALID);
    expect(vtd.kind(0x200083, 1)).toBe(LEAF);
    expect(vtd.kind(0x200083, 2)).toBe(INVALID);
  });
  test("TM 62 is reserved, and SNP 11 in a pointer", () => {
    expect(vtd.reservedBits(false)).toBe(0x4000000000000000);
    expect(vtd.reservedBits(true)).toBe(0x4000000000000800);
  });
  test("bit 7 of a 4 KiB leaf means nothing", () => {
    expect(vtd.kind(0x1083, 0)).toBe(LEAF);
  });
  test("the index of each level is 9 bits, from 12 up", () => {
    expect(EntryOf.offset<VtdSecond>(0x0000ff8000000000, 3)).toBe(0xff8);
    expect(EntryOf.offset<VtdSecond>(0x0000007fc0000000, 2)).toBe(0xff8);
    expect(EntryOf.offset<VtdSecond>(0x000000003fe00000, 1)).toBe(0xff8);
    expect(EntryOf.offset<VtdSecond>(0x00000000001ff000, 0)).toBe(0xff8);
  });
});

describe("isTable", () => {
  test("agrees with kind for every combination of the bits that matter, at every level", () => {
    let different: u32 = 0;
    for (let level: u32 = 1; level < 6; level++) {
      for (let bits: u64 = 0; bits < 0x1000; bits++) {
        if (level < 5 && vtd.isTable(bits, level, 0) != (vtd.kind(bits, level) == TABLE)) different++;
        // AMD: a pointer that skips levels is a table that isTable leaves to the exact walker.
        const table = amd.kind(bits, level) == TABLE && amd.tableLevel(bits, level) == level - 1;
        if (amd.isTable(bits, level, 0) != table) different++;
        if (level < 5 && x86.isTable(bits, level, 0) != (x86.kind(bits, level) == TABLE)) different++;
      }
    }
    expect(different).toBe(0);
  });
});

describe("AMD v1", () => {
  test("a 4 KiB leaf: PR, IR 61, IW 62, NextLevel 0", () => {
    expect(amd.makeLeaf(0, 12, 0x12345000, 3)).toBe(0x6000000012345001);
    expect(amd.makeLeaf(0, 12, 0x12345000, 1)).toBe(0x2000000012345001);
    expect(amd.makeLeaf(0, 12, 0x12345000, 2)).toBe(0x4000000012345001);
  });
  test("a coded size: k ones and a zero from bit 12 up mean 2^(13 + k)", () => {
    // 8 KiB: k = 0. 16 KiB: k = 1, bit 12. 1 MiB: k = 7, bits 12 to 18.
    expect(amd.makeLeaf(0, 13, 0x12346000, 3)).toBe(0x6000000012346e01);
    expect(amd.makeLeaf(0, 14, 0x12348000, 3)).toBe(0x6000000012349e01);
    expect(amd.makeLeaf(0, 20, 0x12300000, 3)).toBe(0x600000001237fe01);
    expect(amd.leafLg2(0x600000001237fe01, 0)).toBe(20);
    expect(amd.leafAddress(0x600000001237fe01, 0)).toBe(0x12300000);
  });
  test("a 2 MiB leaf is level 1's own size: NextLevel 0", () => {
    expect(amd.makeLeaf(1, 21, 0x40000000, 3)).toBe(0x6000000040000001);
    expect(amd.kind(0x6000000040000001, 1)).toBe(LEAF);
  });
  test("a table pointer names the next level, counted from 1", () => {
    expect(amd.makeTable(3, 0x7000)).toBe(0x6000000000007601);
    expect(amd.kind(0x6000000000007601, 3)).toBe(TABLE);
    expect(amd.kind(0x6000000000007601, 2)).toBe(INVALID);
    expect(amd.kind(0x6000000000007601, 4)).toBe(TABLE);
    expect(amd.tableLevel(0x6000000000007601, 4)).toBe(2);
  });
  test("IR and IW count when set everywhere, and hold for every privilege", () => {
    const tables = (pte: u64): u64 => amd.combine(amd.combine(amd.start(), 0x6000000000007401), pte);
    expect(amd.permissions(tables(0x6000000000008201), 0x6000000012345001, 0)).toBe(0x33);
    expect(amd.permissions(tables(0x2000000000008201), 0x6000000012345001, 0)).toBe(0x11);
    expect(amd.permissions(tables(0x6000000000008201), 0x4000000012345001, 0)).toBe(0x22);
    expect(amd.permissions(tables(0x2000000000008201), 0x4000000012345001, 0)).toBe(0);
  });
  test("52..58 are reserved, in a pointer U 59 and FC 60 too; A 5 is in both, D 6 in a leaf", () => {
    expect(amd.reservedBits(false)).toBe(0x07f0000000000000);
    expect(amd.reservedBits(true)).toBe(0x1ff0000000000000);
    expect(amd.marked(0x6000000000007601, true, false)).toBe(0x6000000000007621);
    expect(amd.marked(0x6000000012345001, false, true)).toBe(0x6000000012345061);
  });
  test("512 GiB is walked and never written; coded at level 2 it would be a whole table", () => {
    expect(amd.kind(0x6000000000000001, 3)).toBe(LEAF);
    expect(amd.kind(0x6000003ffffffe01 & ~(<u64>1 << 38), 2)).toBe(INVALID);
    expect((amd.leafSizes(2) >> 39) & 1).toBe(0);
    expect((amd.leafSizes(3) >> 39) & 1).toBe(0);
    expect((amd.leafSizes(3) >> 40) & 1).toBe(1);
    expect(amd.leafSizes(5)).toBe(0);
  });
  test("the top level decodes 7 bits", () => {
    expect(EntryOf.offset<AmdV1>(0xffffffffffffffff, 5)).toBe(0x3f8);
  });
});
