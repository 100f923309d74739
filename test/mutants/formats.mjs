// Defects in what entries mean: bits, sizes, permissions, reserved encodings.
const edit = (file, find, replace) => ({ file: `assembly/format/${file}.ts`, find, replace });
const SPECS = ["assembly/__tests__/*.spec.ts"];

export const FORMATS = [
  {
    name: "x86-64: no page-size bit in a 2 MiB leaf", peer: "seen", tests: SPECS,
    edits: [edit("x86-64", "(level == 0 ? 0 : PAGE_SIZE);", "(level != 2 ? 0 : PAGE_SIZE);")],
  },
  {
    name: "AMD v1: write bit in another place, read and written alike", peer: "missed", tests: SPECS,
    edits: [edit("amd-v1", "PERM_SHIFT: u64 = 61", "PERM_SHIFT: u64 = 60"), edit("amd-v1", "0x6000000000000000", "0x3000000000000000")],
  },
  {
    name: "VT-d: R and W swapped, read and written alike", peer: "missed", tests: SPECS,
    edits: [
      edit("vtd-second", "hpa | <u64>(perm & (PERM_R | PERM_W))", "hpa | <u64>((perm >> 1 & 1) | (perm & 1) << 1)"),
      edit("vtd-second", "return <u32>(tables & leaf & READ_WRITE) * 0x11;", "const p = <u32>(tables & leaf); return ((p >> 1 & 1) | (p & 1) << 1) * 0x11;"),
    ],
  },
  {
    name: "x86-64: dirty bit in a read-only leaf", peer: "missed", tests: SPECS,
    edits: [edit("x86-64", "((perm & (PERM_W | PERM_CLEAN)) == PERM_W ? DIRTY : 0);", "(perm & PERM_CLEAN ? 0 : DIRTY);")],
  },
  {
    name: "AMD v1: size code off by one, read and written alike", peer: "missed", tests: SPECS,
    edits: [edit("amd-v1", "(<u64>1 << (lg2 - 1)) - 1) & ADDRESS", "(<u64>1 << lg2) - 1) & ADDRESS"), edit("amd-v1", "13 + <u32>ctz", "12 + <u32>ctz")],
  },
  {
    name: "Arm: read-only ignored", peer: "missed", tests: SPECS,
    edits: [edit("aarch64-stage1", "!(perm & PERM_W) ? READ_ONLY :", "!(perm & PERM_W) ? 0 :")],
  },
  {
    name: "Arm: no access flag in a leaf", peer: "missed", tests: SPECS,
    edits: [edit("aarch64-stage1", "perm & PERM_UNUSED ? 0 : ACCESSED;", "0;")],
  },
  {
    name: "Arm 64K: highest output bit lost", peer: "missed", tests: SPECS,
    edits: [edit("aarch64", "ADDRESS: u64 = 0x0000fffffffff000", "ADDRESS: u64 = 0x00007ffffffff000")],
  },
  {
    name: "AMD v1: leaves of 512 GiB are written", peer: "missed", tests: SPECS,
    edits: [edit("amd-v1", " & ~(<u64>1 << ERRATUM_LG2);", ";")],
  },
  {
    name: "AMD v1: a pointer may lead upwards", tests: SPECS,
    edits: [edit("amd-v1", "next <= level ? TABLE : INVALID", "TABLE")],
  },
  {
    name: "AMD v1: permissions of pointers do not count", tests: SPECS,
    edits: [edit("amd-v1", "combine(above: u64, pte: u64): u64 { return above & pte; }", "combine(above: u64, _pte: u64): u64 { return above; }")],
  },
  {
    name: "AMD v1: U and FC are not reserved in pointers", tests: SPECS,
    edits: [edit("amd-v1", "RESERVED_IN_TABLE: u64 = 0x1ff0000000000000", "RESERVED_IN_TABLE: u64 = 0x07f0000000000000")],
  },
  {
    name: "AMD v1: pointers are not marked accessed", tests: ["test/unit/marks-property.test.ts"],
    edits: [edit("amd-v1", "marked(pte: u64, _table: bool, written: bool): u64 { return pte | ACCESSED", "marked(pte: u64, table: bool, written: bool): u64 { return pte | (table ? 0 : ACCESSED)")],
  },
  {
    name: "VT-d: address bits inside a large page are not reserved", tests: SPECS,
    edits: [edit("vtd-second", "level > 2 || (pte & ADDRESS & ((<u64>1 << this.spanLg2(level)) - 1)) != 0", "level > 2")],
  },
  {
    name: "VT-d: bit 62 is not reserved", tests: SPECS,
    edits: [edit("vtd-second", "table ? TRANSIENT | SNOOP : TRANSIENT", "table ? SNOOP : 0")],
  },
  {
    name: "x86-64: U/S of pointers does not count", tests: SPECS,
    edits: [edit("x86-64", "return above & (pte ^ EXECUTE_DISABLE);", "return above & ((pte | USER) ^ EXECUTE_DISABLE);")],
  },
  {
    name: "x86-64: XD of pointers does not count", tests: SPECS,
    edits: [edit("x86-64", "return above & (pte ^ EXECUTE_DISABLE);", "return above & (pte | EXECUTE_DISABLE);")],
  },
  {
    name: "x86-64: a supervisor writes read-only pages in spite of write protection", tests: SPECS,
    edits: [edit("x86-64", "(flags & OPTION_WRITE_PROTECT ? write : PERM_W)", "PERM_W")],
  },
  {
    name: "Arm: APTable[1] does not count", tests: SPECS,
    edits: [edit("aarch64-stage1", "TABLE_BITS: u64 = 15", "TABLE_BITS: u64 = 7")],
  },
  {
    name: "Arm: the privileged execute what users write", tests: SPECS,
    edits: [edit("aarch64-stage1", " || (open && write != 0);", ";")],
  },
  {
    name: "Arm: blocks at the highest level of 4K", tests: SPECS,
    edits: [edit("aarch64", "highestBlock(): u32 { return 2; }", "highestBlock(): u32 { return 3; }")],
  },
  {
    name: "Arm: type 1 is a page", tests: SPECS,
    edits: [edit("aarch64", "return level == 0 || level > changetype", "return level > changetype")],
  },
  {
    name: "Arm: stage 2 reads with the write bit", tests: SPECS,
    edits: [edit("aarch64-stage2", "ACCESS_SHIFT) & (PERM_R | PERM_W);", "ACCESS_SHIFT) & PERM_W ? 3 : 0;")],
  },
  {
    name: "Arm: cleaning leaves the page writable", tests: SPECS,
    edits: [edit("aarch64-stage1", "leaf : leaf | DIRTY_MODIFIER | READ_ONLY;", "leaf : leaf | DIRTY_MODIFIER;")],
  },
];
