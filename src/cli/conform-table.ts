// What `ioasid conform` prints. Imports cli-table3.
import Table from "cli-table3";
import type { FileConformance } from "./conform.js";

const count = (n: number): string => n.toLocaleString("en-US");

export function conformTable(results: readonly FileConformance[]): string {
  const head = ["family", "cases", "queries", "equal", "skipped", "different", "seconds"];
  const table = new Table({ head, colAligns: ["left", ...head.slice(1).map(() => "right" as const)], style: { head: [], border: [] } });
  for (const r of results) {
    table.push([r.family, count(r.cases), count(r.queries), count(r.equal), count(r.skipped), count(r.different), r.seconds.toFixed(1)]);
  }
  const sum = (key: "queries" | "equal" | "skipped" | "different"): number => results.reduce((n, r) => n + r[key], 0);
  if (results.length > 1) {
    const cases = results.reduce((n, r) => n + r.cases, 0);
    const seconds = results.reduce((n, r) => n + r.seconds, 0);
    table.push(["all", count(cases), count(sum("queries")), count(sum("equal")), count(sum("skipped")), count(sum("different")), seconds.toFixed(1)]);
  }
  const different = sum("different");
  const verdict = different ? `${count(different)} differ` : `all ${count(sum("equal"))} answers equal the recorded ones`;
  return `${table.toString()}\n${verdict}; ${count(sum("skipped"))} skipped (quirks of the recorder)`;
}

/** The first differences of each file, one a line. */
export function differenceLines(results: readonly FileConformance[]): string[] {
  return results.flatMap((r) => {
    const lines = r.differences.map(({ case: id, query, request, way, field, expected, got }) => {
      const place = query === undefined ? `case ${id}` : `case ${id}, query ${query}: ${request}`;
      return `${r.file}: ${place}: ${way}: ${field}: expected ${expected}, got ${got}`;
    });
    const more = r.different - lines.length;
    return more > 0 ? [...lines, `${r.file}: ${more} more`] : lines;
  });
}
