// Turns measurements into results with verdicts, and results into a table. Gates are in targets.json: per row and baseline
// either ratioAtMost (ours / baseline) or timesFaster (baseline / ours).
import Table from "cli-table3";
import fs from "node:fs";

const targets = JSON.parse(fs.readFileSync(new URL("./targets.json", import.meta.url), "utf8"));

/** Throws if a gate names a row or a baseline that does not exist: a gate that is never looked at is none. */
export function checkTargets(rows, wanted = targets) {
  for (const [name, gates] of Object.entries(wanted)) {
    const row = rows.find((each) => each.name === name);
    for (const [baseline, gate] of Object.entries(gates)) {
      const valid = row?.baselines.includes(baseline) && (gate.ratioAtMost > 0 || gate.timesFaster > 0);
      if (!valid) throw new Error(`targets.json: no such row and baseline, or no limit: ${name}, ${baseline}`);
    }
  }
}

/** Has any baseline of the row a gate? */
export function isGated(row) {
  return row.name in targets;
}

function gateOf(row, baseline) {
  const gate = targets[row.name]?.[baseline];
  return gate ? { ...gate, limit: gate.ratioAtMost ?? 1 / gate.timesFaster } : null;
}

/** The result of a row that ran. Baselines that it promised and did not bring are missing for `reason`. */
export function rowResult(row, measured, notes, reason) {
  const [subject, ...others] = measured.variants;
  const baselines = row.baselines.map((name) => {
    const gate = gateOf(row, name);
    const found = others.find((other) => other.name === name);
    if (!found) return { name, ns: null, ratio: null, gate, met: null, missing: reason };
    return { name, ns: found.ns, ratio: found.ratio, gate, met: gate ? found.ratio.median <= gate.limit : null, missing: null };
  });
  return {
    name: row.name, about: row.about, unit: row.unit, reported: row.reported ?? false,
    subject: { name: subject.name, ns: subject.ns }, baselines, notes, error: null,
  };
}

/** The result of a row that did not run. */
export function failedRow(row, error) {
  return {
    name: row.name, about: row.about, unit: row.unit, reported: row.reported ?? false, subject: null, baselines: [], notes: [], error: error.message,
  };
}

/** What `--check` counts: gates missed, baselines and rows that did not run; in words, one each. */
export function failures(results) {
  return results.flatMap((row) => {
    if (row.error) return [`${row.name}: ${row.error}`];
    return row.baselines.flatMap(({ name, ratio, gate, met, missing }) => {
      if (missing) return [`${row.name}, ${name}: ${missing}`];
      return met === false ? [`${row.name}, ${name}: ratio ${digits(ratio.median)}, gate ${gateText(gate)}`] : [];
    });
  });
}

export const nanoseconds = (ns) => ns.toFixed(ns < 1 ? 4 : 2);
export const digits = (value) => value.toFixed(value < 0.1 ? 4 : value < 10 ? 3 : 1);

export function gateText(gate) {
  if (!gate) return "";
  return gate.timesFaster ? `<= 1/${gate.timesFaster}` : `<= ${gate.ratioAtMost}`;
}

function verdict(met) {
  if (met === null) return "";
  return met ? "met" : "MISSED";
}

/** What fits a cell; the whole reason stands below the table. */
function brief(reason) {
  return reason.length > 56 ? `${reason.slice(0, 55)}…` : reason;
}

function baselineCells({ name, ns, ratio, gate, met, missing }) {
  if (missing) return [name, { colSpan: 3, content: brief(missing) }, gateText(gate), "not run"];
  return [name, nanoseconds(ns), digits(ratio.median), `${digits(ratio.q1)} .. ${digits(ratio.q3)}`, gateText(gate), verdict(met)];
}

/** README's table: the rows that have a gate, with all baselines, and those that are only reported. */
export function markdown(results) {
  const lines = results.flatMap((row) => {
    if (row.error) return [`| \`${row.name}\` | | | not run | | |`];
    const shown = row.reported || row.baselines.some(({ gate }) => gate) ? row.baselines : [];
    const begin = `| \`${row.name}\` | ${nanoseconds(row.subject.ns)} |`;
    if (row.reported && shown.length === 0) return [`${begin} | | | |`];
    return shown.map(({ name, ratio, gate, met, missing }, n) => {
      const start = n === 0 ? begin : "| | |";
      const limit = gate ? ` ${gateText(gate)}${met === false ? ", missed" : ""}` : "";
      return `${start} ${name} | ${missing ? "not run |" : `${digits(ratio.median)} | ${digits(ratio.q1)} .. ${digits(ratio.q3)}`} |${limit} |`;
    });
  });
  return ["| row | ns | against | ours / it | quartiles | gate |", "| --- | --- | --- | --- | --- | --- |", ...lines].join("\n");
}

/** The table, without colours: it is pasted into files. */
export function table(results) {
  const head = ["row", "variant", "ns", "ours / it", "quartiles", "gate", ""];
  const grid = new Table({ head, style: { head: [], border: [] }, wordWrap: true, colAligns: ["left", "left", "right", "right", "right", "right"] });
  for (const row of results) {
    if (row.error) {
      grid.push([row.name, { colSpan: 5, content: brief(row.error) }, "not run"]);
      continue;
    }
    grid.push([{ rowSpan: row.baselines.length + 1, content: row.name }, row.subject.name, nanoseconds(row.subject.ns), "", "", "", ""]);
    for (const baseline of row.baselines) grid.push(baselineCells(baseline));
  }
  return grid.toString();
}
