// What `ioasid replay` prints. Imports cli-table3.
import Table from "cli-table3";
import type { FileResult } from "./replay.js";

const count = (n: number): string => Math.round(n).toLocaleString("en-US");
const rate = (n: number): string => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : `${(n / 1e3).toFixed(0)} k`);

export function resultTable(results: readonly FileResult[]): string {
  const head = ["trace", "IOMMU", "tables", "events", "maps", "unmaps", "DMA", "translations", "IOTLB hits", "faults", "stale refused",
    "mismatches", "transl./s", "events/s"];
  const table = new Table({ head, colAligns: ["left", "left", "left", ...head.slice(3).map(() => "right" as const)], style: { head: [], border: [] } });
  for (const r of results) {
    table.push([r.file.replace(/\.trace(\.gz)?$/, ""), r.iommu, `${r.format}, ${r.addressWidth} bits`, count(r.events), count(r.maps), count(r.unmaps), count(r.requests),
      count(r.translations), `${(r.iotlbHitRate * 100).toFixed(2)}%`, count(r.faults), count(r.staleRefused), count(r.mismatches),
      rate(r.translationsPerSecond), rate(r.eventsPerSecond)]);
  }
  const ports = portTable(results);
  const wrong = results.reduce((n, r) => n + r.mismatches, 0);
  const checked = results.reduce((n, r) => n + r.requests, 0);
  const verdict = wrong ? `${count(wrong)} of ${count(checked)} answers differ` : `all ${count(checked)} answers equal the recorded ones`;
  return `${table.toString()}\n${ports}\n${verdict}`;
}

/** What each port has counted. */
function portTable(results: readonly FileResult[]): string {
  const head = ["trace", "port", "translations", "hits", "misses", "walks", "entries read", "faults", "by reason"];
  const table = new Table({ head, colAligns: ["left", ...head.slice(2).map(() => "right" as const), "left"], style: { head: [], border: [] } });
  for (const { file, ports } of results) {
    for (const [index, port] of ports.entries()) {
      const reasons = Object.entries(port.faultsByReason).map(([reason, n]) => `${reason} ${count(n)}`).join(", ");
      table.push([file.replace(/\.trace(\.gz)?$/, ""), index, count(port.translations), count(port.hits), count(port.misses), count(port.walks),
        count(port.loads), count(port.faults), reasons]);
    }
  }
  return table.toString();
}

/** The first mismatches of each file, one a line. */
export function mismatchLines(results: readonly FileResult[]): string[] {
  return results.flatMap((r) => {
    const lines = r.firstMismatches.map((m) => `${r.file}: line ${m.line}: ${m.request}: expected ${m.expected}, got ${m.got}`);
    const more = r.mismatches - lines.length;
    return more > 0 ? [...lines, `${r.file}: ${more} more`] : lines;
  });
}
