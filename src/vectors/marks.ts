// Accessed and dirty bits that the answers left in memory, against the recorder's (`memory_after`). Imports its own folder.
// Accessed: the recorder also sets it in walks that end in a fault, and where it follows its quirks; there it is permitted, not
// required, and elsewhere nothing may differ. Dirty: no recorded file has a dirty bit that was set by an answer, though writes
// were let through. So it is held to the architecture: set by exactly the walks that let a write through (Intel SDM volume 3,
// 4.8), and at least where a recorder sets it. No other bit of memory may have changed.
import type { CaseWorld } from "./case-world.js";
import type { Asked } from "./port-answers.js";
import type { FieldDifference } from "./recorded.js";
import type { VectorCase } from "./vectors.js";

const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const hex = (value: bigint): string => `0x${value.toString(16)}`;

interface Used {
  /** Entries on the way of requests that were refused, and of those that were let through. */
  refused: Set<bigint>;
  passed: Set<bigint>;
  /** Leaves through which a write went. */
  written: Set<bigint>;
}

function usedEntries(asked: readonly Asked[]): Used {
  const used: Used = { refused: new Set(), passed: new Set(), written: new Set() };
  for (const { query, answer: { walk, fault } } of asked) {
    if (!walk) continue;
    const way = fault ? used.refused : used.passed;
    for (const step of walk.steps) way.add(step.address);
    if (query.write && walk.reason === "none") used.written.add(walk.steps.at(-1)!.address);
  }
  return used;
}

export function* marksDifferences(world: CaseWorld, each: VectorCase, asked: readonly Asked[]): Generator<FieldDifference> {
  if (!each.memoryAfter) return;
  const after = new Map(each.memoryAfter.map(({ address, value }) => [address, value]));
  const { refused, passed, written } = usedEntries(asked);
  const quirks = each.queries.length > asked.length;
  for (const { gpa, words } of each.memory) {
    for (const [i, word] of words.entries()) {
      const address = gpa + BigInt(i * 8);
      const recorded = after.get(address) ?? word;
      const got = world.read64(address) ?? 0n;
      after.delete(address);
      const expected = recorded | (written.has(address) ? DIRTY : 0n);
      const optional = passed.has(address) ? 0n : quirks || refused.has(address) ? ACCESSED : 0n;
      if ((got & ~expected) !== 0n || (expected & ~got & ~optional) !== 0n) {
        yield { field: `word at ${hex(address)}`, expected: hex(expected), got: hex(got) };
      }
    }
  }
  for (const [address, value] of after) yield { field: `word at ${hex(address)}`, expected: hex(value), got: "no word of the case" };
}
