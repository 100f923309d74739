// Types for tests of the benchmark itself.
import type { Result } from "./report.mjs";

export function htmlReport(
  results: readonly Result[], about: { node: string; v8: string; cpu: string; arch: string; compiler: string; clock: string }, rounds: number,
): string;
