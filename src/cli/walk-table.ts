// What `ioasid walk` prints. Imports cli-table3.
import Table from "cli-table3";
import type { PathStep } from "../iommu/decode/path.js";
import type { RequestPath } from "../trace/walk-at.js";
import type { QueryPath } from "../vectors/path.js";

export type Path = RequestPath | QueryPath;

const hex = (value: bigint | undefined): string => (value === undefined ? "" : `0x${value.toString(16)}`);
const SIZES = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];

function size(bytes: bigint | undefined): string {
  if (bytes === undefined) return "";
  let unit = 0;
  while (bytes >= 1024n && unit < SIZES.length - 1) {
    bytes >>= 10n;
    unit++;
  }
  return ` (${bytes} ${SIZES[unit]})`;
}

/** Words of a structure, the zeros at its end left out. */
function words(all: readonly bigint[]): string {
  const last = all.findLastIndex((word) => word !== 0n);
  return all.slice(0, Math.max(last + 1, 1)).map(hex).join("\n");
}

function row(step: PathStep): string[] {
  const place = step.stage === undefined ? step.what : `${step.what}, stage ${step.stage}, level ${step.level}`;
  const leads = step.kind === "empty" ? "nothing" : `${hex(step.leadsTo)}${size(step.bytes)}`;
  return [place, hex(step.address), words(step.words), step.bits.join(" "), step.kind ?? "", step.kind ? leads : "", step.permissions ?? ""];
}

export function pathText(path: Path): string {
  const head = ["entry", "address", "value", "bits", "kind", "leads to", "may"];
  const table = new Table({ head, wordWrap: true, colWidths: [null, null, null, 40, null, null, null], style: { head: [], border: [] } });
  for (const step of path.steps) table.push(row(step));
  const lines = [path.request, ...(path.steps.length ? [table.toString()] : []), path.outcome];
  if ("fault" in path && path.fault?.record) lines.push(`record: ${path.fault.record.map(hex).join(" ")}`);
  if ("differences" in path) {
    const { differences, quirk } = path;
    const equal = differences.length ? differences.map((d) => `${d.field}: recorded ${d.expected}, here ${d.got}`).join("; ") : "as recorded";
    lines.push(quirk === undefined ? equal : `quirk "${quirk}" of the recorder: ${equal}`);
  }
  return lines.join("\n");
}

export function pathJson(path: Path): string {
  return JSON.stringify(path, (_key, value: unknown) => (typeof value === "bigint" ? hex(value) : value));
}
