// An answer of ours against the recorded one, by the rules of the vectors' README: what is architectural must be equal, what is
// a hint (level) is not looked at, and known differences of the recorder are compared by their meaning. Imports its own folder.
import * as L from "../engine/layout.js";
import type { Answer } from "./answer.js";
import { intermediate } from "./intermediate.js";
import type { Expected, UnitSpec } from "./vectors.js";

/** A field that differs, both values as text. */
export interface FieldDifference {
  field: string;
  expected: string;
  got: string;
}

const hex = (value: bigint | undefined): string => (value === undefined ? "nothing" : `0x${value.toString(16)}`);
const PERM_TEXT = ["", "r", "w", "rw"];

/** An answer in a few words. */
export function describeAnswer({ pa, fault }: Answer): string {
  return fault ? `fault ${fault.name}` : hex(pa);
}

function describeExpected({ pa, fault }: Expected): string {
  return fault === undefined ? hex(pa) : `fault ${fault}`;
}

function translated(answer: Answer, expected: Expected): FieldDifference[] {
  const { walk, subject: { stream } } = answer;
  const differences: FieldDifference[] = [];
  const check = (field: string, wanted: string | undefined, got: string): void => {
    if (wanted !== undefined && wanted !== got) differences.push({ field, expected: wanted, got });
  };
  check("pa", hex(expected.pa), hex(answer.pa));
  if (expected.bypass !== undefined) check("bypass", String(expected.bypass), String(stream.kind === "identity"));
  check("perm", expected.perm, PERM_TEXT[(answer.perm ?? 0) & (L.PERM_R | L.PERM_W)] ?? "");
  // An identity has no page; the recorder says 4 KiB.
  if (walk && expected.size !== undefined) check("size", `${expected.size}`, `${1n << BigInt(walk.leafLg2)}`);
  if (walk && expected.ipa !== undefined) {
    const first = intermediate(answer);
    check("ipa", hex(expected.ipa), hex(first?.ipa));
    check("s1_size", expected.s1Size === undefined ? undefined : `${expected.s1Size}`, `${first?.size}`);
  }
  return differences;
}

/** Names of ours that the recorder gives another one: it says in scalable mode what legacy mode would (README). */
const SCALABLE_NAMES: Readonly<Record<string, string>> = { "ss-root-access-error": "context-entry-invalid" };

/** Conditions that the recorder does not look for in scalable mode: it meets another fault later (README). */
const UNCHECKED = ["pasid-disabled", "pasid-beyond-directory", "rid-pasid-invalid", "pasid-dir-entry-reserved-bit", "pasid-entry-reserved-bit"];

function vtdFault(answer: Answer, expected: Expected, mode: "legacy" | "scalable"): FieldDifference[] {
  const { name, code, reported } = answer.fault!;
  const known = mode === "scalable" ? (SCALABLE_NAMES[name] ?? name) : name;
  if (UNCHECKED.includes(name)) return [];
  const differences: FieldDifference[] = [];
  if (known !== expected.fault) differences.push({ field: "fault", expected: `${expected.fault}`, got: name });
  else if (mode === "legacy" && code !== expected.code) differences.push({ field: "code", expected: `${expected.code}`, got: `${code}` });
  if (reported !== expected.reported) differences.push({ field: "reported", expected: `${expected.reported}`, got: `${reported}` });
  return differences;
}

function amdFault(answer: Answer, expected: Expected): FieldDifference[] {
  const { name, code, reported } = answer.fault!;
  const fields: [string, unknown, unknown][] = [
    ["fault", expected.fault, name], ["code", expected.code, code], ["reported", expected.reported, reported],
  ];
  return fields.filter(([, wanted, got]) => wanted !== got).map(([field, wanted, got]) => ({ field, expected: `${wanted}`, got: `${got}` }));
}

/** Event records: type 7..0, StreamID 63..32; InputAddr in word 2; S2 39 and CLASS 41..40 of word 1; IPA in word 3 (SMMUv3, 7.3). */
const TYPE_AND_STREAM = 0xffffffff000000ffn;
const STAGE_AND_CLASS = 0x38000000000n;
const IPA = 0xffffffffff000n;
const FETCH = 0xfffffffffffff8n;
const F_STE_FETCH = 0x03;
const F_WALK_EABT = 0x0b;
const TRANSLATION_EVENTS = [F_WALK_EABT, 0x10, 0x11, 0x12, 0x13];

function eventDifferences(ours: readonly bigint[], theirs: readonly bigint[], stage2Ipa: boolean): FieldDifference[] {
  const type = Number(theirs[0]! & 0xffn);
  const fields: [string, number, bigint][] = [["type, StreamID", 0, TYPE_AND_STREAM]];
  if (TRANSLATION_EVENTS.includes(type)) fields.push(["S2, CLASS", 1, STAGE_AND_CLASS], ["InputAddr", 2, ~0n]);
  if (stage2Ipa) fields.push(["IPA", 3, IPA]);
  if (type === F_WALK_EABT || type === F_STE_FETCH) fields.push(["FetchAddr", 3, FETCH]);
  return fields.flatMap(([field, at, mask]) => {
    const [wanted, got] = [theirs[at]! & mask, (ours[at] ?? 0n) & mask];
    return wanted === got ? [] : [{ field: `event's ${field}`, expected: hex(wanted), got: hex(got) }];
  });
}

function smmuFault(answer: Answer, expected: Expected): FieldDifference[] {
  const fault = answer.fault!;
  const fields: [string, unknown, unknown][] = [
    ["fault", expected.fault, fault.name], ["code", expected.code, fault.code],
    ["stage", expected.stage, fault.stage], ["class", expected.class, fault.class],
  ];
  // With stage 2 alone the recorder never reports an input beyond the output size; the architecture records it (README).
  const { stream } = answer.subject;
  const unreported = fault.name === "F_ADDR_SIZE" && fault.stage === 1 && !expected.reported && !("stage1" in stream && stream.stage1);
  if (!unreported) fields.push(["reported", expected.reported ?? false, fault.reported]);
  const differences = fields.filter(([, wanted, got]) => wanted !== got)
    .map(([field, wanted, got]) => ({ field, expected: `${wanted}`, got: `${got}` }));
  if (!expected.event || differences.length > 0) return differences;
  const stage2Ipa = fault.stage === 2 && fault.code !== F_WALK_EABT;
  return eventDifferences(fault.record ?? [], expected.event, stage2Ipa);
}

/** Where our answer differs from the recorded one; empty: nowhere. */
export function recordedDifferences(answer: Answer, expected: Expected, unit: UnitSpec): FieldDifference[] {
  if ((expected.fault === undefined) !== (answer.fault === undefined)) {
    return [{ field: "outcome", expected: describeExpected(expected), got: describeAnswer(answer) }];
  }
  if (expected.fault === undefined) return translated(answer, expected);
  if (unit.kind === "vtd") return vtdFault(answer, expected, unit.mode);
  return unit.kind === "amdvi" ? amdFault(answer, expected) : smmuFault(answer, expected);
}
