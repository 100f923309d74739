// Reads the vector format from text. Imports the format's types and its field checks.
import { Fields } from "./fields.js";
import {
  UnsupportedUnit, VectorError, type Expected, type MemoryRun, type Query, type RamRange, type TopSpec, type UnitSpec, type VectorCase,
  type VectorFile,
} from "./vectors.js";

const FORMAT = "iommu-vectors/1";
const LAST_PASID = 0xfffff;
/** Larger requester ids are no route of the engine. */
const LAST_RID = 0xffffff;
const PAGE = 0xfffn;

/** Throws VectorError for text that is not of the format, UnsupportedUnit for a kind of IOMMU that nothing here models. */
export function parseVectors(text: string): VectorFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new VectorError("", `no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const file = new Fields(value, "");
  const format = file.has("format") ? file.text("format") : "none";
  if (format !== FORMAT) throw new VectorError("format", `must be ${JSON.stringify(FORMAT)}, not ${JSON.stringify(format)}`);
  const unit = unitOf(file.object("unit"));
  const cases = file.list("cases").map((each, i) => caseOf(each, i, unit));
  return { family: file.text("family"), source: file.has("source") ? file.text("source") : "", unit, cases };
}

function ramOf(unit: Fields): RamRange[] {
  const ranges = unit.hexPairs("ram").map(([first, length], i) => {
    if (length === 0n || (first | length) & PAGE || (first + length) >> 52n) {
      unit.refuse(`ram[${i}]`, "must be whole 4-KiB pages below 2^52");
    }
    return { first, length };
  });
  const sorted = [...ranges].sort((a, b) => (a.first < b.first ? -1 : 1));
  if (sorted.some(({ first, length }, i) => i + 1 < sorted.length && first + length > sorted[i + 1]!.first)) unit.refuse("ram", "has ranges that overlap");
  return ranges;
}

function unitOf(unit: Fields): UnitSpec {
  const kind = unit.text("kind");
  const ram = ramOf(unit);
  switch (kind) {
    case "vtd":
      return {
        kind, ram, mode: unit.oneOf("mode", ["legacy", "scalable"]), cap: unit.hex("cap"), ecap: unit.hex("ecap"),
        haw: unit.integer("haw", 32, 52),
        ...(unit.has("snoop_control") ? { snoopControl: unit.flag("snoop_control") } : {}),
      };
    case "smmuv3":
      return { kind, ram, idr: unit.hexList("idr", 6).map(Number) };
    case "amdvi":
      return { kind, ram, efr: unit.hex("efr") };
    default:
      throw new UnsupportedUnit(`vectors of "${kind}" are not supported; there are vtd, smmuv3 and amdvi`);
  }
}

function topOf(fields: Fields, kind: UnitSpec["kind"]): TopSpec {
  if (kind === "vtd") return { kind, root: fields.hex("root") };
  if (kind === "amdvi") {
    const table = fields.object("devtab");
    return { kind, base: table.hex("base"), entries: table.integer("entries", 1, 65536) };
  }
  const table = fields.object("strtab");
  const common = { kind, base: table.hex("base"), log2size: table.integer("log2size", 0, 32) };
  return table.oneOf("fmt", ["linear", "2level"]) === "linear" ? common : { ...common, split: table.integer("split", 6, 10) };
}

function runOf(fields: Fields): MemoryRun {
  const gpa = fields.hex("gpa");
  const words = BigUint64Array.from(fields.hexList("q"));
  if (gpa & 7n) fields.refuse("gpa", "must be a multiple of 8");
  return { gpa, words };
}

function caseOf(value: unknown, index: number, unit: UnitSpec): VectorCase {
  const unnamed = new Fields(value, `case ${index}`);
  const id = unnamed.has("id") ? unnamed.integer("id", 0, 2 ** 32) : index;
  const fields = new Fields(value, `case ${id}`);
  const memory = fields.list("memory").map((run, i) => runOf(new Fields(run, `case ${id}, memory[${i}]`)));
  const queries = fields.list("queries").map((query, i) => queryOf(new Fields(query, `case ${id}, query ${i}`)));
  const style = fields.has("style") ? fields.text("style") : "";
  const after = fields.has("memory_after")
    ? { memoryAfter: fields.hexPairs("memory_after").map(([address, value]) => ({ address, value })) } : {};
  return { id, style, top: topOf(fields, unit.kind), memory, queries, ...after };
}

function queryOf(fields: Fields): Query {
  return {
    rid: fields.integer("rid", 0, LAST_RID),
    ...(fields.has("pasid") ? { pasid: fields.integer("pasid", 0, LAST_PASID) } : {}),
    iova: fields.hex("iova"),
    write: fields.oneOf("access", ["r", "w"]) === "w",
    expect: expectedOf(fields.object("expect")),
    ...(fields.has("quirk") ? { quirk: fields.text("quirk") } : {}),
  };
}

function expectedOf(fields: Fields): Expected {
  if (fields.has("fault")) {
    return {
      fault: fields.text("fault"),
      ...(fields.has("code") ? { code: fields.integer("code", 0, 255) } : {}),
      ...(fields.has("reported") ? { reported: fields.flag("reported") } : {}),
      ...(fields.has("stage") ? { stage: fields.integer("stage", 1, 2) } : {}),
      ...(fields.has("class") ? { class: fields.oneOf("class", ["IN", "TT", "CD"]) } : {}),
      ...(fields.has("level") ? { level: fields.integer("level", -1, 6) } : {}),
      ...(fields.has("event") ? { event: fields.hexList("event", 4) } : {}),
    };
  }
  // Sizes are powers of two, which numbers hold exactly.
  const size = (field: string): bigint => BigInt(fields.integer(field, 1, 2 ** 63));
  return {
    pa: fields.hex("pa"),
    ...(fields.has("size") ? { size: size("size") } : {}),
    ...(fields.has("perm") ? { perm: fields.oneOf("perm", ["r", "w", "rw"]) } : {}),
    ...(fields.has("bypass") ? { bypass: fields.flag("bypass") } : {}),
    ...(fields.has("ipa") ? { ipa: fields.hex("ipa") } : {}),
    ...(fields.has("s1_size") ? { s1Size: size("s1_size") } : {}),
  };
}
