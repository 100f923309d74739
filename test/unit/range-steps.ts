// Changes of a collection of page ranges, for tests against a plain array, and what is no range. Imports fast-check.
import fc from "fast-check";

/** removeAny takes a range that is there, so that the collection does become empty; remove mostly misses. */
export type Action = "insert" | "remove" | "removeAny" | "clear";

export interface Step {
  readonly action: Action;
  readonly first: number;
  readonly length: number;
  readonly value: number;
}

/** `first` is below `space`; what is inserted is removed a little more slowly. */
export function rangeStep(space: number, length: fc.Arbitrary<number>): fc.Arbitrary<Step> {
  const weights: Record<Action, number> = { insert: 60, remove: 15, removeAny: 40, clear: 1 };
  const actions = Object.entries(weights).map(([action, weight]) => ({ weight, arbitrary: fc.constant(action as Action) }));
  return fc.record({ action: fc.oneof(...actions), first: fc.nat(space - 1), length, value: fc.nat(3) });
}

/** [first, last] that no collection takes. */
export const NO_RANGES = [[2, 1], [-1, 1], [0, 0.5], [NaN, 1], [0, 2 ** 53]] as const;
