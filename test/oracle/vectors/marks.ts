// Accessed and dirty bits of a vector case, where it records the words that changed once all its queries were answered.
import { marksOf } from "../reference/marks.js";
import { memoryOf, wordsOfCase, type Unit, type VectorCase } from "./file.js";
import { requestOf } from "./compare.js";
import { vtdUnit } from "./vtd.js";

const ACCESSED = 1n << 5n;

/**
 * What is wrong with the recorded words of a first-stage case: an accessed bit that an allowed access must have set and is
 * clear, or a change of anything else. Accessed bits that a refused walk left behind are permitted. Dirty bits are not compared:
 * no word of the files has one that an access set, although writes were allowed.
 */
export function markDifferences(unit: Unit, one: VectorCase): string[] {
  const words = wordsOfCase(one);
  const model = vtdUnit(unit, one, memoryOf(unit, words));
  const required = new Map<bigint, bigint>();
  for (const query of one.queries) {
    if (query.quirk !== undefined) continue;
    const request = requestOf(unit, query, query.access === "w");
    const { domain } = model.answer(request);
    if (!domain) continue;
    for (const [at, word] of marksOf(domain, request.iova, request.need)) required.set(at, (required.get(at) ?? 0n) | word);
  }
  const after = new Map((one.memory_after ?? []).map(([at, word]) => [BigInt(at), BigInt(word)]));
  const wrong: string[] = [];
  for (const [at, word] of required) {
    const recorded = after.get(at) ?? words.get(at) ?? 0n;
    if ((word & ACCESSED & ~recorded) !== 0n) wrong.push(`case ${one.id}: ${at.toString(16)} was not accessed`);
  }
  for (const [at, word] of after) {
    if ((word ^ (words.get(at) ?? 0n)) !== ACCESSED) wrong.push(`case ${one.id}: ${at.toString(16)} became ${word.toString(16)}`);
  }
  return wrong;
}
