// What `ioasid flows` and `ioasid run --steps` print of a step: the call, its result, the state after it where that has changed, and
// the way of an access through the tables. Imports the scenario's types, and how walks are written.
import type { PathStep } from "../iommu/decode/path.js";
import type { AccessPath } from "../scenario/path.js";
import type { Scenario } from "../scenario/scenario.js";
import type { StepReport } from "../scenario/run.js";
import type { HostState, IoasidState, MapState } from "../scenario/state.js";
import { hex, sizeText } from "./walk-table.js";

/** A step with what is shown after it. */
export interface ShownStep {
  readonly report: StepReport;
  readonly state?: HostState;
  readonly path?: AccessPath;
}

/** Before a child, below its parent. */
const BRANCH = "\u2514 ";
const INDENT = "       ";
const WIDTH = 130;
/** Results that a call has for machines only: too long to read. */
const LONG = 90;

/** Cells in columns, two blanks between them; blanks at line ends are cut. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd());
}

function mapText({ first, last, target, access }: MapState, isRoot: boolean, parent: string): string {
  return `${hex(first)}..${hex(last)} -> ${isRoot ? "hva" : parent} ${hex(target)} ${access}`;
}

/** Attached devices; those whose DMA goes to a child are in brackets. */
function devicesText({ attached, effective }: IoasidState): string {
  return attached.map((name) => (effective.includes(name) ? name : `(${name})`)).join(", ");
}

function spaceRows(space: IoasidState, parent: string | undefined, indent: string): string[][] {
  const { name, ioasid, kind, maps, mappings, pgtable, locked, children } = space;
  const translations = maps.map((map) => mapText(map, parent === undefined, parent ?? ""));
  if (pgtable) translations.push(`the guest's table at ${parent ?? ""} ${hex(pgtable.addr)}, ${pgtable.format.kind}`);
  if (mappings > maps.length) translations.push(`and ${mappings - maps.length} more maps`);
  const label = name === `ioasid ${ioasid}` ? name : `${name} (${ioasid})`;
  const charge = parent === undefined ? `charged ${sizeText(locked)}` : "";
  const [first = "no maps", ...more] = translations;
  return [
    [`${indent}${label}`, kind, first, devicesText(space), charge],
    ...more.map((text) => ["", "", text, "", ""]),
    ...children.flatMap((child) => spaceRows(child, name, indent === "" ? BRANCH : `  ${indent}`)),
  ];
}

export function stateLines({ fds, blocked, unbound, locked }: HostState): string[] {
  const rows = fds.flatMap(({ roots }) => roots.flatMap((root) => spaceRows(root, undefined, "")));
  const rest = [
    ...(blocked.length ? [`blocked: ${blocked.join(", ")}`] : []), ...(unbound.length ? [`not bound: ${unbound.join(", ")}`] : []),
    ...fds.filter(({ registered }) => registered > 0n).map(({ name, registered }) => `registered with ${name}: ${sizeText(registered)}`),
    `charge of the process: ${sizeText(locked)}`,
  ];
  return [...columns(rows), rest.join("; ")];
}

function entryRow(step: PathStep): string[] {
  const leads = step.kind === "leaf" ? `page ${hex(step.leadsTo)} (${sizeText(step.bytes ?? 0n)})` : step.kind === "table" ? `table ${hex(step.leadsTo)}` : "nothing";
  return [`${step.what}, level ${step.level}`, `at ${hex(step.address)}`, hex(step.words[0]), leads, step.permissions ?? ""];
}

/** Table entries; the walks of stage 2 that only serve to read a table of stage 1 are one line each. */
function entryLines(steps: readonly PathStep[]): string[] {
  const rows: string[][] = [];
  let second: PathStep[] = [];
  for (const step of steps) {
    if (step.stage === 2) {
      second.push(step);
      continue;
    }
    const leaf = second.at(-1);
    if (leaf) rows.push([`  (${leaf.what}, ${second.length} entries)`, `for ${hex(step.address)}`, "", `page ${hex(leaf.leadsTo)} (${sizeText(leaf.bytes ?? 0n)})`, ""]);
    second = [];
    rows.push(entryRow(step));
  }
  return columns([...rows, ...second.map(entryRow)]);
}

export function pathLines({ hops, steps, outcome }: AccessPath): string[] {
  const way = hops.map(({ space, address }) => `${space} ${hex(address)}`).join(" -> ");
  return [...(hops.length ? [way] : []), ...entryLines(steps), ...(outcome.startsWith("translated") ? [] : [outcome])];
}

/** Words in lines of at most WIDTH characters. */
function wrapped(text: string, indent: string): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (`${lines.at(-1)} ${word}`.length > WIDTH - indent.length) lines.push(word);
    else lines.push(`${lines.pop()} ${word}`.trimStart());
  }
  return lines.map((line) => indent + line);
}

export function headLines({ name, about }: Scenario): string[] {
  return [name, "=".repeat(name.length), ...(about === undefined ? [] : wrapped(about, ""))];
}

function resultLines({ outcome, refusal, verb }: StepReport): string[] {
  if (outcome === "ok") return [];
  if (refusal) return wrapped(outcome, `${INDENT}! `);
  if (verb === "mmap" || outcome.length > LONG) return [];
  return [`${INDENT}= ${outcome}${verb === "charge" ? ` (${sizeText(BigInt(outcome))})` : ""}`];
}

/** The lines of a step; its state is left out where it is the same as `before`, the lines of the last state shown. */
export function stepLines({ report, state, path }: ShownStep, before: readonly string[]): { lines: string[]; state: readonly string[] } {
  const { step, text, note } = report;
  const after = state ? stateLines(state) : before;
  const changed = after.join("\n") !== before.join("\n");
  return {
    lines: [
      ...(note === undefined ? [] : ["", ...wrapped(`/* ${note} */`, INDENT)]),
      `${String(step).padStart(5)}  ${text}`,
      ...resultLines(report),
      ...(path ? pathLines(path) : []).map((line) => `${INDENT}  ${line}`),
      ...(changed ? after : []).map((line) => `${INDENT}| ${line}`),
    ],
    state: after,
  };
}
