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
/** Column of results. */
const RESULTS = 72;
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

/** Attached devices; those whose DMA goes elsewhere, or nowhere, are in brackets. */
function devicesText({ attached, effective, pasids }: IoasidState): string {
  const plain = attached.map((name) => (effective.includes(name) ? name : `(${name})`));
  return [...plain, ...pasids.map(({ device, pasid }) => `${device} PASID ${pasid}`)].join(", ");
}

function spaceRows(space: IoasidState, parent: string | undefined, indent: string): string[][] {
  const { name, ioasid, kind, maps, mappings, pgtable, pasidTable, locked, children } = space;
  const translations = maps.map((map) => mapText(map, parent === undefined, parent ?? ""));
  if (pgtable) translations.push(`the guest's table at ${parent ?? ""} ${hex(pgtable.addr)}, ${pgtable.format.kind}`);
  if (pasidTable) translations.push(`the guest's PASID table at ${parent ?? ""} ${hex(pasidTable.addr)}, ${pasidTable.format.kind}`);
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

/** What waits for an answer; nothing: no line. */
function waitingLine({ fds }: HostState): string {
  return fds.filter(({ pageRequests }) => pageRequests > 0)
    .map(({ name, pageRequests: n }) => `waiting for ${name}'s answer: ${n} group${n === 1 ? "" : "s"} of page requests`).join("; ");
}

function leadsText({ kind, leadsTo, bytes }: PathStep): string {
  if (kind === "leaf") return `page ${hex(leadsTo)} (${sizeText(bytes ?? 0n)})`;
  return kind === "table" ? `table ${hex(leadsTo)}` : "nothing";
}

function entryRow(step: PathStep): string[] {
  return [`${step.what}, level ${step.level}`, `at ${hex(step.address)}`, hex(step.words[0]), leadsText(step), step.permissions ?? ""];
}

/** Table entries; the walks of stage 2 that only serve to read a table of stage 1 are one row each. */
function entryRows(steps: readonly PathStep[]): string[][] {
  const rows: string[][] = [];
  let second: PathStep[] = [];
  for (const step of steps) {
    if (step.stage === 2) {
      second.push(step);
      continue;
    }
    const leaf = second.at(-1);
    if (leaf) rows.push([`  (${leaf.what}, ${second.length} entries)`, `for ${hex(step.address)}`, "", leadsText(leaf), ""]);
    second = [];
    rows.push(entryRow(step));
  }
  return [...rows, ...second.map(entryRow)];
}

/** The entries of a walk; dots stand for those that earlier walks have shown. Adds the rest to `seen`. */
function entryLines(steps: readonly PathStep[], seen: Set<string>): string[] {
  const rows: string[][] = [];
  let fresh = 0;
  for (const row of entryRows(steps)) {
    const key = row.join();
    if (!seen.has(key)) {
      rows.push(row);
      fresh++;
    } else if (rows.at(-1)?.length !== 1) rows.push(["..."]);
    seen.add(key);
  }
  return fresh === 0 ? [] : columns(rows);
}

/** The address in each space on the way. */
function wayLines({ hops }: AccessPath): string[] {
  return hops.length ? [hops.map(({ space, address }) => `${space} ${hex(address)}`).join(" -> ")] : [];
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

/** What a step answered, behind it or below it. */
function callLines({ step, text, outcome, refusal, verb }: StepReport): string[] {
  const call = `${String(step).padStart(5)}  ${text}`;
  if (refusal) return [call, ...wrapped(outcome, `${INDENT}! `)];
  if (verb === "fault") return [call, ...wrapped(outcome, `${INDENT}  `).map((line, n) => (n === 0 ? `${INDENT}= ${line.trimStart()}` : line))];
  const silent = outcome === "ok" || verb === "mmap" || outcome.length > LONG;
  if (silent) return [call];
  const result = `= ${outcome}${verb === "charge" ? ` (${sizeText(BigInt(outcome))})` : ""}`;
  return call.length + result.length + 2 <= WIDTH ? [`${call.padEnd(RESULTS)}  ${result}`] : [call, `${INDENT}${result}`];
}

/** What has been shown so far, to be left out where it comes again: the state, and table entries. */
export interface Shown {
  state: readonly string[];
  waiting: string;
  readonly entries: Set<string>;
}

/** The lines of a step; adds to `shown` what they show. */
export function stepLines({ report, state, path }: ShownStep, shown: Shown): string[] {
  const { note } = report;
  const lines = note === undefined ? [] : ["", ...wrapped(`/* ${note} */`, INDENT)];
  lines.push(...callLines(report));
  if (path) {
    lines.push(...wayLines(path).map((line) => `${INDENT}  ${line}`));
    lines.push(...entryLines(path.steps, shown.entries).map((line) => `${INDENT}    ${line}`));
  }
  const after = state ? stateLines(state) : shown.state;
  if (after.join() !== shown.state.join()) lines.push(...after.map((line) => `${INDENT}| ${line}`));
  shown.state = after;
  const waiting = state ? waitingLine(state) : shown.waiting;
  if (waiting !== shown.waiting && waiting !== "") lines.push(`${INDENT}| ${waiting}`);
  shown.waiting = waiting;
  return lines;
}
