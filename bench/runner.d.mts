// Types for tests of the benchmark itself.
import type { Ratio } from "./report.mjs";

export interface Variant {
  name: string;
  calls: number;
  output: Float64Array | Uint32Array | BigInt64Array;
  items?: number;
  answers?: string;
  before?(call: number): void;
  run(call: number): void;
}

export function quantile(values: readonly number[], q: number): number;
export function spread(ratios: readonly number[]): Required<Ratio>;
export function measure(
  variants: readonly Variant[], rounds: number, clock: { now(): number },
): { variants: { name: string; ns: number; ratio: Required<Ratio> }[] };
