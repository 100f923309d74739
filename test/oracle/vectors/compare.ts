// Every query of a vector file against the reference: see test/vectors/README.md for what is compared.
import { PERM_PRIVILEGED_SHIFT, PERM_R, PERM_W } from "../../../src/engine/layout.js";
import { amdviUnit } from "./amdvi.js";
import type { Answer, Request } from "./answer.js";
import { memoryOf, wordsOfCase, type Expected, type Query, type Unit, type VectorCase, type VectorFile } from "./file.js";
import { PLACE_MASK, smmuv3Unit } from "./smmuv3.js";
import { vtdUnit } from "./vtd.js";

export interface Comparison {
  queries: number;
  equal: number;
  skipped: number;
  /** What differed, one line a query. */
  readonly different: string[];
}

const ALL_BITS = (1n << 64n) - 1n;

interface UnitModel {
  answer(request: Request): Answer;
}

const UNITS = { vtd: vtdUnit, smmuv3: smmuv3Unit, amdvi: amdviUnit } as const;

/** VT-d and AMD ask as users, SMMUv3 as privileged. */
export function requestOf(unit: Unit, { rid, pasid, iova }: Query, write: boolean): Request {
  const need = write ? PERM_W : PERM_R;
  return { rid, pasid, iova: BigInt(iova), need: unit.kind === "smmuv3" ? need << PERM_PRIVILEGED_SHIFT : need, write };
}

/** Which accesses are allowed at the address when they are asked one by one. */
function permOf(model: UnitModel, unit: Unit, query: Query): string {
  const granted = (write: boolean): boolean => model.answer(requestOf(unit, query, write)).fault === undefined;
  return `${granted(false) ? "r" : ""}${granted(true) ? "w" : ""}`;
}

function differences(expected: Expected, answer: Answer, perm: () => string): string[] {
  const wrong: string[] = [];
  const check = (name: string, want: unknown, got: unknown): void => {
    if (want !== undefined && want !== got) wrong.push(`${name}: ${String(want)} expected, ${String(got)} computed`);
  };
  const number = (text: string | number | undefined): bigint | undefined => (text === undefined ? undefined : BigInt(text));
  check("fault", expected.fault ?? "none", answer.fault ?? "none");
  check("pa", number(expected.pa), answer.pa);
  check("bypass", expected.bypass, answer.bypass);
  check("size", number(expected.size), answer.size);
  check("ipa", number(expected.ipa), answer.ipa);
  check("s1_size", number(expected.s1_size), answer.s1Size);
  if (expected.perm !== undefined) check("perm", expected.perm, perm());
  check("stage", expected.stage, answer.stage);
  check("class", expected.class, answer.class);
  // An address beyond the stage-1 size of a stream without stage 1 is one that QEMU never reports.
  if (answer.reported !== undefined) check("reported", expected.reported, answer.reported);
  expected.event?.forEach((word, n) => {
    const got = answer.event?.[n];
    if (got !== null) check(`event word ${n}`, BigInt(word) & (n === 1 ? PLACE_MASK : ALL_BITS), got);
  });
  return wrong;
}

/** Adds a case to `sum`. */
export function compareCase(unit: Unit, one: VectorCase, sum: Comparison): void {
  const words = wordsOfCase(one);
  const model: UnitModel = UNITS[unit.kind](unit, one, memoryOf(unit, words));
  for (const query of one.queries) {
    sum.queries++;
    if (query.quirk !== undefined) {
      sum.skipped++;
      continue;
    }
    const wrong = differences(query.expect, model.answer(requestOf(unit, query, query.access === "w")), () => permOf(model, unit, query));
    if (wrong.length === 0) sum.equal++;
    else {
      const { rid, pasid, iova, access } = query;
      sum.different.push(`case ${one.id} rid ${rid} pasid ${pasid ?? "-"} iova ${iova} ${access}: ${wrong.join("; ")}`);
    }
  }
}

/** Every n-th case of a file, from the first. */
export function compareFile(file: VectorFile, every = 1): Comparison {
  const sum: Comparison = { queries: 0, equal: 0, skipped: 0, different: [] };
  for (let n = 0; n < file.cases.length; n += every) compareCase(file.unit, file.cases[n]!, sum);
  return sum;
}
