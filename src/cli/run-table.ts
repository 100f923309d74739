// What `ioasid run` prints. Imports cli-table3.
import Table, { type HorizontalAlignment } from "cli-table3";
import type { FileOutcome } from "./scenario-run.js";

export function outcomeTable(outcomes: readonly FileOutcome[]): string {
  const head = ["file", "scenario", "steps", "calls", "DMA", "refused", "as expected"];
  const colAligns: HorizontalAlignment[] = ["left", "left", "right", "right", "right", "right", "left"];
  const table = new Table({ head, colAligns, style: { head: [], border: [] } });
  for (const { file, name, steps, calls, accesses, refusals, passed, ok } of outcomes) {
    table.push([file, name, steps, calls, accesses, refusals, ok ? "yes" : `no: step ${passed + 1}`]);
  }
  const wrong = outcomes.filter(({ ok }) => !ok).length;
  const steps = outcomes.reduce((n, { passed }) => n + passed, 0);
  const verdict = wrong ? `${wrong} of ${outcomes.length} scenarios end with something unexpected` : `all ${steps} steps are as expected`;
  return `${table.toString()}\n${verdict}`;
}
