// Types of the benchmark's results, for tests of the benchmark itself.
export interface Ratio {
  median: number;
  q1: number;
  q3: number;
  rounds?: number[];
}

export interface Gate {
  ratioAtMost?: number;
  timesFaster?: number;
}

export interface Row {
  name: string;
  about: string;
  unit: string;
  baselines: string[];
  reported?: boolean;
}

export interface Result {
  name: string;
  about: string;
  unit: string;
  reported: boolean;
  subject: { name: string; ns: number } | null;
  baselines: { name: string; ns: number | null; ratio: Ratio | null; gate: (Gate & { limit: number }) | null; met: boolean | null; missing: string | null }[];
  notes: string[];
  error: string | null;
}

export function checkTargets(rows: readonly Row[], wanted?: Record<string, Record<string, Gate>>): void;
export function isGated(row: Row): boolean;
export function rowResult(
  row: Row, measured: { variants: readonly { name: string; ns: number; ratio?: Ratio }[] }, notes: string[], reason: string | null,
): Result;
export function failedRow(row: Row, error: Error): Result;
export function failures(results: readonly Result[]): string[];
export function markdown(results: readonly Result[]): string;
export function table(results: readonly Result[]): string;
