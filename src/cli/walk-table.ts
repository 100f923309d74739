// What `ioasid walk` prints. Imports cli-table3.
import Table from "cli-table3";
import type { PathStep } from "../iommu/decode/path.js";
import type { RequestPath } from "../trace/walk-at.js";
import type { QueryPath } from "../vectors/path.js";

export type Path = RequestPath | QueryPath;

export const hex = (value: bigint | undefined): string => (value === undefined ? "" : `0x${value.toString(16)}`);
const SIZES = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes in the largest unit that leaves a whole number. */
export function sizeText(bytes: bigint): string {
  let unit = 0;
  while (bytes !== 0n && bytes % 1024n === 0n && unit < SIZES.length - 1) {
    bytes >>= 10n;
    unit++;
  }
  return `${bytes.toLocaleString("en-US")} ${SIZES[unit]}`;
}

/** Words of a structure, the zeros at its end left out. */
function words(all: readonly bigint[]): string {
  const last = all.findLastIndex((word) => word !== 0n);
  return all.slice(0, Math.max(last + 1, 1)).map(hex).join("\n");
}

function row(step: PathStep): string[] {
  const place = step.stage === undefined ? step.what : `${step.what}, stage ${step.stage}, level ${step.level}`;
  const leads = step.kind === "empty" ? "nothing" : `${hex(step.leadsTo)}${step.bytes === undefined ? "" : ` (${sizeText(step.bytes)})`}`;
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

/** JSON on one line; 64-bit numbers are hexadecimal text. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) => (typeof each === "bigint" ? hex(each) : each));
}
